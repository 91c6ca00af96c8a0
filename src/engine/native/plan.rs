//! A recording on the processor: its memory, and the order in which its
//! operators run.
//!
//! Operators that follow each other and whose lead rows are independent form
//! a **region**. Its lead axis is cut into chunks, and each worker takes one
//! chunk through all of the region's operators before the next, so that the
//! activations of a chunk stay in its cache and only what outlives the region
//! is ever stored for all rows. Where the lead axis has one row only, the
//! operators themselves spread over the threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rayon::prelude::*;

use super::context::{Arena, Context, PersistentValues, Place, Shared};
use super::pool::Pool;
use super::real::Real;
use crate::Result;
use crate::engine::cost::{Cost, StageCost};
use crate::engine::kept_plans::Compiled;
use crate::engine::recording::{Recording, Source};
use crate::engine::schedule::{Demand, Lifetime, Schedule, assign_blocks};
use crate::engine::tensor::{Scalars, TensorId};

/// A chunk should have about this many rows: products of a chunk copy whole
/// weights into panels, all of them through `gemm`, those of the reverse by tiles. Measured
/// with 512 columns: a quarter of them costs SPES and gradients 7 to 15%.
const CHUNK_ROWS: usize = 4000;

/// A chunk's largest tensor should have at most about this many elements,
/// which every worker has memory for.
const CHUNK_ELEMENTS: usize = 1 << 21;

/// A recording with its memory and the order in which to run it.
pub struct Plan<T> {
    recording: Recording,
    places: Vec<Place>,
    constants: Vec<Arc<Vec<T>>>,
    pub(super) blocks: Vec<Vec<T>>,
    pub(super) once: Vec<Region>,
    pub(super) stages: Vec<Arc<[Region]>>,
    bytes: usize,
    /// Of what runs when the plan is made.
    pub(super) once_cost: Cost,
    /// By stage.
    pub(super) costs: Vec<StageCost>,
}

/// Operators that are run together, chunk by chunk of their lead axis.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) operators: Vec<usize>,
    lead: usize,
    /// How many chunks its lead axis is cut into.
    chunks: usize,
    /// Whether its operators may only run on all lead rows at once.
    whole: bool,
    /// Whether it is one operator that every thread calls once, for its share
    /// of the lead rows.
    shared: bool,
    /// Outputs that outlive the region.
    outs: Vec<TensorId>,
}

impl Region {
    /// Lead rows of a chunk; chunks differ by one row at most.
    fn leads(&self, chunk: usize) -> Range<usize> {
        let begin = |chunk: usize| chunk * self.lead / self.chunks;
        begin(chunk)..begin(chunk + 1)
    }

    /// Lead rows of the largest chunk.
    fn largest_chunk(&self) -> usize {
        self.lead.div_ceil(self.chunks)
    }
}

