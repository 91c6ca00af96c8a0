//! What only some adapters have. Each test says what it needs; where the adapter
//! lacks that, it is listed as ignored with the reason and counts as skipped,
//! which libtest's own tests cannot say of themselves once they run.

use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use sonograd::engine::gpu::adapter::{Device, open_for_tests};

/// Model fixtures on a GPU, in the tiers of precision.
#[path = "../shared/tiers.rs"]
mod tiers;

/// Products of blocks that a GPU multiplies in hardware, and devices without.
mod matrix_units;

/// A test: `Err` says what the adapter lacks.
type Test = fn(&Arc<Device>) -> Result<(), &'static str>;

const TESTS: &[(&str, Test)] = &[
    (
        "matrix_units::they_compute_what_ordinary_kernels_do",
        matrix_units::they_compute_what_ordinary_kernels_do,
    ),
    (
        "matrix_units::whole_models_stay_within_mixeds_bounds",
        matrix_units::whole_models_stay_within_mixeds_bounds,
    ),
    (
        "matrix_units::a_device_without_them_says_so",
        matrix_units::a_device_without_them_says_so,
    ),
];

fn device() -> &'static Arc<Device> {
    static DEVICE: OnceLock<Arc<Device>> = OnceLock::new();
    DEVICE.get_or_init(|| Arc::new(open_for_tests()))
}

fn run(test: Test) -> Result<Completion, Failed> {
    if cfg!(no_test_gpu) {
        return Ok(Completion::ignored_with("SONOGRAD_TEST_GPU=none"));
    }
    let device = device();
    Ok(match test(device) {
        Ok(()) => Completion::Completed,
        Err(lack) => Completion::ignored_with(format!("{} {lack}", device.info.name)),
    })
}

fn main() {
    let tests = TESTS
        .iter()
        .map(|&(name, test)| Trial::ignorable_test(name, move || run(test)));
    libtest_mimic::run(&Arguments::from_args(), tests.collect()).exit();
}
