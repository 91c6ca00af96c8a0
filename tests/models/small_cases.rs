//! What small models with random weights of the families of 2025 and 2026 write,
//! against transformers: the same tokens. Their reference values are compared in
//! `validate`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::native::NativeExecutor;
use sonograd::features::Features;
use sonograd::generate::{GenerationOptions, Wanted, generate};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;

use super::generation::splitmix64;

/// Those that have cases.
const NAMES: [&str; 4] = ["cohere", "canary", "moonshine", "moonshine_streaming"];

/// What `tools/small_cases.py` wrote.
#[derive(Deserialize)]
pub struct Cases {
    pub prompts: Vec<Prompt>,
    settings: serde_json::Map<String, Value>,
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
pub struct Prompt {
    pub language: Option<String>,
    pub task: Option<String>,
    pub prompt: Vec<u32>,
}

#[derive(Deserialize)]
pub struct Input {
    pub seed: u64,
    pub frames: usize,
    pub outputs: serde_json::Map<String, Value>,
}

pub fn folder(name: &str) -> PathBuf {
    PathBuf::from("tests/fixtures").join(name)
}

pub fn load(name: &str) -> Model {
    Model::load(ModelFiles::folder(folder(name)).unwrap()).unwrap()
}

pub fn cases(name: &str) -> Cases {
    let bytes = fs::read(folder(name).join("cases.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

pub fn wanted(language: Option<&str>, task: Option<&str>) -> Wanted {
    let mut wanted = Wanted::default();
    wanted.language = language.map(str::to_owned);
    wanted.task = task.map(str::to_owned);
    wanted
}

impl Input {
    pub fn features(&self, bins: usize) -> Features {
        let number = |n: u64| {
            let upper = splitmix64((self.seed << 32) + n) >> 40;
            2.0 * (upper as f32 / 8_388_608.0 - 1.0)
        };
        let count = (self.frames * bins) as u64;
        Features::new((0..count).map(number).collect(), self.frames, bins).unwrap()
    }
}

fn generates_the_same(executor: &mut dyn Executor, model: &Model, name: &str, every: usize) {
    let tokenizer = model.tokenizer().unwrap();
    let cases = cases(name);
    let first = &cases.prompts[0];
    let wanted = wanted(first.language.as_deref(), first.task.as_deref());
    let mut equal = 0;
    for input in cases.inputs.iter().step_by(every) {
        for (setting, output) in &input.outputs {
            let own = &cases.settings[setting];
            let size = |name: &str| own[name].as_u64().map(|size| size as usize);
            let mut options = GenerationOptions::new(model, Some(&tokenizer), &wanted).unwrap();
            options.beams = size("num_beams").unwrap();
            options.max_new_tokens = size("max_new_tokens");
            options.no_repeat_ngram_size = size("no_repeat_ngram_size").unwrap_or(0);
            options.length_penalty = own["length_penalty"].as_f64().unwrap_or(1.0);
            let features = input.features(model.encoder.mel_bins());
            let generated = generate(executor, model, &features, &options).unwrap();
            assert_eq!(generated.prompt, first.prompt);
            let mut tokens = generated.tokens;
            tokens.retain(|id| !model.ends.contains(id));
            let expected: Vec<u32> = serde_json::from_value(output.clone()).unwrap();
            assert_eq!(tokens, expected, "{name} {} {setting}", input.seed);
            equal += 1;
        }
    }
    println!("{name}: {equal} outputs equal");
    assert!(equal >= cases.settings.len());
}

#[test]
fn tokens_are_those_that_transformers_generates() {
    for name in NAMES {
        let model = load(name);
        let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
        generates_the_same(&mut executor, &model, name, 1);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_gpu_generates_the_same() {
    let device = Arc::new(open_for_tests());
    for name in NAMES {
        let model = load(name);
        let device = Arc::clone(&device);
        let mut gpu = GpuExecutor::new(device, &model.weights, &GpuOptions::default()).unwrap();
        generates_the_same(&mut gpu, &model, name, 5);
    }
}
