//! From a manifest to a log: utterance after utterance.

use std::fmt;
use std::str::FromStr;

use super::checks::{Checking, Shuffled, ShuffledModel};
use super::faithfulness::Rewriting;
use super::heard::{Heard, Subjects};
use super::log::Log;
use super::manifest::Item;
use super::onsets;
use super::perturbation::Perturbation;
use super::record::{Comparison, Outcome, Record, Utterance, utterance};
use super::settings::Settings;
use super::sounds::{Files, Sounds};
use super::watch::{Event, Rewritten, Watch};
use crate::engine::executor::Executor;
use crate::engine::weights::WeightTable;
use crate::explain::{ExplainOptions, Progress, explain, silent_frames};
use crate::model::Model;
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

    /// The part's utterances.
    pub fn of(self, items: Vec<Item>) -> Vec<Item> {
        let own = items.into_iter().enumerate();
        let own = own.filter(|(index, _)| self.has(*index));
        own.map(|(_, item)| item).collect()
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// `i/n` with 1 <= i <= n.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => Err(Error::Input("i/n with i from 1 to n is wanted".into())),
        }
    }
}

/// Which of a run's utterances a log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Shard(Shard),
    /// What a worker of this number, from 1, is handed: no other worker has it.
    Worker(usize),
}

impl From<Option<Shard>> for Part {
    fn from(shard: Option<Shard>) -> Self {
        shard.map_or(Self::Whole, Self::Shard)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the whole"),
            Self::Shard(Shard { number, count }) => write!(f, "part {number} of {count}"),
            Self::Worker(number) => write!(f, "the part of worker {number}"),
        }
    }
}

/// The name of a model's log: `base-en.jsonl`, `base-en.1-of-2.jsonl`,
/// `base-en.worker-3.jsonl`.
pub fn log_name(model: &str, part: Part) -> String {
    // A name on the hub, as Hugging Face's cache writes it.
    let model = model.replace('/', "--");
    match part {
        Part::Whole => format!("{model}.jsonl"),
        Part::Shard(Shard { number, count }) => format!("{model}.{number}-of-{count}.jsonl"),
        Part::Worker(number) => format!("{model}.worker-{number}.jsonl"),
    }
}

/// One model's study.
pub struct Study<'a> {
    pub subjects: Subjects<'a>,
    pub settings: &'a Settings,
}

