//! Which heads of the cross-attention to trust: heads ranked over many
//! utterances by how far they agree with a saliency map or by how well they
//! tell when words begin, and how well sets of them do on utterances that
//! they were not chosen on.

mod chosen;
mod forward;
mod found;
mod ranking;

use rayon::prelude::*;
use serde::Serialize;

use super::agreement::{Normalisation, Pooling};
use super::choosing::{Criterion, ranked};
use super::heard::{Heard, Subjects};
use super::manifest::Item;
use super::map_name::MapName;
use super::onset_statistics::mean_error;
use super::onsets::{Scored, TimedHeads};
use super::record::{Comparison, utterance};
use super::sounds::Sounds;
use super::statistics::{Correlation, mean};
use super::tables::Failure;
use super::watch::{Event, Watch};
use crate::engine::executor::Executor;
use crate::explain::alignment::{Head, all_heads};
use crate::explain::spes::{SpesOptions, Stop};
use crate::explain::{ExplainOptions, Method, Progress, Site, explain, silent_frames};
use crate::{Error, Result};
pub use chosen::{check_file, listed, usable, usual_count, write_heads};
pub use forward::{Added, Forward, Tried};
pub use found::{FORMAT, Found, Matched, VERSION, Wanted};
pub use ranking::{Choice, Difference, HeadSet, RankedHead, Sets};

/// How heads are ranked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Settings {
    pub by: Criterion,
    pub normalisation: Normalisation,
    pub pooling: Pooling,
    /// Of SPES' masks.
    pub seed: u64,
    pub special_tokens: bool,
    /// When SPES stops; absent where no masks are scored.
    pub stop: Option<Stop>,
}

impl Settings {
    /// The usual comparison, and SPES' usual masks if it is needed.
    pub fn new(by: Criterion) -> Self {
        let Comparison {
            pooling,
            normalisation,
            special,
        } = Comparison::default();
        let masks = matches!(by, Criterion::Map(MapName::At(Method::Spes, _)));
        Self {
            by,
            normalisation,
            pooling,
            seed: ExplainOptions::default().seed,
            special_tokens: special,
            stop: masks.then(|| SpesOptions::default().stop),
        }
    }

    fn comparison(&self) -> Comparison {
        Comparison {
            pooling: self.pooling,
            normalisation: self.normalisation,
            special: self.special_tokens,
        }
    }

    /// # Errors
    /// If heads do not agree with such a map.
    fn explain_options(&self, memory: usize) -> Result<ExplainOptions> {
        let (method, site) = match self.by {
            Criterion::Onsets => (None, Site::Encoder),
            Criterion::Map(MapName::At(method, site)) if !method.is_attention() => {
                (Some(method), site)
            }
            Criterion::Map(other) => {
                let problem = format!("heads are not ranked by {other}");
                return Err(Error::Input(problem));
            }
        };
        let spes = SpesOptions::default();
        Ok(ExplainOptions {
            methods: [Method::Attention].into_iter().chain(method).collect(),
            sites: vec![site],
            timed: false,
            memory,
            seed: self.seed,
            spes: SpesOptions {
                stop: self.stop.unwrap_or(spes.stop),
                ..spes
            },
            ..ExplainOptions::default()
        })
    }
}

/// What a head is worth on some utterances: the mean of what they say of it,
/// the more the better. Absent where it is undefined on all.
fn worth(by: Criterion, place: Head, readings: &[&Reading]) -> Option<f64> {
    match by {
        Criterion::Onsets => mean_error(&scores(place, readings)).map(|error| -error),
        Criterion::Map(_) => mean(readings.iter().map(|own| own.agreement(place))),
    }
}

/// What one utterance says of every head.
#[derive(Serialize)]
pub struct Reading {
    pub id: String,
    /// `en-it`
    pub direction: String,
    /// What is not as whoever gave the sound may think, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What the model wrote, and what was explained.
    pub hypothesis: String,
    /// By layer and head: the correlation with the map, if heads are ranked
    /// by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agreement: Vec<Vec<Option<f64>>>,
    /// If they are known and a word was matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onsets: Option<HeadOnsets>,
}

/// Heads of an utterance as clocks.
#[derive(Serialize)]
pub struct HeadOnsets {
    /// Words that were spoken.
    pub spoken: usize,
    /// Those of them that the model wrote.
    pub matched: usize,
    /// By layer and head.
    pub heads: Vec<Vec<Scored>>,
    #[serde(skip)]
    timed: TimedHeads,
}

impl HeadOnsets {
    /// Of all heads, layer after layer.
    fn new(timed: TimedHeads, all: &[Head]) -> Result<Self> {
        let scores = all.par_iter().map(|&head| timed.score(&[head]));
        let scores: Vec<Scored> = scores.collect::<Result<_>>()?;
        let mut heads: Vec<Vec<Scored>> = Vec::new();
        for (&[layer, _], score) in all.iter().zip(scores) {
            heads.resize_with(layer + 1, Vec::new);
            heads[layer].push(score);
        }
        Ok(Self {
            spoken: timed.spoken(),
            matched: timed.matched(),
            heads,
            timed,
        })
    }

    fn score(&self, [layer, head]: Head) -> Option<&Scored> {
        self.heads.get(layer)?.get(head)
    }
}

