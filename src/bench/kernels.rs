//! The operators of a model's passes, each timed alone at the sizes it has
//! there: which of them is far from what the device can do.
//!
//! Alone, an operator reads its operands from memory and writes its results
//! there. In a pass of the native executor it shares a region with others and
//! most of that stays in the cache, so the times here do not add up to those
//! of a pass.

use std::collections::HashMap;
use std::time::Instant;

use super::counting::CountingExecutor;
use super::peak::Peak;
use super::works::{Bench, Work};
use super::{Measurement, Taken};
use crate::Result;
use crate::engine::cost::Cost;
use crate::engine::executor::{Executor, PlanId, Values};
use crate::engine::journal::Journal;
use crate::engine::precision::Precision;
use crate::engine::profile::{Profile, Purpose};
use crate::engine::recording::{Recording, Source};
use crate::engine::schedule::Schedule;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape};
use crate::ops::scalars::{MASK_END, MASKING};

/// Seconds that each timing takes at least.
const SHORTEST: f64 = 0.02;

/// Most runs in one timing.
const MOST_RUNS: f64 = 1000.0;

/// One operator at one size, as often as a pass runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// `forward`, `gradient` (what comes after the forward pass) or `spes`
    pub pass: &'static str,
    /// Name of the operator.
    pub name: &'static str,
    /// Shapes (lead, rows, columns) of operands and results.
    pub shapes: String,
    /// Runs in one pass.
    pub calls: u64,
    /// Of one run.
    cost: Cost,
    /// Which recording, and which operator of it.
    plan: usize,
    operator: usize,
}

impl Bench<'_> {
    /// Every operator of the forward pass, of all tokens' gradients and of
    /// occlusion, sizes chosen as for `executor`. With a `peak` each is run
    /// `repeats` times, alone; those that take most of their pass come first.
    /// An executor that profiles gives the device's own times on a GPU;
    /// otherwise the clock counts, launches included.
    ///
    /// # Errors
    /// If the subject does not fit the model, or the device fails.
    pub fn kernels(
        &self,
        executor: &mut dyn Executor,
        repeats: usize,
        peak: Option<Peak>,
    ) -> Result<Vec<Measurement>> {
        let mut capture = Capture {
            inner: CountingExecutor::new(&self.model.weights),
            sizing: executor,
            plans: Vec::new(),
            indices: HashMap::new(),
        };
        self.run(&mut capture, Work::Gradient)?;
        let spes = capture.plans.len();
        self.run(&mut capture, Work::Spes)?;
        let Capture { plans, indices, .. } = capture;
        let mut measured = Vec::new();
        for kernel in kernels(&plans, spes) {
            let mut seconds = Vec::new();
            executor.forget_peak();
            if peak.is_some() {
                let mark = executor.mark();
                let timed = self.time(executor, &kernel, &plans, &indices, repeats);
                executor.unwind(mark);
                seconds = timed?;
            }
            let mut one = self.measurement(
                executor,
                Taken {
                    work: "kernels",
                    seconds,
                    repeats,
                    cost: kernel.cost,
                    peak,
                },
            );
            one.kernel = Some(kernel.name);
            one.pass = Some(kernel.pass);
            one.shapes = Some(kernel.shapes);
            one.calls = Some(kernel.calls);
            measured.push(one);
        }
        // The passes' names are in alphabetical order.
        measured.sort_by(|a, b| {
            let share = |one: &Measurement| {
                let each = one.seconds_median.unwrap_or(one.flops as f64);
                each * one.calls.unwrap_or(1) as f64
            };
            a.pass.cmp(&b.pass).then(share(b).total_cmp(&share(a)))
        });
        Ok(measured)
    }

    /// Seconds of one run, as often as `repeats` says.
    fn time(
        &self,
        executor: &mut dyn Executor,
        kernel: &Kernel,
        plans: &[Captured],
        indices: &HashMap<PersistentId, Vec<u32>>,
        repeats: usize,
    ) -> Result<Vec<f64>> {
        let recording = self.alone(executor, kernel, &plans[kernel.plan].recording, indices)?;
        let probe = executor.allocate(Kind::Real, Shape::new(1, 1, 1))?;
        let plan = executor.prepare(recording)?;
        let scalars = Scalars::ZERO.with(MASKING, 1).with(MASK_END, u32::MAX);
        let mut run = |count: usize| -> Result<f64> {
            let before = on_device(executor);
            let begin = Instant::now();
            for _ in 0..count {
                executor.run(plan, 0, &scalars)?;
            }
            executor.read(&[probe], Purpose::OTHER)?;
            let clock = begin.elapsed().as_secs_f64();
            let device = on_device(executor) - before;
            let seconds = if device > 0.0 { device } else { clock };
            Ok((seconds / count as f64).max(1e-9))
        };
        run(1)?;
        let once = run(1)?;
        let count = (SHORTEST / once).ceil().clamp(1.0, MOST_RUNS) as usize;
        (0..repeats).map(|_| run(count)).collect()
    }

    /// A recording of that operator and nothing else. Its operands are
    /// ordinary numbers, its indices those of the pass.
    fn alone(
        &self,
        executor: &mut dyn Executor,
        kernel: &Kernel,
        whole: &Recording,
        indices: &HashMap<PersistentId, Vec<u32>>,
    ) -> Result<Recording> {
        let operator = &whole.operators()[kernel.operator];
        let live = Schedule::new(whole).live;
        let (inputs, mut used) = (operator.inputs(), operator.outputs());
        used.retain(|id| live[id.0 as usize]);
        used.extend(&inputs);
        // Every tensor of the pass gets a place here, so that the operator
        // finds its own under the same numbers.
        let mut recording = Recording::new(self.model.weights.clone());
        for (number, info) in (0u32..).zip(whole.tensors()) {
            let shape = info.shape;
            if let Source::Weight(id) = info.source {
                recording.weight(id);
                continue;
            }
            if !used.iter().any(|id| id.0 == number) {
                recording.computed(shape);
                continue;
            }
            let own = executor.allocate(info.kind, shape)?;
            match (info.kind, &info.source) {
                (Kind::Index, Source::Persistent(id)) => {
                    if let Some(values) = indices.get(id) {
                        executor.upload_indices(own, values)?;
                    }
                }
                (Kind::Real, _) if inputs.iter().any(|id| id.0 == number) => {
                    let values = (0..shape.len()).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5);
                    executor.upload(own, &values.collect::<Vec<f32>>())?;
                }
                _ => {}
            }
            recording.persistent(own, info.kind, shape);
        }
        recording.push(operator.clone());
        Ok(recording)
    }
}