impl Study<'_> {
    /// Copies of the model whose weights mean nothing, where some utterance is
    /// to be checked against them; `open` gives an executor for weights.
    ///
    /// # Errors
    /// If the model cannot be read again or the device cannot hold it.
    pub fn shuffled_models(
        &self,
        items: &[Item],
        open: &mut dyn FnMut(&WeightTable) -> Result<Box<dyn Executor>>,
    ) -> Result<Vec<ShuffledModel>> {
        if !items.iter().any(|item| self.checks(item)) {
            return Ok(Vec::new());
        }
        let models = Shuffled::EVERY.into_iter().map(|level| {
            let mut model = Model::load(self.subjects.model.files.clone())?;
            level.apply(&mut model, self.settings.seed);
            let executor = open(&model.weights)?;
            Ok(ShuffledModel {
                level,
                model,
                executor,
            })
        });
        models.collect()
    }

    /// Whether the maps themselves are checked on an utterance.
    fn checks(&self, item: &Item) -> bool {
        item.place < self.settings.checks
    }

    /// Does every utterance that the log does not have, and tells `watch` of
    /// each. Where that asks to stop within an utterance, it is dropped.
    /// `shuffled`: those of
    /// [`shuffled_models`](Self::shuffled_models).
    ///
    /// Returns whether it came to its end.
    ///
    /// # Errors
    /// If the log cannot be written. What is wrong with an utterance is
    /// recorded.
    pub fn run(
        &self,
        executor: &mut dyn Executor,
        shuffled: &mut [ShuffledModel],
        items: &[Item],
        log: &mut Log,
        watch: &mut Watch,
    ) -> Result<bool> {
        let open: Vec<&Item> = items.iter().filter(|item| !log.has(item)).collect();
        let mut how = self.how();
        for (before, item) in open.iter().enumerate() {
            let Some(outcome) = self.one(executor, shuffled, item, &mut how, log, watch)? else {
                return Ok(false);
            };
            let event = Event::Utterance {
                item,
                error: outcome.error(),
                done: before + 1,
                all: open.len(),
            };
            if !watch(event) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How every utterance is done, and what is kept from one to the next.
    pub(super) fn how(&self) -> How {
        How {
            files: Files::default(),
            sounds: Sounds::default(),
            explain: self.settings.explain_options(self.subjects.memory),
            comparison: self.settings.comparison(),
        }
    }

    /// Does an utterance and puts it into the log, or nothing of it if `watch`
    /// asked to stop within.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub(super) fn one(
        &self,
        executor: &mut dyn Executor,
        shuffled: &mut [ShuffledModel],
        item: &Item,
        how: &mut How,
        log: &mut Log,
        watch: &mut Watch,
    ) -> Result<Option<Outcome>> {
        let (mut stopped, mut warnings) = (false, Vec::new());
        let mut within = |event: Event| {
            if let Event::Sound { warning, .. } = event {
                warnings.push(warning.to_string());
            }
            stopped |= !watch(event);
            !stopped
        };
        let done = self.utterance(executor, shuffled, item, how, &mut within);
        // What was cut short would not be what the settings say.
        if stopped {
            return Ok(None);
        }
        let record = Record {
            id: item.id.clone(),
            direction: item.direction(),
            given: Some(how.files.given(item)),
            warnings,
            outcome: match done {
                Ok(utterance) => Outcome::Done(Box::new(utterance)),
                Err(error) => Outcome::Failed {
                    error: error.to_string(),
                },
            },
        };
        log.add(&record)?;
        Ok(Some(record.outcome))
    }

    fn utterance(
        &self,
        executor: &mut dyn Executor,
        shuffled: &mut [ShuffledModel],
        item: &Item,
        how: &mut How,
        watch: &mut Watch,
    ) -> Result<Utterance> {
        let Subjects {
            model, tokenizer, ..
        } = self.subjects;
        let How {
            explain: options,
            comparison,
            sounds,
            ..
        } = how;
        let beams = self.settings.beams;
        let heard = Heard::new(executor, &self.subjects, sounds, beams, item, watch)?;
        let subject = heard.subject();
        let mut masks = |state: Progress| watch(Event::Explained(state));
        let explained = explain(executor, model, tokenizer, &subject, options, &mut masks)?;
        let mut result = utterance(item, &explained, comparison)?;
        if let Some(truth) = self.subjects.onsets.of_words_written(item) {
            let silence = silent_frames(model, &heard.features);
            result.onsets = Some(onsets::scored(truth, &explained, silence, comparison)?);
        }
        if self.settings.faithfulness {
            let rewriting = Rewriting {
                model,
                tokenizer,
                features: &heard.features,
                options: &heard.options,
                reference: &item.text,
                clean: &result.hypothesis,
                seed: self.settings.seed,
            };
            let mut rewritten = |state: Rewritten| watch(Event::Rewritten(state));
            result.faithfulness =
                rewriting.curves(executor, &explained, comparison, &mut rewritten)?;
            let perturbation = Perturbation {
                model,
                subject: &subject,
                seed: self.settings.seed,
                memory: self.subjects.memory,
            };
            result.perturbation = perturbation.measure(executor, &explained, comparison)?;
        }
        if self.checks(item) {
            let mut masks = |state: Progress| watch(Event::Explained(state));
            let checking = Checking {
                model,
                tokenizer,
                subject: &subject,
                options,
                comparison,
            };
            result.checks = Some(checking.check(executor, shuffled, &explained, &mut masks)?);
        }
        Ok(result)
    }
}

/// How every utterance is explained and compared.
pub(super) struct How {
    files: Files,
    sounds: Sounds,
    explain: ExplainOptions,
    comparison: Comparison,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_out_everything_once() {
        let shard = |text: &str| text.parse::<Shard>();
        let parts = ["1/3", "2/3", "3/3"].map(|text| shard(text).unwrap());
        for index in 0..7 {
            assert_eq!(parts.iter().filter(|part| part.has(index)).count(), 1);
        }
        assert_eq!(log_name("m", Part::Shard(parts[1])), "m.2-of-3.jsonl");
        assert_eq!(log_name("m", Part::Whole), "m.jsonl");
        for text in ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3"] {
            let message = shard(text).unwrap_err().to_string();
            assert!(message.contains("i/n"), "{text}: {message}");
        }
    }
}
