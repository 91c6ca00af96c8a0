//! Where the reverse pass begins: the gradient of a token's log-probability
//! with respect to the logits at its position.

use super::Operate;
use super::scalars::FIRST_TOKEN;
use super::log_softmax::log_sum_exp;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// `dlogits[k·B + b] = onehot(labels[k]) - softmax(logits[b, positions[k]])`
///
/// Tokens count from [`FIRST_TOKEN`]; past the last one the last is
/// repeated, and whoever stores the results leaves those rows out.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSeed {
    /// (B, I, V)
    pub logits: TensorId,
    /// (1, all tokens, 1) indices below I
    pub positions: TensorId,
    /// (1, all tokens, 1) indices below V
    pub labels: TensorId,
    /// (K·B, 1, V)
    pub dlogits: TensorId,
}

impl Operate for TokenSeed {
    const NAME: &'static str = "token_seed";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.logits, self.positions, self.labels]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dlogits]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_TOKEN]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut dlogits = context.take(self.dlogits);
        let logits = context.read(self.logits);
        let positions = context.read_indices(self.positions);
        let labels = context.read_indices(self.labels);
        let (batch, cols) = (logits.shape.lead, logits.shape.cols);
        let first = context.scalar(FIRST_TOKEN);
        for (d, n) in dlogits.chunks_mut(cols).zip(context.leads.clone()) {
            let token = (first + n / batch).min(labels.len() - 1);
            let position = positions[token] as usize;
            let row = &logits.at(n)[position * cols..(position + 1) * cols];
            let sum = log_sum_exp(row, d);
            for (d, &x) in d.iter_mut().zip(row) {
                *d = -(x - sum).exp();
            }
            d[labels[token] as usize] += T::from_f32(1.0);
        }
        context.give(self.dlogits, dlogits);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (logits, lead) = (
            recording.shape(self.logits),
            recording.shape(self.dlogits).lead,
        );
        vec![Launch {
            shader: "token_seed",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("lead", lead.into()),
                ("batch", logits.lead.into()),
                ("rows", logits.rows.into()),
                ("cols", logits.cols.into()),
                ("tokens", recording.shape(self.labels).rows.into()),
            ],
            bindings: vec![
                ("logits", self.logits.into()),
                ("positions", self.positions.into()),
                ("labels", self.labels.into()),
                ("scalars", Binding::Scalars),
                ("dlogits", self.dlogits.into()),
            ],
            extent: Extent::rows(lead),
        }]
    }
}
