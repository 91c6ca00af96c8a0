//! What is done to a map before its path is looked for: every frame is
//! brought to mean 0 and variance 1 over the tokens, so that frames all
//! tokens look at count for none of them, and every row is smoothed.

use serde::{Deserialize, Serialize};

use super::TokenMap;
use crate::{Error, Result};

/// How words are found in maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlignOptions {
    /// Frames of the median filter, odd; 1 leaves the map as it is.
    pub median: usize,
    /// Whether frames are normalised over the tokens.
    pub normalise: bool,
    /// How the way through the maps is looked for.
    pub rule: Rule,
}

/// How the way through the maps is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Rule {
    /// Words may be parted by silence, which the sound's level tells; heads
    /// count by how well they know the words that all of them find.
    #[default]
    Silences,
    /// Dynamic time warping as OpenAI's Whisper and transformers do it: every
    /// frame belongs to a token, and the level of the sound says nothing.
    Whisper,
}

impl Rule {
    /// The name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silences => "silences",
            Self::Whisper => "whisper",
        }
    }
}

/// Deviations from a frame's mean above which a value says no more: where one
/// token alone looks at a frame, as the first one does at the silence before
/// it, nothing else would be heard.
const LIMIT: f64 = 2.0;

impl Default for AlignOptions {
    fn default() -> Self {
        Self {
            median: 7,
            normalise: true,
            rule: Rule::default(),
        }
    }
}

impl AlignOptions {
    pub(super) fn check(&self) -> Result<()> {
        if self.median.is_multiple_of(2) {
            let problem = format!(
                "a median filter is an odd number of frames, not {}",
                self.median
            );
            return Err(Error::Input(problem));
        }
        Ok(())
    }
}

/// A map made ready, of finite values whatever it held: rows with values that
/// are not finite take no part and become 0, as do frames at which all tokens
/// are equal.
///
/// # Errors
/// If the filter's width is even.
pub fn filtered(map: &TokenMap, options: &AlignOptions) -> Result<TokenMap> {
    options.check()?;
    let frames = map.frames();
    let finite: Vec<bool> = map.rows().map(is_finite).collect();
    let mut data = map.values().to_vec();
    for (row, _) in data
        .chunks_mut(frames)
        .zip(&finite)
        .filter(|(_, finite)| !**finite)
    {
        row.fill(0.0);
    }
    if options.normalise {
        normalise(&mut data, frames, &finite);
        if options.rule == Rule::Silences {
            data.iter_mut().for_each(|x| *x = x.min(LIMIT));
        }
    }
    if options.median > 1 {
        let rows = data.chunks(frames);
        data = rows.flat_map(|row| median(row, options.median)).collect();
    }
    Ok(TokenMap::new(data, frames))
}

pub(super) fn is_finite(row: &[f64]) -> bool {
    row.iter().all(|x| x.is_finite())
}

/// Brings every frame to mean 0 and variance 1 over the rows that count.
fn normalise(data: &mut [f64], frames: usize, counts: &[bool]) {
    for j in 0..frames {
        let rows = (0..counts.len()).filter(|&k| counts[k]);
        let places: Vec<usize> = rows.map(|k| k * frames + j).collect();
        let count = places.len() as f64;
        let mean = places.iter().map(|&at| data[at]).sum::<f64>() / count;
        let squares = places.iter().map(|&at| (data[at] - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        // Rounding gives equal values a mean and a deviation of their own.
        let equal = places.windows(2).all(|pair| data[pair[0]] == data[pair[1]]);
        let defined = !equal && deviation > 0.0 && deviation.is_finite();
        for at in places {
            data[at] = match defined {
                true => (data[at] - mean) / deviation,
                false => 0.0,
            };
        }
    }
}

/// The median of an odd number of values around each, mirrored at the ends
/// without repeating them. A row that is too short to be mirrored stays as it
/// is, as in transformers.
fn median(row: &[f64], width: usize) -> Vec<f64> {
    let side = width / 2;
    if row.len() <= side {
        return row.to_vec();
    }
    let mut window = vec![0.0; width];
    let last = row.len() - 1;
    (0..row.len())
        .map(|t| {
            for (n, slot) in window.iter_mut().enumerate() {
                let place = (t + n).abs_diff(side);
                *slot = row[last - last.abs_diff(place)];
            }
            *window.select_nth_unstable_by(side, f64::total_cmp).1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_mean_0_and_variance_1_or_are_0() {
        // Three tokens; the middle frame is constant, to the last bit only.
        let map = TokenMap::new(vec![1.0, 0.1, 5.0, 2.0, 0.1, 5.0, 6.0, 0.1, -1.0], 3);
        let options = AlignOptions {
            median: 1,
            normalise: true,
            rule: Rule::Whisper,
        };
        let done = filtered(&map, &options).unwrap();
        let columns = done.columns();
        for j in [0, 2] {
            let mean: f64 = columns[j].iter().sum::<f64>() / 3.0;
            let variance: f64 = columns[j].iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3.0;
            assert!(mean.abs() <= 1e-15 && (variance - 1.0).abs() <= 1e-14);
        }
        assert_eq!(columns[1], [0.0; 3]);
    }

    #[test]
    fn what_is_not_finite_takes_no_part() {
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let good = [1.0, 3.0, 9.0, 2.0, 2.0, 4.0];
        let options = AlignOptions {
            median: 3,
            normalise: true,
            rule: Rule::Whisper,
        };
        let with = filtered(&TokenMap::new([&good[..], &bad].concat(), 3), &options).unwrap();
        let without = filtered(&TokenMap::new(good.to_vec(), 3), &options).unwrap();
        assert_eq!(with.values()[..6], *without.values());
        assert_eq!(with.values()[6..], [0.0; 3]);
        // Finite values whose squares are not.
        let huge = TokenMap::new(vec![f64::MAX, -f64::MAX, 1e-300, 0.0], 2);
        let done = filtered(&huge, &options).unwrap();
        assert!(done.values().iter().all(|x| x.is_finite()), "{done:?}");
    }

    #[test]
    fn medians_mirror_the_ends() {
        let row = [9.0, 1.0, 5.0, 2.0];
        // 5 1 9 1 5, 1 9 1 5 2, 9 1 5 2 5, 1 5 2 5 1
        assert_eq!(median(&row, 5), [5.0, 2.0, 5.0, 2.0]);
        assert_eq!(median(&row, 3), [1.0, 5.0, 2.0, 5.0]);
        // Three on either side can be mirrored in four, four cannot.
        assert_eq!(median(&row, 7), [2.0, 5.0, 2.0, 5.0]);
        assert_eq!(median(&row, 9), row);
        assert_eq!(median(&row, 1), row);
        assert_eq!(median(&[4.0], 7), [4.0]);
    }

    #[test]
    fn even_widths_are_refused() {
        for median in [0, 2, 8] {
            let options = AlignOptions {
                median,
                normalise: false,
                rule: Rule::Whisper,
            };
            let error = filtered(&TokenMap::new(vec![1.0], 1), &options).unwrap_err();
            assert!(error.to_string().contains("odd"));
        }
    }
}
