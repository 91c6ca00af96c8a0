//! How far masking moves the model's prediction of each explained token.

use super::Operate;
use super::log_softmax::log_sum_exp;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// `y[n, k] = KL(reference ‖ softmax(logits))` at row `positions[k]`, in nats
///
/// It is summed as `p (exp(d) - 1 - d)` with `d = log q - log p`, whose terms
/// are never negative: over two distributions that is the sum of `p (log p - log
/// q)`, whose terms cancel where the prediction hardly moves. The reference
/// comes from the same plan, so that a mask that keeps everything gives
/// exactly 0.
#[derive(Clone, Debug, PartialEq)]
pub struct KlDivergence {
    /// (N or fewer, I, V) log-probabilities
    pub reference: TensorId,
    /// (N, I, V)
    pub logits: TensorId,
    /// (1, K, 1) indices below I
    pub positions: TensorId,
    /// (N, K, 1)
    pub y: TensorId,
}

impl Operate for KlDivergence {
    const NAME: &'static str = "kl_divergence";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.reference, self.logits, self.positions]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let reference = context.read(self.reference);
        let logits = context.read(self.logits);
        let positions = context.read_indices(self.positions);
        let cols = logits.shape.cols;
        let mut scratch = vec![T::default(); cols];
        for (y, n) in y.chunks_mut(positions.len()).zip(context.leads.clone()) {
            for (y, &position) in y.iter_mut().zip(positions) {
                let row = position as usize * cols..(position as usize + 1) * cols;
                let (p, q) = (&reference.at(n)[row.clone()], &logits.at(n)[row]);
                let sum = log_sum_exp(q, &mut scratch);
                *y = T::divergence(p, q, sum);
            }
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let logits = recording.shape(self.logits);
        let count = recording.shape(self.y).len();
        vec![Launch {
            shader: "kl_divergence",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", count.into()),
                ("tokens", recording.shape(self.positions).rows.into()),
                ("rows", logits.rows.into()),
                ("cols", logits.cols.into()),
                (
                    "lead_reference",
                    recording.shape(self.reference).lead.into(),
                ),
                ("lead_logits", logits.lead.into()),
            ],
            bindings: vec![
                ("reference", self.reference.into()),
                ("logits", self.logits.into()),
                ("positions", self.positions.into()),
                ("y", self.y.into()),
            ],
            extent: Extent::rows(count),
        }]
    }
}