impl<T> Compiled for Plan<T> {
    fn recording(&self) -> &Recording {
        &self.recording
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a plan needs, before any of it is allocated.
struct Layout {
    places: Vec<Place>,
    /// Elements of every shared block.
    blocks: Vec<usize>,
    once: Vec<Region>,
    stages: Vec<Vec<Region>>,
    bytes: usize,
    /// Of what runs when the plan is made.
    once_cost: Cost,
    /// By stage.
    costs: Vec<StageCost>,
}

impl Layout {
    fn new<T>(recording: &Recording) -> Self {
        let schedule = Schedule::new(recording);
        let regions_of = |list: &[usize]| regions(recording, list);
        let mut once = regions_of(&schedule.once);
        let mut stages: Vec<Vec<Region>> = schedule.stages.iter().map(|s| regions_of(s)).collect();
        let (places, blocks, locals) = place(recording, &schedule, &stages);
        for region in once.iter_mut().chain(stages.iter_mut().flatten()) {
            let outputs = region.operators.iter();
            let outputs = outputs.flat_map(|&index| recording.operators()[index].outputs());
            region.outs = outputs
                .filter(|id| {
                    matches!(
                        places[id.0 as usize],
                        Place::Block(_) | Place::Persistent(_)
                    )
                })
                .collect();
            region.outs.dedup();
        }
        let threads = rayon::current_num_threads();
        let constants = recording.tensors().iter().map(|info| match &info.source {
            Source::Constant(values) => values.len(),
            _ => 0,
        });
        let elements = blocks.iter().sum::<usize>()
            + locals.iter().sum::<usize>() * threads
            + constants.sum::<usize>();
        Self {
            places,
            blocks,
            once,
            stages,
            bytes: elements * size_of::<T>(),
            once_cost: Cost::of(recording, &schedule, &schedule.once),
            costs: StageCost::of_stages(recording, &schedule),
        }
    }
}

/// Bytes that a plan for this recording takes beside weights and persistent
/// tensors.
pub fn plan_bytes<T: Real>(recording: &Recording) -> usize {
    Layout::new::<T>(recording).bytes
}

impl<T: Real> Plan<T> {
    /// # Errors
    /// Where there is no memory.
    pub(super) fn new(recording: &Recording, pool: &mut Pool<T>) -> Result<Self> {
        let layout = Layout::new::<T>(recording);
        let constants = recording
            .tensors()
            .iter()
            .filter_map(|info| match &info.source {
                Source::Constant(values) => Some(T::share(values)),
                _ => None,
            });
        let constants = constants.collect();
        let blocks = layout.blocks.into_iter().map(|len| pool.take(len));
        Ok(Self {
            blocks: blocks.collect::<Result<_>>()?,
            recording: recording.clone(),
            places: layout.places,
            constants,
            once: layout.once,
            stages: layout.stages.into_iter().map(Arc::from).collect(),
            bytes: layout.bytes,
            once_cost: layout.once_cost,
            costs: layout.costs,
        })
    }
}

/// Cuts a list of operators into regions.
fn regions(recording: &Recording, list: &[usize]) -> Vec<Region> {
    let threads = rayon::current_num_threads();
    let mut regions: Vec<Region> = Vec::new();
    for &index in list {
        let operator = &recording.operators()[index];
        let lead = operator.lead(recording);
        let whole = operator.needs_all_leads() || lead == 1;
        let shared = !whole && operator.shares_work(recording);
        let alone = whole || shared;
        match regions.last_mut() {
            Some(last) if !alone && !last.whole && !last.shared && last.lead == lead => {
                last.operators.push(index);
            }
            _ => regions.push(Region {
                operators: vec![index],
                lead,
                chunks: if shared { threads.min(lead) } else { 1 },
                whole,
                shared,
                outs: Vec::new(),
            }),
        }
    }
    let chunked = |region: &&mut Region| !region.whole && !region.shared;
    for region in regions.iter_mut().filter(chunked) {
        let outputs = region.operators.iter();
        let outputs = outputs.flat_map(|&index| recording.operators()[index].outputs());
        let shapes = outputs.map(|id| recording.shape(id));
        let sizes = shapes.map(|shape| (shape.rows, shape.inner()));
        let (rows, elements) =
            sizes.fold((1, 1), |most, own| (most.0.max(own.0), most.1.max(own.1)));
        let fitting = (CHUNK_ROWS / rows).min(CHUNK_ELEMENTS / elements).max(1);
        // As many for every thread.
        let chunks = region.lead.div_ceil(fitting).next_multiple_of(threads);
        region.chunks = chunks.min(region.lead);
    }
    regions
}

/// Gives every tensor its place; returns the places and the sizes of the
/// shared blocks and of a worker's blocks.
fn place(
    recording: &Recording,
    schedule: &Schedule,
    stages: &[Vec<Region>],
) -> (Vec<Place>, Vec<usize>, Vec<usize>) {
    // Position in a stage's operator list -> region, numbered over all stages.
    let mut region_at: Vec<Vec<usize>> = Vec::new();
    let mut flat: Vec<&Region> = Vec::new();
    for stage in stages {
        let mut at = Vec::new();
        for region in stage {
            at.extend(std::iter::repeat_n(flat.len(), region.operators.len()));
            flat.push(region);
        }
        region_at.push(at);
    }

    let mut places = vec![Place::Nowhere; recording.tensors().len()];
    let mut constants = 0;
    let weight_count = recording.weights().iter().count();
    let (mut shared, mut shared_of) = (Vec::new(), Vec::new());
    let mut always = Vec::new();
    let mut locals: Vec<(Vec<Demand>, Vec<usize>)> = vec![Default::default(); flat.len()];
    for (tensor, info) in recording.tensors().iter().enumerate() {
        match (&info.source, schedule.lifetimes[tensor]) {
            (Source::Weight(id), _) => places[tensor] = Place::Fixed(id.0 as usize),
            (Source::Constant(_), _) => {
                places[tensor] = Place::Fixed(weight_count + constants);
                constants += 1;
            }
            (Source::Persistent(slot), _) => places[tensor] = Place::Persistent(slot.0 as usize),
            (Source::Computed, None) => {}
            (Source::Computed, Some(Lifetime::Always)) => always.push(tensor),
            (Source::Computed, Some(Lifetime::Within { stage, first, last })) => {
                let (begin, end) = (region_at[stage][first], region_at[stage][last]);
                let region = flat[begin];
                if begin == end && !region.whole {
                    locals[begin].0.push(Demand {
                        size: info.shape.inner() * region.largest_chunk(),
                        first,
                        last,
                    });
                    locals[begin].1.push(tensor);
                } else {
                    shared.push(Demand {
                        size: info.shape.len(),
                        first: begin,
                        last: end,
                    });
                    shared_of.push(tensor);
                }
            }
        }
    }

    let blocks = assign_blocks(&shared);
    let mut sizes = blocks.sizes;
    for (tensor, block) in shared_of.into_iter().zip(blocks.block_of) {
        places[tensor] = Place::Block(block);
    }
    for tensor in always {
        places[tensor] = Place::Block(sizes.len());
        sizes.push(recording.tensors()[tensor].shape.len());
    }
    let mut local_sizes: Vec<usize> = Vec::new();
    for (demands, tensors) in locals {
        let blocks = assign_blocks(&demands);
        for (tensor, block) in tensors.into_iter().zip(blocks.block_of) {
            places[tensor] = Place::Local(block);
        }
        for (block, size) in blocks.sizes.into_iter().enumerate() {
            if block == local_sizes.len() {
                local_sizes.push(0);
            }
            local_sizes[block] = local_sizes[block].max(size);
        }
    }
    (places, sizes, local_sizes)
}

/// One chunk of a region: its lead rows and its parts of the region's outputs.
struct Task<'a, T> {
    leads: Range<usize>,
    outs: Vec<(TensorId, usize, Option<&'a mut [T]>)>,
}

/// All weights, and the transposes that are there as factors.
pub(super) struct Weights<'a, T> {
    pub(super) own: &'a [Arc<Vec<T>>],
    pub(super) factors: &'a [Option<Box<[T]>>],
}

/// How regions are run.
#[derive(Clone, Copy)]
pub(super) struct Chunks<'a> {
    /// How many of the lead rows.
    pub(super) leads: usize,
    pub(super) scalars: &'a Scalars,
    /// Where operators' times are added up, if they are wanted.
    pub(super) times: Option<&'a Mutex<BTreeMap<String, f64>>>,
}

