//! What a model makes of sounds that were tampered with: log-probabilities of
//! an utterance's tokens under forced decoding. Measures that hold a map
//! against the model itself stand on it.

use super::passes::{Utterance, fitting};
use super::{Forced, Subject};
use crate::Result;
use crate::engine::executor::{Executor, Values};
use crate::engine::profile::Purpose;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape};
use crate::model::Model;

/// Variants that one run of the plan takes, unless memory wants fewer.
const BATCH: usize = 32;

/// Log-probabilities (count, K) of the subject's K tokens for `count` variants
/// of its sound. `change` is told the number of the variant and changes a copy
/// of the sound's features (T, F); `memory`: bytes a pass may take.
///
/// # Errors
/// If the utterance does not fit the model or the device fails.
pub fn log_probs_of_variants(
    executor: &mut dyn Executor,
    model: &Model,
    subject: &Subject,
    count: usize,
    change: &dyn Fn(usize, &mut [f32]),
    memory: usize,
) -> Result<Vec<f64>> {
    let mark = executor.mark();
    let done = compute(executor, model, subject, count, change, memory);
    executor.unwind(mark);
    done
}

fn compute(
    executor: &mut dyn Executor,
    model: &Model,
    subject: &Subject,
    count: usize,
    change: &dyn Fn(usize, &mut [f32]),
    memory: usize,
) -> Result<Vec<f64>> {
    let forced = Forced::all(subject);
    let utterance = Utterance::upload(
        executor,
        model,
        subject.features,
        &forced.inputs,
        &forced.positions,
        &forced.labels,
    )?;
    let tokens = utterance.explained;
    let shape = |batch| Shape::new(batch, utterance.frames, utterance.mel_bins);
    let build = |x: PersistentId, y: PersistentId, batch: usize| -> Result<Recording> {
        let mut recording = Recording::new(model.weights.clone());
        let x = recording.persistent(x, Kind::Real, shape(batch));
        utterance.record_variants(model, &mut recording, x, y)?;
        Ok(recording)
    };
    let nowhere = PersistentId(u32::MAX);
    let one = |batch: usize| build(nowhere, nowhere, batch);
    let batch = fitting(executor, memory, BATCH.min(count), &one)?;
    let x = executor.allocate(Kind::Real, shape(batch))?;
    let y = executor.allocate(Kind::Real, Shape::new(batch, tokens, 1))?;
    let plan = executor.prepare(build(x, y, batch)?)?;
    let sound = subject.features.sound().data;
    let mut all = Vec::with_capacity(count * tokens);
    let mut run = || -> Result<()> {
        for first in (0..count).step_by(batch) {
            // The last batch is filled up with untouched copies.
            let mut variants = sound.repeat(batch);
            let own = variants.chunks_mut(sound.len()).zip(first..count);
            own.for_each(|(variant, number)| change(number, variant));
            executor.upload_all(&[(x, Values::Real(variants.into()))], Purpose::Maps)?;
            executor.run(plan, 0, Scalars::default())?;
            let log_probs = executor.read(&[y], Purpose::Maps)?;
            let wanted = (count - first).min(batch) * tokens;
            all.extend(log_probs[0][..wanted].iter().map(|&x| f64::from(x)));
        }
        Ok(())
    };
    let done = run();
    executor.release(plan);
    done.map(|()| all)
}
