//! The likeliest next tokens of every hypothesis.

use std::borrow::Cow;

use super::Operate;
use super::scalars::{FIRST_VARIANT, STEP};
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::{Real, max};
use crate::engine::random::{Domain, Key};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// Index that marks the unused entries at the end of a list of banned tokens.
pub const NO_TOKEN: u32 = u32::MAX;

/// How tokens are drawn at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Divides log-probabilities; above 0.
    pub temperature: f32,
    pub seed: u64,
}

/// The `count` largest log-probabilities of every row with their token ids,
/// largest first, the smaller id first among equals. Tokens that are banned
/// or suppressed are passed over; where too few are left, the rest of the
/// list is (-1e30, 0, 0).
///
/// With `draw` they are not the largest but drawn without putting back, each
/// with its probability to the power of 1 / temperature, among those left:
/// the largest of log-probability / temperature plus a Gumbel number of its
/// own, in that order. The number of token v at position p of row n comes from
/// word `v % 4` of the block (v / 4, p, n) of [`Domain::Tokens`] under the seed;
/// positions are [`STEP`], rows count from [`FIRST_VARIANT`].
///
/// `ranges` of a row are (text from, times, times from, times to, behind): ids
/// from `times` on and below `behind` are times, and of those only `times from`
/// to `times to` may be chosen; ids below them only from `text from` on, ids
/// from `behind` on only if that is 0. Where the times left have more
/// probability together than the likeliest other token left, only times may
/// be chosen. This is Whisper's rule; (0, NO_TOKEN, 0, NO_TOKEN, NO_TOKEN) is
/// none.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// (N, 1, V)
    pub log_probabilities: TensorId,
    /// (1, 1, V): 0 where a token is never to be chosen, else 1
    pub allowed: TensorId,
    /// (N, M, 1) indices: tokens banned at this step, then [`NO_TOKEN`]
    pub banned: TensorId,
    /// (N, 1, 5) indices
    pub ranges: TensorId,
    /// Whether any row's ranges may hold times; without, nothing is summed.
    pub times: bool,
    pub count: usize,
    /// Whether the probability of all tokens left is wanted.
    pub with_left: bool,
    pub draw: Option<Draw>,
    /// (N, count, 3), persistent: log-probability, id (exact as a float below
    /// 2^24), and the logarithm of the probability of all tokens left, 0
    /// where it is not wanted
    pub chosen: TensorId,
}

/// The logarithm of the sum of exponentials.
fn log_sum<T: Real>(values: impl Iterator<Item = T> + Clone) -> T {
    let most = values.clone().reduce(max).unwrap_or_default();
    let sum: T = values.map(|value| (value - most).exp()).sum();
    most + sum.ln()
}

/// A number of the standard Gumbel distribution from 32 random bits: minus the
/// logarithm of an exponentially distributed number.
fn gumbel(bits: u32) -> f64 {
    let p = (f64::from(bits >> 9) + 0.5) / 8_388_608.0;
    let exponential = -(-p).ln_1p();
    -exponential.ln()
}

impl Draw {
    /// By token: what the tokens are ordered by.
    fn order<T: Real>(&self, log_probabilities: &[T], position: usize, row: usize) -> Vec<T> {
        let scale = T::from_f64(1.0 / f64::from(self.temperature));
        let key = Key::from(self.seed);
        let mut order = Vec::with_capacity(log_probabilities.len());
        for (block, values) in log_probabilities.chunks(4).enumerate() {
            let place = [block as u32, position as u32, row as u32];
            let words = key.block(Domain::Tokens, place);
            let drawn = values.iter().zip(words);
            order.extend(drawn.map(|(&value, word)| value * scale + T::from_f64(gumbel(word))));
        }
        order
    }
}

