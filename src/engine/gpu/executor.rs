//! The executor itself: memory, plans, and what goes to and from the device.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::adapter::Device;
use super::layout::{
    Bound, Layout, Limits, Place, SMALLEST_BUFFER, Step, Target, bytes_of, describe_persistent,
    half_bytes_of,
};
use super::options::GpuOptions;
use super::persistent::{Persistent, PersistentTable};
use super::pipelines::{Pipelines, ShaderMode};
use super::scalars::ScalarTable;
use super::search;
use super::submit::{Dispatch, Pace, Submitter};
use super::timing::{MOST_DISPATCHES, Timer};
use super::tuning::{Class, Tuning};
use super::units::MatrixUnits;
use crate::engine::cost::{Cost, StageCost};
use crate::engine::executor::{Executor, PlanId, Values};
use crate::engine::journal::{Held, Journal};
use crate::engine::kept_plans::{Kept, KeptPlans};
use crate::engine::precision::Precision;
use crate::engine::profile::{Profile, Purpose};
use crate::engine::recording::{Recording, Source};
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape};
use crate::engine::weights::WeightTable;
use crate::{Error, Result};

/// Bytes of weights that may wait in transfer buffers.
const MOST_IN_TRANSFER: usize = 1 << 28;

/// Bytes of the transfer buffer for reads that is kept between them.
const KEPT_FOR_READS: usize = 1 << 24;

/// Bytes of plans that are kept while nobody runs them.
const MOST_KEPT_BYTES: usize = 256 << 20;

/// What persistent tensors, blocks and constants are used for.
const TENSOR: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

/// Runs recordings on a GPU.
pub struct GpuExecutor {
    device: Arc<Device>,
    precision: Precision,
    limits: Limits,
    target: Target,
    shaders: ShaderMode,
    pipelines: Pipelines,
    tuning: Tuning,
    /// Classes of products that it has measured itself.
    measured: usize,
    /// What it measures with.
    scratch: Option<Box<GpuExecutor>>,
    submitter: Submitter,
    weights: Vec<wgpu::Buffer>,
    persistent: PersistentTable,
    /// Buffers to be filled with zeros before anything else is submitted.
    to_clear: Vec<wgpu::Buffer>,
    plans: Vec<Option<Plan>>,
    /// The buffers that these bind are all held or parked.
    kept: KeptPlans<Plan>,
    journal: Journal,
    scalars: ScalarTable,
    absent: Vec<wgpu::Buffer>,
    for_reads: Option<wgpu::Buffer>,
    /// Names of the kernels that the dispatches of all plans count under.
    kernels: Vec<String>,
    timer: Option<Timer>,
    profiling: bool,
    profile: Profile,
    bytes: usize,
    warning: Option<String>,
}

/// A recording with its memory.
struct Plan {
    recording: Recording,
    /// Persistent tensors whose buffers its dispatches bind.
    persistent: Vec<(PersistentId, wgpu::Buffer)>,
    stages: Vec<Stage>,
    /// By stage.
    costs: Vec<StageCost>,
    /// Stages for fewer lead rows, once they were asked for: stage, rows.
    parts: Vec<(usize, usize, Stage)>,
    memory: Memory,
    bytes: usize,
    /// Whether an equal recording may take it up.
    reusable: bool,
}

