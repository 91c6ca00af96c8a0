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
use super::{Reading, Survey, scores};
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
    /// On other utterances than those they are scored on.
    Best(Criterion),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Even => f.write_str("even"),
            Self::Best(criterion) => criterion.fmt(f),
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
            HeadSet::new(
                Choice::All,
                vec![self.heads.clone()],
                score(&timed, &self.heads)?,
            ),
            HeadSet::new(Choice::Even, Vec::new(), even),
        ];
        let mut criteria = vec![self.by];
        if self.by != Criterion::Onsets {
            criteria.push(Criterion::Onsets);
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
            sets.push(HeadSet::new(
                Choice::Best(criterion),
                heads.collect(),
                scores,
            ));
        }
        let difference = match &sets[first..] {
            [one, other] => one.less(other),
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
        let pairs: Vec<(&Scored, &Scored)> = self.scores.iter().zip(&other.scores).collect();
        let value = |pairs: &[(&Scored, &Scored)]| {
            let (one, other): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            mean_error(&one).unwrap_or(0.0) - mean_error(&other).unwrap_or(0.0)
        };
        Some(Difference {
            by: self.by,
            less: other.by,
            onset_error: bootstrap_of(&pairs, RESAMPLES_OF_CURVES, SEED, &value)?,
        })
    }
}
