//! What one or more maps together say of tokens and frames.

use std::borrow::Borrow;
use std::ops::Range;

use super::filter::is_finite;
use super::{AlignOptions, TokenMap, WordTokens, filtered};
use crate::{Error, Result};

/// A map made ready, so that it can be asked about words more than once, alone
/// and among others.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// As [`filtered`] makes it.
    ready: TokenMap,
    /// With rows that sum to 1; 0 where they are not finite.
    shares: TokenMap,
    /// By token: whether the row is finite.
    finite: Vec<bool>,
    /// By token: whether the row is finite and varies.
    varies: Vec<bool>,
}

impl Prepared {
    /// Takes the map, since a large model has hundreds.
    ///
    /// # Errors
    /// If the filter's width is even.
    pub fn new(map: TokenMap, options: &AlignOptions) -> Result<Self> {
        let finite: Vec<bool> = map.rows().map(is_finite).collect();
        let varies = map.rows().zip(&finite);
        let varies = varies.map(|(row, &finite)| finite && !is_constant(row));
        Ok(Self {
            ready: filtered(&map, options)?,
            varies: varies.collect(),
            shares: map.finite_shares(),
            finite,
        })
    }
}

/// What all maps together say.
pub(super) struct Evidence {
    /// The mean of the prepared maps.
    pub map: TokenMap,
    /// The mean of the maps' shares.
    pub shares: TokenMap,
    /// By token: whether its row says something.
    pub sound: Vec<bool>,
}

impl Evidence {
    /// All maps counting alike.
    ///
    /// # Errors
    /// If there are none or they differ in shape.
    pub fn new<M: Borrow<Prepared>>(maps: &[M]) -> Result<Self> {
        let first = maps.first().map(|own| &own.borrow().ready);
        let first = first.ok_or_else(|| Error::Input("there is no map to align".into()))?;
        let (tokens, frames) = (first.tokens(), first.frames());
        let (mut finite, mut varies) = (vec![true; tokens], vec![false; tokens]);
        for own in maps.iter().map(Borrow::borrow) {
            let map = &own.ready;
            if (map.tokens(), map.frames()) != (tokens, frames) {
                return Err(Error::Input(format!(
                    "maps of {} tokens and {} frames, and of {tokens} and {frames}",
                    map.tokens(),
                    map.frames()
                )));
            }
            for k in 0..tokens {
                finite[k] &= own.finite[k];
                varies[k] |= own.varies[k];
            }
        }
        let mut evidence = Self {
            map: TokenMap::new(vec![0.0; tokens * frames], frames),
            shares: TokenMap::new(vec![0.0; tokens * frames], frames),
            sound: Vec::new(),
        };
        evidence.average(maps, &vec![1.0 / maps.len() as f64; maps.len()]);
        let sound = evidence.map.rows().zip(finite.iter().zip(varies));
        let sound = sound.map(|(row, (&finite, varies))| finite && varies && !is_constant(row));
        evidence.sound = sound.collect();
        Ok(evidence)
    }

    /// Lets every map count by how much of it lies within the words that were
    /// found: `frames` of each. Heads that look elsewhere, as many do, count
    /// little.
    pub fn weigh<M: Borrow<Prepared>>(
        &mut self,
        maps: &[M],
        words: &[WordTokens],
        frames: &[Range<usize>],
    ) {
        let within = maps.iter().map(|own| {
            let words = words.iter().zip(frames);
            let each = words
                .map(|(word, frames)| shares_within(&own.borrow().shares, &word.spoken, frames));
            each.sum::<f64>()
        });
        let mut weights: Vec<f64> = within.collect();
        let all: f64 = weights.iter().sum();
        if all > 0.0 && all.is_finite() {
            weights.iter_mut().for_each(|weight| *weight /= all);
            self.average(maps, &weights);
        }
    }

    fn average<M: Borrow<Prepared>>(&mut self, maps: &[M], weights: &[f64]) {
        let mean = |of: fn(&Prepared) -> &TokenMap, frames: usize, size: usize| {
            let mut sum = vec![0.0; size];
            for (own, weight) in maps.iter().zip(weights) {
                for (sum, x) in sum.iter_mut().zip(of(own.borrow()).values()) {
                    *sum += weight * x;
                }
            }
            TokenMap::new(sum, frames)
        };
        let (frames, size) = (self.map.frames(), self.map.values().len());
        self.map = mean(|own| &own.ready, frames, size);
        self.shares = mean(|own| &own.shares, frames, size);
    }
}

/// The mean over some tokens of what lies within some frames of their shares.
pub(super) fn shares_within(
    shares: &TokenMap,
    tokens: &Range<usize>,
    frames: &Range<usize>,
) -> f64 {
    let rows = shares.rows().skip(tokens.start).take(tokens.len());
    let inside = rows.map(|row| row[frames.clone()].iter().sum::<f64>());
    (inside.sum::<f64>() / tokens.len() as f64).clamp(0.0, 1.0)
}

fn is_constant(row: &[f64]) -> bool {
    row.windows(2).all(|pair| pair[0] == pair[1])
}
