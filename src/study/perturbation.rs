//! Infidelity and sensitivity-n: whether the sum of a map over what is removed
//! foretells how far a token's log-probability falls.
//!
//! What is removed are rectangles of a grid over time and frequency, which no
//! map's own segments have a part in. Infidelity is that of Yeh et al., "On the
//! (In)fidelity and Sensitivity of Explanations" (NeurIPS 2019), with Captum's
//! normalisation, since most maps have a scale of their own; sensitivity-n is
//! the correlation of Ancona et al., "Towards better understanding of
//! gradient-based attribution methods" (ICLR 2018).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::map_name::MapName;
use super::record::{Comparison, compared_tokens};
use super::spread_maps::spread_maps;
use super::statistics::{Correlation, mean};
use crate::Result;
use crate::engine::executor::Executor;
use crate::engine::random::{Domain, Key};
use crate::engine::tensor::Shape;
use crate::explain::probe::log_probs_without;
use crate::explain::spes::Segmentation;
use crate::explain::{Maps, Subject};
use crate::model::Model;

/// How long a rectangle is: 8 frames of most models.
const CELL_SECONDS: f64 = 0.08;
/// Bins of a rectangle.
const CELL_BINS: usize = 8;

/// Percent of the rectangles that a subset removes: the n of sensitivity-n.
pub const PERCENTS: [usize; 6] = [5, 10, 20, 40, 60, 80];

/// Random subsets for each n.
const SUBSETS: usize = 64;

/// How far a map of an utterance foretells what removals do; means over the
/// tokens compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Foretelling {
    /// Mean square of what the map, scaled as well as one factor can, misses:
    /// nats squared.
    pub infidelity: Option<f64>,
    /// The same as a share of the drops' own mean square: 0 to 1.
    pub infidelity_share: Option<f64>,
    /// By [`PERCENTS`]: correlation over subsets.
    pub sensitivity: Vec<Option<f64>>,
}

/// Infidelity: mean of (factor · predicted - actual)². The factor is 1, or with
/// `normalise` the one that makes it least (1 where the prediction is always
/// 0), as Captum's. Absent without samples, and for lists that are not of one
/// length.
pub fn infidelity(predicted: &[f64], actual: &[f64], normalise: bool) -> Option<f64> {
    if predicted.len() != actual.len() {
        return None;
    }
    let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let own = product(predicted, predicted);
    let factor = match normalise && own > 0.0 {
        true => product(predicted, actual) / own,
        false => 1.0,
    };
    let pairs = predicted.iter().zip(actual);
    mean(pairs.map(|(p, a)| Some((factor * p - a).powi(2))))
}

/// The rectangles of a grid over (T, F).
struct Grid {
    frames: usize,
    bins: usize,
    /// Frames of a rectangle.
    each: usize,
    /// Rectangles in a row.
    across: usize,
    count: usize,
}

impl Grid {
    fn new(frames: usize, bins: usize, frame_seconds: f64) -> Self {
        let each = (CELL_SECONDS / frame_seconds).round() as usize;
        let (down, across) = (frames.div_ceil(each), bins.div_ceil(CELL_BINS));
        Self {
            frames,
            bins,
            each,
            across,
            count: down * across,
        }
    }

    /// Rectangle of every feature, in order.
    fn cells(&self) -> impl Iterator<Item = usize> + '_ {
        let all = 0..self.frames * self.bins;
        all.map(|at| at / self.bins / self.each * self.across + at % self.bins / CELL_BINS)
    }

    fn segmentation(&self) -> Segmentation {
        Segmentation {
            labels: self.cells().map(|cell| cell as u32).collect(),
            shape: Shape::new(1, self.frames, self.bins),
            segments: self.count,
        }
    }

    /// Sums of a map (T, F) over each rectangle.
    fn sums(&self, map: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.count];
        for (cell, value) in self.cells().zip(map) {
            sums[cell] += value;
        }
        sums
    }
}

/// A random subset of exactly `size` of `count` things, by number.
fn subset(number: usize, size: usize, count: usize, seed: u64) -> Vec<bool> {
    let key = Key::from(seed);
    let draw = |i: usize| key.block(Domain::Subsets, [i as u32, number as u32, 0])[0];
    let mut order: Vec<(u32, usize)> = (0..count).map(|i| (draw(i), i)).collect();
    order.sort_unstable();
    let mut chosen = vec![false; count];
    for &(_, i) in &order[..size] {
        chosen[i] = true;
    }
    chosen
}

/// What the measures are made with.
pub struct Perturbation<'a> {
    pub model: &'a Model,
    /// The utterance as it was explained, all of its tokens.
    pub subject: &'a Subject<'a>,
    pub seed: u64,
    /// Bytes a pass may take.
    pub memory: usize,
}

