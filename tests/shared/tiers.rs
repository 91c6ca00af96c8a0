//! Model fixtures on a GPU, in the tiers of precision.

// Every program uses its part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::Device;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::precision::Precision;
use sonograd::engine::weights::WeightTable;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::validate::validate;

pub fn folder(fixture: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(fixture)
}

pub fn load(fixture: &str) -> Model {
    Model::load(ModelFiles::folder(folder(fixture)).unwrap()).unwrap()
}

pub fn reference(fixture: &str) -> PathBuf {
    folder(fixture).join("reference.safetensors")
}

pub fn executor(device: &Arc<Device>, weights: &WeightTable, precision: Precision) -> GpuExecutor {
    let options = GpuOptions {
        precision,
        ..GpuOptions::default()
    };
    GpuExecutor::new(Arc::clone(device), weights, &options).unwrap()
}

/// Whole models against their references, whose bounds are the tier's.
pub fn stay_within_bounds(device: &Arc<Device>, precision: Precision) {
    for fixture in ["conformer", "conformer_fama", "whisper_odd"] {
        let model = load(fixture);
        let front_end = model.front_end().unwrap();
        let mut executor = executor(device, &model.weights, precision);
        assert_eq!(executor.precision(), precision);
        let found = validate(&mut executor, &model, &front_end, &reference(fixture)).unwrap();
        for check in &found.checks {
            println!("{fixture} {precision}: {check:?}");
        }
        assert!(found.pass(), "{fixture} {precision}");
    }
}