impl Reading {
    fn new(
        executor: &mut dyn Executor,
        subjects: &Subjects,
        sounds: &mut Sounds,
        how: &How,
        item: &Item,
        watch: &mut Watch,
    ) -> Result<Self> {
        let heard = Heard::new(executor, subjects, sounds, None, item, watch)?;
        let explained = explain(
            executor,
            subjects.model,
            subjects.tokenizer,
            &heard.subject(),
            &how.explain,
            &mut |state: Progress| watch(Event::Explained(state)),
        )?;
        let result = utterance(item, &explained, &how.comparison)?;
        let agreement = match how.by {
            Criterion::Onsets => Vec::new(),
            Criterion::Map(name) => {
                let map = result.maps.get(&name);
                let kinds = map.map(|map| &map.correlations);
                let own = kinds.and_then(|kinds| kinds.get(&Correlation::Pearson));
                let own = own.ok_or_else(|| Error::Model(format!("no {name}")))?;
                own.heads.clone()
            }
        };
        let onsets = match subjects.onsets.of_words_written(item) {
            None => None,
            Some(truth) => {
                let silence = silent_frames(subjects.model, &heard.features);
                let timed = TimedHeads::new(truth, &explained, silence)?;
                Some(HeadOnsets::new(timed, &all_heads(subjects.model))?)
            }
        };
        Ok(Self {
            id: item.id.clone(),
            direction: item.direction(),
            warnings: Vec::new(),
            hypothesis: result.hypothesis,
            agreement,
            onsets: onsets.filter(|own| own.matched > 0),
        })
    }

    fn agreement(&self, [layer, head]: Head) -> Option<f64> {
        *self.agreement.get(layer)?.get(head)?
    }

    fn score(&self, head: Head) -> Option<&Scored> {
        self.onsets.as_ref()?.score(head)
    }
}

/// One head's scores on the utterances that have any.
fn scores<'a>(place: Head, readings: &[&'a Reading]) -> Vec<&'a Scored> {
    let scores = readings.iter().filter_map(|own| own.score(place));
    scores.collect()
}

/// How every utterance is explained and read.
struct How {
    by: Criterion,
    explain: ExplainOptions,
    comparison: Comparison,
}

/// What the utterances of a manifest say of a model's heads.
pub struct Survey {
    by: Criterion,
    heads: Vec<Head>,
    /// In the order of directions and ids.
    pub readings: Vec<Reading>,
    pub failures: Vec<Failure>,
    /// Whether it came to its end.
    pub complete: bool,
}

/// Explains every utterance and keeps what it says of each head; tells `watch`
/// of each. Where that asks to stop within an utterance, it is left out.
///
/// # Errors
/// If the settings name a map that heads do not agree with. What is wrong with
/// an utterance is among the failures.
pub fn survey(
    executor: &mut dyn Executor,
    subjects: &Subjects,
    settings: &Settings,
    items: &[Item],
    watch: &mut Watch,
) -> Result<Survey> {
    let how = How {
        by: settings.by,
        explain: settings.explain_options(subjects.memory)?,
        comparison: settings.comparison(),
    };
    let mut survey = Survey {
        by: settings.by,
        heads: all_heads(subjects.model),
        readings: Vec::new(),
        failures: Vec::new(),
        complete: false,
    };
    let mut sounds = Sounds::default();
    for (before, item) in items.iter().enumerate() {
        let (mut stopped, mut warnings) = (false, Vec::new());
        let mut within = |event: Event| {
            if let Event::Sound { warning, .. } = event {
                warnings.push(warning.to_string());
            }
            stopped |= !watch(event);
            !stopped
        };
        let reading = Reading::new(executor, subjects, &mut sounds, &how, item, &mut within);
        if stopped {
            return Ok(survey.sorted());
        }
        let mut error = None;
        match reading {
            Ok(reading) => survey.readings.push(Reading {
                warnings,
                ..reading
            }),
            Err(problem) => error = Some(problem.to_string()),
        }
        let event = Event::Utterance {
            item,
            error: error.as_deref(),
            done: before + 1,
            all: items.len(),
        };
        let go_on = watch(event);
        survey.failures.extend(error.map(|error| Failure {
            model: subjects.model.name.clone(),
            direction: item.direction(),
            id: item.id.clone(),
            error,
        }));
        if !go_on && before + 1 < items.len() {
            return Ok(survey.sorted());
        }
    }
    survey.complete = true;
    Ok(survey.sorted())
}

impl Survey {
    /// The order of utterances decides folds and sums.
    fn sorted(mut self) -> Self {
        let key = |own: &Reading| (own.direction.clone(), own.id.clone());
        self.readings.sort_by_key(key);
        self
    }

    /// The utterances whose onsets are known.
    fn timed(&self) -> Vec<&Reading> {
        let readings = self.readings.iter();
        readings.filter(|own| own.onsets.is_some()).collect()
    }

    /// Matched words of all utterances, and utterances that have any.
    pub fn matched(&self) -> (usize, usize) {
        let onsets = self.readings.iter().filter_map(|own| own.onsets.as_ref());
        onsets.fold((0, 0), |(words, utterances), own| {
            (words + own.matched, utterances + 1)
        })
    }

    fn ranked(&self, by: Criterion, readings: &[&Reading]) -> Vec<(Head, Option<f64>)> {
        let heads = self.heads.iter().copied();
        ranked(heads, |head| worth(by, head, readings))
    }
}
