//! Sum over the batch, for the reverse of an operand that was broadcast.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// y[k] = sum over b of x[k·batch + b]
#[derive(Clone, Debug)]
pub struct SumBatch {
    /// (K·B, R, C)
    pub x: TensorId,
    /// B
    pub batch: usize,
    /// (K, R, C)
    pub y: TensorId,
}

impl Operate for SumBatch {
    const NAME: &'static str = "sum_batch";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn needs_all_leads(&self) -> bool {
        true
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        for (k, y) in y.chunks_mut(x.shape.inner()).enumerate() {
            y.copy_from_slice(x.at(k * self.batch));
            for b in 1..self.batch {
                T::axpy(T::from_f32(1.0), x.at(k * self.batch + b), y);
            }
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let y = recording.shape(self.y);
        vec![Launch {
            shader: "sum_batch",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", y.len().into()),
                ("inner", y.inner().into()),
                ("batch", self.batch.into()),
            ],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::Invocations(y.len()),
        }]
    }
}
