//! What one or more maps together say of tokens and frames.

use std::borrow::Borrow;
use std::ops::Range;

use super::filter::is_finite;
use super::{AlignOptions, TokenMap, WordTokens, filtered};
use crate::{Error, Result};

/// What all maps together say.
pub(super) struct Evidence {
    /// Every map by itself, prepared.
    prepared: Vec<TokenMap>,
    /// The mean of the prepared maps.
    pub map: TokenMap,
    /// The mean of the maps with rows that sum to 1, or less where some have
    /// none.
    pub shares: TokenMap,
    /// By token: whether its row says something.
    pub sound: Vec<bool>,
}

impl Evidence {
    /// All maps counting alike.
    ///
    /// # Errors
    /// If there are none, they differ in shape, or the filter's width is even.
    pub fn new<M: Borrow<TokenMap>>(maps: &[M], options: &AlignOptions) -> Result<Self> {
        let first = maps.first().map(Borrow::borrow);
        let first = first.ok_or_else(|| Error::Input("there is no map to align".into()))?;
        let (tokens, frames) = (first.tokens(), first.frames());
        let (mut finite, mut varies) = (vec![true; tokens], vec![false; tokens]);
        let mut prepared = Vec::with_capacity(maps.len());
        for map in maps {
            let map = map.borrow();
            if (map.tokens(), map.frames()) != (tokens, frames) {
                return Err(Error::Input(format!(
                    "maps of {} tokens and {} frames, and of {tokens} and {frames}",
                    map.tokens(),
                    map.frames()
                )));
            }
            prepared.push(filtered(map, options)?);
            for (k, row) in map.rows().enumerate() {
                finite[k] &= is_finite(row);
                varies[k] |= is_finite(row) && !is_constant(row);
            }
        }
        let alike = vec![1.0 / maps.len() as f64; maps.len()];
        let map = mean(&prepared, &alike);
        let sound = map.rows().zip(finite.iter().zip(varies));
        let sound = sound.map(|(row, (&finite, varies))| finite && varies && !is_constant(row));
        Ok(Self {
            sound: sound.collect(),
            shares: mean_shares(maps, &alike),
            map,
            prepared,
        })
    }

    /// Lets every map count by how much of it lies within the words that were
    /// found: `frames` of each. Heads that look elsewhere, as many do, count
    /// little.
    pub fn weigh<M: Borrow<TokenMap>>(
        &mut self,
        maps: &[M],
        words: &[WordTokens],
        frames: &[Range<usize>],
    ) {
        let within = maps.iter().map(|map| {
            let shares = map.borrow().shares();
            let words = words.iter().zip(frames);
            words
                .map(|(word, frames)| shares_within(&shares, &word.spoken, frames))
                .sum::<f64>()
        });
        let mut weights: Vec<f64> = within.collect();
        let all: f64 = weights.iter().sum();
        if !(all > 0.0 && all.is_finite()) {
            return;
        }
        weights.iter_mut().for_each(|weight| *weight /= all);
        self.map = mean(&self.prepared, &weights);
        self.shares = mean_shares(maps, &weights);
    }
}

/// The mean over some tokens of what lies within some frames of their shares.
pub(super) fn shares_within(
    shares: &TokenMap,
    tokens: &Range<usize>,
    frames: &Range<usize>,
) -> f64 {
    let rows = shares.rows().skip(tokens.start).take(tokens.len());
    let inside = rows.map(|row| {
        row[frames.clone()]
            .iter()
            .filter(|x| x.is_finite())
            .sum::<f64>()
    });
    (inside.sum::<f64>() / tokens.len() as f64).clamp(0.0, 1.0)
}

fn mean(maps: &[TokenMap], weights: &[f64]) -> TokenMap {
    let mut sum = vec![0.0; maps[0].values().len()];
    for (map, weight) in maps.iter().zip(weights) {
        for (sum, x) in sum.iter_mut().zip(map.values()) {
            *sum += weight * x;
        }
    }
    TokenMap::new(sum, maps[0].frames())
}

/// Rows that are not finite count as 0.
fn mean_shares<M: Borrow<TokenMap>>(maps: &[M], weights: &[f64]) -> TokenMap {
    let finite = maps.iter().map(|map| {
        let shares = map.borrow().shares();
        let rows = shares.rows().flat_map(|row| {
            let counts = is_finite(row);
            row.iter().map(move |&x| if counts { x } else { 0.0 })
        });
        TokenMap::new(rows.collect(), shares.frames())
    });
    mean(&finite.collect::<Vec<_>>(), weights)
}

fn is_constant(row: &[f64]) -> bool {
    row.windows(2).all(|pair| pair[0] == pair[1])
}
