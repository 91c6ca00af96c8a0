//! What was heard, and when.

use std::str::FromStr;

use pyo3::prelude::*;
use sonograd::Warning;
use sonograd::align::formats::Format;

use crate::errors::OrRaise;

/// Text, start and end in seconds, confidence, reliable, first token and the
/// one behind the last.
type TimedWord = (String, f64, f64, f64, bool, usize, usize);

#[pyclass(frozen, module = "sonograd._native")]
pub struct Heard {
    pub heard: sonograd::Heard,
    /// As people read them.
    pub texts: Vec<String>,
}

#[pymethods]
impl Heard {
    #[getter]
    fn text(&self) -> &str {
        self.heard.text()
    }

    /// Id and text of each token.
    #[getter]
    fn tokens(&self) -> Vec<(u32, &str)> {
        let ids = self.heard.tokens().iter().copied();
        ids.zip(self.texts.iter().map(String::as_str)).collect()
    }

    /// Text, first token and the one behind the last of each word.
    #[getter]
    fn words(&self) -> Vec<(&str, usize, usize)> {
        let words = self.heard.words().iter();
        words
            .map(|word| (&*word.text, word.tokens.start, word.tokens.end))
            .collect()
    }

    /// Text, start and end in seconds of each segment.
    #[getter]
    fn segments(&self) -> Vec<(&str, f64, f64)> {
        let segments = self.heard.segments().iter();
        segments
            .map(|own| (&*own.text, own.start_seconds, own.end_seconds))
            .collect()
    }

    #[getter]
    fn score(&self) -> Option<f64> {
        self.heard.score()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        in_words(&self.heard.warnings())
    }
}

#[pyclass(frozen, module = "sonograd._native")]
pub struct Alignment(pub sonograd::Alignment);

#[pymethods]
impl Alignment {
    #[getter]
    fn text(&self) -> &str {
        self.0.text()
    }

    #[getter]
    fn words(&self) -> Vec<TimedWord> {
        let words = self.0.words().iter();
        words
            .map(|word| {
                let (start, end) = (word.start_seconds, word.end_seconds);
                let tokens = &word.tokens;
                let (first, behind) = (tokens.start, tokens.end);
                let text = word.text.clone();
                (
                    text,
                    start,
                    end,
                    word.confidence,
                    word.reliable,
                    first,
                    behind,
                )
            })
            .collect()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        in_words(&self.0.warnings())
    }

    /// As a file in a format has it.
    fn written(&self, py: Python<'_>, format: &str) -> PyResult<String> {
        let format = Format::from_str(format).or_raise(py)?;
        Ok(format.file(&self.0.recording()))
    }
}

/// Warnings as people read them.
pub fn in_words(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}
