//! Whether a map names what the model needs: features are deleted, or
//! inserted, in the order of the map, and the model writes again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error_rate::{BleuCounts, WordErrors};
use super::map_name::MapName;
use super::record::Comparison;
use super::spread_maps::spread_maps;
use super::statistics::MOST_COUNT;
use super::watch::Rewritten;
use crate::engine::executor::Executor;
use crate::explain::Maps;
use crate::features::Features;
use crate::generate::{GenerationOptions, generate};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Percent of the features from one step to the next.
pub const STEP_PERCENT: usize = 5;

/// Steps of a curve, 0 and 100 percent included.
pub const STEPS: usize = 100 / STEP_PERCENT + 1;

/// What is done to the features, in the order of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Curve {
    Deletion,
    Insertion,
}

impl Curve {
    pub const ALL: [Self; 2] = [Self::Deletion, Self::Insertion];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deletion => "deletion",
            Self::Insertion => "insertion",
        }
    }
}

/// How what was written is measured, over a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Measure {
    /// Errors per word of the reference, in percent; 0 without words.
    WordErrorRate,
    /// From 0 to 100.
    Bleu,
}

impl Measure {
    pub const ALL: [Self; 2] = [Self::WordErrorRate, Self::Bleu];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::WordErrorRate => "word error rate",
            Self::Bleu => "bleu",
        }
    }

    /// Its value over all that was written.
    pub fn of(self, written: impl Iterator<Item = Written>) -> f64 {
        match self {
            Self::WordErrorRate => {
                let mut all = WordErrors::default();
                written.for_each(|own| all += own.words);
                all.rate().unwrap_or(0.0)
            }
            Self::Bleu => {
                let mut all = BleuCounts::default();
                written.for_each(|own| all += own.bleu);
                all.score()
            }
        }
    }
}

/// What one utterance adds to the curves of one map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// By percent of features deleted, the most important first.
    pub deletion: [Written; STEPS],
    /// By percent of features inserted into nothing, the most important
    /// first.
    pub insertion: [Written; STEPS],
    /// By threshold 0, .05, ..., 1: share of features at or above it.
    pub size: [f64; STEPS],
}

impl Curves {
    /// What was written, step by step.
    pub fn of(&self, curve: Curve) -> &[Written; STEPS] {
        match curve {
            Curve::Deletion => &self.deletion,
            Curve::Insertion => &self.insertion,
        }
    }
}

/// Counts of what was written at one step. Logs hold hundreds of them for each
/// utterance, as lists without names: errors, words; matches, totals,
/// hypothesis, reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "WrittenList", from = "WrittenList")]
pub struct Written {
    pub words: WordErrors,
    pub bleu: BleuCounts,
}

impl Written {
    /// Whether some text can have these counts.
    pub(super) fn is_possible(&self) -> bool {
        let Self { words, bleu } = self;
        let mut orders = bleu.matches.iter().zip(&bleu.totals);
        let whole = [words.errors, words.words, bleu.hypothesis, bleu.reference];
        orders.all(|(matches, total)| matches <= total && *total <= bleu.hypothesis)
            && whole.iter().all(|&count| count <= MOST_COUNT)
    }
}

type WrittenList = (u64, u64, [u64; 4], [u64; 4], u64, u64);

impl From<Written> for WrittenList {
    fn from(Written { words, bleu }: Written) -> Self {
        let BleuCounts {
            matches,
            totals,
            hypothesis,
            reference,
        } = bleu;
        (
            words.errors,
            words.words,
            matches,
            totals,
            hypothesis,
            reference,
        )
    }
}

impl From<WrittenList> for Written {
    fn from((errors, words, matches, totals, hypothesis, reference): WrittenList) -> Self {
        Self {
            words: WordErrors { errors, words },
            bleu: BleuCounts {
                matches,
                totals,
                hypothesis,
                reference,
            },
        }
    }
}

/// Importance of every feature, from 0 to 1: (T, F)
struct Importance(Vec<f64>);

impl Importance {
    /// From a map over tokens: each token's row is brought to mean 0 and
    /// variance 1 (n - 1) and then to 0..1, and the rows are averaged.
    fn new(tokens: impl Iterator<Item = Vec<f64>>) -> Option<Self> {
        let (mut sum, mut count): (Vec<f64>, usize) = (Vec::new(), 0);
        for row in tokens {
            // 0..1 of the normalised row is 0..1 of the row itself.
            let (least, most) = bounds(&row);
            sum.resize(row.len(), 0.0);
            if most > least {
                for (sum, x) in sum.iter_mut().zip(&row) {
                    *sum += (x - least) / (most - least);
                }
            }
            count += 1;
        }
        (count > 0).then(|| Self(sum.iter().map(|x| x / count as f64).collect()))
    }

    /// Features, the most important first; the earlier one among equals.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        order.sort_by(|&a, &b| self.0[b].total_cmp(&self.0[a]).then(a.cmp(&b)));
        order
    }

    fn size(&self) -> [f64; STEPS] {
        let (least, most) = bounds(&self.0);
        let scale = if most > least { most - least } else { 1.0 };
        let count = self.0.len() as f64;
        std::array::from_fn(|step| {
            let threshold = step as f64 / (STEPS - 1) as f64;
            let above = self.0.iter().filter(|x| (*x - least) / scale >= threshold);
            above.count() as f64 / count
        })
    }
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (
        least,
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    )
}

