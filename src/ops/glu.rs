//! Gated linear unit.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::TensorId;
use crate::{Error, Result};

/// What the second half of the columns becomes before it multiplies the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// sigmoid(b)
    Sigmoid,
    /// b · sigmoid(b)
    Silu,
}

impl Gate {
    fn is_silu(self) -> f64 {
        f64::from(self == Self::Silu)
    }
}

/// y = scale · a · gate(b), a and b the halves of x's columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Glu {
    /// (N, R, 2C)
    pub x: TensorId,
    pub gate: Gate,
    pub scale: f32,
    /// (N, R, C)
    pub y: TensorId,
}

/// Reverse of [`Glu`].
#[derive(Clone, Debug, PartialEq)]
pub struct GluReverse {
    /// (K·B, R, C)
    pub dy: TensorId,
    /// (B, R, 2C)
    pub x: TensorId,
    pub gate: Gate,
    pub scale: f32,
    /// (K·B, R, 2C)
    pub dx: TensorId,
}

impl Recording {
    /// Records a gated linear unit: (N, R, 2C) to (N, R, C).
    ///
    /// # Errors
    /// If the number of columns is odd.
    pub fn glu(&mut self, x: TensorId, gate: Gate, scale: f32) -> Result<TensorId> {
        let mut shape = self.shape(x);
        if !shape.cols.is_multiple_of(2) {
            return Err(Error::shape(
                Glu::NAME,
                format!("{shape} has an odd number of columns"),
            ));
        }
        shape.cols /= 2;
        let y = self.computed(shape);
        self.push(Glu { x, gate, scale, y });
        Ok(y)
    }
}

impl Operate for Glu {
    const NAME: &'static str = "glu";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        let lead = walk.recording.shape(dy).lead;
        let dx = walk.new_cotangent(self.x, lead);
        walk.recording.push(GluReverse {
            dy,
            x: self.x,
            gate: self.gate,
            scale: self.scale,
            dx,
        });
        walk.contribute(self.x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let cols = x.shape.cols / 2;
        let scale = T::from_f32(self.scale);
        let inner = x.shape.rows * cols;
        for (y, n) in y.chunks_mut(inner).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, y, cols, |row, y| {
                let (a, b) = x[row * 2 * cols..(row + 1) * 2 * cols].split_at(cols);
                T::gate(self.gate, scale, a, b, y);
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (shape, x) = (recording.shape(self.y), recording.shape(self.x));
        let count = shape.len();
        vec![Launch {
            shader: "glu",
            entry: "forward",
            overrides: vec![("SILU", self.gate.is_silu())],
            params: vec![
                ("count", count.into()),
                ("cols", shape.cols.into()),
                ("rows_x", (x.lead * x.rows).into()),
                ("scale", self.scale.into()),
            ],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::Invocations(count),
        }]
    }
}

impl Operate for GluReverse {
    const NAME: &'static str = "glu_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy, self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut dx = context.take(self.dx);
        let (dy, x) = (context.read(self.dy), context.read(self.x));
        let cols = dy.shape.cols;
        let scale = T::from_f32(self.scale);
        for (dx, n) in dx.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            let (dy, x) = (dy.at(n), x.at(n));
            each_block(context.parallel, dx, 2 * cols, |row, dx| {
                let (a, b) = x[row * 2 * cols..(row + 1) * 2 * cols].split_at(cols);
                let (da, db) = dx.split_at_mut(cols);
                let dy = &dy[row * cols..(row + 1) * cols];
                T::gate_reverse(self.gate, scale, a, b, dy, da, db);
            });
        }
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (shape, x) = (recording.shape(self.dy), recording.shape(self.x));
        let count = shape.len();
        vec![Launch {
            shader: "glu",
            entry: "reverse",
            overrides: vec![("SILU", self.gate.is_silu())],
            params: vec![
                ("count", count.into()),
                ("cols", shape.cols.into()),
                ("rows_x", (x.lead * x.rows).into()),
                ("scale", self.scale.into()),
            ],
            bindings: vec![
                ("dy", self.dy.into()),
                ("x", self.x.into()),
                ("dx", self.dx.into()),
            ],
            extent: Extent::Invocations(count),
        }]
    }
}
