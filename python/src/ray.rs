//! A study whose utterances are handed out over a cluster.

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use sonograd::cli::study::shared_out::{self, Whole, Worker};

use crate::MEMORY;
use crate::errors::OrRaise;

#[pyclass(frozen, module = "sonograd._native")]
pub struct StudyShared(Whole);

#[pymethods]
impl StudyShared {
    /// `words` are those behind `sonograd`.
    #[new]
    fn new(py: Python<'_>, words: Vec<OsString>) -> PyResult<Self> {
        py.detach(|| Whole::new(&words)).or_raise(py).map(Self)
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.names().to_vec()
    }

    #[getter]
    fn device(&self) -> String {
        self.0.device().to_string()
    }

    /// Direction and id of each.
    #[getter]
    fn utterances(&self) -> Vec<(String, &str)> {
        self.0.utterances()
    }

    fn print_tables(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.0.print_tables()).or_raise(py)
    }

    fn tables(&self, py: Python<'_>) -> PyResult<(String, String)> {
        py.detach(|| self.0.tables()).or_raise(py)
    }
}

#[pyclass(frozen, module = "sonograd._native")]
pub struct StudyWorker(Mutex<Worker>);

#[pymethods]
impl StudyWorker {
    #[new]
    fn new(
        py: Python<'_>,
        words: Vec<OsString>,
        model: usize,
        number: usize,
        gpu: Option<&str>,
    ) -> PyResult<Self> {
        // The process is the worker's alone.
        MEMORY.map_large_blocks();
        let worker = py.detach(|| Worker::open(&words, model, number, gpu));
        worker
            .or_raise_of_model(py)
            .map(|own| Self(Mutex::new(own)))
    }

    /// Places of what no log has, and a warning of what is left out.
    fn todo(&self) -> (Vec<usize>, Option<String>) {
        let worker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (worker.todo(), worker.left_out())
    }

    /// Why the utterance at a place could not be done, if it could not.
    fn take(&self, py: Python<'_>, place: usize) -> PyResult<Option<String>> {
        py.detach(|| {
            let mut worker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            worker.take(place)
        })
        .or_raise(py)
    }
}

/// Says a line on standard error as the program does.
#[pyfunction]
pub fn say(text: &str) {
    shared_out::say(text);
}
