//! Heads that are good clocks together, by greedy forward selection. The best
//! single heads need not be: one that is late and one that is early are right
//! where neither is.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use super::super::choosing::{across_folds, ranked};
use super::super::onsets::ReadyHeads;
use super::super::statistics::Interval;
use super::HeadOnsets;
use crate::Result;
use crate::explain::alignment::Head;

/// Heads that sets are looked for among, at most: of more, those whose errors
/// alone differ least from each other.
const SHORTLIST: usize = 48;

/// A head as it was added to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Added {
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// Mean size of the errors of word starts with it, in seconds, on the
    /// utterances that it was chosen on.
    pub onset_error: f64,
}

/// What was found by greedy forward selection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forward {
    /// Chosen on all utterances, in the order in which they were added.
    pub heads: Vec<Added>,
    /// Mean onset error of heads chosen so on other utterances less that of
    /// all heads, in seconds; absent where there are no others.
    pub less_all: Option<Interval>,
}

impl Forward {
    /// By layer and head.
    pub fn places(&self) -> Vec<Head> {
        sorted(&self.heads)
    }
}

/// How many sets were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    pub done: usize,
    pub at_most: usize,
}

/// Errors of one set's word starts in an utterance.
#[derive(Clone, Copy, Default)]
struct Sum {
    ms: u64,
    words: u64,
}

/// A set that was chosen.
pub(super) struct Chosen {
    /// Chosen on all utterances, in the order in which they were added.
    pub heads: Vec<Added>,
    /// Utterances of each fold and heads chosen on the others; absent where
    /// there are none.
    pub folds: Option<Vec<(Vec<usize>, Vec<Head>)>>,
}

/// Chooses at most `most` of some heads on all utterances, and on those of all
/// folds but one. Tells `watch` of the sets that were tried; absent if that asks
/// to stop.
///
/// # Errors
/// If an utterance lacks a head.
pub(super) fn chosen(
    utterances: &[&HeadOnsets],
    heads: &[Head],
    most: usize,
    watch: &mut dyn FnMut(Tried) -> bool,
) -> Result<Option<Chosen>> {
    let all: Vec<usize> = (0..utterances.len()).collect();
    let task = |own: &[usize]| Task {
        utterances: own.to_vec(),
        among: shortlist(utterances, heads, own),
    };
    let whole = task(&all);
    let folds = across_folds(&all, |others| (!others.is_empty()).then(|| task(others)));
    let tasks = folds.iter().flatten().map(|(_, task)| task).chain([&whole]);
    let mut search = Search::new(utterances, tasks, most, watch)?;
    let Some(heads) = search.select(&whole, most)? else {
        return Ok(None);
    };
    let (others, mut of_folds) = (folds.is_some(), Vec::new());
    for (own, task) in folds.into_iter().flatten() {
        let Some(heads) = search.select(&task, most)? else {
            return Ok(None);
        };
        of_folds.push((own, sorted(&heads)));
    }
    Ok(Some(Chosen {
        heads,
        folds: others.then_some(of_folds),
    }))
}

/// What is chosen, and on what.
struct Task {
    utterances: Vec<usize>,
    among: Vec<Head>,
}

/// Remembers what was tried: folds have most of their utterances in common.
struct Search<'a> {
    /// Heads that are made ready.
    pool: Vec<Head>,
    /// By utterance.
    ready: Vec<ReadyHeads<'a>>,
    /// By places in `pool`, in order: errors in every utterance.
    sums: HashMap<Vec<usize>, Vec<Sum>>,
    tried: Tried,
    watch: &'a mut dyn FnMut(Tried) -> bool,
}

impl<'a> Search<'a> {
    fn new<'b>(
        utterances: &[&'a HeadOnsets],
        tasks: impl Iterator<Item = &'b Task>,
        most: usize,
        watch: &'a mut dyn FnMut(Tried) -> bool,
    ) -> Result<Self> {
        let (mut pool, mut at_most) = (Vec::new(), 0);
        for task in tasks {
            pool.extend(&task.among);
            let left = (0..most).map(|chosen| task.among.len().saturating_sub(chosen));
            at_most += left.sum::<usize>();
        }
        pool.sort_unstable();
        pool.dedup();
        let ready = utterances.par_iter().map(|own| own.timed.ready(&pool));
        let ready = ready.collect::<Result<_>>()?;
        // What single heads do is known.
        let single = |(at, &head): (usize, &Head)| {
            let errors = utterances.iter().map(|own| own.score(head));
            let sums = errors.map(|own| own.map(|own| Sum::of(&own.errors_ms)));
            Some((vec![at], sums.collect::<Option<Vec<Sum>>>()?))
        };
        Ok(Self {
            ready,
            sums: pool.iter().enumerate().filter_map(single).collect(),
            pool,
            tried: Tried { done: 0, at_most },
            watch,
        })
    }

