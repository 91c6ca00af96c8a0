//! What both executors need to know of a recording before running it: which
//! operators run when, what is never used, and which tensors may share memory.

use std::ops::Range;

use super::recording::{Recording, Source, TensorInfo};
use super::tensor::TensorId;

/// A recording's operators in running order, and its tensors' lifetimes.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Operators that depend on weights and constants only; they run once,
    /// when the plan is made.
    pub once: Vec<usize>,
    /// Operators of every stage, without those in `once` and those whose
    /// results nobody uses.
    pub stages: Vec<Vec<usize>>,
    /// By tensor: whether a scheduled operator reads it or it is persistent.
    /// An output that is not live need not be written.
    pub live: Vec<bool>,
    /// By tensor: its lifetime, for computed tensors that are live.
    pub lifetimes: Vec<Option<Lifetime>>,
}

/// When a computed tensor must exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It is read in a later stage, or computed once: its memory is its own.
    Always,
    /// From one position in a stage's operator list to another, inclusive.
    Within {
        stage: usize,
        first: usize,
        last: usize,
    },
}

impl Schedule {
    pub fn new(recording: &Recording) -> Self {
        let count = recording.tensors().len();
        let operators = recording.operators();

        // Backwards: an operator is needed if one of its outputs is.
        let mut live: Vec<bool> = vec![false; count];
        let mut needed = vec![false; operators.len()];
        let left = operators.iter().enumerate().skip(recording.done());
        for (index, operator) in left.rev() {
            let kept = |id: &TensorId| {
                live[id.0 as usize] || matches!(recording.info(*id).source, Source::Persistent(_))
            };
            if operator.outputs().iter().any(kept) {
                needed[index] = true;
                for input in operator.inputs() {
                    live[input.0 as usize] = true;
                }
                for output in operator.outputs() {
                    if matches!(recording.info(output).source, Source::Persistent(_)) {
                        live[output.0 as usize] = true;
                    }
                }
            }
        }

        // Forwards: constant is what is made of weights and constants alone.
        let mut constant: Vec<bool> = recording
            .tensors()
            .iter()
            .map(|info| matches!(info.source, Source::Weight(_) | Source::Constant(_)))
            .collect();
        let mut once = Vec::new();
        let mut stages = Vec::new();
        for Range { start, end } in recording.stages() {
            let mut stage = Vec::new();
            for index in (start..end).filter(|&index| needed[index]) {
                let operator = &operators[index];
                let outputs = operator.outputs();
                let foldable = operator.scalars().is_empty()
                    && operator.inputs().iter().all(|id| constant[id.0 as usize])
                    && outputs
                        .iter()
                        .all(|id| matches!(recording.info(*id).source, Source::Computed));
                if foldable {
                    once.push(index);
                    for output in outputs {
                        constant[output.0 as usize] = true;
                    }
                } else {
                    stage.push(index);
                }
            }
            stages.push(stage);
        }

        let lifetimes = lifetimes(recording, &once, &stages, &live);
        Self {
            once,
            stages,
            live,
            lifetimes,
        }
    }
}

/// Bytes of the largest tensor of a recording that is used, in f32. Weights,
/// whose size is what it is and which are bound in parts, do not count.
pub fn largest_tensor(recording: &Recording) -> usize {
    let live = Schedule::new(recording).live;
    let tensors = recording.tensors().iter().zip(live);
    let weight = |info: &TensorInfo| matches!(info.source, Source::Weight(_));
    let used = tensors.filter(|(info, live)| *live && !weight(info));
    let sizes = used.map(|(info, _)| info.shape.len() * size_of::<f32>());
    sizes.max().unwrap_or(0)
}

fn lifetimes(
    recording: &Recording,
    once: &[usize],
    stages: &[Vec<usize>],
    live: &[bool],
) -> Vec<Option<Lifetime>> {
    let mut lifetimes: Vec<Option<Lifetime>> = vec![None; recording.tensors().len()];
    let computed = |id: TensorId| matches!(recording.info(id).source, Source::Computed);
    for &index in once {
        for id in recording.operators()[index].outputs() {
            if live[id.0 as usize] {
                lifetimes[id.0 as usize] = Some(Lifetime::Always);
            }
        }
    }
    for (stage, list) in stages.iter().enumerate() {
        for (position, &index) in list.iter().enumerate() {
            let operator = &recording.operators()[index];
            for id in operator.inputs().into_iter().filter(|&id| computed(id)) {
                let slot = &mut lifetimes[id.0 as usize];
                *slot = match *slot {
                    Some(Lifetime::Within {
                        stage: made, first, ..
                    }) if made == stage => Some(Lifetime::Within {
                        stage,
                        first,
                        last: position,
                    }),
                    _ => Some(Lifetime::Always),
                };
            }
            for id in operator.outputs().into_iter().filter(|&id| computed(id)) {
                if live[id.0 as usize] {
                    lifetimes[id.0 as usize] = Some(Lifetime::Within {
                        stage,
                        first: position,
                        last: position,
                    });
                }
            }
        }
    }
    lifetimes
}

/// A request for memory: `size` units from `first` to `last`, inclusive.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    pub size: usize,
    pub first: usize,
    pub last: usize,
}

/// Memory blocks shared by demands whose lifetimes do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// By demand: the index of its block.
    pub block_of: Vec<usize>,
    /// By block: its size.
    pub sizes: Vec<usize>,
}

/// Assigns whole blocks to demands, in order of their beginnings. A block is
/// free again after the position of its last use, never at it, so that no
/// operator reads and writes the same block.
pub fn assign_blocks(demands: &[Demand]) -> Blocks {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&d| (demands[d].first, std::cmp::Reverse(demands[d].size)));
    let mut blocks = Blocks {
        block_of: vec![0; demands.len()],
        sizes: Vec::new(),
    };
    let mut busy_until: Vec<usize> = Vec::new();
    for d in order {
        let demand = demands[d];
        let free = (0..blocks.sizes.len()).filter(|&b| busy_until[b] < demand.first);
        // The smallest block that is large enough, else the largest to grow.
        let best = free.min_by_key(|&b| {
            let size = blocks.sizes[b];
            if size >= demand.size {
                (0, size)
            } else {
                (1, usize::MAX - size)
            }
        });
        let block = best.unwrap_or_else(|| {
            blocks.sizes.push(0);
            busy_until.push(0);
            blocks.sizes.len() - 1
        });
        blocks.sizes[block] = blocks.sizes[block].max(demand.size);
        busy_until[block] = demand.last;
        blocks.block_of[d] = block;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_never_serve_two_at_a_time() {
        let demands: Vec<Demand> = (0..40)
            .map(|i: usize| Demand {
                size: 1 + (i * 7919) % 13,
                first: i / 2,
                last: i / 2 + (i * 31) % 9,
            })
            .collect();
        let blocks = assign_blocks(&demands);
        for a in 0..demands.len() {
            assert!(blocks.sizes[blocks.block_of[a]] >= demands[a].size);
            for b in 0..a {
                let overlap =
                    demands[a].first <= demands[b].last && demands[b].first <= demands[a].last;
                assert!(!overlap || blocks.block_of[a] != blocks.block_of[b]);
            }
        }
        assert!(blocks.sizes.len() < demands.len());
    }
}
