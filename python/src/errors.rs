//! The library's errors as Python's.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyType;
use sonograd::{Error, ErrorKind};

/// Where the classes stand: they have Python's own among their bases.
const MODULE: &str = "sonograd._errors";

/// What an error is about, where its kind alone does not say so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A model that is opened: its files are the model's.
    Model,
    /// All else: files are what was given.
    Input,
}

/// The error as an instance of the class for its kind, with `kind` and `path`.
pub fn raised(py: Python<'_>, error: &Error, about: About) -> PyErr {
    let (class, kind) = match (error.kind(), about) {
        (ErrorKind::Stopped, _) => return PyKeyboardInterrupt::new_err(error.to_string()),
        (ErrorKind::File, About::Model) => ("ModelError", "file"),
        (ErrorKind::File, About::Input) => ("InputError", "file"),
        (ErrorKind::Network, _) => ("ModelError", "network"),
        (ErrorKind::Model, _) => ("ModelError", "model"),
        (ErrorKind::Input, _) => ("InputError", "input"),
        (ErrorKind::Shape, _) => ("InputError", "shape"),
        (ErrorKind::Device, _) => ("DeviceError", "device"),
        (ErrorKind::Memory, _) => ("MemoryError", "memory"),
        _ => ("SonogradError", "other"),
    };
    made(py, class, kind, error).unwrap_or_else(|problem| problem)
}

fn made(py: Python<'_>, class: &str, kind: &str, error: &Error) -> PyResult<PyErr> {
    let class = py.import(MODULE)?.getattr(class)?;
    let instance = class.cast::<PyType>()?.call1((error.to_string(),))?;
    instance.setattr("kind", kind)?;
    instance.setattr("path", error.path())?;
    Ok(PyErr::from_value(instance))
}

/// The same of what is wrong with an argument.
pub fn refused(py: Python<'_>, problem: impl Into<String>) -> PyErr {
    raised(py, &Error::Input(problem.into()), About::Input)
}

/// Results of the library as those of Python.
pub trait OrRaise<T> {
    /// The value, or the error raised.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;

    /// The same where files are a model's.
    fn or_raise_of_model(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for sonograd::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error, About::Input))
    }

    fn or_raise_of_model(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error, About::Model))
    }
}
