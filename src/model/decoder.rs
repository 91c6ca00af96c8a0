//! The pre-norm transformer decoder that all families share: causal
//! self-attention, cross-attention to the encoder, feed-forward.

use super::checkpoint::{EMBEDDING, PROJECTION, TensorList};
use super::config::Config;
use super::layers::{Linear, Norm};
use super::loader::Loader;
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Columns, Kind, PersistentId, Shape, TensorId, WeightId};
use crate::engine::weights::Form;
use crate::ops::{Activation, AttentionSpec, CacheAppend, CachedAttention, Mask};

/// Sizes and variants of a decoder.
#[derive(Clone, Debug)]
pub struct DecoderConfig {
    /// Layers.
    pub layers: usize,
    /// H
    pub heads: usize,
    /// D
    pub width: usize,
    /// Columns between the two products of a layer's feed-forward.
    pub feed_forward: usize,
    /// V
    pub vocabulary: usize,
    /// Between these products.
    pub activation: Activation,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// Most tokens, the start token included.
    pub max_tokens: usize,
    /// Whether key projections have a bias.
    pub key_bias: bool,
    /// Whether the output projection has its own tensor in the file.
    pub own_projection: bool,
}

/// What differs between families where `config.json` does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecoderDefaults {
    pub activation: Activation,
    /// Whether embeddings are multiplied by sqrt(D); nothing where the family
    /// never does it, whatever `scale_embedding` says.
    pub scaled: Option<bool>,
    pub key_bias: bool,
}

impl DecoderConfig {
    /// Reads the `decoder_...` fields and what goes with them;
    /// `own_projection`: whether the weights have an output projection.
    ///
    /// # Errors
    /// If a field is missing or wrong, or there is no output projection.
    pub(super) fn read(
        config: &Config,
        own_projection: bool,
        defaults: DecoderDefaults,
    ) -> Result<Self> {
        let width = config.size("d_model")?;
        let scaled = match defaults.scaled {
            Some(scaled) => config.flag("scale_embedding", scaled)?,
            None => false,
        };
        if !own_projection && !config.tied()? {
            return Err(config.wrong(
                "tie_word_embeddings",
                "true, since the weights have no output projection,",
            ));
        }
        Ok(Self {
            layers: config.layers("decoder_layers")?,
            heads: config.heads("decoder_attention_heads", width)?,
            width,
            feed_forward: config.size("decoder_ffn_dim")?,
            vocabulary: config.size("vocab_size")?,
            activation: config.activation("activation_function", defaults.activation)?,
            embedding_scale: if scaled {
                (width as f64).sqrt() as f32
            } else {
                1.0
            },
            max_tokens: config.size("max_target_positions")?,
            key_bias: defaults.key_bias,
            own_projection,
        })
    }
}

/// A decoder's table of positions (max_tokens, D), and where it comes from.
pub(super) enum Positions {
    /// The model's files.
    Learned(Vec<f32>),
    /// The config alone.
    Computed(Vec<f32>),
}

/// A decoder's weights.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Its sizes.
    pub config: DecoderConfig,
    embedding: WeightId,
    positions: WeightId,
    layers: Vec<Layer>,
    norm: Norm,
    projection: WeightId,
}

#[derive(Clone, Debug)]
struct Layer {
    self_norm: Norm,
    /// Queries, keys and values of self-attention, (3D, D).
    self_projections: Linear,
    self_out: Linear,
    cross_norm: Norm,
    cross_query: Linear,
    /// Keys and values of cross-attention, (2D, D).
    cross_memory: Linear,
    cross_out: Linear,
    feed_norm: Norm,
    feed_in: Linear,
    feed_out: Linear,
}

/// What [`Decoder::record_begin`] gave.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// (N, I, D): the tokens, having looked at each other
    x: TensorId,
    /// (N, I, D): their queries to the sound
    query: TensorId,
}

/// What recording a decoder gives.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// (N, I, V), unnormalised
    pub logits: TensorId,
    /// By layer.
    pub cross_attention: Vec<CrossAttention>,
}

