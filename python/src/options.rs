//! What is asked for, out of dictionaries that Python's side fills whole.

use std::str::FromStr;

use pyo3::prelude::*;
use sonograd::explain::ExplainOptions;
use sonograd::explain::alignment::{AlignmentOptions, Source, model_heads};
use sonograd::explain::spes::Stop;
use sonograd::generate::{Fallback, Wanted};
use sonograd::model::Model;
use sonograd::ops::BaselineKind;
use sonograd::{Error, Method, Result, Site};

/// How sounds are transcribed.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Transcribing {
    language: Option<String>,
    task: Option<String>,
    beams: Option<usize>,
    timestamps: bool,
    fallback: bool,
}

impl Transcribing {
    pub fn wanted(self) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.language = self.language;
        wanted.task = self.task;
        wanted.task_after_detection = true;
        wanted.beams = self.beams;
        wanted.timestamps = self.timestamps;
        wanted.fallback = self.fallback.then(Fallback::default);
        wanted
    }
}

/// How masks are drawn, and what a pass may take.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Masking {
    masks: Option<usize>,
    reliability: Option<f64>,
    seed: u64,
    /// MiB
    memory: usize,
}

impl Masking {
    /// Bytes that a pass may take.
    pub fn memory(&self) -> Result<usize> {
        let bytes = self.memory.checked_mul(1 << 20).filter(|&bytes| bytes > 0);
        bytes.ok_or_else(|| Error::Input(format!("memory is {} MiB", self.memory)))
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// When masks end, if that is said.
    ///
    /// # Errors
    /// If it is said twice.
    pub fn stop(&self) -> Result<Option<Stop>> {
        match (self.masks, self.reliability) {
            (Some(_), Some(_)) => {
                let problem = "masks and reliability both say when to stop; give one";
                Err(Error::Input(problem.into()))
            }
            (Some(masks), None) => Ok(Some(Stop::Masks(masks))),
            (None, Some(reliability)) => Ok(Some(Stop::Reliability(reliability))),
            (None, None) => Ok(None),
        }
    }

    fn options(&self) -> Result<ExplainOptions> {
        let mut options = ExplainOptions::default();
        options.seed = self.seed;
        options.memory = self.memory()?;
        if let Some(stop) = self.stop()? {
            options.spes.stop = stop;
        }
        Ok(options)
    }
}

/// What is explained, and how.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Explaining {
    methods: Vec<String>,
    sites: Vec<String>,
    tokens: Vec<usize>,
    steps: Option<usize>,
    samples: Option<usize>,
    noise: Option<f32>,
    baseline: Option<String>,
    mask_probability: Option<f64>,
    segments: Option<Vec<usize>>,
    sigma: Option<f64>,
    segment_ms: Option<f64>,
}

impl Explaining {
    pub fn options(self, masking: &Masking) -> Result<ExplainOptions> {
        let mut options = masking.options()?;
        options.methods = methods(&self.methods)?;
        options.sites = parsed::<Site>(&self.sites)?;
        options.tokens = self.tokens;
        let baseline = self.baseline.as_deref().map(BaselineKind::from_str);
        let baseline = baseline.transpose()?.unwrap_or_default();
        let integrated = &mut options.integrated_gradients;
        integrated.steps = self.steps.unwrap_or(integrated.steps);
        integrated.baseline = baseline;
        let smooth = &mut options.smoothgrad;
        smooth.samples = self.samples.unwrap_or(smooth.samples);
        smooth.noise = self.noise.unwrap_or(smooth.noise);
        let spes = &mut options.spes;
        spes.baseline = baseline;
        spes.probability = self.mask_probability;
        spes.sigma = self.sigma.unwrap_or(spes.sigma);
        spes.segment_ms = self.segment_ms.unwrap_or(spes.segment_ms);
        if let Some(segments) = self.segments {
            spes.segments = segments;
        }
        Ok(options)
    }
}

/// Methods by their names.
pub fn methods(names: &[String]) -> Result<Vec<Method>> {
    parsed(names)
}

fn parsed<T: std::str::FromStr<Err = Error>>(names: &[String]) -> Result<Vec<T>> {
    names.iter().map(|name| name.parse()).collect()
}

/// How words are found in time.
pub fn alignment(
    by: Option<&str>,
    site: &str,
    masking: &Masking,
    model: &Model,
) -> Result<AlignmentOptions> {
    let source = match by {
        None => Source::of(model),
        Some("heads") => Source::Heads(heads(model)?),
        Some(name) => match name.parse()? {
            Method::Attention => Source::Attention,
            method => Source::Map(method, site.parse()?),
        },
    };
    let mut options = AlignmentOptions::by(source);
    options.explain = masking.options()?;
    Ok(options)
}

fn heads(model: &Model) -> Result<Vec<[usize; 2]>> {
    model_heads(model)?.ok_or_else(|| {
        let problem = "its folder names no alignment_heads";
        Error::Model(format!("{}: {problem}", model.name))
    })
}
