//! From maps to the times of words: the one rule by which the program tells
//! when a word was said.

use std::borrow::Borrow;
use std::ops::Range;

use rayon::prelude::*;

use super::evidence::{Evidence, Prepared, shares_within};
use super::path::{State, best_path};
use super::trust::trusted;
use super::{AlignOptions, Rule, TokenMap, dtw};
use crate::{Error, Result};

/// What a frame gains by being silence where the sound is silent.
const SILENCE_GAIN: f64 = 0.5;
/// What it loses where the sound is loud.
const LOUD_LOSS: f64 = 1.5;
/// What a token's frame loses where the sound is silent.
const SILENT_LOSS: f64 = 2.0;
/// Silence between words lasts at least so long; what is shorter is the closure
/// of a stop.
const SHORTEST_SILENCE_SECONDS: f64 = 0.16;

/// A word and its tokens: rows of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordTokens {
    /// As it is written.
    pub text: String,
    /// Rows of the map.
    pub tokens: Range<usize>,
    /// Those of them that are said aloud: without punctuation before and
    /// behind.
    pub spoken: Range<usize>,
}

impl WordTokens {
    /// The same word where `by` tokens more are in front of it.
    pub fn shifted(self, by: usize) -> Self {
        let moved = |own: Range<usize>| own.start + by..own.end + by;
        Self {
            tokens: moved(self.tokens),
            spoken: moved(self.spoken),
            ..self
        }
    }

    /// A word all of whose tokens are said aloud.
    pub fn new(text: impl Into<String>, tokens: Range<usize>) -> Self {
        let (text, spoken) = (text.into(), tokens.clone());
        Self {
            text,
            tokens,
            spoken,
        }
    }
}

/// Where frames lie in time and in the sound.
#[derive(Clone, Copy, Debug)]
pub struct Clock<'a> {
    /// From one frame to the next; frame j begins at j times as much.
    pub frame_seconds: f64,
    /// Nothing is later.
    pub sound_seconds: f64,
    /// How probable [silence](super::silence) is, by frame; what is not there
    /// is not known.
    pub silence: &'a [f64],
}

/// When a word was said.
#[derive(Clone, Debug, PartialEq)]
pub struct WordTime {
    /// As it is written.
    pub text: String,
    /// Rows of the map.
    pub tokens: Range<usize>,
    /// From the beginning of the map.
    pub start_seconds: f64,
    /// From the beginning of the map.
    pub end_seconds: f64,
    /// How much of the word's rows lies between its start and its end, from 0
    /// to 1: every head's rows by their shares ([`TokenMap::shares`]), averaged
    /// over heads and over the word's tokens.
    pub confidence: f64,
    /// Whether the time is to be trusted: of words that are, 95% or more began
    /// within 0.2 s of the truth wherever that was measured. False if the word
    /// lasts far longer or shorter than its letters ask for, or the one that
    /// touches it from before does; if the map does not know it or has values
    /// that are not finite; if it lies in silence; or if it has no frame of its
    /// own.
    pub reliable: bool,
}

/// The frame at which each token of a prepared map begins by Whisper's rule:
/// never before that of the token before it.
pub fn token_starts(map: &TokenMap) -> Vec<usize> {
    let mut starts = Vec::with_capacity(map.tokens());
    for (token, frame) in dtw::path(map) {
        if token == starts.len() {
            starts.push(frame);
        }
    }
    starts
}

/// Times of words from one or more maps (K, T') of the same tokens and
/// frames, such as attention's heads. Maps whose tokens differ in scale, all
/// but attention, should come as [`TokenMap::shares`].
///
/// Each map is prepared by itself ([`filtered`](super::filtered)). By
/// [`Rule::Silences`], the way through their mean is looked for on which tokens
/// follow each other, each with a frame at least, and words may be parted by
/// silence: a frame of silence gains by what the clock says of it, and by the
/// rows of tokens that are not said aloud; if the clock says nothing, by these
/// alone. Several maps are then weighted by
/// how much of them lies within the words that all found, and the way is
/// looked for again. By [`Rule::Whisper`] the mean is warped
/// ([`dtw::path`]), and a word lasts until the token behind it begins.
///
/// `words` are in order and share no tokens; tokens of none, such as the end
/// of sentence, speak for the silence where they stand.
///
/// Times are finite, in order and in 0..=`sound_seconds`; words never overlap.
/// By [`Rule::Silences`] none is without length, unless there are more tokens
/// than frames or the word lies behind the sound.
///
/// # Errors
/// If the maps differ in shape or there are none, words do not fit them,
/// seconds are no positive numbers, or the filter's width is even.
pub fn word_times(
    maps: Vec<TokenMap>,
    words: &[WordTokens],
    clock: &Clock,
    options: &AlignOptions,
) -> Result<Vec<WordTime>> {
    let prepared = maps.into_par_iter().map(|map| Prepared::new(map, options));
    let prepared: Vec<Prepared> = prepared.collect::<Result<_>>()?;
    word_times_of(&prepared, words, clock, options.rule)
}

