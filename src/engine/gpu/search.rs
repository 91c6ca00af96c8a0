//! A short search for the fastest entry point of each class of products, on
//! the device itself and on memory of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::adapter::Device;
use super::backend::GpuExecutor;
use super::options::GpuOptions;
use super::pipelines::ShaderMode;
use super::tuning::Class;
use crate::Result;
use crate::engine::executor::{Executor, PlanId};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, Shape};
use crate::engine::weights::WeightTable;
use crate::ops::{Layout, Matmul};

/// Seconds that all of one class' candidates together are timed for; where one
/// dispatch takes as long, it is timed once and needs no rounds.
const CLASS_SECONDS: f64 = 0.01;

/// Seconds after which what is left of a plan's classes goes by the rule of
/// thumb.
const PLAN_SECONDS: f64 = 1.5;

/// Candidates that take so many times the best one's time in a first try are
/// not looked at again.
const HOPELESS: f64 = 2.0;

/// How often each candidate is timed, in turns.
const ROUNDS: usize = 3;

/// Most dispatches timed in a row.
const MOST_REPEATS: usize = 50;

/// Time, as a part of the first candidate's, that another has to be below: not
/// every difference means something.
const CLEARLY: f64 = 0.97;

/// An executor to search with; it keeps its pipelines.
///
/// # Errors
/// If the device fails or has not the memory.
pub fn executor(device: &Arc<Device>, shaders: ShaderMode) -> Result<GpuExecutor> {
    let options = GpuOptions {
        profiling: true,
        shaders,
        ..GpuOptions::default()
    };
    GpuExecutor::new(Arc::clone(device), &WeightTable::default(), &options)
}

/// The entry point for each class. Those that time does not suffice for get
/// what the rule of thumb says, so that later runs do as this one.
///
/// # Errors
/// If the device fails or has not the memory.
pub fn search(
    executor: &mut GpuExecutor,
    classes: impl IntoIterator<Item = Class>,
) -> Result<Vec<(Class, &'static str)>> {
    let (mut found, mut spent) = (Vec::new(), Duration::ZERO);
    for class in classes {
        let candidates = Matmul::candidates(&class);
        let entry = match is_over(spent) {
            false => fastest(executor, &class, &candidates, &mut spent)?,
            true => candidates[0],
        };
        found.push((class, entry));
    }
    Ok(found)
}

fn is_over(spent: Duration) -> bool {
    spent.as_secs_f64() >= PLAN_SECONDS
}

/// The fastest of the candidates for a class; the first unless another is
/// clearly faster. What the timing takes is added to `spent`; compiling and
/// first runs are not part of it.
fn fastest(
    executor: &mut GpuExecutor,
    class: &Class,
    candidates: &[&'static str],
    spent: &mut Duration,
) -> Result<&'static str> {
    let &[first, _, ..] = candidates else {
        return Ok(candidates[0]);
    };
    let mark = executor.mark();
    let recording = sample(executor, class)?;
    let plans = executor.prepare_each(&recording, candidates)?;
    let mut timed = Vec::new();
    for (&entry, plan) in candidates.iter().zip(plans) {
        if !timed.is_empty() && is_over(*spent) {
            break;
        }
        // The first run pays for what a driver puts off: some compile then.
        executor.seconds(plan, 1)?;
        timed.push((entry, plan, time(executor, plan, 1, spent)?));
    }
    let most = HOPELESS * least(&timed);
    timed.retain(|(entry, _, seconds)| *entry == first || *seconds <= most);

    let share = CLASS_SECONDS / (ROUNDS * timed.len()) as f64;
    let repeats = (share / least(&timed).max(1e-9)) as usize;
    let rounds = match least(&timed) < CLASS_SECONDS {
        true => ROUNDS,
        false => 0,
    };
    for _ in 0..rounds {
        for (_, plan, seconds) in &mut timed {
            let now = time(executor, *plan, repeats.clamp(1, MOST_REPEATS), spent)?;
            *seconds = seconds.min(now);
        }
    }
    executor.unwind(mark);
    let of_first = timed.iter().find(|(entry, ..)| *entry == first);
    let bound = CLEARLY * of_first.map_or(0.0, |(_, _, seconds)| *seconds);
    let best = timed.iter().min_by(|a, b| a.2.total_cmp(&b.2));
    let best = best.filter(|(_, _, seconds)| *seconds < bound);
    Ok(best.map_or(first, |(entry, ..)| entry))
}

fn time(
    executor: &mut GpuExecutor,
    plan: PlanId,
    repeats: usize,
    spent: &mut Duration,
) -> Result<f64> {
    let begin = Instant::now();
    let seconds = executor.seconds(plan, repeats)?;
    *spent += begin.elapsed();
    Ok(seconds)
}

fn least(timed: &[(&str, PlanId, f64)]) -> f64 {
    let all = timed.iter().map(|(_, _, seconds)| *seconds);
    all.fold(f64::INFINITY, f64::min)
}

/// A product of a class' sizes, and memory for it.
fn sample(executor: &mut GpuExecutor, class: &Class) -> Result<Recording> {
    let layout = match class.in_out {
        true => Layout::InOut,
        false => Layout::OutIn,
    };
    let weight = match layout {
        Layout::InOut => Shape::new(1, class.inputs, class.outputs),
        Layout::OutIn => Shape::new(1, class.outputs, class.inputs),
    };
    let mut recording = Recording::new(Arc::new(WeightTable::default()));
    let input = |executor: &mut GpuExecutor, recording: &mut Recording, shape| {
        let id = executor.allocate(Kind::Real, shape)?;
        Ok::<_, crate::Error>(recording.persistent(id, Kind::Real, shape))
    };
    let x = input(
        executor,
        &mut recording,
        Shape::new(1, class.rows, class.inputs),
    )?;
    let weight = input(executor, &mut recording, weight)?;
    let y = recording.matmul(x, weight).layout(layout).record()?;
    let kept = executor.allocate(Kind::Real, recording.shape(y))?;
    recording.keep(y, kept);
    Ok(recording)
}
