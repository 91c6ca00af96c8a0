//! Heads by what they are worth, and how well sets of them do on utterances
//! that they were not chosen on.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::super::choosing::{Criterion, across_folds, best};
use super::super::onset_statistics::{OnsetStatistic, mean_error};
use super::super::onsets::Scored;
use super::super::statistics::{
    Interval, RESAMPLES, RESAMPLES_OF_CURVES, SEED, bootstrap, bootstrap_of,
};
use super::forward::{Forward, Tried, chosen};
use super::{HeadOnsets, Reading, Survey, scores};
use crate::Result;
use crate::explain::alignment::Head;

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

/// What the heads of a set were chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// All heads: nothing was chosen.
    All,
    /// No head at all: tokens that take equally long.
    Even,
    /// The best single heads, on other utterances than those they are scored on.
    Best(Criterion),
    /// Heads that are good together, on other utterances than those they are
    /// scored on.
    Forward,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Even => f.write_str("even"),
            Self::Best(criterion) => criterion.fmt(f),
            Self::Forward => f.write_str("forward"),
        }
    }
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Several heads as one clock: each prepared by itself, then averaged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadSet {
    pub by: Choice,
    /// The heads of each fold, chosen on the other folds.
    pub folds: Vec<Vec<Head>>,
    /// As in the tables of a study.
    pub statistics: BTreeMap<OnsetStatistic, Interval>,
    /// By utterance, folds one after the other.
    #[serde(skip)]
    scores: Vec<Scored>,
}

/// What is known of sets of heads where onsets are.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    pub sets: Vec<HeadSet>,
    /// Between choices that know no onsets and those that do.
    pub difference: Option<Difference>,
    pub forward: Option<Forward>,
}

/// How much later or earlier than another set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub by: Choice,
    pub less: Choice,
    /// Mean onset error of the one less that of the other, in seconds; both
    /// on the same utterances, resampled together.
    pub onset_error: Interval,
}

impl Survey {
    /// All heads, the best first; those of which nothing is known last.
    pub fn ranking(&self) -> Vec<RankedHead> {
        let readings: Vec<&Reading> = self.readings.iter().collect();
        let ranked = self.ranked(self.by, &readings).into_iter();
        let rows = ranked.enumerate().map(|(index, (place, _))| {
            let agreement: Vec<_> = readings.iter().map(|own| own.agreement(place)).collect();
            let scores = scores(place, &readings);
            let error = |all: &[&Scored]| mean_error(all).unwrap_or(0.0);
            RankedHead {
                rank: index + 1,
                layer: place[0],
                head: place[1],
                agreement: bootstrap(&agreement, RESAMPLES, SEED),
                onset_error: bootstrap_of(&scores, RESAMPLES_OF_CURVES, SEED, &error),
            }
        });
        rows.collect()
    }

    /// The best heads of all utterances, by layer and head; fewer than `size`
    /// if less is known, and none if nothing is.
    pub fn best(&self, size: usize) -> Vec<Head> {
        let ranked = self.ranked(self.by, &self.readings.iter().collect::<Vec<_>>());
        let mut heads = best(&ranked, size).unwrap_or_default();
        heads.sort_unstable();
        heads
    }

    /// Sets of `size` heads, chosen on other utterances than those on which
    /// they are scored, between all heads and no head at all; the difference
    /// between choices that know no onsets and those that do; and heads that
    /// are good together, of which `watch` is told while they are looked for.
    /// Empty where no onsets are known; without the last where `watch` asks to
    /// stop.
    ///
    /// # Errors
    /// If the model has no heads.
    pub fn sets(&self, size: usize, watch: &mut dyn FnMut(Tried) -> bool) -> Result<Sets> {
        let timed = self.timed();
        if timed.is_empty() {
            return Ok(Sets::default());
        }
        let even = timed.iter().filter_map(|own| own.onsets.as_ref());
        let even = even.map(|own| own.timed.even()).collect();
        let all = HeadSet::new(
            Choice::All,
            vec![self.heads.clone()],
            score(&timed, &self.heads)?,
        );
        let mut sets = vec![all, HeadSet::new(Choice::Even, Vec::new(), even)];
        let mut criteria = vec![self.by];
        if self.by != Criterion::Onsets {
            criteria.push(Criterion::Onsets);
        }
        let first = sets.len();
        for criterion in criteria {
            let choose = |others: &[&Reading]| {
                let mut heads = best(&self.ranked(criterion, others), size)?;
                heads.sort_unstable();
                Some(heads)
            };
            if let Some(folds) = across_folds(&timed, choose) {
                sets.push(HeadSet::of_folds(Choice::Best(criterion), folds)?);
            }
        }
        let difference = match &sets[first..] {
            [one, other] => one.less(other),
            _ => None,
        };
        let forward = self.forward(&timed, size, &sets[0], watch)?;
        let (forward, set) = forward.unzip();
        sets.extend(set.flatten());
        Ok(Sets {
            sets,
            difference,
            forward,
        })
    }

