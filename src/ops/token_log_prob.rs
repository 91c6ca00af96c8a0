//! Log-probability of each explained token.

use super::Operate;
use super::log_softmax::log_sum_exp;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// `y[b, k] = log softmax(logits[b, positions[k]])[labels[k]]`
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogProb {
    /// (B, I, V)
    pub logits: TensorId,
    /// (1, K, 1) indices below I
    pub positions: TensorId,
    /// (1, K, 1) indices below V
    pub labels: TensorId,
    /// (B, K, 1), natural logarithms
    pub y: TensorId,
}

impl Operate for TokenLogProb {
    const NAME: &'static str = "token_log_prob";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.logits, self.positions, self.labels]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let logits = context.read(self.logits);
        let cols = logits.shape.cols;
        let positions = context.read_indices(self.positions);
        let labels = context.read_indices(self.labels);
        let mut scratch = vec![T::default(); cols];
        for (y, n) in y.chunks_mut(labels.len()).zip(context.leads.clone()) {
            for ((y, &position), &label) in y.iter_mut().zip(positions).zip(labels) {
                let row = &logits.at(n)[position as usize * cols..(position as usize + 1) * cols];
                *y = row[label as usize] - log_sum_exp(row, &mut scratch);
            }
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (logits, count) = (recording.shape(self.logits), recording.shape(self.y).len());
        vec![Launch {
            shader: "token_log_prob",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", count.into()),
                ("tokens", recording.shape(self.labels).rows.into()),
                ("rows", logits.rows.into()),
                ("cols", logits.cols.into()),
            ],
            bindings: vec![
                ("logits", self.logits.into()),
                ("positions", self.positions.into()),
                ("labels", self.labels.into()),
                ("y", self.y.into()),
            ],
            extent: Extent::rows(count),
        }]
    }
}
