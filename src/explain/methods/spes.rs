//! SPES as a method of an explanation; `explain/spes` is the run itself.

use serde::{Deserialize, Serialize};

use super::{Finished, Read, Shared, Work};
use crate::engine::executor::{Executor, Inputs};
use crate::explain::method::{Method, Site};
use crate::explain::passes::ForwardPass;
use crate::explain::progress::Progress;
use crate::explain::readback::{Arrived, Batch, Ticket};
use crate::explain::spes::{
    Checkpoint, Masks, Occluded, Occlusion, Segmentation, Segments, SpesOptions, SpesPass, Stop,
};
use crate::features::Kind;
use crate::ops::BaselineKind;
use crate::{Error, Result};

/// How a map was made, as `explanation.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpesMade {
    /// Masks that were scored.
    pub masks: usize,
    /// Whether it ended before its own rule was met.
    pub interrupted: bool,
    /// Share of segments that a mask hides.
    pub probability: f64,
    pub seed: u64,
    /// Segments of the largest segmentation.
    pub segments: usize,
    /// Masks scored at once.
    pub batch: usize,
    /// Scores that rounding made negative, over all tokens.
    pub clamped_scores: f64,
    /// Median over tokens of the pooled map's, after all masks.
    pub reliability_pooled: Option<f64>,
    /// The same of the map at its own resolution.
    pub reliability_full: Option<f64>,
    pub token_reliability_pooled: Option<Vec<Option<f64>>>,
    pub token_reliability_full: Option<Vec<Option<f64>>>,
    pub checkpoints: Vec<CheckpointMade>,
    #[serde(flatten)]
    pub wanted: StopMade,
    /// At the input.
    #[serde(flatten)]
    pub input: Option<InputMade>,
}

/// Reliabilities after some masks, medians over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointMade {
    pub masks: usize,
    pub reliability_pooled: Option<f64>,
    pub reliability_full: Option<f64>,
}

/// When it was to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StopMade {
    Masks {
        wanted_masks: usize,
    },
    Reliability {
        wanted_reliability: f64,
        /// Whether it was reached.
        reliable: bool,
    },
}

/// What was hidden of the features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InputMade {
    #[serde(flatten)]
    pub segments: SegmentsMade,
    pub baseline: BaselineKind,
}

/// What shaped the segments of the features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum SegmentsMade {
    Superpixels {
        nominal_segments: Vec<usize>,
        compactness: f64,
        sigma: f64,
    },
    /// Of a waveform.
    Stretches { segment_ms: f64 },
}

impl SegmentsMade {
    fn new(kind: Kind, options: &SpesOptions) -> Self {
        match kind {
            Kind::Waveform => Self::Stretches {
                segment_ms: options.segment_ms,
            },
            _ => Self::Superpixels {
                nominal_segments: options.segments.clone(),
                compactness: options.compactness,
                sigma: options.sigma,
            },
        }
    }
}

impl SpesMade {
    fn new(shared: &Shared, pass: &SpesPass, clamped_scores: f64) -> Self {
        let (options, seed) = (&shared.options.spes, shared.options.seed);
        let kind = shared.model.encoder.hears_by();
        let last = pass.checkpoints.last();
        let checkpoints = pass.checkpoints.iter();
        let checkpoints = checkpoints.map(|checkpoint| CheckpointMade {
            masks: checkpoint.masks,
            reliability_pooled: checkpoint.pooled_median(),
            reliability_full: checkpoint.full_median(),
        });
        Self {
            masks: pass.masks,
            interrupted: pass.interrupted,
            probability: options.probability_at(pass.occluded),
            seed,
            segments: pass.segments,
            batch: pass.batch,
            clamped_scores,
            reliability_pooled: last.and_then(Checkpoint::pooled_median),
            reliability_full: last.and_then(Checkpoint::full_median),
            token_reliability_pooled: last.map(|last| last.pooled.clone()),
            token_reliability_full: last.map(|last| last.full.clone()),
            checkpoints: checkpoints.collect(),
            wanted: match options.stop {
                Stop::Masks(wanted_masks) => StopMade::Masks { wanted_masks },
                Stop::Reliability(wanted_reliability) => StopMade::Reliability {
                    wanted_reliability,
                    reliable: last
                        .and_then(Checkpoint::pooled_median)
                        .is_some_and(|reached| reached >= wanted_reliability),
                },
            },
            input: (pass.occluded == Occluded::Input).then(|| InputMade {
                segments: SegmentsMade::new(kind, options),
                baseline: options.baseline,
            }),
        }
    }

