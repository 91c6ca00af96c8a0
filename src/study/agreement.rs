//! How far one map of an utterance agrees with another: pooled to the
//! encoder's frames, then correlated.

use super::statistics::{Correlation, mean};
pub use crate::align::TokenMap;
use crate::ops::pooled_frames;

/// How a map over time and frequency (K, T, F) becomes one over the
/// encoder's frames (K, T').
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Largest value of a frame's rectangle: the published default.
    #[default]
    Max,
    /// Largest value over frequency, then the mean over time.
    MaxMean,
    /// Mean of the rectangle.
    Mean,
}

impl Pooling {
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::MaxMean => "max-mean",
            Self::Mean => "mean",
        }
    }
}

/// What is brought to mean 0 and variance 1 before values are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalisation {
    /// Each token's row: the default, since tokens differ in scale. The
    /// correlation is then the mean of the tokens' own.
    #[default]
    Token,
    /// Each frame's column.
    Frame,
    /// The whole map.
    Map,
}

impl Normalisation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Frame => "frame",
            Self::Map => "map",
        }
    }
}

impl TokenMap {
    /// A map (K, T, F) pooled to `pooled` frames.
    pub fn pooled(data: &[f64], [frames, bins]: [usize; 2], pooled: usize, by: Pooling) -> Self {
        let mut values = Vec::with_capacity(data.len() / (frames * bins) * pooled);
        for token in data.chunks(frames * bins) {
            for j in 0..pooled {
                let range = pooled_frames(j, frames, pooled);
                let rows = token[range.start * bins..range.end * bins].chunks(bins);
                let (count, largest) = (rows.len() as f64, |row: &[f64]| {
                    row.iter().copied().fold(f64::NEG_INFINITY, f64::max)
                });
                values.push(match by {
                    Pooling::Max => rows.map(largest).fold(f64::NEG_INFINITY, f64::max),
                    Pooling::MaxMean => rows.map(largest).sum::<f64>() / count,
                    Pooling::Mean => rows.flatten().sum::<f64>() / (count * bins as f64),
                });
            }
        }
        Self::new(values, pooled)
    }

    /// The correlation with another map of the same shape; absent where
    /// nothing varies. Rows (or columns) that do not vary are left out.
    pub fn agreement(&self, other: &Self, kind: Correlation, by: Normalisation) -> Option<f64> {
        match by {
            Normalisation::Token => {
                let rows = self.rows().zip(other.rows());
                mean(rows.map(|(a, b)| kind.of(a, b)))
            }
            Normalisation::Frame => {
                let (own, others) = (self.columns(), other.columns());
                mean(own.iter().zip(&others).map(|(a, b)| kind.of(a, b)))
            }
            Normalisation::Map => kind.of(self.values(), other.values()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_takes_the_frames_that_an_encoder_frame_covers() {
        // Two tokens, five frames of two bins, to two frames: 0..3 and 2..5.
        let data: Vec<f64> = (0..20).map(f64::from).collect();
        let pooled = |by| TokenMap::pooled(&data, [5, 2], 2, by).values().to_vec();
        assert_eq!(pooled(Pooling::Max), [5.0, 9.0, 15.0, 19.0]);
        assert_eq!(pooled(Pooling::MaxMean), [3.0, 7.0, 13.0, 17.0]);
        assert_eq!(pooled(Pooling::Mean), [2.5, 6.5, 12.5, 16.5]);
    }

    #[test]
    fn tokens_that_differ_in_scale_do_not_count_for_agreement() {
        let shape = [1.0, 2.0, 4.0, 3.0];
        let row = |scale: f64, offset: f64| shape.map(|x| scale * x + offset);
        let a = TokenMap::new([row(1.0, 0.0), row(100.0, 50.0)].concat(), 4);
        let b = TokenMap::new([row(30.0, 2.0), row(0.1, 0.0)].concat(), 4);
        let rho = |by| a.agreement(&b, Correlation::Pearson, by).unwrap();
        assert!((rho(Normalisation::Token) - 1.0).abs() <= 1e-12);
        assert!(rho(Normalisation::Map) < 0.0);
        // Scaling any token changes the whole map's value, never the token's.
        assert!((rho(Normalisation::Frame) + 1.0).abs() <= 1e-12);
    }

    #[test]
    fn constant_rows_are_left_out_and_constant_maps_undefined() {
        let a = TokenMap::new(vec![1.0, 2.0, 3.0, 5.0, 5.0, 5.0], 3);
        let b = TokenMap::new(vec![3.0, 2.0, 1.0, 1.0, 2.0, 9.0], 3);
        let by = Normalisation::Token;
        for kind in Correlation::ALL {
            assert!((a.agreement(&b, kind, by).unwrap() + 1.0).abs() <= 1e-12);
            let flat = TokenMap::new(vec![2.0; 6], 3);
            for by in [
                Normalisation::Token,
                Normalisation::Frame,
                Normalisation::Map,
            ] {
                assert_eq!(flat.agreement(&b, kind, by), None);
            }
        }
    }
}
