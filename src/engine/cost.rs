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

/// Work of a stage of a plan, by how many lead rows of it are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageCost {
    pub all: Cost,
    /// Of its first lead row alone.
    first: Cost,
    /// The stage's lead rows.
    pub lead: usize,
}

impl StageCost {
    /// By stage.
    pub fn of_stages(recording: &Recording, schedule: &Schedule) -> Vec<Self> {
        let stages = schedule.stages.iter();
        stages
            .map(|list| {
                let operators = list.iter().map(|&index| &recording.operators()[index]);
                let leads = operators.map(|operator| operator.lead(recording));
                Self {
                    all: Cost::of(recording, schedule, list),
                    first: Cost::of_leads(recording, schedule, list, 1),
                    lead: leads.max().unwrap_or(1),
                }
            })
            .collect()
    }

    /// Work of the first `leads` lead rows, of which there is one at least.
    pub fn of(&self, leads: usize) -> Cost {
        if leads >= self.lead {
            return self.all;
        }
        // Every further row costs the same.
        let part = |first: u64, all: u64| {
            first + (all - first) * (leads as u64 - 1) / (self.lead as u64 - 1)
        };
        Cost {
            flops: part(self.first.flops, self.all.flops),
            bytes: part(self.first.bytes, self.all.bytes),
        }
    }
}

impl Cost {
    /// The cost of the operators `list` of a recording.
    pub fn of(recording: &Recording, schedule: &Schedule, list: &[usize]) -> Self {
        Self::of_leads(recording, schedule, list, usize::MAX)
    }

    /// The cost where no tensor has more than `leads` lead rows.
    fn of_leads(recording: &Recording, schedule: &Schedule, list: &[usize], leads: usize) -> Self {
        let mut cost = Self::default();
        for &index in list {
            let operator = &recording.operators()[index];
            let lead = operator.lead(recording) as u64;
            cost.flops += operator.flops(recording) / lead * lead.min(leads as u64);
            let mut tensors = operator.inputs();
            let outputs = operator.outputs();
            tensors.extend(outputs.iter().filter(|id| schedule.live[id.0 as usize]));
            tensors.sort();
            tensors.dedup();
            let shapes = tensors.iter().map(|&id| recording.shape(id));
            let sizes = shapes.map(|shape| shape.lead.min(leads) * shape.inner());
            cost.bytes += 4 * sizes.sum::<usize>() as u64;
        }
        cost
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}
