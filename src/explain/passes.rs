//! Recordings over one utterance: the forward pass under forced decoding and
//! the reverse passes of the gradient family.

use super::profile::MAPS;
use crate::engine::executor::{Executor, Inputs, PlanId};
use crate::engine::recording::Recording;
use crate::engine::reverse::{Seed, reverse, reverse_each};
use crate::engine::schedule::largest_tensor;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape, TensorId};
use crate::features::Features;
use crate::model::Model;
use crate::model::decoder::{CrossAttention, Decoded};
use crate::ops::scalars::{FIRST_TOKEN, FIRST_VARIANT};
use crate::ops::{
    Accumulate, AddNoise, AttentionXGradient, Baseline, BaselineKind, Blend, Contrast, Reduce,
    Reduction, Spread, TokenLogProb,
};
use crate::{Error, Result};

/// Persistent inputs of one utterance, and its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Utterance {
    /// (1, T, F): the sound
    features: PersistentId,
    /// (1, W - T, F): what fills a model's window of W frames behind it
    filling: Option<PersistentId>,
    /// (1, I, 1): the decoder's input
    pub(super) ids: PersistentId,
    /// (1, K, 1): decoder positions of the explained tokens
    pub(super) positions: PersistentId,
    /// (1, K, 1): their ids
    labels: PersistentId,
    /// T
    pub frames: usize,
    /// W, or T where there is no window
    window: usize,
    /// F
    pub mel_bins: usize,
    /// T'
    pub encoder_frames: usize,
    /// W'
    pub(super) encoder_window: usize,
    /// I
    pub inputs: usize,
    /// K
    pub explained: usize,
}

/// Where the explained thing is varied or differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// The features (T, F).
    Input,
    /// The encoder's output (T', D).
    Encoder,
    /// The decoder's input tokens (I): occlusion only.
    Tokens,
}

impl Site {
    /// The site's name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Encoder => "encoder",
            Self::Tokens => "tokens",
        }
    }
}

