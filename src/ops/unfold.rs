//! Unfolding of time into columns, which makes a convolution a product with a
//! weight matrix (outputs, k·C).

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Shape, TensorId};
use crate::{Error, Result};

/// y[t, j·C + c] = x[t·stride + j - padding, c], 0 outside x
#[derive(Clone, Debug, PartialEq)]
pub struct Unfold {
    /// (N, T, C)
    pub x: TensorId,
    /// k
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// (N, (T + 2·padding - k) / stride + 1, k·C)
    pub y: TensorId,
}

/// Reverse of [`Unfold`]: every input element gathers from where it went.
#[derive(Clone, Debug, PartialEq)]
pub struct UnfoldReverse {
    /// (K·B, T2, k·C)
    pub dy: TensorId,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// (K·B, T, C)
    pub dx: TensorId,
}

impl Recording {
    /// Records the unfolding of x (N, T, C) for a convolution.
    ///
    /// # Errors
    /// If the padded sequence is shorter than the kernel.
    pub fn unfold(
        &mut self,
        x: TensorId,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<TensorId> {
        let shape = self.shape(x);
        let padded = shape.rows + 2 * padding;
        if padded < kernel || stride == 0 || kernel == 0 {
            return Err(Error::shape(
                Unfold::NAME,
                format!("{} frames are too few for a kernel of {kernel}", shape.rows),
            ));
        }
        let frames = (padded - kernel) / stride + 1;
        let y = self.computed(Shape::new(shape.lead, frames, kernel * shape.cols));
        self.push(Unfold {
            x,
            kernel,
            stride,
            padding,
            y,
        });
        Ok(y)
    }
}

impl Operate for Unfold {
    const NAME: &'static str = "unfold";

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
        walk.recording.push(UnfoldReverse {
            dy,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            dx,
        });
        walk.contribute(self.x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let Shape { rows, cols, .. } = x.shape;
        let out = context.shape(self.y);
        for (y, n) in y.chunks_mut(out.inner()).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, y, out.cols, |t, y| {
                for (j, y) in y.chunks_mut(cols).enumerate() {
                    let from = (t * self.stride + j).checked_sub(self.padding);
                    match from.filter(|&from| from < rows) {
                        Some(from) => y.copy_from_slice(&x[from * cols..(from + 1) * cols]),
                        None => y.fill(T::default()),
                    }
                }
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (x, y) = (recording.shape(self.x), recording.shape(self.y));
        let (count, frames) = (y.len(), y.rows);
        vec![Launch {
            shader: "unfold",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", count.into()),
                ("rows", x.rows.into()),
                ("cols", x.cols.into()),
                ("frames", frames.into()),
                ("kernel", self.kernel.into()),
                ("stride", self.stride.into()),
                ("padding", self.padding.into()),
            ],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::Invocations(count),
        }]
    }
}

impl Operate for UnfoldReverse {
    const NAME: &'static str = "unfold_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut dx = context.take(self.dx);
        let dy = context.read(self.dy);
        let Shape { rows, cols, .. } = dy.shape;
        let out = context.shape(self.dx);
        for (dx, n) in dx.chunks_mut(out.inner()).zip(context.leads.clone()) {
            let dy = dy.at(n);
            each_block(context.parallel, dx, out.cols, |s, dx| {
                dx.fill(T::default());
                // x[s] went to (t, j) with t·stride + j = s + padding.
                let first = (s + self.padding + 1).saturating_sub(self.kernel);
                for t in first.div_ceil(self.stride)..rows {
                    let Some(j) = (s + self.padding).checked_sub(t * self.stride) else {
                        break;
                    };
                    let begin = t * cols + j * out.cols;
                    T::axpy(T::from_f32(1.0), &dy[begin..begin + out.cols], dx);
                }
            });
        }
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let x = recording.shape(self.dx);
        let (count, frames) = (x.len(), recording.shape(self.dy).rows);
        vec![Launch {
            shader: "unfold",
            entry: "reverse",
            overrides: vec![],
            params: vec![
                ("count", count.into()),
                ("rows", x.rows.into()),
                ("cols", x.cols.into()),
                ("frames", frames.into()),
                ("kernel", self.kernel.into()),
                ("stride", self.stride.into()),
                ("padding", self.padding.into()),
            ],
            bindings: vec![("dy", self.dy.into()), ("dx", self.dx.into())],
            extent: Extent::Invocations(count),
        }]
    }
}
