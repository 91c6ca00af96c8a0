//! Points on the straight line from a baseline to the sound, for integrated
//! gradients.

use super::Operate;
use super::scalars::FIRST_VARIANT;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// `y[b] = baseline + fractions[first + b] · (x - baseline)`
///
/// Fractions count from [`FIRST_VARIANT`]; past the last, y is x.
#[derive(Clone, Debug, PartialEq)]
pub struct Blend {
    /// (1, R, C)
    pub x: TensorId,
    /// (1, R, C)
    pub baseline: TensorId,
    /// (1, variants, 1)
    pub fractions: TensorId,
    /// (B, R, C)
    pub y: TensorId,
}

impl Operate for Blend {
    const NAME: &'static str = "blend";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.baseline, self.fractions]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_VARIANT]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let baseline = context.read(self.baseline).all();
        let fractions = context.read(self.fractions).all();
        let first = context.scalar(FIRST_VARIANT);
        let inner = x.shape.inner();
        for (y, n) in y.chunks_mut(inner).zip(context.leads.clone()) {
            let fraction = fractions.get(first + n).copied();
            let fraction = fraction.unwrap_or(T::from_f32(1.0));
            for ((y, &x), &base) in y.iter_mut().zip(x.all()).zip(baseline) {
                *y = base + fraction * (x - base);
            }
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let shape = recording.shape(self.y);
        vec![Launch {
            shader: "blend",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", shape.len().into()),
                ("inner", shape.inner().into()),
                ("variants", recording.shape(self.fractions).len().into()),
            ],
            bindings: vec![
                ("x", self.x.into()),
                ("baseline", self.baseline.into()),
                ("fractions", self.fractions.into()),
                ("scalars", Binding::Scalars),
                ("y", self.y.into()),
            ],
            extent: Extent::Invocations(shape.len()),
        }]
    }
}
