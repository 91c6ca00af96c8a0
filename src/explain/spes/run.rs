//! A run of SPES: making the plan, scoring batch after batch, stopping.

use super::options::{SpesOptions, Stop};
use super::reliability::{Checkpoint, spearman_brown};
use super::segmentation::Segments;
use super::{BATCH, CHECKPOINTS, FEWEST_MASKS, MOST_MASKS, Masks, Occluded};
use crate::engine::executor::{Executor, PlanId};
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape};
use crate::explain::passes::{DeviceMap, EncoderOutput, Utterance, fitting};
use crate::explain::profile::STATUS;
use crate::explain::progress::{Progress, Step};
use crate::model::Model;
use crate::ops::scalars::{FIRST_VARIANT, MASK_END, MASKING};
use crate::{Error, ErrorKind, Result};

/// The stages of a plan, in the order in which `recording.rs` records them.
const PREPARE: usize = 0;
const FORWARD: usize = 1;
const REFERENCE: usize = 2;
const SCORE: usize = 3;
const CHECK: usize = 4;
const FINISH: usize = 5;

/// Occlusion of an utterance at one site, for all of its explained tokens.
pub struct Occlusion<'a> {
    pub model: &'a Model,
    pub utterance: &'a Utterance,
    /// What the encoder makes of the sound; not looked at where the features
    /// are occluded.
    pub encoder_output: Option<EncoderOutput>,
    pub occluded: Occluded,
    pub segments: Segments,
    pub masks: Masks,
    pub options: &'a SpesOptions,
    /// Bytes a plan may take.
    pub memory: usize,
}

/// What a run gave; everything on the device until it is read.
pub struct SpesPass {
    pub occluded: Occluded,
    /// (K, T, F), (K, T', 1) or (K, I, 1)
    pub map: DeviceMap,
    /// (1, K, 1): scores that rounding made negative, by token
    pub clamped: PersistentId,
    /// (M, K, 1), for given masks
    pub scores: Option<PersistentId>,
    pub masks: usize,
    pub batch: usize,
    pub segments: usize,
    /// By checkpoint: masks and reliabilities.
    pub checkpoints: Vec<Checkpoint>,
    /// Whether it ended before its own rule was met.
    pub interrupted: bool,
}

/// Persistent tensors that a run writes.
#[derive(Clone, Copy)]
pub(super) struct Targets {
    /// (2·G, segments, K + 1)
    pub sums: PersistentId,
    /// (1, K, 1)
    pub clamped: PersistentId,
    /// (batch, K, 1)
    pub scores: PersistentId,
    pub map: DeviceMap,
    /// (K, 1, 2) each
    pub pooled_status: PersistentId,
    pub full_status: PersistentId,
}

impl Targets {
    fn allocate(executor: &mut dyn Executor, segments: Segments, tokens: usize) -> Result<Self> {
        let shape = segments.shape.with_lead(tokens);
        let mut real = |shape| executor.allocate(Kind::Real, shape);
        let status = Shape::new(tokens, 1, 2);
        Ok(Self {
            map: DeviceMap {
                id: real(shape)?,
                shape,
            },
            sums: real(segments.sums_shape(tokens))?,
            clamped: real(Shape::new(1, tokens, 1))?,
            scores: PersistentId::NOWHERE,
            pooled_status: real(status)?,
            full_status: real(status)?,
        })
    }
}