impl Utterance {
    /// Adds features, the decoder's input, and positions and ids of the tokens
    /// to be explained to what will be uploaded.
    ///
    /// # Errors
    /// If the model cannot take them.
    pub fn place<'a>(
        executor: &mut dyn Executor,
        inputs: &mut Inputs<'a>,
        model: &Model,
        features: &'a Features,
        ids: &'a [u32],
        positions: &'a [u32],
        labels: &'a [u32],
    ) -> Result<Self> {
        model.check_features(features)?;
        let decoder = &model.decoder.config;
        if ids.len() > decoder.max_tokens {
            return Err(Error::Input(format!(
                "{} tokens are more than the model's {}",
                ids.len(),
                decoder.max_tokens
            )));
        }
        let all = ids.iter().chain(labels);
        if let Some(id) = all
            .into_iter()
            .find(|id| **id as usize >= decoder.vocabulary)
        {
            return Err(Error::Input(format!(
                "token id {id} is not in the model's vocabulary of {}",
                decoder.vocabulary
            )));
        }
        if positions
            .iter()
            .any(|&position| position as usize >= ids.len())
            || positions.len() != labels.len()
            || labels.is_empty()
        {
            return Err(Error::Input(format!(
                "{} tokens at {} positions of {} cannot be explained",
                labels.len(),
                positions.len(),
                ids.len()
            )));
        }
        let (sound, filling) = features
            .data
            .split_at(features.sound_frames * features.bins);
        let rows = |count| Shape::new(1, count, features.bins);
        let own = inputs.real(executor, rows(features.sound_frames), sound)?;
        let rest = features.frames - features.sound_frames;
        let filling = match rest {
            0 => None,
            _ => Some(inputs.real(executor, rows(rest), filling)?),
        };
        let mut list = |values: &'a [u32]| {
            let shape = Shape::new(1, values.len(), 1);
            inputs.indices(executor, shape, values)
        };
        Ok(Self {
            features: own,
            filling,
            ids: list(ids)?,
            positions: list(positions)?,
            labels: list(labels)?,
            frames: features.sound_frames,
            window: features.frames,
            mel_bins: features.bins,
            encoder_frames: model.encoder.encoder_frames(features.sound_frames),
            encoder_window: model.encoder.encoder_frames(features.frames),
            inputs: ids.len(),
            explained: labels.len(),
        })
    }

    /// As [`place`](Self::place), uploaded at once.
    ///
    /// # Errors
    /// If the model cannot take them or the device fails.
    pub fn upload(
        executor: &mut dyn Executor,
        model: &Model,
        features: &Features,
        ids: &[u32],
        positions: &[u32],
        labels: &[u32],
    ) -> Result<Self> {
        let mut inputs = Inputs::default();
        let own = &mut inputs;
        let utterance = Self::place(executor, own, model, features, ids, positions, labels)?;
        inputs.send(executor, MAPS)?;
        Ok(utterance)
    }

    /// Shape of what is explained at a site: (1, T, F) or (1, T', D).
    fn site_shape(&self, model: &Model, site: Site) -> Shape {
        match site {
            Site::Input => Shape::new(1, self.frames, self.mel_bins),
            Site::Encoder => Shape::new(1, self.encoder_frames, model.decoder.config.width),
            Site::Tokens => Shape::new(1, self.inputs, model.decoder.config.width),
        }
    }

    pub(super) fn features(&self, recording: &mut Recording) -> TensorId {
        let shape = Shape::new(1, self.frames, self.mel_bins);
        recording.persistent(self.features, Kind::Real, shape)
    }

    /// Records the encoder: variants of the sound (N, T, F) to (N, W', D).
    pub(super) fn encode(
        &self,
        model: &Model,
        recording: &mut Recording,
        sound: TensorId,
    ) -> Result<TensorId> {
        let rest = Shape::new(1, self.window - self.frames, self.mel_bins);
        let whole = joined(recording, sound, self.filling, rest)?;
        model.encoder.record(recording, whole)
    }

    /// Records the whole encoder output (N, W', D) for variants of the
    /// sound's (N, T', D).
    pub(super) fn whole_output(
        &self,
        recording: &mut Recording,
        sound: TensorId,
        output: EncoderOutput,
    ) -> Result<TensorId> {
        let width = recording.shape(sound).cols;
        let rest = Shape::new(1, self.encoder_window - self.encoder_frames, width);
        joined(recording, sound, output.filling, rest)
    }

    pub(super) fn indices(
        &self,
        recording: &mut Recording,
        id: PersistentId,
        count: usize,
    ) -> TensorId {
        recording.persistent(id, Kind::Index, Shape::new(1, count, 1))
    }

    fn seed(&self, recording: &mut Recording, logits: TensorId, count: usize) -> Seed {
        Seed {
            logits,
            positions: self.indices(recording, self.positions, self.explained),
            labels: self.indices(recording, self.labels, self.explained),
            count,
        }
    }

    fn decode(
        &self,
        model: &Model,
        recording: &mut Recording,
        encoder_output: TensorId,
    ) -> Result<Decoded> {
        let memories = model.decoder.record_memories(recording, encoder_output)?;
        let ids = self.indices(recording, self.ids, self.inputs);
        let input = model.decoder.record_input(recording, ids)?;
        model.decoder.record(recording, input, &memories)
    }

    /// Records what the model makes of variants of the sound: `sound`
    /// (N, T, F) to log-probabilities (N, K, 1) in `to`.
    pub(super) fn record_variants(
        &self,
        model: &Model,
        recording: &mut Recording,
        sound: TensorId,
        to: PersistentId,
    ) -> Result<()> {
        let output = self.encode(model, recording, sound)?;
        let decoded = self.decode(model, recording, output)?;
        self.record_log_probs(recording, decoded.logits, to);
        Ok(())
    }

    fn record_log_probs(&self, recording: &mut Recording, logits: TensorId, to: PersistentId) {
        let lead = recording.shape(logits).lead;
        let y = recording.computed(Shape::new(lead, self.explained, 1));
        let seed = self.seed(recording, logits, 1);
        recording.push(TokenLogProb {
            logits,
            positions: seed.positions,
            labels: seed.labels,
            y,
        });
        recording.keep(y, to);
    }
}

/// `sound`, followed by the rows of `filling` if there are any.
fn joined(
    recording: &mut Recording,
    sound: TensorId,
    filling: Option<PersistentId>,
    shape: Shape,
) -> Result<TensorId> {
    match filling {
        None => Ok(sound),
        Some(id) => {
            let filling = recording.persistent(id, Kind::Real, shape);
            recording.join_rows(sound, filling)
        }
    }
}

