//! Maps, their folder and their page.

use std::path::PathBuf;

use numpy::PyArrayDyn;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use sonograd::Error;
use sonograd::report::html::page;

use crate::errors::OrRaise;
use crate::sound::lent;

/// Name, unit, length and step of each axis.
type Axes = Vec<(&'static str, Option<&'static str>, usize, f64)>;

#[pyclass(frozen, module = "sonograd._native")]
pub struct Maps {
    pub maps: sonograd::Maps,
    /// Whether whoever watched ended the work.
    #[pyo3(get)]
    pub interrupted: bool,
}

#[pymethods]
impl Maps {
    /// `explanation.json`'s text.
    fn explanation(&self, py: Python<'_>) -> PyResult<String> {
        let text = serde_json::to_string(self.maps.explanation());
        let text = text.map_err(|problem| Error::file("explanation", problem));
        text.or_raise(py)
    }

    /// Name of each map, in order.
    #[getter]
    fn names(&self) -> Vec<&str> {
        self.maps.iter().map(|map| map.name()).collect()
    }

    /// Axes of the map at a place among the names.
    fn axes(&self, place: usize) -> PyResult<Axes> {
        let axes = self.map(place)?.axes().into_iter();
        let axes = axes.map(|axis| (axis.name, axis.unit, axis.length, axis.step));
        Ok(axes.collect())
    }

    /// Values of the map at a place, without a copy.
    fn data(own: Bound<'_, Self>, place: usize) -> PyResult<Bound<'_, PyArrayDyn<f32>>> {
        let map = own.get().map(place)?;
        lent(own.as_any(), map.data(), map.shape())
    }

    /// (T, F), without a copy.
    #[getter]
    fn features(own: Bound<'_, Self>) -> PyResult<Bound<'_, PyArrayDyn<f32>>> {
        let maps = &own.get().maps;
        lent(own.as_any(), maps.features(), &maps.features_shape())
    }

    /// (S,) at 16 kHz, if the sound goes along.
    #[getter]
    fn samples(own: Bound<'_, Self>) -> PyResult<Option<Bound<'_, PyArrayDyn<f32>>>> {
        let Some(sound) = own.get().maps.sound() else {
            return Ok(None);
        };
        let samples = &sound.samples;
        lent(own.as_any(), samples, &[samples.len()]).map(Some)
    }

    /// The page as HTML.
    fn page(&self, py: Python<'_>) -> String {
        py.detach(|| page(&self.maps))
    }

    /// Writes the folder.
    fn save(&self, py: Python<'_>, folder: PathBuf) -> PyResult<()> {
        py.detach(|| self.maps.save(folder)).or_raise(py)
    }

    fn without_sound(&self) -> Self {
        Self {
            maps: self.maps.clone().without_sound(),
            interrupted: self.interrupted,
        }
    }

    fn is_equal(&self, other: &Bound<'_, Self>) -> bool {
        self.maps == other.get().maps
    }
}

impl Maps {
    fn map(&self, place: usize) -> PyResult<sonograd::Map<'_>> {
        let mut maps = self.maps.iter();
        maps.nth(place)
            .ok_or_else(|| PyIndexError::new_err("there is no such map"))
    }
}

/// Opens a folder that `save` or the program wrote.
#[pyfunction]
pub fn open(py: Python<'_>, folder: PathBuf) -> PyResult<Maps> {
    let maps = py.detach(|| sonograd::Maps::open(folder)).or_raise(py)?;
    Ok(Maps {
        maps,
        interrupted: false,
    })
}
