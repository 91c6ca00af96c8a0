//! Maps small enough to stand in a page: rounded to steps of their own, row by
//! row, where need be averaged over frames, and deflated.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

/// A tensor seen as rows of (frames, bins); every row has its own scale.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
    pub frames: usize,
    pub bins: usize,
}

/// How finely values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    /// 8 or 16 per value.
    bits: u32,
    /// Frames averaged into one.
    stride: usize,
}

/// A tensor as it stands in the page.
#[derive(Serialize)]
pub(super) struct Packed {
    /// 8 or 16 per value; 16 is little-endian.
    bits: u32,
    /// Frames averaged into one.
    stride: usize,
    /// How many rows there are.
    rows: usize,
    /// zlib's stream in base64: of each row the value of code 0 and the step to
    /// the next code (two F64, little-endian), then the codes of all rows. The
    /// largest code stands for a value that is not finite.
    data: String,
}

impl Packed {
    fn new(rows: &Rows, level: Level) -> Self {
        let Level { bits, stride } = level;
        let mut scales = Vec::new();
        let mut bytes = Vec::new();
        for row in rows.data.chunks_exact(rows.frames * rows.bins) {
            let row = averaged(row, rows.bins, stride);
            let (low, step, codes) = quantise(&row, (1 << bits) - 1);
            scales.extend([low, step].iter().flat_map(|x| x.to_le_bytes()));
            for code in codes {
                match bits {
                    8 => bytes.push(code as u8),
                    _ => bytes.extend((code as u16).to_le_bytes()),
                }
            }
        }
        let mut stream = ZlibEncoder::new(Vec::new(), Compression::default());
        // Writing into memory does not fail.
        let whole = stream
            .write_all(&scales)
            .and_then(|()| stream.write_all(&bytes));
        let data = whole.and_then(|()| stream.finish()).unwrap_or_default();
        Self {
            bits,
            stride,
            rows: scales.len() / 16,
            data: STANDARD.encode(data),
        }
    }

    /// What it takes before base64.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() / 4 * 3
    }
}

/// Tensors packed as finely as fits a budget: with two bytes for a value, then
/// with one, then, where frames `may_shrink`, with ever more of them averaged.
pub(super) fn fitting(all: &[Rows], budget: usize, may_shrink: bool) -> Vec<Packed> {
    let values: usize = all.iter().map(|rows| rows.data.len()).sum();
    let longest = all.iter().map(|rows| rows.frames).max().unwrap_or(1);
    let mut level = Level {
        bits: 16,
        stride: 1,
    };
    loop {
        let last = level.bits == 8 && (!may_shrink || level.stride >= longest);
        let size = values / level.stride * (level.bits / 8) as usize;
        // Maps deflate to a fifth or so; what is far above that is not tried.
        if last || size <= 12 * budget {
            let packed: Vec<Packed> = all.iter().map(|rows| Packed::new(rows, level)).collect();
            let taken: usize = packed.iter().map(Packed::bytes).sum();
            if last || taken <= budget {
                return packed;
            }
            // About in proportion; at least one step coarser.
            if level.bits == 8 {
                let wanted = level.stride * taken / budget.max(1);
                level.stride = wanted.clamp(level.stride, longest - 1);
            }
        }
        level = match level.bits {
            16 => Level { bits: 8, stride: 1 },
            _ => Level {
                stride: level.stride + 1,
                ..level
            },
        };
    }
}

/// Mean over each `stride` frames of `row` (frames, bins); the last group may
/// be smaller. A value that is not finite makes its mean not finite.
fn averaged(row: &[f32], bins: usize, stride: usize) -> Vec<f32> {
    if stride == 1 {
        return row.to_vec();
    }
    let mut out = Vec::with_capacity(row.len() / stride + bins);
    for group in row.chunks(stride * bins) {
        let frames = group.len() / bins;
        for bin in 0..bins {
            let sum: f64 = group[bin..].iter().step_by(bins).map(|&x| x as f64).sum();
            out.push((sum / frames as f64) as f32);
        }
    }
    out
}