    /// Adds the head with which the mean error is least, of equals the first,
    /// and goes back to the best set on the way: where one head alone is nearly
    /// right, two may be worse and four better.
    fn select(&mut self, task: &Task, most: usize) -> Result<Option<Vec<Added>>> {
        let mut chosen: Vec<Added> = Vec::new();
        let mut set: Vec<usize> = Vec::new();
        while chosen.len() < most {
            let mut best: Option<(f64, usize)> = None;
            for head in &task.among {
                let Some(at) = self.pool.iter().position(|own| own == head) else {
                    continue;
                };
                if set.contains(&at) {
                    continue;
                }
                let error = self.error(&[&set[..], &[at]].concat(), &task.utterances)?;
                if best.is_none_or(|(least, _)| error < least) {
                    best = Some((error, at));
                }
                self.tried.done += 1;
                if !(self.watch)(self.tried) {
                    return Ok(None);
                }
            }
            let Some((onset_error, at)) = best else {
                break;
            };
            let [layer, head] = self.pool[at];
            set.push(at);
            chosen.push(Added {
                layer,
                head,
                onset_error,
            });
        }
        let errors = chosen.iter().enumerate();
        let best = errors.min_by(|(_, a), (_, b)| a.onset_error.total_cmp(&b.onset_error));
        chosen.truncate(best.map_or(0, |(last, _)| last + 1));
        Ok(Some(chosen))
    }

    /// The mean error of a set in some utterances, in seconds.
    fn error(&mut self, set: &[usize], utterances: &[usize]) -> Result<f64> {
        let mut set = set.to_vec();
        // Sums hang on their order.
        set.sort_unstable();
        if !self.sums.contains_key(&set) {
            let each = self.ready.par_iter();
            let each = each.map(|own| Ok(Sum::of(&own.errors_ms(&set)?)));
            self.sums.insert(set.clone(), each.collect::<Result<_>>()?);
        }
        let known = &self.sums[&set];
        let (ms, words) = utterances.iter().fold((0, 0), |(ms, words), &at| {
            (ms + known[at].ms, words + known[at].words)
        });
        Ok(ms as f64 / words.max(1) as f64 / 1e3)
    }
}

impl Sum {
    fn of(errors_ms: &[i32]) -> Self {
        let sizes = errors_ms.iter().map(|ms| u64::from(ms.unsigned_abs()));
        Self {
            ms: sizes.sum(),
            words: errors_ms.len() as u64,
        }
    }
}

/// Heads that may be good in a set: that a head is always late or early by as
/// much does no harm, since another may be the opposite.
fn shortlist(utterances: &[&HeadOnsets], heads: &[Head], own: &[usize]) -> Vec<Head> {
    if heads.len() <= SHORTLIST {
        return heads.to_vec();
    }
    let spread = |head: Head| {
        let scores = own.iter().filter_map(|&at| utterances[at].score(head));
        let mut errors: Vec<i32> = scores.flat_map(|own| &own.errors_ms).copied().collect();
        errors.sort_unstable();
        let middle = *errors.get(errors.len() / 2)?;
        let off = errors.iter().map(|ms| u64::from(ms.abs_diff(middle)));
        Some(-(off.sum::<u64>() as f64))
    };
    let ranked = ranked(heads.iter().copied(), spread).into_iter();
    let mut list: Vec<Head> = ranked.map(|(head, _)| head).take(SHORTLIST).collect();
    list.sort_unstable();
    list
}

fn sorted(heads: &[Added]) -> Vec<Head> {
    let mut heads: Vec<Head> = heads.iter().map(|own| [own.layer, own.head]).collect();
    heads.sort_unstable();
    heads
}

#[cfg(test)]
mod tests {
    use super::super::super::onsets::TimedHeads;
    use super::super::super::truth::TrueWord;
    use super::*;

    /// Utterances of a model with one layer. Each of its heads looks at every
    /// word so many frames late, which `late` tells by head, utterance and word.
    fn utterances(heads: usize, late: impl Fn(usize, usize, usize) -> f64) -> Vec<HeadOnsets> {
        let all: Vec<Head> = (0..heads).map(|head| [0, head]).collect();
        let one = |n: usize| {
            let lengths: Vec<usize> = (0..6).map(|k| 16 + 2 * ((n + 3 * k) % 4)).collect();
            let begins = |k: usize| lengths[..k].iter().sum::<usize>();
            let frames = begins(6);
            let value = |h: usize, k: usize, j: usize| {
                let middle = begins(k) as f64 + lengths[k] as f64 / 2.0 + late(h, n, k);
                let off = (j as f64 + 0.5 - middle) / lengths[k] as f64;
                (-4.0 * off * off).exp() as f32 + 0.01
            };
            let rows = (0..heads).flat_map(|h| (0..6).map(move |k| (h, k)));
            let values = rows.flat_map(|(h, k)| (0..frames).map(move |j| (h, k, j)));
            let values = values.map(|(h, k, j)| value(h, k, j)).collect();
            let truth = (0..6).map(|k| TrueWord {
                word: format!("w{k}"),
                onset_seconds: begins(k) as f64 * 0.02,
                end_seconds: None,
            });
            let truth: Vec<TrueWord> = truth.collect();
            HeadOnsets::new(TimedHeads::planted(&truth, heads, values), &all).unwrap()
        };
        (0..7).map(one).collect()
    }