/// An encoder's output on the device.
#[derive(Clone, Copy, Debug)]
pub struct EncoderOutput {
    /// (1, T', D): of the sound
    pub sound: PersistentId,
    /// (1, W' - T', D): of what fills the window behind it
    pub filling: Option<PersistentId>,
}

fn no_token_gradients() -> Error {
    Error::Input("gradients are taken at input and encoder; tokens are for spes".into())
}

/// Lets a tensor live in new persistent storage.
fn kept(
    executor: &mut dyn Executor,
    recording: &mut Recording,
    tensor: TensorId,
) -> Result<PersistentId> {
    let id = executor.allocate(Kind::Real, recording.shape(tensor))?;
    recording.keep(tensor, id);
    Ok(id)
}

/// Results of the forward pass, all persistent.
#[derive(Clone, Debug)]
pub struct Forward {
    pub encoder_output: EncoderOutput,
    /// By layer: (1, H·I, W')
    pub cross_attention: Vec<PersistentId>,
    /// (1, I, V)
    pub logits: PersistentId,
    /// (1, K, 1): natural logarithm of every explained token's probability
    pub log_probs: PersistentId,
}

impl Forward {
    fn allocate(executor: &mut dyn Executor, model: &Model, utterance: &Utterance) -> Result<Self> {
        let decoder = &model.decoder.config;
        let (frames, window) = (utterance.encoder_frames, utterance.encoder_window);
        let mut real = |rows, cols| executor.allocate(Kind::Real, Shape::new(1, rows, cols));
        let attention_rows = decoder.heads * utterance.inputs;
        Ok(Self {
            encoder_output: EncoderOutput {
                sound: real(frames, decoder.width)?,
                filling: match window - frames {
                    0 => None,
                    rest => Some(real(rest, decoder.width)?),
                },
            },
            cross_attention: (0..decoder.layers)
                .map(|_| real(attention_rows, window))
                .collect::<Result<_>>()?,
            logits: real(utterance.inputs, decoder.vocabulary)?,
            log_probs: real(utterance.explained, 1)?,
        })
    }
}

/// Keys and values (1, T', 2D) that every decoder layer makes of the sound's
/// encoder output.
///
/// # Errors
/// If the device fails.
pub fn memories(
    executor: &mut dyn Executor,
    model: &Model,
    utterance: &Utterance,
    encoder_output: EncoderOutput,
) -> Result<Vec<PersistentId>> {
    let mut recording = Recording::new(model.weights.clone());
    let shape = utterance.site_shape(model, Site::Encoder);
    let output = recording.persistent(encoder_output.sound, Kind::Real, shape);
    let memories = model.decoder.record_memories(&mut recording, output)?;
    let ids = memories.into_iter();
    let ids = ids.map(|memory| kept(executor, &mut recording, memory));
    let ids = ids.collect::<Result<_>>()?;
    let plan = executor.prepare(recording)?;
    let done = executor.run(plan, 0, &Scalars::ZERO);
    executor.release(plan);
    done.map(|()| ids)
}

/// One gradient map that a pass is to make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapSpec {
    pub site: Site,
    /// Whether the gradient is multiplied by its input.
    pub times_input: bool,
    pub reduction: Reduction,
}

/// A map on the device: (K, rows, cols).
#[derive(Clone, Copy, Debug)]
pub struct DeviceMap {
    pub id: PersistentId,
    pub shape: Shape,
}

impl DeviceMap {
    fn allocate(
        executor: &mut dyn Executor,
        model: &Model,
        utterance: &Utterance,
        site: Site,
        reduction: Reduction,
    ) -> Result<Self> {
        let mut shape = utterance
            .site_shape(model, site)
            .with_lead(utterance.explained);
        if reduction != Reduction::None {
            shape.cols = 1;
        }
        let id = executor.allocate(Kind::Real, shape)?;
        Ok(Self { id, shape })
    }
}

/// What a reverse pass is to make.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gradients<'a> {
    pub maps: &'a [MapSpec],
    /// Whether cross-attention times its gradient is wanted.
    pub attention: bool,
}

impl Gradients<'_> {
    fn is_empty(&self) -> bool {
        self.maps.is_empty() && !self.attention
    }

    fn at(&self, site: Site) -> bool {
        self.maps.iter().any(|spec| spec.site == site)
    }
}

