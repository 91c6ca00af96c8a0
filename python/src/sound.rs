//! What a listener hears, and arrays that lend what others own.

use std::path::PathBuf;

use numpy::ndarray::{ArrayViewD, IxDyn};
use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use sonograd::Input;
use sonograd::features::Features;

use crate::errors::{OrRaise, refused};

/// An array over values that a class of ours owns and never changes; `owner`
/// lives as long as the array does. Nobody can write to it.
///
/// # Errors
/// If there are not as many values as the shape says.
pub fn lent<'py>(
    owner: &Bound<'py, PyAny>,
    values: &[f32],
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let view = ArrayViewD::from_shape(IxDyn(shape), values);
    let view = view.map_err(|problem| refused(owner.py(), problem.to_string()))?;
    // SAFETY: the values are the owner's, which is frozen: they neither move nor
    // change as long as it lives, and the array holds it. The array is made
    // read-only before anybody sees it.
    let array = unsafe { PyArrayDyn::borrow_from_array(&view, owner.clone()) };
    array.try_readwrite()?.make_nonwriteable();
    Ok(array)
}

/// A sound, or features of one, whose frames are so many seconds apart.
#[pyclass(frozen, module = "sonograd._native")]
pub struct Sound(pub Input, f64);

impl Sound {
    fn of(sound: sonograd::Sound) -> Self {
        // Of samples nobody asks for frames.
        Self(Input::Sound(sound), 0.0)
    }
}

#[pymethods]
impl Sound {
    #[staticmethod]
    fn read(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let sound = py.detach(|| sonograd::Sound::read(path));
        Ok(Self::of(sound.or_raise(py)?))
    }

    #[staticmethod]
    fn decode(py: Python<'_>, bytes: Vec<u8>) -> PyResult<Self> {
        let sound = py.detach(|| sonograd::Sound::decode(bytes));
        Ok(Self::of(sound.or_raise(py)?))
    }

    /// Mono samples (S,), contiguous.
    #[staticmethod]
    fn of_samples(py: Python<'_>, samples: PyReadonlyArray1<'_, f32>, rate: u32) -> PyResult<Self> {
        let samples = samples.as_slice()?;
        let sound = py.detach(|| sonograd::Sound::new(samples, rate));
        Ok(Self::of(sound.or_raise(py)?))
    }

    /// (T, F), contiguous, of which the first `sound_frames` are sound; a frame is so
    /// many seconds.
    #[staticmethod]
    fn of_features(
        py: Python<'_>,
        features: PyReadonlyArray2<'_, f32>,
        sound_frames: Option<usize>,
        frame_seconds: f64,
    ) -> PyResult<Self> {
        let &[frames, bins] = features.shape_of() else {
            return Err(refused(py, "features have the shape (frames, bins)"));
        };
        let data = features.as_slice()?.to_vec();
        let made = Features::new(data, frames, bins).or_raise(py)?;
        let made = made.with_sound_frames(sound_frames.unwrap_or(frames));
        Ok(Self(made.into(), frame_seconds))
    }

    /// The same under another name.
    fn named(&self, name: String) -> Self {
        match &self.0 {
            Input::Sound(sound) => Self::of(sound.clone().named(name)),
            other => Self(other.clone(), self.1),
        }
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn seconds(&self) -> f64 {
        self.0.seconds(self.1)
    }

    /// (S,) at 16 kHz; absent where features alone are known.
    #[getter]
    fn samples(own: Bound<'_, Self>) -> PyResult<Option<Bound<'_, PyArrayDyn<f32>>>> {
        let Some(sound) = own.get().0.sound() else {
            return Ok(None);
        };
        let samples = &sound.waveform().samples;
        lent(own.as_any(), samples, &[samples.len()]).map(Some)
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.0.warnings().iter().map(ToString::to_string).collect()
    }
}

/// The shape of a borrowed array as a slice.
trait ShapeOf {
    fn shape_of(&self) -> &[usize];
}

impl ShapeOf for PyReadonlyArray2<'_, f32> {
    fn shape_of(&self) -> &[usize] {
        use numpy::PyUntypedArrayMethods;
        self.shape()
    }
}
