//! Plans that nobody runs at the moment. An utterance as long as an earlier
//! one makes equal recordings and takes their plans up again.
//!
//! What makes a plan fit is its recording alone, which names persistent
//! tensors by slots: the engine checks kind and size of the tensors that are
//! in them now, and the backend binds the plan to those. In which order they
//! were made, and which numbers or memory they got, makes no difference.

use std::collections::VecDeque;

use super::recording::Recording;

/// How many are kept at most: what one utterance needs with every method at every
/// site. A recording and what is known of its operators take some kilobytes for
/// each, which no bound of bytes sees; making a plan takes a thousandth of an
/// utterance's time.
const MOST_PLANS: usize = 24;

/// A plan of some backend.
pub trait Compiled {
    fn recording(&self) -> &Recording;

    /// Bytes of its own memory.
    fn bytes(&self) -> usize;
}

/// Released plans, oldest first.
pub struct KeptPlans<P> {
    plans: VecDeque<P>,
    bytes: usize,
    most_bytes: usize,
}

impl<P: Compiled> KeptPlans<P> {
    /// None yet; all together may take `most_bytes` beside persistent tensors.
    pub fn new(most_bytes: usize) -> Self {
        Self {
            plans: VecDeque::new(),
            bytes: 0,
            most_bytes,
        }
    }

    /// The plan of an equal recording, if there is one; the `best`, if there
    /// are several.
    pub fn take(&mut self, recording: &Recording, best: impl Fn(&P) -> bool) -> Option<P> {
        let plans = self.plans.iter().enumerate();
        let equal = plans.filter(|(_, plan)| plan.recording() == recording);
        let (found, _) = equal.max_by_key(|(_, plan)| best(plan))?;
        let plan = self.plans.remove(found)?;
        self.bytes -= plan.bytes();
        Some(plan)
    }

    /// Keeps a plan; returns those that have to go for it, or that one itself
    /// if it is too large.
    pub fn keep(&mut self, plan: P) -> Vec<P> {
        if plan.bytes() > self.most_bytes || self.most_bytes == 0 {
            return vec![plan];
        }
        self.bytes += plan.bytes();
        self.plans.push_back(plan);
        self.trim(self.most_bytes)
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Gives up the oldest until the others take no more than so many bytes.
    pub fn trim(&mut self, most_bytes: usize) -> Vec<P> {
        let mut gone = Vec::new();
        while (self.bytes > most_bytes || self.plans.len() > MOST_PLANS)
            && let Some(oldest) = self.plans.pop_front()
        {
            self.bytes -= oldest.bytes();
            gone.push(oldest);
        }
        gone
    }

    /// Gives up those that are not `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&P) -> bool) {
        self.plans.retain(wanted);
        self.bytes = self.plans.iter().map(P::bytes).sum();
    }

    /// All of them, none of which is kept any longer.
    pub fn clear(&mut self) -> Vec<P> {
        self.bytes = 0;
        self.plans.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::tensor::Shape;
    use crate::engine::weights::WeightTable;

    const MOST_BYTES: usize = 1_000;

    struct Plan(Recording, usize);

    impl Compiled for Plan {
        fn recording(&self) -> &Recording {
            &self.0
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    fn recording(weights: &Arc<WeightTable>, values: &[f32]) -> Recording {
        let mut recording = Recording::new(Arc::clone(weights));
        recording.constant(Shape::new(1, 1, values.len()), values.to_vec());
        recording
    }

    #[test]
    fn only_an_equal_recording_gets_a_plan_and_gets_it_once() {
        let weights = Arc::new(WeightTable::default());
        let mut kept = KeptPlans::new(MOST_BYTES);
        assert!(kept.keep(Plan(recording(&weights, &[1.0]), 10)).is_empty());
        assert!(kept.take(&recording(&weights, &[2.0]), |_| true).is_none());
        let others = Arc::new(WeightTable::default());
        assert!(kept.take(&recording(&others, &[1.0]), |_| true).is_none());
        assert!(kept.take(&recording(&weights, &[1.0]), |_| true).is_some());
        assert!(kept.take(&recording(&weights, &[1.0]), |_| true).is_none());
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn the_oldest_make_room() {
        let weights = Arc::new(WeightTable::default());
        let plan = |value: f32, bytes| Plan(recording(&weights, &[value]), bytes);
        let mut kept = KeptPlans::new(MOST_BYTES);
        for number in 0..MOST_PLANS {
            assert!(kept.keep(plan(number as f32, 1)).is_empty());
        }
        let gone = kept.keep(plan(-1.0, 1));
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].0, recording(&weights, &[0.0]));
        assert_eq!(kept.keep(plan(-2.0, MOST_BYTES + 1)).len(), 1);
        assert_eq!(kept.plans.len(), MOST_PLANS);
        // All the others, for one that takes all the room.
        assert_eq!(kept.keep(plan(-3.0, MOST_BYTES)).len(), MOST_PLANS);
        assert_eq!((kept.clear().len(), kept.bytes), (1, 0));
    }

    #[test]
    fn the_oldest_go_where_others_need_the_room() {
        let weights = Arc::new(WeightTable::default());
        let mut kept = KeptPlans::new(MOST_BYTES);
        for bytes in [10, 20, 30] {
            kept.keep(Plan(recording(&weights, &[bytes as f32]), bytes));
        }
        assert!(kept.trim(60).is_empty());
        let gone = kept.trim(59);
        assert_eq!(gone.iter().map(|plan| plan.1).collect::<Vec<_>>(), [10]);
        assert_eq!((kept.trim(0).len(), kept.bytes), (2, 0));
        assert!(kept.trim(0).is_empty());
    }

    /// Two plans of one recording may be held at once.
    #[test]
    fn of_equal_ones_the_best_is_taken() {
        let weights = Arc::new(WeightTable::default());
        let mut kept = KeptPlans::new(MOST_BYTES);
        for bytes in [10, 20, 30] {
            kept.keep(Plan(recording(&weights, &[1.0]), bytes));
        }
        let mut take = || {
            let found = kept.take(&recording(&weights, &[1.0]), |plan| plan.1 == 20);
            found.map(|plan| plan.1)
        };
        assert_eq!(take(), Some(20));
        assert!(take().is_some() && take().is_some());
        assert_eq!(take(), None);
    }

    #[test]
    fn none_are_kept_where_there_is_no_room() {
        let weights = Arc::new(WeightTable::default());
        let mut kept = KeptPlans::new(0);
        assert_eq!(kept.keep(Plan(recording(&weights, &[1.0]), 0)).len(), 1);
    }

    #[test]
    fn what_is_not_wanted_goes() {
        let weights = Arc::new(WeightTable::default());
        let mut kept = KeptPlans::new(MOST_BYTES);
        for bytes in [10, 20, 30] {
            kept.keep(Plan(recording(&weights, &[bytes as f32]), bytes));
        }
        kept.retain(|plan| plan.1 != 20);
        assert_eq!((kept.plans.len(), kept.bytes), (2, 40));
    }
}