impl Perturbation<'_> {
    /// The measures of every map of an explanation, by name.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure(
        &self,
        executor: &mut dyn Executor,
        explained: &Maps,
        by: &Comparison,
    ) -> Result<BTreeMap<MapName, Foretelling>> {
        let features = self.subject.features;
        let step = self.model.encoder.frame_seconds();
        let grid = Grid::new(features.sound_frames, features.bins, step);
        let subsets: Vec<Vec<bool>> = (0..PERCENTS.len() * SUBSETS)
            .map(|number| {
                let size = (grid.count * PERCENTS[number / SUBSETS]).div_ceil(100);
                subset(number, size, grid.count, self.seed)
            })
            .collect();
        // The first mask leaves the sound as it is.
        let hidden = [vec![false; grid.count], subsets.concat()].concat();
        let log_probs = log_probs_without(
            executor,
            self.model,
            self.subject,
            grid.segmentation(),
            &hidden,
            self.memory,
        )?;
        let (clean, rest) = log_probs.split_at(self.subject.tokens.len());
        let tokens = compared_tokens(explained, by)?;
        let drops: Vec<Vec<f64>> = tokens
            .iter()
            .map(|&k| {
                let others = rest.chunks(clean.len());
                others.map(|own| clean[k] - own[k]).collect()
            })
            .collect();
        let maps = spread_maps(explained, by, self.seed)?;
        let measured = maps.into_iter().map(|(name, rows)| {
            let predicted: Vec<Vec<f64>> = rows
                .iter()
                .map(|row| predictions(&grid.sums(row), &subsets))
                .collect();
            (name, foretelling(&predicted, &drops))
        });
        Ok(measured.collect())
    }
}

/// The sum over what each subset removes.
fn predictions(sums: &[f64], subsets: &[Vec<bool>]) -> Vec<f64> {
    let of = |removed: &Vec<bool>| {
        let own = sums.iter().zip(removed).filter(|(_, removed)| **removed);
        own.map(|(sum, _)| sum).sum()
    };
    subsets.iter().map(of).collect()
}

/// From predictions and drops of each token, a list over subsets each.
fn foretelling(predicted: &[Vec<f64>], drops: &[Vec<f64>]) -> Foretelling {
    let tokens = || predicted.iter().zip(drops);
    let missed = |(p, a): (&Vec<f64>, &Vec<f64>)| infidelity(p, a, true);
    let share = |pair: (&Vec<f64>, &Vec<f64>)| {
        let whole = infidelity(&vec![0.0; pair.1.len()], pair.1, false)?;
        (whole > 0.0).then_some(missed(pair)? / whole)
    };
    Foretelling {
        infidelity: mean(tokens().map(missed)),
        infidelity_share: mean(tokens().map(share)),
        sensitivity: (0..PERCENTS.len())
            .map(|n| {
                let own = n * SUBSETS..(n + 1) * SUBSETS;
                mean(
                    tokens()
                        .map(|(p, a)| Correlation::Pearson.of(&p[own.clone()], &a[own.clone()])),
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_model_leaves_nothing_to_its_own_weights() {
        let grid = Grid::new(21, 13, 0.01);
        assert_eq!(grid.count, 6);
        // f(x) = w·x: removing features takes exactly their shares away.
        let shares: Vec<f64> = (0..21 * 13).map(|i| f64::from(i % 17) - 6.0).collect();
        let subsets: Vec<Vec<bool>> = (0..PERCENTS.len() * SUBSETS)
            .map(|number| subset(number, 1 + number % 5, grid.count, 3))
            .collect();
        let cells: Vec<usize> = grid.cells().collect();
        let drops: Vec<f64> = subsets
            .iter()
            .map(|removed| {
                let kept = shares.iter().zip(&cells);
                let kept: f64 = kept.filter(|(_, c)| !removed[**c]).map(|(x, _)| x).sum();
                shares.iter().sum::<f64>() - kept
            })
            .collect();
        let exact = predictions(&grid.sums(&shares), &subsets);
        assert!(infidelity(&exact, &drops, false).unwrap() <= 1e-20);
        // Another scale is forgiven by the normalised one only.
        let doubled: Vec<f64> = exact.iter().map(|x| 2.0 * x).collect();
        assert!(infidelity(&doubled, &drops, true).unwrap() <= 1e-20);
        assert!(infidelity(&doubled, &drops, false).unwrap() > 1.0);
        let measured = foretelling(&[doubled], std::slice::from_ref(&drops));
        assert!(measured.infidelity_share.unwrap() <= 1e-20);
        for rho in measured.sensitivity {
            assert!((rho.unwrap() - 1.0).abs() <= 1e-12);
        }
        // A map that says nothing misses everything.
        let nothing = foretelling(&[vec![0.0; drops.len()]], &[drops]);
        assert_eq!(nothing.infidelity_share, Some(1.0));
        assert_eq!(nothing.sensitivity, [None; PERCENTS.len()]);
        assert_eq!(infidelity(&[], &[], true), None);
    }

    #[test]
    fn subsets_have_their_size_and_differ() {
        let sizes = [0, 1, 7, 20];
        for size in sizes {
            let own = subset(4, size, 20, 9);
            assert_eq!(own.iter().filter(|x| **x).count(), size);
        }
        assert_ne!(subset(1, 7, 20, 9), subset(2, 7, 20, 9));
        assert_ne!(subset(1, 7, 20, 9), subset(1, 7, 20, 10));
        assert_eq!(subset(1, 7, 20, 9), subset(1, 7, 20, 9));
    }
}
