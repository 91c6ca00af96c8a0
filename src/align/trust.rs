//! Which words' times are to be trusted. What tells, measured on true onsets
//! of human and of synthesised speech (`docs/align.md`): a word that lasts far
//! longer or shorter than its letters ask for has taken frames of its
//! neighbour or lost them.

use std::ops::Range;

use super::{TokenMap, WordTokens};

/// A word is at most so many times slower or faster than the others.
const PACE: f64 = 2.5;
/// A word that touches it from before, the same; its end is this one's start.
const PACE_BEFORE: f64 = 2.0;
/// Nobody says more letters than one in so many seconds; a model that writes
/// the same word over and over does.
const FASTEST: f64 = 0.008;
/// What its frames have of the prepared map, at least, on average.
const EVIDENCE: f64 = 0.6;
/// How probable silence is in its frames, at most, on average.
const SILENCE: f64 = 0.5;

/// For each word, whether its `frames` of so many seconds each are to be
/// trusted; `silence` is by frame, as far as it is known.
pub(super) fn trusted(
    words: &[WordTokens],
    (frames, frame_seconds): (&[Range<usize>], f64),
    map: &TokenMap,
    silence: &[f64],
) -> Vec<bool> {
    let paces: Vec<f64> = words.iter().zip(frames).map(pace).collect();
    let mut sorted = paces.clone();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(1.0);
    let within = |n: usize, factor: f64| {
        let ratio = paces[n] / usual;
        (1.0 / factor..=factor).contains(&ratio)
    };
    let touched = |n: usize| n > 0 && frames[n - 1].end == frames[n].start;
    let mean = |values: &[f64], own: &Range<usize>| {
        let own = values.get(own.start..own.end.min(values.len()));
        let own = own.filter(|own| !own.is_empty());
        own.map(|own| own.iter().sum::<f64>() / own.len() as f64)
    };
    let heard = |n: usize| {
        let rows = map.rows().skip(words[n].spoken.start);
        let rows = rows.take(words[n].spoken.len());
        let each = rows.filter_map(|row| mean(row, &frames[n])).sum::<f64>();
        each / words[n].spoken.len() as f64 >= EVIDENCE
    };
    let loud = |n: usize| mean(silence, &frames[n]).is_none_or(|own| own <= SILENCE);
    (0..words.len())
        .map(|n| {
            !frames[n].is_empty()
                && paces[n] * frame_seconds >= FASTEST
                && within(n, PACE)
                && (!touched(n) || within(n - 1, PACE_BEFORE))
                && heard(n)
                && loud(n)
        })
        .collect()
}

/// Frames for each letter; short words are longer than their letters ask for.
fn pace((word, frames): (&WordTokens, &Range<usize>)) -> f64 {
    let letters = word.text.chars().filter(|c| c.is_alphanumeric()).count();
    frames.len() as f64 / (letters as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of one token and three letters each, on the frames that are
    /// theirs.
    fn trust(frames: &[Range<usize>], silence: &[f64]) -> Vec<bool> {
        let words = (0..frames.len()).map(|n| WordTokens::new("abc", n..n + 1));
        let words: Vec<WordTokens> = words.collect();
        let last = frames.last().map_or(1, |own| own.end);
        let rows = frames.iter().flat_map(|own| {
            let own = own.clone();
            (0..last).map(move |j| if own.contains(&j) { 1.0 } else { -1.0 })
        });
        let map = TokenMap::new(rows.collect(), last);
        trusted(&words, (frames, 0.02), &map, silence)
    }

    #[test]
    fn words_of_one_pace_are_trusted() {
        assert_eq!(trust(&[0..10, 10..22, 22..30, 32..40], &[]), [true; 4]);
    }

    #[test]
    fn a_word_that_lasts_too_long_or_not_long_enough_is_not() {
        // The one behind it neither, where they touch.
        let found = trust(&[0..10, 10..20, 20..60, 60..70, 70..80], &[]);
        assert_eq!(found, [true, true, false, false, true]);
        let found = trust(&[0..10, 10..20, 20..22, 25..35, 35..45], &[]);
        assert_eq!(found, [true, true, false, true, true]);
    }

    /// A loop: all words are equally short.
    #[test]
    fn words_that_nobody_can_say_so_fast_are_not() {
        assert_eq!(trust(&[0..2, 2..4, 4..6], &[]), [true; 3]);
        assert_eq!(trust(&[0..1, 1..2, 2..3], &[]), [false; 3]);
    }

    #[test]
    fn a_word_in_silence_is_not() {
        let silence = [vec![1.0; 10], vec![0.0; 10]].concat();
        assert_eq!(trust(&[0..10, 10..20], &silence), [false, true]);
    }

    #[test]
    fn a_word_without_frames_is_not() {
        assert_eq!(trust(&[0..10, 10..10, 10..20], &[]), [true, false, false]);
    }

    #[test]
    fn a_word_that_the_map_does_not_know_is_not() {
        let words = [WordTokens::new("abc", 0..1), WordTokens::new("abc", 1..2)];
        let map = TokenMap::new(vec![1.0, 1.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1], 4);
        let found = trusted(&words, (&[0..2, 2..4], 0.02), &map, &[]);
        assert_eq!(found, [true, false]);
    }
}