/// Seconds that a GPU has counted so far; 0 without profiling. Those of the
/// native executor are sums over its threads and of no use here.
fn on_device(executor: &dyn Executor) -> f64 {
    match executor.kind() {
        "gpu" => executor.profile().kernel_seconds.values().sum(),
        _ => 0.0,
    }
}

/// The kernels of recordings, equal ones once; recordings from number `spes`
/// on are of occlusion.
fn kernels(plans: &[Captured], spes: usize) -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for (plan, Captured { recording, runs }) in plans.iter().enumerate() {
        let schedule = Schedule::new(recording);
        for (stage, list) in schedule.stages.iter().enumerate() {
            let pass = match (plan >= spes, stage) {
                (true, _) => "spes",
                (false, 0) => "forward",
                (false, _) => "gradient",
            };
            for &operator in list.iter().filter(|_| runs[stage] > 0) {
                let kernel = Kernel {
                    pass,
                    name: recording.operators()[operator].name(),
                    shapes: shapes(recording, &schedule, operator),
                    calls: runs[stage],
                    cost: Cost::of(recording, &schedule, &[operator]),
                    plan,
                    operator,
                };
                let same = |known: &&mut Kernel| {
                    (known.pass, known.name, &known.shapes, known.cost)
                        == (pass, kernel.name, &kernel.shapes, kernel.cost)
                };
                match kernels.iter_mut().find(same) {
                    Some(known) => known.calls += kernel.calls,
                    None => kernels.push(kernel),
                }
            }
        }
    }
    kernels
}

