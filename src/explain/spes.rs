//! SPES: saliency by occlusion with superpixels, for all tokens at once.
//!
//! Thousands of masked forward passes under forced decoding; each token's
//! score for a mask is how far the mask moves its prediction (KL divergence),
//! and an element's saliency is the mean score of the masks that hide it
//! (Fucci et al., "SPES: Spectrogram Perturbation for Explainable
//! Speech-to-Text Generation", arXiv 2411.01710). Everything between the
//! upload of the sound and the finished map stays on the device; only a few
//! bytes per token come back at checkpoints, for the stopping rule.

use super::passes::{DeviceMap, EncoderOutput, Site, Utterance, fitting};
use super::profile::STATUS;
use super::slic::{SlicOptions, scaled_segments, slic};
use crate::engine::executor::{Executor, Inputs, PlanId};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape, TensorId};
use crate::features::Features;
use crate::model::Model;
use crate::ops::scalars::{FIRST_VARIANT, MASK_END, MASKING};
use crate::ops::{
    AccumulateScores, Baseline, BaselineKind, Correlate, ExpandScores, Half, KlDivergence,
    MaskSource, PoolMax,
};
use crate::{Error, Result};

/// Numbers of masks at which reliability is looked at.
pub const CHECKPOINTS: [usize; 7] = [240, 480, 960, 1_920, 3_840, 7_680, 15_360];

/// Fewest masks on whose reliability a run may end: that of fewer is itself
/// too uncertain.
const FEWEST_MASKS: usize = 960;

/// Most masks when stopping by reliability.
pub const MOST_MASKS: usize = 20_000;

/// The published number of masks: three times 6,666.
pub const PUBLISHED_MASKS: usize = 19_998;

/// Masks that one run of the plan scores, unless memory wants fewer. All
/// checkpoints are multiples of it, so that no run is partly for nothing.
const BATCH: usize = 60;

/// What a run occludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occluded {
    /// Superpixels of the features.
    Input,
    /// Frames of the encoder's output.
    Encoder,
    /// Embeddings of the decoder's input tokens.
    Tokens,
}

impl Occluded {
    pub fn site(self) -> Site {
        match self {
            Self::Input => Site::Input,
            Self::Encoder => Site::Encoder,
            Self::Tokens => Site::Tokens,
        }
    }

    /// Share of segments that a mask hides, as published.
    pub fn default_probability(self) -> f64 {
        match self {
            Self::Tokens => 0.4,
            _ => 0.5,
        }
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stop {
    /// After exactly this many masks.
    Masks(usize),
    /// At the first checkpoint at which the pooled map is this reliable, or
    /// after [`MOST_MASKS`].
    Reliability(f64),
}

/// How masks are drawn and scored.
#[derive(Clone, Debug)]
pub struct SpesOptions {
    pub stop: Stop,
    /// Share of segments that a mask hides; the published one if absent.
    pub probability: Option<f64>,
    /// Nominal numbers of superpixels for 500 frames.
    pub segments: Vec<usize>,
    pub compactness: f64,
    pub sigma: f64,
    /// What hidden features are replaced by.
    pub baseline: BaselineKind,
    pub seed: u64,
    /// Masks scored at once; chosen by memory if absent.
    pub batch: Option<usize>,
    /// Bytes a plan may take.
    pub memory: usize,
}

impl Default for SpesOptions {
    fn default() -> Self {
        Self {
            stop: Stop::Reliability(0.9),
            probability: None,
            segments: vec![2_000, 2_500, 3_000],
            compactness: 0.1,
            sigma: 0.0,
            baseline: BaselineKind::Zero,
            seed: 0,
            batch: None,
            memory: 1 << 30,
        }
    }
}

/// How many segments there are and where.
#[derive(Clone, Debug)]
pub struct Segmentation {
    /// (G, R, C), from 0: the segment of each element, for G segmentations
    pub labels: Vec<u32>,
    pub shape: Shape,
    /// Segments of the largest segmentation.
    pub segments: usize,
}

impl Segmentation {
    /// Superpixels of the features, for every nominal number of segments.
    ///
    /// # Errors
    /// If the features or options cannot be segmented.
    pub fn superpixels(features: &Features, options: &SpesOptions) -> Result<Self> {
        let features = &features.sound();
        let mut labels = Vec::new();
        let mut segments = 0;
        for &nominal in &options.segments {
            let found = slic(
                features,
                SlicOptions {
                    segments: scaled_segments(nominal, features.frames),
                    compactness: options.compactness,
                    sigma: options.sigma,
                },
            )?;
            segments = segments.max(found.count);
            labels.extend(found.labels.iter().map(|label| label - 1));
        }
        Ok(Self {
            labels,
            shape: Shape::new(options.segments.len(), features.frames, features.bins),
            segments,
        })
    }

    /// Every element of (rows, cols) by itself.
    pub fn elements(rows: usize, cols: usize) -> Self {
        Self {
            labels: (0..(rows * cols) as u32).collect(),
            shape: Shape::new(1, rows, cols),
            segments: rows * cols,
        }
    }
}

impl Segmentation {
    /// Adds the labels to what will be uploaded.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn place(self, executor: &mut dyn Executor, inputs: &mut Inputs) -> Result<Segments> {
        Ok(Segments {
            labels: inputs.indices(executor, self.shape, self.labels)?,
            shape: self.shape,
            count: self.segments,
        })
    }
}

/// A [`Segmentation`] on the device.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    /// (G, R, C)
    pub(super) labels: PersistentId,
    pub(super) shape: Shape,
    /// Segments of the largest segmentation.
    pub(super) count: usize,
}

