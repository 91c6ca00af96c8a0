//! From prepared maps to the times of words.

use std::borrow::Borrow;
use std::ops::Range;

use super::filter::is_finite;
use super::{AlignOptions, TokenMap, dtw, filtered};
use crate::{Error, Result};

/// A word and its tokens: rows of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordTokens {
    /// As it is written.
    pub text: String,
    /// Rows of the map.
    pub tokens: Range<usize>,
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
    /// False if a row of the word has values that are not finite, or is
    /// constant before or after it was prepared, so that nothing speaks for
    /// the place; or if the word has no frame of its own.
    pub reliable: bool,
}

/// The frame at which each token of a prepared map begins: never before that
/// of the token before it.
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
/// frames, such as attention's heads. Each is prepared by itself
/// ([`filtered`]), their mean is warped ([`dtw::path`]), and a word lasts
/// from the start of its first token to that of the token behind it, or to
/// the last frame's end. Maps whose tokens differ in scale, all but attention,
/// should come as [`TokenMap::shares`].
///
/// `words` are in order and share no tokens; tokens of none, such as the end
/// of sentence, take part in the warping, where the last one holds the silence
/// behind the last word. Encoder frame j begins at j · `frame_seconds`, but
/// nothing is later than `sound_seconds`.
///
/// Times are finite, in order and in 0..=`sound_seconds`; words never overlap.
///
/// # Errors
/// If the maps differ in shape or there are none, words do not fit them,
/// seconds are no positive numbers, or the filter's width is even.
pub fn word_times<M: Borrow<TokenMap>>(
    maps: impl IntoIterator<Item = M>,
    words: &[WordTokens],
    frame_seconds: f64,
    sound_seconds: f64,
    options: &AlignOptions,
) -> Result<Vec<WordTime>> {
    for seconds in [frame_seconds, sound_seconds] {
        if !(seconds > 0.0 && seconds.is_finite()) {
            return Err(Error::Input(format!(
                "{seconds} seconds are no length of time"
            )));
        }
    }
    let evidence = Evidence::new(maps, options)?;
    let (tokens, frames) = (evidence.map.tokens(), evidence.map.frames());
    let mut free = 0;
    for WordTokens { text, tokens: own } in words {
        if own.is_empty() || own.start < free || own.end > tokens {
            return Err(Error::Input(format!(
                "\"{text}\" has tokens {own:?}, but {free}..{tokens} are left"
            )));
        }
        free = own.end;
    }
    let starts = token_starts(&evidence.map);
    let seconds = |frame: usize| (frame as f64 * frame_seconds).min(sound_seconds);
    let times = words.iter().map(|WordTokens { text, tokens }| {
        let start = starts[tokens.start];
        let end = starts.get(tokens.end).copied().unwrap_or(frames);
        let (start_seconds, end_seconds) = (seconds(start), seconds(end));
        WordTime {
            text: text.clone(),
            tokens: tokens.clone(),
            start_seconds,
            end_seconds,
            confidence: evidence.share(tokens, start..end),
            reliable: start_seconds < end_seconds
                && tokens.clone().all(|token| evidence.sound[token]),
        }
    });
    Ok(times.collect())
}

/// What all maps together say.
struct Evidence {
    /// The mean of the prepared maps.
    map: TokenMap,
    /// The mean of the maps with rows that sum to 1, or less where some have
    /// none.
    shares: TokenMap,
    /// By token: whether its row says something.
    sound: Vec<bool>,
}

