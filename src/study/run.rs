//! From a manifest to a log: utterance after utterance.

use super::checks::{Checking, ShuffledModel};
use super::faithfulness::Rewriting;
use super::log::Log;
use super::manifest::Item;
use super::onsets::{self, TrueOnsets};
use super::perturbation::Perturbation;
use super::record::{Comparison, Outcome, Record, utterance};
use crate::audio;
use crate::engine::executor::Executor;
use crate::explain::spes::Progress;
use crate::explain::{ExplainOptions, Subject, explain};
use crate::features::FrontEnd;
use crate::generate::{GenerationOptions, Wanted, generate};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// One part of a manifest that is shared out: every n-th utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub number: usize,
    pub count: usize,
}

impl Shard {
    /// Whether an utterance, counted from 0, belongs to the part.
    pub fn has(self, index: usize) -> bool {
        index % self.count == self.number - 1
    }
}

/// What serves all utterances.
pub struct Subjects<'a> {
    pub model: &'a Model,
    pub front_end: &'a FrontEnd,
    pub tokenizer: &'a Tokenizer,
    pub beams: Option<usize>,
    pub explain: &'a ExplainOptions,
    pub comparison: Comparison,
    /// Whether curves of deletion and insertion are made, and infidelity and
    /// sensitivity measured.
    pub faithfulness: bool,
    /// Utterances of each direction, the first ones, on which the maps
    /// themselves are checked.
    pub checked: usize,
    /// Of utterances whose written language is the spoken one.
    pub onsets: &'a TrueOnsets,
}

/// How an utterance went.
pub enum Step<'a> {
    /// It was in the log already.
    Known,
    Done(&'a Record),
}

/// Does every utterance that the log does not have. `after` is told of each
/// and returns whether to go on; `progress` hears of masks, and if it returns
/// false, the utterance in work is dropped and the run ends. `shuffled`: the
/// model with weights that mean nothing, for the checks.
///
/// Returns whether it came to its end.
///
/// # Errors
/// If the log cannot be written. What is wrong with an utterance is recorded.
pub fn run(
    executor: &mut dyn Executor,
    subjects: &Subjects,
    shuffled: &mut [ShuffledModel],
    items: &[Item],
    log: &mut Log,
    after: &mut dyn FnMut(&Item, Step) -> bool,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<bool> {
    for item in items {
        if log.has(item) {
            if !after(item, Step::Known) {
                return Ok(false);
            }
            continue;
        }
        let mut stopped = false;
        let mut watched = |state: Progress| {
            stopped |= !progress(state);
            !stopped
        };
        let done = explained(executor, subjects, shuffled, item, &mut watched);
        // Maps that were cut short would not be what the settings say.
        if stopped {
            return Ok(false);
        }
        let record = Record {
            id: item.id.clone(),
            direction: item.direction(),
            outcome: match done {
                Ok(utterance) => Outcome::Done(Box::new(utterance)),
                Err(error) => Outcome::Failed {
                    error: error.to_string(),
                },
            },
        };
        log.add(&record)?;
        if !after(item, Step::Done(&record)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn explained(
    executor: &mut dyn Executor,
    subjects: &Subjects,
    shuffled: &mut [ShuffledModel],
    item: &Item,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<super::record::Utterance> {
    let model = subjects.model;
    let waveform = audio::load(&item.audio)?;
    let features = subjects.front_end.features(&waveform);
    let features = features.map_err(|problem| Error::file(&item.audio, problem))?;
    let fits = model.check_features(&features);
    fits.map_err(|problem| Error::file(&item.audio, problem))?;
    let wanted = wanted(subjects, item)?;
    let options = GenerationOptions::new(model, Some(subjects.tokenizer), &wanted)?;
    let generated = generate(executor, model, &features, &options)?;
    let (prompt, tokens) = generated.given_and_chosen(&options);
    let file = item.audio.file_name().unwrap_or_default();
    let subject = Subject {
        file: file.to_string_lossy().into_owned(),
        seconds: waveform.seconds(),
        features: &features,
        prompt: &prompt,
        tokens,
    };
    let explained = explain(
        executor,
        model,
        subjects.tokenizer,
        &subject,
        subjects.explain,
        progress,
    )?;
    let mut result = utterance(item, &explained, &subjects.comparison)?;
    // Words of a translation have no onsets.
    if let Some(truth) = subjects.onsets.of(&item.id).filter(|_| !translates(item)) {
        let scored = onsets::scored(truth, &explained, &subjects.comparison)?;
        result.onsets = Some(scored);
    }
    if subjects.faithfulness {
        let rewriting = Rewriting {
            model,
            tokenizer: subjects.tokenizer,
            features: &features,
            options: &options,
            reference: &item.text,
            clean: &result.hypothesis,
            seed: subjects.explain.seed,
        };
        result.faithfulness = rewriting.curves(executor, &explained, &subjects.comparison)?;
        let perturbation = Perturbation {
            model,
            subject: &subject,
            seed: subjects.explain.seed,
            memory: subjects.explain.memory,
        };
        result.perturbation = perturbation.measure(executor, &explained, &subjects.comparison)?;
    }
    if item.place < subjects.checked {
        let checking = Checking {
            model,
            tokenizer: subjects.tokenizer,
            subject: &subject,
            options: subjects.explain,
            comparison: &subjects.comparison,
        };
        result.checks = Some(checking.check(executor, shuffled, &explained, progress)?);
    }
    Ok(result)
}

/// Whether the written language is known to be another than the spoken one.
fn translates(item: &Item) -> bool {
    item.source.is_some() && item.target.is_some() && item.source != item.target
}

/// Languages and task as the manifest gives them, for models that have any.
fn wanted(subjects: &Subjects, item: &Item) -> Result<Wanted> {
    let whisper = subjects.model.encoder.window_frames().is_some();
    let has_languages = !subjects.tokenizer.languages().is_empty();
    let translates = item.source != item.target && item.target.is_some();
    let (language, task) = match (whisper, has_languages) {
        // Whisper is told what it hears, others what they write.
        (true, _) => {
            if translates && item.target.as_deref() != Some("en") {
                let target = item.target.as_deref().unwrap_or_default();
                return Err(Error::Input(format!(
                    "Whisper translates to English only, not to {target}"
                )));
            }
            let task = if translates {
                "translate"
            } else {
                "transcribe"
            };
            (item.source.clone(), Some(task.to_owned()))
        }
        (false, true) => (item.target.clone(), None),
        (false, false) => (None, None),
    };
    Ok(Wanted {
        language: language.filter(|_| has_languages || whisper),
        task,
        beams: subjects.beams,
        timestamps: false,
    })
}
