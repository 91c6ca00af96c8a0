//! From any sample rate to 16 kHz, by rubato.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use super::SAMPLE_RATE;
use crate::outside::guarded;

/// Samples on the slower side of one resampling block. Longer blocks bring
/// the filter's cutoff nearer to the Nyquist frequency: 98.7% of it here.
const RESAMPLER_BLOCK: usize = 1024;

/// `samples` at `rate` Hz as they are at [`SAMPLE_RATE`], block by block: of a
/// long sound only the result takes memory.
pub(super) fn resample(samples: &[f32], rate: u32) -> std::result::Result<Vec<f32>, String> {
    if rate == SAMPLE_RATE {
        return Ok(samples.to_vec());
    }
    guarded("rubato", || resample_by_rubato(samples, rate)).map_err(|e| e.to_string())?
}

fn resample_by_rubato(samples: &[f32], rate: u32) -> std::result::Result<Vec<f32>, String> {
    let fail =
        |problem: &dyn std::fmt::Display| format!("cannot be resampled from {rate} Hz: {problem}");
    let (source, target) = (rate as usize, SAMPLE_RATE as usize);
    let length = (2 * samples.len() * target + source) / (2 * source);
    let divisor = gcd(source, target);
    // The smallest block is source/divisor samples in, target/divisor out. The
    // filter delays by half a block; only an even number of smallest blocks
    // makes that a whole number of samples on both sides, so that nothing is
    // left of the delay once the resampler has dropped it.
    let smaller = source.min(target) / divisor;
    let blocks = RESAMPLER_BLOCK.div_ceil(smaller).next_multiple_of(2);
    let mut resampler = Fft::<f64>::new_custom(
        source,
        target,
        blocks * source / divisor,
        1,
        1,
        WindowFunction::BlackmanHarris2,
        FixedSync::Both,
    )
    .map_err(|e| fail(&e))?;

    let mut input = vec![0.0; resampler.input_frames_next()];
    let mut output = vec![0.0; resampler.output_frames_next()];
    let mut delay = resampler.output_delay();
    let mut resampled = Vec::with_capacity(length);
    let mut blocks = samples.chunks(input.len());
    while resampled.len() < length {
        // After the last block silence pushes out what the filter still holds.
        let block = blocks.next().unwrap_or_default();
        input.fill(0.0);
        for (slot, &x) in input.iter_mut().zip(block) {
            *slot = f64::from(x);
        }
        let (rows_in, rows_out) = (input.len(), output.len());
        let from = InterleavedSlice::new(&input, 1, rows_in).map_err(|e| fail(&e))?;
        let mut to = InterleavedSlice::new_mut(&mut output, 1, rows_out).map_err(|e| fail(&e))?;
        resampler
            .process_into_buffer(&from, &mut to, None)
            .map_err(|e| fail(&e))?;
        let late = delay.min(output.len());
        delay -= late;
        let missing = length - resampled.len();
        resampled.extend(output[late..].iter().take(missing).map(|&x| x as f32));
    }
    // Between samples near the largest number the sound may go beyond it.
    if resampled.iter().any(|x| !x.is_finite()) {
        return Err(fail(&"its samples are too large"));
    }
    Ok(resampled)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
