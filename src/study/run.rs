//! From a manifest to a log: utterance after utterance.

use super::checks::{Checking, ShuffledModel};
use super::faithfulness::Rewriting;
use super::heard::Heard;
use super::log::Log;
use super::manifest::Item;
use super::onsets::{self, TrueOnsets};
use super::perturbation::Perturbation;
use super::record::{Comparison, Outcome, Record, utterance};
use crate::Result;
use crate::engine::executor::Executor;
use crate::explain::{ExplainOptions, Progress, explain};
use crate::features::FrontEnd;
use crate::model::Model;
use crate::tokenizer::Tokenizer;

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
    let heard = Heard::new(executor, subjects, item)?;
    let subject = heard.subject();
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
    if let Some(truth) = subjects.onsets.of(&item.id).filter(|_| !item.translates()) {
        let scored = onsets::scored(truth, &explained, &subjects.comparison)?;
        result.onsets = Some(scored);
    }
    if subjects.faithfulness {
        let rewriting = Rewriting {
            model,
            tokenizer: subjects.tokenizer,
            features: &heard.features,
            options: &heard.options,
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