impl Kept for Plan {
    fn recording(&self) -> &Recording {
        &self.recording
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

struct Stage {
    dispatches: Vec<Dispatch>,
    pace: Pace,
    cost: Cost,
}

impl GpuExecutor {
    /// An executor over a model's weights.
    ///
    /// # Errors
    /// If the device has not the memory or the precision, or a weight does not
    /// fit a buffer.
    pub fn new(device: Arc<Device>, weights: &WeightTable, options: &GpuOptions) -> Result<Self> {
        let (precision, profiling) = (options.precision, options.profiling);
        let halves = match precision {
            Precision::F32 => false,
            Precision::F16Weights | Precision::Mixed => true,
            Precision::F64 => {
                return Err(Error::Device(format!(
                    "{} computes in f32; f64 runs on --device cpu",
                    device.info.name
                )));
            }
        };
        let limits = Limits {
            binding: usize_of(device.info.max_storage_buffer_binding_size),
            buffer: usize_of(device.info.max_buffer_size),
        };
        let target = Target {
            uniform_alignment: device.raw.limits().min_uniform_buffer_offset_alignment as usize,
            half_weights: weights.iter().map(|own| halves && own.fits_f16()).collect(),
            units: None,
        };
        let sizes = weights.iter().zip(&target.half_weights);
        let sizes = sizes.map(|(weight, &half)| {
            let shape = Shape::new(1, weight.rows, weight.cols);
            if half {
                half_bytes_of(shape)
            } else {
                bytes_of(shape)
            }
        });
        let sizes: Vec<usize> = sizes.collect();
        for (weight, &bytes) in weights.iter().zip(&sizes) {
            limits.check_buffer(bytes, || {
                format!("weight {} ({}, {})", weight.name, weight.rows, weight.cols)
            })?;
        }
        let timer = match profiling {
            true => Timer::new(&device)?,
            false => None,
        };
        let buffers = device.guarded("weights", |raw| {
            let weights = weights.iter().zip(&sizes);
            let weights = weights.map(|(weight, &bytes)| buffer(raw, &weight.name, bytes, TENSOR));
            weights.collect::<Vec<_>>()
        })?;
        let mut in_transfer = 0;
        let stored = weights.iter().zip(&target.half_weights);
        for ((weight, &half), buffer) in stored.zip(&buffers) {
            let mut offset = 0;
            for data in weight.data.chunks(MOST_IN_TRANSFER / size_of::<f32>() / 4) {
                let bytes = match half {
                    true => Cow::Owned(half_words(data)),
                    false => Cow::Borrowed(bytemuck::cast_slice(data)),
                };
                write(&device, buffer, offset, &bytes);
                offset += bytes.len() as u64;
                in_transfer += bytes.len();
                if in_transfer >= MOST_IN_TRANSFER {
                    device.queue.submit([]);
                    device.wait()?;
                    in_transfer = 0;
                }
            }
        }
        device.check()?;
        let timing = timer.as_ref().map_or(0, Timer::bytes);
        let tuning = Tuning::new(&device.info, options);
        let mut executor = Self {
            device,
            precision,
            limits,
            target,
            shaders: options.shaders,
            pipelines: Pipelines::new(options.shaders),
            tuning,
            measured: 0,
            scratch: None,
            submitter: Submitter::default(),
            weights: buffers,
            persistent: PersistentTable::default(),
            to_clear: Vec::new(),
            plans: Vec::new(),
            kept: KeptPlans::new(MOST_KEPT_BYTES),
            journal: Journal::default(),
            scalars: ScalarTable::default(),
            absent: Vec::new(),
            for_reads: None,
            kernels: Vec::new(),
            timer,
            profiling,
            profile: Profile::default(),
            bytes: 0,
            warning: None,
        };
        if precision == Precision::Mixed {
            match MatrixUnits::verified(&executor.device) {
                Ok(units) => executor.use_units(Some(units)),
                Err(problem) => {
                    let name = &executor.device.info.name;
                    executor.warning = Some(format!(
                        "{name} computes mixed as f16-weights, in f32: {problem}"
                    ));
                    executor.precision = Precision::F16Weights;
                }
            }
        }
        executor.grow(sizes.iter().sum::<usize>() + timing);
        Ok(executor)
    }

    /// Lets products of the forward pass run on matrix units, from the next
    /// plan on, or on ordinary kernels.
    pub fn use_units(&mut self, units: Option<MatrixUnits>) {
        self.target.units = units;
        self.kept.clear();
    }

    /// What the user should know about how it works.
    pub fn warning(&self) -> Option<String> {
        self.warning.clone()
    }

    /// What it knows of its device.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Classes of products that it has measured itself.
    pub fn measured(&self) -> usize {
        self.measured
    }

    /// The recording's layout, after measuring what is not known of it yet.
    fn lay_out(&mut self, recording: &Recording) -> Result<Layout> {
        let mut layout = Layout::new(recording, &self.target, &self.tuning)?;
        if !layout.unmeasured.is_empty() {
            self.tuning.reread();
            layout = Layout::new(recording, &self.target, &self.tuning)?;
        }
        if layout.unmeasured.is_empty() {
            return Ok(layout);
        }
        self.submitter.drain(&self.device)?;
        match self.search(&layout) {
            Ok(found) => {
                self.measured += found.len();
                self.tuning.learn(found);
                Layout::new(recording, &self.target, &self.tuning)
            }
            // There may be no memory for it; the plan need not fail for that.
            Err(_) => self.device.check().map(|()| layout),
        }
    }

    fn search(&mut self, layout: &Layout) -> Result<Vec<(Class, &'static str)>> {
        let mut executor = match self.scratch.take() {
            Some(executor) => executor,
            None => Box::new(search::executor(&self.device, self.shaders)?),
        };
        let found = search::search(&mut executor, layout.unmeasured.iter().copied())?;
        executor.give_up();
        self.scratch = Some(executor);
        Ok(found)
    }

    /// A plan of the recording with each of these entry points.
    ///
    /// # Errors
    /// As for [`prepare`](Executor::prepare).
    pub(super) fn prepare_each(
        &mut self,
        recording: &Recording,
        entries: &[&'static str],
    ) -> Result<Vec<PlanId>> {
        // All pipelines at once: they are compiled on all threads.
        let mut layouts = Vec::new();
        for entry in entries {
            self.tuning.only(entry);
            layouts.push(Layout::new(recording, &self.target, &self.tuning)?);
        }
        let steps = layouts
            .iter()
            .flat_map(|layout| layout.stages.iter().flatten());
        self.pipelines.compile(&self.device, steps)?;
        let plans = entries.iter().map(|entry| {
            self.tuning.only(entry);
            let mut plan = self.new_plan(recording.clone())?;
            plan.reusable = false;
            Ok(self.hold(plan))
        });
        plans.collect()
    }

    /// Seconds that a plan's first stage takes, on average over `repeats` runs
    /// in one submission: on the device where it has timestamps, else until
    /// it is done.
    pub(super) fn seconds(&mut self, plan: PlanId, repeats: usize) -> Result<f64> {
        self.clear();
        let plan = self.plans[plan.0 as usize].as_ref();
        let dispatches = &plan.expect("a released plan is not timed").stages[0].dispatches;
        let repeats = repeats
            .min(MOST_DISPATCHES / dispatches.len().max(1))
            .max(1);
        let all: Vec<Dispatch> = std::iter::repeat_n(dispatches, repeats)
            .flat_map(|dispatches| dispatches.iter().cloned())
            .collect();
        self.submitter.drain(&self.device)?;
        let seconds = match &self.timer {
            Some(timer) => timer.run(&self.device, &all, &self.kernels, &mut BTreeMap::new())?,
            None => {
                let begin = Instant::now();
                self.submitter
                    .run(&self.device, &all, &Pace::of(all.len()))?;
                self.submitter.drain(&self.device)?;
                begin.elapsed().as_secs_f64()
            }
        };
        self.device.check()?;
        Ok(seconds / repeats as f64)
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        let peak = &mut self.profile.peak_memory_bytes;
        *peak = (*peak).max(self.bytes as u64);
    }

    /// Makes buffers; where there is no memory for them, once more without
    /// what is only kept, after the device has finished with what was given
    /// back meanwhile.
    fn make<T>(&mut self, what: &str, make: impl Fn(&wgpu::Device) -> T) -> Result<T> {
        self.device.guarded(what, &make).or_else(|_| {
            self.give_up();
            self.device.wait()?;
            self.device.guarded(what, &make)
        })
    }

    /// Gives up plans and buffers that nobody holds.
    fn give_up(&mut self) {
        self.kept.clear();
        self.persistent.forget_parked();
    }

    /// Fills the buffers that are taken up again with zeros.
    fn clear(&mut self) {
        if self.to_clear.is_empty() {
            return;
        }
        let mut encoder = self.device.raw.create_command_encoder(&Default::default());
        for buffer in self.to_clear.drain(..) {
            encoder.clear_buffer(&buffer, 0, None);
        }
        self.device.queue.submit([encoder.finish()]);
        self.profile.submissions += 1;
    }

    /// The dispatches of all steps, with their bind groups.
    fn bind(&mut self, steps: &[Step], memory: &Memory) -> Result<Vec<Dispatch>> {
        let resource = |step: &Step, bound: Bound| -> wgpu::BindingResource {
            let (buffer, offset, bytes) = match bound {
                Bound::Params { offset, bytes } => {
                    let params = memory.params.as_ref();
                    (params.expect("some step has Params"), offset, bytes)
                }
                Bound::Scalars => {
                    let names = &step.shader.scalars;
                    let own = self.scalars.buffer(names);
                    let bytes = size_of::<u32>() * names.len();
                    (own.expect("made before binding"), 0, bytes)
                }
                Bound::Absent(index) => return self.absent[index].as_entire_binding(),
                Bound::Tensor {
                    place,
                    offset,
                    bytes,
                } => {
                    let buffer = match place {
                        Place::Weight(id) => &self.weights[id.0 as usize],
                        Place::Constant(index) => &memory.constants[index],
                        Place::Block(index) => &memory.blocks[index],
                        Place::Persistent(id) => {
                            let own = self.persistent.get(id);
                            &own.expect("the plan's tensors were checked").buffer
                        }
                        Place::Nowhere => unreachable!("the layout refuses it"),
                    };
                    (buffer, offset, bytes)
                }
            };
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: offset as u64,
                size: wgpu::BufferSize::new(bytes as u64),
            })
        };
        let groups = self.device.guarded("bind groups", |raw| {
            let groups = steps.iter().map(|step| {
                let entries: Vec<_> = step
                    .bindings
                    .iter()
                    .map(|&(binding, bound)| wgpu::BindGroupEntry {
                        binding,
                        resource: resource(step, bound),
                    })
                    .collect();
                raw.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(step.shader.stem),
                    layout: &self.pipelines.get(step).layout,
                    entries: &entries,
                })
            });
            groups.collect::<Vec<_>>()
        })?;
        let mut dispatches = Vec::with_capacity(steps.len());
        for (step, group) in steps.iter().zip(groups) {
            let name = format!("{}.{}", step.shader.stem, step.entry.name);
            let known = self.kernels.iter().position(|kernel| *kernel == name);
            let kernel = known.unwrap_or_else(|| {
                self.kernels.push(name);
                self.kernels.len() - 1
            });
            dispatches.push(Dispatch {
                kernel,
                pipeline: self.pipelines.get(step).raw.clone(),
                group,
                workgroups: step.workgroups,
            });
        }
        Ok(dispatches)
    }

    /// A plan whose operators that run once have run.
    fn new_plan(&mut self, recording: Recording) -> Result<Plan> {
        let layout = self.lay_out(&recording)?;
        layout.check(&recording, self.limits)?;
        let mut persistent = Vec::new();
        for (tensor, id) in layout.persistent() {
            let (own, info) = (self.persistent.get(id)?, recording.info(tensor));
            if own.kind != info.kind || own.shape.len() != info.shape.len() {
                return Err(Error::Device(format!(
                    "the recording takes {} for {}",
                    describe_persistent(own.kind, own.shape),
                    describe_persistent(info.kind, info.shape)
                )));
            }
            persistent.push((id, own.buffer.clone()));
        }
        self.compile(&layout)?;
        let memory = self.memory(&recording, &layout)?;
        let once = Stage {
            dispatches: self.bind(&layout.once, &memory)?,
            pace: Pace::default(),
            cost: layout.once_cost,
        };
        let mut stages = Vec::new();
        for (steps, cost) in layout.stages.iter().zip(&layout.costs) {
            stages.push(Stage {
                dispatches: self.bind(steps, &memory)?,
                pace: Pace::default(),
                cost: cost.all,
            });
        }
        let bytes = layout.bytes(&recording);
        self.grow(bytes);
        if let Err(error) = self.run_stage(None, &once) {
            self.bytes -= bytes;
            return Err(error);
        }
        Ok(Plan {
            recording,
            persistent,
            stages,
            costs: layout.costs,
            parts: Vec::new(),
            memory,
            bytes,
            reusable: true,
        })
    }

    /// Compiles the pipelines of a layout, and makes the buffers of the
    /// scalars that its dispatches read and of what stands in for operands
    /// that they do not have.
    fn compile(&mut self, layout: &Layout) -> Result<()> {
        let steps = || layout.once.iter().chain(layout.stages.iter().flatten());
        self.pipelines.compile(&self.device, steps())?;
        let absent = steps().map(Step::absent).max().unwrap_or(0);
        while self.absent.len() < absent {
            let bytes = SMALLEST_BUFFER;
            let made = self.make("a stand-in", |raw| buffer(raw, "absent", bytes, TENSOR))?;
            self.absent.push(made);
            self.grow(bytes);
        }
        for step in steps() {
            let names = &step.shader.scalars;
            if !names.is_empty() && self.scalars.buffer(names).is_none() {
                let bytes = size_of::<u32>() * names.len();
                let made = self.make("scalars", |raw| buffer(raw, "scalars", bytes, TENSOR))?;
                self.scalars.insert(names, made);
                self.grow(bytes);
            }
        }
        Ok(())
    }

    /// A stage of the plan for its first `leads` lead rows, in the plan's own
    /// memory, but for the parameters; and the bytes of those.
    fn new_part(&mut self, plan: &Plan, stage: usize, leads: usize) -> Result<(Stage, usize)> {
        let recording = &plan.recording;
        let layout = Layout::of_first(recording, stage, leads, &self.target, &self.tuning)?;
        self.compile(&layout)?;
        let memory = Memory {
            params: self.params(&layout.params)?,
            ..plan.memory.clone()
        };
        let part = Stage {
            dispatches: self.bind(&layout.stages[0], &memory)?,
            pace: Pace::default(),
            cost: layout.costs[0].of(leads),
        };
        Ok((part, layout.params.len()))
    }

    /// The buffer of all `Params`, filled.
    fn params(&mut self, params: &[u8]) -> Result<Option<wgpu::Buffer>> {
        if params.is_empty() {
            return Ok(None);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let made = self.make("parameters", |raw| {
            buffer(raw, "params", params.len(), usage)
        })?;
        write(&self.device, &made, 0, params);
        Ok(Some(made))
    }

    fn hold(&mut self, plan: Plan) -> PlanId {
        let index = vacancy(&mut self.plans);
        self.plans[index] = Some(plan);
        let id = PlanId(index as u32);
        self.journal.made(Held::Plan(id));
        id
    }

    /// The plan's own buffers, filled.
    fn memory(&mut self, recording: &Recording, layout: &Layout) -> Result<Memory> {
        let (blocks, constants) = self.make("memory of a plan", |raw| {
            let blocks = layout.blocks.iter();
            let constants = layout.constants.iter();
            (
                blocks
                    .map(|&size| buffer(raw, "block", size, TENSOR))
                    .collect(),
                constants
                    .map(|&id| buffer(raw, "constant", bytes_of(recording.shape(id)), TENSOR))
                    .collect(),
            )
        })?;
        let memory = Memory {
            blocks,
            constants,
            params: self.params(&layout.params)?,
        };
        for (&id, buffer) in layout.constants.iter().zip(&memory.constants) {
            if let Source::Constant(values) = &recording.info(id).source {
                write(&self.device, buffer, 0, bytemuck::cast_slice(values));
            }
        }
        Ok(memory)
    }

    /// Runs a stage for its first `leads` lead rows.
    fn run_plan(&mut self, plan: &mut Plan, stage: usize, leads: usize) -> Result<()> {
        if leads >= plan.costs[stage].lead {
            return self.run_stage(Some(stage), &plan.stages[stage]);
        }
        let known = |part: &(usize, usize, _)| (part.0, part.1) == (stage, leads);
        let found = plan.parts.iter().position(known);
        let found = match found {
            Some(found) => found,
            None => {
                let (part, bytes) = self.new_part(plan, stage, leads)?;
                plan.parts.push((stage, leads, part));
                plan.bytes += bytes;
                self.grow(bytes);
                plan.parts.len() - 1
            }
        };
        self.run_stage(Some(stage), &plan.parts[found].2)
    }

    fn run_stage(&mut self, number: Option<usize>, stage: &Stage) -> Result<()> {
        let Stage {
            dispatches,
            pace,
            cost,
        } = stage;
        self.profile.count_cost(*cost);
        self.profile.dispatches += dispatches.len() as u64;
        if !self.profiling {
            self.profile.submissions += self.submitter.run(&self.device, dispatches, pace)?;
            return Ok(());
        }
        self.submitter.drain(&self.device)?;
        let Some(timer) = &self.timer else {
            let begin = Instant::now();
            self.profile.submissions += self.submitter.run(&self.device, dispatches, pace)?;
            self.submitter.drain(&self.device)?;
            let name = number.map_or("once".into(), |number| format!("stage {number}"));
            let seconds = self.profile.kernel_seconds.entry(name).or_default();
            *seconds += begin.elapsed().as_secs_f64();
            return Ok(());
        };
        let mut rest = &dispatches[..];
        while !rest.is_empty() {
            let count = pace.dispatches().min(MOST_DISPATCHES).min(rest.len());
            let (now, later) = rest.split_at(count);
            rest = later;
            let seconds = &mut self.profile.kernel_seconds;
            let sum = timer.run(&self.device, now, &self.kernels, seconds)?;
            self.profile.submissions += 1;
            pace.learn(count, sum, true);
        }
        self.device.check()
    }
}

