//! The native executor: recordings on the processor, in f32 or f64.
//!
//! Operators that follow each other and whose lead rows are independent form
//! a **region**. Its lead axis is cut into chunks, and each worker takes one
//! chunk through all of the region's operators before the next, so that the
//! activations of a chunk stay in its cache and only what outlives the region
//! is ever stored for all rows. Where the lead axis has one row only, the
//! operators themselves spread over the threads.

pub mod context;
pub mod linalg;
mod pool;
pub mod real;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rayon::prelude::*;

use self::context::{Arena, Context, PersistentValues, Place, Shared};
use self::pool::{MOST_IDLE_BYTES, Pool};
use self::real::Real;
use super::cost::{Cost, StageCost};
use super::executor::{Executor, PlanId, Values};
use super::journal::{Held, Journal};
use super::kept_plans::{Kept, KeptPlans};
use super::precision::Precision;
use super::profile::{Profile, Purpose};
use super::recording::{Recording, Source};
use super::schedule::{Demand, Lifetime, Schedule, assign_blocks};
use super::tensor::{Kind, PersistentId, Scalars, Shape, TensorId, WeightId};
use super::weights::WeightTable;
use crate::{Error, Result};

/// A chunk should have about this many rows: every product of a chunk copies
/// the whole weight into panels. Measured with 512 columns: a quarter of them
/// costs SPES and gradients 7 to 15%; with 144 columns it hardly matters.
const CHUNK_ROWS: usize = 4000;

/// A chunk's largest tensor should have at most about this many elements,
/// which every worker has memory for.
const CHUNK_ELEMENTS: usize = 1 << 21;

/// Bytes that transposed copies of weights take at most; beyond it products
/// read the originals, which takes a little longer.
pub const MOST_TURNED_BYTES: usize = 1 << 30;

/// Bytes of plans that are kept while nobody runs them.
const MOST_KEPT_BYTES: usize = 64 << 20;

/// Runs recordings on the processor.
pub struct NativeExecutor<T> {
    /// Where T is f32, the model's own.
    weights: Vec<Arc<[T]>>,
    /// By weight: a transposed copy, once a plan wants one.
    turned: Vec<Option<Box<[T]>>>,
    turned_bytes: usize,
    persistent: Vec<PersistentValues<T>>,
    plans: Vec<Option<Plan<T>>>,
    /// The workers' own memory, shared by all plans.
    arenas: Mutex<Vec<Arena<T>>>,
    pool: Pool<T>,
    kept: KeptPlans<Plan<T>>,
    journal: Journal,
    profile: Profile,
    profiling: bool,
    bytes: usize,
}

/// A recording with its memory and the order in which to run it.
struct Plan<T> {
    recording: Recording,
    places: Vec<Place>,
    constants: Vec<Arc<[T]>>,
    blocks: Vec<Vec<T>>,
    once: Vec<Region>,
    stages: Vec<Arc<[Region]>>,
    bytes: usize,
    /// Of what runs when the plan is made.
    once_cost: Cost,
    /// By stage.
    costs: Vec<StageCost>,
}

/// Operators that are run together, chunk by chunk of their lead axis.
#[derive(Clone, Debug)]
struct Region {
    operators: Vec<usize>,
    lead: usize,
    /// How many chunks its lead axis is cut into.
    chunks: usize,
    /// Whether its operators may only run on all lead rows at once.
    whole: bool,
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

impl<T: Real> NativeExecutor<T> {
    /// An executor over a model's weights; with `profiling`, times are taken
    /// for every operator.
    pub fn new(weights: &WeightTable, profiling: bool) -> Self {
        let weights = weights.iter().map(|weight| T::share(&weight.data));
        let weights: Vec<Arc<[T]>> = weights.collect();
        let bytes = weights.iter().map(|w| w.len() * size_of::<T>()).sum();
        let mut executor = Self {
            turned: weights.iter().map(|_| None).collect(),
            turned_bytes: 0,
            weights,
            persistent: Vec::new(),
            plans: Vec::new(),
            arenas: Mutex::default(),
            pool: Pool::default(),
            kept: KeptPlans::new(MOST_KEPT_BYTES),
            journal: Journal::default(),
            profile: Profile::default(),
            profiling,
            bytes,
        };
        executor.grow(0);
        executor
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        let peak = &mut self.profile.peak_memory_bytes;
        *peak = (*peak).max(self.bytes as u64);
    }