/// The cross-attention of one layer.
#[derive(Clone, Copy, Debug)]
pub struct CrossAttention {
    /// (N, H·I, T')
    pub probabilities: TensorId,
    /// (N or 1, T', D) columns of the layer's memory
    pub value: Columns,
    /// (N, I, D): what the heads made of the values, before the output
    /// projection
    pub output: TensorId,
}

/// Persistent tensors of step-by-step decoding.
#[derive(Clone, Debug)]
pub struct StepState {
    /// By layer: self-attention keys and values (N, capacity, 2D)
    pub caches: Vec<PersistentId>,
    /// By layer: cross-attention keys and values (1, T', 2D)
    pub memories: Vec<PersistentId>,
    /// (N, capacity, 1): see [`CachedAttention`]
    pub ancestry: PersistentId,
    /// N
    pub hypotheses: usize,
    pub capacity: usize,
    /// T'
    pub encoder_frames: usize,
}

impl Decoder {
    /// Lists the tensors of a decoder.
    pub(super) fn list(list: &mut TensorList, config: &DecoderConfig) {
        let width = config.width;
        let table = [config.vocabulary, width];
        list.weight(EMBEDDING, &table);
        for l in 0..config.layers {
            let layer = format!("decoder.layers.{l}");
            for attention in ["self_attn", "encoder_attn"] {
                for projection in ["q_proj", "v_proj", "out_proj"] {
                    list.linear(&format!("{layer}.{attention}.{projection}"), width, width);
                }
                let key = format!("{layer}.{attention}.k_proj");
                list.weight(format!("{key}.weight"), &[width, width]);
                if config.key_bias {
                    list.bias(format!("{key}.bias"), &[width]);
                }
                list.norm(&format!("{layer}.{attention}_layer_norm"), width);
            }
            list.linear(&format!("{layer}.fc1"), config.feed_forward, width);
            list.linear(&format!("{layer}.fc2"), width, config.feed_forward);
            list.norm(&format!("{layer}.final_layer_norm"), width);
        }
        list.norm("decoder.layer_norm", width);
        if config.own_projection {
            list.weight(PROJECTION, &table);
        }
    }

