//! Whole models against reference values made by other people's code.

use std::path::Path;
use std::sync::Arc;

use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions, ShaderMode};
use sonograd::engine::native::NativeExecutor;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::validate::validate;

/// Model folders, and how many tensors their references have to compare.
/// `..._odd` have odd sizes and, but for `cohere_odd` and `moonshine_streaming_odd`, an output
/// projection of their own,
/// `conformer_fama` is named as Hugging Face names it, in BF16 shards,
/// `whisper_128` has 128 mel bins and 3,000 frames; its encoder output and the
/// gradients there and at the input are left out, which
/// would be half of the file and more.
/// One with a waveform compares its features, too.
const FIXTURES: [(&str, usize); 15] = [
    ("canary", 11),
    ("canary_odd", 11),
    ("cohere", 12),
    ("cohere_odd", 11),
    ("conformer", 11),
    ("conformer_fama", 11),
    ("moonshine", 12),
    ("moonshine_odd", 11),
    ("moonshine_streaming", 12),
    ("moonshine_streaming_odd", 11),
    ("speech_to_text", 11),
    ("speech_to_text_odd", 11),
    ("whisper", 11),
    ("whisper_odd", 11),
    ("whisper_128", 6),
];

fn load(name: &str) -> Model {
    let folder = Path::new("tests/fixtures").join(name);
    Model::load(ModelFiles::folder(folder).unwrap()).unwrap()
}

fn check(executor: &mut dyn Executor, model: &Model, (name, count): (&str, usize)) {
    let reference = Path::new("tests/fixtures").join(name);
    let reference = reference.join("reference.safetensors");
    let front_end = model.front_end().unwrap();
    let result = validate(executor, model, &front_end, &reference).unwrap();
    for check in &result.checks {
        println!("{name} {}: {check:?}", executor.precision());
    }
    assert_eq!(result.checks.len(), count, "{name}");
    assert!(result.pass(), "{name}");
    // All that a file has is read, or the reader and the format differ.
    assert!(result.unknown.is_empty(), "{name}: {:?}", result.unknown);
}

#[test]
fn fixtures_on_the_native_executor() {
    for fixture in FIXTURES {
        let model = load(fixture.0);
        let mut exact = NativeExecutor::<f64>::new(&model.weights, false);
        check(&mut exact, &model, fixture);
        let mut fast = NativeExecutor::<f32>::new(&model.weights, false);
        check(&mut fast, &model, fixture);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn fixtures_on_a_gpu() {
    let device = Arc::new(open_for_tests());
    for fixture in FIXTURES {
        let model = load(fixture.0);
        let device = Arc::clone(&device);
        let mut executor =
            GpuExecutor::new(device, &model.weights, &GpuOptions::default()).unwrap();
        check(&mut executor, &model, fixture);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn trusted_shaders_on_a_gpu() {
    let device = Arc::new(open_for_tests());
    let conformer = FIXTURES.into_iter().find(|own| own.0 == "conformer");
    let conformer = conformer.unwrap();
    let model = load(conformer.0);
    let mode = ShaderMode::Trusted;
    let mut executor = GpuExecutor::new(
        device,
        &model.weights,
        &GpuOptions {
            shaders: mode,
            ..GpuOptions::default()
        },
    )
    .unwrap();
    check(&mut executor, &model, conformer);
}
