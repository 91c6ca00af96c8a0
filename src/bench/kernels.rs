//! The operators of a model's passes, each timed alone at the sizes it has
//! there: which of them is far from what the device can do.
//!
//! Alone, an operator reads its operands from memory and writes its results
//! there. In a pass of the native executor it shares a region with others and
//! most of that stays in the cache, so the times here do not add up to those
//! of a pass.

use std::time::Instant;

use super::counting::{Captured, CountingExecutor};
use super::peak::Peak;
use super::works::{Bench, Work};
use super::{Measurement, Taken};
use crate::Result;
use crate::engine::cost::Cost;
use crate::engine::executor::Executor;
use crate::engine::profile::Purpose;
use crate::engine::recording::{Recording, Source};
use crate::engine::schedule::Schedule;
use crate::engine::tensor::{Kind, Scalars, Shape};
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
        let (plans, spes) = self.capture(executor)?;
        let mut measured = Vec::new();
        for kernel in kernels(&plans, spes) {
            let mut seconds = Vec::new();
            executor.forget_peak();
            if peak.is_some() {
                let mark = executor.mark();
                let timed = self.time(executor, &kernel, &plans, repeats);
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

    /// The recordings of the passes, sized as for `executor`, and the number of
    /// the first one of occlusion.
    fn capture(&self, executor: &mut dyn Executor) -> Result<(Vec<Captured>, usize)> {
        let mut counting = CountingExecutor::keeping(&self.model.weights, executor);
        self.run(&mut counting, Work::Gradient)?;
        let spes = counting.backend().captured().len();
        self.run(&mut counting, Work::Spes)?;
        Ok((counting.into_backend().into_captured(), spes))
    }

    /// Seconds of one run, as often as `repeats` says.
    fn time(
        &self,
        executor: &mut dyn Executor,
        kernel: &Kernel,
        plans: &[Captured],
        repeats: usize,
    ) -> Result<Vec<f64>> {
        let recording = self.alone(executor, kernel, &plans[kernel.plan])?;
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
        captured: &Captured,
    ) -> Result<Recording> {
        let whole = &captured.recording;
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
                (Kind::Index, Source::Persistent(slot)) => {
                    if let Some(values) = &captured.indices[slot.0 as usize] {
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
    for (
        plan,
        Captured {
            recording, runs, ..
        },
    ) in plans.iter().enumerate()
    {
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
            let weights = &model.weights;
            let mut capture = CountingExecutor::keeping(weights, &mut executor);
            bench.run(&mut capture, work).unwrap();
            let counted = capture.profile();
            let mut once = Cost::default();
            for Captured { recording, .. } in capture.backend().captured() {
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
        let (plans, spes) = bench.capture(&mut executor).unwrap();
        let kernels = kernels(&plans, spes);
        for pass in ["forward", "gradient", "spes"] {
            assert!(kernels.iter().any(|kernel| kernel.pass == pass));
        }
        for kernel in kernels {
            let mark = executor.mark();
            let alone = bench.alone(&mut executor, &kernel, &plans[kernel.plan]);
            let alone = alone.unwrap();
            let schedule = Schedule::new(&alone);
            assert_eq!(schedule.once, [0usize; 0], "{kernel:?}");
            let costs = StageCost::of_stages(&alone, &schedule);
            assert_eq!(costs.len(), 1);
            assert_eq!(costs[0].all, kernel.cost, "{kernel:?}");
            let before = executor.profile();
            let seconds = bench.time(&mut executor, &kernel, &plans, 1);
            assert!(seconds.unwrap()[0] > 0.0);
            let runs =
                (executor.profile().operand_bytes - before.operand_bytes) / kernel.cost.bytes;
            assert!(runs >= 3, "{kernel:?}: {runs}");
            executor.unwind(mark);
        }
    }
}
