//! What a row of the tables measures.
//!
//! A new statistic is a variant here, with its text, and stands in
//! [`Statistic::all`]; rows of it are made in `group.rs` or `onsets.rs`, and
//! `report/study/data.rs` says where the page shows it.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use super::super::checks::Shuffled;
use super::super::faithfulness::{Curve, Measure, STEP_PERCENT, STEPS};
use super::super::onset_statistics::OnsetStatistic;
use super::super::perturbation::PERCENTS;
use super::super::statistics::Correlation;
use super::super::text::as_text;
use crate::{Error, Result};

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Statistic {
    /// Of attention with the map: -1 to 1; `corrected` for the map's
    /// reliability.
    Correlation { kind: Correlation, corrected: bool },
    /// Of the map, as it is compared: up to 1.
    Reliability,
    /// Masks behind the map.
    Masks,
    /// Correlation at the encoder's output less that at the input.
    Gap,
    /// 100 times the correlation at the encoder's output.
    Coverage,
    /// Of what the model wrote: percent, or BLEU.
    Written(Measure),
    /// Of what the model writes when so many percent of the features are
    /// deleted or inserted in the order of the map.
    Point {
        curve: Curve,
        percent: usize,
        measure: Measure,
    },
    /// The mean height of such a curve.
    Area { curve: Curve, measure: Measure },
    /// Share of features that the map holds important, over all thresholds.
    SizeArea,
    /// Nats squared, or as a share of what a map that says nothing has.
    Infidelity { share: bool },
    /// Correlation of a map's sums with falls, where so many percent are
    /// removed.
    Sensitivity { percent: usize },
    /// The mean of these over all percentages.
    SensitivityMean,
    /// Correlation of the map with that of another seed, pooled or at its own
    /// resolution.
    SeedAgreement { full_resolution: bool },
    /// Correlation of the map with that of a model with shuffled weights.
    Randomised(Shuffled),
    /// Percent of the spoken words that the model wrote.
    WordsMatched,
    /// How well the map tells when words begin.
    Onset(OnsetStatistic),
}

impl Statistic {
    /// Every statistic that a study may have.
    pub fn all() -> impl Iterator<Item = Self> {
        let correlations = Correlation::ALL
            .into_iter()
            .flat_map(|kind| [false, true].map(|corrected| Self::Correlation { kind, corrected }));
        let curves = Curve::ALL.into_iter().flat_map(|curve| {
            Measure::ALL.into_iter().flat_map(move |measure| {
                let points = (0..STEPS).map(move |step| Self::Point {
                    curve,
                    percent: step * STEP_PERCENT,
                    measure,
                });
                points.chain([Self::Area { curve, measure }])
            })
        });
        let switched = [false, true].into_iter().flat_map(|on| {
            let full_resolution = on;
            [
                Self::Infidelity { share: on },
                Self::SeedAgreement { full_resolution },
            ]
        });
        correlations
            .chain(curves)
            .chain(switched)
            .chain(Measure::ALL.map(Self::Written))
            .chain(PERCENTS.map(|percent| Self::Sensitivity { percent }))
            .chain(Shuffled::EVERY.map(Self::Randomised))
            .chain(OnsetStatistic::ALL.map(Self::Onset))
            .chain([
                Self::Reliability,
                Self::Masks,
                Self::Gap,
                Self::Coverage,
                Self::SizeArea,
                Self::SensitivityMean,
                Self::WordsMatched,
            ])
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Correlation { kind, corrected } => {
                let corrected = if *corrected { ", corrected" } else { "" };
                write!(f, "{}{corrected}", kind.name())
            }
            Self::Reliability => f.write_str("reliability"),
            Self::Masks => f.write_str("masks"),
            Self::Gap => f.write_str("gap"),
            Self::Coverage => f.write_str("coverage"),
            Self::Written(measure) => f.write_str(measure.name()),
            Self::Point {
                curve,
                percent,
                measure,
            } => write!(f, "{} {percent}%, {}", curve.name(), measure.name()),
            Self::Area { curve, measure } => {
                write!(f, "{} area, {}", curve.name(), measure.name())
            }
            Self::SizeArea => f.write_str("size area"),
            Self::Infidelity { share: false } => f.write_str("infidelity"),
            Self::Infidelity { share: true } => f.write_str("infidelity, share"),
            Self::Sensitivity { percent } => write!(f, "sensitivity-n {percent}%"),
            Self::SensitivityMean => f.write_str("sensitivity-n, mean"),
            Self::SeedAgreement { full_resolution } => {
                let at = if *full_resolution {
                    ", full resolution"
                } else {
                    ""
                };
                write!(f, "seed agreement{at}")
            }
            Self::Randomised(shuffled) => write!(f, "randomised {}", shuffled.name()),
            Self::WordsMatched => f.write_str("onset words matched"),
            Self::Onset(own) => f.write_str(own.name()),
        }
    }
}

impl FromStr for Statistic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        static ALL: LazyLock<HashMap<String, Statistic>> =
            LazyLock::new(|| Statistic::all().map(|own| (own.to_string(), own)).collect());
        let found = ALL.get(text).copied();
        found.ok_or_else(|| Error::Input(format!("{text:?} is no statistic of a study")))
    }
}

as_text!(Statistic);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_text_is_read_back_and_no_two_are_the_same() {
        let all: Vec<Statistic> = Statistic::all().collect();
        let texts: HashSet<String> = all.iter().map(Statistic::to_string).collect();
        assert_eq!(texts.len(), all.len());
        for own in all {
            assert_eq!(own.to_string().parse::<Statistic>().unwrap(), own);
        }
        for text in [
            "",
            "Pearson",
            "deletion 37%, bleu",
            "sensitivity-n 100%",
            "bleu ",
        ] {
            let message = text.parse::<Statistic>().unwrap_err().to_string();
            assert!(message.contains("no statistic"), "{message}");
        }
    }

    /// Tables of earlier versions are compared with those of later ones.
    #[test]
    fn texts_are_those_of_all_versions() {
        for text in [
            "kendall, corrected",
            "word error rate",
            "deletion area, bleu",
            "insertion 35%, word error rate",
            "size area",
            "infidelity, share",
            "sensitivity-n 20%",
            "sensitivity-n, mean",
            "seed agreement, full resolution",
            "randomised all weights",
            "onset words matched",
            "onset error, signed mean",
            "onset within 50 ms",
            "pointing game",
        ] {
            assert_eq!(text.parse::<Statistic>().unwrap().to_string(), text);
        }
    }
}
