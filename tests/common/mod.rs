//! What the kernels' tests share: one recording run on both executors, made-up
//! numbers, and the comparison of what comes out.

use std::sync::Arc;

use sonograd::engine::executor::Executor;
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::profile::ReadPurpose;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, PersistentId, Scalars, Shape, TensorId};
use sonograd::engine::weights::WeightTable;

pub mod harness;
use harness::Harness as Gpu;

/// Distance from 1 to the next larger f32.
pub const EPSILON: f64 = f32::EPSILON as f64;

/// Compares what the GPU computed with what the native executor computed in
/// f64: no element may be off by more than `tolerance`, and their root mean
/// square by no more than a quarter of it, so that rounding has room for its
/// tails and a small mistake in every element has not. Returns the worst
/// error as a part of the tolerance.
///
/// # Errors
/// The comparison that failed, with the element.
pub fn deviation(got: &[f32], want: &[f64], tolerance: f64) -> Result<f64, String> {
    if got.len() != want.len() {
        return Err(format!("{} elements, not {}", got.len(), want.len()));
    }
    let mut worst = 0.0;
    let mut squares = 0.0;
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        let within = error <= tolerance; // false for NaN
        if !within {
            return Err(format!(
                "element {i} is {got}, not {want}: off by {error:.3e}, tolerance {tolerance:.3e}"
            ));
        }
        worst = f64::max(worst, error);
        squares += error * error;
    }
    let mean = (squares / want.len() as f64).sqrt();
    if mean > tolerance / 4.0 {
        return Err(format!(
            "off by {mean:.3e} in the root mean square, tolerance {:.3e}",
            tolerance / 4.0
        ));
    }
    Ok(worst / tolerance)
}

/// [`deviation`] that fails the test, and prints the worst error if it does
/// not.
///
/// # Panics
/// If the two differ by more than the tolerance.
pub fn compare(name: &str, got: &[f32], want: &[f64], tolerance: f64) {
    match deviation(got, want, tolerance) {
        Ok(worst) => println!("{name}: {worst:.3} of the tolerance {tolerance:.2e}"),
        Err(problem) => panic!("{name}: {problem}"),
    }
}

/// Numbers between -1 and 1, others for every seed.
pub fn values(count: usize, seed: u64) -> Vec<f32> {
    // splitmix64
    let number = |i: usize| {
        let mut z = (seed << 32 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

/// A recording in the making, on one of the executors.
pub struct Bench<'a> {
    executor: &'a mut dyn Executor,
    pub recording: Recording,
    seed: u64,
    kept: Vec<PersistentId>,
}

impl Bench<'_> {
    /// An input filled with [`values`] times `scale`, the same ones on both
    /// executors.
    pub fn input(&mut self, shape: Shape, scale: f32) -> TensorId {
        self.seed += 1;
        let id = self.executor.allocate(Kind::Real, shape).unwrap();
        let mut values = values(shape.len(), self.seed);
        values.iter_mut().for_each(|x| *x *= scale);
        self.executor.upload(id, &values).unwrap();
        self.recording.persistent(id, Kind::Real, shape)
    }

    /// Makes a computed tensor one of the results.
    pub fn keep(&mut self, tensor: TensorId) {
        let shape = self.recording.shape(tensor);
        let id = self.executor.allocate(Kind::Real, shape).unwrap();
        self.recording.keep(tensor, id);
        self.kept.push(id);
    }
}

/// The same recording on both executors.
pub struct Both {
    weights: Arc<WeightTable>,
    native: NativeExecutor<f64>,
    gpu: Gpu,
}

impl Both {
    pub fn new(weights: WeightTable) -> Self {
        Self {
            native: NativeExecutor::new(&weights, false),
            gpu: Gpu::new(&weights),
            weights: Arc::new(weights),
        }
    }

    /// Runs what `record` records and returns all that it keeps: from the
    /// GPU, and from the native executor in f64. The GPU runs it twice and
    /// must give the same bits.
    pub fn run(&mut self, record: impl Fn(&mut Bench)) -> Vec<(Vec<f32>, Vec<f64>)> {
        let run = |executor: &mut dyn Executor, times: usize| {
            let mut bench = Bench {
                executor,
                recording: Recording::new(Arc::clone(&self.weights)),
                seed: 0,
                kept: Vec::new(),
            };
            record(&mut bench);
            let Bench {
                executor,
                recording,
                kept,
                ..
            } = bench;
            let plan = executor.prepare(recording).unwrap();
            let mut results = Vec::new();
            for _ in 0..times {
                executor.run(plan, 0, Scalars::default()).unwrap();
                results.push(executor.read(&kept, ReadPurpose::Maps).unwrap());
            }
            (kept, results)
        };
        let (kept, _) = run(&mut self.native, 1);
        let (_, mut got) = run(&mut self.gpu, 2);
        let again = got.pop().expect("it ran twice");
        let got = got.pop().expect("it ran twice");
        let bits =
            |all: &[Vec<f32>]| -> Vec<u32> { all.iter().flatten().map(|x| x.to_bits()).collect() };
        assert_eq!(bits(&got), bits(&again), "a rerun gives other bits");
        let want = kept.iter().map(|&id| self.native.read_real(id).to_vec());
        got.into_iter().zip(want).collect()
    }
}
