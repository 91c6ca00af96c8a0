//! Whole models against reference values made by other people's code.

use std::path::Path;
use std::sync::Arc;

use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, ShaderMode};
use sonograd::engine::native::NativeExecutor;
use sonograd::features::FrontEnd;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::validate::validate;

fn check(executor: &mut dyn Executor, model: &Model, folder: &str) {
    let reference = Path::new(folder).join("reference.safetensors");
    let result = validate(executor, model, &FrontEnd::default(), &reference).unwrap();
    for check in &result.checks {
        println!("{check:?}");
    }
    assert_eq!(result.checks.len(), 11);
    assert!(result.pass());
}

#[test]
fn conformer_fixture_on_the_native_executor() {
    let folder = "tests/fixtures/conformer";
    let model = Model::load(ModelFiles::folder(folder).unwrap()).unwrap();
    check(
        &mut NativeExecutor::<f64>::new(&model.weights, false),
        &model,
        folder,
    );
    check(
        &mut NativeExecutor::<f32>::new(&model.weights, false),
        &model,
        folder,
    );
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn conformer_fixture_on_a_gpu() {
    let folder = "tests/fixtures/conformer";
    let model = Model::load(ModelFiles::folder(folder).unwrap()).unwrap();
    let device = Arc::new(open_for_tests());
    for mode in [ShaderMode::Checked, ShaderMode::Trusted] {
        let device = Arc::clone(&device);
        let mut executor = GpuExecutor::with_mode(device, &model.weights, false, mode).unwrap();
        check(&mut executor, &model, folder);
    }
}