    /// Makes the transposed copies of weights that a recording wants, as long
    /// as there is room for them.
    fn turn_weights(&mut self, recording: &Recording) {
        for (id, shape) in weights_to_turn(recording) {
            let index = id.0 as usize;
            let bytes = size_of_val(&*self.weights[index]);
            if self.turned[index].is_none() && self.turned_bytes + bytes <= MOST_TURNED_BYTES {
                let turned = transposed(&self.weights[index], shape.rows, shape.cols);
                self.turned[index] = Some(turned);
                self.turned_bytes += bytes;
                self.grow(bytes);
            }
        }
    }

    /// A plan whose operators that run once have run.
    fn new_plan(&mut self, recording: Recording) -> Result<Plan<T>> {
        self.turn_weights(&recording);
        let mut plan = match Plan::new(recording, &mut self.pool) {
            Ok(plan) => plan,
            Err((recording, _)) => {
                self.kept.clear();
                self.pool = Pool::default();
                Plan::new(*recording, &mut self.pool).map_err(|(_, problem)| problem)?
            }
        };
        self.grow(plan.bytes);
        let once = std::mem::take(&mut plan.once);
        self.profile.count_cost(plan.once_cost);
        plan.run(
            &once,
            Weights {
                own: &self.weights,
                turned: &self.turned,
            },
            &mut self.persistent,
            &self.arenas,
            Run {
                leads: usize::MAX,
                scalars: &Scalars::ZERO,
                times: None,
            },
        );
        Ok(plan)
    }

    /// Sets a persistent tensor without rounding to f32.
    ///
    /// # Errors
    /// If the length differs from the tensor's.
    pub fn upload_real(&mut self, id: PersistentId, values: &[T]) -> Result<()> {
        match &mut self.persistent[id.0 as usize] {
            PersistentValues::Real(own) if own.len() == values.len() => {
                own.copy_from_slice(values);
                self.profile
                    .count_upload(Purpose::OTHER, size_of_val(values));
                Ok(())
            }
            _ => Err(wrong_upload(values.len())),
        }
    }