/// The same by maps that were prepared before.
///
/// # Errors
/// As for [`word_times`].
pub fn word_times_of<M: Borrow<Prepared>>(
    maps: &[M],
    words: &[WordTokens],
    clock: &Clock,
    rule: Rule,
) -> Result<Vec<WordTime>> {
    for seconds in [clock.frame_seconds, clock.sound_seconds] {
        if !(seconds > 0.0 && seconds.is_finite()) {
            return Err(Error::Input(format!(
                "{seconds} seconds are no length of time"
            )));
        }
    }
    let mut evidence = Evidence::new(maps)?;
    let (tokens, frames) = (evidence.map.tokens(), evidence.map.frames());
    check_words(words, tokens)?;
    let mut found = frames_of(words, &evidence.map, clock, rule);
    if rule == Rule::Silences && maps.len() > 1 {
        evidence.weigh(maps, words, &found);
        found = frames_of(words, &evidence.map, clock, rule);
    }
    let mut trusted = trusted(
        words,
        (&found, clock.frame_seconds),
        &evidence.map,
        clock.silence,
    );
    // More tokens than frames: nothing can be told apart.
    let said: usize = words.iter().map(|word| word.spoken.len()).sum();
    if said > frames {
        trusted.fill(false);
    }
    let seconds = |frame: usize| (frame as f64 * clock.frame_seconds).min(clock.sound_seconds);
    let found = words.iter().zip(found.iter().zip(trusted));
    let times = found.map(|(word, (own, trusted))| {
        let (start_seconds, end_seconds) = (seconds(own.start), seconds(own.end));
        let frames = own.start..own.end.min(frames);
        WordTime {
            text: word.text.clone(),
            tokens: word.tokens.clone(),
            start_seconds,
            end_seconds,
            confidence: shares_within(&evidence.shares, &word.spoken, &frames),
            reliable: trusted
                && start_seconds < end_seconds
                && word.tokens.clone().all(|token| evidence.sound[token]),
        }
    });
    Ok(times.collect())
}

/// Refuses words that are not in order, or that are not among the tokens.
fn check_words(words: &[WordTokens], tokens: usize) -> Result<()> {
    let mut free = 0;
    for word in words {
        let (own, spoken) = (&word.tokens, &word.spoken);
        if own.is_empty() || own.start < free || own.end > tokens {
            return Err(Error::Input(format!(
                "\"{}\" has tokens {own:?}, but {free}..{tokens} are left",
                word.text
            )));
        }
        if spoken.is_empty() || spoken.start < own.start || spoken.end > own.end {
            return Err(Error::Input(format!(
                "\"{}\" has tokens {own:?}, of which {spoken:?} cannot be said aloud",
                word.text
            )));
        }
        free = own.end;
    }
    Ok(())
}

/// The frames of each word.
fn frames_of(words: &[WordTokens], map: &TokenMap, clock: &Clock, rule: Rule) -> Vec<Range<usize>> {
    let frames = map.frames();
    match rule {
        Rule::Silences => between_silences(words, map, clock),
        Rule::Whisper => {
            let starts = token_starts(map);
            let end = |word: &WordTokens| starts.get(word.tokens.end).copied();
            let own = words.iter();
            own.map(|word| starts[word.tokens.start]..end(word).unwrap_or(frames))
                .collect()
        }
    }
}

