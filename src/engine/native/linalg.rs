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
pub use super::tiles::BAND;
use super::tiles::{Job, PANEL, Tiles};

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

/// `y = scale · a · b`, added to what is there if `accumulate`; over threads if
/// `parallel`.
///
/// # Panics
/// If the sizes do not fit.
pub fn multiply<'a, T: Real>(
    a: Matrix<T>,
    b: impl Into<Factor<'a, T>>,
    scale: T,
    accumulate: bool,
    y: MatrixMut<T>,
    parallel: bool,
) {
    let b = b.into();
    assert!(a.cols == b.inner() && a.rows == y.rows && b.cols() == y.cols);
    if y.rows == 0 || y.cols == 0 {
        return;
    }
    let parallel = parallel && a.rows * a.cols * y.cols > 64 * 64 * 64;
    match b {
        Factor::Panels(b) => b.multiply(a, scale, accumulate, y, parallel),
        Factor::Plain(b) => by_gemm(a, b, scale, accumulate, y, parallel),
    }
}

fn by_gemm<T: Real>(
    a: Matrix<T>,
    b: Matrix<T>,
    scale: T,
    accumulate: bool,
    y: MatrixMut<T>,
    parallel: bool,
) {
    let parallelism = if parallel {
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

/// The right factor of a product.
#[derive(Clone, Copy)]
pub enum Factor<'a, T> {
    /// For tiles: it serves often, or many rows.
    Panels(Panels<'a, T>),
    /// As it lies, for `gemm`, which copies it together in each call.
    Plain(Matrix<'a, T>),
}

/// A factor (inner, cols) in the order in which tiles read it.
#[derive(Clone, Copy)]
pub struct Panels<'a, T> {
    data: &'a [T],
    inner: usize,
    cols: usize,
    tiles: Tiles<T>,
}

impl<'a, T> From<Matrix<'a, T>> for Factor<'a, T> {
    fn from(matrix: Matrix<'a, T>) -> Self {
        Self::Plain(matrix)
    }
}

/// Numbers in a packed factor (inner, cols).
pub fn factor_len<T: Real>(inner: usize, cols: usize) -> usize {
    match T::tiles() {
        Some(_) => inner * cols.next_multiple_of(PANEL),
        None => inner * cols,
    }
}

impl<'a, T: Real> Factor<'a, T> {
    /// What [`pack`](Self::pack) wrote: panels where there are tiles for this
    /// processor, else dense rows.
    ///
    /// # Panics
    /// If it is not that long.
    pub fn new(data: &'a [T], inner: usize, cols: usize) -> Self {
        assert!(data.len() >= factor_len::<T>(inner, cols));
        match T::tiles() {
            Some(tiles) => Self::Panels(Panels {
                data,
                inner,
                cols,
                tiles,
            }),
            None => Self::Plain(Matrix::new(data, inner, cols, cols)),
        }
    }

    fn inner(&self) -> usize {
        match self {
            Self::Panels(panels) => panels.inner,
            Self::Plain(matrix) => matrix.rows,
        }
    }

    pub fn cols(&self) -> usize {
        match self {
            Self::Panels(panels) => panels.cols,
            Self::Plain(matrix) => matrix.cols,
        }
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

impl<T: Real> Panels<'_, T> {
    /// [`multiply`] by tiles. The numbers depend neither on threads nor on other
    /// rows.
    fn multiply(&self, a: Matrix<T>, scale: T, accumulate: bool, y: MatrixMut<T>, parallel: bool) {
        /// Bytes of panels that are multiplied by all rows before the next: they
        /// stay in a core's second cache.
        const GROUP_BYTES: usize = 256 << 10;
        let Self {
            data,
            inner,
            cols,
            tiles,
        } = *self;
        let panels = (GROUP_BYTES / size_of::<T>() / (PANEL * inner).max(1)).max(1);
        let width = panels * PANEL;
        let height = if parallel { BAND } else { a.rows };
        let to = Shared(y.data.as_mut_ptr());
        let part = |first_row: usize, first: usize| {
            let rows = height.min(a.rows - first_row);
            let cols = width.min(cols - first);
            let from = &data[first * inner..][..cols.next_multiple_of(PANEL) * inner];
            // SAFETY: every view was checked against its slice when it was made
            // and the sizes fit; `y` is borrowed mutably, and parts write rows
            // and columns of their own. `tiles` are those of this processor.
            unsafe {
                tiles(Job {
                    rows,
                    cols,
                    inner,
                    a: a.data.as_ptr().add(first_row * a.row_stride),
                    a_row: a.row_stride,
                    a_col: a.col_stride,
                    b: from.as_ptr(),
                    c: to.get().add(first_row * y.row_stride + first),
                    c_row: y.row_stride,
                    scale,
                    accumulate,
                });
            }
        };
        let (groups, bands) = (cols.div_ceil(width), a.rows.div_ceil(height));
        if parallel {
            let parts = (0..groups * bands).into_par_iter();
            parts.for_each(|index| part(index % bands * height, index / bands * width));
        } else {
            (0..groups).for_each(|group| part(0, group * width));
        }
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
pub(super) mod tests {
    use super::*;

    /// Made-up numbers between -1 and 1.
    pub fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0;
        (0..count).map(number).collect()
    }

    /// What rounding may make of a sum of so many f32 products, whose magnitudes
    /// come to that: the errors of each step add up like a walk at random.
    pub fn rounding(products: usize, magnitude: f64) -> f64 {
        let half_ulp = f64::from(f32::EPSILON) / 2.0;
        half_ulp * (2.0 + (products as f64).sqrt()) * magnitude
    }

    /// Sums in f64 of what f32 operands hold, and of the products' magnitudes.
    fn exact(a: Matrix<f32>, b: Matrix<f32>) -> Vec<(f64, f64)> {
        let at = |m: &Matrix<f32>, r: usize, c: usize| {
            f64::from(m.data[r * m.row_stride + c * m.col_stride])
        };
        let mut all = Vec::new();
        for r in 0..a.rows {
            for c in 0..b.cols {
                let products = (0..a.cols).map(|k| at(&a, r, k) * at(&b, k, c));
                all.push(products.fold((0.0, 0.0), |(sum, magnitude), product| {
                    (sum + product, magnitude + product.abs())
                }));
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
            (61, 600, 18),
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
                    multiply(a, factor, 0.5, accumulate, out, parallel);
                    for (index, (&got, &before)) in y.iter().zip(&before).enumerate() {
                        let (r, c) = (index / (cols + APART), index % (cols + APART));
                        if c >= cols {
                            assert_eq!(got, before);
                            continue;
                        }
                        let start = if accumulate { f64::from(before) } else { 0.0 };
                        let (sum, magnitude) = want[r * cols + c];
                        let want = start + 0.5 * sum;
                        let allowed = rounding(inner, start.abs() + 0.5 * magnitude);
                        assert!(
                            (f64::from(got) - want).abs() <= allowed,
                            "{rows} {inner} {cols} {turned:?}: {got} {want}"
                        );
                    }
                }
            }
        }
    }
}
