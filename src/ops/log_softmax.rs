//! Logarithm of the softmax over the columns.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::{Real, max};
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// y = x - log(sum(exp(x)))
#[derive(Clone, Debug, PartialEq)]
pub struct LogSoftmax {
    /// (N, R, V)
    pub x: TensorId,
    /// (N or fewer, R, V), natural logarithms of x's first lead rows
    pub y: TensorId,
}

impl Recording {
    /// Records the log-softmax of the columns of x (N, R, V).
    pub fn log_softmax(&mut self, x: TensorId) -> TensorId {
        self.first_log_softmax(x, self.shape(x).lead)
    }

    /// As [`log_softmax`](Self::log_softmax), of the first `lead` lead rows.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn first_log_softmax(&mut self, x: TensorId, lead: usize) -> TensorId {
        let shape = self.shape(x);
        assert!(lead <= shape.lead, "{lead} rows are not in {shape}");
        let y = self.computed(shape.with_lead(lead));
        self.push(LogSoftmax { x, y });
        y
    }
}

/// Logarithm of the sum of exponentials of one row; `scratch` is as long.
pub(super) fn log_sum_exp<T: Real>(row: &[T], scratch: &mut [T]) -> T {
    let most = row.iter().copied().reduce(max).unwrap_or_default();
    scratch.copy_from_slice(row);
    most + T::exp_sum(scratch, most).ln()
}

impl Operate for LogSoftmax {
    const NAME: &'static str = "log_softmax";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let cols = x.shape.cols;
        for (y, n) in y.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, y, cols, |row, y| {
                let x = &x[row * cols..(row + 1) * cols];
                let sum = log_sum_exp(x, y);
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x - sum;
                }
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let y = recording.shape(self.y);
        let rows = y.lead * y.rows;
        vec![Launch {
            shader: "log_softmax",
            entry: "forward",
            overrides: vec![],
            params: vec![("rows", rows.into()), ("cols", y.cols.into())],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::rows(rows),
        }]
    }
}
