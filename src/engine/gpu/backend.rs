//! A GPU as a backend: its memory, and what goes to and from it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::adapter::Device;
use super::check;
use super::extras::Extras;
use super::layout::{Layout, Limits, Target, bytes_of, half_bytes_of};
use super::options::GpuOptions;
use super::parked::{Parked, Tensor};
use super::pipelines::{Pipelines, ShaderMode};
use super::plan::Plan;
use super::scalars::ScalarTable;
use super::search;
use super::submit::{Dispatch, Pace, Submitter};
use super::timing::{MOST_DISPATCHES, Timer};
use super::tuning::Tuning;
use crate::engine::Engine;
use crate::engine::backend::{Backend, Ledger, Run};
use crate::engine::executor::{PlanId, Values};
use crate::engine::precision::Precision;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, Shape, describe_persistent};
use crate::engine::weights::WeightTable;
use crate::{Error, Result};

/// Bytes of weights that may wait in transfer buffers.
const MOST_IN_TRANSFER: usize = 1 << 28;

/// Bytes of the transfer buffer for reads that is kept between them.
const KEPT_FOR_READS: usize = 1 << 24;

/// What persistent tensors, blocks and constants are used for.
pub(super) const TENSOR: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

/// Runs recordings on a GPU.
pub type GpuExecutor = Engine<Gpu>;

/// A GPU, and a model's weights on it.
pub struct Gpu {
    pub(super) device: Arc<Device>,
    precision: Precision,
    pub(super) limits: Limits,
    pub(super) target: Target,
    shaders: ShaderMode,
    pub(super) pipelines: Pipelines,
    pub(super) tuning: Tuning,
    /// Classes of works that it has measured itself.
    measured: usize,
    /// What it measures with.
    scratch: Option<Box<GpuExecutor>>,
    pub(super) submitter: Submitter,
    pub(super) weights: Vec<wgpu::Buffer>,
    parked: Parked,
    /// Buffers to be filled with zeros before anything else is submitted.
    to_clear: Vec<wgpu::Buffer>,
    pub(super) scalars: ScalarTable,
    pub(super) absent: Vec<wgpu::Buffer>,
    for_reads: Option<wgpu::Buffer>,
    /// Names of the kernels that the dispatches of all plans count under.
    pub(super) kernels: Vec<String>,
    pub(super) timer: Option<Timer>,
    pub(super) profiling: bool,
    warning: Option<String>,
}

impl Engine<Gpu> {
    /// An executor over a model's weights.
    ///
    /// # Errors
    /// If the device has not the memory or the precision, or a weight does not
    /// fit a buffer.
    pub fn new(device: Arc<Device>, weights: &WeightTable, options: &GpuOptions) -> Result<Self> {
        let backend = Gpu::open(device, weights, options)?;
        let weights = backend.weight_bytes();
        let timer = backend.timer.as_ref().map_or(0, Timer::bytes);
        Ok(Self::over(backend, weights + timer))
    }

    /// What variants may use from the next plan on. With matrix units, products
    /// of the forward pass round to f16.
    pub fn use_extras(&mut self, extras: Extras) {
        self.backend.target.extras = extras;
        self.ledger.kept.clear();
    }

    /// What the user should know about how it works.
    pub fn warning(&self) -> Option<String> {
        self.backend.warning.clone()
    }

    /// What it knows of its device.
    pub fn tuning(&self) -> &Tuning {
        &self.backend.tuning
    }

    /// Classes of works that it has measured itself.
    pub fn measured(&self) -> usize {
        self.backend.measured
    }

    /// Gives up plans and buffers that nobody holds.
    fn give_up(&mut self) {
        self.ledger.kept.clear();
        self.backend.parked.clear();
    }