/// What the curves are measured with.
pub struct Rewriting<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    pub features: &'a Features,
    pub options: &'a GenerationOptions,
    /// What should be written.
    pub reference: &'a str,
    /// What is written without deletions.
    pub clean: &'a str,
    pub seed: u64,
}

impl Rewriting<'_> {
    fn count(&self, hypothesis: &str) -> Written {
        Written {
            words: WordErrors::of(self.reference, hypothesis),
            bleu: BleuCounts::of(self.reference, hypothesis),
        }
    }

    /// What is written when only some features are left, the others 0.
    fn written(&self, executor: &mut dyn Executor, left: &[bool]) -> Result<Written> {
        let mut features = self.features.clone();
        for (value, _) in features
            .data
            .iter_mut()
            .zip(left)
            .filter(|(_, left)| !**left)
        {
            *value = 0.0;
        }
        let generated = generate(executor, self.model, &features, self.options)?;
        Ok(self.count(self.tokenizer.decode(&generated.tokens).trim()))
    }

    /// The curves of every map. `progress` is told of every text written; if
    /// it returns false, the curves that are whole by then are all.
    ///
    /// # Errors
    /// If the device fails.
    pub fn curves(
        &self,
        executor: &mut dyn Executor,
        explained: &Maps,
        by: &Comparison,
        progress: &mut dyn FnMut(Rewritten) -> bool,
    ) -> Result<BTreeMap<MapName, Curves>> {
        let count = self.features.sound_frames * self.features.bins;
        // At both ends all maps are the same.
        let clean = self.count(self.clean);
        let nothing = self.written(executor, &vec![false; count])?;
        let maps = spread_maps(explained, by, self.seed)?;
        let mut state = Rewritten {
            done: 0,
            all: maps.len() * Curve::ALL.len() * (STEPS - 2),
        };
        let mut all = BTreeMap::new();
        for (name, rows) in maps {
            let importance = Importance::new(rows.into_iter());
            let importance =
                importance.ok_or_else(|| Error::Input("the model wrote no words".into()))?;
            let order = importance.order();
            let mut curve = |curve: Curve| -> Result<Option<[Written; STEPS]>> {
                let deletes = curve == Curve::Deletion;
                let [begin, end] = match deletes {
                    true => [clean, nothing],
                    false => [nothing, clean],
                };
                let mut written = [end; STEPS];
                written[0] = begin;
                let between = written.iter_mut().enumerate().take(STEPS - 1).skip(1);
                for (step, written) in between {
                    let chosen = (count * step * STEP_PERCENT + 50) / 100;
                    let mut left = vec![deletes; count];
                    for &feature in &order[..chosen] {
                        left[feature] = !deletes;
                    }
                    *written = self.written(executor, &left)?;
                    state.done += 1;
                    if !progress(state) {
                        return Ok(None);
                    }
                }
                Ok(Some(written))
            };
            let Some(deletion) = curve(Curve::Deletion)? else {
                break;
            };
            let Some(insertion) = curve(Curve::Insertion)? else {
                break;
            };
            let curves = Curves {
                deletion,
                insertion,
                size: importance.size(),
            };
            all.insert(name, curves);
        }
        Ok(all)
    }
}

/// Area under a curve over 0 to 100 percent, by the trapezoid rule, divided
/// by 100: the mean height.
pub fn area(curve: &[f64]) -> f64 {
    let pairs = curve.windows(2);
    let sum: f64 = pairs.map(|pair| 0.5 * (pair[0] + pair[1])).sum();
    sum / (curve.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importance_ranks_and_sizes() {
        let rows = [vec![1.0, 2.0, 3.0, 5.0], vec![100.0, 300.0, 100.0, 100.0]];
        let importance = Importance::new(rows.into_iter()).unwrap();
        assert_eq!(importance.0, [0.0, 0.625, 0.25, 0.5]);
        assert_eq!(importance.order(), [1, 3, 2, 0]);
        let size = importance.size();
        assert_eq!((size[0], size[20]), (1.0, 0.25));
        assert!(size.windows(2).all(|pair| pair[0] >= pair[1]));
        // A row that is constant says nothing and does no harm.
        let flat = Importance::new([vec![2.0; 4]].into_iter()).unwrap();
        assert_eq!(flat.order(), [0, 1, 2, 3]);
        assert!(Importance::new(std::iter::empty()).is_none());
    }

    #[test]
    fn curves_of_another_length_are_no_curves() {
        let written = [Written::default(); STEPS];
        let curves = Curves {
            deletion: written,
            insertion: written,
            size: [0.5; STEPS],
        };
        let whole = serde_json::to_value(&curves).unwrap();
        assert_eq!(
            serde_json::from_value::<Curves>(whole.clone()).unwrap(),
            curves
        );
        for curve in ["deletion", "insertion", "size"] {
            for length in [0, STEPS - 1, STEPS + 1] {
                let mut other = whole.clone();
                let step = other[curve][0].clone();
                other[curve] = serde_json::json!(vec![step; length]);
                assert!(
                    serde_json::from_value::<Curves>(other).is_err(),
                    "{curve} {length}"
                );
            }
        }
    }

    #[test]
    fn areas() {
        assert_eq!(area(&[1.0; 21]), 1.0);
        let line: Vec<f64> = (0..21).map(f64::from).collect();
        assert!((area(&line) - 10.0).abs() <= 1e-12);
    }
}
