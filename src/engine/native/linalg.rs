//! Matrix products behind checked views: through the `gemm` crates, and by
//! tiles of our own where the right factor is a [`Factor`] that serves often.
//!
//! The crates for f32 and f64 are called directly: the crate `gemm` itself brings
//! kernels for f16 and complex numbers too, which take long to compile.

use std::ops::Range;

use gemm_common::Parallelism;
use rayon::prelude::*;

use super::context::each_block;
use super::real::Real;
use super::tiles::{Job, PANEL};

/// `dst = alpha · dst + beta · lhs · rhs` of (rows, columns, inner), with a
/// column and a row stride behind every pointer; whether dst is read; whether
/// each is conjugated, which real numbers are not.
pub type Gemm<T> = unsafe fn(
    usize,
    usize,
    usize,
    *mut T,
    isize,
    isize,
    bool,
    *const T,
    isize,
    isize,
    *const T,
    isize,
    isize,
    T,
    T,
    bool,
    bool,
    bool,
    Parallelism,
);

/// A matrix that looks at a slice: element (r, c) at r·row_stride + c·col_stride.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    pub rows: usize,
    pub cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows of `cols` adjacent elements, `row_stride` apart.
    pub fn new(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride, 1);
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// Row `r`, where its elements are adjacent.
    pub fn row(&self, r: usize) -> &'a [T] {
        assert_eq!(self.col_stride, 1);
        &self.data[r * self.row_stride..r * self.row_stride + self.cols]
    }

    /// Some of the rows, one at least.
    pub fn some_rows(self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && !rows.is_empty());
        Self {
            data: &self.data[rows.start * self.row_stride..],
            rows: rows.len(),
            ..self
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A matrix to write, rows of adjacent elements.
pub struct MatrixMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride, 1);
        Self {
            data,
            rows,
            cols,
            row_stride,
        }
    }
}

fn check(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) {
    if rows > 0 && cols > 0 {
        let last = (rows - 1) * row_stride + (cols - 1) * col_stride;
        assert!(
            last < len,
            "a {rows} x {cols} matrix ends past its {len} elements"
        );
    }
}

/// `y = scale · a · b`, added to what is there if `accumulate`.
///
/// # Panics
/// If the sizes do not fit.
pub fn multiply<T: Real>(
    a: Matrix<T>,
    b: Matrix<T>,
    scale: T,
    accumulate: bool,
    y: MatrixMut<T>,
    parallel: bool,
) {
    assert!(a.cols == b.rows && a.rows == y.rows && b.cols == y.cols);
    if y.rows == 0 || y.cols == 0 {
        return;
    }
    let parallelism = if parallel && a.rows * a.cols * b.cols > 64 * 64 * 64 {
        Parallelism::Rayon(0)
    } else {
        Parallelism::None
    };
    // The kernels go down columns: y' = b' · a' where y has rows.
    let (a, b, col_stride, row_stride) = match y.row_stride > 1 {
        true => (b.transposed(), a.transposed(), y.row_stride, 1),
        false => (a, b, 1, y.row_stride),
    };
    // SAFETY: every view was checked against its slice when it was made, the
    // sizes fit, and `y` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        T::gemm()(
            a.rows,
            b.cols,
            a.cols,
            y.data.as_mut_ptr(),
            col_stride as isize,
            row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::from_f32(1.0),
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The right factor of many products, (inner, cols), as they like it best: by
/// panels where there are tiles for this processor, else dense rows.
#[derive(Clone, Copy)]
pub struct Factor<'a, T> {
    data: &'a [T],
    inner: usize,
    pub cols: usize,
}

/// Numbers in a factor (inner, cols).
pub fn factor_len<T: Real>(inner: usize, cols: usize) -> usize {
    match T::tiles() {
        Some(_) => inner * cols.next_multiple_of(PANEL),
        None => inner * cols,
    }
}

impl<'a, T: Real> Factor<'a, T> {
    /// What [`pack`](Self::pack) wrote.
    ///
    /// # Panics
    /// If it is not that long.
    pub fn new(data: &'a [T], inner: usize, cols: usize) -> Self {
        assert!(data.len() >= factor_len::<T>(inner, cols));
        Self { data, inner, cols }
    }