/// Buffers that are a plan's own.
#[derive(Clone)]
struct Memory {
    blocks: Vec<wgpu::Buffer>,
    constants: Vec<wgpu::Buffer>,
    params: Option<wgpu::Buffer>,
}

/// Numbers as f16, and one more where they do not fill the last word.
fn half_words(values: &[f32]) -> Vec<u8> {
    let mut halves = vec![f16::ZERO; values.len().next_multiple_of(2)];
    halves[..values.len()].convert_from_f32_slice(values);
    bytemuck::cast_slice(&halves).to_vec()
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn buffer(
    raw: &wgpu::Device,
    label: &str,
    bytes: usize,
    usage: wgpu::BufferUsages,
) -> wgpu::Buffer {
    raw.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: bytes as u64,
        usage,
        mapped_at_creation: false,
    })
}

fn write(device: &Device, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        device.queue.write_buffer(buffer, offset, bytes);
    }
}

/// A free place in a table, made if there is none.
fn vacancy<T>(table: &mut Vec<Option<T>>) -> usize {
    let free = table.iter().position(Option::is_none);
    free.unwrap_or_else(|| {
        table.push(None);
        table.len() - 1
    })
}

impl Executor for GpuExecutor {
    fn name(&self) -> String {
        self.device.info.to_string()
    }

