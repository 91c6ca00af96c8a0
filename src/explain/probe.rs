//! What a model makes of sounds with parts missing: log-probabilities of an
//! utterance's tokens under forced decoding. Measures that hold a map against
//! the model itself stand on it.

use super::passes::{Utterance, fitting};
use super::profile::MAPS;
use super::spes::{GivenMasks, Segmentation, Segments};
use super::subject::{Forced, Subject};
use crate::Result;
use crate::engine::executor::{Executor, Inputs};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape};
use crate::model::Model;
use crate::ops::scalars::{FIRST_VARIANT, MASKING};
use crate::ops::{Baseline, BaselineKind, MaskSource};

/// Masks that one run of the plan takes, unless memory wants fewer.
const BATCH: usize = 32;

/// Log-probabilities (M, K) of the subject's K tokens, with segments of its
/// sound (T, F) set to 0. `hidden`: (M, segments), what each mask hides;
/// `memory`: bytes a pass may take.
///
/// Masks are applied on the device; only log-probabilities come back.
///
/// # Errors
/// If the utterance does not fit the model or the device fails.
pub fn log_probs_without(
    executor: &mut dyn Executor,
    model: &Model,
    subject: &Subject,
    segmentation: Segmentation,
    hidden: &[bool],
    memory: usize,
) -> Result<Vec<f64>> {
    let mark = executor.mark();
    let probe = Probe { model, memory };
    let done = probe.run(executor, subject, segmentation, hidden);
    executor.unwind(mark);
    done
}

struct Probe<'a> {
    model: &'a Model,
    memory: usize,
}

impl Probe<'_> {
    fn run(
        &self,
        executor: &mut dyn Executor,
        subject: &Subject,
        segmentation: Segmentation,
        hidden: &[bool],
    ) -> Result<Vec<f64>> {
        let forced = Forced::new(subject, &[])?;
        let mut uploads = Inputs::default();
        let utterance = Utterance::place(
            executor,
            &mut uploads,
            self.model,
            subject.features,
            &forced.inputs,
            &forced.positions,
            &forced.labels,
        )?;
        let count = hidden.len() / segmentation.segments;
        let masks = GivenMasks::place(executor, &mut uploads, hidden, segmentation.segments)?;
        let segments = segmentation.place(executor, &mut uploads)?;
        uploads.send(executor, MAPS)?;

        let tokens = utterance.explained;
        let build = |batch, y| self.record(&utterance, segments, masks, batch, y);
        let nowhere = PersistentId::NOWHERE;
        let one = |batch| build(batch, nowhere);
        let batch = fitting(executor, self.memory, BATCH.min(count), &one)?;
        let y = executor.allocate(Kind::Real, Shape::new(batch, tokens, 1))?;
        let plan = executor.prepare(build(batch, y)?)?;
        let mut scalars = Scalars::ZERO.with(MASKING, 1);
        let mut all = Vec::with_capacity(count * tokens);
        for first in (0..count).step_by(batch) {
            scalars.set(FIRST_VARIANT, first as u32);
            let own = (count - first).min(batch);
            executor.run_first(plan, 0, own, &scalars)?;
            let log_probs = executor.read(&[y], MAPS)?;
            let own = &log_probs[0][..own * tokens];
            all.extend(own.iter().map(|&x| f64::from(x)));
        }
        Ok(all)
    }

    fn record(
        &self,
        utterance: &Utterance,
        segments: Segments,
        masks: GivenMasks,
        batch: usize,
        y: PersistentId,
    ) -> Result<Recording> {
        let mut recording = Recording::new(self.model.weights.clone());
        let r = &mut recording;
        let x = utterance.features(r);
        let fill = r.computed(r.shape(x));
        let kind = BaselineKind::Zero;
        r.push(Baseline { x, kind, y: fill });
        let labels = r.persistent(segments.labels, Kind::Index, segments.shape);
        let source = MaskSource::Given {
            bits: r.persistent(masks.bits, Kind::Index, masks.shape),
        };
        let sound = r.apply_mask(x, labels, segments.count, source, fill, batch);
        utterance.record_variants(self.model, r, sound, y)?;
        Ok(recording)
    }
}
