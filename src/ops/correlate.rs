//! Agreement of two maps, token by token.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::gpu::shaders::Shader;
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// `y[k]` = (Pearson's correlation of `a[k]` and `b[k]` over positions, 1), or
/// (0, 0) where it is undefined: one of them is constant, or there are fewer
/// than three positions, as two points always lie on a line
#[derive(Clone, Debug, PartialEq)]
pub struct Correlate {
    /// (K, R, C)
    pub a: TensorId,
    /// (K, R, C)
    pub b: TensorId,
    /// (1, K, 1) indices: only rows up to `positions[k]` count
    pub causal: Option<TensorId>,
    /// (K, 1, 2)
    pub y: TensorId,
}

impl Operate for Correlate {
    const NAME: &'static str = "correlate";

    fn inputs(&self) -> Vec<TensorId> {
        [self.a, self.b].into_iter().chain(self.causal).collect()
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let (a, b) = (context.read(self.a), context.read(self.b));
        let causal = self.causal.map(|id| context.read_indices(id));
        let inner = a.shape.inner();
        // Two points always lie on a line.
        let fewest = Shader::load("correlate").constant("FEWEST") as usize;
        for (y, k) in y.chunks_mut(2).zip(context.leads.clone()) {
            let seen = causal.map_or(inner, |rows| (rows[k] as usize + 1) * a.shape.cols);
            let (a, b) = (&a.at(k)[..seen], &b.at(k)[..seen]);
            let count = T::from_f64(seen as f64);
            let mean = |x: &[T]| x.iter().copied().sum::<T>() / count;
            let (mean_a, mean_b) = (mean(a), mean(b));
            let (mut aa, mut bb, mut ab) = (T::default(), T::default(), T::default());
            for (&a, &b) in a.iter().zip(b) {
                let (a, b) = (a - mean_a, b - mean_b);
                aa += a * a;
                bb += b * b;
                ab += a * b;
            }
            let zero = T::default();
            let scale = aa.sqrt() * bb.sqrt();
            // Rounding leaves a constant map a variance; it has none.
            let constant = |x: &[T]| x.iter().all(|value| *value == x[0]);
            let varies = !constant(a) && !constant(b);
            let defined = seen >= fewest && scale > zero && varies;
            let one = T::from_f32(1.0);
            // Rounding leads past 1.
            let within = |x: T| if x > one { one } else if x < -one { -one } else { x };
            y[0] = if defined { within(ab / scale) } else { zero };
            y[1] = T::from_f32(if defined { 1.0 } else { 0.0 });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let shape = recording.shape(self.a);
        vec![Launch {
            shader: "correlate",
            entry: "forward",
            overrides: vec![("CAUSAL", f64::from(self.causal.is_some()))],
            params: vec![
                ("tokens", shape.lead.into()),
                ("inner", shape.inner().into()),
                ("cols", shape.cols.into()),
            ],
            bindings: vec![
                ("a", self.a.into()),
                ("b", self.b.into()),
                ("positions", self.causal.into()),
                ("y", self.y.into()),
            ],
            extent: Extent::rows(shape.lead),
        }]
    }
}