    fn kind(&self) -> &'static str {
        "gpu"
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn weight_bytes(&self) -> usize {
        self.weights.iter().map(|own| own.size() as usize).sum()
    }

    fn allocate(&mut self, kind: Kind, shape: Shape) -> Result<PersistentId> {
        let bytes = bytes_of(shape);
        let name = || describe_persistent(kind, shape);
        self.limits.check(bytes, name)?;
        let id = self.persistent.next();
        let buffer = match self.persistent.unpark(id, kind, bytes) {
            Some(parked) => {
                self.to_clear.push(parked.clone());
                parked
            }
            // wgpu clears a buffer before its first use.
            None => self.make(&name(), |raw| buffer(raw, "persistent", bytes, TENSOR))?,
        };
        self.grow(bytes);
        let own = Persistent {
            kind,
            shape,
            buffer,
        };
        self.persistent.insert(id, own);
        self.journal.made(Held::Persistent(id));
        Ok(id)
    }

    fn free(&mut self, id: PersistentId) {
        self.journal.gone(Held::Persistent(id));
        if let Some((shape, gone)) = self.persistent.remove(id) {
            self.bytes -= bytes_of(shape);
            if !gone.is_empty() {
                let binds = |(_, own): &(_, wgpu::Buffer)| gone.contains(own);
                self.kept.retain(|plan| !plan.persistent.iter().any(binds));
            }
        }
    }

