//! Sum over the batch, for the reverse of an operand that was broadcast.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};

/// y[k·L + l] = sum of x[k·B + b] over the b with b % L = l
#[derive(Clone, Debug, PartialEq)]
pub struct SumBatch {
    /// (K·B, R, C)
    pub x: TensorId,
    /// B, a multiple of L
    pub batch: usize,
    /// (K·L, R, C), L the operand's own batch, 1 as a rule
    pub y: TensorId,
}

impl SumBatch {
    /// L
    fn lead(&self, x: Shape, y: Shape) -> usize {
        y.lead / (x.lead / self.batch)
    }
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
        let lead = self.lead(x.shape, context.shape(self.y));
        for (n, y) in y.chunks_mut(x.shape.inner()).enumerate() {
            let first = n / lead * self.batch + n % lead;
            y.copy_from_slice(x.at(first));
            for repeat in 1..self.batch / lead {
                T::axpy(T::from_f32(1.0), x.at(first + repeat * lead), y);
            }
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (x, y) = (recording.shape(self.x), recording.shape(self.y));
        vec![Launch {
            shader: "sum_batch",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", y.len().into()),
                ("inner", y.inner().into()),
                ("batch", self.batch.into()),
                ("lead", self.lead(x, y).into()),
            ],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::Invocations(y.len()),
        }]
    }
}