/// Shapes of an operator's operands and of those of its results that are
/// used.
fn shapes(recording: &Recording, schedule: &Schedule, operator: usize) -> String {
    let operator = &recording.operators()[operator];
    let mut inputs = operator.inputs();
    // Columns of one tensor stand side by side.
    inputs.dedup();
    let mut outputs = operator.outputs();
    outputs.retain(|id| schedule.live[id.0 as usize]);
    let list = |ids: &[_]| {
        let shapes = ids.iter().map(|&id| {
            let Shape { lead, rows, cols } = recording.shape(id);
            format!("({lead},{rows},{cols})")
        });
        shapes.collect::<Vec<_>>().join(" ")
    };
    format!("{} -> {}", list(&inputs), list(&outputs))
}

/// A recording that was prepared, and how often each stage of it was run with
/// all lead rows.
struct Captured {
    recording: Recording,
    runs: Vec<u64>,
}

/// Keeps the recordings of a work and computes nothing; what is run at once is
/// as much as another executor would take.
struct Capture<'a> {
    inner: CountingExecutor,
    sizing: &'a dyn Executor,
    plans: Vec<Captured>,
    /// What was uploaded.
    indices: HashMap<PersistentId, Vec<u32>>,
}

impl Executor for Capture<'_> {
    fn name(&self) -> String {
        self.sizing.name()
    }

    fn kind(&self) -> &'static str {
        self.sizing.kind()
    }

    fn precision(&self) -> Precision {
        self.sizing.precision()
    }

    fn weight_bytes(&self) -> usize {
        self.sizing.weight_bytes()
    }

    fn allocate(&mut self, kind: Kind, shape: Shape) -> Result<PersistentId> {
        self.inner.allocate(kind, shape)
    }

    fn free(&mut self, id: PersistentId) {
        self.inner.free(id);
    }

    fn upload_all(&mut self, parts: &[(PersistentId, Values)], purpose: Purpose) -> Result<()> {
        for (id, values) in parts {
            if let Values::Index(values) = values {
                self.indices.insert(*id, values.to_vec());
            }
        }
        self.inner.upload_all(parts, purpose)
    }

    fn prepare(&mut self, recording: Recording) -> Result<PlanId> {
        let plan = self.inner.prepare(recording.clone())?;
        self.plans.push(Captured {
            runs: vec![0; recording.stages().len()],
            recording,
        });
        debug_assert_eq!(plan.0 as usize + 1, self.plans.len());
        Ok(plan)
    }

    fn estimate(&self, recording: &Recording) -> usize {
        self.sizing.estimate(recording)
    }

    fn largest_tensor(&self) -> usize {
        self.sizing.largest_tensor()
    }

    fn run(&mut self, plan: PlanId, stage: usize, scalars: &Scalars) -> Result<()> {
        self.plans[plan.0 as usize].runs[stage] += 1;
        self.inner.run(plan, stage, scalars)
    }

    /// Runs of a part, as SPES' unmasked pass, are left out: an operator is
    /// timed at one size only.
    fn run_first(
        &mut self,
        plan: PlanId,
        stage: usize,
        leads: usize,
        scalars: &Scalars,
    ) -> Result<()> {
        let recording = &self.plans[plan.0 as usize].recording;
        let operators = &recording.operators()[recording.stages()[stage].clone()];
        let all = operators.iter().map(|operator| operator.lead(recording));
        match all.max() {
            Some(all) if leads < all => Ok(()),
            _ => self.run(plan, stage, scalars),
        }
    }

    fn release(&mut self, plan: PlanId) {
        self.inner.release(plan);
    }

    fn read(&mut self, ids: &[PersistentId], purpose: Purpose) -> Result<Vec<Vec<f32>>> {
        self.inner.read(ids, purpose)
    }

    fn journal(&self) -> &Journal {
        self.inner.journal()
    }

    fn memory_bytes(&self) -> usize {
        self.inner.memory_bytes()
    }

    fn forget_peak(&mut self) {
        self.inner.forget_peak();
    }

    fn profile(&self) -> Profile {
        self.inner.profile()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::subject::Subject;
    use super::*;
    use crate::engine::cost::StageCost;
    use crate::engine::native::NativeExecutor;
    use crate::model::Model;
    use crate::model::files::ModelFiles;

    fn model() -> Model {
        let config = json!({
            "architectures": ["ConformerEncoderDecoderForConditionalGeneration"],
            "input_feat_per_channel": 80,
            "conv_channels": 16,
            "conv_kernel_sizes": [5, 5],
            "max_source_positions": 100,
            "tie_word_embeddings": false,
            "d_model": 24,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 3,
            "decoder_attention_heads": 3,
            "decoder_ffn_dim": 40,
            "vocab_size": 50,
            "max_target_positions": 16,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
        });
        Model::load(ModelFiles::Random {
            name: "small".into(),
            config,
            seed: 3,
        })
        .unwrap()
    }

    fn bench<'a>(model: &'a Model, subject: &'a Subject) -> Bench<'a> {
        Bench {
            model,
            subject,
            segmentation: None,
            masks: 300,
            memory: 1 << 28,
        }
    }

    /// What the kernels come to is what the passes come to, but for what runs
    /// once when a plan is made.
    #[test]
    fn kernels_are_all_there_is() {
        let model = model();
        let subject = Subject::random(&model, 0.4, 8, 1).unwrap();
        let bench = bench(&model, &subject);
        let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
        let rows = bench.kernels(&mut executor, 1, None).unwrap();
        for (work, passes) in [
            (Work::Gradient, &["forward", "gradient"][..]),
            (Work::Spes, &["spes"]),
        ] {
            let own = rows
                .iter()
                .filter(|row| passes.contains(&row.pass.unwrap()));
            let (flops, bytes) = own.fold((0, 0), |(flops, bytes), row| {
                let calls = row.calls.unwrap();
                (flops + calls * row.flops, bytes + calls * row.bytes)
            });
            let mut capture = Capture {
                inner: CountingExecutor::new(&model.weights),
                sizing: &executor,
                plans: Vec::new(),
                indices: HashMap::new(),
            };
            bench.run(&mut capture, work).unwrap();
            let counted = capture.profile();
            let mut once = Cost::default();
            for Captured { recording, .. } in &capture.plans {
                let schedule = Schedule::new(recording);
                once += Cost::of(recording, &schedule, &schedule.once);
            }
            println!("{work:?}: {flops} and {} of {}", once.flops, counted.flops);
            assert!(once.flops > 0, "the conformer's positions");
            assert_eq!(flops + once.flops, counted.flops, "{work:?}");
            assert_eq!(bytes + once.bytes, counted.operand_bytes, "{work:?}");
        }
    }

    /// Alone, an operator is what it is in its pass, and the executor runs
    /// it: nothing is folded away or left out.
    #[test]
    fn an_operator_alone_has_the_cost_it_has_in_its_pass() {
        let model = model();
        let subject = Subject::random(&model, 0.4, 8, 1).unwrap();
        let bench = bench(&model, &subject);
        let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
        let mut capture = Capture {
            inner: CountingExecutor::new(&model.weights),
            sizing: &executor,
            plans: Vec::new(),
            indices: HashMap::new(),
        };
        bench.run(&mut capture, Work::Gradient).unwrap();
        let spes = capture.plans.len();
        bench.run(&mut capture, Work::Spes).unwrap();
        let Capture { plans, indices, .. } = capture;
        let kernels = kernels(&plans, spes);
        for pass in ["forward", "gradient", "spes"] {
            assert!(kernels.iter().any(|kernel| kernel.pass == pass));
        }
        for kernel in kernels {
            let mark = executor.mark();
            let whole = &plans[kernel.plan].recording;
            let alone = bench.alone(&mut executor, &kernel, whole, &indices);
            let alone = alone.unwrap();
            let schedule = Schedule::new(&alone);
            assert_eq!(schedule.once, [0usize; 0], "{kernel:?}");
            let costs = StageCost::of_stages(&alone, &schedule);
            assert_eq!(costs.len(), 1);
            assert_eq!(costs[0].all, kernel.cost, "{kernel:?}");
            let before = executor.profile();
            let seconds = bench.time(&mut executor, &kernel, &plans, &indices, 1);
            assert!(seconds.unwrap()[0] > 0.0);
            let runs =
                (executor.profile().operand_bytes - before.operand_bytes) / kernel.cost.bytes;
            assert!(runs >= 3, "{kernel:?}: {runs}");
            executor.unwind(mark);
        }
    }
}