    fn forward(utterances: &[HeadOnsets], heads: usize, most: usize) -> (Chosen, Tried) {
        let utterances: Vec<&HeadOnsets> = utterances.iter().collect();
        let all: Vec<Head> = (0..heads).map(|head| [0, head]).collect();
        let mut last = Tried {
            done: 0,
            at_most: 0,
        };
        let watch = &mut |own: Tried| {
            assert_eq!(own.done, last.done + 1);
            last = own;
            true
        };
        let found = chosen(&utterances, &all, most, watch).unwrap();
        (found.unwrap(), last)
    }

    /// The two best heads are early; with one that is later than they are early
    /// they are nearly right.
    #[test]
    fn a_late_head_and_an_early_one_are_right_together() {
        let late = |h: usize, _, _| [7.0, -4.0, -4.5, 60.0][h];
        let utterances = utterances(4, late);
        let alone = |h: usize| {
            let own = utterances
                .iter()
                .map(|own| Sum::of(&own.heads[0][h].errors_ms));
            let (ms, words) = own.fold((0, 0), |(ms, n), own| (ms + own.ms, n + own.words));
            ms as f64 / words as f64 / 1e3
        };
        assert!(alone(1) < alone(2) && alone(2) < alone(0), "{}", alone(0));
        let (found, tried) = forward(&utterances, 4, 2);
        assert_eq!(sorted(&found.heads), [[0, 0], [0, 1]]);
        let [first, second] = found.heads[..] else {
            panic!("{:?}", found.heads);
        };
        assert_eq!((first.head, first.onset_error), (1, alone(1)));
        assert!(second.onset_error < 0.5 * alone(1), "{:?}", found.heads);
        let folds = found.folds.unwrap();
        assert_eq!(folds.len(), 5);
        assert!(folds.iter().all(|(_, heads)| *heads == [[0, 0], [0, 1]]));
        // Four heads and then three, on all utterances and on those of each fold.
        assert_eq!((tried.done, tried.at_most), (6 * 7, 6 * 7));
    }

    #[test]
    fn what_only_spoils_a_set_is_not_added() {
        let utterances = utterances(3, |h, _, _| [0.0, 8.0, 9.0][h]);
        let (found, tried) = forward(&utterances, 3, 3);
        assert_eq!(sorted(&found.heads), [[0, 0]]);
        assert_eq!((tried.done, tried.at_most), (6 * 6, 6 * 6));
    }

    #[test]
    fn a_set_may_become_worse_on_the_way_to_a_better_one() {
        let known = [
            (vec![0], 40),
            (vec![1], 90),
            (vec![2], 80),
            (vec![0, 1], 60),
            (vec![0, 2], 50),
            (vec![0, 1, 2], 10),
        ];
        let sums = known.map(|(set, ms)| (set, vec![Sum { ms, words: 1 }]));
        let among = vec![[0, 0], [0, 1], [0, 2]];
        let mut search = Search {
            pool: among.clone(),
            ready: Vec::new(),
            sums: sums.into(),
            tried: Tried {
                done: 0,
                at_most: 0,
            },
            watch: &mut |_| true,
        };
        let task = Task {
            utterances: vec![0],
            among,
        };
        for (most, heads) in [(1, vec![0]), (2, vec![0]), (3, vec![0, 2, 1])] {
            let found = search.select(&task, most).unwrap().unwrap();
            let found: Vec<usize> = found.iter().map(|own| own.head).collect();
            assert_eq!(found, heads);
        }
    }

    #[test]
    fn it_stops_where_it_is_asked_to() {
        let utterances = utterances(3, |h, _, _| h as f64);
        let utterances: Vec<&HeadOnsets> = utterances.iter().collect();
        let all = [[0, 0], [0, 1], [0, 2]];
        let watch = &mut |own: Tried| own.done < 4;
        assert!(chosen(&utterances, &all, 3, watch).unwrap().is_none());
        // One utterance leaves none to choose on.
        let found = chosen(&utterances[..1], &all, 3, &mut |_| true).unwrap();
        let found = found.unwrap();
        assert!(found.folds.is_none() && !found.heads.is_empty());
    }

    /// A head that is late by as much everywhere is of use, one that is here
    /// and there is not.
    #[test]
    fn of_many_heads_the_steady_ones_are_tried() {
        let heads = SHORTLIST + 10;
        let late = |h: usize, n: usize, k: usize| match h {
            0..10 => [-9.0, 9.0, 2.0][(h + n + k) % 3],
            _ => h as f64 / 8.0,
        };
        let utterances = utterances(heads, late);
        let utterances: Vec<&HeadOnsets> = utterances.iter().collect();
        let all: Vec<Head> = (0..heads).map(|head| [0, head]).collect();
        let own: Vec<usize> = (0..utterances.len()).collect();
        assert_eq!(shortlist(&utterances, &all, &own), all[10..]);
        assert_eq!(
            shortlist(&utterances, &all[..SHORTLIST], &own).len(),
            SHORTLIST
        );
    }
}
