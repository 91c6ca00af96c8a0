//! Greedy and beam search over the candidates that a session gives.

use super::options::GenerationOptions;
use super::session::{Candidate, Session};
use super::watch::{Moment, Searched, Watch};
use super::{Generated, SearchTask};
use crate::model::generation_config::EarlyStopping;
use crate::{Error, Result};

/// What a search found.
#[derive(Clone)]
pub struct Found {
    pub generated: Generated,
    /// Natural logarithm of the tokens' probability among those that the
    /// rules left at every step; with fallback alone.
    pub among_left: f64,
}

/// Searches for the likeliest continuation of the prompt and the forced tokens.
///
/// # Errors
/// If the device fails, the model's probabilities are no numbers, or `watch`
/// asks to stop.
pub fn search(session: &mut Session, task: SearchTask, watch: Watch) -> Result<Found> {
    let start = [task.prompt, &task.options.forced].concat();
    session.feed(&start)?;
    let search = Search {
        options: task.options,
        prompt: task.prompt,
        limit: task.limit,
    };
    match task.options.beams {
        1 => search.greedy(session, start, watch),
        _ => search.beams(session, start, watch),
    }
}

struct Search<'a> {
    options: &'a GenerationOptions,
    prompt: &'a [u32],
    limit: usize,
}

/// A hypothesis that is not finished.
#[derive(Clone)]
struct Running {
    sum: f64,
    /// As `sum`, of the probabilities among the tokens left.
    among_left: f64,
    sequence: Vec<u32>,
    /// By position: the cache row that holds it.
    ancestry: Vec<u32>,
}

/// A way in which a hypothesis goes on.
#[derive(Clone, Copy)]
struct Step {
    /// Its place among the running ones.
    from: usize,
    id: u32,
    sum: f64,
    among_left: f64,
}

impl Running {
    fn step(&self, from: usize, candidate: &Candidate) -> Step {
        let own = candidate.log_probability;
        Step {
            from,
            id: candidate.id,
            sum: self.sum + own,
            among_left: self.among_left + own - candidate.all_left,
        }
    }
}

impl Search<'_> {
    fn found(&self, sum: f64, among_left: f64, sequence: &[u32]) -> Found {
        let tokens = sequence[self.prompt.len()..].to_vec();
        let generated = Generated {
            prompt: self.prompt.to_vec(),
            score: self.normalised(sum, tokens.len()),
            truncated: tokens.last().is_none_or(|&id| !self.options.is_end(id)),
            tokens,
            quality: None,
        };
        Found {
            generated,
            among_left,
        }
    }

    fn normalised(&self, sum: f64, length: usize) -> f64 {
        sum / (length as f64).powf(self.options.length_penalty)
    }

    /// Tells of a step that made sequences so long.
    fn tell(&self, length: usize, watch: Watch) -> Result<()> {
        let forced = self.prompt.len();
        let on = watch(Moment::Searched(Searched {
            tokens: length - forced,
            most: self.limit - forced,
        }));
        match on {
            true => Ok(()),
            false => Err(Error::Stopped),
        }
    }

    fn greedy(&self, session: &mut Session, start: Vec<u32>, watch: Watch) -> Result<Found> {
        let mut sequence = start;
        let (mut sum, mut among_left) = (0.0, 0.0);
        while sequence.len() < self.limit {
            let ancestry = vec![0; sequence.len()];
            let hypothesis = [(sequence.as_slice(), ancestry.as_slice())];
            let candidates = session.step(self.options, &hypothesis, self.prompt.len())?;
            let best = candidates[0][0];
            sum += best.log_probability;
            among_left += best.log_probability - best.all_left;
            sequence.push(best.id);
            if self.options.is_end(best.id) || sequence.len() == self.limit {
                break;
            }
            self.tell(sequence.len(), watch)?;
        }
        Ok(self.found(sum, among_left, &sequence))
    }

    fn beams(&self, session: &mut Session, start: Vec<u32>, watch: Watch) -> Result<Found> {
        let beams = self.options.beams;
        // All beams are the same at first: only one of them counts.
        let mut running: Vec<Running> = (0..beams)
            .map(|n| Running {
                sum: if n == 0 { 0.0 } else { -1e9 },
                among_left: 0.0,
                ancestry: vec![n as u32; start.len()],
                sequence: start.clone(),
            })
            .collect();
        let mut finished: Vec<Found> = Vec::new();
        loop {
            let hypotheses: Vec<(&[u32], &[u32])> = running
                .iter()
                .map(|one| (one.sequence.as_slice(), one.ancestry.as_slice()))
                .collect();
            let rows = session.step(self.options, &hypotheses, self.prompt.len())?;
            let mut steps: Vec<Step> = Vec::new();
            for (n, row) in rows.iter().enumerate() {
                steps.extend(row.iter().map(|own| running[n].step(n, own)));
            }
            steps.sort_by(|a, b| {
                let place = |own: &Step| (own.from, own.id);
                b.sum.total_cmp(&a.sum).then(place(a).cmp(&place(b)))
            });
            steps.truncate(self.options.candidates());

            let length = running[0].sequence.len() + 1;
            let full = length == self.limit;
            let extended =
                |step: &Step| [running[step.from].sequence.as_slice(), &[step.id]].concat();
            for step in steps.iter().take(beams) {
                if full || self.options.is_end(step.id) {
                    finished.push(self.found(step.sum, step.among_left, &extended(step)));
                }
            }
            finished.sort_by(|a, b| b.generated.score.total_cmp(&a.generated.score));
            finished.truncate(beams);
            let mut next: Vec<Step> = steps
                .into_iter()
                .filter(|step| !self.options.is_end(step.id))
                .take(beams)
                .collect();
            let new = length - self.prompt.len();
            let stopping = self.options.early_stopping;
            // The length at which a running hypothesis is thought to end.
            let at = match stopping {
                EarlyStopping::Never if self.options.length_penalty > 0.0 => {
                    self.limit - self.prompt.len()
                }
                _ => new,
            };
            let settled = finished.len() == beams
                && (stopping == EarlyStopping::Full
                    || next.first().is_none_or(|best| {
                        let worst = &finished[beams - 1].generated;
                        self.normalised(best.sum, at) <= worst.score
                    }));
            if full || settled {
                return Ok(finished.swap_remove(0));
            }
            self.tell(length, watch)?;
            // Too few candidates, in a vocabulary smaller than the search.
            while next.len() < beams {
                let other = next.first().copied().unwrap_or(Step {
                    from: 0,
                    id: self.options.ends.first().copied().unwrap_or(0),
                    sum: 0.0,
                    among_left: 0.0,
                });
                next.push(Step { sum: -1e9, ..other });
            }
            running = next
                .iter()
                .enumerate()
                .map(|(row, step)| Running {
                    sum: step.sum,
                    among_left: step.among_left,
                    sequence: extended(step),
                    ancestry: [running[step.from].ancestry.as_slice(), &[row as u32]].concat(),
                })
                .collect();
        }
    }
}
