//! Greedy and beam search over the candidates that a session gives.

use super::Generated;
use super::options::GenerationOptions;
use super::session::Session;
use crate::Result;

/// Searches for the likeliest continuation of the prompt and the forced
/// tokens; sequences have at most `limit` tokens.
///
/// # Errors
/// If the device fails or the model's probabilities are no numbers.
pub fn search(
    session: &mut Session,
    end: u32,
    options: &GenerationOptions,
    prompt: &[u32],
    limit: usize,
) -> Result<Generated> {
    let start = [prompt, &options.forced].concat();
    session.feed(&start)?;
    let search = Search {
        end,
        options,
        prompt,
        limit,
    };
    match options.beams {
        1 => search.greedy(session, start),
        _ => search.beams(session, start),
    }
}

struct Search<'a> {
    end: u32,
    options: &'a GenerationOptions,
    prompt: &'a [u32],
    limit: usize,
}

/// A hypothesis that is not finished.
#[derive(Clone)]
struct Running {
    sum: f64,
    sequence: Vec<u32>,
    /// By position: the cache row that holds it.
    ancestry: Vec<u32>,
}

impl Search<'_> {
    fn generated(&self, sum: f64, sequence: &[u32]) -> Generated {
        let tokens = sequence[self.prompt.len()..].to_vec();
        Generated {
            prompt: self.prompt.to_vec(),
            score: self.normalised(sum, tokens.len()),
            truncated: tokens.last() != Some(&self.end),
            tokens,
        }
    }

    fn normalised(&self, sum: f64, length: usize) -> f64 {
        sum / (length as f64).powf(self.options.length_penalty)
    }

    fn greedy(&self, session: &mut Session, start: Vec<u32>) -> Result<Generated> {
        let mut sequence = start;
        let mut sum = 0.0;
        while sequence.len() < self.limit {
            let ancestry = vec![0; sequence.len()];
            let hypothesis = [(sequence.as_slice(), ancestry.as_slice())];
            let candidates =
                session.step(self.options, self.end, &hypothesis, self.prompt.len())?;
            let (score, token) = candidates[0][0];
            sum += score;
            sequence.push(token);
            if token == self.end {
                break;
            }
        }
        Ok(self.generated(sum, &sequence))
    }

    fn beams(&self, session: &mut Session, start: Vec<u32>) -> Result<Generated> {
        let beams = self.options.beams;
        // All beams are the same at first: only one of them counts.
        let mut running: Vec<Running> = (0..beams)
            .map(|n| Running {
                sum: if n == 0 { 0.0 } else { -1e9 },
                ancestry: vec![n as u32; start.len()],
                sequence: start.clone(),
            })
            .collect();
        let mut finished: Vec<Generated> = Vec::new();
        loop {
            let hypotheses: Vec<(&[u32], &[u32])> = running
                .iter()
                .map(|one| (one.sequence.as_slice(), one.ancestry.as_slice()))
                .collect();
            let rows = session.step(self.options, self.end, &hypotheses, self.prompt.len())?;
            let mut candidates: Vec<(f64, usize, u32)> = Vec::new();
            for (n, row) in rows.iter().enumerate() {
                candidates.extend(
                    row.iter()
                        .map(|&(score, id)| (running[n].sum + score, n, id)),
                );
            }
            candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            candidates.truncate(2 * beams);

            let length = running[0].sequence.len() + 1;
            let full = length == self.limit;
            let extended = |n: usize, id: u32| [running[n].sequence.as_slice(), &[id]].concat();
            for &(sum, n, id) in candidates.iter().take(beams) {
                if full || id == self.end {
                    finished.push(self.generated(sum, &extended(n, id)));
                }
            }
            finished.sort_by(|a, b| b.score.total_cmp(&a.score));
            finished.truncate(beams);
            let mut next: Vec<(f64, usize, u32)> = candidates
                .into_iter()
                .filter(|(_, _, id)| *id != self.end)
                .take(beams)
                .collect();
            let new = length - self.prompt.len();
            let settled = finished.len() == beams
                && (self.options.early_stopping
                    || next.first().is_none_or(|best| {
                        self.normalised(best.0, new) <= finished[beams - 1].score
                    }));
            if full || settled {
                return Ok(finished.swap_remove(0));
            }
            // Too few candidates, in a vocabulary smaller than the search.
            while next.len() < beams {
                let (_, n, id) = next.first().copied().unwrap_or((0.0, 0, self.end));
                next.push((-1e9, n, id));
            }
            running = next
                .iter()
                .enumerate()
                .map(|(row, &(sum, n, id))| Running {
                    sum,
                    sequence: extended(n, id),
                    ancestry: [running[n].ancestry.as_slice(), &[row as u32]].concat(),
                })
                .collect();
        }
    }
}
