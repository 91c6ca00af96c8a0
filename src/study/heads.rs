//! Which heads of the cross-attention to trust: heads ranked over many
//! utterances by how far they agree with a saliency map or by how well they
//! tell when words begin, and how well sets of them do on utterances that
//! they were not chosen on.

use std::collections::BTreeMap;

use serde::Serialize;

use super::choosing::{across_folds, best, ranked};
use super::heard::Heard;
use super::manifest::Item;
use super::onset_statistics::{self, mean_error};
use super::onsets::{EVEN, Scored, TimedHeads};
use super::record::utterance;
use super::run::Subjects;
use super::statistics::{Correlation, Interval, bootstrap, bootstrap_of, mean};
use super::tables::{Failure, RESAMPLES, RESAMPLES_OF_CURVES, SEED};
use crate::engine::executor::Executor;
use crate::explain::alignment::{Head, all_heads};
use crate::explain::{Progress, explain};
use crate::{Error, Result};

/// What heads are ranked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// How well they tell when words begin.
    Onsets,
    /// Pearson's correlation with a map, by its name: `spes.encoder`.
    Map(String),
}

impl Criterion {
    pub fn name(&self) -> &str {
        match self {
            Self::Onsets => "onsets",
            Self::Map(map) => map,
        }
    }

    /// What a head is worth on some utterances: the mean of what they say of
    /// it, the more the better. Absent where it is undefined on all.
    fn worth(&self, place: Head, readings: &[&Reading]) -> Option<f64> {
        match self {
            Self::Onsets => mean_error(&scores(place, readings)).map(|error| -error),
            Self::Map(_) => mean(readings.iter().map(|own| own.agreement(place))),
        }
    }
}

/// What one utterance says of every head.
#[derive(Serialize)]
pub struct Reading {
    pub id: String,
    /// `en-it`
    pub direction: String,
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

impl Reading {
    fn new(
        executor: &mut dyn Executor,
        subjects: &Subjects,
        criterion: &Criterion,
        item: &Item,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Self> {
        let heard = Heard::new(executor, subjects, item)?;
        let explained = explain(
            executor,
            subjects.model,
            subjects.tokenizer,
            &heard.subject(),
            subjects.explain,
            progress,
        )?;
        let result = utterance(item, &explained, &subjects.comparison)?;
        let agreement = match criterion {
            Criterion::Onsets => Vec::new(),
            Criterion::Map(name) => {
                let map = result.maps.get(name);
                let kinds = map.map(|map| &map.correlations);
                let own = kinds.and_then(|kinds| kinds.get(Correlation::Pearson.name()));
                let own = own.ok_or_else(|| Error::Model(format!("no {name}")))?;
                own.heads.clone()
            }
        };
        let truth = subjects.onsets.of(&item.id);
        // Words of a translation have no onsets.
        let onsets = match truth.filter(|_| !item.translates()) {
            None => None,
            Some(truth) => {
                let timed = TimedHeads::new(truth, &explained)?;
                let decoder = &subjects.model.decoder.config;
                let layer = |layer| {
                    let heads = 0..decoder.heads;
                    heads.map(|head| timed.score(&[[layer, head]])).collect()
                };
                Some(HeadOnsets {
                    spoken: timed.spoken(),
                    matched: timed.matched(),
                    heads: (0..decoder.layers).map(layer).collect::<Result<_>>()?,
                    timed,
                })
            }
        };
        Ok(Self {
            id: item.id.clone(),
            direction: item.direction(),
            hypothesis: result.hypothesis,
            agreement,
            onsets: onsets.filter(|own| own.matched > 0),
        })
    }

    fn agreement(&self, [layer, head]: Head) -> Option<f64> {
        *self.agreement.get(layer)?.get(head)?
    }

    fn score(&self, [layer, head]: Head) -> Option<&Scored> {
        self.onsets.as_ref()?.heads.get(layer)?.get(head)
    }
}

/// One head's scores on the utterances that have any.
fn scores<'a>(place: Head, readings: &[&'a Reading]) -> Vec<&'a Scored> {
    let scores = readings.iter().filter_map(|own| own.score(place));
    scores.collect()
}

/// What the utterances of a manifest say of a model's heads.
pub struct Survey {
    criterion: Criterion,
    heads: Vec<Head>,
    /// In the order of directions and ids.
    pub readings: Vec<Reading>,
    pub failures: Vec<Failure>,
    /// Whether it came to its end.
    pub complete: bool,
}

/// Explains every utterance and keeps what it says of each head. `after` is
/// told of each, with what went wrong if something did, and returns whether to
/// go on; `progress` hears of masks, and if it returns false, the utterance in
/// work is dropped and the survey ends.
pub fn survey(
    executor: &mut dyn Executor,
    subjects: &Subjects,
    criterion: &Criterion,
    items: &[Item],
    after: &mut dyn FnMut(&Item, Option<&Error>) -> bool,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Survey {
    let mut survey = Survey {
        criterion: criterion.clone(),
        heads: all_heads(subjects.model),
        readings: Vec::new(),
        failures: Vec::new(),
        complete: false,
    };
    for item in items {
        let mut stopped = false;
        let mut watched = |state: Progress| {
            stopped |= !progress(state);
            !stopped
        };
        let reading = Reading::new(executor, subjects, criterion, item, &mut watched);
        if stopped {
            return survey.sorted();
        }
        let go_on = match reading {
            Ok(reading) => {
                survey.readings.push(reading);
                after(item, None)
            }
            Err(error) => {
                let go_on = after(item, Some(&error));
                survey.failures.push(Failure {
                    model: subjects.model.name.clone(),
                    direction: item.direction(),
                    id: item.id.clone(),
                    error: error.to_string(),
                });
                go_on
            }
        };
        if !go_on {
            survey.complete = survey.readings.len() + survey.failures.len() == items.len();
            return survey.sorted();
        }
    }
    survey.complete = true;
    survey.sorted()
}

/// One line of the ranking.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RankedHead {
    /// From 1.
    pub rank: usize,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// Mean correlation with the map, over utterances.
    pub agreement: Option<Interval>,
    /// Mean size of the errors of word starts by this head alone, in seconds.
    pub onset_error: Option<Interval>,
}

