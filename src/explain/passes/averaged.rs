//! Gradients averaged over variants of the features or of the encoder's
//! output: along a path from a baseline, or over noisy copies.

use super::fitting::fitting;
use super::forward::DeviceMap;
use super::utterance::{EncoderOutput, Utterance};
use super::{kept, no_gradients};
use crate::engine::executor::{Executor, PlanId};
use crate::engine::recording::Recording;
use crate::engine::reverse::reverse;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape, TensorId};
use crate::explain::method::Site;
use crate::explain::progress::{Progress, Step};
use crate::model::Model;
use crate::ops::scalars::{FIRST_TOKEN, FIRST_VARIANT};
use crate::ops::{
    Accumulate, AddNoise, Baseline, BaselineKind, Blend, Contrast, Reduce, Reduction, Spread,
};
use crate::{Error, Result};

/// What a gradient is averaged over.
#[derive(Clone, Debug)]
pub enum Variants {
    /// Points between a baseline and the input, with quadrature weights.
    Path {
        baseline: BaselineKind,
        fractions: Vec<f32>,
        weights: Vec<f32>,
    },
    /// Noisy copies; `level` is the standard deviation as a share of the
    /// input's range.
    Noise {
        level: f32,
        samples: usize,
        seed: u64,
    },
}

impl Variants {
    fn count(&self) -> usize {
        match self {
            Self::Path { fractions, .. } => fractions.len(),
            Self::Noise { samples, .. } => *samples,
        }
    }

    /// How much each counts.
    fn weights(&self) -> Vec<f32> {
        match self {
            Self::Path { weights, .. } => weights.clone(),
            Self::Noise { samples, .. } => vec![1.0 / *samples as f32; *samples],
        }
    }
}

/// A mean of gradients that is to be made.
pub struct AveragedGradients<'a> {
    pub model: &'a Model,
    pub utterance: &'a Utterance,
    pub encoder_output: EncoderOutput,
    pub site: Site,
    pub variants: &'a Variants,
    pub reduction: Reduction,
    /// Bytes a plan may take.
    pub memory: usize,
}

/// Result of [`AveragedGradients::run`].
pub struct AveragedPass {
    pub map: DeviceMap,
    /// (1, K, 1): log-probabilities at the baseline, for a path.
    pub baseline_log_probs: Option<PersistentId>,
}

/// Persistent tensors of a run.
struct Tensors {
    /// (1, R, C): what is varied
    source: PersistentId,
    shape: Shape,
    /// The baseline (1, R, C), or the noise level (1, 1, 1).
    aside: PersistentId,
    map: DeviceMap,
}