    /// A plan of the recording with each of these entry points.
    ///
    /// # Errors
    /// As for [`prepare`](crate::engine::executor::Executor::prepare).
    pub(super) fn prepare_each(
        &mut self,
        recording: &Recording,
        entries: &[&'static str],
    ) -> Result<Vec<PlanId>> {
        // All pipelines at once: they are compiled on all threads.
        let backend = &mut self.backend;
        let mut layouts = Vec::new();
        for entry in entries {
            backend.tuning.only(entry);
            layouts.push(Layout::new(recording, &backend.target, &backend.tuning)?);
        }
        let steps = layouts
            .iter()
            .flat_map(|layout| layout.stages.iter().flatten());
        backend.pipelines.compile(&backend.device, steps)?;
        let plans = entries.iter().map(|entry| {
            self.backend.tuning.only(entry);
            self.prepare_anew(recording.clone())
        });
        plans.collect()
    }

    /// The kernels of a plan's first stage, in order.
    pub(super) fn kernels(&self, plan: PlanId) -> Result<Vec<String>> {
        let dispatches = self.prepared(plan)?.plan.dispatches(0).iter();
        let names = &self.backend.kernels;
        Ok(dispatches.map(|own| names[own.kernel].clone()).collect())
    }

    /// Seconds that a plan's first stage takes, on average over `repeats` runs
    /// in one submission: on the device where it has timestamps, else until
    /// it is done.
    pub(super) fn seconds(&mut self, plan: PlanId, repeats: usize) -> Result<f64> {
        self.backend.clear(&mut self.ledger);
        let dispatches = self.prepared(plan)?.plan.dispatches(0);
        let repeats = repeats
            .min(MOST_DISPATCHES / dispatches.len().max(1))
            .max(1);
        let all: Vec<Dispatch> = std::iter::repeat_n(dispatches, repeats)
            .flat_map(|dispatches| dispatches.iter().cloned())
            .collect();
        Ok(self.backend.seconds(&all)? / repeats as f64)
    }
}

impl Gpu {
    fn open(device: Arc<Device>, weights: &WeightTable, options: &GpuOptions) -> Result<Self> {
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
            extras: Extras::NONE,
        };
        let timer = match profiling {
            true => Timer::new(&device)?,
            false => None,
        };
        let weights = upload_weights(&device, weights, &target.half_weights, limits)?;
        let tuning = Tuning::new(&device.info, options);
        let mut backend = Self {
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
            weights,
            parked: Parked::default(),
            to_clear: Vec::new(),
            scalars: ScalarTable::default(),
            absent: Vec::new(),
            for_reads: None,
            kernels: Vec::new(),
            timer,
            profiling,
            warning: None,
        };
        if precision == Precision::Mixed {
            match check::matrix_units(&backend.device) {
                Ok(extras) => backend.target.extras = extras,
                Err(problem) => {
                    let name = &backend.device.info.name;
                    backend.warning = Some(format!(
                        "{name} computes mixed as f16-weights, in f32: {problem}"
                    ));
                    backend.precision = Precision::F16Weights;
                }
            }
        }
        Ok(backend)
    }