/// Several heads as one clock: each prepared by itself, then averaged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadSet {
    /// What they were chosen by; `all` for all heads, `even` for none.
    pub by: String,
    /// The heads of each fold, chosen on the other folds.
    pub folds: Vec<Vec<Head>>,
    /// As in the tables of a study.
    pub statistics: BTreeMap<&'static str, Interval>,
    /// By utterance, folds one after the other.
    #[serde(skip)]
    scores: Vec<Scored>,
}

/// How much later or earlier than another set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub by: String,
    pub less: String,
    /// Mean onset error of the one less that of the other, in seconds; both
    /// on the same utterances, resampled together.
    pub onset_error: Interval,
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

    fn ranked(&self, criterion: &Criterion, readings: &[&Reading]) -> Vec<(Head, Option<f64>)> {
        let heads = self.heads.iter().copied();
        ranked(heads, |head| criterion.worth(head, readings))
    }

    /// All heads, the best first; those of which nothing is known last.
    pub fn ranking(&self) -> Vec<RankedHead> {
        let readings: Vec<&Reading> = self.readings.iter().collect();
        let ranked = self.ranked(&self.criterion, &readings).into_iter();
        let rows = ranked.enumerate().map(|(index, (place, _))| {
            let agreement: Vec<_> = readings.iter().map(|own| own.agreement(place)).collect();
            let scores = scores(place, &readings);
            let error = |all: &[&Scored]| mean_error(all).unwrap_or(0.0);
            let some = !scores.is_empty();
            RankedHead {
                rank: index + 1,
                layer: place[0],
                head: place[1],
                agreement: bootstrap(&agreement, RESAMPLES, SEED),
                onset_error: some.then(|| bootstrap_of(&scores, RESAMPLES_OF_CURVES, SEED, &error)),
            }
        });
        rows.collect()
    }

    /// The best heads of all utterances, by layer and head; fewer than `size`
    /// if less is known, and none if nothing is.
    pub fn best(&self, size: usize) -> Vec<Head> {
        let ranked = self.ranked(&self.criterion, &self.readings.iter().collect::<Vec<_>>());
        let mut heads = best(&ranked, size).unwrap_or_default();
        heads.sort_unstable();
        heads
    }

    /// Sets of `size` heads, chosen on other utterances than those on which
    /// they are scored, between all heads and no head at all; and the
    /// difference between choices that know no onsets and those that do. Empty
    /// where no onsets are known.
    ///
    /// # Errors
    /// If the model has no heads.
    pub fn sets(&self, size: usize) -> Result<(Vec<HeadSet>, Option<Difference>)> {
        let timed = self.timed();
        if timed.is_empty() {
            return Ok((Vec::new(), None));
        }
        let onsets = |own: &Reading| own.onsets.as_ref().map(|own| own.timed.even());
        let even = timed.iter().filter_map(|own| onsets(own)).collect();
        let mut sets = vec![
            HeadSet::new("all", vec![self.heads.clone()], score(&timed, &self.heads)?),
            HeadSet::new(EVEN, Vec::new(), even),
        ];
        let mut criteria = vec![&self.criterion];
        if self.criterion != Criterion::Onsets {
            criteria.push(&Criterion::Onsets);
        }
        let first = sets.len();
        for criterion in criteria {
            let choose = |others: &[&Reading]| best(&self.ranked(criterion, others), size);
            let Some(folds) = across_folds(&timed, choose) else {
                continue;
            };
            let mut scores = Vec::new();
            for (own, heads) in &folds {
                scores.extend(score(own, heads)?);
            }
            let heads = folds.into_iter().map(|(_, mut heads)| {
                heads.sort_unstable();
                heads
            });
            sets.push(HeadSet::new(criterion.name(), heads.collect(), scores));
        }
        let difference = match &sets[first..] {
            [one, other] => Some(one.less(other)),
            _ => None,
        };
        Ok((sets, difference))
    }
}

/// One set of heads on some utterances.
fn score(readings: &[&Reading], heads: &[Head]) -> Result<Vec<Scored>> {
    let onsets = readings.iter().filter_map(|own| own.onsets.as_ref());
    onsets.map(|own| own.timed.score(heads)).collect()
}

impl HeadSet {
    fn new(by: &str, folds: Vec<Vec<Head>>, scores: Vec<Scored>) -> Self {
        let items: Vec<&Scored> = scores.iter().collect();
        let statistics = onset_statistics::ALL.map(|(name, value)| {
            let interval = bootstrap_of(&items, RESAMPLES_OF_CURVES, SEED, &value);
            (name, interval)
        });
        Self {
            by: by.to_owned(),
            folds,
            statistics: statistics.into(),
            scores,
        }
    }

    fn less(&self, other: &Self) -> Difference {
        let pairs: Vec<(&Scored, &Scored)> = self.scores.iter().zip(&other.scores).collect();
        let value = |pairs: &[(&Scored, &Scored)]| {
            let (one, other): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            mean_error(&one).unwrap_or(0.0) - mean_error(&other).unwrap_or(0.0)
        };
        Difference {
            by: self.by.clone(),
            less: other.by.clone(),
            onset_error: bootstrap_of(&pairs, RESAMPLES_OF_CURVES, SEED, &value),
        }
    }
}