impl AveragedGradients<'_> {
    /// Averages the gradients and makes a map of them; along a path they are
    /// multiplied by the way from the baseline to the input, which gives
    /// integrated gradients.
    ///
    /// # Errors
    /// If something does not fit the model, the device fails, or `progress`,
    /// which is called after every batch of variants, returns false.
    pub fn run(
        &self,
        executor: &mut dyn Executor,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<AveragedPass> {
        let (source, shape) = self
            .utterance
            .source(self.model, self.site, self.encoder_output)?;
        let map = DeviceMap::allocate(executor, self.utterance, shape, self.reduction)?;
        let (aside, baseline_log_probs) = self.prepare(executor, source, shape)?;
        let tensors = Tensors {
            source,
            shape,
            aside,
            map,
        };
        self.average(executor, &tensors, progress)?;
        executor.free(aside);
        Ok(AveragedPass {
            map,
            baseline_log_probs,
        })
    }

    /// Baseline and noise level are computed once, in a plan of their own;
    /// also the log-probabilities (1, K, 1) at the baseline.
    fn prepare(
        &self,
        executor: &mut dyn Executor,
        source: PersistentId,
        shape: Shape,
    ) -> Result<(PersistentId, Option<PersistentId>)> {
        let mut recording = Recording::new(self.model.weights.clone());
        let r = &mut recording;
        let x = r.persistent(source, Kind::Real, shape);
        let made = match *self.variants {
            Variants::Path { baseline: kind, .. } => {
                let y = r.computed(shape);
                r.push(Baseline { x, kind, y });
                let aside = kept(executor, r, y)?;
                let logits = self.decode(r, y)?;
                let log_probs = Shape::new(1, self.utterance.explained, 1);
                let log_probs = executor.allocate(Kind::Real, log_probs)?;
                self.utterance.record_log_probs(r, logits, log_probs);
                (aside, Some(log_probs))
            }
            Variants::Noise {
                level: fraction, ..
            } => {
                let y = r.computed(Shape::new(1, 1, 1));
                r.push(Spread { x, fraction, y });
                (kept(executor, r, y)?, None)
            }
        };
        let plan = executor.prepare(recording)?;
        let done = executor.run(plan, 0, &Scalars::ZERO);
        executor.release(plan);
        done.map(|()| made)
    }

    /// Logits (N, I, V) of variants (N, R, C) of what stands at the site.
    fn decode(&self, recording: &mut Recording, y: TensorId) -> Result<TensorId> {
        let (model, utterance) = (self.model, self.utterance);
        let output = match self.site {
            Site::Input => utterance.encode(model, recording, y)?,
            Site::Encoder => utterance.whole_output(recording, y, self.encoder_output)?,
            Site::Tokens | Site::Decoder => return Err(no_gradients()),
        };
        Ok(utterance.decode(model, recording, output)?.logits)
    }

    /// Tokens first: they share a variant's forward pass. Then as many
    /// variants as fit beside them.
    fn average(
        &self,
        executor: &mut dyn Executor,
        tensors: &Tensors,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        let (all, tokens) = (self.variants.count(), self.utterance.explained);
        let nowhere = PersistentId::NOWHERE;
        let one = |count| self.record(tensors, nowhere, 1, count);
        let count = fitting(executor, self.memory, tokens, &one)?;
        let several = |batch| self.record(tensors, nowhere, batch, count);
        let batch = fitting(executor, self.memory, all, &several)?;
        let sum = executor.allocate(Kind::Real, tensors.shape.with_lead(count))?;
        let plan = executor.prepare(self.record(tensors, sum, batch, count)?)?;
        let done = self.run_all(executor, plan, [batch, count], progress);
        executor.release(plan);
        executor.free(sum);
        done
    }

    /// `batch` variants and `count` tokens in each run; `sum` (count, R, C).
    fn record(
        &self,
        tensors: &Tensors,
        sum: PersistentId,
        batch: usize,
        count: usize,
    ) -> Result<Recording> {
        let (shape, all) = (tensors.shape, self.variants.count());
        let mut recording = Recording::new(self.model.weights.clone());
        let r = &mut recording;
        let x = r.persistent(tensors.source, Kind::Real, shape);
        let list = Shape::new(1, all, 1);
        let y = r.computed(shape.with_lead(batch));
        let contrast = match self.variants {
            Variants::Path { fractions, .. } => {
                let baseline = r.persistent(tensors.aside, Kind::Real, shape);
                let fractions = r.constant(list, fractions.clone());
                r.push(Blend {
                    x,
                    baseline,
                    fractions,
                    y,
                });
                Some(Contrast { x, baseline })
            }
            &Variants::Noise { seed, .. } => {
                let spread = r.persistent(tensors.aside, Kind::Real, Shape::new(1, 1, 1));
                r.push(AddNoise {
                    x,
                    spread,
                    seed,
                    stream: self.site as u32,
                    y,
                });
                None
            }
        };
        let logits = self.decode(r, y)?;
        let seed = self.utterance.seed(r, logits, count);
        let gradient = reverse(r, seed, &[y])?[0];
        let weights = r.constant(list, self.variants.weights());
        let sum = r.persistent(sum, Kind::Real, shape.with_lead(count));
        r.push(Accumulate {
            x: gradient,
            batch,
            weights,
            sum,
        });
        r.next_stage();
        let map = r.persistent(tensors.map.id, Kind::Real, tensors.map.shape);
        r.push(Reduce {
            gradient: sum,
            contrast,
            reduction: self.reduction,
            map,
        });
        Ok(recording)
    }

    fn run_all(
        &self,
        executor: &mut dyn Executor,
        plan: PlanId,
        [batch, count]: [usize; 2],
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        let (tokens, variants) = (self.utterance.explained, self.variants.count());
        let most = tokens.div_ceil(count) * variants;
        let mut done = 0;
        for first_token in (0..tokens).step_by(count) {
            let mut scalars = Scalars::ZERO;
            scalars.set(FIRST_TOKEN, first_token as u32);
            for first_variant in (0..variants).step_by(batch) {
                scalars.set(FIRST_VARIANT, first_variant as u32);
                executor.run(plan, 0, &scalars)?;
                done += batch.min(variants - first_variant);
                let state = Progress {
                    step: Step::Gradients,
                    site: self.site,
                    done,
                    most,
                };
                if !progress(state) && done < most {
                    return Err(Error::Stopped);
                }
            }
            executor.run(plan, 1, &scalars)?;
        }
        Ok(())
    }
}
