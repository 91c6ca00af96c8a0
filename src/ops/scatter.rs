//! From one row for each explained token to all rows.

use super::Operate;
use super::scalars::FIRST_TOKEN;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// `y[k·B + b, positions[k]] = x[k·B + b]`, 0 elsewhere
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterRows {
    /// (K·B, 1, C)
    pub x: TensorId,
    /// (1, all tokens, 1), counted from [`FIRST_TOKEN`]
    pub positions: TensorId,
    /// B
    pub batch: usize,
    /// (K·B, I, C)
    pub y: TensorId,
}

impl Operate for ScatterRows {
    const NAME: &'static str = "scatter_rows";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.positions]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_TOKEN]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let positions = context.read_indices(self.positions);
        let cols = x.shape.cols;
        let inner = context.shape(self.y).inner();
        let first = context.scalar(FIRST_TOKEN);
        y.fill(T::default());
        for (y, n) in y.chunks_mut(inner).zip(context.leads.clone()) {
            let token = (first + n / self.batch).min(positions.len() - 1);
            let begin = positions[token] as usize * cols;
            y[begin..begin + cols].copy_from_slice(x.at(n));
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let y = recording.shape(self.y);
        vec![Launch {
            shader: "scatter_rows",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", y.len().into()),
                ("rows", y.rows.into()),
                ("cols", y.cols.into()),
                ("batch", self.batch.into()),
                ("tokens", recording.shape(self.positions).rows.into()),
            ],
            bindings: vec![
                ("x", self.x.into()),
                ("positions", self.positions.into()),
                ("scalars", Binding::Scalars),
                ("y", self.y.into()),
            ],
            extent: Extent::Invocations(y.len()),
        }]
    }
}
