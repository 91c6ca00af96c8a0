//! The inverse hyperbolic sine, which compresses what is loud and leaves what is
//! soft.

use super::Operate;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::TensorId;
use crate::Result;

/// y = asinh(factor · x)
#[derive(Clone, Debug, PartialEq)]
pub struct Asinh {
    /// (N, R, C)
    pub x: TensorId,
    pub factor: f32,
    /// (N, R, C)
    pub y: TensorId,
}

/// Reverse of [`Asinh`]: dx = dy · factor / sqrt((factor · x)² + 1)
#[derive(Clone, Debug, PartialEq)]
pub struct AsinhReverse {
    /// (K·B, R, C)
    pub dy: TensorId,
    /// (B, R, C)
    pub x: TensorId,
    pub factor: f32,
    /// (K·B, R, C)
    pub dx: TensorId,
}

impl Recording {
    /// Records asinh(factor · x).
    pub fn asinh(&mut self, x: TensorId, factor: f32) -> TensorId {
        let y = self.computed(self.shape(x));
        self.push(Asinh { x, factor, y });
        y
    }
}

/// In f64: f32's own is not within a few roundings.
fn compressed<T: Real>(x: T, factor: f32) -> T {
    T::from_f64((x.to_f64() * f64::from(factor)).asinh())
}

fn slope<T: Real>(x: T, factor: f32) -> T {
    let factor = f64::from(factor);
    T::from_f64(factor / (x.to_f64() * factor).hypot(1.0))
}

fn launch(
    entry: &'static str,
    [count, count_x]: [usize; 2],
    factor: f32,
    bindings: Vec<(&'static str, Binding)>,
) -> Vec<Launch> {
    vec![Launch {
        shader: "asinh",
        entry,
        overrides: vec![],
        params: vec![
            ("count", count.into()),
            ("count_x", count_x.into()),
            ("factor", factor.into()),
        ],
        bindings,
        extent: Extent::Invocations(count),
    }]
}

impl Operate for Asinh {
    const NAME: &'static str = "asinh";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        let dx = walk.new_cotangent(self.x, walk.recording.shape(dy).lead);
        walk.recording.push(AsinhReverse {
            dy,
            x: self.x,
            factor: self.factor,
            dx,
        });
        walk.contribute(self.x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let (inner, cols) = (x.shape.inner(), x.shape.cols);
        for (y, n) in y.chunks_mut(inner).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, y, cols, |row, y| {
                for (y, &x) in y.iter_mut().zip(&x[row * cols..]) {
                    *y = compressed(x, self.factor);
                }
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let count = recording.shape(self.y).len();
        let bindings = vec![("x", self.x.into()), ("y", self.y.into())];
        launch("forward", [count; 2], self.factor, bindings)
    }
}

impl Operate for AsinhReverse {
    const NAME: &'static str = "asinh_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy, self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut dx = context.take(self.dx);
        let (dy, x) = (context.read(self.dy), context.read(self.x));
        let (inner, cols) = (dy.shape.inner(), dy.shape.cols);
        for (dx, n) in dx.chunks_mut(inner).zip(context.leads.clone()) {
            let (dy, x) = (dy.at(n), x.at(n));
            each_block(context.parallel, dx, cols, |row, dx| {
                let own = dy[row * cols..].iter().zip(&x[row * cols..]);
                for (dx, (&dy, &x)) in dx.iter_mut().zip(own) {
                    *dx = dy * slope(x, self.factor);
                }
            });
        }
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let counts = [self.dx, self.x].map(|id| recording.shape(id).len());
        let bindings = vec![
            ("x", self.x.into()),
            ("dy", self.dy.into()),
            ("dx", self.dx.into()),
        ];
        launch("reverse", counts, self.factor, bindings)
    }
}