    fn upload_all(&mut self, parts: &[(PersistentId, Values)], purpose: Purpose) -> Result<()> {
        for (id, values) in parts {
            let own = self.persistent.get(*id)?;
            let kind = match values {
                Values::Real(_) => Kind::Real,
                Values::Index(_) => Kind::Index,
            };
            if own.kind != kind || own.shape.len() != values.len() {
                return Err(Error::Device(format!(
                    "{} values do not fill {}",
                    values.len(),
                    describe_persistent(own.kind, own.shape)
                )));
            }
        }
        let mut begin = 0;
        while begin < parts.len() {
            // All of them, unless they are more than one buffer can hold.
            let mut total = 0;
            let fitting = parts[begin..].iter().take_while(|(_, values)| {
                total += 4 * values.len();
                total <= self.limits.buffer
            });
            let group = &parts[begin..begin + fitting.count().max(1)];
            begin += group.len();
            let bytes = self.write_group(group)?;
            self.profile.count_upload(purpose, bytes);
        }
        self.device.check()
    }

    fn prepare(&mut self, recording: Recording) -> Result<PlanId> {
        let table = &self.persistent;
        let same = |(id, buffer): &(PersistentId, _)| {
            table.get(*id).is_ok_and(|own| own.buffer == *buffer)
        };
        let found = self
            .kept
            .take_fitting(&recording, |plan| plan.persistent.iter().all(same));
        let plan = match found {
            Some(plan) => {
                self.grow(plan.bytes);
                plan
            }
            None => self.new_plan(recording)?,
        };
        Ok(self.hold(plan))
    }

