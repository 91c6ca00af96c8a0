//! What the errors of word starts come to over some utterances.

use serde::{Serialize, Serializer};

use super::onsets::Scored;
use super::statistics::mean;
use crate::explain::spes::median;

/// A statistic of the scores of some utterances: seconds or percent. Those of
/// no words at all are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OnsetStatistic {
    /// Mean size of the errors, in seconds.
    MeanError,
    /// Median size of the errors, in seconds.
    MedianError,
    /// Mean error in seconds; above 0 where words begin later than they should.
    SignedMeanError,
    /// Percent of the words whose error is at most 50 ms.
    Within50,
    Within100,
    Within200,
    /// Percent of the words at which the map points.
    PointingGame,
}

impl OnsetStatistic {
    /// In the order of the tables.
    pub const ALL: [Self; 7] = [
        Self::MeanError,
        Self::MedianError,
        Self::SignedMeanError,
        Self::Within50,
        Self::Within100,
        Self::Within200,
        Self::PointingGame,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::MeanError => "onset error, mean",
            Self::MedianError => "onset error, median",
            Self::SignedMeanError => "onset error, signed mean",
            Self::Within50 => "onset within 50 ms",
            Self::Within100 => "onset within 100 ms",
            Self::Within200 => "onset within 200 ms",
            Self::PointingGame => "pointing game",
        }
    }

    /// Its value over all words of some utterances.
    pub fn of(self, all: &[&Scored]) -> f64 {
        match self {
            Self::MeanError => mean_error(all).unwrap_or(0.0),
            Self::MedianError => {
                let middle = median(errors(all).map(|ms| Some(f64::from(ms))));
                middle.unwrap_or(0.0) / 1e3
            }
            Self::SignedMeanError => {
                let signed = all.iter().flat_map(|own| &own.errors_ms);
                let signed = mean(signed.map(|&ms| Some(f64::from(ms))));
                signed.unwrap_or(0.0) / 1e3
            }
            Self::Within50 => within(all, 50),
            Self::Within100 => within(all, 100),
            Self::Within200 => within(all, 200),
            Self::PointingGame => {
                percent(all.iter().map(|own| own.hits).sum(), errors(all).count())
            }
        }
    }
}

impl Serialize for OnsetStatistic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The mean size of all words' errors in seconds; absent without words.
pub fn mean_error(all: &[&Scored]) -> Option<f64> {
    let milliseconds = mean(errors(all).map(|ms| Some(f64::from(ms))));
    milliseconds.map(|ms| ms / 1e3)
}

/// Errors of all words without their signs, in milliseconds.
fn errors<'a>(all: &'a [&'a Scored]) -> impl Iterator<Item = u32> + 'a {
    let errors = all.iter().flat_map(|own| &own.errors_ms);
    errors.map(|ms| ms.unsigned_abs())
}

/// Percent of the words whose error is at most so many milliseconds.
fn within(all: &[&Scored], near: u32) -> f64 {
    let found = errors(all).filter(|&ms| ms <= near).count();
    percent(found, errors(all).count())
}

/// 0 of nothing.
pub fn percent(part: usize, whole: usize) -> f64 {
    match whole {
        0 => 0.0,
        whole => 100.0 * part as f64 / whole as f64,
    }
}
