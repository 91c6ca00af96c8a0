//! Tiles of 12 rows by two panels, in 32 registers of sixteen numbers.

use std::arch::x86_64::{
    _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::{Job, PANEL, RUN};

/// Rows of a tile: with its two registers of columns 24 sums, two of `b` and one
/// of `a`, of 32 registers.
const ROWS: usize = 12;
/// Rows that one pointer reaches.
const NEAR: usize = 3;
/// Panels of a tile.
const WIDTH: usize = 2;

/// [`super::Tiles`] with AVX-512.
///
/// # Safety
/// As [`super::Tiles`].
#[target_feature(enable = "avx512f")]
pub unsafe fn product(job: Job<f32>) {
    let mut row = 0;
    while row < job.rows {
        let count = (job.rows - row).min(ROWS);
        let mut col = 0;
        while col < job.cols {
            let cols = (job.cols - col).min(WIDTH * PANEL);
            // SAFETY: rows and columns are within the job's.
            unsafe {
                let part = Job {
                    rows: count,
                    cols,
                    a: job.a.add(row * job.a_row),
                    b: job.b.add(col * job.inner),
                    c: job.c.add(row * job.c_row + col),
                    ..job
                };
                if cols > PANEL {
                    rows::<WIDTH>(part);
                } else {
                    rows::<1>(part);
                }
            }
            col += cols;
        }
        row += count;
    }
}

/// The tile of so many rows.
#[target_feature(enable = "avx512f")]
unsafe fn rows<const W: usize>(job: Job<f32>) {
    // SAFETY: that of the job.
    unsafe {
        match job.rows {
            1 => tile::<1, W>(job),
            2 => tile::<2, W>(job),
            3 => tile::<3, W>(job),
            4 => tile::<4, W>(job),
            5 => tile::<5, W>(job),
            6 => tile::<6, W>(job),
            7 => tile::<7, W>(job),
            8 => tile::<8, W>(job),
            9 => tile::<9, W>(job),
            10 => tile::<10, W>(job),
            11 => tile::<11, W>(job),
            _ => tile::<ROWS, W>(job),
        }
    }
}

/// `R` rows of `W` panels. Loops count: what iterators call is compiled for
/// processors without AVX-512, and would not be part of this function.
#[target_feature(enable = "avx512f")]
#[allow(clippy::needless_range_loop)]
unsafe fn tile<const R: usize, const W: usize>(job: Job<f32>) {
    // SAFETY: what the job promises; of `c` only `cols` columns are touched.
    unsafe {
        let mut a = [job.a; ROWS / NEAR];
        for near in 0..ROWS / NEAR {
            a[near] = job.a.wrapping_add(near * NEAR * job.a_row);
        }
        let mut b = job.b;
        let panel = job.inner * PANEL;
        let scale = _mm512_set1_ps(job.scale);
        let mut masks = [0xffff; W];
        masks[W - 1] = 0xffff >> (W * PANEL - job.cols);
        let (mut left_over, mut accumulate) = (job.inner, job.accumulate);
        loop {
            let run = left_over.min(RUN);
            let mut sums = [[_mm512_setzero_ps(); W]; R];
            for _ in 0..run {
                let mut right = [_mm512_setzero_ps(); W];
                for w in 0..W {
                    right[w] = _mm512_loadu_ps(b.add(w * panel));
                }
                for r in 0..R {
                    let x = _mm512_set1_ps(*a[r / NEAR].add(r % NEAR * job.a_row));
                    for w in 0..W {
                        sums[r][w] = _mm512_fmadd_ps(x, right[w], sums[r][w]);
                    }
                }
                for near in 0..ROWS / NEAR {
                    a[near] = a[near].wrapping_add(job.a_col);
                }
                b = b.wrapping_add(PANEL);
            }
            for r in 0..R {
                for w in 0..W {
                    let c = job.c.add(r * job.c_row + w * PANEL);
                    let mut sum = _mm512_mul_ps(sums[r][w], scale);
                    if accumulate {
                        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(masks[w], c), sum);
                    }
                    _mm512_mask_storeu_ps(c, masks[w], sum);
                }
            }
            left_over -= run;
            accumulate = true;
            if left_over == 0 {
                break;
            }
        }
    }
}