impl<T: Real> Plan<T> {
    /// Runs `regions` of the plan, with the persistent tensors in its slots.
    pub(super) fn run(
        &mut self,
        regions: &[Region],
        weights: Weights<T>,
        persistent: &mut [PersistentValues<T>],
        arenas: &Mutex<Vec<Arena<T>>>,
        run: Chunks,
    ) {
        let fixed: Vec<&[T]> = weights
            .own
            .iter()
            .chain(&self.constants)
            .map(|values| values.as_slice())
            .collect();
        for region in regions {
            // The region's outputs are moved out of the shared memory, so
            // that workers may write their parts while reading the rest.
            let mut moved: Vec<(TensorId, Vec<T>)> = Vec::new();
            for &id in &region.outs {
                let values = match self.places[id.0 as usize] {
                    Place::Block(block) => std::mem::take(&mut self.blocks[block]),
                    Place::Persistent(index) => match &mut persistent[index] {
                        PersistentValues::Real(values) => std::mem::take(values),
                        PersistentValues::Index(_) => panic!("slot {index} holds indices"),
                    },
                    _ => unreachable!("outputs of a region are shared"),
                };
                moved.push((id, values));
            }
            let shared = Shared {
                fixed: &fixed,
                factors: weights.factors,
                blocks: &self.blocks,
                persistent,
            };
            // On one of the pool's threads: from outside, each operator would wait for
            // one of them to wake up.
            rayon::scope(|_| self.run_region(region, &mut moved, shared, arenas, run));
            for (id, values) in moved {
                match self.places[id.0 as usize] {
                    Place::Block(block) => self.blocks[block] = values,
                    Place::Persistent(index) => persistent[index] = PersistentValues::Real(values),
                    _ => unreachable!("outputs of a region are shared"),
                }
            }
        }
    }