    /// Heads that are good together, and those of the folds as a set where
    /// there are others to choose on.
    fn forward(
        &self,
        timed: &[&Reading],
        size: usize,
        all: &HeadSet,
        watch: &mut dyn FnMut(Tried) -> bool,
    ) -> Result<Option<(Forward, Option<HeadSet>)>> {
        let onsets = timed.iter().filter_map(|own| own.onsets.as_ref());
        let onsets: Vec<&HeadOnsets> = onsets.collect();
        let Some(chosen) = chosen(&onsets, &self.heads, size, watch)? else {
            return Ok(None);
        };
        let (mut set, mut less_all) = (None, None);
        if let Some(folds) = chosen.folds {
            // Of the same utterances in the same order.
            let order = folds.iter().flat_map(|(own, _)| own);
            let other: Vec<Scored> = order.map(|&at| all.scores[at].clone()).collect();
            let readings = |own: Vec<usize>| own.into_iter().map(|at| timed[at]).collect();
            let folds = folds.into_iter();
            let folds = folds.map(|(own, heads)| (readings(own), heads)).collect();
            let own = HeadSet::of_folds(Choice::Forward, folds)?;
            less_all = less(&own.scores, &other);
            set = Some(own);
        }
        let heads = chosen.heads;
        Ok(Some((Forward { heads, less_all }, set)))
    }
}

/// One set of heads on some utterances.
fn score(readings: &[&Reading], heads: &[Head]) -> Result<Vec<Scored>> {
    let onsets = readings.iter().filter_map(|own| own.onsets.as_ref());
    onsets.map(|own| own.timed.score(heads)).collect()
}

/// The mean onset error of some scores less that of others of the same
/// utterances, which are resampled together. Absent where nothing was scored.
fn less(own: &[Scored], other: &[Scored]) -> Option<Interval> {
    let pairs: Vec<(&Scored, &Scored)> = own.iter().zip(other).collect();
    let value = |pairs: &[(&Scored, &Scored)]| {
        let (one, other): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        mean_error(&one).unwrap_or(0.0) - mean_error(&other).unwrap_or(0.0)
    };
    bootstrap_of(&pairs, RESAMPLES_OF_CURVES, SEED, &value)
}

impl HeadSet {
    /// Heads of each fold, scored on its utterances.
    fn of_folds(by: Choice, folds: Vec<(Vec<&Reading>, Vec<Head>)>) -> Result<Self> {
        let mut scores = Vec::new();
        for (own, heads) in &folds {
            scores.extend(score(own, heads)?);
        }
        let heads = folds.into_iter().map(|(_, heads)| heads).collect();
        Ok(Self::new(by, heads, scores))
    }

    fn new(by: Choice, folds: Vec<Vec<Head>>, scores: Vec<Scored>) -> Self {
        let items: Vec<&Scored> = scores.iter().collect();
        let statistics = OnsetStatistic::ALL.map(|own| {
            let value = |all: &[&Scored]| own.of(all);
            Some((
                own,
                bootstrap_of(&items, RESAMPLES_OF_CURVES, SEED, &value)?,
            ))
        });
        Self {
            by,
            folds,
            statistics: statistics.into_iter().flatten().collect(),
            scores,
        }
    }

    /// Absent where nothing was scored.
    fn less(&self, other: &Self) -> Option<Difference> {
        Some(Difference {
            by: self.by,
            less: other.by,
            onset_error: less(&self.scores, &other.scores)?,
        })
    }
}
