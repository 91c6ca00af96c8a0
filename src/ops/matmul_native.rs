//! Products with a weight on the processor.
//!
//! Rows are taken by blocks: what goes in before a product (bias, residual) and what is
//! done to it (activation) then finds the block in the cache. Where `gemm` multiplies,
//! which copies the weight in each call, a block is all rows.

use rayon::prelude::*;

use super::Activation;
use super::matmul::{Layout, Matmul};
use crate::engine::native::context::{Context, View, each_block};
use crate::engine::native::linalg::{BAND, Factor, Matrix, MatrixMut, factor_len, multiply};
use crate::engine::native::real::Real;

/// Most rows of a block where there are tiles.
const ROWS: usize = 96;

/// Rows of a lead row from which on it is worth making a weight a factor for one
/// call; how many lead rows a call has must not change the numbers.
const WORTH_PACKING: usize = 64;

/// The operator and its operands.
struct Product<'a, T> {
    matmul: &'a Matmul,
    weight: Factor<'a, T>,
    bias: Option<&'a [T]>,
    residual: Option<View<'a, T>>,
    scale: T,
    /// Rows of a lead row's result.
    rows: usize,
    outputs: usize,
    /// The first lead row that is computed.
    first: usize,
    parallel: bool,
}

/// Writes the outputs of `matmul`.
pub(super) fn forward<T: Real>(matmul: &Matmul, context: &mut Context<T>) {
    let mut y = context.take(matmul.y);
    let mut pre = matmul.pre.map(|id| (id, context.take(id)));
    let leads = context.leads.clone();
    let (x_shape, shape) = (context.shape(matmul.x), context.shape(matmul.weight));
    let padded = matmul.padded(&x_shape);
    let rows = context.shape(matmul.y).rows;
    let (inner, outputs) = match matmul.layout {
        Layout::OutIn => (shape.cols, shape.rows),
        Layout::InOut => (shape.rows, shape.cols),
    };
    let known = match matmul.layout {
        Layout::OutIn => context.transposed_factor(matmul.weight),
        Layout::InOut => None,
    };
    let pack = known.is_none() && T::tiles().is_some() && rows >= WORTH_PACKING;
    let packed = if pack {
        factor_len::<T>(inner, outputs)
    } else {
        0
    };
    let mut scratch = context.take_scratch(padded + packed);
    let (padded, packed) = scratch.split_at_mut(padded);
    let x = context.read(matmul.x);
    let weight = context.read(matmul.weight).all();
    let weight = Matrix::new(weight, shape.rows, shape.cols, shape.cols);
    let weight = match matmul.layout {
        Layout::OutIn => weight.transposed(),
        Layout::InOut => weight,
    };
    let product = Product {
        matmul,
        weight: match known {
            Some(factor) => factor,
            None if pack => Factor::pack(weight, packed, context.parallel),
            None => weight.into(),
        },
        bias: matmul.bias.map(|id| context.read(id).all()),
        residual: matmul.residual.map(|id| context.read(id)),
        scale: T::from_f32(matmul.scale),
        rows,
        outputs,
        first: leads.start,
        parallel: context.parallel,
    };
    let pre_values = pre.as_mut().map_or(&mut [][..], |(_, pre)| &mut pre[..]);
    match matmul.windows {
        None => {
            let x = Matrix::new(x.range(&leads), leads.len() * rows, inner, inner);
            product.all(x, 0, &mut y, pre_values);
        }
        Some(windows) => {
            // Windows are rows that overlap, once the zeros are there.
            padded.fill(T::default());
            let begin = windows.padding * x_shape.cols;
            let apart = windows.stride * x_shape.cols;
            let size = rows * outputs;
            let parts = parts(&mut y, size, leads.len());
            let parts = parts.zip(self::parts(pre_values, size, leads.len()));
            for ((index, n), (y, pre)) in leads.clone().enumerate().zip(parts) {
                padded[begin..begin + x_shape.inner()].copy_from_slice(x.at(n));
                product.all(
                    Matrix::new(padded, rows, inner, apart),
                    index * rows,
                    y,
                    pre,
                );
            }
        }
    }
    context.give_scratch(scratch);
    context.give(matmul.y, y);
    if let Some((id, pre)) = pre {
        context.give(id, pre);
    }
}

/// So many parts of `size`; empty ones of what nobody reads.
fn parts<T>(values: &mut [T], size: usize, count: usize) -> impl Iterator<Item = &mut [T]> {
    let mut chunks = values.chunks_mut(size.max(1));
    (0..count).map(move |_| chunks.next().unwrap_or_default())
}

impl<T: Real> Product<'_, T> {
    /// All rows of x, which are those from `row` on of this call.
    fn all(&self, x: Matrix<T>, row: usize, y: &mut [T], pre: &mut [T]) {
        let threads = if self.parallel {
            rayon::current_num_threads()
        } else {
            1
        };
        let height = match self.weight {
            Factor::Panels(_) => x.rows.div_ceil(threads).clamp(BAND, ROWS),
            Factor::Plain(_) => x.rows,
        };
        let count = x.rows.div_ceil(height.max(1));
        let size = height * self.outputs;
        let blocks = parts(y, size, count)
            .zip(parts(pre, size, count))
            .enumerate();
        let work = |(index, (y, pre)): (usize, (&mut [T], &mut [T])), parallel: bool| {
            let first = index * height;
            let x = x.some_rows(first..x.rows.min(first + height));
            self.block(x, row + first, y, pre, parallel);
        };
        if self.parallel && count > 1 {
            let blocks: Vec<_> = blocks.collect();
            blocks.into_par_iter().for_each(|block| work(block, false));
        } else {
            blocks.for_each(|block| work(block, self.parallel));
        }
    }

    /// Some rows of x, which are those from `row` on of this call.
    fn block(&self, x: Matrix<T>, row: usize, y: &mut [T], pre: &mut [T], parallel: bool) {
        let activation = self.matmul.activation;
        let linear = activation == Activation::None;
        let residual = |index: usize| {
            let row = row + index;
            self.residual.map(|residual| {
                let from = residual.at(self.first + row / self.rows);
                &from[row % self.rows * self.outputs..][..self.outputs]
            })
        };
        // Bias or residual go in first and the product is added to them, so
        // that the result is passed over once less.
        let scale = if linear { self.scale } else { T::from_f32(1.0) };
        let accumulate = self.bias.is_some() || (linear && self.residual.is_some());
        // Without y it goes to `pre` at once.
        let only_pre = y.is_empty();
        let product = if only_pre { &mut *pre } else { &mut *y };
        if accumulate {
            each_block(parallel, product, self.outputs, |index, y| {
                match residual(index).filter(|_| linear) {
                    Some(residual) => y.copy_from_slice(residual),
                    None => y.fill(T::default()),
                }
                if let Some(bias) = self.bias {
                    T::axpy(scale, bias, y);
                }
            });
        }
        let out = MatrixMut::new(product, x.rows, self.outputs, self.outputs);
        multiply(x, self.weight, scale, accumulate, out, parallel);
        if linear || only_pre {
            return;
        }
        if !pre.is_empty() {
            pre.copy_from_slice(y);
        }
        each_block(parallel, y, self.outputs, |index, y| {
            T::activate_in_place(activation, self.scale, y);
            if let Some(residual) = residual(index) {
                T::axpy(T::from_f32(1.0), residual, y);
            }
        });
    }
}