/// The frames of each word where silence may lie between them.
fn between_silences(words: &[WordTokens], map: &TokenMap, clock: &Clock) -> Vec<Range<usize>> {
    let frames = map.frames();
    let rows: Vec<&[f64]> = map.rows().collect();
    // Behind the sound there is silence.
    let known = clock.silence.len();
    let silent = |j: usize| match known {
        0 => 0.0,
        _ => clock.silence.get(j).copied().unwrap_or(1.0),
    };
    let shortest = (SHORTEST_SILENCE_SECONDS / clock.frame_seconds).round() as usize;
    let silence = |unsaid: Range<usize>| {
        let gain = (0..frames).map(|j| {
            let best = unsaid.clone().map(|k| rows[k][j]).reduce(f64::max);
            match (known, best) {
                (0, best) => best.unwrap_or(-LOUD_LOSS),
                (_, best) => {
                    let p = silent(j);
                    (SILENCE_GAIN + best.unwrap_or(0.0).max(0.0)) * p - LOUD_LOSS * (1.0 - p)
                }
            }
        });
        State {
            gain: gain.collect(),
            optional: true,
            shortest: shortest.max(1),
        }
    };
    let mut states = Vec::new();
    let mut places = Vec::with_capacity(words.len());
    let mut behind = 0;
    for word in words {
        states.push(silence(behind..word.spoken.start));
        let first = states.len();
        for token in word.spoken.clone() {
            let row = rows[token].iter().enumerate();
            states.push(State {
                gain: row.map(|(j, x)| x - SILENT_LOSS * silent(j)).collect(),
                optional: false,
                shortest: 1,
            });
        }
        places.push(first..states.len());
        behind = word.spoken.end;
    }
    // A sound may end within the silence that is no longer to be heard whole.
    states.push(State {
        shortest: 1,
        ..silence(behind..map.tokens())
    });
    match best_path(&states, frames) {
        Some(spans) => places
            .into_iter()
            .map(|own| spans[own.start].start..spans[own.end - 1].end)
            .collect(),
        // More tokens than frames: nothing can be told apart.
        None => {
            let all = places.len().max(1);
            let each = (0..places.len()).map(|n| n * frames / all..(n + 1) * frames / all);
            each.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::philox::philox4x32;

    fn spans(ranges: &[[usize; 2]]) -> Vec<WordTokens> {
        let all = ranges.iter().enumerate();
        all.map(|(n, &[start, end])| WordTokens::new(format!("w{n}"), start..end))
            .collect()
    }

    fn clock(frame_seconds: f64, sound_seconds: f64) -> Clock<'static> {
        Clock {
            frame_seconds,
            sound_seconds,
            silence: &[],
        }
    }

    /// A map in which token k looks at its own frames of `bounds`, less
    /// steadily at all others.
    fn blocks(bounds: &[usize]) -> TokenMap {
        let frames = *bounds.last().unwrap();
        let tokens = bounds.len() - 1;
        let value = |k: usize, j: usize| match (bounds[k]..bounds[k + 1]).contains(&j) {
            true => 0.9,
            false => 0.1 + 0.001 * ((k * 7 + j * 3) % 5) as f64,
        };
        let places = (0..tokens).flat_map(|k| (0..frames).map(move |j| (k, j)));
        TokenMap::new(places.map(|(k, j)| value(k, j)).collect(), frames)
    }

    #[test]
    fn blocks_come_out_as_they_were_put_in() {
        // Words of one, two and one tokens and the end of sentence.
        let map = blocks(&[0, 10, 18, 30, 45, 60]);
        let words = spans(&[[0, 1], [1, 3], [3, 4]]);
        let times = word_times(
            vec![map.clone()],
            &words,
            &clock(0.04, 2.39),
            &AlignOptions::default(),
        )
        .unwrap();
        let got: Vec<(f64, f64)> = times
            .iter()
            .map(|w| (w.start_seconds, w.end_seconds))
            .collect();
        assert_eq!(got, [(0.0, 0.4), (0.4, 1.2), (1.2, 1.8)]);
        assert!(times.iter().all(|word| word.reliable));
        // The first token: ten frames of 0.9 and fifty of 0.1 to 0.104.
        let inside = times[0].confidence;
        assert!((9.0 / 14.2..9.0 / 14.0).contains(&inside), "{inside}");
        // Without a row behind it, the last word has the rest of the sound.
        let all = spans(&[[0, 1], [1, 3], [3, 4], [4, 5]]);
        let times = word_times(
            vec![map],
            &all,
            &clock(0.04, 2.39),
            &AlignOptions::default(),
        )
        .unwrap();
        assert_eq!((times[3].start_seconds, times[3].end_seconds), (1.8, 2.39));
    }

    /// Silence before, between and behind words is no word's, where the sound
    /// is silent; full stops and the end of sentence speak for it.
    #[test]
    fn words_are_parted_by_silence() {
        // Rows: a word, a word and its full stop, the end of sentence.
        let map = blocks(&[0, 20, 32, 40, 60]);
        let mut words = spans(&[[0, 1], [1, 3]]);
        words[1].spoken = 1..2;
        let quiet = |j: usize| !(8..14).contains(&j) && !(22..30).contains(&j);
        let silence: Vec<f64> = (0..60).map(|j| f64::from(u8::from(quiet(j)))).collect();
        let clock = Clock {
            silence: &silence,
            ..clock(0.04, 2.4)
        };
        let times = word_times(vec![map], &words, &clock, &AlignOptions::default()).unwrap();
        let got: Vec<[usize; 2]> = times
            .iter()
            .map(|w| [w.start_seconds, w.end_seconds].map(|s| (s / 0.04).round() as usize))
            .collect();
        assert_eq!(got, [[8, 14], [22, 30]]);
        assert!(times.iter().all(|word| word.reliable));
    }

    /// Heads that look elsewhere count little once the others have found the
    /// words.
    #[test]
    fn heads_count_by_what_they_know() {
        let right = blocks(&[0, 10, 20, 30]);
        // Two heads that look all over the sound, but for a token's start.
        let lost = TokenMap::new(vec![1.0 / 30.0; 90], 30);
        let words = spans(&[[0, 1], [1, 2], [2, 3]]);
        let times = word_times(
            vec![right, lost.clone(), lost],
            &words,
            &clock(1.0, 30.0),
            &AlignOptions::default(),
        );
        let times = times.unwrap();
        assert_eq!(times[1].start_seconds, 10.0);
        // More of the head that knows than of three alike.
        let alike = (10.0 * 0.9 / (9.0 + 20.0 * 0.102) + 2.0 / 3.0) / 3.0;
        assert!(
            times[0].confidence > alike + 0.05,
            "{}",
            times[0].confidence
        );
    }

    #[test]
    fn a_frame_that_all_tokens_look_at_moves_nothing() {
        let map = blocks(&[0, 8, 16, 24]);
        let mut data = map.values().to_vec();
        // The first frame and the last, as attention often does.
        for row in data.chunks_mut(24) {
            row[0] = 40.0;
            row[23] = 30.0;
        }
        let words = spans(&[[0, 1], [1, 2], [2, 3]]);
        let options = AlignOptions::default();
        let times = |map| word_times(vec![map], &words, &clock(1.0, 24.0), &options).unwrap();
        let starts: Vec<f64> = times(TokenMap::new(data, 24))
            .iter()
            .map(|w| w.start_seconds)
            .collect();
        assert_eq!(starts, [0.0, 8.0, 16.0]);
    }

    #[test]
    fn heads_of_any_scale_count_alike() {
        let (right, wrong) = (blocks(&[0, 10, 20]), blocks(&[0, 4, 20]));
        let loud = TokenMap::new(wrong.values().iter().map(|x| x * 1e6).collect(), 20);
        let words = spans(&[[0, 1], [1, 2]]);
        let options = AlignOptions::default();
        let times = word_times(
            vec![right.clone(), loud, right],
            &words,
            &clock(1.0, 20.0),
            &options,
        )
        .unwrap();
        assert_eq!(times[1].start_seconds, 10.0);
    }

    #[test]
    fn rows_that_say_nothing_are_unreliable() {
        let good = blocks(&[0, 10, 20, 30]);
        let words = spans(&[[0, 1], [1, 2], [2, 3]]);
        let options = AlignOptions::default();
        let marks = |maps: &[TokenMap]| -> Vec<bool> {
            let times = word_times(maps.to_vec(), &words, &clock(1.0, 30.0), &options).unwrap();
            times.iter().map(|word| word.reliable).collect()
        };
        let with = |values: &[f64]| {
            let mut data = good.values().to_vec();
            let row = data[30..60].iter_mut().zip(values.iter().cycle());
            row.for_each(|(x, value)| *x = *value);
            TokenMap::new(data, 30)
        };
        assert_eq!(marks(std::slice::from_ref(&good)), [true; 3]);
        assert_eq!(marks(&[with(&[0.25])]), [true, false, true]);
        // Where the next one begins is not known then either.
        assert_eq!(marks(&[with(&[0.25, f64::NAN])])[..2], [true, false]);
        // One dead head among others does no harm, one that overflows does.
        assert_eq!(marks(&[with(&[0.25]), good.clone()]), [true; 3]);
        let overflown = marks(&[with(&[f64::INFINITY]), good.clone()]);
        assert_eq!(overflown[..2], [true, false]);
        // One frame tells nothing, and where there are more tokens than frames
        // they cannot be told apart.
        let map = TokenMap::new(vec![1.0, 2.0, 3.0], 1);
        assert_eq!(marks(&[map]), [false; 3]);
        let map = TokenMap::new(vec![5.0, 1.0, 2.0, 4.0, 1.0, 9.0], 2);
        assert_eq!(marks(&[map]), [false; 3]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let map = blocks(&[0, 3, 6]);
        let options = AlignOptions::default();
        let message = |maps: &[&TokenMap], words: &[[usize; 2]], frame: f64, sound: f64| {
            let words = spans(words);
            let times = word_times(
                maps.iter().copied().cloned().collect(),
                &words,
                &clock(frame, sound),
                &options,
            );
            times.unwrap_err().to_string()
        };
        let one = [[0, 1]];
        assert!(message(&[], &one, 1.0, 6.0).contains("no map"));
        let other = blocks(&[0, 3, 7]);
        assert!(message(&[&map, &other], &one, 1.0, 6.0).contains("7 frames"));
        assert!(message(&[&map], &[[0, 1], [1, 3]], 1.0, 6.0).contains("1..3"));
        assert!(message(&[&map], &[[0, 2], [1, 2]], 1.0, 6.0).contains("2..2 are left"));
        assert!(message(&[&map], &[[1, 1]], 1.0, 6.0).contains("1..1"));
        assert!(message(&[&map], &one, 0.0, 6.0).contains("0 seconds"));
        assert!(message(&[&map], &one, 1.0, f64::NAN).contains("NaN seconds"));
    }

    /// Whatever a map holds: never NaN, in order, no overlap, within the
    /// sound.
    #[test]
    fn times_are_in_order_whatever_a_map_holds() {
        let mut reliable = 0;
        for round in 0..600u32 {
            let mut stream = (0..).flat_map(|b| philox4x32([b, round, 0, 0], [11, 5]));
            let mut below = |n: usize| stream.next().unwrap() as usize % n;
            let (tokens, frames, heads) = (1 + below(12), 1 + below(40), 1 + below(4));
            let kind = below(6);
            let maps: Vec<TokenMap> = (0..heads)
                .map(|_| {
                    let values = (0..tokens * frames).map(|_| {
                        let x = below(1 << 20) as f64 / f64::from(1 << 20);
                        match (kind, below(20)) {
                            (0, _) => x,
                            (1, _) => 2.0 * x - 1.0,
                            (2, _) => (x * 3.0).floor(),
                            (3, _) => 0.1,
                            (4, 0) => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][below(3)],
                            (5, _) => (x - 0.5) * f64::MAX,
                            _ => 1e-310 * x,
                        }
                    });
                    TokenMap::new(values.collect(), frames)
                })
                .collect();
            let mut ranges = Vec::new();
            let mut at = below(2);
            while at < tokens {
                let end = (at + 1 + below(3)).min(tokens);
                ranges.push([at, end]);
                at = end + below(5) / 4;
            }
            let words = spans(&ranges);
            let options = AlignOptions {
                median: 1 + 2 * below(8),
                normalise: below(4) > 0,
                rule: [Rule::Silences, Rule::Whisper][below(2)],
            };
            let (frame, sound) = (0.04, 0.04 * frames as f64 * [1.0, 0.7, 1.3][below(3)]);
            let times = word_times(maps, &words, &clock(frame, sound), &options).unwrap();
            assert_eq!(times.len(), words.len());
            let mut before = 0.0;
            for (time, word) in times.iter().zip(&words) {
                assert_eq!((&time.text, &time.tokens), (&word.text, &word.tokens));
                assert!(before <= time.start_seconds, "{round}: {times:?}");
                assert!(time.start_seconds <= time.end_seconds, "{round}: {times:?}");
                assert!(time.end_seconds <= sound, "{round}: {times:?}");
                assert!((0.0..=1.0).contains(&time.confidence), "{round}: {times:?}");
                assert!(!time.reliable || time.start_seconds < time.end_seconds);
                before = time.end_seconds;
                reliable += usize::from(time.reliable);
            }
        }
        // Some are, or the last lines above say nothing.
        assert!(reliable > 30, "{reliable}");
    }
}
