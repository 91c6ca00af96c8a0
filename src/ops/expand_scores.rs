//! From sums over segments to a map.

use std::ops::Range;

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// Which masks a map is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    First = 0,
    Second = 1,
    Both = 2,
}

impl Half {
    fn range(self) -> Range<usize> {
        match self {
            Self::First => 0..1,
            Self::Second => 1..2,
            Self::Both => 0..2,
        }
    }
}

/// map[k, r, c] = mean score of the masks that hide (r, c); 0 where none does
///
/// The mean is over the masks of all segmentations together.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpandScores {
    /// (2·G, S, K + 1): see [`AccumulateScores`](super::AccumulateScores)
    pub sums: TensorId,
    /// (G, R, C) indices: the segment of each element
    pub labels: TensorId,
    pub half: Half,
    /// (1, K, 1) indices: rows after `positions[k]` are 0, since no later token
    /// can matter
    pub causal: Option<TensorId>,
    /// (K, R, C)
    pub map: TensorId,
}

impl Operate for ExpandScores {
    const NAME: &'static str = "expand_scores";

    fn inputs(&self) -> Vec<TensorId> {
        [self.sums, self.labels].into_iter().chain(self.causal).collect()
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.map]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut map = context.take(self.map);
        let sums = context.read(self.sums);
        let labels = context.read_indices(self.labels);
        let causal = self.causal.map(|id| context.read_indices(id));
        let shape = context.shape(self.labels);
        let (inner, cols) = (shape.inner(), sums.shape.cols);
        let halves = self.half.range();
        let zero = T::default();
        for (map, k) in map.chunks_mut(inner).zip(context.leads.clone()) {
            let seen = causal.map_or(inner, |positions| (positions[k] as usize + 1) * shape.cols);
            for (element, value) in map.iter_mut().enumerate() {
                let (mut sum, mut count) = (zero, zero);
                for half in halves.clone() {
                    for g in 0..shape.lead {
                        let segment = labels[g * inner + element] as usize;
                        let row = &sums.at(half * shape.lead + g)[segment * cols..][..cols];
                        sum += row[k];
                        count += row[cols - 1];
                    }
                }
                *value = if count > zero && element < seen { sum / count } else { zero };
            }
        }
        context.give(self.map, map);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (map, sums) = (recording.shape(self.map), recording.shape(self.sums));
        let Range { start, end } = self.half.range();
        vec![Launch {
            shader: "expand_scores",
            entry: "forward",
            overrides: vec![("CAUSAL", f64::from(self.causal.is_some()))],
            params: vec![
                ("count", map.len().into()),
                ("inner", map.inner().into()),
                ("label_cols", map.cols.into()),
                ("groups", recording.shape(self.labels).lead.into()),
                ("segments", sums.rows.into()),
                ("cols", sums.cols.into()),
                ("first_half", start.into()),
                ("end_half", end.into()),
            ],
            bindings: vec![
                ("sums", self.sums.into()),
                ("labels", self.labels.into()),
                ("positions", self.causal.into()),
                ("map", self.map.into()),
            ],
            extent: Extent::Invocations(map.len()),
        }]
    }
}
