//! The forward pass under forced decoding, and the reverse pass that makes all
//! plain gradient maps of it at once.

use super::fitting::fitting;
use super::utterance::{EncoderOutput, Utterance};
use super::{kept, no_gradients};
use crate::engine::executor::{Executor, PlanId};
use crate::engine::recording::Recording;
use crate::engine::reverse::reverse_each;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape, TensorId};
use crate::explain::method::Site;
use crate::explain::progress::{Progress, Step};
use crate::model::Model;
use crate::model::decoder::{CrossAttention, Decoded};
use crate::model::encoded::Encoded;
use crate::ops::scalars::FIRST_TOKEN;
use crate::ops::{AttentionXGradient, Contrast, Reduce, Reduction};
use crate::{Error, Result};

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
    fn allocate(
        executor: &mut dyn Executor,
        model: &Model,
        utterance: &Utterance,
        encoded: Option<&Encoded>,
    ) -> Result<Self> {
        let decoder = &model.decoder.config;
        let (frames, window) = (utterance.encoder_frames, utterance.encoder_window);
        let mut real = |rows, cols| executor.allocate(Kind::Real, Shape::new(1, rows, cols));
        let attention_rows = decoder.heads * utterance.inputs;
        Ok(Self {
            encoder_output: EncoderOutput {
                sound: match encoded {
                    Some(encoded) if window == frames => encoded.output().0,
                    _ => real(frames, decoder.encoder_width)?,
                },
                filling: match window - frames {
                    0 => None,
                    rest => Some(real(rest, decoder.encoder_width)?),
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
    let (id, shape) = utterance.source(model, Site::Encoder, encoder_output)?;
    let output = recording.persistent(id, Kind::Real, shape);
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
    /// Reserves a map of every explained token over `over`, (1, rows, cols).
    pub(super) fn allocate(
        executor: &mut dyn Executor,
        utterance: &Utterance,
        over: Shape,
        reduction: Reduction,
    ) -> Result<Self> {
        let mut shape = over.with_lead(utterance.explained);
        if reduction != Reduction::None {
            shape.cols = 1;
        }
        let id = executor.allocate(Kind::Real, shape)?;
        Ok(Self { id, shape })
    }
}

/// What a reverse pass is to make.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    pub maps: Vec<MapSpec>,
    /// Whether cross-attention times its gradient is wanted.
    pub attention: bool,
}

impl Gradients {
    fn is_empty(&self) -> bool {
        self.maps.is_empty() && !self.attention
    }

    pub(super) fn at(&self, site: Site) -> bool {
        self.maps.iter().any(|spec| spec.site == site)
    }
}

/// Result of [`forward_and_reverse`].
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
        maps: specs.to_vec(),
        attention: false,
    };
    forward_and_reverse(
        executor,
        model,
        utterance,
        &wanted,
        None,
        memory,
        &mut |_| true,
    )
}

/// As [`forward_and_gradients`], and makes all that is wanted in the same
/// reverse pass. What was `encoded` of the same sound is not encoded again, if
/// it has what the gradients need. `progress` is told of tokens.
///
/// # Errors
/// If something does not fit the model, the device fails, or `progress` asks to
/// stop before the last token.
pub fn forward_and_reverse(
    executor: &mut dyn Executor,
    model: &Model,
    utterance: &Utterance,
    wanted: &Gradients,
    encoded: Option<&Encoded>,
    memory: usize,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<ForwardPass> {
    let encoded = encoded.filter(|own| own.reversible() || !wanted.at(Site::Input));
    let writing = Writing::allocate(executor, model, utterance, wanted, encoded)?;
    // It is a part of the pass, made before.
    let held = encoded.map_or(0, |own| own.numbers() * size_of::<f32>());
    let memory = memory.saturating_sub(held);
    let tokens = utterance.explained;
    let build = |count| writing.record(count);
    let count = fitting(executor, memory, tokens, &build)?;
    let plan = executor.prepare(writing.record(count)?)?;
    let done = match wanted.is_empty() {
        true => executor.run(plan, 0, &Scalars::ZERO),
        false => run_tokens(executor, plan, [tokens, count], progress),
    };
    executor.release(plan);
    done?;
    Ok(writing.pass)
}

/// A pass that is being made: what it writes, and what it is recorded from.
struct Writing<'a> {
    model: &'a Model,
    utterance: &'a Utterance,
    wanted: &'a Gradients,
    encoded: Option<&'a Encoded>,
    pass: ForwardPass,
    /// (H, K, T')
    layer: Shape,
}

/// A place where gradients are taken: what is differentiated, and the part of
/// it that is explained.
struct Source {
    site: Site,
    x: TensorId,
    sound: TensorId,
}

impl<'a> Writing<'a> {
    fn allocate(
        executor: &mut dyn Executor,
        model: &'a Model,
        utterance: &'a Utterance,
        wanted: &'a Gradients,
        encoded: Option<&'a Encoded>,
    ) -> Result<Self> {
        if wanted.at(Site::Tokens) || wanted.at(Site::Decoder) {
            return Err(no_gradients());
        }
        let decoder = &model.decoder.config;
        let forward = Forward::allocate(executor, model, utterance, encoded)?;
        let mut maps = Vec::new();
        for spec in &wanted.maps {
            let (_, over) = utterance.source(model, spec.site, forward.encoder_output)?;
            let map = DeviceMap::allocate(executor, utterance, over, spec.reduction)?;
            maps.push(map);
        }
        let layer = Shape::new(decoder.heads, utterance.explained, utterance.encoder_frames);
        let attention_x_gradient = match wanted.attention {
            false => Vec::new(),
            true => (0..decoder.layers)
                .map(|_| executor.allocate(Kind::Real, layer))
                .collect::<Result<_>>()?,
        };
        Ok(Self {
            model,
            utterance,
            wanted,
            encoded,
            pass: ForwardPass {
                forward,
                maps,
                attention_x_gradient,
            },
            layer,
        })
    }

    /// The pass with `count` tokens in each run of its reverse stage.
    fn record(&self, count: usize) -> Result<Recording> {
        let (model, utterance) = (self.model, self.utterance);
        let forward = &self.pass.forward;
        let mut recording = Recording::new(model.weights.clone());
        let features = utterance.features(&mut recording);
        let encoder_output = utterance.encode(model, &mut recording, features)?;
        if let Some(encoded) = self.encoded {
            encoded.stand_in(&mut recording);
        }
        let frames = utterance.encoder_frames;
        let sound_output = recording.take_rows(encoder_output, 0, frames)?;
        // Without a window an output that was encoded before is the sound's.
        if self.encoded.is_none() || sound_output != encoder_output {
            recording.keep(sound_output, forward.encoder_output.sound);
        }
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
        if !self.wanted.is_empty() {
            recording.next_stage();
            let sites = [
                (Site::Encoder, encoder_output, sound_output),
                (Site::Input, features, features),
            ];
            let sites = sites.map(|(site, x, sound)| Source { site, x, sound });
            self.record_reverse(&mut recording, &decoded, sites, count)?;
        }
        Ok(recording)
    }

    /// Gradients at the attention of every layer, and at the sites where maps
    /// are wanted.
    fn record_reverse(
        &self,
        recording: &mut Recording,
        decoded: &Decoded,
        sites: [Source; 2],
        count: usize,
    ) -> Result<()> {
        let seed = self.utterance.seed(recording, decoded.logits, count);
        let attended: &[CrossAttention] = match self.wanted.attention {
            false => &[],
            true => &decoded.cross_attention,
        };
        let sites = sites.into_iter();
        let sites: Vec<Source> = sites.filter(|own| self.wanted.at(own.site)).collect();
        let layers = attended.iter().map(|layer| layer.output);
        let sources: Vec<_> = layers.chain(sites.iter().map(|own| own.x)).collect();
        reverse_each(
            recording,
            seed,
            &sources,
            &mut |recording, index, gradient| match attended.get(index) {
                Some(layer) => {
                    let id = self.pass.attention_x_gradient[index];
                    let map = recording.persistent(id, Kind::Real, self.layer);
                    recording.push(AttentionXGradient {
                        probabilities: layer.probabilities,
                        value: layer.value,
                        doutput: gradient,
                        positions: seed.positions,
                        map,
                    });
                    Ok(())
                }
                None => self.record_maps(recording, &sites[index - attended.len()], gradient),
            },
        )?;
        Ok(())
    }

    /// The maps of a site, from its gradient.
    fn record_maps(
        &self,
        recording: &mut Recording,
        source: &Source,
        gradient: TensorId,
    ) -> Result<()> {
        let x = source.sound;
        let shape = recording.shape(x);
        let gradient = recording.take_rows(gradient, 0, shape.rows)?;
        let maps = self.wanted.maps.iter().zip(&self.pass.maps);
        for (spec, map) in maps.filter(|(spec, _)| spec.site == source.site) {
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
    }
}

fn run_tokens(
    executor: &mut dyn Executor,
    plan: PlanId,
    [tokens, count]: [usize; 2],
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<()> {
    executor.run(plan, 0, &Scalars::ZERO)?;
    for first in (0..tokens).step_by(count) {
        let state = Progress {
            step: Step::Tokens,
            site: Site::Decoder,
            done: first,
            most: tokens,
        };
        if !progress(state) {
            return Err(Error::Stopped);
        }
        let mut scalars = Scalars::ZERO;
        scalars.set(FIRST_TOKEN, first as u32);
        executor.run(plan, 1, &scalars)?;
    }
    Ok(())
}
