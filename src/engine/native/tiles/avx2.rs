//! Tiles of 6 rows by one panel, in sixteen registers of eight numbers.

use std::arch::x86_64::{
    _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::{Job, PANEL, RUN};

/// Rows of a tile: with its two registers of columns twelve sums, two of `b`
/// and one of `a`, of sixteen registers.
const ROWS: usize = 6;
/// Numbers in a register.
const LANES: usize = 8;

/// [`super::Tiles`] with AVX2 and FMA.
///
/// # Safety
/// As [`super::Tiles`].
#[target_feature(enable = "avx2,fma")]
pub unsafe fn product(job: Job<f32>) {
    let mut row = 0;
    while row < job.rows {
        let count = (job.rows - row).min(ROWS);
        let mut col = 0;
        while col < job.cols {
            // SAFETY: rows and columns are within the job's.
            unsafe {
                let tile_of = Job {
                    cols: (job.cols - col).min(PANEL),
                    a: job.a.add(row * job.a_row),
                    b: job.b.add(col * job.inner),
                    c: job.c.add(row * job.c_row + col),
                    ..job
                };
                match count {
                    1 => tile::<1>(tile_of),
                    2 => tile::<2>(tile_of),
                    3 => tile::<3>(tile_of),
                    4 => tile::<4>(tile_of),
                    5 => tile::<5>(tile_of),
                    _ => tile::<ROWS>(tile_of),
                }
            }
            col += PANEL;
        }
        row += count;
    }
}

/// The first `R` rows of one panel. Loops count: what iterators call is compiled for
/// processors without AVX2, and would not be part of this function.
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::needless_range_loop)]
unsafe fn tile<const R: usize>(job: Job<f32>) {
    // SAFETY: what the job promises; of `c` only `cols` columns are touched.
    unsafe {
        let (mut a, mut b) = (job.a, job.b);
        // Two pointers and one distance reach all rows.
        const HALF: usize = ROWS / 2;
        let mut lower = a.wrapping_add(HALF * job.a_row);
        let scale = _mm256_set1_ps(job.scale);
        let (mut left_over, mut accumulate) = (job.inner, job.accumulate);
        loop {
            let run = left_over.min(RUN);
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            for _ in 0..run {
                let left = _mm256_loadu_ps(b);
                let right = _mm256_loadu_ps(b.add(LANES));
                for r in 0..R {
                    let x = match r < HALF {
                        true => a.add(r * job.a_row),
                        false => lower.add((r - HALF) * job.a_row),
                    };
                    let x = _mm256_broadcast_ss(&*x);
                    sums[r][0] = _mm256_fmadd_ps(x, left, sums[r][0]);
                    sums[r][1] = _mm256_fmadd_ps(x, right, sums[r][1]);
                }
                a = a.wrapping_add(job.a_col);
                lower = lower.wrapping_add(job.a_col);
                b = b.wrapping_add(PANEL);
            }
            for r in 0..R {
                let c = job.c.add(r * job.c_row);
                let left = _mm256_mul_ps(sums[r][0], scale);
                let right = _mm256_mul_ps(sums[r][1], scale);
                if job.cols < PANEL {
                    let mut row = [0.0; PANEL];
                    _mm256_storeu_ps(row.as_mut_ptr(), left);
                    _mm256_storeu_ps(row.as_mut_ptr().add(LANES), right);
                    for col in 0..job.cols {
                        let before = if accumulate { *c.add(col) } else { 0.0 };
                        *c.add(col) = before + row[col];
                    }
                } else if accumulate {
                    _mm256_storeu_ps(c, _mm256_add_ps(_mm256_loadu_ps(c), left));
                    let c = c.add(LANES);
                    _mm256_storeu_ps(c, _mm256_add_ps(_mm256_loadu_ps(c), right));
                } else {
                    _mm256_storeu_ps(c, left);
                    _mm256_storeu_ps(c.add(LANES), right);
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