/// Masks that are given instead of drawn, on the device.
#[derive(Clone, Copy, Debug)]
pub struct GivenMasks {
    /// (1, M, words): a bit for every segment that a mask hides
    pub(super) bits: PersistentId,
    pub(super) shape: Shape,
}

impl GivenMasks {
    /// Adds masks to what will be uploaded; `hidden`: (M, segments), whether
    /// each mask hides each segment.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn place(
        executor: &mut dyn Executor,
        inputs: &mut Inputs,
        hidden: &[bool],
        segments: usize,
    ) -> Result<Self> {
        let words = segments.div_ceil(32);
        let shape = Shape::new(1, hidden.len() / segments, words);
        let bits = pack(hidden, segments, words);
        Ok(Self {
            bits: inputs.indices(executor, shape, bits)?,
            shape,
        })
    }

    fn count(&self) -> usize {
        self.shape.rows
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub occluded: Occluded,
    pub masks: usize,
    /// Masks at which it ends at the latest.
    pub most: usize,
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

/// Reliability after some number of masks: the correlation over positions of
/// the maps from two halves of the masks, corrected to the full number.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub masks: usize,
    /// By token, of the map pooled to the encoder's frames; absent where a
    /// map is constant.
    pub pooled: Vec<Option<f64>>,
    /// By token, of the map at its own resolution.
    pub full: Vec<Option<f64>>,
}

impl Checkpoint {
    /// Median over tokens.
    pub fn pooled_median(&self) -> Option<f64> {
        median(self.pooled.iter().copied())
    }

    /// Median over tokens.
    pub fn full_median(&self) -> Option<f64> {
        median(self.full.iter().copied())
    }
}

/// Middle of the values that are defined.
pub fn median(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let mut defined: Vec<f64> = values.into_iter().flatten().collect();
    defined.sort_by(f64::total_cmp);
    match defined.len() {
        0 => None,
        n if n % 2 == 1 => Some(defined[n / 2]),
        n => Some(0.5 * (defined[n / 2 - 1] + defined[n / 2])),
    }
}

/// Spearman and Brown's correction of a half's reliability to the whole.
pub fn spearman_brown(half: f64) -> f64 {
    2.0 * half / (1.0 + half).max(f64::EPSILON)
}

/// The stages of a plan.
const PREPARE: usize = 0;
const FORWARD: usize = 1;
const REFERENCE: usize = 2;
const SCORE: usize = 3;
const CHECK: usize = 4;
const FINISH: usize = 5;

/// Persistent tensors that a run writes.
#[derive(Clone, Copy)]
struct Targets {
    sums: PersistentId,
    clamped: PersistentId,
    scores: PersistentId,
    map: DeviceMap,
    /// (K, 1, 2) each
    pooled_status: PersistentId,
    full_status: PersistentId,
}