    fn run_region(
        &self,
        region: &Region,
        moved: &mut [(TensorId, Vec<T>)],
        shared: Shared<T>,
        arenas: &Mutex<Vec<Arena<T>>>,
        run: Chunks,
    ) {
        let wanted = if region.whole { region.lead } else { run.leads };
        let ranges = (0..region.chunks).map(|chunk| region.leads(chunk));
        let ranges = ranges.take_while(|range| range.start < wanted);
        let mut tasks: Vec<Task<T>> = ranges
            .map(|range| Task {
                leads: range.start..range.end.min(wanted),
                outs: Vec::new(),
            })
            .collect();
        for (id, values) in moved {
            let shape = self.recording.shape(*id);
            if region.whole {
                let own = &mut values[..shape.len()];
                tasks[0].outs.push((*id, 0, Some(own)));
            } else {
                let mut rest = &mut values[..shape.len()];
                for task in &mut tasks {
                    let (own, others) = rest.split_at_mut(task.leads.len() * shape.inner());
                    task.outs.push((*id, task.leads.start, Some(own)));
                    rest = others;
                }
            }
        }
        let work = |task: Task<T>| {
            let spare = arenas.lock().expect("no worker panicked").pop();
            let mut arena = spare.unwrap_or_default();
            let most = self.places.iter().filter_map(|place| match place {
                Place::Local(block) => Some(block + 1),
                _ => None,
            });
            let most = most.max().unwrap_or(0);
            if arena.locals.len() < most {
                arena.locals.resize_with(most, Vec::new);
            }
            let mut context = Context {
                recording: &self.recording,
                leads: task.leads,
                parallel: region.whole,
                scalars: run.scalars,
                places: &self.places,
                shared: &shared,
                arena: &mut arena,
                outs: task.outs,
            };
            for &index in &region.operators {
                let operator = &self.recording.operators()[index];
                let begin = run.times.map(|_| Instant::now());
                operator.native(&mut context);
                if let (Some(times), Some(begin)) = (run.times, begin) {
                    let mut times = times.lock().expect("no worker panicked");
                    *times.entry(operator.name().to_owned()).or_default() +=
                        begin.elapsed().as_secs_f64();
                }
            }
            drop(context);
            arenas.lock().expect("no worker panicked").push(arena);
        };
        if tasks.len() == 1 {
            tasks.into_iter().for_each(work);
        } else {
            tasks.into_par_iter().with_max_len(1).for_each(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_gets_as_much() {
        for (lead, chunks) in [(60, 16), (7, 2), (5, 5), (1, 1), (24, 10)] {
            let region = Region {
                operators: Vec::new(),
                lead,
                chunks,
                whole: false,
                shared: false,
                outs: Vec::new(),
            };
            let ranges: Vec<_> = (0..chunks).map(|chunk| region.leads(chunk)).collect();
            assert_eq!((ranges[0].start, ranges[chunks - 1].end), (0, lead));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            let sizes = ranges.iter().map(Range::len);
            assert_eq!(sizes.clone().max().unwrap(), region.largest_chunk());
            assert!(sizes.min().unwrap() + 1 >= region.largest_chunk());
        }
    }
}
