//! Whether variants that need extras of a device compute what plain ones do,
//! on that very device, before any is used.

use std::sync::Arc;

use super::adapter::Device;
use super::backend::GpuExecutor;
use super::extras::Extras;
use super::options::{GpuOptions, Tune};
use super::units::MatrixUnits;
use super::variants::{Trial, eighths};
use crate::Result;
use crate::engine::executor::Executor;
use crate::engine::precision::Precision;
use crate::engine::profile::Purpose;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, PersistentId, Scalars, TensorId, WeightId};
use crate::engine::weights::{Form, Role, WeightTable};
use crate::ops::Operator;

/// Compares, on trials of all operators, what variants that need any of
/// `extras` give with what plain ones do. Drivers have been seen to lose sums
/// on their matrix units: whoever does is not used.
///
/// # Errors
/// What is wrong: results that differ in a single bit, variants that do not
/// run, or that none needs these extras.
pub fn verify(device: &Arc<Device>, extras: Extras) -> std::result::Result<(), String> {
    let trials = Operator::trials();
    let plain = outcomes(device, &trials, Extras::NONE).map_err(|problem| problem.to_string())?;
    let own = outcomes(device, &trials, extras)
        .map_err(|problem| format!("its {extras} do not run: {problem}"))?;
    compare(&plain, &own).map_err(|problem| match problem {
        Difference::Values => format!("its {extras} compute something else"),
        Difference::Nothing => format!("there is nothing for its {extras} to do"),
    })
}

/// The device's matrix units and what goes with them, if they compute what
/// plain kernels do.
///
/// # Errors
/// What is wrong, where there are no units or they cannot be relied on.
pub fn matrix_units(device: &Arc<Device>) -> std::result::Result<Extras, String> {
    let units = MatrixUnits::of(device).ok_or("it has no matrix units for f16 with sums in f32")?;
    let extras = Extras::with_units(units);
    verify(device, extras).map(|()| extras)
}

/// What is wrong with variants.
#[derive(Debug, PartialEq, Eq)]
enum Difference {
    Values,
    /// None of them ran: what was compared says nothing.
    Nothing,
}

/// What one trial gave.
struct Outcome {
    results: Vec<Vec<f32>>,
    /// Kernels that ran.
    kernels: Vec<String>,
}

fn compare(plain: &[Outcome], own: &[Outcome]) -> std::result::Result<(), Difference> {
    let pairs = || plain.iter().zip(own);
    let bits = |results: &[Vec<f32>]| -> Vec<u32> {
        results.iter().flatten().map(|x| x.to_bits()).collect()
    };
    if pairs().all(|(plain, own)| plain.kernels == own.kernels) {
        return Err(Difference::Nothing);
    }
    match pairs().all(|(plain, own)| bits(&plain.results) == bits(&own.results)) {
        true => Ok(()),
        false => Err(Difference::Values),
    }
}

/// Runs all trials with the variants that these extras allow. Weights are
/// f16, as where extras round.
fn outcomes(device: &Arc<Device>, trials: &[Trial], extras: Extras) -> Result<Vec<Outcome>> {
    let mut table = WeightTable::default();
    let matrices: Vec<Vec<WeightId>> = trials
        .iter()
        .map(|trial| {
            let matrices = trial.matrices.iter().enumerate();
            matrices
                .map(|(place, shape)| {
                    let values = eighths(shape.len(), 1 + place);
                    let role = Role::encoder(Form::Matrix);
                    table.add(role, "trial", shape.rows, shape.cols, values)
                })
                .collect()
        })
        .collect();
    let table = Arc::new(table);
    let options = GpuOptions {
        precision: Precision::F16Weights,
        tune: Tune::Never,
        ..GpuOptions::default()
    };
    let mut executor = GpuExecutor::new(Arc::clone(device), &table, &options)?;
    executor.use_extras(extras);
    let all = trials.iter().zip(matrices);
    all.map(|(trial, matrices)| {
        let mark = executor.mark();
        let mut recording = Recording::new(Arc::clone(&table));
        let matrices: Vec<TensorId> = matrices
            .into_iter()
            .map(|id| recording.weight(id))
            .collect();
        let results = trial.set_up(&mut executor, &mut recording, &matrices)?;
        let plan = executor.prepare(recording)?;
        executor.run(plan, 0, &Scalars::ZERO)?;
        let outcome = Outcome {
            results: executor.read(&results, Purpose::OTHER)?,
            kernels: executor.kernels(plan)?,
        };
        executor.unwind(mark);
        Ok(outcome)
    })
    .collect()
}

impl Trial {
    /// Records it on new memory of the executor; returns what will hold its
    /// results.
    pub(super) fn set_up(
        &self,
        executor: &mut GpuExecutor,
        recording: &mut Recording,
        matrices: &[TensorId],
    ) -> Result<Vec<PersistentId>> {
        let mut inputs = Vec::new();
        for &shape in &self.inputs {
            let id = executor.allocate(Kind::Real, shape)?;
            executor.upload(id, &eighths(shape.len(), 0))?;
            inputs.push(recording.persistent(id, Kind::Real, shape));
        }
        let results = (self.record)(recording, &inputs, matrices)?;
        let mut kept = Vec::new();
        for result in results {
            let id = executor.allocate(Kind::Real, recording.shape(result))?;
            recording.keep(result, id);
            kept.push(id);
        }
        Ok(kept)
    }

    /// The same with its matrices on new memory, in f32.
    pub(super) fn set_up_alone(
        &self,
        executor: &mut GpuExecutor,
        recording: &mut Recording,
    ) -> Result<Vec<PersistentId>> {
        let mut matrices = Vec::new();
        for (place, &shape) in self.matrices.iter().enumerate() {
            let id = executor.allocate(Kind::Real, shape)?;
            executor.upload(id, &eighths(shape.len(), 1 + place))?;
            matrices.push(recording.persistent(id, Kind::Real, shape));
        }
        self.set_up(executor, recording, &matrices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kernel: &str, results: &[f32]) -> Outcome {
        Outcome {
            results: vec![results.to_vec()],
            kernels: vec![kernel.into()],
        }
    }

    #[test]
    fn a_single_bit_counts_and_nothing_compared_is_no_proof() {
        let plain = [outcome("plain", &[1.0, 2.0])];
        let other = |results: &[f32]| compare(&plain, &[outcome("units", results)]);
        assert_eq!(other(&[1.0, 2.0]), Ok(()));
        let off = [1.0, 2.0_f32.next_up()];
        assert_eq!(other(&off), Err(Difference::Values));
        assert_eq!(compare(&plain, &plain), Err(Difference::Nothing));
    }
}
