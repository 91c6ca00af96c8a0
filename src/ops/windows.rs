//! Windows over time, which make a convolution a product with a weight matrix
//! (outputs, k·C): a row of the product's input is k frames side by side.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};

/// Window t of x (T, C) is the frames from t·stride - padding on, `kernel` of
/// them; frames outside x are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// k
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Windows {
    /// How many there are over `frames` frames, if there is one.
    pub fn count(&self, frames: usize) -> Option<usize> {
        let rest = (frames + 2 * self.padding).checked_sub(self.kernel)?;
        (self.kernel > 0).then_some(rest.checked_div(self.stride)? + 1)
    }
}

/// Sums windows back into frames, where they came from: the reverse of reading
/// them.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// (K·B, T2, k·C)
    pub dy: TensorId,
    pub windows: Windows,
    /// (K·B, T, C)
    pub dx: TensorId,
}

impl Operate for Fold {
    const NAME: &'static str = "fold";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let Windows {
            kernel,
            stride,
            padding,
        } = self.windows;
        let mut dx = context.take(self.dx);
        let dy = context.read(self.dy);
        let Shape { rows, cols, .. } = dy.shape;
        let out = context.shape(self.dx);
        for (dx, n) in dx.chunks_mut(out.inner()).zip(context.leads.clone()) {
            let dy = dy.at(n);
            each_block(context.parallel, dx, out.cols, |s, dx| {
                dx.fill(T::default());
                // x[s] went to (t, j) with t·stride + j = s + padding.
                let first = (s + padding + 1).saturating_sub(kernel);
                for t in first.div_ceil(stride)..rows {
                    let Some(j) = (s + padding).checked_sub(t * stride) else {
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
            shader: "fold",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", count.into()),
                ("rows", x.rows.into()),
                ("cols", x.cols.into()),
                ("frames", frames.into()),
                ("kernel", self.windows.kernel.into()),
                ("stride", self.windows.stride.into()),
                ("padding", self.windows.padding.into()),
            ],
            bindings: vec![("dy", self.dy.into()), ("dx", self.dx.into())],
            extent: Extent::Invocations(count),
        }]
    }
}