/// Explains all tokens of an utterance by occlusion.
///
/// `progress` is called after every batch; if it returns false the run stops
/// there and gives what it has.
///
/// # Errors
/// If something does not fit the model or the device fails.
#[allow(clippy::too_many_arguments, reason = "one for each thing that varies")]
pub fn spes(
    executor: &mut dyn Executor,
    model: &Model,
    utterance: &Utterance,
    encoder_output: EncoderOutput,
    occluded: Occluded,
    segments: Segments,
    given: Option<GivenMasks>,
    options: &SpesOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<SpesPass> {
    let tokens = utterance.explained;
    let most = match (given, options.stop) {
        (Some(given), _) => given.count(),
        (None, Stop::Masks(count)) => count,
        (None, Stop::Reliability(_)) => MOST_MASKS,
    };
    if most == 0 {
        return Err(Error::Input("a map needs at least one mask".into()));
    }

    let sums_shape = Shape::new(2 * segments.shape.lead, segments.count, tokens + 1);
    let map_shape = segments.shape.with_lead(tokens);
    let map = DeviceMap {
        id: executor.allocate(Kind::Real, map_shape)?,
        shape: map_shape,
    };
    let status = Shape::new(tokens, 1, 2);
    let mut targets = Targets {
        sums: executor.allocate(Kind::Real, sums_shape)?,
        clamped: executor.allocate(Kind::Real, Shape::new(1, tokens, 1))?,
        scores: PersistentId(u32::MAX),
        map,
        pooled_status: executor.allocate(Kind::Real, status)?,
        full_status: executor.allocate(Kind::Real, status)?,
    };
    let build = |batch: usize, targets: &Targets| {
        record(
            model,
            utterance,
            encoder_output,
            occluded,
            segments,
            given,
            options,
            batch,
            targets,
        )
    };
    let mut batch = match (given, options.batch) {
        (Some(given), _) => given.count(),
        (None, Some(batch)) => batch.clamp(1, most),
        (None, None) => {
            let build = |batch| build(batch, &targets);
            fitting(executor, options.memory, BATCH.min(most), &build)?
        }
    };
    // Half as many masks at once if the device has not the memory after all.
    let plan = loop {
        let scores = executor.allocate(Kind::Real, Shape::new(batch, tokens, 1));
        let attempt = scores.and_then(|scores| {
            targets.scores = scores;
            let plan = build(batch, &targets).and_then(|plan| executor.prepare(plan));
            plan.inspect_err(|_| executor.free(scores))
        });
        match attempt {
            Ok(plan) => break plan,
            Err(Error::Memory(_)) if batch > 1 && given.is_none() => batch = batch.div_ceil(2),
            Err(error) => return Err(error),
        }
    };
    let run = Run {
        plan,
        occluded,
        batch,
        most,
        tokens,
        targets,
        stop: options.stop,
        given: given.is_some(),
    };
    let done = run.all(executor, progress);
    executor.release(plan);
    for id in [targets.sums, targets.pooled_status, targets.full_status] {
        executor.free(id);
    }
    let scores = if given.is_some() {
        Some(targets.scores)
    } else {
        executor.free(targets.scores);
        None
    };
    let (masks, checkpoints, interrupted) = done?;
    Ok(SpesPass {
        occluded,
        map,
        clamped: targets.clamped,
        scores,
        masks,
        batch,
        segments: segments.count,
        checkpoints,
        interrupted,
    })
}

/// Masks as bits: (M, segments) to (M, words).
fn pack(hidden: &[bool], segments: usize, words: usize) -> Vec<u32> {
    let mut bits = vec![0u32; hidden.len() / segments * words];
    for (row, hidden) in bits.chunks_mut(words).zip(hidden.chunks(segments)) {
        for (segment, _) in hidden.iter().enumerate().filter(|(_, hidden)| **hidden) {
            row[segment / 32] |= 1 << (segment % 32);
        }
    }
    bits
}

#[allow(clippy::too_many_arguments, reason = "one for each thing that varies")]
fn record(
    model: &Model,
    utterance: &Utterance,
    encoder_output: EncoderOutput,
    occluded: Occluded,
    segments: Segments,
    given: Option<GivenMasks>,
    options: &SpesOptions,
    batch: usize,
    targets: &Targets,
) -> Result<Recording> {
    let mut recording = Recording::new(model.weights.clone());
    let r = &mut recording;
    let tokens = utterance.explained;
    let probability = options
        .probability
        .unwrap_or_else(|| occluded.default_probability());
    let labels = r.persistent(segments.labels, Kind::Index, segments.shape);
    let source = match given {
        None => MaskSource::random(options.seed, occluded as u32, probability),
        Some(given) => MaskSource::Given {
            bits: r.persistent(given.bits, Kind::Index, given.shape),
        },
    };
    let ids = utterance.indices(r, utterance.ids, utterance.inputs);
    let positions = utterance.indices(r, utterance.positions, tokens);
    let decoder = &model.decoder;
    let mask = |r: &mut Recording, x: TensorId, fill: TensorId| {
        r.apply_mask(x, labels, segments.count, source, fill, batch)
    };

    // What the masks do not touch is computed once.
    let decoded = match occluded {
        Occluded::Input => {
            let x = utterance.features(r);
            let kind = options.baseline;
            let fill = r.computed(r.shape(x));
            r.push(Baseline { x, kind, y: fill });
            let input = decoder.record_input(r, ids)?;
            r.next_stage();
            let masked = mask(r, x, fill);
            let output = utterance.encode(model, r, masked)?;
            let memories = decoder.record_memories(r, output)?;
            decoder.record(r, input, &memories)?
        }
        Occluded::Encoder => {
            let memories = memories(r, model, utterance, encoder_output)?;
            let biases = decoder.record_memory_biases(r);
            let input = decoder.record_input(r, ids)?;
            let (sound, window) = (utterance.encoder_frames, utterance.encoder_window);
            let mut parts = Vec::new();
            for (memory, bias) in memories.into_iter().zip(biases) {
                let own = r.take_rows(memory, 0, sound)?;
                let filling = r.take_rows(memory, sound, window - sound)?;
                parts.push((own, filling, bias));
            }
            r.next_stage();
            let mut memories = Vec::new();
            for (own, filling, bias) in parts {
                let masked = mask(r, own, bias);
                memories.push(match window - sound {
                    0 => masked,
                    _ => r.join_rows(masked, filling)?,
                });
            }
            decoder.record(r, input, &memories)?
        }
        Occluded::Tokens => {
            let memories = memories(r, model, utterance, encoder_output)?;
            let input = decoder.record_input(r, ids)?;
            let bare = decoder.record_positions(r, ids)?;
            r.next_stage();
            let masked = mask(r, input, bare);
            decoder.record(r, masked, &memories)?
        }
    };
    r.next_stage();
    let reference = r.first_log_softmax(decoded.logits, 1);
    r.next_stage();
    let scores = r.persistent(targets.scores, Kind::Real, Shape::new(batch, tokens, 1));
    r.push(KlDivergence {
        reference,
        logits: decoded.logits,
        positions,
        y: scores,
    });
    let groups = segments.shape.lead;
    let sums_shape = Shape::new(2 * groups, segments.count, tokens + 1);
    let sums = r.persistent(targets.sums, Kind::Real, sums_shape);
    let clamped = r.persistent(targets.clamped, Kind::Real, Shape::new(1, tokens, 1));
    r.push(AccumulateScores {
        scores,
        source,
        groups,
        sums,
        clamped,
    });
    r.next_stage();
    let causal = (occluded == Occluded::Tokens).then_some(positions);
    let expand = |r: &mut Recording, half: Half, map: TensorId| {
        r.push(ExpandScores {
            sums,
            labels,
            half,
            causal,
            map,
        });
        map
    };
    let halves = [Half::First, Half::Second].map(|half| {
        let map = r.computed(targets.map.shape);
        expand(r, half, map)
    });
    let pooled = match occluded {
        Occluded::Input => halves.map(|x| {
            let y = r.computed(Shape::new(tokens, utterance.encoder_frames, 1));
            r.push(PoolMax { x, y });
            y
        }),
        _ => halves,
    };
    let status = Shape::new(tokens, 1, 2);
    for ([a, b], id) in [
        (pooled, targets.pooled_status),
        (halves, targets.full_status),
    ] {
        let y = r.persistent(id, Kind::Real, status);
        r.push(Correlate { a, b, causal, y });
    }
    r.next_stage();
    let map = r.persistent(targets.map.id, Kind::Real, targets.map.shape);
    expand(r, Half::Both, map);
    Ok(recording)
}

fn memories(
    recording: &mut Recording,
    model: &Model,
    utterance: &Utterance,
    encoder_output: EncoderOutput,
) -> Result<Vec<TensorId>> {
    let shape = Shape::new(1, utterance.encoder_frames, model.decoder.config.width);
    let sound = recording.persistent(encoder_output.sound, Kind::Real, shape);
    let output = utterance.whole_output(recording, sound, encoder_output)?;
    model.decoder.record_memories(recording, output)
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
        let mut scalars = Scalars::default();
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
                    occluded: self.occluded,
                    masks: first,
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
