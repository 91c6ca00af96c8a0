//! How loud a sound is, frame by frame: what tells speech from silence, and is
//! in no model's features, which are normalised in ways of their own.

use super::FRAME_SHIFT;

/// Mean squares of the samples, by frame: of the 20 ms around the 10 ms that
/// are a frame's own, as far as there are samples; 0 where there are none.
pub fn power(samples: &[f32], frames: usize) -> Vec<f32> {
    let around = |t: usize| {
        let begin = (t * FRAME_SHIFT)
            .saturating_sub(FRAME_SHIFT / 2)
            .min(samples.len());
        let end = (t * FRAME_SHIFT + FRAME_SHIFT * 3 / 2).min(samples.len());
        let own = &samples[begin..end];
        let sum: f64 = own.iter().map(|&x| f64::from(x).powi(2)).sum();
        (sum / own.len().max(1) as f64) as f32
    };
    (0..frames).map(around).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_power_around_them() {
        let mut samples = vec![0.0; 4 * FRAME_SHIFT];
        samples[2 * FRAME_SHIFT..3 * FRAME_SHIFT].fill(0.5f32);
        // Half of what is around the neighbours is loud; behind the end is nothing.
        let thirds = (0.25 / 3.0) as f32;
        assert_eq!(power(&samples, 6), [0.0, 0.0625, 0.125, thirds, 0.0, 0.0]);
    }
}
