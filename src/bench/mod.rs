//! Measurements of whole models on a device: how long an utterance takes, how
//! near that is to what the device can do, and how much memory it needs.

pub mod counting;
pub mod peak;
pub mod presets;
pub mod subject;
pub mod works;

use std::time::Instant;

use serde::Serialize;

use self::peak::Peak;
use self::works::{Bench, Work};
use crate::Result;
use crate::engine::executor::Executor;

/// What one work took.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Version of the program.
    pub sonograd: &'static str,
    /// `forward`, `gradient`, `spes` or `generate`
    pub work: &'static str,
    /// Name of the folder, the embedded model or the preset.
    pub model: String,
    /// Whether the weights are a preset's random ones.
    pub preset: Option<String>,
    pub architecture: String,
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
    pub device: String,
    /// `native` or `gpu`
    pub executor: &'static str,
    pub precision: &'static str,
    /// Seconds of one run; absent where nothing was run.
    pub seconds_median: Option<f64>,
    pub seconds_min: Option<f64>,
    pub seconds_max: Option<f64>,
    pub repeats: usize,
    /// Floating-point operations of products, attention and depthwise
    /// convolutions in one run.
    pub flops: u64,
    /// Bytes of all operators' operands and results in one run.
    pub bytes: u64,
    /// At the median, in 10^9 a second.
    pub gflops: Option<f64>,
    pub gbytes_per_s: Option<f64>,
    /// `gflops` of `peak_gflops`
    pub share_of_peak: Option<f64>,
    /// Of a large product through the same executor.
    pub peak_gflops: Option<f64>,
    /// Of a large copy.
    pub peak_gbytes_per_s: Option<f64>,
    /// Largest sum of all tensors held at once, weights included.
    pub peak_memory_bytes: u64,
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
        for _ in 0..repeats {
            let begin = Instant::now();
            self.run(executor, work)?;
            let taken = begin.elapsed().as_secs_f64();
            report(work, taken);
            seconds.push(taken);
        }
        let after = executor.profile();
        let runs = repeats.max(1) as u64;
        let (flops, bytes) = (
            (after.flops - before.flops) / runs,
            (after.operand_bytes - before.operand_bytes) / runs,
        );
        seconds.sort_by(f64::total_cmp);
        let timed = |value: f64| peak.map(|_| value);
        let median = median(&seconds);
        let giga = |count: u64| timed(count as f64 / 1e9 / median);
        let masks = (work == Work::Spes).then_some(self.masks);
        let model = self.model;
        Ok(Measurement {
            sonograd: env!("CARGO_PKG_VERSION"),
            work: work.name(),
            model: model.name.clone(),
            preset: None,
            architecture: model.architecture.clone(),
            parameters: model.parameters,
            weight_bytes: executor.weight_bytes(),
            frames: self.subject.features.sound_frames,
            tokens: self.subject.ids.len(),
            masks,
            device: executor.name(),
            executor: executor.kind(),
            precision: executor.precision().name(),
            seconds_median: timed(median),
            seconds_min: timed(seconds[0]),
            seconds_max: timed(seconds[seconds.len() - 1]),
            repeats,
            flops,
            bytes,
            gflops: giga(flops),
            gbytes_per_s: giga(bytes),
            share_of_peak: peak.map(|peak| flops as f64 / median / peak.flops_per_second),
            peak_gflops: peak.map(|peak| peak.flops_per_second / 1e9),
            peak_gbytes_per_s: peak.map(|peak| peak.bytes_per_second / 1e9),
            peak_memory_bytes: after.peak_memory_bytes,
            masks_per_s: masks.and_then(|masks| timed(masks as f64 / median)),
        })
    }
}

/// Of sorted numbers, of which there is one at least.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        0.5 * (sorted[middle - 1] + sorted[middle])
    }
}
