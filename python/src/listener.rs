//! The front door. Work is done without Python's lock, one caller at a time.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use sonograd::engine::precision::Precision;
use sonograd::explain::is_special;
use sonograd::features::Kind;
use sonograd::{Error, Result};

use crate::errors::{About, OrRaise, raised, refused};
use crate::explained::Maps;
use crate::heard::{Alignment, Heard, in_words};
use crate::options::{Explaining, Masking, Transcribing, alignment};
use crate::sound::Sound;
use crate::study;
use crate::watch::Watch;

#[pyclass(frozen, module = "sonograd._native")]
pub struct Listener {
    listener: Mutex<sonograd::Listener>,
    /// Who has it. A callable that is told of its work cannot ask it for more.
    by: Mutex<Option<ThreadId>>,
    /// What does not change.
    facts: Facts,
}

struct Facts {
    name: String,
    revision: Option<String>,
    architecture: String,
    device: String,
    choice: String,
    precision: Precision,
    front_end: Kind,
    bins: usize,
    frame_seconds: f64,
    warnings: Vec<String>,
}

/// Says who has a listener, as long as this is there.
struct Held<'a>(&'a Mutex<Option<ThreadId>>);

impl<'a> Held<'a> {
    fn new(by: &'a Mutex<Option<ThreadId>>, who: ThreadId) -> Self {
        *by.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
        Self(by)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Listener {
    /// Does work with the listener, without Python's lock.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut sonograd::Listener) -> T + Send,
    ) -> PyResult<T> {
        let own = thread::current().id();
        let by = *self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if by == Some(own) {
            let problem = "the listener is at work, and who is told of that cannot ask for more";
            return Err(refused(py, problem));
        }
        py.detach(|| {
            let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
            let _held = Held::new(&self.by, own);
            Ok(work(&mut listener))
        })
    }
}

#[pymethods]
impl Listener {
    #[new]
    fn new(
        py: Python<'_>,
        model: Option<PathBuf>,
        device: String,
        precision: &str,
        transcribing: Transcribing,
        tell: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let precision = Precision::from_str(precision).or_raise(py)?;
        let mut watch = Watch::new(tell);
        let mut builder = sonograd::Listener::builder()
            .device(device.clone())
            .precision(precision)
            .wanted(transcribing.wanted());
        if let Some(model) = model {
            builder = builder.model(model);
        }
        let opened = py.detach(|| {
            builder.open_watched(&mut |download| {
                let all = download.bytes.unwrap_or(download.done);
                watch.at(Some(("downloading", download.done as f64, all as f64)))
            })
        });
        let listener = match opened {
            Ok(listener) => listener,
            Err(error) => return Err(watch.or(|| raised(py, &error, About::Model))),
        };
        watch.end()?;
        Self::of(py, listener, device)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.facts.name
    }

    #[getter]
    fn revision(&self) -> Option<&str> {
        self.facts.revision.as_deref()
    }

    #[getter]
    fn architecture(&self) -> &str {
        &self.facts.architecture
    }

    #[getter]
    fn device(&self) -> &str {
        &self.facts.device
    }

    #[getter]
    fn precision(&self) -> &'static str {
        self.facts.precision.name()
    }