    fn estimate(&self, recording: &Recording) -> usize {
        // What cannot be laid out never fits; `prepare` says why.
        Layout::new(recording, &self.target, &self.tuning)
            .map_or(usize::MAX, |layout| layout.bytes(recording))
    }

    fn largest_tensor(&self) -> usize {
        self.limits.binding.min(self.limits.buffer)
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
        self.clear();
        let changed = self.scalars.set(&self.device, scalars);
        self.profile.scalar_writes += u64::from(changed);
        let index = plan.0 as usize;
        let plan = self.plans[index].take();
        let mut plan = plan.expect("a released plan is not run");
        let done = self.run_plan(&mut plan, stage, leads);
        self.plans[index] = Some(plan);
        done
    }

    fn release(&mut self, plan: PlanId) {
        self.journal.gone(Held::Plan(plan));
        if let Some(plan) = self.plans[plan.0 as usize].take() {
            self.bytes -= plan.bytes;
            if plan.reusable {
                self.kept.keep(plan);
            }
        }
    }

    fn read(&mut self, ids: &[PersistentId], purpose: Purpose) -> Result<Vec<Vec<f32>>> {
        let mut sizes = Vec::with_capacity(ids.len());
        for &id in ids {
            let own = self.persistent.get(id)?;
            if own.kind != Kind::Real {
                let name = describe_persistent(own.kind, own.shape);
                return Err(Error::Device(format!("{name} do not hold real numbers")));
            }
            sizes.push(own.shape.len() * 4);
        }
        let mut values = Vec::with_capacity(ids.len());
        let mut first = 0;
        while first < ids.len() {
            // All of them, unless they are more than one buffer can hold.
            let mut total = 0;
            let fitting = sizes[first..].iter().take_while(|&&size| {
                total += size;
                total <= self.limits.buffer
            });
            let group = first..first + fitting.count().max(1);
            first = group.end;
            let bytes: usize = sizes[group.clone()].iter().sum();
            self.read_group(&ids[group.clone()], &sizes[group], bytes, &mut values)?;
            self.profile.count_read(purpose, bytes);
        }
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

impl GpuExecutor {
    /// One transfer: a staging buffer that is filled, and copies from it.
    /// Returns its bytes.
    fn write_group(&mut self, parts: &[(PersistentId, Values)]) -> Result<usize> {
        let bytes: usize = parts.iter().map(|(_, values)| 4 * values.len()).sum();
        if bytes == 0 {
            return Ok(0);
        }
        self.clear();
        let staging = self.make("an upload", |raw| {
            raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some("upload"),
                size: bytes as u64,
                usage: wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            })
        })?;
        let view = staging.slice(..).get_mapped_range_mut();
        let mut view = view.map_err(|problem| Error::Device(problem.to_string()))?;
        let mut encoder = self.device.raw.create_command_encoder(&Default::default());
        let mut offset = 0;
        for (id, values) in parts.iter().filter(|(_, values)| !values.is_empty()) {
            let raw: &[u8] = match values {
                Values::Real(values) => bytemuck::cast_slice(values),
                Values::Index(values) => bytemuck::cast_slice(values),
            };
            view.slice(offset..offset + raw.len()).copy_from_slice(raw);
            let own = &self.persistent.get(*id)?.buffer;
            let size = raw.len() as u64;
            encoder.copy_buffer_to_buffer(&staging, offset as u64, own, 0, size);
            offset += raw.len();
        }
        drop(view);
        staging.unmap();
        self.device.queue.submit([encoder.finish()]);
        self.profile.submissions += 1;
        Ok(bytes)
    }

