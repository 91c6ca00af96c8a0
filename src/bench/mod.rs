//! Measurements of whole models on a device: how long an utterance takes, how
//! near that is to what the device can do, and how much memory it needs.

pub mod counting;
pub mod kernels;
pub mod peak;
pub mod presets;
pub mod subject;
pub mod works;

use std::time::Instant;

use serde::Serialize;

use self::peak::Peak;
use self::works::{Bench, Work};
use crate::Result;
use crate::engine::cost::Cost;
use crate::engine::executor::Executor;

/// What one work, or one kernel, took.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Version of the program.
    pub sonograd: &'static str,
    /// `kernels`, `forward`, `gradient`, `spes` or `generate`
    pub work: &'static str,
    /// Name of the operator, for `kernels`: what follows is of one run of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<&'static str>,
    /// `forward`, `gradient` (what comes after the forward pass) or `spes`:
    /// where the kernel is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<&'static str>,
    /// Shapes (lead, rows, columns) of its operands and results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shapes: Option<String>,
    /// How often the pass runs it with all lead rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Name of the folder, the embedded model or the preset.
    pub model: String,
    /// Whether the weights are a preset's random ones.
    pub preset: Option<String>,
    /// `architectures[0]`
    pub architecture: String,
    /// Numbers in the weights.
    pub parameters: usize,
    /// Bytes of the weights as the executor stores them.
    pub weight_bytes: usize,
    /// T: frames of sound
    pub frames: usize,
    /// I
    pub tokens: usize,
    /// Masks scored, for `spes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<usize>,
    /// The executor's own name for it.
    pub device: String,
    /// `native` or `gpu`
    pub executor: &'static str,
    /// As options name it.
    pub precision: &'static str,
    /// Seconds of one run; absent where nothing was run.
    pub seconds_median: Option<f64>,
    /// Of the fastest run.
    pub seconds_min: Option<f64>,
    /// Of the slowest run.
    pub seconds_max: Option<f64>,
    /// Timed runs.
    pub repeats: usize,
    /// Floating-point operations of products, attention and depthwise
    /// convolutions in one run.
    pub flops: u64,
    /// Bytes of all operators' operands and results in one run.
    pub bytes: u64,
    /// At the median, in 10^9 a second.
    pub gflops: Option<f64>,
    /// At the median.
    pub gbytes_per_s: Option<f64>,
    /// `gflops` of `peak_gflops`
    pub share_of_peak: Option<f64>,
    /// Of a large product through the same executor.
    pub peak_gflops: Option<f64>,
    /// Of a large copy.
    pub peak_gbytes_per_s: Option<f64>,
    /// Largest sum of all tensors held at once, weights included.
    pub peak_memory_bytes: u64,
    /// At the median, for `spes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks_per_s: Option<f64>,
}

impl Bench<'_> {
    /// Does a work `repeats` times and measures it; on a GPU once more before,
    /// since the first run compiles kernels. Without a `peak` nothing is timed.
    /// `report` is told the seconds of every run.
    ///
    /// # Errors
    /// If the subject does not fit the model, or the device fails.
    pub fn measure(
        &self,
        executor: &mut dyn Executor,
        work: Work,
        repeats: usize,
        peak: Option<Peak>,
        report: &mut dyn FnMut(Work, f64),
    ) -> Result<Measurement> {
        if executor.kind() == "gpu" {
            self.run(executor, work)?;
        }
        executor.forget_peak();
        let before = executor.profile();
        let mut seconds = Vec::new();
        let mut cost = Cost::default();
        for number in 0..repeats {
            let begin = Instant::now();
            self.run(executor, work)?;
            let taken = begin.elapsed().as_secs_f64();
            report(work, taken);
            seconds.push(taken);
            // Later runs may find what runs once in the first one's plans.
            if number == 0 {
                let after = executor.profile();
                cost.flops = after.flops - before.flops;
                cost.bytes = after.operand_bytes - before.operand_bytes;
            }
        }
        let mut one = self.measurement(
            executor,
            Taken {
                work: work.name(),
                seconds: if peak.is_some() { seconds } else { Vec::new() },
                repeats,
                cost,
                peak,
            },
        );
        if work == Work::Spes {
            one.masks = Some(self.masks);
            let rate = |seconds| self.masks as f64 / seconds;
            one.masks_per_s = one.seconds_median.map(rate);
        }
        Ok(one)
    }

    fn measurement(&self, executor: &dyn Executor, taken: Taken) -> Measurement {
        let Taken {
            work,
            mut seconds,
            repeats,
            cost,
            peak,
        } = taken;
        seconds.sort_by(f64::total_cmp);
        let median = median(&seconds);
        let giga = |count: u64| median.map(|seconds| count as f64 / 1e9 / seconds);
        let model = self.model;
        Measurement {
            sonograd: env!("CARGO_PKG_VERSION"),
            work,
            kernel: None,
            pass: None,
            shapes: None,
            calls: None,
            model: model.name.clone(),
            preset: None,
            architecture: model.architecture.clone(),
            parameters: model.parameters,
            weight_bytes: executor.weight_bytes(),
            frames: self.subject.features.sound_frames,
            tokens: self.subject.ids.len(),
            masks: None,
            device: executor.name(),
            executor: executor.kind(),
            precision: executor.precision().name(),
            seconds_median: median,
            seconds_min: seconds.first().copied(),
            seconds_max: seconds.last().copied(),
            repeats,
            flops: cost.flops,
            bytes: cost.bytes,
            gflops: giga(cost.flops),
            gbytes_per_s: giga(cost.bytes),
            share_of_peak: peak.and_then(|peak| {
                median.map(|seconds| cost.flops as f64 / seconds / peak.flops_per_second)
            }),
            peak_gflops: peak.map(|peak| peak.flops_per_second / 1e9),
            peak_gbytes_per_s: peak.map(|peak| peak.bytes_per_second / 1e9),
            peak_memory_bytes: executor.profile().peak_memory_bytes,
            masks_per_s: None,
        }
    }
}

/// What was measured, before it is put in relation to anything.
struct Taken {
    work: &'static str,
    /// Of every run; none where nothing was timed.
    seconds: Vec<f64>,
    repeats: usize,
    /// Of one run.
    cost: Cost,
    peak: Option<Peak>,
}

/// Of sorted numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    Some(match sorted.len() {
        0 => return None,
        count if count % 2 == 1 => sorted[middle],
        _ => 0.5 * (sorted[middle - 1] + sorted[middle]),
    })
}