    /// Copies a matrix together, over threads if `parallel`.
    ///
    /// # Panics
    /// If it does not fit into `to`.
    pub fn pack(matrix: Matrix<T>, to: &'a mut [T], parallel: bool) -> Self {
        /// Rows that a thread takes at once where all columns are one panel.
        const ROWS: usize = 64;
        let (inner, cols) = (matrix.rows, matrix.cols);
        let to = &mut to[..factor_len::<T>(inner, cols)];
        let (width, height) = match T::tiles() {
            Some(_) => (PANEL, inner),
            None => (cols, ROWS),
        };
        each_block(parallel, to, width * height, |index, part| {
            let (rows, own) = match T::tiles() {
                Some(_) => (0..inner, index * width..cols.min((index + 1) * width)),
                None => (index * height..inner.min((index + 1) * height), 0..cols),
            };
            if own.len() < width {
                part.fill(T::default());
            }
            matrix.copy_part(rows, own, part, width);
        });
        Self::new(to, inner, cols)
    }
}

impl<T: Real> Matrix<'_, T> {
    /// Writes some rows of some columns, `width` apart.
    fn copy_part(&self, rows: Range<usize>, cols: Range<usize>, to: &mut [T], width: usize) {
        /// Whole lines of the cache are read and written by squares: columns of a
        /// matrix with many are each on pages of their own.
        const SIDE: usize = 16;
        if self.col_stride == 1 {
            for (row, to) in rows.zip(to.chunks_mut(width)) {
                let from = &self.row(row)[cols.clone()];
                match (to.first_chunk_mut::<PANEL>(), from.first_chunk::<PANEL>()) {
                    // Without a call.
                    (Some(to), Some(whole)) if from.len() == PANEL => *to = *whole,
                    _ => to[..from.len()].copy_from_slice(from),
                }
            }
            return;
        }
        for first in rows.clone().step_by(SIDE) {
            let some = first..rows.end.min(first + SIDE);
            for square in cols.clone().step_by(SIDE) {
                for col in square..cols.end.min(square + SIDE) {
                    let from = &self.data[col * self.col_stride..];
                    for row in some.clone() {
                        to[(row - rows.start) * width + col - cols.start] =
                            from[row * self.row_stride];
                    }
                }
            }
        }
    }
}

/// `y = scale · a · b`, added to what is there if `accumulate`; over threads if
/// `parallel`. The numbers do not depend on that.
///
/// # Panics
/// If the sizes do not fit.
pub fn multiply_by_factor<T: Real>(
    a: Matrix<T>,
    b: Factor<T>,
    scale: T,
    accumulate: bool,
    y: MatrixMut<T>,
    parallel: bool,
) {
    /// Bytes of panels that are multiplied by all rows before the next: they stay
    /// in a core's second cache.
    const GROUP_BYTES: usize = 256 << 10;
    let Some(tiles) = T::tiles() else {
        let b = Matrix::new(b.data, b.inner, b.cols, b.cols);
        return multiply(a, b, scale, accumulate, y, parallel);
    };
    assert!(a.cols == b.inner && a.rows == y.rows && b.cols == y.cols);
    if y.rows == 0 || y.cols == 0 {
        return;
    }
    let to = Shared(y.data.as_mut_ptr());
    let panels = (GROUP_BYTES / size_of::<T>() / (PANEL * b.inner).max(1)).max(1);
    let width = panels * PANEL;
    let one = |group: usize| {
        let first = group * width;
        let cols = width.min(b.cols - first);
        let from = &b.data[first * b.inner..][..cols.next_multiple_of(PANEL) * b.inner];
        // SAFETY: every view was checked against its slice when it was made and
        // the sizes fit; `y` is borrowed mutably, and groups write columns of
        // their own. `tiles` are those of this processor.
        unsafe {
            tiles(Job {
                rows: a.rows,
                cols,
                inner: b.inner,
                a: a.data.as_ptr(),
                a_row: a.row_stride,
                a_col: a.col_stride,
                b: from.as_ptr(),
                c: to.get().add(first),
                c_row: y.row_stride,
                scale,
                accumulate,
            });
        }
    };
    let groups = b.cols.div_ceil(width);
    if parallel && a.rows * a.cols * b.cols > 64 * 64 * 64 {
        (0..groups).into_par_iter().for_each(one);
    } else {
        (0..groups).for_each(one);
    }
}

