//! Windows over time, which make a convolution a product with a weight matrix
//! (outputs, k·C): a row of the product's input is k frames side by side.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Shape, TensorId};
use crate::{Error, Result};

/// Window t of x (T, C) is the frames from t·stride - padding on, `kernel` of
/// them; frames outside x are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// k
    pub kernel: usize,
    pub stride: usize,
    /// Frames of zeros before the first.
    pub padding: usize,
    /// Frames of zeros behind the last.
    pub behind: usize,
}

impl Windows {
    /// With so many frames of zeros at either end.
    pub const fn padded(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel,
            stride,
            padding,
            behind: padding,
        }
    }

    /// Those that end with the frame they are of, the first with frame 0, and so many
    /// frames of zeros behind the last.
    pub const fn causal(kernel: usize, stride: usize, behind: usize) -> Self {
        Self {
            kernel,
            stride,
            padding: kernel - 1,
            behind,
        }
    }

    /// How many there are over `frames` frames, if there is one.
    pub fn count(&self, frames: usize) -> Option<usize> {
        let rest = (frames + self.padding + self.behind).checked_sub(self.kernel)?;
        (self.kernel > 0).then_some(rest.checked_div(self.stride)? + 1)
    }
}

/// Windows side by side, as rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfold {
    /// (N, T, C)
    pub x: TensorId,
    pub windows: Windows,
    /// (N, T2, k·C)
    pub y: TensorId,
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

impl Recording {
    /// Records the windows of x (N, T, C) as rows (N, T2, k·C).
    ///
    /// # Errors
    /// If there is none.
    pub fn unfold(&mut self, x: TensorId, windows: Windows) -> Result<TensorId> {
        let Shape { lead, rows, cols } = self.shape(x);
        let Some(count) = windows.count(rows) else {
            let kernel = windows.kernel;
            let problem = format!("{rows} frames are fewer than a window of {kernel}");
            return Err(Error::shape(Unfold::NAME, problem));
        };
        let y = self.computed(Shape::new(lead, count, windows.kernel * cols));
        self.push(Unfold { x, windows, y });
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
        let dx = walk.new_cotangent(self.x, walk.recording.shape(dy).lead);
        let windows = self.windows;
        walk.recording.push(Fold { dy, windows, dx });
        walk.contribute(self.x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let Windows {
            stride, padding, ..
        } = self.windows;
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let Shape { rows, cols, .. } = x.shape;
        let out = context.shape(self.y);
        for (y, n) in y.chunks_mut(out.inner()).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, y, out.cols, |t, y| {
                for (j, y) in y.chunks_mut(cols).enumerate() {
                    match (t * stride + j).checked_sub(padding) {
                        Some(s) if s < rows => y.copy_from_slice(&x[s * cols..(s + 1) * cols]),
                        _ => y.fill(T::default()),
                    }
                }
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (x, y) = (recording.shape(self.x), recording.shape(self.y));
        vec![Launch {
            shader: "unfold",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", y.len().into()),
                ("rows", x.rows.into()),
                ("cols", x.cols.into()),
                ("frames", y.rows.into()),
                ("kernel", self.windows.kernel.into()),
                ("stride", self.windows.stride.into()),
                ("padding", self.windows.padding.into()),
            ],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::Invocations(y.len()),
        }]
    }
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
            ..
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
