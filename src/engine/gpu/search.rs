//! A short search for the fastest entry point of each class of works, on the
//! device itself and on memory of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::adapter::Device;
use super::backend::GpuExecutor;
use super::options::GpuOptions;
use super::pipelines::ShaderMode;
use super::variants::Class;
use crate::Result;
use crate::engine::executor::{Executor, PlanId};
use crate::engine::profile::Purpose;
use crate::engine::recording::Recording;
use crate::engine::tensor::PersistentId;
use crate::engine::weights::WeightTable;

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

/// The entry point for each class, by key. Those that time does not suffice
/// for get what the rule of thumb says, so that later runs do as this one.
///
/// # Errors
/// If the device fails or has not the memory.
pub fn search<'a>(
    executor: &mut GpuExecutor,
    classes: impl IntoIterator<Item = (&'a String, &'a Arc<dyn Class>)>,
) -> Result<Vec<(String, &'static str)>> {
    let (mut found, mut spent) = (Vec::new(), Duration::ZERO);
    for (key, class) in classes {
        let candidates = class.candidates();
        let entry = match is_over(spent) {
            false => fastest(executor, &**class, &candidates, &mut spent)?,
            true => candidates[0],
        };
        found.push((key.clone(), entry));
    }
    Ok(found)
}

fn is_over(spent: Duration) -> bool {
    spent.as_secs_f64() >= PLAN_SECONDS
}

/// The fastest of the candidates for a class; the first unless another is
/// clearly faster and gives the same bits. What timing and comparing take is
/// added to `spent`; compiling and first runs are not part of it.
fn fastest(
    executor: &mut GpuExecutor,
    class: &dyn Class,
    candidates: &[&'static str],
    spent: &mut Duration,
) -> Result<&'static str> {
    let &[first, _, ..] = candidates else {
        return Ok(candidates[0]);
    };
    let mark = executor.mark();
    let mut recording = Recording::new(Arc::new(WeightTable::default()));
    let results = class.trial().set_up_alone(executor, &mut recording)?;
    let plans = executor.prepare_each(&recording, candidates)?;
    let read = executor.read(&results, Purpose::OTHER)?;
    let nothing: Vec<Vec<f32>> = read.iter().map(|own| vec![f32::NAN; own.len()]).collect();
    let (mut timed, mut expected) = (Vec::new(), None);
    for (&entry, plan) in candidates.iter().zip(plans) {
        if !timed.is_empty() && is_over(*spent) {
            break;
        }
        // The first run pays for what a driver puts off: some compile then.
        // What it leaves out must not be there from the one before it.
        for (&result, values) in results.iter().zip(&nothing) {
            executor.upload(result, values)?;
        }
        executor.seconds(plan, 1)?;
        let begin = Instant::now();
        let own = bits(executor, &results)?;
        *spent += begin.elapsed();
        match &expected {
            None => expected = Some(own),
            Some(expected) if *expected == own => {}
            Some(_) => continue,
        }
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

/// The bits of results.
fn bits(executor: &mut GpuExecutor, results: &[PersistentId]) -> Result<Vec<u32>> {
    let read = executor.read(results, Purpose::OTHER)?;
    Ok(read.iter().flatten().map(|x| x.to_bits()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gpu::adapter::open_for_tests;
    use crate::engine::gpu::extras::Extras;
    use crate::engine::gpu::variants::Trial;
    use crate::engine::tensor::Shape;
    use crate::ops::Activation;

    const SIDE: usize = 128;

    /// A class of no single operator. Its first candidate, for few rows, is a
    /// poor one here.
    #[derive(Debug)]
    struct Chain {
        /// What the first product is scaled by: its results are exact, and with
        /// them the sums of the second, if this is a power of two.
        scale: f32,
    }

    impl Class for Chain {
        fn key(&self) -> String {
            format!("chain {}", self.scale)
        }

        fn candidates(&self) -> Vec<&'static str> {
            vec!["forward_thin", "forward", "forward_large"]
        }

        fn trial(&self) -> Trial {
            let scale = self.scale;
            Trial {
                inputs: vec![Shape::new(1, SIDE, 16)],
                matrices: vec![Shape::new(1, SIDE, 16), Shape::new(1, SIDE, SIDE)],
                record: Box::new(move |recording, inputs, matrices| {
                    let first = recording.matmul(inputs[0], matrices[0]).scale(scale);
                    let first = first.activation(Activation::None).record()?;
                    Ok(vec![recording.matmul(first, matrices[1]).record()?])
                }),
            }
        }
    }

    #[test]
    #[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
    fn what_gives_other_bits_is_not_taken_however_fast() {
        let device = Arc::new(open_for_tests());
        let mut executor = executor(&device, ShaderMode::Trusted).unwrap();
        executor.use_extras(Extras::NONE);
        let find = |executor: &mut GpuExecutor, scale: f32| {
            let class: Arc<dyn Class> = Arc::new(Chain { scale });
            let key = class.key();
            search(executor, [(&key, &class)]).unwrap()
        };
        let found = find(&mut executor, 0.1);
        assert_eq!(found, [("chain 0.1".to_owned(), "forward_thin")]);
        // Where all are right, each may be the fastest.
        let found = find(&mut executor, 0.125);
        let all = Chain { scale: 0.125 }.candidates();
        assert!(all.contains(&found[0].1), "{found:?}");
    }
}
