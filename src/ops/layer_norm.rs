//! Layer normalisation over the columns.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Shape, TensorId};
use crate::{Error, Result};

/// y = (x - mean) / sqrt(variance + eps) · weight + bias
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// (N, R, C)
    pub x: TensorId,
    /// (1, 1, C)
    pub weight: TensorId,
    /// (1, 1, C)
    pub bias: TensorId,
    pub eps: f32,
    /// (N, R, C)
    pub y: TensorId,
}

/// Reverse of [`LayerNorm`], with the cotangent that reaches x past it.
///
/// Mean and variance are computed again: the row has to be read anyway.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormReverse {
    /// (K·B, R, C)
    pub dy: TensorId,
    /// (B, R, C)
    pub x: TensorId,
    /// (1, 1, C)
    pub weight: TensorId,
    pub eps: f32,
    /// (K·B, R, C): added to the result
    pub plus: Option<TensorId>,
    /// (K·B, R, C)
    pub dx: TensorId,
}

/// Refuses a norm's operands that are not one row of the columns of `shape`.
pub(super) fn check_columns(
    name: &'static str,
    recording: &Recording,
    shape: Shape,
    operands: [TensorId; 2],
) -> Result<()> {
    let mut operands = operands.into_iter().map(|id| recording.shape(id));
    match operands.find(|own| *own != Shape::new(1, 1, shape.cols)) {
        Some(own) => Err(Error::shape(
            name,
            format!("{own} does not fit the columns of {shape}"),
        )),
        None => Ok(()),
    }
}

impl Recording {
    /// Records a layer norm of the columns of x (N, R, C).
    ///
    /// # Errors
    /// If weight and bias are not (1, 1, C).
    pub fn layer_norm(
        &mut self,
        x: TensorId,
        weight: TensorId,
        bias: TensorId,
        eps: f32,
    ) -> Result<TensorId> {
        let shape = self.shape(x);
        check_columns(LayerNorm::NAME, self, shape, [weight, bias])?;
        let y = self.computed(shape);
        self.push(LayerNorm {
            x,
            weight,
            bias,
            eps,
            y,
        });
        Ok(y)
    }
}

impl Operate for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.weight, self.bias]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn reach(&self, reach: &dyn Fn(TensorId) -> usize) -> usize {
        reach(self.x)
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        let shape = walk.recording.shape(dy);
        let plus = walk.take_sum(self.x, shape.lead);
        let x = walk.first_rows(self.x, shape.rows);
        let dx = walk.recording.computed(shape);
        walk.recording.push(LayerNormReverse {
            dy,
            x,
            weight: self.weight,
            eps: self.eps,
            plus,
            dx,
        });
        if plus.is_some() {
            walk.set(self.x, dx);
        } else {
            walk.contribute(self.x, dx);
        }
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let weight = context.read(self.weight).all();
        let bias = context.read(self.bias).all();
        let (cols, eps) = (x.shape.cols, T::from_f32(self.eps));
        for (y, n) in y.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, y, cols, |row, y| {
                T::normalise(&x[row * cols..(row + 1) * cols], weight, bias, eps, y);
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let x = recording.shape(self.x);
        let rows = x.lead * x.rows;
        vec![Launch {
            shader: "layer_norm",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("rows", rows.into()),
                ("rows_x", (x.lead * x.rows).into()),
                ("cols", x.cols.into()),
                ("eps", self.eps.into()),
            ],
            bindings: vec![
                ("x", self.x.into()),
                ("weight", self.weight.into()),
                ("bias", self.bias.into()),
                ("y", self.y.into()),
            ],
            extent: Extent::rows(rows),
        }]
    }
}

impl Operate for LayerNormReverse {
    const NAME: &'static str = "layer_norm_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        let all = [self.dy, self.x, self.weight];
        all.into_iter().chain(self.plus).collect()
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut dx = context.take(self.dx);
        let (dy, x) = (context.read(self.dy), context.read(self.x));
        let plus = self.plus.map(|id| context.read(id));
        let weight = context.read(self.weight).all();
        let (cols, eps) = (x.shape.cols, T::from_f32(self.eps));
        for (dx, n) in dx.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            let (dy, x, plus) = (dy.at(n), x.at(n), plus.map(|plus| plus.at(n)));
            each_block(context.parallel, dx, cols, |row, dx| {
                let row = row * cols..(row + 1) * cols;
                match plus {
                    Some(plus) => dx.copy_from_slice(&plus[row.clone()]),
                    None => dx.fill(T::default()),
                }
                T::normalise_reverse(&x[row.clone()], weight, eps, &dy[row], dx);
            });
        }
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let x = recording.shape(self.x);
        let rows = recording.shape(self.dx).lead * x.rows;
        vec![Launch {
            shader: "layer_norm",
            entry: "reverse",
            overrides: vec![("HAS_PLUS", f64::from(self.plus.is_some()))],
            params: vec![
                ("rows", rows.into()),
                ("rows_x", (x.lead * x.rows).into()),
                ("cols", x.cols.into()),
                ("eps", self.eps.into()),
            ],
            bindings: vec![
                ("dy", self.dy.into()),
                ("x", self.x.into()),
                ("weight", self.weight.into()),
                ("plus", self.plus.into()),
                ("dx", self.dx.into()),
            ],
            extent: Extent::rows(rows),
        }]
    }
}