    /// What transformers calls the way it hears.
    #[getter]
    fn front_end(&self) -> &'static str {
        self.facts.front_end.name()
    }

    /// Whether its features are the samples themselves.
    #[getter]
    fn hears_samples(&self) -> bool {
        self.facts.front_end == Kind::Waveform
    }

    #[getter]
    fn bins(&self) -> usize {
        self.facts.bins
    }

    /// From one frame of features to the next.
    #[getter]
    fn frame_seconds(&self) -> f64 {
        self.facts.frame_seconds
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.facts.warnings.clone()
    }

    fn transcribe(
        &self,
        py: Python<'_>,
        sound: &Bound<'_, Sound>,
        transcribing: Transcribing,
        tell: Option<Py<PyAny>>,
    ) -> PyResult<Heard> {
        let (input, wanted) = (sound.get().0.clone(), transcribing.wanted());
        let mut watch = Watch::new(tell);
        let heard = self.with(py, |listener| {
            listener.foresee(None);
            let heard = listener.transcribe_as(input, &wanted, &mut |event| watch.event(&event))?;
            spelled(listener, heard)
        })?;
        // What was heard till then counts for nothing.
        watch.end()?;
        heard.or_raise(py)
    }

    fn given(
        &self,
        py: Python<'_>,
        sound: &Bound<'_, Sound>,
        text: &str,
        transcribing: Transcribing,
    ) -> PyResult<Heard> {
        let (input, wanted) = (sound.get().0.clone(), transcribing.wanted());
        let heard = self.with(py, |listener| {
            let heard = listener.given_as(input, text, &wanted)?;
            spelled(listener, heard)
        })?;
        heard.or_raise(py)
    }

    /// Maps of what was heard; without that, of what is heard now.
    #[allow(clippy::too_many_arguments)]
    fn explain(
        &self,
        py: Python<'_>,
        sound: &Bound<'_, Sound>,
        heard: Option<&Bound<'_, Heard>>,
        explaining: Explaining,
        masking: Masking,
        transcribing: Transcribing,
        tell: Option<Py<PyAny>>,
    ) -> PyResult<Maps> {
        let options = explaining.options(&masking).or_raise(py)?;
        let (input, wanted) = (sound.get().0.clone(), transcribing.wanted());
        let heard = heard.map(|heard| heard.get().heard.clone());
        let mut watch = Watch::new(tell);
        let maps = self.with(py, |listener| {
            listener.check_explainable(&input)?;
            let heard = match heard {
                Some(heard) => heard,
                None => {
                    // The sound is encoded once for both.
                    listener.foresee(Some(options.clone()));
                    let watch = &mut |event: sonograd::Event<'_>| watch.event(&event);
                    let heard = listener.transcribe_as(&input, &wanted, watch);
                    listener.foresee(None);
                    heard?
                }
            };
            if watch.is_over() {
                return Err(Error::Stopped);
            }
            let request = listener.explain(&input, &heard).options(options);
            request.watch(|progress| watch.progress(progress)).run()
        })?;
        match maps {
            Ok(maps) => {
                let interrupted = watch.end_with_part(py)?;
                Ok(Maps { maps, interrupted })
            }
            Err(error) => Err(watch.or(|| raised(py, &error, About::Input))),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn align(
        &self,
        py: Python<'_>,
        sound: &Bound<'_, Sound>,
        text: Option<String>,
        by: Option<String>,
        site: &str,
        masking: Masking,
        transcribing: Option<Transcribing>,
        tell: Option<Py<PyAny>>,
    ) -> PyResult<Alignment> {
        let input = sound.get().0.clone();
        let wanted = transcribing.map(Transcribing::wanted);
        let mut watch = Watch::new(tell);
        let alignment = self.with(py, |listener| -> Result<_> {
            let options = alignment(by.as_deref(), site, &masking, listener.model())?;
            let mut request = listener.align(input).options(options);
            if let Some(text) = text {
                request = request.text(text);
            }
            if let Some(wanted) = wanted {
                request = request.wanted(wanted);
            }
            request.watch(|event| watch.event(&event)).run()
        })?;
        watch.end()?;
        Ok(Alignment(alignment.or_raise(py)?))
    }

    /// A study of this model: the folder's tables as JSON, the conclusion,
    /// whether it came to its end, and warnings.
    fn study(
        &self,
        py: Python<'_>,
        asked: study::Asked,
        masking: Masking,
        tell: Option<Py<PyAny>>,
    ) -> PyResult<(String, String, bool, Vec<String>)> {
        let mut watch = Watch::new(tell);
        let (choice, precision) = (&self.facts.choice, self.facts.precision);
        let done = self.with(py, |listener| {
            study::run(listener, (choice, precision), asked, &masking, &mut watch)
        })?;
        match done {
            Ok(done) => {
                let stopped = watch.end_with_part(py)?;
                Ok((done.tables, done.conclusion, !stopped, done.warnings))
            }
            Err(error) => Err(watch.or(|| raised(py, &error, About::Input))),
        }
    }
}

impl Listener {
    fn of(py: Python<'_>, mut listener: sonograd::Listener, choice: String) -> PyResult<Self> {
        let front_end = listener.parts().or_raise_of_model(py)?.front_end;
        let (kind, bins) = (front_end.kind(), front_end.bins());
        let (device, precision) = listener.device().unwrap_or_default();
        let model = listener.model();
        let facts = Facts {
            name: model.name.clone(),
            revision: model.revision.clone(),
            architecture: model.architecture.clone(),
            device,
            choice,
            precision,
            front_end: kind,
            bins,
            frame_seconds: kind.frame_seconds(),
            warnings: in_words(listener.warnings()),
        };
        Ok(Self {
            listener: Mutex::new(listener),
            by: Mutex::new(None),
            facts,
        })
    }
}

/// What was heard, with its tokens as people read them.
fn spelled(listener: &mut sonograd::Listener, heard: sonograd::Heard) -> Result<Heard> {
    let parts = listener.parts()?;
    let (model, tokenizer) = (parts.model, parts.tokenizer()?);
    let ids = heard.tokens();
    let texts = tokenizer.readable(ids, |at| is_special(model, tokenizer, ids[at]));
    Ok(Heard { heard, texts })
}