    /// The recording's layout, after measuring what is not known of it yet.
    pub(super) fn lay_out(&mut self, recording: &Recording) -> Result<Layout> {
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

    fn search(&mut self, layout: &Layout) -> Result<Vec<(String, &'static str)>> {
        let mut executor = match self.scratch.take() {
            Some(executor) => executor,
            None => Box::new(search::executor(&self.device, self.shaders)?),
        };
        let found = search::search(&mut executor, &layout.unmeasured)?;
        executor.give_up();
        self.scratch = Some(executor);
        Ok(found)
    }

    /// Seconds of dispatches, in one submission.
    fn seconds(&mut self, dispatches: &[Dispatch]) -> Result<f64> {
        self.submitter.drain(&self.device)?;
        let seconds = match &self.timer {
            Some(timer) => {
                let mut by_kernel = BTreeMap::new();
                timer.run(&self.device, dispatches, &self.kernels, &mut by_kernel)?
            }
            None => {
                let begin = Instant::now();
                let pace = Pace::of(dispatches.len());
                self.submitter.run(&self.device, dispatches, &pace)?;
                self.submitter.drain(&self.device)?;
                begin.elapsed().as_secs_f64()
            }
        };
        self.device.check()?;
        Ok(seconds)
    }

    /// Makes buffers; where there is no memory for them, once more without
    /// what is only kept, after the device has finished with what was given
    /// back meanwhile.
    pub(super) fn make<T>(
        &mut self,
        ledger: &mut Ledger<Plan>,
        what: &str,
        make: impl Fn(&wgpu::Device) -> T,
    ) -> Result<T> {
        self.device.guarded(what, &make).or_else(|_| {
            ledger.kept.clear();
            self.parked.clear();
            self.device.wait()?;
            self.device.guarded(what, &make)
        })
    }

    /// Fills the buffers that are taken up again with zeros.
    fn clear(&mut self, ledger: &mut Ledger<Plan>) {
        if self.to_clear.is_empty() {
            return;
        }
        let mut encoder = self.device.raw.create_command_encoder(&Default::default());
        for buffer in self.to_clear.drain(..) {
            encoder.clear_buffer(&buffer, 0, None);
        }
        self.device.queue.submit([encoder.finish()]);
        ledger.profile.submissions += 1;
    }

    /// A buffer to read `bytes` from.
    fn for_reads(&mut self, bytes: usize, ledger: &mut Ledger<Plan>) -> Result<wgpu::Buffer> {
        let kept = self.for_reads.take();
        let kept_bytes = kept.as_ref().map_or(0, |kept| kept.size() as usize);
        match kept {
            Some(kept) if kept_bytes >= bytes => Ok(kept),
            _ => {
                ledger.shrink(kept_bytes);
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                let size = match bytes.next_power_of_two() {
                    size if size <= KEPT_FOR_READS => size,
                    _ => bytes,
                };
                let made = self.make(ledger, "a read", |raw| buffer(raw, "read", size, usage))?;
                ledger.grow(size);
                Ok(made)
            }
        }
    }
}

impl Backend for Gpu {
    type Tensor = Tensor;
    type Plan = Plan;

    const MOST_KEPT_BYTES: usize = 256 << 20;

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

    fn tensor_bytes(&self, _kind: Kind, shape: Shape) -> usize {
        bytes_of(shape)
    }

    fn largest_tensor(&self) -> usize {
        self.limits.binding.min(self.limits.buffer)
    }

    fn largest_transfer(&self) -> usize {
        self.limits.buffer
    }

    fn estimate(&self, recording: &Recording) -> usize {
        // What cannot be laid out never fits; `compile` says why.
        Layout::new(recording, &self.target, &self.tuning)
            .map_or(usize::MAX, |layout| layout.bytes(recording))
    }

    fn allocate(&mut self, kind: Kind, shape: Shape, ledger: &mut Ledger<Plan>) -> Result<Tensor> {
        let bytes = bytes_of(shape);
        let name = || describe_persistent(kind, shape);
        self.limits.check(bytes, name)?;
        if let Some(parked) = self.parked.take(bytes) {
            self.to_clear.push(parked.buffer.clone());
            return Ok(parked);
        }
        // wgpu clears a buffer before its first use.
        let made = self.make(ledger, &name(), |raw| {
            buffer(raw, "persistent", bytes, TENSOR)
        })?;
        Ok(self.parked.number(made))
    }

    fn free(&mut self, tensor: Tensor, ledger: &mut Ledger<Plan>) {
        let gone = self.parked.park(tensor);
        if !gone.is_empty() {
            // Its bind groups would hold what is gone.
            ledger.kept.retain(|plan| !plan.binds(&gone));
        }
    }

