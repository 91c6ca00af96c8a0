//! Products of f32 by tiles that stay in registers, for processors with AVX2 or
//! AVX-512.
//!
//! The right factor lies in **panels** of 16 columns, one row of a panel behind
//! the other; some rows of one or two panels are summed in as many registers as
//! there are, and the left factor is read where it lies, rows or columns. What
//! is multiplied often, weights above all, is put into panels once; `gemm` does so
//! in each call.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
mod avx512;

/// Columns of a panel.
pub const PANEL: usize = 16;

/// Rows that are worth a call: whole tiles of either kind.
pub const BAND: usize = 24;

/// Products that are summed one after the other, before the sum is added to
/// others: long sums lose digits.
#[cfg(target_arch = "x86_64")]
const RUN: usize = 256;

/// Adds the product with some panels to some rows of `c`, or writes it there:
/// `c = scale · a · b (+ c)`. Row by row of tiles, so that `c` is written in the
/// order of its memory.
///
/// # Safety
/// The processor has what the tiles were made for; `a` is readable wherever its
/// strides lead for `rows` and `inner`, `b` for `inner` rows of [`PANEL`] for every
/// panel that `cols` need, and `c` may be written for `rows` rows, `c_row` apart,
/// of `cols`.
pub type Tiles<T> = unsafe fn(Job<T>);

/// What [`Tiles`] is to do.
#[derive(Clone, Copy)]
pub struct Job<T> {
    pub rows: usize,
    pub cols: usize,
    pub inner: usize,
    pub a: *const T,
    /// Elements between rows of `a`, and between its columns.
    pub a_row: usize,
    pub a_col: usize,
    pub b: *const T,
    pub c: *mut T,
    pub c_row: usize,
    pub scale: T,
    pub accumulate: bool,
}

/// The tiles of this processor; none where there is nothing better than `gemm`.
#[cfg(target_arch = "x86_64")]
pub fn of_f32() -> Option<Tiles<f32>> {
    #[cfg(feature = "avx512")]
    if is_x86_feature_detected!("avx512f") {
        return Some(avx512::product);
    }
    let fits = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    fits.then_some(avx2::product as Tiles<f32>)
}

#[cfg(not(target_arch = "x86_64"))]
pub fn of_f32() -> Option<Tiles<f32>> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::engine::native::linalg::tests::{numbers, rounding};

    #[test]
    fn avx2_gives_the_product() {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            gives_the_product(avx2::product);
        } else {
            println!("no AVX2: nothing to test");
        }
    }

    #[cfg(feature = "avx512")]
    #[test]
    fn avx512_gives_the_product() {
        if is_x86_feature_detected!("avx512f") {
            gives_the_product(avx512::product);
        } else {
            println!("no AVX-512: nothing to test");
        }
    }

    /// Sizes around those of tiles, panels and runs, against sums in f64; each row
    /// is the same bits whatever rows come with it, and nothing is written beside.
    fn gives_the_product(tiles: Tiles<f32>) {
        const APART: usize = 3;
        const HEIGHT: usize = 26;
        let sizes: [(usize, usize); 6] =
            [(1, 1), (255, 16), (256, 17), (257, 40), (600, 5), (3, 64)];
        for (inner, cols) in sizes {
            let (a, panels) = (numbers(HEIGHT * inner, 1), cols.div_ceil(PANEL));
            let mut b = vec![0.0; panels * PANEL * inner];
            let w = numbers(inner * cols, 2);
            for (index, &w) in w.iter().enumerate() {
                let (k, col) = (index / cols, index % cols);
                b[(col / PANEL * inner + k) * PANEL + col % PANEL] = w;
            }
            for by_columns in [false, true] {
                let (a_row, a_col) = if by_columns { (1, HEIGHT) } else { (inner, 1) };
                let product = |rows: usize, accumulate: bool| {
                    let mut c = numbers(HEIGHT * (cols + APART), 3);
                    let job = Job {
                        rows,
                        cols,
                        inner,
                        a: a.as_ptr(),
                        a_row,
                        a_col,
                        b: b.as_ptr(),
                        c: c.as_mut_ptr(),
                        c_row: cols + APART,
                        scale: 0.5,
                        accumulate,
                    };
                    // SAFETY: the processor has what they need, and all are as long as that.
                    unsafe { tiles(job) };
                    c
                };
                let before = numbers(HEIGHT * (cols + APART), 3);
                for accumulate in [false, true] {
                    let all = product(HEIGHT, accumulate);
                    for rows in 1..HEIGHT {
                        let some = product(rows, accumulate);
                        let (own, rest) = some.split_at(rows * (cols + APART));
                        assert_eq!(own, &all[..own.len()]);
                        assert_eq!(rest, &before[own.len()..]);
                    }
                    for (index, (&got, &before)) in all.iter().zip(&before).enumerate() {
                        let (row, col) = (index / (cols + APART), index % (cols + APART));
                        if col >= cols {
                            assert_eq!(got, before);
                            continue;
                        }
                        let at = |k: usize| f64::from(a[row * a_row + k * a_col]);
                        let product = |k: usize| at(k) * f64::from(w[k * cols + col]);
                        let start = if accumulate { f64::from(before) } else { 0.0 };
                        let want = start + 0.5 * (0..inner).map(product).sum::<f64>();
                        let magnitude = (0..inner).map(|k| 0.5 * product(k).abs()).sum::<f64>();
                        let allowed = rounding(inner, start.abs() + magnitude);
                        assert!((f64::from(got) - want).abs() <= allowed, "{got} {want}");
                    }
                }
            }
        }
    }
}