    /// Reads a decoder with its table of positions.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub(super) fn read(
        loader: &mut Loader,
        config: DecoderConfig,
        positions: Positions,
    ) -> Result<Self> {
        let (width, vocabulary) = (config.width, config.vocabulary);
        let embedding = loader.load(Form::Embedding, EMBEDDING, vocabulary, width)?;
        let (form, name, rows) = (Form::Positions, "decoder positions", config.max_tokens);
        let positions = match positions {
            Positions::Learned(own) => loader.add(form, name, rows, width, own),
            Positions::Computed(own) => loader.add_computed(form, name, rows, width, own),
        };
        let layers = (0..config.layers)
            .map(|l| Layer::read(loader, &config, l))
            .collect::<Result<_>>()?;
        let projection = if config.own_projection {
            loader.load(Form::Matrix, PROJECTION, vocabulary, width)?
        } else {
            embedding
        };
        Ok(Self {
            embedding,
            positions,
            layers,
            norm: Norm::read(loader, "decoder.layer_norm")?,
            projection,
            config,
        })
    }

    /// Records the keys and values (B, T', 2D) of cross-attention, by layer:
    /// all that a decoder needs of the encoder's output (B, T', D).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn record_memories(
        &self,
        recording: &mut Recording,
        encoder_output: TensorId,
    ) -> Result<Vec<TensorId>> {
        let layers = self.layers.iter();
        layers
            .map(|layer| {
                layer
                    .cross_memory
                    .record(recording, encoder_output, Activation::None)
            })
            .collect()
    }

    /// The output projection (D, D) of layer `l`'s cross-attention.
    pub fn cross_output(&self, l: usize) -> WeightId {
        self.layers[l].cross_out.weight
    }

    /// Records the decoder's input (N, I, D) for ids (N, I, 1): scaled
    /// embeddings plus positions.
    ///
    /// # Errors
    /// If there are more tokens than positions.
    pub fn record_input(&self, recording: &mut Recording, ids: TensorId) -> Result<TensorId> {
        let embedding = recording.weight(self.embedding);
        let positions = recording.weight(self.positions);
        let scale = self.config.embedding_scale;
        recording.embedding(ids, embedding, scale, positions, false)
    }

    /// The positions' own part of the decoder's input (1, I, D): what is left
    /// of it when a token's embedding is zeroed.
    pub fn record_positions(&self, recording: &mut Recording, ids: TensorId) -> Result<TensorId> {
        let embedding = recording.weight(self.embedding);
        let positions = recording.weight(self.positions);
        recording.embedding(ids, embedding, 0.0, positions, false)
    }

    /// Records what the first layer makes of the decoder's input (N, I, D) before it
    /// listens, which the sound does not change.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn record_begin(&self, recording: &mut Recording, input: TensorId) -> Result<Begun> {
        self.record_asking(recording, &self.layers[0], input)
    }

    /// Records the rest of the decoder over whole sequences, from its beginning and
    /// the memories of [`record_memories`](Self::record_memories).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn record(
        &self,
        recording: &mut Recording,
        begun: Begun,
        memories: &[TensorId],
    ) -> Result<Decoded> {
        let (mut asking, mut x) = (Some(begun), begun.x);
        let mut cross_attention = Vec::new();
        for (layer, &memory) in self.layers.iter().zip(memories) {
            let begun = match asking.take() {
                Some(begun) => begun,
                None => self.record_asking(recording, layer, x)?,
            };
            let (next, cross) = self.record_cross(recording, layer, begun, memory)?;
            cross_attention.push(cross);
            x = self.record_feed_forward(recording, layer, next)?;
        }
        let logits = self.record_projection(recording, x)?;
        Ok(Decoded {
            logits,
            cross_attention,
        })
    }

    /// A layer's self-attention, and its question to the sound.
    fn record_asking(
        &self,
        recording: &mut Recording,
        layer: &Layer,
        x: TensorId,
    ) -> Result<Begun> {
        let normed = layer.self_norm.record(recording, x)?;
        let projections = layer
            .self_projections
            .record(recording, normed, Activation::None)?;
        let spec = self.attention([
            (projections, 0),
            (projections, self.config.width),
            (projections, 2 * self.config.width),
        ]);
        let (mixed, _) = recording.attention(AttentionSpec {
            mask: Mask::Causal,
            ..spec
        })?;
        let x = layer.self_out.record_onto(recording, mixed, 1.0, x)?;
        self.record_query(recording, layer, x)
    }

    fn record_query(&self, recording: &mut Recording, layer: &Layer, x: TensorId) -> Result<Begun> {
        let normed = layer.cross_norm.record(recording, x)?;
        let query = layer
            .cross_query
            .record(recording, normed, Activation::None)?;
        Ok(Begun { x, query })
    }

    /// By layer, what is left of a memory's row when the encoder frame it
    /// comes from is zeroed (1, 1, 2D): the projections' bias.
    pub fn record_memory_biases(&self, recording: &mut Recording) -> Vec<TensorId> {
        let width = 2 * self.config.width;
        let layers = self.layers.iter();
        layers
            .map(|layer| match layer.cross_memory.bias {
                Some(bias) => recording.weight(bias),
                None => recording.constant(Shape::new(1, 1, width), vec![0.0; width]),
            })
            .collect()
    }

    /// Records one decoding step for N hypotheses, ids (N, 1, 1), at position
    /// [`STEP`](crate::ops::scalars::STEP); returns the logits (N, 1, V).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn record_step(
        &self,
        recording: &mut Recording,
        ids: TensorId,
        state: &StepState,
    ) -> Result<TensorId> {
        let width = self.config.width;
        let embedding = recording.weight(self.embedding);
        let positions = recording.weight(self.positions);
        let scale = self.config.embedding_scale;
        let ancestry_shape = Shape::new(state.hypotheses, state.capacity, 1);
        let ancestry = recording.persistent(state.ancestry, Kind::Index, ancestry_shape);
        let mut x = recording.embedding(ids, embedding, scale, positions, true)?;
        for (l, layer) in self.layers.iter().enumerate() {
            let normed = layer.self_norm.record(recording, x)?;
            let projections = layer
                .self_projections
                .record(recording, normed, Activation::None)?;
            let shape = Shape::new(state.hypotheses, state.capacity, 2 * width);
            let cache = recording.persistent(state.caches[l], Kind::Real, shape);
            recording.push(CacheAppend {
                x: Columns {
                    tensor: projections,
                    offset: width,
                },
                cache,
            });
            let output = recording.computed(Shape::new(state.hypotheses, 1, width));
            recording.push(CachedAttention {
                query: projections.into(),
                cache,
                ancestry,
                heads: self.config.heads,
                width,
                scale: self.attention_scale(),
                output,
            });
            x = layer.self_out.record_onto(recording, output, 1.0, x)?;
            let shape = Shape::new(1, state.encoder_frames, 2 * width);
            let memory = recording.persistent(state.memories[l], Kind::Real, shape);
            let begun = self.record_query(recording, layer, x)?;
            let (next, _) = self.record_cross(recording, layer, begun, memory)?;
            x = self.record_feed_forward(recording, layer, next)?;
        }
        self.record_projection(recording, x)
    }

    fn attention_scale(&self) -> f32 {
        let depth = self.config.width / self.config.heads;
        (1.0 / (depth as f64).sqrt()) as f32
    }

    fn attention(&self, [query, key, value]: [(TensorId, usize); 3]) -> AttentionSpec {
        let columns = |(tensor, offset)| Columns { tensor, offset };
        AttentionSpec {
            query: columns(query),
            key: columns(key),
            value: columns(value),
            heads: self.config.heads,
            width: self.config.width,
            scale: self.attention_scale(),
            mask: Mask::None,
            relative: None,
        }
    }

    fn record_cross(
        &self,
        recording: &mut Recording,
        layer: &Layer,
        Begun { x, query }: Begun,
        memory: TensorId,
    ) -> Result<(TensorId, CrossAttention)> {
        let spec = self.attention([(query, 0), (memory, 0), (memory, self.config.width)]);
        let (output, probabilities) = recording.attention(spec)?;
        let x = layer.cross_out.record_onto(recording, output, 1.0, x)?;
        let cross = CrossAttention {
            probabilities,
            value: spec.value,
            output,
        };
        Ok((x, cross))
    }

    fn record_feed_forward(
        &self,
        recording: &mut Recording,
        layer: &Layer,
        x: TensorId,
    ) -> Result<TensorId> {
        let normed = layer.feed_norm.record(recording, x)?;
        let hidden = layer
            .feed_in
            .record(recording, normed, self.config.activation)?;
        layer.feed_out.record_onto(recording, hidden, 1.0, x)
    }

    fn record_projection(&self, recording: &mut Recording, x: TensorId) -> Result<TensorId> {
        let normed = self.norm.record(recording, x)?;
        let weight = recording.weight(self.projection);
        recording.matmul(normed, weight).record()
    }
}