    /// One transfer: copies, a submission and a map.
    fn read_group(
        &mut self,
        ids: &[PersistentId],
        sizes: &[usize],
        bytes: usize,
        values: &mut Vec<Vec<f32>>,
    ) -> Result<()> {
        if bytes == 0 {
            values.extend(sizes.iter().map(|_| Vec::new()));
            return Ok(());
        }
        self.clear();
        let kept = self.for_reads.take();
        let kept_bytes = kept.as_ref().map_or(0, |kept| kept.size() as usize);
        let staging = match kept {
            Some(kept) if kept_bytes >= bytes => kept,
            _ => {
                self.bytes -= kept_bytes;
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                let size = match bytes.next_power_of_two() {
                    size if size <= KEPT_FOR_READS => size,
                    _ => bytes,
                };
                let made = self.make("a read", |raw| buffer(raw, "read", size, usage))?;
                self.grow(size);
                made
            }
        };
        let mut encoder = self.device.raw.create_command_encoder(&Default::default());
        let mut offset = 0;
        for (&id, &size) in ids.iter().zip(sizes).filter(|(_, size)| **size > 0) {
            let own = &self.persistent.get(id)?.buffer;
            encoder.copy_buffer_to_buffer(own, 0, &staging, offset, size as u64);
            offset += size as u64;
        }
        self.device.queue.submit([encoder.finish()]);
        self.profile.submissions += 1;
        self.submitter.drain(&self.device)?;
        self.device.read_mapped(&staging, bytes as u64, |view| {
            let mut rest = view;
            for &size in sizes {
                let (own, later) = rest.split_at(size);
                rest = later;
                let mut row = vec![0.0f32; size / 4];
                bytemuck::cast_slice_mut(&mut row).copy_from_slice(own);
                values.push(row);
            }
        })?;
        let size = staging.size() as usize;
        if size <= KEPT_FOR_READS {
            self.for_reads = Some(staging);
        } else {
            self.bytes -= size;
        }
        Ok(())
    }
}