    /// A staging buffer that is filled, and copies from it.
    fn write(
        &mut self,
        tensors: &mut [Tensor],
        values: &[&Values],
        ledger: &mut Ledger<Plan>,
    ) -> Result<()> {
        let bytes: usize = values.iter().map(|values| 4 * values.len()).sum();
        if bytes == 0 {
            return self.device.check();
        }
        self.clear(ledger);
        let staging = self.make(ledger, "an upload", |raw| {
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
        let parts = tensors.iter().zip(values);
        for (own, values) in parts.filter(|(_, values)| !values.is_empty()) {
            let raw: &[u8] = match values {
                Values::Real(values) => bytemuck::cast_slice(values),
                Values::Index(values) => bytemuck::cast_slice(values),
            };
            view.slice(offset..offset + raw.len()).copy_from_slice(raw);
            let size = raw.len() as u64;
            encoder.copy_buffer_to_buffer(&staging, offset as u64, &own.buffer, 0, size);
            offset += raw.len();
        }
        drop(view);
        staging.unmap();
        self.device.queue.submit([encoder.finish()]);
        ledger.profile.submissions += 1;
        self.device.check()
    }

    /// Copies, a submission and a map.
    fn read(
        &mut self,
        tensors: &[&Tensor],
        lens: &[usize],
        ledger: &mut Ledger<Plan>,
    ) -> Result<Vec<Vec<f32>>> {
        let sizes: Vec<usize> = lens.iter().map(|len| size_of::<f32>() * len).collect();
        let bytes: usize = sizes.iter().sum();
        if bytes == 0 {
            return Ok(vec![Vec::new(); lens.len()]);
        }
        self.clear(ledger);
        let staging = self.for_reads(bytes, ledger)?;
        let mut encoder = self.device.raw.create_command_encoder(&Default::default());
        let mut offset = 0;
        for (own, &size) in tensors.iter().zip(&sizes).filter(|(_, size)| **size > 0) {
            encoder.copy_buffer_to_buffer(&own.buffer, 0, &staging, offset, size as u64);
            offset += size as u64;
        }
        self.device.queue.submit([encoder.finish()]);
        ledger.profile.submissions += 1;
        self.submitter.drain(&self.device)?;
        let mut values = Vec::with_capacity(sizes.len());
        self.device.read_mapped(&staging, bytes as u64, |view| {
            let mut rest = view;
            for &size in &sizes {
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
            ledger.shrink(size);
        }
        Ok(values)
    }

    fn compile(
        &mut self,
        recording: Recording,
        tensors: &mut [Tensor],
        ledger: &mut Ledger<Plan>,
    ) -> Result<Plan> {
        self.new_plan(recording, tensors, ledger)
    }

    fn is_bound(&self, plan: &Plan, tensors: &[Tensor]) -> bool {
        plan.is_bound(tensors)
    }

    fn bind(&mut self, plan: &mut Plan, tensors: &[Tensor]) -> Result<()> {
        self.rebind(plan, tensors)
    }

    fn run(
        &mut self,
        plan: &mut Plan,
        _tensors: &mut [Tensor],
        run: Run,
        ledger: &mut Ledger<Plan>,
    ) -> Result<()> {
        self.clear(ledger);
        let changed = self.scalars.set(&self.device, run.scalars);
        ledger.profile.scalar_writes += u64::from(changed);
        self.run_plan(plan, run.stage, run.leads, ledger)
    }
}

/// Buffers with all weights, those as f16 that `halves` says.
fn upload_weights(
    device: &Device,
    weights: &WeightTable,
    halves: &[bool],
    limits: Limits,
) -> Result<Vec<wgpu::Buffer>> {
    let sizes = weights.iter().zip(halves).map(|(weight, &half)| {
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
    let buffers = device.guarded("weights", |raw| {
        let weights = weights.iter().zip(&sizes);
        let weights = weights.map(|(weight, &bytes)| buffer(raw, &weight.name, bytes, TENSOR));
        weights.collect::<Vec<_>>()
    })?;
    let mut in_transfer = 0;
    for ((weight, &half), buffer) in weights.iter().zip(halves).zip(&buffers) {
        let mut offset = 0;
        for data in weight.data.chunks(MOST_IN_TRANSFER / size_of::<f32>() / 4) {
            let bytes = match half {
                true => Cow::Owned(half_words(data)),
                false => Cow::Borrowed(bytemuck::cast_slice(data)),
            };
            write(device, buffer, offset, &bytes);
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
    Ok(buffers)
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

pub(super) fn buffer(
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

pub(super) fn write(device: &Device, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        device.queue.write_buffer(buffer, offset, bytes);
    }
}
