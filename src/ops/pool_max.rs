//! Pooling of a map over frequency and time to the encoder's frames.

use std::ops::Range;

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::{Real, max};
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// y[k, j] = largest x[k, t, f] over all f and the frames t of j
#[derive(Clone, Debug, PartialEq)]
pub struct PoolMax {
    /// (K, T, F)
    pub x: TensorId,
    /// (K, T', 1)
    pub y: TensorId,
}

/// Input frames of encoder frame `j`: floor(j·T/T') to ceil((j+1)·T/T').
pub fn pooled_frames(j: usize, frames: usize, pooled: usize) -> Range<usize> {
    j * frames / pooled..((j + 1) * frames).div_ceil(pooled)
}

impl Operate for PoolMax {
    const NAME: &'static str = "pool_max";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let (frames, cols) = (x.shape.rows, x.shape.cols);
        let pooled = context.shape(self.y).rows;
        for (y, k) in y.chunks_mut(pooled).zip(context.leads.clone()) {
            for (j, y) in y.iter_mut().enumerate() {
                let range = pooled_frames(j, frames, pooled);
                let block = &x.at(k)[range.start * cols..range.end * cols];
                *y = block.iter().copied().reduce(max).unwrap_or_default();
            }
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (x, y) = (recording.shape(self.x), recording.shape(self.y));
        vec![Launch {
            shader: "pool_max",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", y.len().into()),
                ("pooled", y.rows.into()),
                ("rows", x.rows.into()),
                ("cols", x.cols.into()),
            ],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::rows(y.len()),
        }]
    }
}
