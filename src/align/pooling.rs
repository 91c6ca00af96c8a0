//! From maps over time and frequency to maps over encoder frames.

use serde::{Deserialize, Serialize};

use super::TokenMap;
use crate::ops::pooled_frames;

/// How a map over time and frequency (K, T, F) becomes one over the
/// encoder's frames (K, T').
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
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
    /// The name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::MaxMean => "max-mean",
            Self::Mean => "mean",
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
}
