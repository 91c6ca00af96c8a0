//! Who watches long work: Python's signals, and a callable that is told of it.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use sonograd::explain::{Event, Progress, Step};

/// What a callable is told of: stage, and how much of at most how much is done.
type Told = (&'static str, f64, f64);

/// Looks for Ctrl-C and tells a callable, each time that work asks whether to
/// go on.
pub struct Watch {
    tell: Option<Py<PyAny>>,
    /// What ended the work: an interrupt, or what the callable raised.
    raised: Option<PyErr>,
}

impl Watch {
    pub fn new(tell: Option<Py<PyAny>>) -> Self {
        Self { tell, raised: None }
    }

    /// Tells of a moment; returns whether to go on. Once it has said no, it says
    /// no.
    pub fn at(&mut self, told: Option<Told>) -> bool {
        if self.raised.is_some() {
            return false;
        }
        self.raised = Python::attach(|py| {
            py.check_signals()?;
            if let (Some(tell), Some((stage, done, most))) = (&self.tell, told) {
                tell.call1(py, (stage, done, most))?;
            }
            Ok(())
        })
        .err();
        self.raised.is_none()
    }

    pub fn progress(&mut self, progress: Progress) -> bool {
        self.at(Some(of_progress(&progress)))
    }

    pub fn event(&mut self, event: &Event) -> bool {
        self.at(match event {
            Event::Searched(own) => Some(("transcribing", own.tokens as f64, own.most as f64)),
            Event::Listened(own) => Some(("listening", own.seconds, own.of_seconds)),
            Event::Aligned(own) => Some(("aligning", own.seconds, own.of_seconds)),
            Event::Explained(own) => Some(of_progress(own)),
            _ => None,
        })
    }

    /// Whether it has said no.
    pub fn is_over(&self) -> bool {
        self.raised.is_some()
    }

    /// What ended the work is raised, whatever became of it.
    pub fn end(self) -> PyResult<()> {
        self.raised.map_or(Ok(()), Err)
    }

    /// The same of work that may give what it has so far: an interrupt is
    /// no error then. Returns whether there was one.
    pub fn end_with_part(self, py: Python<'_>) -> PyResult<bool> {
        match self.raised {
            None => Ok(false),
            Some(raised) if raised.is_instance_of::<PyKeyboardInterrupt>(py) => Ok(true),
            Some(raised) => Err(raised),
        }
    }

    /// The error of work that gave nothing: what ended it, if something did.
    pub fn or(self, other: impl FnOnce() -> PyErr) -> PyErr {
        self.raised.unwrap_or_else(other)
    }
}

pub fn of_progress(progress: &Progress) -> Told {
    let stage = match progress.step {
        Step::Masks => "masks",
        _ => "gradients",
    };
    (stage, progress.done as f64, progress.most as f64)
}
