//! The part of the Python package that is Rust: what `sonograd`'s modules in
//! Python stand on. It knows of no defaults and checks no types; they do.

// As in the library: what people give never ends the interpreter.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::todo,
    clippy::unimplemented
)]

mod errors;
mod explained;
mod heard;
mod listener;
mod options;
mod ray;
mod sound;
mod study;
mod watch;

use std::ffi::OsString;

use pyo3::prelude::*;
use sonograd::allocator::Keeping;

#[global_allocator]
static MEMORY: Keeping = Keeping::new();

/// Runs the program `sonograd` with these arguments, its name first, and gives
/// its exit code.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    // The process is the program's alone.
    MEMORY.map_large_blocks();
    py.detach(|| sonograd::cli::run(arguments))
}

/// What there is, by name: methods and sites.
#[pyfunction]
fn names() -> (Vec<&'static str>, Vec<&'static str>) {
    let methods = sonograd::Method::ALL.map(sonograd::Method::name);
    let sites = sonograd::Site::ALL.map(sonograd::Site::name);
    (methods.to_vec(), sites.to_vec())
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<sound::Sound>()?;
    module.add_class::<listener::Listener>()?;
    module.add_class::<heard::Heard>()?;
    module.add_class::<heard::Alignment>()?;
    module.add_class::<explained::Maps>()?;
    module.add_class::<ray::StudyShared>()?;
    module.add_class::<ray::StudyWorker>()?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(ray::say, module)?)?;
    module.add_function(wrap_pyfunction!(names, module)?)?;
    module.add_function(wrap_pyfunction!(explained::open, module)?)
}
