//! Mean and variance normalisation over one utterance.

use super::Features;

/// Brings every bin to zero mean (`means`) and unit variance (`vars`) over the
/// utterance's frames. The standard deviation divides by T, not T - 1, as in
/// transformers' Speech2TextFeatureExtractor.
///
/// A bin that never changes has no variance to divide by; with `vars` it
/// becomes 0 throughout. Sums are made in f64, in which the mean of equal f32
/// values is exactly that value, so that such a bin's variance is exactly 0.
pub fn normalize(features: &mut Features, means: bool, vars: bool) {
    let count = features.frames as f64;
    for bin in 0..features.bins {
        let column = || features.data.iter().skip(bin).step_by(features.bins);
        let mean = column().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = column()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / count;

        let shift = if means { mean } else { 0.0 };
        let scale = match variance {
            _ if !vars => 1.0,
            0.0 => 0.0,
            v => v.sqrt().recip(),
        };
        for x in features.data.iter_mut().skip(bin).step_by(features.bins) {
            *x = ((f64::from(*x) - shift) * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns: 1, 2, 3 (mean 2, deviation sqrt(2/3)) and a constant.
    fn example() -> Features {
        Features::new(
            vec![1.0, -15.942385, 2.0, -15.942385, 3.0, -15.942385],
            3,
            2,
        )
        .unwrap()
    }

    #[test]
    fn each_bin_is_normalised_and_a_constant_one_becomes_zero() {
        let mut features = example();
        normalize(&mut features, true, true);
        let d = 1.5f32.sqrt();
        assert_eq!(features.data, [-d, 0.0, 0.0, 0.0, d, 0.0]);
    }

    #[test]
    fn means_and_variances_can_be_left_alone() {
        let mut means = example();
        normalize(&mut means, true, false);
        assert_eq!(means.data, [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);

        let mut vars = example();
        normalize(&mut vars, false, true);
        let d = 1.5f64.sqrt();
        let expected = [d as f32, 0.0, (2.0 * d) as f32, 0.0, (3.0 * d) as f32, 0.0];
        assert_eq!(vars.data, expected);

        let mut neither = example();
        normalize(&mut neither, false, false);
        assert_eq!(neither, example());
    }

    #[test]
    fn one_frame_and_no_frames_give_no_nan() {
        let mut one = Features::new(vec![3.0, -4.0], 1, 2).unwrap();
        normalize(&mut one, true, true);
        assert_eq!(one.data, [0.0, 0.0]);

        let mut none = Features::new(vec![], 0, 2).unwrap();
        normalize(&mut none, true, true);
        assert!(none.data.is_empty());
    }

    #[test]
    fn constants_that_are_no_round_numbers_have_no_variance() {
        for frames in [3, 7, 1023, 3000] {
            for value in [0.1f32, -15.942385, 1.0e-30, 3.4e38] {
                let mut features = Features::new(vec![value; frames], frames, 1).unwrap();
                normalize(&mut features, true, true);
                assert_eq!(features.data, vec![0.0; frames], "{frames} x {value}");
            }
        }
    }
}
