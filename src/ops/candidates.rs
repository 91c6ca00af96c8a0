//! The likeliest next tokens of every hypothesis.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::{Real, max};
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// Index that marks an unused entry of a list of banned tokens.
pub const NO_TOKEN: u32 = u32::MAX;

/// The `count` largest log-probabilities of every row with their token ids,
/// largest first, the smaller id first among equals. Tokens that are banned
/// or suppressed are passed over; where too few are left, the rest of the
/// list is (-1e30, 0).
///
/// `ranges` of a row are (text from, times, times from, times to): ids from
/// `times` on are times, and of those only `times from` to `times to` may be
/// chosen; other ids only from `text from` on. Where the times left have more
/// probability together than the likeliest other token left, only times may
/// be chosen. This is Whisper's rule; (0, NO_TOKEN, 0, NO_TOKEN) is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// (N, 1, V)
    pub log_probabilities: TensorId,
    /// (1, 1, V): 0 where a token is never to be chosen, else 1
    pub allowed: TensorId,
    /// (N, M, 1) indices: tokens banned at this step, or [`NO_TOKEN`]
    pub banned: TensorId,
    /// (N, 1, 4) indices
    pub ranges: TensorId,
    /// Whether any row's ranges may hold times; without, nothing is summed.
    pub times: bool,
    pub count: usize,
    /// (N, count, 2), persistent: log-probability, id (exact as a float below
    /// 2^24)
    pub chosen: TensorId,
}

impl Operate for Candidates {
    const NAME: &'static str = "candidates";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.log_probabilities, self.allowed, self.banned, self.ranges]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.chosen]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut chosen = context.take(self.chosen);
        let rows = context.read(self.log_probabilities);
        let allowed = context.read(self.allowed).all();
        let banned = context.read_indices(self.banned);
        let ranges = context.read_indices(self.ranges);
        let limit = context.shape(self.banned).rows;
        let zero = T::default();
        for (chosen, n) in chosen.chunks_mut(self.count * 2).zip(context.leads.clone()) {
            let banned = &banned[n * limit..(n + 1) * limit];
            let [mut text_from, times, times_from, times_to] =
                ranges[4 * n..4 * n + 4].try_into().expect("four numbers");
            let row = rows.at(n);
            let free = |id: usize| allowed[id] != zero && !banned.contains(&(id as u32));
            let first_time = (times as usize).min(row.len());
            let times_left = (times_from as usize).max(first_time)..(times_to as usize).min(row.len());
            if self.times && first_time < row.len() {
                let left = (text_from as usize).min(first_time)..first_time;
                let text = left.filter(|&id| free(id)).map(|id| row[id]).reduce(max);
                let left = times_left.clone().filter(|&id| free(id));
                let all: Vec<T> = left.map(|id| row[id]).collect();
                let most = all.iter().copied().reduce(max);
                if let (Some(text), Some(most)) = (text, most) {
                    let sum: T = all.iter().map(|&x| (x - most).exp()).sum();
                    if most + sum.ln() > text {
                        text_from = times;
                    }
                }
            }
            let mut best: Vec<(T, usize)> = Vec::with_capacity(self.count + 1);
            for (id, &value) in row.iter().enumerate() {
                let full = best.len() == self.count;
                if full && best.last().is_some_and(|last| last.0 >= value) {
                    continue;
                }
                let within = match id < first_time {
                    true => id >= text_from as usize,
                    false => times_left.contains(&id),
                };
                if !within || !free(id) {
                    continue;
                }
                let place = best.partition_point(|other| other.0 >= value);
                best.insert(place, (value, id));
                best.truncate(self.count);
            }
            best.resize(self.count, (T::from_f32(-1e30), 0));
            for (slot, (value, id)) in chosen.chunks_mut(2).zip(best) {
                slot[0] = value;
                slot[1] = T::from_f64(id as f64);
            }
        }
        context.give(self.chosen, chosen);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let shape = recording.shape(self.log_probabilities);
        vec![Launch {
            shader: "candidates",
            entry: "forward",
            overrides: vec![("TIMES", f64::from(self.times))],
            params: vec![
                ("rows", shape.lead.into()),
                ("cols", shape.cols.into()),
                ("limit", recording.shape(self.banned).rows.into()),
                ("count", self.count.into()),
            ],
            bindings: vec![
                ("log_probabilities", self.log_probabilities.into()),
                ("allowed", self.allowed.into()),
                ("banned", self.banned.into()),
                ("ranges", self.ranges.into()),
                ("chosen", self.chosen.into()),
            ],
            extent: Extent::rows(shape.lead),
        }]
    }
}
