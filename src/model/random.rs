//! Seeded random numbers in place of trained weights: a model of a real
//! architecture for measurements, without its files.

use rayon::prelude::*;

use crate::engine::philox::philox4x32;

/// Standard deviation of biases.
const BIAS: f32 = 0.02;

/// Numbers that one task draws; a multiple of four.
const TASK: usize = 1 << 16;

/// The values of the tensor `name`: the same for the same name, shape and
/// seed, whatever else the model has.
///
/// Activations stay of order 1 through any number of layers: norms do nothing
/// but normalise, and each output of a product varies as much as its inputs
/// (numbers of variance 1/inputs, uniformly distributed).
pub fn values(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let count = shape.iter().product();
    let (owner, part) = name.rsplit_once('.').unwrap_or(("", name));
    let norm = owner
        .rsplit('.')
        .next()
        .is_some_and(|own| own.contains("norm"));
    let inputs: usize = shape.iter().skip(1).product();
    let (base, deviation) = match part {
        "weight" if norm => return vec![1.0; count],
        "bias" | "running_mean" if norm => return vec![0.0; count],
        // From 0.5 to 1.5.
        "running_var" => (1.0, 0.5 / 3f32.sqrt()),
        part if part.ends_with("bias") => (0.0, BIAS),
        _ => (0.0, 1.0 / (inputs.max(1) as f32).sqrt()),
    };
    let spread = deviation * 3f32.sqrt();
    let stream = hash(name);
    let key = halves(seed);
    let mut values = vec![0.0; count];
    let tasks = values.par_chunks_mut(TASK).enumerate();
    tasks.for_each(|(task, values)| {
        for (block, four) in values.chunks_mut(4).enumerate() {
            let [low, high] = halves((task * TASK / 4 + block) as u64);
            let [first, second] = halves(stream);
            let words = philox4x32([low, high, first, second], key);
            for (value, word) in four.iter_mut().zip(words) {
                // 24 bits, exact in f32: from -1 up to, not including, 1.
                let uniform = (word >> 8) as f32 / 8_388_608.0 - 1.0;
                *value = base + spread * uniform;
            }
        }
    });
    values
}

fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
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

    #[test]
    fn products_keep_the_size_of_their_inputs() {
        let weight = values("decoder.layers.0.fc1.weight", &[300, 1000], 0);
        let (mean, variance) = moments(&weight);
        // 300,000 numbers: five standard errors are below 1 percent.
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((variance * 1000.0 - 1.0).abs() < 0.01, "{variance}");
        let convolution = values("encoder.conv1.weight", &[500, 80, 3], 0);
        let (_, variance) = moments(&convolution);
        assert!((variance * 240.0 - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn norms_do_nothing_and_variances_are_positive() {
        let norm = "encoder.layers.0.self_attn_layer_norm";
        assert_eq!(values(&format!("{norm}.weight"), &[3], 7), [1.0; 3]);
        assert_eq!(values(&format!("{norm}.bias"), &[3], 7), [0.0; 3]);
        let module = "encoder.conformer_layers.1.conv_module.batchnorm";
        assert_eq!(values(&format!("{module}.running_mean"), &[2], 7), [0.0; 2]);
        let variances = values(&format!("{module}.running_var"), &[5000], 7);
        assert!(variances.iter().all(|x| (0.5..1.5).contains(x)));
    }

    #[test]
    fn name_shape_and_seed_decide() {
        let one = values("a.weight", &[3, 70_000], 1);
        assert_eq!(one, values("a.weight", &[3, 70_000], 1));
        assert_ne!(one, values("b.weight", &[3, 70_000], 1));
        assert_ne!(one, values("a.weight", &[3, 70_000], 2));
        // No part repeats another.
        assert_ne!(one[..1000], one[TASK..TASK + 1000]);
    }
}