/// Result of [`forward_and_gradients`].
pub struct ForwardPass {
    pub forward: Forward,
    /// In the order of the specs.
    pub maps: Vec<DeviceMap>,
    /// By layer, where it is wanted: (H, K, T'), cross-attention to the sound
    /// times the gradient of a token's log-probability with respect to it
    pub attention_x_gradient: Vec<PersistentId>,
}

/// Runs the forward pass, and for all explained tokens the reverse pass, and
/// makes the maps `specs` of its gradients.
///
/// # Errors
/// If something does not fit the model or the device fails.
pub fn forward_and_gradients(
    executor: &mut dyn Executor,
    model: &Model,
    utterance: &Utterance,
    specs: &[MapSpec],
    memory: usize,
) -> Result<ForwardPass> {
    let wanted = Gradients {
        maps: specs,
        attention: false,
    };
    forward_and_reverse(executor, model, utterance, wanted, memory)
}

/// As [`forward_and_gradients`], and makes all that is wanted in the same
/// reverse pass.
///
/// # Errors
/// If something does not fit the model or the device fails.
pub fn forward_and_reverse(
    executor: &mut dyn Executor,
    model: &Model,
    utterance: &Utterance,
    wanted: Gradients,
    memory: usize,
) -> Result<ForwardPass> {
    if wanted.at(Site::Tokens) {
        return Err(no_token_gradients());
    }
    let specs = wanted.maps;
    let decoder = &model.decoder.config;
    let forward = Forward::allocate(executor, model, utterance)?;
    let maps = specs
        .iter()
        .map(|spec| DeviceMap::allocate(executor, model, utterance, spec.site, spec.reduction))
        .collect::<Result<Vec<_>>>()?;
    let layer_shape = Shape::new(decoder.heads, utterance.explained, utterance.encoder_frames);
    let attention_x_gradient = match wanted.attention {
        false => Vec::new(),
        true => (0..decoder.layers)
            .map(|_| executor.allocate(Kind::Real, layer_shape))
            .collect::<Result<_>>()?,
    };
    let build = |count: usize| -> Result<Recording> {
        let mut recording = Recording::new(model.weights.clone());
        let features = utterance.features(&mut recording);
        let encoder_output = utterance.encode(model, &mut recording, features)?;
        let frames = utterance.encoder_frames;
        let sound_output = recording.take_rows(encoder_output, 0, frames)?;
        recording.keep(sound_output, forward.encoder_output.sound);
        if let Some(id) = forward.encoder_output.filling {
            let count = utterance.encoder_window - frames;
            let filling = recording.take_rows(encoder_output, frames, count)?;
            recording.keep(filling, id);
        }
        let decoded = utterance.decode(model, &mut recording, encoder_output)?;
        recording.keep(decoded.logits, forward.logits);
        for (layer, &id) in decoded.cross_attention.iter().zip(&forward.cross_attention) {
            recording.keep(layer.probabilities, id);
        }
        utterance.record_log_probs(&mut recording, decoded.logits, forward.log_probs);
        if wanted.is_empty() {
            return Ok(recording);
        }
        recording.next_stage();
        let seed = utterance.seed(&mut recording, decoded.logits, count);
        // Where gradients are taken: at the attention of every layer, and at
        // sites, each with what is explained there.
        let attended: &[CrossAttention] = match wanted.attention {
            false => &[],
            true => &decoded.cross_attention,
        };
        let sites = [
            (Site::Encoder, encoder_output, sound_output),
            (Site::Input, features, features),
        ];
        let sites: Vec<_> = sites.iter().filter(|(site, ..)| wanted.at(*site)).collect();
        let layers = attended.iter().map(|layer| layer.output);
        let sources: Vec<_> = layers.chain(sites.iter().map(|(_, x, _)| *x)).collect();
        reverse_each(
            &mut recording,
            seed,
            &sources,
            &mut |recording, index, gradient| {
                if let Some(layer) = attended.get(index) {
                    let id = attention_x_gradient[index];
                    let map = recording.persistent(id, Kind::Real, layer_shape);
                    recording.push(AttentionXGradient {
                        probabilities: layer.probabilities,
                        value: layer.value,
                        doutput: gradient,
                        positions: seed.positions,
                        map,
                    });
                    return Ok(());
                }
                let (site, _, x) = *sites[index - attended.len()];
                let shape = recording.shape(x);
                let gradient = recording.take_rows(gradient, 0, shape.rows)?;
                for (spec, map) in specs
                    .iter()
                    .zip(&maps)
                    .filter(|(spec, _)| spec.site == site)
                {
                    let contrast = spec.times_input.then(|| {
                        let baseline = recording.constant(shape, vec![0.0; shape.len()]);
                        Contrast { x, baseline }
                    });
                    let map = recording.persistent(map.id, Kind::Real, map.shape);
                    recording.push(Reduce {
                        gradient,
                        contrast,
                        reduction: spec.reduction,
                        map,
                    });
                }
                Ok(())
            },
        )?;
        Ok(recording)
    };
    let tokens = utterance.explained;
    let count = fitting(executor, memory, tokens, &build)?;
    let plan = executor.prepare(build(count)?)?;
    let done = run_tokens(executor, plan, !wanted.is_empty(), tokens, count);
    executor.release(plan);
    done?;
    Ok(ForwardPass {
        forward,
        maps,
        attention_x_gradient,
    })
}

