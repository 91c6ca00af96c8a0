//! All ways to run an operator on a device, each checked against the native
//! executor in f64 and timed:
//!
//! ```sh
//! SONOGRAD_BENCH_DEVICE=gpu cargo bench --bench variants -- matmul
//! ```
//!
//! runs the operators whose names contain one of the words, or all of them: the
//! native f32 code; every entry point that the operator's shader offers for the
//! size, trusted and with the driver's checks. Without the variable the device
//! is the best GPU there is. A variant that is off is marked and makes the exit
//! code 1. Matrix units, which take weights in f16, are checked by
//! `cargo test --test hardware`.

mod common;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use common::operators::{Bench, Build, OPERATORS};
use sonograd::Result;
use sonograd::engine::device::{self, Device, DeviceChoice};
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter;
use sonograd::engine::gpu::extras::Extras;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions, ShaderMode, Tune};
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::profile::Purpose;
use sonograd::engine::tensor::Scalars;
use sonograd::engine::weights::WeightTable;

/// Relative L2 error that a result may have: what whole models may have in
/// their gradients, which no single operator may use up. The kernels' tests
/// have derived bounds.
const BOUND: f64 = 2e-5;

/// Seconds that a timing takes at least; the best of several counts.
const SHORTEST: f64 = 0.05;
const TIMINGS: usize = 5;

/// What one variant gave.
struct Outcome {
    results: Vec<Vec<f32>>,
    /// Of one run.
    seconds: f64,
}

/// Runs the operator once for its results and then for its time.
fn measure(executor: &mut dyn Executor, build: Build, timed: bool) -> Result<Outcome> {
    let mark = executor.mark();
    let mut bench = Bench::new(executor);
    build(&mut bench);
    let Bench {
        executor,
        recording,
        results: ids,
        ..
    } = bench;
    let plan = executor.prepare(recording)?;
    executor.run(plan, 0, &Scalars::ZERO)?;
    let results = executor.read(&ids, Purpose::OTHER)?;
    let mut seconds = f64::INFINITY;
    let mut count = 1;
    for _ in 0..if timed { TIMINGS } else { 0 } {
        loop {
            let begin = Instant::now();
            for _ in 0..count {
                executor.run(plan, 0, &Scalars::ZERO)?;
            }
            // Waits until the device has done it all.
            executor.read(&ids[..1], Purpose::OTHER)?;
            let taken = begin.elapsed().as_secs_f64();
            if taken >= SHORTEST || count >= 1 << 20 {
                seconds = seconds.min(taken / f64::from(count));
                break;
            }
            count *= 2;
        }
    }
    executor.unwind(mark);
    Ok(Outcome { results, seconds })
}

/// The largest relative L2 error of the results; NaN if there is one.
fn error(got: &[Vec<f32>], want: &[Vec<f32>]) -> f64 {
    let of = |(got, want): (&Vec<f32>, &Vec<f32>)| {
        let square = |x: f64| x * x;
        let pairs = got.iter().zip(want);
        let off: f64 = pairs
            .map(|(&a, &b)| square(f64::from(a) - f64::from(b)))
            .sum();
        let norm: f64 = want.iter().map(|&b| square(f64::from(b))).sum();
        if off == 0.0 { 0.0 } else { (off / norm).sqrt() }
    };
    let errors = got.iter().zip(want).map(of);
    errors.fold(
        0.0,
        |worst, error| if error <= worst { worst } else { error },
    )
}

/// Entry points that the operator may be run by, where there is a choice.
fn entries(executor: &mut dyn Executor, build: Build) -> BTreeSet<&'static str> {
    let mark = executor.mark();
    let mut bench = Bench::new(executor);
    build(&mut bench);
    let Bench {
        executor,
        recording,
        ..
    } = bench;
    let mut entries = BTreeSet::new();
    for operator in recording.operators() {
        for choice in operator.choices(&recording, &|_| true, Extras::NONE) {
            if choice.variants.len() > 1 {
                let variants = choice.variants.iter();
                entries.extend(variants.map(|variant| variant.launch.entry));
            }
        }
    }
    executor.unwind(mark);
    entries
}

/// Runs all variants of one operator and says whether all are right.
fn compare(name: &str, build: Build, device: Option<&Arc<adapter::Device>>) -> Result<bool> {
    let none = Arc::new(WeightTable::default());
    let mut exact = NativeExecutor::<f64>::new(&none, false);
    let want = measure(&mut exact, build, false)?.results;
    let mut right = true;
    let mut tell = |variant: &str, outcome: Outcome| {
        let error = error(&outcome.results, &want);
        let within = error <= BOUND;
        right &= within;
        println!(
            "{name:<28} {variant:<34} {:>10.1} us  error {error:.1e}{}",
            outcome.seconds * 1e6,
            if within { "" } else { "  OFF" }
        );
    };
    let mut native = NativeExecutor::<f32>::new(&none, false);
    tell("native f32", measure(&mut native, build, true)?);
    let Some(device) = device else {
        return Ok(right);
    };
    let entries = entries(&mut exact, build);
    for shaders in [ShaderMode::Trusted, ShaderMode::Checked] {
        let run = |tune: Tune| {
            let options = GpuOptions {
                shaders,
                tune,
                ..GpuOptions::default()
            };
            let mut executor = GpuExecutor::new(Arc::clone(device), &none, &options)?;
            measure(&mut executor, build, true)
        };
        if entries.is_empty() {
            tell(&format!("gpu {shaders:?}"), run(Tune::Never)?);
        }
        for &entry in &entries {
            tell(&format!("gpu {shaders:?} {entry}"), run(Tune::Only(entry))?);
        }
    }
    Ok(right)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // Cargo adds options of its own.
    let words: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let named = std::env::var("SONOGRAD_BENCH_DEVICE").unwrap_or_else(|_| "gpu".into());
    let opened = named
        .parse::<DeviceChoice>()
        .map_err(|problem| format!("{problem:?}"))
        .and_then(|choice| device::open(&choice).map_err(|problem| problem.to_string()));
    let (device, warning) = match opened {
        Ok(opened) => opened,
        Err(problem) => {
            eprintln!("SONOGRAD_BENCH_DEVICE={named}: {problem}");
            return ExitCode::from(2);
        }
    };
    if let Some(warning) = warning {
        eprintln!("{warning}");
    }
    println!("{device}");
    let device = match device {
        Device::Native => None,
        Device::Gpu(device) => Some(Arc::new(*device)),
    };
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(&**word));
    let mut right = true;
    for (name, build) in OPERATORS.iter().filter(|(name, _)| chosen(name)) {
        match compare(name, *build, device.as_ref()) {
            Ok(all) => right &= all,
            Err(problem) => {
                eprintln!("{name}: {problem}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::from(u8::from(!right))
}