impl Occlusion<'_> {
    /// Scores masks until there are enough and makes the map.
    ///
    /// `progress` is called after every batch; if it returns false the run
    /// stops there and gives what it has.
    ///
    /// # Errors
    /// If something does not fit the model or the device fails.
    pub fn run(
        &self,
        executor: &mut dyn Executor,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<SpesPass> {
        let tokens = self.utterance.explained;
        let most = self.most();
        if most == 0 {
            return Err(Error::Input("a map needs at least one mask".into()));
        }
        let mut targets = Targets::allocate(executor, self.segments, tokens)?;
        let (plan, batch) = self.prepare(executor, most, &mut targets)?;
        let run = Run {
            plan,
            occluded: self.occluded,
            batch,
            most,
            tokens,
            targets,
            stop: self.options.stop,
            given: self.given(),
        };
        let done = run.all(executor, progress);
        executor.release(plan);
        for id in [targets.sums, targets.pooled_status, targets.full_status] {
            executor.free(id);
        }
        let scores = if self.given() {
            Some(targets.scores)
        } else {
            executor.free(targets.scores);
            None
        };
        let (masks, checkpoints, interrupted) = done?;
        Ok(SpesPass {
            occluded: self.occluded,
            map: targets.map,
            clamped: targets.clamped,
            scores,
            masks,
            batch,
            segments: self.segments.count,
            checkpoints,
            interrupted,
        })
    }

    fn given(&self) -> bool {
        matches!(self.masks, Masks::Given(_))
    }

    /// Masks at which the run ends at the latest.
    fn most(&self) -> usize {
        match (self.masks, self.options.stop) {
            (Masks::Given(given), _) => given.count(),
            (_, Stop::Masks(count)) => count,
            (_, Stop::Reliability(_)) => MOST_MASKS,
        }
    }

    /// [`BATCH`], or a half or quarter of it where its logits, the largest tensor
    /// that is there for all of a batch, would take too much: a vocabulary of 50,000.
    fn usual_batch(&self) -> usize {
        const MOST_LOGITS: usize = 32 << 20;
        let each = self.utterance.inputs * self.model.decoder.config.vocabulary;
        let fits = |batch: usize| batch * each <= MOST_LOGITS;
        match [BATCH, BATCH / 2].into_iter().find(|&batch| fits(batch)) {
            Some(batch) => batch,
            None => BATCH / 4,
        }
    }

    /// Makes the plan, and the tensor of scores that goes with its batch; half
    /// as many masks at once if the device has not the memory after all.
    fn prepare(
        &self,
        executor: &mut dyn Executor,
        most: usize,
        targets: &mut Targets,
    ) -> Result<(PlanId, usize)> {
        let mut batch = match (self.masks, self.options.batch) {
            (Masks::Given(given), _) => given.count(),
            (_, Some(batch)) => batch.clamp(1, most),
            (_, None) => {
                let build = |batch| self.record(batch, targets);
                fitting(executor, self.memory, self.usual_batch().min(most), &build)?
            }
        };
        let tokens = self.utterance.explained;
        loop {
            let scores = executor.allocate(Kind::Real, Shape::new(batch, tokens, 1));
            let attempt = scores.and_then(|scores| {
                targets.scores = scores;
                let plan = self.record(batch, targets);
                let plan = plan.and_then(|plan| executor.prepare(plan));
                plan.inspect_err(|_| executor.free(scores))
            });
            match attempt {
                Ok(plan) => return Ok((plan, batch)),
                Err(error) if error.kind() == ErrorKind::Memory && batch > 1 && !self.given() => {
                    batch = batch.div_ceil(2);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A prepared plan while it runs.
struct Run {
    plan: PlanId,
    occluded: Occluded,
    batch: usize,
    most: usize,
    tokens: usize,
    targets: Targets,
    stop: Stop,
    given: bool,
}

impl Run {
    /// Runs to the end; returns masks, checkpoints, and whether it was
    /// interrupted.
    fn all(
        &self,
        executor: &mut dyn Executor,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<(usize, Vec<Checkpoint>, bool)> {
        let mut scalars = Scalars::ZERO;
        executor.run(self.plan, PREPARE, &scalars)?;
        // Without masks all rows are the same.
        executor.run_first(self.plan, FORWARD, 1, &scalars)?;
        executor.run(self.plan, REFERENCE, &scalars)?;
        scalars.set(MASKING, 1);
        let stops = CHECKPOINTS.into_iter().filter(|&count| count < self.most);
        let mut checkpoints = Vec::new();
        let mut first = 0;
        let mut interrupted = false;
        'stops: for stop in stops.chain([self.most]) {
            while first < stop {
                let end = (first + self.batch).min(stop);
                scalars.set(FIRST_VARIANT, first as u32);
                scalars.set(MASK_END, end as u32);
                executor.run_first(self.plan, FORWARD, end - first, &scalars)?;
                executor.run(self.plan, SCORE, &scalars)?;
                first = end;
                let state = Progress {
                    step: Step::Masks,
                    site: self.occluded.site(),
                    done: first,
                    most: self.most,
                };
                if !progress(state) && first < self.most {
                    interrupted = true;
                    break 'stops;
                }
            }
            if !self.given && first < self.most {
                let checkpoint = self.check(executor, first, &scalars)?;
                let reached = checkpoint.pooled_median();
                checkpoints.push(checkpoint);
                if let (Stop::Reliability(wanted), Some(reached)) = (self.stop, reached)
                    && reached >= wanted
                    && first >= FEWEST_MASKS
                {
                    break;
                }
            }
        }
        if !self.given && checkpoints.last().is_none_or(|last| last.masks != first) {
            checkpoints.push(self.check(executor, first, &scalars)?);
        }
        executor.run(self.plan, FINISH, &scalars)?;
        Ok((first, checkpoints, interrupted))
    }

    fn check(
        &self,
        executor: &mut dyn Executor,
        masks: usize,
        scalars: &Scalars,
    ) -> Result<Checkpoint> {
        executor.run(self.plan, CHECK, scalars)?;
        let ids = [self.targets.pooled_status, self.targets.full_status];
        let status = executor.read(&ids, STATUS)?;
        let corrected = |values: &[f32]| -> Vec<Option<f64>> {
            let pairs = values.chunks(2).take(self.tokens);
            pairs
                .map(|pair| (pair[1] != 0.0).then(|| spearman_brown(f64::from(pair[0]))))
                .collect()
        };
        Ok(Checkpoint {
            masks,
            pooled: corrected(&status[0]),
            full: corrected(&status[1]),
        })
    }
}