    /// A persistent tensor's values without rounding to f32.
    ///
    /// # Panics
    /// If the tensor holds indices.
    pub fn read_real(&self, id: PersistentId) -> &[T] {
        match &self.persistent[id.0 as usize] {
            PersistentValues::Real(values) => values,
            _ => panic!("persistent tensor {} does not hold real numbers", id.0),
        }
    }
}

/// The weights that a recording wants transposed copies of, and their shapes.
pub fn weights_to_turn(recording: &Recording) -> impl Iterator<Item = (WeightId, Shape)> {
    let tensors = recording.operators().iter();
    let tensors = tensors.filter_map(|operator| operator.turned_weight());
    tensors.filter_map(|tensor| match recording.info(tensor).source {
        Source::Weight(id) => Some((id, recording.shape(tensor))),
        _ => None,
    })
}

/// A matrix (rows, cols) as (cols, rows).
fn transposed<T: Real>(values: &[T], rows: usize, cols: usize) -> Box<[T]> {
    // By squares that are read and written by whole cache lines: columns of
    // a matrix compete for a few places in the cache.
    const SIDE: usize = 16;
    let mut turned = vec![T::default(); values.len()];
    turned
        .par_chunks_mut((SIDE * rows).max(1))
        .enumerate()
        .for_each(|(block, turned)| {
            let first = block * SIDE;
            let wide = SIDE.min(cols - first);
            let mut square = [[T::default(); SIDE]; SIDE];
            for from in (0..rows).step_by(SIDE) {
                let tall = SIDE.min(rows - from);
                for (r, own) in square[..tall].iter_mut().enumerate() {
                    let begin = (from + r) * cols + first;
                    own[..wide].copy_from_slice(&values[begin..begin + wide]);
                }
                for c in 0..wide {
                    let turned = &mut turned[c * rows + from..][..tall];
                    for (turned, own) in turned.iter_mut().zip(&square) {
                        *turned = own[c];
                    }
                }
            }
        });
    turned.into()
}

fn wrong_upload(len: usize) -> Error {
    Error::Device(format!(
        "{len} values do not fill the persistent tensor they are meant for"
    ))
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
    /// With the recording, where there is no memory.
    fn new(
        recording: Recording,
        pool: &mut Pool<T>,
    ) -> std::result::Result<Self, (Box<Recording>, Error)> {
        let layout = Layout::new::<T>(&recording);
        let constants = recording
            .tensors()
            .iter()
            .filter_map(|info| match &info.source {
                Source::Constant(values) => Some(T::share(values)),
                _ => None,
            });
        let constants = constants.collect();
        let blocks = layout.blocks.into_iter().map(|len| pool.take(len));
        let blocks = match blocks.collect::<Result<_>>() {
            Ok(blocks) => blocks,
            Err(problem) => return Err((Box::new(recording), problem)),
        };
        Ok(Self {
            recording,
            places: layout.places,
            constants,
            blocks,
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
    let mut regions: Vec<Region> = Vec::new();
    for &index in list {
        let operator = &recording.operators()[index];
        let lead = operator.lead(recording);
        let whole = operator.needs_all_leads() || lead == 1;
        match regions.last_mut() {
            Some(last) if !whole && !last.whole && last.lead == lead => last.operators.push(index),
            _ => regions.push(Region {
                operators: vec![index],
                lead,
                chunks: 1,
                whole,
                outs: Vec::new(),
            }),
        }
    }
    let threads = rayon::current_num_threads();
    for region in regions.iter_mut().filter(|region| !region.whole) {
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
            (Source::Persistent(id), _) => places[tensor] = Place::Persistent(id.0 as usize),
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

impl<T> Kept for Plan<T> {
    fn recording(&self) -> &Recording {
        &self.recording
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// All weights, and those that are there transposed.
struct Weights<'a, T> {
    own: &'a [Arc<[T]>],
    turned: &'a [Option<Box<[T]>>],
}

/// How regions are run.
#[derive(Clone, Copy)]
struct Run<'a> {
    /// How many of the lead rows.
    leads: usize,
    scalars: &'a Scalars,
    /// Where operators' times are added up, if they are wanted.
    times: Option<&'a Mutex<BTreeMap<String, f64>>>,
}

impl<T: Real> Plan<T> {
    /// Runs `regions` of the plan.
    fn run(
        &mut self,
        regions: &[Region],
        weights: Weights<T>,
        persistent: &mut [PersistentValues<T>],
        arenas: &Mutex<Vec<Arena<T>>>,
        run: Run,
    ) {
        let fixed: Vec<&[T]> = weights
            .own
            .iter()
            .chain(&self.constants)
            .map(|values| &**values)
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
                        _ => panic!("persistent tensor {index} does not hold real numbers"),
                    },
                    _ => unreachable!("outputs of a region are shared"),
                };
                moved.push((id, values));
            }
            let shared = Shared {
                fixed: &fixed,
                turned: weights.turned,
                blocks: &self.blocks,
                persistent,
            };
            self.run_region(region, &mut moved, shared, arenas, run);
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
        run: Run,
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

impl<T: Real> Executor for NativeExecutor<T> {
    fn name(&self) -> String {
        format!("native, {} threads", rayon::current_num_threads())
    }

    fn kind(&self) -> &'static str {
        "native"
    }

    fn precision(&self) -> Precision {
        T::PRECISION
    }

    fn weight_bytes(&self) -> usize {
        let own = self.weights.iter().map(|own| size_of_val(&**own));
        own.sum::<usize>() + self.turned_bytes
    }

    fn allocate(&mut self, kind: Kind, shape: Shape) -> Result<PersistentId> {
        let (values, bytes) = match kind {
            Kind::Real => (
                PersistentValues::Real(self.pool.zeros(shape.len())?),
                shape.len() * size_of::<T>(),
            ),
            Kind::Index => (
                PersistentValues::Index(vec![0; shape.len()]),
                shape.len() * size_of::<u32>(),
            ),
        };
        self.grow(bytes);
        let free = self
            .persistent
            .iter()
            .position(|values| matches!(values, PersistentValues::None));
        let index = free.unwrap_or_else(|| {
            self.persistent.push(PersistentValues::None);
            self.persistent.len() - 1
        });
        self.persistent[index] = values;
        let id = PersistentId(index as u32);
        self.journal.made(Held::Persistent(id));
        Ok(id)
    }

    fn free(&mut self, id: PersistentId) {
        self.journal.gone(Held::Persistent(id));
        let values = std::mem::replace(&mut self.persistent[id.0 as usize], PersistentValues::None);
        self.bytes -= match values {
            PersistentValues::Real(values) => {
                let bytes = size_of_val(&*values);
                self.pool.give(values);
                bytes
            }
            PersistentValues::Index(values) => size_of_val(&*values),
            PersistentValues::None => 0,
        };
    }

    fn upload_all(&mut self, parts: &[(PersistentId, Values)], purpose: Purpose) -> Result<()> {
        let mut bytes = 0;
        for (id, values) in parts {
            match (&mut self.persistent[id.0 as usize], values) {
                (PersistentValues::Real(own), Values::Real(values))
                    if own.len() == values.len() =>
                {
                    for (own, &value) in own.iter_mut().zip(values.iter()) {
                        *own = T::from_f32(value);
                    }
                }
                (PersistentValues::Index(own), Values::Index(values))
                    if own.len() == values.len() =>
                {
                    own.copy_from_slice(values);
                }
                _ => return Err(wrong_upload(values.len())),
            }
            bytes += 4 * values.len();
        }
        self.profile.count_upload(purpose, bytes);
        Ok(())
    }

    fn prepare(&mut self, recording: Recording) -> Result<PlanId> {
        let plan = match self.kept.take(&recording) {
            Some(plan) => {
                self.grow(plan.bytes);
                plan
            }
            None => self.new_plan(recording)?,
        };
        let free = self.plans.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.plans.push(None);
            self.plans.len() - 1
        });
        self.plans[index] = Some(plan);
        let id = PlanId(index as u32);
        self.journal.made(Held::Plan(id));
        Ok(id)
    }

    fn estimate(&self, recording: &Recording) -> usize {
        plan_bytes::<T>(recording)
    }

    fn run(&mut self, plan: PlanId, stage: usize, scalars: &Scalars) -> Result<()> {
        self.run_first(plan, stage, usize::MAX, scalars)
    }

    fn run_first(
        &mut self,
        plan: PlanId,
        stage: usize,
        leads: usize,
        scalars: &Scalars,
    ) -> Result<()> {
        let plan = self.plans[plan.0 as usize].as_mut();
        let plan = plan.expect("a released plan is not run");
        let regions = Arc::clone(&plan.stages[stage]);
        let times = self.profiling.then(Mutex::default);
        plan.run(
            &regions,
            Weights {
                own: &self.weights,
                turned: &self.turned,
            },
            &mut self.persistent,
            &self.arenas,
            Run {
                leads,
                scalars,
                times: times.as_ref(),
            },
        );
        let operators: usize = regions.iter().map(|region| region.operators.len()).sum();
        self.profile.dispatches += operators as u64;
        self.profile.count_cost(plan.costs[stage].of(leads));
        if let Some(times) = times {
            for (name, seconds) in times.into_inner().expect("no worker panicked") {
                *self.profile.kernel_seconds.entry(name).or_default() += seconds;
            }
        }
        Ok(())
    }

    fn release(&mut self, plan: PlanId) {
        self.journal.gone(Held::Plan(plan));
        if let Some(plan) = self.plans[plan.0 as usize].take() {
            self.bytes -= plan.bytes;
            for block in self
                .kept
                .keep(plan)
                .into_iter()
                .flat_map(|plan| plan.blocks)
            {
                self.pool.give(block);
            }
            let arenas = self.arenas.get_mut().expect("no worker panicked");
            if arenas.iter().map(Arena::bytes).sum::<usize>() > MOST_IDLE_BYTES {
                arenas.clear();
            }
        }
    }

    fn read(&mut self, ids: &[PersistentId], purpose: Purpose) -> Result<Vec<Vec<f32>>> {
        let values: Vec<Vec<f32>> = ids
            .iter()
            .map(|&id| {
                self.read_real(id)
                    .iter()
                    .map(|x| x.to_f64() as f32)
                    .collect()
            })
            .collect();
        let bytes = values.iter().map(|v| v.len() * size_of::<T>()).sum();
        self.profile.count_read(purpose, bytes);
        Ok(values)
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn forget_peak(&mut self) {
        self.profile.peak_memory_bytes = self.bytes as u64;
    }

    fn profile(&self) -> Profile {
        self.profile.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::weights::{Form, Role};

    #[test]
    fn transposing_moves_every_number_to_its_place() {
        for (rows, cols) in [(1, 1), (1, 40), (40, 1), (16, 32), (33, 17), (100, 57)] {
            let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let turned = transposed(&values, rows, cols);
            for r in 0..rows {
                for c in 0..cols {
                    assert_eq!(turned[c * rows + r], values[r * cols + c]);
                }
            }
        }
    }

    /// A plan that is taken up again does all over but what runs once.
    #[test]
    fn an_equal_recording_takes_up_a_released_plan() {
        let mut table = WeightTable::default();
        let weight = table.add(
            Role::encoder(Form::Matrix),
            "weight",
            2,
            3,
            vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        );
        let table = Arc::new(table);
        let mut executor = NativeExecutor::<f64>::new(&table, false);
        let mut run = |values: &[f32; 3]| {
            let mark = executor.mark();
            let before = executor.profile().flops;
            let shape = Shape::new(1, 1, 3);
            let x = executor.allocate(Kind::Real, shape).unwrap();
            executor.upload(x, values).unwrap();
            let mut recording = Recording::new(Arc::clone(&table));
            let x = recording.persistent(x, Kind::Real, shape);
            let constant = recording.constant(shape, vec![1.0, 0.0, -1.0]);
            let weight = recording.weight(weight);
            let once = recording.matmul(constant, weight).record().unwrap();
            let y = recording.matmul(x, weight).residual(once).record().unwrap();
            let kept = executor.allocate(Kind::Real, Shape::new(1, 1, 2)).unwrap();
            recording.keep(y, kept);
            let plan = executor.prepare(recording).unwrap();
            executor.run(plan, 0, &Scalars::ZERO).unwrap();
            let y = executor.read(&[kept], Purpose::OTHER).unwrap().remove(0);
            executor.unwind(mark);
            (y, executor.profile().flops - before)
        };
        let (first, all) = run(&[1.0, 1.0, 1.0]);
        assert_eq!(first, [6.0 - 2.0, 15.0 - 2.0]);
        let (second, again) = run(&[1.0, 0.0, 2.0]);
        assert_eq!(second, [7.0 - 2.0, 16.0 - 2.0]);
        assert_eq!((all, again), (24, 12));
    }

    /// Few of a stage's lead rows give the numbers of all of them, and are
    /// counted as few.
    #[test]
    fn the_first_lead_rows_can_be_run_alone() {
        const LEADS: usize = 7;
        let mut table = WeightTable::default();
        let weight = table.add(
            Role::encoder(Form::Matrix),
            "weight",
            3,
            2,
            vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        );
        let table = Arc::new(table);
        let mut executor = NativeExecutor::<f32>::new(&table, false);
        let shape = Shape::new(LEADS, 4, 2);
        let x = executor.allocate(Kind::Real, shape).unwrap();
        let kept = Shape::new(LEADS, 4, 3);
        let kept = executor.allocate(Kind::Real, kept).unwrap();
        let mut recording = Recording::new(Arc::clone(&table));
        let own = recording.persistent(x, Kind::Real, shape);
        let weight = recording.weight(weight);
        // The second product's input stays with the worker.
        let y = recording.matmul(own, weight).record().unwrap();
        let back = recording
            .matmul(y, weight)
            .layout(crate::ops::Layout::InOut);
        let back = back.record().unwrap();
        let y = recording.matmul(back, weight).record().unwrap();
        recording.keep(y, kept);
        let plan = executor.prepare(recording).unwrap();
        let mut run = |leads: usize, factor: f32| {
            let values: Vec<f32> = (0..shape.len()).map(|i| factor * i as f32).collect();
            executor.upload(x, &values).unwrap();
            let before = executor.profile().flops;
            executor.run_first(plan, 0, leads, &Scalars::ZERO).unwrap();
            let y = executor.read(&[kept], Purpose::OTHER).unwrap().remove(0);
            (y, executor.profile().flops - before)
        };
        let (whole, all) = run(usize::MAX, 1.0);
        for leads in 1..=LEADS {
            let (_, again) = run(LEADS, 2.0);
            assert_eq!(again, all);
            let (first, cost) = run(leads, 1.0);
            assert_eq!(first[..leads * 12], whole[..leads * 12], "{leads}");
            assert_eq!(cost, all / LEADS as u64 * leads as u64);
        }
    }

    #[test]
    fn every_thread_gets_as_much() {
        for (lead, chunks) in [(60, 16), (7, 2), (5, 5), (1, 1), (24, 10)] {
            let region = Region {
                operators: Vec::new(),
                lead,
                chunks,
                whole: false,
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
