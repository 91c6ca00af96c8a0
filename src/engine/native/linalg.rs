//! Matrix products through the `gemm` crates, behind checked views.
//!
//! Those for f32 and f64 are called directly: the crate `gemm` itself brings
//! kernels for f16 and complex numbers too, which take long to compile.

use std::ops::Range;

use gemm_common::Parallelism;

use super::real::Real;

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
