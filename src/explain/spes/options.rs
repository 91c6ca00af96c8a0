//! How masks are drawn and scored, and when there are enough.

use serde::{Deserialize, Serialize};

use super::Occluded;
use crate::ops::BaselineKind;
use crate::{Error, Result};

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// After exactly this many masks.
    Masks(usize),
    /// At the first checkpoint at which the pooled map is this reliable, or
    /// after [`MOST_MASKS`](super::MOST_MASKS).
    Reliability(f64),
}

/// How masks are drawn and scored. The seed is that of the explanation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpesOptions {
    pub stop: Stop,
    /// Share of segments that a mask hides; the published one if absent.
    pub probability: Option<f64>,
    /// Nominal numbers of superpixels for 500 frames.
    pub segments: Vec<usize>,
    pub compactness: f64,
    pub sigma: f64,
    /// Where a model hears the waveform: length of the stretches that are hidden
    /// as a whole, in milliseconds.
    pub segment_ms: f64,
    /// What hidden features are replaced by.
    pub baseline: BaselineKind,
    /// Masks scored at once; chosen by memory if absent.
    pub batch: Option<usize>,
}

impl Default for SpesOptions {
    fn default() -> Self {
        Self {
            stop: Stop::Reliability(0.9),
            probability: None,
            segments: vec![2_000, 2_500, 3_000],
            compactness: 0.1,
            sigma: 0.0,
            segment_ms: 10.0,
            baseline: BaselineKind::Zero,
            batch: None,
        }
    }
}

impl SpesOptions {
    /// Most masks scored at once.
    pub const MOST_BATCH: usize = 65_536;

    /// The share of segments that a mask hides.
    pub fn probability_at(&self, occluded: Occluded) -> f64 {
        let published = occluded.default_probability();
        self.probability.unwrap_or(published)
    }

    /// Refuses options that no map can be made with.
    ///
    /// # Errors
    /// If there is such an option.
    pub(in crate::explain) fn check(&self) -> Result<()> {
        let between = |x: f64| x > 0.0 && x < 1.0;
        let wrong = |what: String| Err(Error::Input(format!("spes: {what}")));
        match self.stop {
            Stop::Masks(0) => return Err(Error::Input("a map needs at least one mask".into())),
            // Masks have numbers of 32 bits.
            Stop::Masks(count) if u32::try_from(count).is_err() => {
                return wrong(format!("{count} masks are more than {}", u32::MAX));
            }
            Stop::Reliability(wanted) if !between(wanted) => {
                return wrong(format!("a reliability of {wanted} is not between 0 and 1"));
            }
            _ => {}
        }
        match self.probability {
            Some(p) if !between(p) => {
                wrong(format!("a mask's share of {p} is not between 0 and 1"))
            }
            _ if self.segments.is_empty() => wrong("there is no number of segments".into()),
            _ if !(self.segment_ms.is_finite() && self.segment_ms > 0.0) => {
                wrong(format!("stretches of {} ms", self.segment_ms))
            }
            _ if self.batch.is_some_and(|batch| batch > Self::MOST_BATCH) => {
                wrong(format!("a batch is of {} masks at most", Self::MOST_BATCH))
            }
            _ => Ok(()),
        }
    }
}