fn run_tokens(
    executor: &mut dyn Executor,
    plan: PlanId,
    gradients: bool,
    tokens: usize,
    count: usize,
) -> Result<()> {
    executor.run(plan, 0, &Scalars::ZERO)?;
    if gradients {
        for first in (0..tokens).step_by(count) {
            let scalars = Scalars::ZERO.with(FIRST_TOKEN, first as u32);
            executor.run(plan, 1, &scalars)?;
        }
    }
    Ok(())
}

/// The largest count from 1 to `most` whose recording fits: all of it the
/// memory, each of its tensors the executor; in equal shares. One may be too
/// many; preparing it says so.
pub(super) fn fitting(
    executor: &dyn Executor,
    memory: usize,
    most: usize,
    build: &dyn Fn(usize) -> Result<Recording>,
) -> Result<usize> {
    if most <= 1 {
        return Ok(most);
    }
    let (one, all) = (build(1)?, build(most)?);
    let whole = share(
        memory,
        most,
        executor.estimate(&one),
        executor.estimate(&all),
    );
    let each = share(
        executor.largest_tensor(),
        most,
        largest_tensor(&one),
        largest_tensor(&all),
    );
    let count = whole.min(each);
    Ok(most.div_ceil(most.div_ceil(count)))
}

/// The largest count from 1 to `most` that fits the budget, taking sizes to be
/// linear between those for 1 and for `most`.
fn share(budget: usize, most: usize, for_one: usize, for_most: usize) -> usize {
    if for_most <= budget {
        return most;
    }
    let slope = (for_most.saturating_sub(for_one)).div_ceil(most - 1).max(1);
    (1 + budget.saturating_sub(for_one) / slope).clamp(1, most)
}

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
}

/// Result of [`averaged_gradients`].
pub struct AveragedPass {
    pub map: DeviceMap,
    /// (1, K, 1): log-probabilities at the baseline, for a path.
    pub baseline_log_probs: Option<PersistentId>,
}

