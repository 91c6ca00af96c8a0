//! Weighted sum over the variants of a batch, carried over batches.

use super::Operate;
use super::scalars::FIRST_VARIANT;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// `sum[k] += sum over b of weights[first + b] · x[k·B + b]`
///
/// Variants count from [`FIRST_VARIANT`]; where that is 0 the sum starts
/// anew. Variants past the last weight are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulate {
    /// (K·B, R, C)
    pub x: TensorId,
    /// B
    pub batch: usize,
    /// (1, variants, 1)
    pub weights: TensorId,
    /// (K, R, C), persistent
    pub sum: TensorId,
}

impl Operate for Accumulate {
    const NAME: &'static str = "accumulate";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.weights]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.sum]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_VARIANT]
    }

    fn needs_all_leads(&self) -> bool {
        true
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut sum = context.take(self.sum);
        let x = context.read(self.x);
        let weights = context.read(self.weights).all();
        let first = context.scalar(FIRST_VARIANT);
        if first == 0 {
            sum.fill(T::default());
        }
        for (k, sum) in sum.chunks_mut(x.shape.inner()).enumerate() {
            for (b, &weight) in weights.iter().skip(first).take(self.batch).enumerate() {
                T::axpy(weight, x.at(k * self.batch + b), sum);
            }
        }
        context.give(self.sum, sum);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let shape = recording.shape(self.sum);
        vec![Launch {
            shader: "accumulate",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", shape.len().into()),
                ("inner", shape.inner().into()),
                ("batch", self.batch.into()),
                ("variants", recording.shape(self.weights).len().into()),
            ],
            bindings: vec![
                ("x", self.x.into()),
                ("weights", self.weights.into()),
                ("scalars", Binding::Scalars),
                ("sum", self.sum.into()),
            ],
            extent: Extent::Invocations(shape.len()),
        }]
    }
}