    /// The options that give such a map again; what does not apply to its
    /// site is at its default.
    pub fn options(&self) -> SpesOptions {
        let default = SpesOptions::default();
        let options = SpesOptions {
            stop: match self.wanted {
                StopMade::Masks { wanted_masks } => Stop::Masks(wanted_masks),
                StopMade::Reliability {
                    wanted_reliability, ..
                } => Stop::Reliability(wanted_reliability),
            },
            probability: Some(self.probability),
            batch: Some(self.batch),
            ..default
        };
        let Some(InputMade { segments, baseline }) = &self.input else {
            return options;
        };
        let options = SpesOptions {
            baseline: *baseline,
            ..options
        };
        match segments {
            SegmentsMade::Superpixels {
                nominal_segments,
                compactness,
                sigma,
            } => SpesOptions {
                segments: nominal_segments.clone(),
                compactness: *compactness,
                sigma: *sigma,
                ..options
            },
            SegmentsMade::Stretches { segment_ms } => SpesOptions {
                segment_ms: *segment_ms,
                ..options
            },
        }
    }
}

pub(super) struct SpesWork {
    site: Site,
    placed: Option<(Occluded, Segments)>,
    pass: Option<SpesPass>,
    queued: Option<Queued>,
}

struct Queued {
    data: Ticket,
    /// (1, K, 1): negative scores met
    clamped: Ticket,
}

impl SpesWork {
    pub fn new(site: Site) -> Self {
        Self {
            site,
            placed: None,
            pass: None,
            queued: None,
        }
    }
}

impl Work for SpesWork {
    fn place(
        &mut self,
        shared: &Shared,
        executor: &mut dyn Executor,
        uploads: &mut Inputs,
    ) -> Result<()> {
        let (utterance, options) = (shared.utterance, &shared.options.spes);
        let occluded = Occluded::at(self.site)
            .ok_or_else(|| Error::Input(format!("spes has no map at {}", self.site)))?;
        let segmentation = match occluded {
            Occluded::Input => {
                let kind = shared.model.encoder.hears_by();
                Segmentation::of_features(kind, shared.subject.features, options)?
            }
            Occluded::Encoder => Segmentation::elements(utterance.encoder_frames, 1),
            Occluded::Tokens => Segmentation::elements(utterance.inputs, 1),
        };
        self.placed = Some((occluded, segmentation.place(executor, uploads)?));
        Ok(())
    }

    fn run(
        &mut self,
        shared: &Shared,
        pass: &ForwardPass,
        executor: &mut dyn Executor,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        let (occluded, segments) = self.placed.expect("placed before it is run");
        let occlusion = Occlusion {
            model: shared.model,
            utterance: shared.utterance,
            encoder_output: Some(pass.forward.encoder_output),
            occluded,
            segments,
            masks: Masks::Random {
                seed: shared.options.seed,
            },
            options: &shared.options.spes,
            memory: shared.options.memory,
        };
        self.pass = Some(occlusion.run(executor, progress)?);
        Ok(())
    }

    fn want(&mut self, _: &ForwardPass, batch: &mut Batch) {
        let pass = self.pass.as_ref().expect("run before it is read");
        self.queued = Some(Queued {
            data: batch.want(pass.map.id),
            clamped: batch.want(pass.clamped),
        });
    }

    fn finish(
        self: Box<Self>,
        shared: &Shared,
        _: &Read,
        arrived: &mut Arrived,
    ) -> Result<Finished> {
        let (pass, queued) = self.pass.zip(self.queued).expect("queued before");
        let data = arrived.take(queued.data);
        let clamped = arrived.take(queued.clamped);
        let clamped = clamped.iter().map(|&x| f64::from(x)).sum();
        let made = SpesMade::new(shared, &pass, clamped);
        shared.at_site((Method::Spes, self.site), pass.map, data, &made)
    }
}