/// Codes for `row`: value = low + code * step, within half a step. Code
/// `missing` stands for what is not finite; zero stays exactly zero.
fn quantise(row: &[f32], missing: u32) -> (f64, f64, Vec<u32>) {
    let finite = || row.iter().filter(|x| x.is_finite()).map(|&x| x as f64);
    let mut low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return (0.0, 0.0, vec![missing; row.len()]);
    }
    let last = missing - 1;
    let mut step = (high - low) / last as f64;
    if low < 0.0 && high > 0.0 {
        step = (high - low) / (last - 1) as f64;
        low = -((-low / step).ceil() * step);
    }
    let code = |x: f32| match x.is_finite() {
        true if step > 0.0 => (((x as f64 - low) / step).round() as u32).min(last),
        true => 0,
        false => missing,
    };
    (low, step, row.iter().map(|&x| code(x)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    fn restored(row: &[f32], missing: u32) -> Vec<f64> {
        let (low, step, codes) = quantise(row, missing);
        let value = |&code: &u32| match code == missing {
            true => f64::NAN,
            false => low + code as f64 * step,
        };
        codes.iter().map(value).collect()
    }

    #[test]
    fn quantising_keeps_every_value_within_half_a_step() {
        let row: Vec<f32> = (0..1023).map(|i| (i as f32 * 0.37).sin() - 0.3).collect();
        for missing in [255, 65535] {
            let bound = 1.3 / 2.0 * 2.0 / (missing - 2) as f64;
            let mut worst: f64 = 0.0;
            for (new, &old) in restored(&row, missing).iter().zip(&row) {
                worst = worst.max((new - old as f64).abs());
            }
            println!("worst error {worst:.3e} of {bound:.3e} at {missing} codes");
            assert!(worst <= bound);
        }
    }

    #[test]
    fn quantising_keeps_zero_constants_and_gaps() {
        for missing in [255, 65535] {
            let row = [-3.0, 0.0, 1.0, f32::NAN, f32::INFINITY, 0.0];
            let back = restored(&row, missing);
            assert_eq!(back[1], 0.0);
            assert_eq!(back[5], 0.0);
            assert!(back[3].is_nan() && back[4].is_nan());
            assert_eq!(restored(&[0.7_f32; 4], missing), [0.7_f32 as f64; 4]);
            assert_eq!(restored(&[0.0], missing), [0.0]);
            assert!(restored(&[f32::NAN], missing)[0].is_nan());
            let extremes = restored(&[f32::MIN, f32::MAX], missing);
            assert!(extremes.iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn averaging_takes_a_smaller_last_group() {
        let row = [1.0, 10.0, 3.0, 30.0, 7.0, 70.0]; // (3, 2)
        assert_eq!(averaged(&row, 2, 2), [2.0, 20.0, 7.0, 70.0]);
        assert_eq!(averaged(&row, 2, 1), row);
        assert!(averaged(&[1.0, f32::NAN, 2.0], 1, 2)[0].is_nan());
    }

    #[test]
    fn large_maps_get_smaller_values_and_then_fewer_frames() {
        // Nothing that could be deflated.
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32
        };
        let data: Vec<f32> = (0..20_000).map(|_| noise()).collect();
        let rows = Rows {
            data: &data,
            frames: 100,
            bins: 10,
        };
        let level = |budget: usize, may_shrink: bool| {
            let packed = fitting(&[rows], budget, may_shrink);
            assert!(packed[0].bytes() <= budget || !may_shrink || budget == 0);
            (packed[0].bits, packed[0].stride)
        };
        assert_eq!(level(50_000, true), (16, 1));
        assert_eq!(level(25_000, true), (8, 1));
        assert_eq!(level(15_000, true), (8, 2));
        assert_eq!(level(15_000, false), (8, 1));
        assert!(level(5_000, true).1 < 8);
        assert_eq!(level(0, true), (8, 100));
        assert!(fitting(&[], 0, true).is_empty());
    }
}
