//! Infidelity against Captum's, through the whole model.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensors;
use serde_json::Value;
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::Subject;
use sonograd::explain::probe::log_probs_without;
use sonograd::explain::spes::Segmentation;
use sonograd::features::Features;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::study::perturbation::infidelity;

struct Case {
    model: Model,
    features: Features,
    /// Given, then what is explained.
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    /// (K, T, F)
    gradients: Vec<f32>,
    /// (M, T, F), 0 where a mask hides
    masks: Vec<u8>,
    /// Captum's, as it is and normalised, by token.
    expected: [Vec<f64>; 2],
}

impl Case {
    /// `infidelity.json` is made by `tools/infidelity_fixture.py`.
    fn new() -> Self {
        let folder = Path::new("tests/fixtures/conformer");
        let bytes = fs::read(folder.join("reference.safetensors")).unwrap();
        let reference = SafeTensors::deserialize(&bytes).unwrap();
        let data = |name: &str| reference.tensor(name).unwrap().data();
        let real = |name: &str| -> Vec<f32> { bytemuck::pod_collect_to_vec(data(name)) };
        let ids = |name: &str| -> Vec<u32> {
            let wide: Vec<i64> = bytemuck::pod_collect_to_vec(data(name));
            wide.into_iter().map(|id| id as u32).collect()
        };
        let shape = reference.tensor("features").unwrap().shape().to_vec();
        let json = fs::read_to_string("tests/fixtures/infidelity.json").unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let expected = ["as it is", "normalised"].map(|name| {
            let values = json["infidelity"][name].as_array().unwrap();
            values.iter().map(|x| x.as_f64().unwrap()).collect()
        });
        let (inputs, tokens) = (ids("decoder_input_ids"), ids("labels"));
        assert_eq!(inputs[1..], tokens[..tokens.len() - 1]);
        Self {
            model: Model::load(ModelFiles::folder(folder).unwrap()).unwrap(),
            features: Features::new(real("features"), shape[0], shape[1]).unwrap(),
            prompt: inputs[..1].to_vec(),
            tokens,
            gradients: real("input_gradient"),
            masks: data("input_masks").to_vec(),
            expected,
        }
    }

    fn check(&self, executor: &mut dyn Executor, bound: f64) {
        let subject = Subject {
            file: "fixture".into(),
            seconds: 0.6,
            fingerprint: None,
            warnings: &[],
            features: &self.features,
            encoded: None,
            prompt: &self.prompt,
            tokens: &self.tokens,
        };
        let size = self.features.data.len();
        let masks: Vec<&[u8]> = self.masks.chunks(size).collect();
        // The first mask hides nothing.
        let mut hidden = vec![false; size];
        hidden.extend(self.masks.iter().map(|&kept| kept == 0));
        let (frames, bins) = (self.features.frames, self.features.bins);
        // Memory for few variants at once, so that there are several batches.
        let memory = 1 << 20;
        let log_probs = log_probs_without(
            executor,
            &self.model,
            &subject,
            Segmentation::elements(frames, bins),
            &hidden,
            memory,
        )
        .unwrap();
        let (clean, rest) = log_probs.split_at(self.tokens.len());
        for (token, gradient) in self.gradients.chunks(size).enumerate() {
            let of = |mask: &&[u8]| -> f64 {
                let values = gradient.iter().zip(&self.features.data).zip(*mask);
                let removed = values.filter(|(_, kept)| **kept == 0);
                removed
                    .map(|((g, x), _)| f64::from(*g) * f64::from(*x))
                    .sum()
            };
            let predicted: Vec<f64> = masks.iter().map(of).collect();
            let drops = rest.chunks(clean.len());
            let drops: Vec<f64> = drops.map(|own| clean[token] - own[token]).collect();
            for (normalise, expected) in [false, true].into_iter().zip(&self.expected) {
                let expected = expected[token];
                let found = infidelity(&predicted, &drops, normalise).unwrap();
                let error = (found / expected - 1.0).abs();
                println!("token {token}: {found} against {expected}");
                assert!(error <= bound, "token {token}: {found}, Captum {expected}");
            }
        }
    }
}

/// Gradients of the reference are rounded to 24 bits, log-probabilities of the
/// native f64 executor are read back as f32.
#[test]
fn infidelity_is_captums() {
    let case = Case::new();
    let mut exact = NativeExecutor::<f64>::new(&case.model.weights, false);
    case.check(&mut exact, 1e-5);
    let mut fast = NativeExecutor::<f32>::new(&case.model.weights, false);
    case.check(&mut fast, 1e-4);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn infidelity_is_captums_on_a_gpu() {
    let case = Case::new();
    let device = Arc::new(open_for_tests());
    let mut gpu = GpuExecutor::new(device, &case.model.weights, &GpuOptions::default()).unwrap();
    case.check(&mut gpu, 1e-4);
}
