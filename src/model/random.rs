//! Seeded random numbers in place of trained weights: a model of a real
//! architecture for measurements, without its files.

use rayon::prelude::*;

use super::checkpoint::{Content, TensorSpec};
use crate::engine::random::Key;

/// Standard deviation of biases.
const BIAS: f32 = 0.02;

/// Numbers that one task draws; a multiple of four.
const TASK: usize = 1 << 16;

/// The values of a tensor: the same for the same name, content, shape and seed,
/// whatever else the model has.
///
/// Activations stay of order 1 through any number of layers: norms do nothing
/// but normalise, and each output of a product varies as much as its inputs
/// (numbers of variance 1/inputs, uniformly distributed).
pub fn values(tensor: &TensorSpec, seed: u64) -> Vec<f32> {
    let TensorSpec {
        name,
        content,
        shape,
    } = tensor;
    let count = shape.iter().product();
    let (base, deviation) = match content {
        Content::Scale => return vec![1.0; count],
        Content::Shift => return vec![0.0; count],
        // From 0.5 to 1.5.
        Content::Variance => (1.0, 0.5 / 3f32.sqrt()),
        Content::Bias => (0.0, BIAS),
        Content::Weight => {
            let inputs: usize = shape.iter().skip(1).product();
            (0.0, 1.0 / (inputs.max(1) as f32).sqrt())
        }
    };
    let spread = deviation * 3f32.sqrt();
    let name = hash(name);
    let key = Key::from(seed);
    let mut values = vec![0.0; count];
    let tasks = values.par_chunks_mut(TASK).enumerate();
    tasks.for_each(|(task, values)| {
        for (block, four) in values.chunks_mut(4).enumerate() {
            let words = key.named_block(name, (task * TASK / 4 + block) as u64);
            for (value, word) in four.iter_mut().zip(words) {
                // 24 bits, exact in f32: from -1 up to, not including, 1.
                let uniform = (word >> 8) as f32 / 8_388_608.0 - 1.0;
                *value = base + spread * uniform;
            }
        }
    });
    values
}

/// FNV-1a, 64 bits: names of one model do not meet.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let squares = values.iter().map(|&x| (f64::from(x) - mean).powi(2));
        (mean, squares.sum::<f64>() / count)
    }

    fn drawn(content: Content, name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
        let tensor = TensorSpec {
            name: name.to_owned(),
            content,
            shape: shape.to_vec(),
        };
        values(&tensor, seed)
    }

    #[test]
    fn products_keep_the_size_of_their_inputs() {
        let weight = drawn(Content::Weight, "fc1", &[300, 1000], 0);
        let (mean, variance) = moments(&weight);
        // 300,000 numbers: five standard errors are below 1 percent.
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((variance * 1000.0 - 1.0).abs() < 0.01, "{variance}");
        let convolution = drawn(Content::Weight, "conv1", &[500, 80, 3], 0);
        let (_, variance) = moments(&convolution);
        assert!((variance * 240.0 - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn norms_do_nothing_and_variances_are_positive() {
        assert_eq!(drawn(Content::Scale, "a", &[3], 7), [1.0; 3]);
        assert_eq!(drawn(Content::Shift, "a", &[3], 7), [0.0; 3]);
        let variances = drawn(Content::Variance, "a", &[5000], 7);
        assert!(variances.iter().all(|x| (0.5..1.5).contains(x)));
    }

    #[test]
    fn name_shape_and_seed_decide() {
        let weight = |name, seed| drawn(Content::Weight, name, &[3, 70_000], seed);
        let one = weight("a.weight", 1);
        assert_eq!(one, weight("a.weight", 1));
        assert_ne!(one, weight("b.weight", 1));
        assert_ne!(one, weight("a.weight", 2));
        // No part repeats another.
        assert_ne!(one[..1000], one[TASK..TASK + 1000]);
    }
}