/// A pointer that several threads write through, each to places of its own.
struct Shared<T>(*mut T);

// SAFETY: see there.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0;
        (0..count).map(number).collect()
    }

    /// Sums in f64 of what f32 operands hold.
    fn exact(a: Matrix<f32>, b: Matrix<f32>) -> Vec<f64> {
        let at = |m: &Matrix<f32>, r: usize, c: usize| {
            f64::from(m.data[r * m.row_stride + c * m.col_stride])
        };
        let mut all = Vec::new();
        for r in 0..a.rows {
            for c in 0..b.cols {
                all.push((0..a.cols).map(|k| at(&a, r, k) * at(&b, k, c)).sum());
            }
        }
        all
    }

    /// Both factors lying either way, sizes around those of tiles and panels,
    /// rows of the result apart from each other.
    #[test]
    fn factors_give_the_product_and_touch_nothing_else() {
        const APART: usize = 5;
        let sizes = [
            (1, 1, 1),
            (6, 3, 16),
            (7, 5, 17),
            (13, 64, 31),
            (5, 1, 33),
            (24, 70, 48),
        ];
        for (rows, inner, cols) in sizes {
            let (x, w) = (numbers(rows * inner, 1), numbers(inner * cols, 2));
            for turned in [[false, false], [false, true], [true, false], [true, true]] {
                let view = |data, rows, cols, turned| match turned {
                    false => Matrix::new(data, rows, cols, cols),
                    true => Matrix::new(data, cols, rows, rows).transposed(),
                };
                let a = view(x.as_slice(), rows, inner, turned[0]);
                let b = view(w.as_slice(), inner, cols, turned[1]);
                let want = exact(a, b);
                let mut packed = vec![f32::NAN; factor_len::<f32>(inner, cols)];
                let factor = Factor::pack(b, &mut packed, turned[0]);
                for (accumulate, parallel) in [(false, false), (true, false), (true, true)] {
                    let before = numbers(rows * (cols + APART), 3);
                    let mut y = before.clone();
                    let out = MatrixMut::new(&mut y, rows, cols, cols + APART);
                    multiply_by_factor(a, factor, 0.5, accumulate, out, parallel);
                    for (index, (&got, &before)) in y.iter().zip(&before).enumerate() {
                        let (r, c) = (index / (cols + APART), index % (cols + APART));
                        if c >= cols {
                            assert_eq!(got, before);
                            continue;
                        }
                        let start = if accumulate { f64::from(before) } else { 0.0 };
                        let want = start + 0.5 * want[r * cols + c];
                        assert!(
                            (f64::from(got) - want).abs() <= 1e-6 * inner as f64,
                            "{rows} {inner} {cols} {turned:?}: {got} {want}"
                        );
                    }
                }
            }
        }
    }

    /// Tiles wherever the processor can run them, also where `gemm` is chosen.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn rows_of_a_product_do_not_depend_on_the_others() {
        let (inner, cols) = (70, 20);
        let (x, w) = (numbers(20 * inner, 1), numbers(inner * cols, 2));
        let mut packed = vec![0.0; factor_len::<f32>(inner, cols)];
        let factor = Factor::pack(Matrix::new(&w, inner, cols, cols), &mut packed, false);
        let product = |rows: Range<usize>| {
            let mut y = vec![0.0; rows.len() * cols];
            let out = MatrixMut::new(&mut y, rows.len(), cols, cols);
            let a = Matrix::new(&x, 20, inner, inner).some_rows(rows);
            multiply_by_factor(a, factor, 1.0, false, out, false);
            y
        };
        let all = product(0..20);
        if f32::tiles().is_some() {
            for rows in 1..20 {
                assert_eq!(product(0..rows), all[..rows * cols]);
            }
        }
    }
}
