//! Whole models against reference values made by other people's code.

use std::path::Path;

use sonograd::engine::executor::Executor;
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