impl Layer {
    fn read(loader: &mut Loader, config: &DecoderConfig, l: usize) -> Result<Self> {
        let width = config.width;
        let name = |part: &str| format!("decoder.layers.{l}.{part}");
        let norm = |loader: &mut Loader, part: &str| Norm::read(loader, &name(part));
        let linear = |loader: &mut Loader, parts: &[&str], inputs: usize| {
            let names: Vec<String> = parts.iter().map(|part| name(part)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Linear::read(loader, &names, inputs)
        };
        Ok(Self {
            self_norm: norm(loader, "self_attn_layer_norm")?,
            self_projections: linear(
                loader,
                &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
                width,
            )?,
            self_out: linear(loader, &["self_attn.out_proj"], width)?,
            cross_norm: norm(loader, "encoder_attn_layer_norm")?,
            cross_query: linear(loader, &["encoder_attn.q_proj"], width)?,
            cross_memory: linear(
                loader,
                &["encoder_attn.k_proj", "encoder_attn.v_proj"],
                width,
            )?,
            cross_out: linear(loader, &["encoder_attn.out_proj"], width)?,
            feed_norm: norm(loader, "final_layer_norm")?,
            feed_in: linear(loader, &["fc1"], width)?,
            feed_out: linear(loader, &["fc2"], config.feed_forward)?,
        })
    }
}
