//! Whole models of awkward sizes: native f64 against finite differences, and
//! the other executors against native f64.

use std::sync::Arc;

use crate::random_model::{self, SMALL, Sizes, numbers};
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::Site;
use sonograd::explain::passes::{ForwardPass, MapSpec, Utterance, forward_and_gradients};
use sonograd::explain::profile::MAPS;
use sonograd::features::Features;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::Reduction;

const GRADIENTS: [MapSpec; 2] = [
    MapSpec {
        site: Site::Input,
        times_input: false,
        reduction: Reduction::None,
    },
    MapSpec {
        site: Site::Encoder,
        times_input: false,
        reduction: Reduction::None,
    },
];

struct Case {
    sizes: Sizes,
    frames: usize,
    tokens: usize,
}

fn cases() -> Vec<Case> {
    let case = |sizes, frames, tokens| Case {
        sizes,
        frames,
        tokens,
    };
    vec![
        case(SMALL, 37, 5),
        // T' = 1, one token.
        case(SMALL, 4, 1),
        case(SMALL, 1, 2),
        // A kernel longer than the sequence; tied output; k = 3.
        case(
            Sizes {
                kernel: 31,
                tied: true,
                subsampling: [3, 3],
                ..SMALL
            },
            29,
            3,
        ),
        // Five heads of two columns, seven of two.
        case(
            Sizes {
                width: 10,
                heads: 5,
                subsampling: [3, 5],
                ..SMALL
            },
            50,
            4,
        ),
        case(
            Sizes {
                width: 14,
                heads: 7,
                kernel: 1,
                encoder_layers: 1,
                decoder_layers: 3,
                subsampling: [5, 5],
                ..SMALL
            },
            21,
            6,
        ),
    ]
}

impl Case {
    fn model(&self) -> Model {
        let folder = tempfile::tempdir().unwrap();
        random_model::write(folder.path(), self.sizes);
        Model::load(ModelFiles::folder(folder.path()).unwrap()).unwrap()
    }

    fn features(&self) -> Features {
        let bins = self.sizes.mel_bins;
        Features::new(numbers(1000, self.frames * bins), self.frames, bins).unwrap()
    }

    fn run(
        &self,
        executor: &mut dyn Executor,
        model: &Model,
        features: &Features,
        specs: &[MapSpec],
        memory: usize,
    ) -> ForwardPass {
        let count = self.tokens as u32;
        let labels: Vec<u32> = (0..count).map(|i| 3 + i * 5 % 17).collect();
        let ids: Vec<u32> = [2].into_iter().chain(labels.iter().copied()).collect();
        let ids = &ids[..self.tokens];
        let positions: Vec<u32> = (0..count).collect();
        let utterance =
            Utterance::upload(executor, model, features, ids, &positions, &labels).unwrap();
        forward_and_gradients(executor, model, &utterance, specs, memory).unwrap()
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for case in cases() {
        let model = case.model();
        let features = case.features();
        let mut executor = NativeExecutor::<f64>::new(&model.weights, false);
        let pass = case.run(&mut executor, &model, &features, &GRADIENTS, 1 << 30);
        let gradient = executor.read_real(pass.maps[0].id).to_vec();
        let elements = features.data.len();
        // A power of two: exact in the f32 features.
        let step = 2.0f32.powi(-14);
        let mut log_probs = |element: usize, step: f32| {
            let mut moved = features.clone();
            moved.data[element] += step;
            let pass = case.run(&mut executor, &model, &moved, &[], 1 << 30);
            executor.read_real(pass.forward.log_probs).to_vec()
        };
        let (mut square, mut norm, mut worst) = (0.0f64, 0.0f64, 0.0f64);
        for element in (0..elements).step_by((elements / 40).max(1)) {
            let (above, below) = (log_probs(element, step), log_probs(element, -step));
            for token in 0..case.tokens {
                let expected = (above[token] - below[token]) / (2.0 * f64::from(step));
                let error = (gradient[token * elements + element] - expected).abs();
                worst = worst.max(error);
                square += error * error;
                norm += expected * expected;
            }
        }
        let relative = (square / norm).sqrt();
        println!(
            "{:?}: relative {relative:.1e}, worst {worst:.1e}",
            case.sizes
        );
        // The step's own error: h^2/6 times a third derivative of the order
        // of the gradient times 100, for h = 2^-14.
        assert!(relative <= 1e-7, "{relative:e}");
    }
}

/// Relative L2 error of an executor against native f64, with few cotangents
/// at a time if `memory` is small.
fn agrees(make: impl Fn(&Model) -> Box<dyn Executor>, memory: usize) {
    for case in cases() {
        let model = case.model();
        let features = case.features();
        let mut oracle = NativeExecutor::<f64>::new(&model.weights, false);
        let expected = case.run(&mut oracle, &model, &features, &GRADIENTS, 1 << 30);
        let mut executor = make(&model);
        let pass = case.run(executor.as_mut(), &model, &features, &GRADIENTS, memory);
        let names = ["encoder output", "logits", "log-probabilities"];
        let ids = |pass: &ForwardPass| {
            let forward = &pass.forward;
            let mut ids = vec![
                forward.encoder_output.sound,
                forward.logits,
                forward.log_probs,
            ];
            ids.extend(pass.maps.iter().map(|map| map.id));
            ids.extend(&forward.cross_attention);
            ids
        };
        let outputs = executor.read(&ids(&pass), MAPS).unwrap();
        for (index, (output, id)) in outputs.iter().zip(ids(&expected)).enumerate() {
            let reference: Vec<f32> = oracle.read_real(id).iter().map(|&x| x as f32).collect();
            let name = names.get(index).copied().unwrap_or("gradient or attention");
            let tolerance = if index < 3 { 5e-6 } else { 2e-5 };
            let check = sonograd::validate::compare(name, &[], output, &reference, tolerance);
            println!("{:?} {check:?}", case.sizes);
            assert!(check.pass, "{check:?}");
        }
    }
}

#[test]
fn native_f32_agrees_with_f64() {
    let make = |model: &Model| -> Box<dyn Executor> {
        Box::new(NativeExecutor::<f32>::new(&model.weights, false))
    };
    agrees(make, 1 << 30);
}

#[test]
fn chunks_of_cotangents_agree_with_all_at_once() {
    let make = |model: &Model| -> Box<dyn Executor> {
        Box::new(NativeExecutor::<f64>::new(&model.weights, false))
    };
    agrees(make, 1);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_gpu_agrees_with_native_f64() {
    let device = Arc::new(open_for_tests());
    let make = |model: &Model| -> Box<dyn Executor> {
        let device = Arc::clone(&device);
        Box::new(GpuExecutor::new(device, &model.weights, &GpuOptions::default()).unwrap())
    };
    agrees(make, 1 << 30);
}