/// Averages gradients over variants of the features or of the encoder's
/// output and makes a map of them; along a path they are multiplied by the
/// way from the baseline to the input, which gives integrated gradients.
///
/// # Errors
/// If something does not fit the model or the device fails.
#[allow(clippy::too_many_arguments, reason = "one for each thing that varies")]
pub fn averaged_gradients(
    executor: &mut dyn Executor,
    model: &Model,
    utterance: &Utterance,
    encoder_output: EncoderOutput,
    site: Site,
    variants: &Variants,
    reduction: Reduction,
    memory: usize,
) -> Result<AveragedPass> {
    let shape = utterance.site_shape(model, site);
    let source = match site {
        Site::Input => utterance.features,
        Site::Encoder => encoder_output.sound,
        Site::Tokens => return Err(no_token_gradients()),
    };
    let all = variants.count();
    let tokens = utterance.explained;
    let weights = match variants {
        Variants::Path { weights, .. } => weights.clone(),
        Variants::Noise { samples, .. } => vec![1.0 / *samples as f32; *samples],
    };
    let map = DeviceMap::allocate(executor, model, utterance, site, reduction)?;

    // Baseline and noise level are computed once, in a plan of their own.
    let mut preparation = Recording::new(model.weights.clone());
    let x = preparation.persistent(source, Kind::Real, shape);
    let mut baseline_log_probs = None;
    let aside = match variants {
        Variants::Path { baseline, .. } => {
            let y = preparation.computed(shape);
            let kind = *baseline;
            preparation.push(Baseline { x, kind, y });
            let aside = kept(executor, &mut preparation, y)?;
            let output = match site {
                Site::Input => utterance.encode(model, &mut preparation, y)?,
                _ => utterance.whole_output(&mut preparation, y, encoder_output)?,
            };
            let decoded = utterance.decode(model, &mut preparation, output)?;
            let log_probs = executor.allocate(Kind::Real, Shape::new(1, utterance.explained, 1))?;
            utterance.record_log_probs(&mut preparation, decoded.logits, log_probs);
            baseline_log_probs = Some(log_probs);
            aside
        }
        Variants::Noise { level, .. } => {
            let y = preparation.computed(Shape::new(1, 1, 1));
            let fraction = *level;
            preparation.push(Spread { x, fraction, y });
            kept(executor, &mut preparation, y)?
        }
    };
    let plan = executor.prepare(preparation)?;
    let done = executor.run(plan, 0, &Scalars::ZERO);
    executor.release(plan);
    done?;

    let build = |sum: PersistentId, batch: usize, count: usize| -> Result<Recording> {
        let mut recording = Recording::new(model.weights.clone());
        let x = recording.persistent(source, Kind::Real, shape);
        let list = Shape::new(1, all, 1);
        let y = recording.computed(shape.with_lead(batch));
        let contrast = match variants {
            Variants::Path { fractions, .. } => {
                let baseline = recording.persistent(aside, Kind::Real, shape);
                let fractions = recording.constant(list, fractions.clone());
                recording.push(Blend {
                    x,
                    baseline,
                    fractions,
                    y,
                });
                Some(Contrast { x, baseline })
            }
            Variants::Noise { seed, .. } => {
                let spread = recording.persistent(aside, Kind::Real, Shape::new(1, 1, 1));
                recording.push(AddNoise {
                    x,
                    spread,
                    seed: *seed,
                    stream: site as u32,
                    y,
                });
                None
            }
        };
        let output = match site {
            Site::Input => utterance.encode(model, &mut recording, y)?,
            _ => utterance.whole_output(&mut recording, y, encoder_output)?,
        };
        let decoded = utterance.decode(model, &mut recording, output)?;
        let seed = utterance.seed(&mut recording, decoded.logits, count);
        let gradient = reverse(&mut recording, seed, &[y])?[0];
        let weights = recording.constant(list, weights.clone());
        let sum = recording.persistent(sum, Kind::Real, shape.with_lead(count));
        recording.push(Accumulate {
            x: gradient,
            batch,
            weights,
            sum,
        });
        recording.next_stage();
        let map = recording.persistent(map.id, Kind::Real, map.shape);
        recording.push(Reduce {
            gradient: sum,
            contrast,
            reduction,
            map,
        });
        Ok(recording)
    };

    // Tokens first: they share a variant's forward pass. Then as many
    // variants as fit beside them.
    let nowhere = PersistentId(u32::MAX);
    let count = fitting(executor, memory, tokens, &|count| build(nowhere, 1, count))?;
    let batch = fitting(executor, memory, all, &|batch| build(nowhere, batch, count))?;
    let sum = executor.allocate(Kind::Real, shape.with_lead(count))?;
    let plan = executor.prepare(build(sum, batch, count)?)?;
    let mut run = || -> Result<()> {
        for first_token in (0..tokens).step_by(count) {
            let mut scalars = Scalars::ZERO.with(FIRST_TOKEN, first_token as u32);
            for first_variant in (0..all).step_by(batch) {
                scalars.set(FIRST_VARIANT, first_variant as u32);
                executor.run(plan, 0, &scalars)?;
            }
            executor.run(plan, 1, &scalars)?;
        }
        Ok(())
    };
    let done = run();
    executor.release(plan);
    executor.free(sum);
    executor.free(aside);
    done?;
    Ok(AveragedPass {
        map,
        baseline_log_probs,
    })
}
