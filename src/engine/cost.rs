//! What a recording's operators come to in arithmetic and in memory traffic.

use std::ops::AddAssign;

use super::recording::Recording;
use super::schedule::Schedule;

/// Work of some operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations of products, attention and depthwise
    /// convolutions; a multiplication and an addition are two. What is linear
    /// in the number of elements (norms, activations, sums) is not counted.
    pub flops: u64,
    /// Bytes, in f32, of every operator's operands and of those of its
    /// results that somebody reads, each once: what would go through memory
    /// if nothing stayed in a cache.
    pub bytes: u64,
}

impl Cost {
    /// The cost of the operators `list` of a recording.
    pub fn of(recording: &Recording, schedule: &Schedule, list: &[usize]) -> Self {
        let mut cost = Self::default();
        for &index in list {
            let operator = &recording.operators()[index];
            cost.flops += operator.flops(recording);
            let mut tensors = operator.inputs();
            let outputs = operator.outputs();
            tensors.extend(outputs.iter().filter(|id| schedule.live[id.0 as usize]));
            tensors.sort();
            tensors.dedup();
            let sizes = tensors.iter().map(|&id| recording.shape(id).len());
            cost.bytes += 4 * sizes.sum::<usize>() as u64;
        }
        cost
    }

    /// By stage.
    pub fn of_stages(recording: &Recording, schedule: &Schedule) -> Vec<Self> {
        let stages = schedule.stages.iter();
        stages
            .map(|list| Self::of(recording, schedule, list))
            .collect()
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}
