//! Plans that nobody runs at the moment. An utterance as long as an earlier
//! one makes the same recordings, with the same numbers of tensors, and takes
//! those plans up again.

use std::collections::VecDeque;

use super::recording::Recording;

/// How many are kept at most.
const MOST_PLANS: usize = 16;

/// Bytes that they may take beside persistent tensors.
const MOST_BYTES: usize = 64 << 20;

/// A plan of some executor.
pub trait Kept {
    fn recording(&self) -> &Recording;

    /// Bytes of its own memory.
    fn bytes(&self) -> usize;
}

/// Released plans, oldest first.
pub struct KeptPlans<P> {
    plans: VecDeque<P>,
    bytes: usize,
}

impl<P> Default for KeptPlans<P> {
    fn default() -> Self {
        Self {
            plans: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<P: Kept> KeptPlans<P> {
    /// The plan of an equal recording, if there is one.
    pub fn take(&mut self, recording: &Recording) -> Option<P> {
        let found = self
            .plans
            .iter()
            .position(|plan| plan.recording() == recording)?;
        let plan = self.plans.remove(found)?;
        self.bytes -= plan.bytes();
        Some(plan)
    }

    /// Keeps a plan; returns those that have to go for it, or that one itself
    /// if it is too large.
    pub fn keep(&mut self, plan: P) -> Vec<P> {
        if plan.bytes() > MOST_BYTES {
            return vec![plan];
        }
        self.bytes += plan.bytes();
        self.plans.push_back(plan);
        let mut gone = Vec::new();
        while self.bytes > MOST_BYTES || self.plans.len() > MOST_PLANS {
            let oldest = self.plans.pop_front().expect("there is one at least");
            self.bytes -= oldest.bytes();
            gone.push(oldest);
        }
        gone
    }

    /// All of them, none of which is kept any longer.
    pub fn clear(&mut self) -> Vec<P> {
        self.bytes = 0;
        self.plans.drain(..).collect()
    }
}