impl Operate for Candidates {
    const NAME: &'static str = "candidates";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.log_probabilities, self.allowed, self.banned, self.ranges]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.chosen]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_VARIANT, STEP]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut chosen = context.take(self.chosen);
        let position = context.scalar(STEP);
        let first = context.scalar(FIRST_VARIANT);
        let rows = context.read(self.log_probabilities);
        let allowed = context.read(self.allowed).all();
        let banned = context.read_indices(self.banned);
        let ranges = context.read_indices(self.ranges);
        let limit = context.shape(self.banned).rows;
        let zero = T::default();
        for (chosen, n) in chosen.chunks_mut(self.count * 3).zip(context.leads.clone()) {
            let banned = &banned[n * limit..(n + 1) * limit];
            let used = banned.iter().position(|&id| id == NO_TOKEN);
            let banned = &banned[..used.unwrap_or(limit)];
            let [mut text_from, times, times_from, times_to, behind] =
                ranges[5 * n..5 * n + 5].try_into().expect("five numbers");
            let row = rows.at(n);
            let free = |id: usize| allowed[id] != zero && !banned.contains(&(id as u32));
            let first_time = (times as usize).min(row.len());
            let behind = (behind as usize).clamp(first_time, row.len());
            let times_left = (times_from as usize).max(first_time)..(times_to as usize).min(behind);
            if self.times && first_time < behind {
                let below = (text_from as usize).min(first_time)..first_time;
                let added = if text_from == 0 { behind } else { row.len() }..row.len();
                let left = below.chain(added).filter(|&id| free(id));
                let text = left.map(|id| row[id]).reduce(max);
                let left = times_left.clone().filter(|&id| free(id));
                let times_left: Vec<T> = left.map(|id| row[id]).collect();
                if let Some(text) = text
                    && !times_left.is_empty()
                    && log_sum(times_left.into_iter()) > text
                {
                    text_from = times;
                }
            }
            let left = |id: usize| {
                let within = match id {
                    _ if id < first_time => id >= text_from as usize,
                    _ if id < behind => times_left.contains(&id),
                    _ => text_from == 0,
                };
                within && free(id)
            };
            let order = match &self.draw {
                None => Cow::Borrowed(row),
                Some(draw) => Cow::Owned(draw.order(row, position, first + n)),
            };
            let mut best: Vec<(T, usize)> = Vec::with_capacity(self.count + 1);
            for (id, &value) in order.iter().enumerate() {
                let full = best.len() == self.count;
                if full && best.last().is_some_and(|last| last.0 >= value) {
                    continue;
                }
                if !left(id) {
                    continue;
                }
                let place = best.partition_point(|other| other.0 >= value);
                best.insert(place, (value, id));
                best.truncate(self.count);
            }
            let all_left = match self.with_left {
                true => log_sum((0..row.len()).filter(|&id| left(id)).map(|id| row[id])),
                false => zero,
            };
            let found = best.iter().map(|&(_, id)| [row[id], T::from_f64(id as f64), all_left]);
            let none = [T::from_f32(-1e30), zero, zero];
            let found = found.chain(std::iter::repeat(none));
            for (slot, found) in chosen.chunks_mut(3).zip(found) {
                slot.copy_from_slice(&found);
            }
        }
        context.give(self.chosen, chosen);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let shape = recording.shape(self.log_probabilities);
        let draw = self.draw.unwrap_or(Draw {
            temperature: 1.0,
            seed: 0,
        });
        let key = Key::from(draw.seed);
        vec![Launch {
            shader: "candidates",
            entry: "forward",
            overrides: vec![
                ("TIMES", f64::from(self.times)),
                ("WITH_LEFT", f64::from(self.with_left)),
                ("DRAWN", f64::from(self.draw.is_some())),
            ],
            params: vec![
                ("rows", shape.lead.into()),
                ("cols", shape.cols.into()),
                ("limit", recording.shape(self.banned).rows.into()),
                ("count", self.count.into()),
                ("scale", (1.0 / draw.temperature).into()),
                ("seed_low", key.low.into()),
                ("seed_high", key.high.into()),
            ],
            bindings: vec![
                ("log_probabilities", self.log_probabilities.into()),
                ("allowed", self.allowed.into()),
                ("banned", self.banned.into()),
                ("ranges", self.ranges.into()),
                ("scalars", Binding::Scalars),
                ("chosen", self.chosen.into()),
            ],
            extent: Extent::rows(shape.lead),
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's chi-square of how often each token comes first.
    #[test]
    fn tokens_are_drawn_with_their_probabilities() {
        let probabilities = [0.4, 0.3, 0.15, 0.1, 0.04, 0.01f64];
        let logarithms = probabilities.map(f64::ln);
        const DRAWS: usize = 20_000;
        for (temperature, seed) in [(1.0, 0), (0.5, 1), (2.0, u64::MAX)] {
            let draw = Draw { temperature, seed };
            let mut counts = [0.0; 6];
            for n in 0..DRAWS {
                let order = draw.order(&logarithms, n % 100, n / 100);
                let first = (0..6).max_by(|&a, &b| order[a].total_cmp(&order[b]));
                counts[first.unwrap()] += 1.0;
            }
            let powers = probabilities.map(|p| p.powf(1.0 / f64::from(temperature)));
            let sum: f64 = powers.iter().sum();
            let expected = powers.map(|power| power / sum * DRAWS as f64);
            let parts = counts.iter().zip(expected).map(|(n, e)| (n - e).powi(2) / e);
            let chi_square: f64 = parts.sum();
            println!("temperature {temperature}: {chi_square:.1}");
            // 99.9% of such sums with five degrees of freedom are below it.
            assert!(chi_square < 20.5, "{counts:?} {expected:?}");
        }
    }
}
