//! A recording on a GPU: its buffers, its dispatches and what they bind.

use std::sync::Arc;
use std::time::Instant;

use super::backend::{Gpu, TENSOR, buffer, write};
use super::layout::{Bound, Layout, Place, SMALLEST_BUFFER, Step, bytes_of};
use super::parked::Tensor;
use super::submit::{Dispatch, Pace};
use super::timing::MOST_DISPATCHES;
use crate::Result;
use crate::engine::backend::Ledger;
use crate::engine::cost::{Cost, StageCost};
use crate::engine::kept_plans::Compiled;
use crate::engine::recording::{Recording, Source};
use crate::engine::tensor::Slot;

/// A recording with its memory.
pub struct Plan {
    recording: Recording,
    /// By slot: the persistent tensor's buffer that its dispatches bind.
    bound: Vec<wgpu::Buffer>,
    stages: Vec<Stage>,
    /// By stage.
    costs: Vec<StageCost>,
    /// Stages for fewer lead rows, once they were asked for: stage, rows.
    parts: Vec<(usize, usize, Stage)>,
    bytes: usize,
}

impl Compiled for Plan {
    fn recording(&self) -> &Recording {
        &self.recording
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Dispatches that run one behind the other.
pub struct Stage {
    steps: Vec<Step>,
    /// By step.
    dispatches: Vec<Dispatch>,
    memory: Arc<Memory>,
    pace: Pace,
    cost: Cost,
}

/// Buffers that are a plan's own.
#[derive(Clone)]
struct Memory {
    blocks: Vec<wgpu::Buffer>,
    constants: Vec<wgpu::Buffer>,
    params: Option<wgpu::Buffer>,
}

impl Plan {
    /// Whether its dispatches bind the buffers of these tensors.
    pub fn is_bound(&self, tensors: &[Tensor]) -> bool {
        let own = self.bound.iter();
        own.eq(tensors.iter().map(|tensor| &tensor.buffer))
    }

    /// Whether its dispatches bind one of these buffers.
    pub fn binds(&self, buffers: &[wgpu::Buffer]) -> bool {
        self.bound.iter().any(|own| buffers.contains(own))
    }

    /// The dispatches of a stage.
    pub fn dispatches(&self, stage: usize) -> &[Dispatch] {
        &self.stages[stage].dispatches
    }
}

impl Gpu {
    /// A plan whose operators that run once have run.
    pub(super) fn new_plan(
        &mut self,
        recording: Recording,
        tensors: &[Tensor],
        ledger: &mut Ledger<Plan>,
    ) -> Result<Plan> {
        let layout = self.lay_out(&recording)?;
        layout.check(&recording, self.limits)?;
        self.compile_layout(&layout, ledger)?;
        let memory = Arc::new(self.memory(&recording, &layout, ledger)?);
        let bytes = layout.bytes(&recording);
        let bound = tensors.iter().map(|tensor| tensor.buffer.clone());
        let bound: Vec<_> = bound.collect();
        let once = self.stage(layout.once, layout.once_cost, &memory, &bound)?;
        let mut stages = Vec::new();
        for (steps, cost) in layout.stages.into_iter().zip(&layout.costs) {
            stages.push(self.stage(steps, cost.all, &memory, &bound)?);
        }
        self.run_stage(None, &once, ledger)?;
        Ok(Plan {
            recording,
            bound,
            stages,
            costs: layout.costs,
            parts: Vec::new(),
            bytes,
        })
    }

    /// Lets a plan's dispatches bind these tensors: those that bound another
    /// one in its slot get new bind groups.
    pub(super) fn rebind(&mut self, plan: &mut Plan, tensors: &[Tensor]) -> Result<()> {
        let pairs = plan.bound.iter().zip(tensors);
        let changed: Vec<bool> = pairs.map(|(own, new)| *own != new.buffer).collect();
        if !changed.contains(&true) {
            return Ok(());
        }
        let is_changed = |bound: &Bound| match bound {
            Bound::Tensor {
                place: Place::Persistent(Slot(slot)),
                ..
            } => changed[*slot as usize],
            _ => false,
        };
        let bound = tensors.iter().map(|tensor| tensor.buffer.clone());
        plan.bound = bound.collect();
        let parts = plan.parts.iter_mut().map(|(_, _, stage)| stage);
        for stage in plan.stages.iter_mut().chain(parts) {
            let steps = stage.steps.iter().enumerate();
            let moved = steps.filter(|(_, step)| step.bindings.iter().any(|(_, b)| is_changed(b)));
            let (places, steps): (Vec<usize>, Vec<&Step>) = moved.unzip();
            let groups = self.bind_groups(&steps, &stage.memory, &plan.bound)?;
            for (place, group) in places.into_iter().zip(groups) {
                stage.dispatches[place].group = group;
            }
        }
        Ok(())
    }

    /// Runs a stage for its first `leads` lead rows.
    pub(super) fn run_plan(
        &mut self,
        plan: &mut Plan,
        stage: usize,
        leads: usize,
        ledger: &mut Ledger<Plan>,
    ) -> Result<()> {
        if leads >= plan.costs[stage].lead {
            return self.run_stage(Some(stage), &plan.stages[stage], ledger);
        }
        let known = |part: &(usize, usize, _)| (part.0, part.1) == (stage, leads);
        let found = plan.parts.iter().position(known);
        let found = match found {
            Some(found) => found,
            None => {
                let (part, bytes) = self.new_part(plan, stage, leads, ledger)?;
                self.scalars.fill_new(&self.device);
                plan.parts.push((stage, leads, part));
                plan.bytes += bytes;
                plan.parts.len() - 1
            }
        };
        self.run_stage(Some(stage), &plan.parts[found].2, ledger)
    }

    /// A stage of the plan for its first `leads` lead rows, in the plan's own
    /// memory, but for the parameters; and the bytes of those.
    fn new_part(
        &mut self,
        plan: &Plan,
        stage: usize,
        leads: usize,
        ledger: &mut Ledger<Plan>,
    ) -> Result<(Stage, usize)> {
        let recording = &plan.recording;
        let mut layout = Layout::of_first(recording, stage, leads, &self.target, &self.tuning)?;
        self.compile_layout(&layout, ledger)?;
        let memory = Arc::new(Memory {
            params: self.params(&layout.params, ledger)?,
            ..Memory::clone(&plan.stages[stage].memory)
        });
        let cost = layout.costs[0].of(leads);
        let steps = layout.stages.swap_remove(0);
        let part = self.stage(steps, cost, &memory, &plan.bound)?;
        Ok((part, layout.params.len()))
    }

    /// Compiles the pipelines of a layout, and makes the buffers of the
    /// scalars that its dispatches read and of what stands in for operands
    /// that they do not have.
    fn compile_layout(&mut self, layout: &Layout, ledger: &mut Ledger<Plan>) -> Result<()> {
        let steps = || layout.once.iter().chain(layout.stages.iter().flatten());
        self.pipelines.compile(&self.device, steps())?;
        let absent = steps().map(Step::absent).max().unwrap_or(0);
        while self.absent.len() < absent {
            let bytes = SMALLEST_BUFFER;
            let made = self.make(ledger, "a stand-in", |raw| {
                buffer(raw, "absent", bytes, TENSOR)
            })?;
            self.absent.push(made);
            ledger.grow(bytes);
        }
        for step in steps() {
            let names = &step.shader.scalars;
            if !names.is_empty() && self.scalars.buffer(names).is_none() {
                let bytes = size_of::<u32>() * names.len();
                let made = self.make(ledger, "scalars", |raw| {
                    buffer(raw, "scalars", bytes, TENSOR)
                })?;
                self.scalars.insert(names, made);
                ledger.grow(bytes);
            }
        }
        Ok(())
    }

    /// The plan's own buffers, filled.
    fn memory(
        &mut self,
        recording: &Recording,
        layout: &Layout,
        ledger: &mut Ledger<Plan>,
    ) -> Result<Memory> {
        let (blocks, constants) = self.make(ledger, "memory of a plan", |raw| {
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
            params: self.params(&layout.params, ledger)?,
        };
        for (&id, buffer) in layout.constants.iter().zip(&memory.constants) {
            if let Source::Constant(values) = &recording.info(id).source {
                write(&self.device, buffer, 0, bytemuck::cast_slice(values));
            }
        }
        Ok(memory)
    }

    /// The buffer of all `Params`, filled.
    fn params(&mut self, params: &[u8], ledger: &mut Ledger<Plan>) -> Result<Option<wgpu::Buffer>> {
        if params.is_empty() {
            return Ok(None);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let made = self.make(ledger, "parameters", |raw| {
            buffer(raw, "params", params.len(), usage)
        })?;
        write(&self.device, &made, 0, params);
        Ok(Some(made))
    }

    /// The dispatches of all steps, with their bind groups.
    fn stage(
        &mut self,
        steps: Vec<Step>,
        cost: Cost,
        memory: &Arc<Memory>,
        bound: &[wgpu::Buffer],
    ) -> Result<Stage> {
        let all: Vec<&Step> = steps.iter().collect();
        let groups = self.bind_groups(&all, memory, bound)?;
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
        Ok(Stage {
            steps,
            dispatches,
            memory: Arc::clone(memory),
            pace: Pace::default(),
            cost,
        })
    }

    /// What each of the steps binds.
    fn bind_groups(
        &self,
        steps: &[&Step],
        memory: &Memory,
        bound: &[wgpu::Buffer],
    ) -> Result<Vec<wgpu::BindGroup>> {
        let buffer_of = |place: Place| match place {
            Place::Weight(id) => &self.weights[id.0 as usize],
            Place::Constant(index) => &memory.constants[index],
            Place::Block(index) => &memory.blocks[index],
            Place::Persistent(Slot(slot)) => &bound[slot as usize],
            Place::Nowhere => unreachable!("the layout refuses it"),
        };
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
                } => (buffer_of(place), offset, bytes),
            };
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: offset as u64,
                size: wgpu::BufferSize::new(bytes as u64),
            })
        };
        self.device.guarded("bind groups", |raw| {
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
            groups.collect()
        })
    }

    fn run_stage(
        &mut self,
        number: Option<usize>,
        stage: &Stage,
        ledger: &mut Ledger<Plan>,
    ) -> Result<()> {
        let Stage {
            dispatches,
            pace,
            cost,
            ..
        } = stage;
        let profile = &mut ledger.profile;
        profile.count_cost(*cost);
        profile.dispatches += dispatches.len() as u64;
        if !self.profiling {
            profile.submissions += self.submitter.run(&self.device, dispatches, pace)?;
            return Ok(());
        }
        self.submitter.drain(&self.device)?;
        let Some(timer) = &self.timer else {
            let begin = Instant::now();
            profile.submissions += self.submitter.run(&self.device, dispatches, pace)?;
            self.submitter.drain(&self.device)?;
            let name = number.map_or("once".into(), |number| format!("stage {number}"));
            let seconds = profile.kernel_seconds.entry(name).or_default();
            *seconds += begin.elapsed().as_secs_f64();
            return Ok(());
        };
        let mut rest = &dispatches[..];
        while !rest.is_empty() {
            let count = pace.dispatches().min(MOST_DISPATCHES).min(rest.len());
            let (now, later) = rest.split_at(count);
            rest = later;
            let seconds = &mut profile.kernel_seconds;
            let sum = timer.run(&self.device, now, &self.kernels, seconds)?;
            profile.submissions += 1;
            pace.learn(count, sum, true);
        }
        self.device.check()
    }
}
