//! The likeliest next tokens of every hypothesis.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// Index that marks an unused entry of a list of banned tokens.
pub const NO_TOKEN: u32 = u32::MAX;

/// The `count` largest log-probabilities of every row with their token ids,
/// largest first, the smaller id first among equals. Tokens that are banned
/// or suppressed are passed over; where too few are left, the rest of the
/// list is (-1e30, 0).
#[derive(Clone, Debug)]
pub struct Candidates {
    /// (N, 1, V)
    pub log_probabilities: TensorId,
    /// (1, 1, V): 0 where a token is never to be chosen, else 1
    pub allowed: TensorId,
    /// (N, M, 1) indices: tokens banned at this step, or [`NO_TOKEN`]
    pub banned: TensorId,
    pub count: usize,
    /// (N, count, 2), persistent: log-probability, id (exact as a float below
    /// 2^24)
    pub chosen: TensorId,
}

impl Operate for Candidates {
    const NAME: &'static str = "candidates";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.log_probabilities, self.allowed, self.banned]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.chosen]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut chosen = context.take(self.chosen);
        let rows = context.read(self.log_probabilities);
        let allowed = context.read(self.allowed).all();
        let banned = context.read_indices(self.banned);
        let limit = context.shape(self.banned).rows;
        let zero = T::default();
        for (chosen, n) in chosen.chunks_mut(self.count * 2).zip(context.leads.clone()) {
            let banned = &banned[n * limit..(n + 1) * limit];
            let mut best: Vec<(T, usize)> = Vec::with_capacity(self.count + 1);
            for (id, (&value, &allowed)) in rows.at(n).iter().zip(allowed).enumerate() {
                let full = best.len() == self.count;
                if full && best.last().is_some_and(|last| last.0 >= value) {
                    continue;
                }
                if allowed == zero || banned.contains(&(id as u32)) {
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
            overrides: vec![],
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
                ("chosen", self.chosen.into()),
            ],
            extent: Extent::rows(shape.lead),
        }]
    }
}