impl Evidence {
    fn new<M: Borrow<TokenMap>>(
        maps: impl IntoIterator<Item = M>,
        options: &AlignOptions,
    ) -> Result<Self> {
        let mut maps = maps.into_iter().peekable();
        let first = maps.peek().map(Borrow::borrow);
        let first = first.ok_or_else(|| Error::Input("there is no map to align".into()))?;
        let (tokens, frames) = (first.tokens(), first.frames());
        let mut sum = vec![0.0; tokens * frames];
        let mut shares = sum.clone();
        let (mut finite, mut varies) = (vec![true; tokens], vec![false; tokens]);
        let mut count = 0.0;
        for map in maps {
            let map = map.borrow();
            if (map.tokens(), map.frames()) != (tokens, frames) {
                return Err(Error::Input(format!(
                    "maps of {} tokens and {} frames, and of {tokens} and {frames}",
                    map.tokens(),
                    map.frames()
                )));
            }
            count += 1.0;
            for (sum, x) in sum.iter_mut().zip(filtered(map, options)?.values()) {
                *sum += x;
            }
            let own = map.shares();
            for (k, (row, own)) in map.rows().zip(own.rows()).enumerate() {
                if !is_finite(row) {
                    finite[k] = false;
                    continue;
                }
                varies[k] |= !is_constant(row);
                for (share, x) in shares[k * frames..].iter_mut().zip(own) {
                    *share += x;
                }
            }
        }
        sum.iter_mut().chain(&mut shares).for_each(|x| *x /= count);
        let map = TokenMap::new(sum, frames);
        let sound = map.rows().zip(finite.iter().zip(varies));
        let sound = sound.map(|(row, (&finite, varies))| finite && varies && !is_constant(row));
        Ok(Self {
            sound: sound.collect(),
            shares: TokenMap::new(shares, frames),
            map,
        })
    }

    /// The mean over some tokens of what lies within some frames.
    fn share(&self, tokens: &Range<usize>, frames: Range<usize>) -> f64 {
        let rows = self.shares.rows().skip(tokens.start).take(tokens.len());
        let inside = rows.map(|row| row[frames.clone()].iter().sum::<f64>());
        (inside.sum::<f64>() / tokens.len() as f64).clamp(0.0, 1.0)
    }
}

fn is_constant(row: &[f64]) -> bool {
    row.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::philox::philox4x32;

    fn spans(ranges: &[[usize; 2]]) -> Vec<WordTokens> {
        let all = ranges.iter().enumerate();
        all.map(|(n, &[start, end])| WordTokens {
            text: format!("w{n}"),
            tokens: start..end,
        })
        .collect()
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
        let times = word_times([&map], &words, 0.04, 2.39, &AlignOptions::default()).unwrap();
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
        let times = word_times([map], &all, 0.04, 2.39, &AlignOptions::default()).unwrap();
        assert_eq!((times[3].start_seconds, times[3].end_seconds), (1.8, 2.39));
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
        let times = |map| word_times([map], &words, 1.0, 24.0, &options).unwrap();
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
        let times = word_times([&right, &loud, &right], &words, 1.0, 20.0, &options).unwrap();
        assert_eq!(times[1].start_seconds, 10.0);
    }

    #[test]
    fn rows_that_say_nothing_are_unreliable() {
        let good = blocks(&[0, 10, 20, 30]);
        let words = spans(&[[0, 1], [1, 2], [2, 3]]);
        let options = AlignOptions::default();
        let marks = |maps: &[TokenMap]| -> Vec<bool> {
            let times = word_times(maps, &words, 1.0, 30.0, &options).unwrap();
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
        assert_eq!(marks(&[with(&[0.25, f64::NAN])]), [true, false, true]);
        // One dead head among others does no harm, one that overflows does.
        assert_eq!(marks(&[with(&[0.25]), good.clone()]), [true; 3]);
        assert_eq!(
            marks(&[with(&[f64::INFINITY]), good.clone()]),
            [true, false, true]
        );
        // One frame tells nothing, and more tokens than frames have not a
        // frame each.
        let map = TokenMap::new(vec![1.0, 2.0, 3.0], 1);
        assert_eq!(marks(&[map]), [false; 3]);
        let map = TokenMap::new(vec![5.0, 1.0, 2.0, 4.0, 1.0, 9.0], 2);
        assert_eq!(marks(&[map]).iter().filter(|mark| **mark).count(), 2);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let map = blocks(&[0, 3, 6]);
        let options = AlignOptions::default();
        let message = |maps: &[&TokenMap], words: &[[usize; 2]], frame: f64, sound: f64| {
            let words = spans(words);
            let times = word_times(maps.iter().copied(), &words, frame, sound, &options);
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
            };
            let (frame, sound) = (0.04, 0.04 * frames as f64 * [1.0, 0.7, 1.3][below(3)]);
            let times = word_times(&maps, &words, frame, sound, &options).unwrap();
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
        assert!(reliable > 100, "{reliable}");
    }
}
