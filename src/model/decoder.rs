//! The pre-norm transformer decoder that all families share: causal
//! self-attention, cross-attention to the encoder, feed-forward.

use super::checkpoint::{EMBEDDING, PROJECTION, PROJECTION_BIAS, TensorList};
use super::config::Config;
use super::layers::{Linear, Norm};
use super::loader::Loader;
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Columns, Kind, PersistentId, Shape, TensorId, WeightId};
use crate::engine::weights::Form;
use crate::ops::{Activation, AttentionSpec, CacheAppend, CachedAttention, Gate, Mask};

/// Sizes and variants of a decoder.
#[derive(Clone, Debug)]
pub struct DecoderConfig {
    /// Layers.
    pub layers: usize,
    /// H
    pub heads: usize,
    /// D
    pub width: usize,
    /// Columns of a head; those of all heads together may be more or fewer than D.
    pub depth: usize,
    /// Columns of the encoder's output.
    pub encoder_width: usize,
    /// Columns between the two products of a layer's feed-forward.
    pub feed_forward: usize,
    /// V
    pub vocabulary: usize,
    /// Between these products, where nothing is gated.
    pub activation: Activation,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// Most tokens, the start token included.
    pub max_tokens: usize,
    /// Which projections of attention have a bias.
    pub biases: Biases,
    /// Whether norms have biases.
    pub norm_biases: bool,
    /// Whether the first product of a feed-forward gives values and what gates them,
    /// through SiLU.
    pub gated: bool,
    /// Whether what takes the encoder's output to D columns has a bias.
    pub memory_bias: bool,
    /// What is added to the encoder's output first.
    pub memory_positions: Option<MemoryPositions>,
    /// Whether the output projection has its own tensor in the file.
    pub own_projection: bool,
    /// Whether the output projection has a bias.
    pub projection_bias: bool,
    /// What the tensors are called.
    pub names: &'static Names,
}

/// Learned positions of the encoder's frames, which the decoder adds.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPositions {
    /// What the tensor (count, encoder's columns) is called.
    pub name: &'static str,
    pub count: usize,
}

/// Which of a decoder's projections to queries, keys, values and out of attention
/// have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Biases {
    All,
    /// All but those to keys.
    NoKeys,
    /// All but those out of attention.
    NoOut,
    None,
}

impl Biases {
    /// Whether this one has.
    pub fn has(self, projection: &str) -> bool {
        match self {
            Self::All => true,
            Self::NoKeys => projection != KEY,
            Self::NoOut => [QUERY, KEY, VALUE].contains(&projection),
            Self::None => false,
        }
    }
}

/// The projections to queries, keys and values, by the names they have in all
/// files.
pub(super) const QUERY: &str = "q_proj";
pub(super) const KEY: &str = "k_proj";
pub(super) const VALUE: &str = "v_proj";

/// What a decoder's tensors are called, those of a layer within it.
#[derive(Debug)]
pub struct Names {
    pub(super) self_norm: &'static str,
    pub(super) cross_norm: &'static str,
    pub(super) feed_norm: &'static str,
    /// Of either attention.
    pub(super) attention_out: &'static str,
    pub(super) feed_forward: [&'static str; 2],
    /// Of the whole decoder.
    pub(super) norm: &'static str,
    /// Behind embeddings and positions, where there is one.
    pub(super) embedding_norm: Option<&'static str>,
    /// What takes the encoder's output to D columns, where it does not go to
    /// cross-attention as it is.
    pub(super) memory: Option<&'static str>,
}

/// As fairseq has them, and its models in transformers.
pub(super) const FAIRSEQ: Names = Names {
    self_norm: "self_attn_layer_norm",
    cross_norm: "encoder_attn_layer_norm",
    feed_norm: "final_layer_norm",
    attention_out: "out_proj",
    feed_forward: ["fc1", "fc2"],
    norm: "decoder.layer_norm",
    embedding_norm: None,
    memory: None,
};

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
        let heads = config.heads("decoder_attention_heads", width)?;
        let scaled = match defaults.scaled {
            Some(scaled) => config.flag("scale_embedding", scaled)?,
            None => false,
        };
        config.check_projection(own_projection)?;
        Ok(Self {
            layers: config.layers("decoder_layers")?,
            heads,
            width,
            depth: width / heads,
            encoder_width: width,
            feed_forward: config.size("decoder_ffn_dim")?,
            vocabulary: config.size("vocab_size")?,
            activation: config.activation("activation_function", defaults.activation)?,
            embedding_scale: if scaled {
                (width as f64).sqrt() as f32
            } else {
                1.0
            },
            max_tokens: config.size("max_target_positions")?,
            biases: match defaults.key_bias {
                true => Biases::All,
                false => Biases::NoKeys,
            },
            norm_biases: true,
            gated: false,
            memory_bias: true,
            memory_positions: None,
            own_projection,
            projection_bias: false,
            names: &FAIRSEQ,
        })
    }

    /// Reads the fields that decoders behind a [FastConformer](super::fastconformer)
    /// have; `encoder_width`: columns of its output.
    ///
    /// # Errors
    /// If a field is missing or wrong, or asks for what is not done.
    pub(super) fn behind_fastconformer(
        config: &Config,
        own_projection: bool,
        encoder_width: usize,
        names: &'static Names,
    ) -> Result<Self> {
        let width = config.size("hidden_size")?;
        let heads = config.size("num_attention_heads")?;
        config.own_keys("num_key_value_heads", heads)?;
        let depth = match config.value()["head_dim"].is_null() {
            true => width / config.heads("num_attention_heads", width)?,
            false => config.size("head_dim")?,
        };
        if names.memory.is_none() && encoder_width != width {
            let right = format!("the {encoder_width} columns of the encoder's output");
            return Err(config.wrong("hidden_size", &right));
        }
        Ok(Self {
            layers: config.layers("num_hidden_layers")?,
            heads,
            width,
            depth,
            encoder_width,
            feed_forward: config.size("intermediate_size")?,
            vocabulary: config.size("vocab_size")?,
            activation: config.activation("hidden_act", Activation::Relu)?,
            embedding_scale: 1.0,
            max_tokens: config.size("max_position_embeddings")?,
            biases: match config.flag("attention_bias", true)? {
                true => Biases::All,
                false => Biases::None,
            },
            norm_biases: true,
            gated: false,
            memory_bias: true,
            memory_positions: None,
            own_projection,
            projection_bias: true,
            names,
        })
    }

    /// Columns of all heads together.
    pub fn attention_width(&self) -> usize {
        self.heads * self.depth
    }
}

/// A decoder's table of positions, and where it comes from.
pub(super) enum Positions {
    /// The model's files: (max_tokens, D).
    Learned(Vec<f32>),
    /// The config alone: (max_tokens, D).
    Computed(Vec<f32>),
    /// Angles (max_tokens, 2 · pairs) of the [rotary positions](crate::ops::Rotary) of
    /// self-attention, by the config alone.
    Rotary(Vec<f32>),
}

/// A decoder's weights.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Its sizes.
    pub config: DecoderConfig,
    embedding: WeightId,
    /// (max_tokens, D): what is added to embeddings, 0 where positions are rotary.
    positions: WeightId,
    /// Of rotary positions, (max_tokens, 2 · pairs).
    angles: Option<WeightId>,
    embedding_norm: Option<Norm>,
    /// Added to the encoder's output: (count, its columns).
    memory_positions: Option<WeightId>,
    /// From the encoder's output to D columns.
    memory: Option<Linear>,
    layers: Vec<Layer>,
    norm: Norm,
    projection: Linear,
}

#[derive(Clone, Debug)]
struct Layer {
    self_norm: Norm,
    /// Queries, keys and values of self-attention, (3A, D), A being the columns
    /// of all heads.
    self_projections: Linear,
    self_out: Linear,
    cross_norm: Norm,
    cross_query: Linear,
    /// Keys and values of cross-attention, (2A, D).
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
    /// (N, I, A): their queries to the sound
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
    /// (N or 1, T', A) columns of the layer's memory, A being those of all heads
    pub value: Columns,
    /// (N, I, A): what the heads made of the values, before the output
    /// projection
    pub output: TensorId,
}

/// Persistent tensors of step-by-step decoding.
#[derive(Clone, Debug)]
pub struct StepState {
    /// By layer: self-attention keys and values (N, capacity, 2A), A being the
    /// columns of all heads
    pub caches: Vec<PersistentId>,
    /// By layer: cross-attention keys and values (1, T', 2A)
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
        let (width, inner, names) = (config.width, config.attention_width(), config.names);
        let table = [config.vocabulary, width];
        list.weight(EMBEDDING, &table);
        let norm = |list: &mut TensorList, name: &str| match config.norm_biases {
            true => list.norm(name, width),
            false => list.scale(name, width),
        };
        if let Some(own) = names.embedding_norm {
            norm(list, own);
        }
        if let Some(own) = config.memory_positions {
            list.weight(own.name, &[own.count, config.encoder_width]);
        }
        if let Some(memory) = names.memory {
            list.weight(format!("{memory}.weight"), &[width, config.encoder_width]);
            if config.memory_bias {
                list.bias(format!("{memory}.bias"), &[width]);
            }
        }
        for l in 0..config.layers {
            let layer = format!("decoder.layers.{l}");
            for attention in ["self_attn", "encoder_attn"] {
                let out = names.attention_out;
                let inward = [QUERY, VALUE, KEY].map(|own| (own, [inner, width]));
                for (own, shape) in inward.into_iter().chain([(out, [width, inner])]) {
                    let name = format!("{layer}.{attention}.{own}");
                    list.weight(format!("{name}.weight"), &shape);
                    if config.biases.has(own) {
                        list.bias(format!("{name}.bias"), &shape[..1]);
                    }
                }
            }
            let [into, out] = names.feed_forward;
            let parts = if config.gated { 2 } else { 1 };
            list.linear(
                &format!("{layer}.{into}"),
                parts * config.feed_forward,
                width,
            );
            list.linear(&format!("{layer}.{out}"), width, config.feed_forward);
            for own in [names.self_norm, names.cross_norm, names.feed_norm] {
                norm(list, &format!("{layer}.{own}"));
            }
        }
        norm(list, names.norm);
        if config.own_projection {
            list.weight(PROJECTION, &table);
        }
        if config.projection_bias {
            list.bias(PROJECTION_BIAS, &table[..1]);
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
        let (positions, angles) = match positions {
            Positions::Learned(own) => (loader.add(form, name, rows, width, own), None),
            Positions::Computed(own) => (loader.add_computed(form, name, rows, width, own), None),
            Positions::Rotary(own) => {
                let columns = own.len() / rows;
                let angles = loader.add_computed(form, "decoder angles", rows, columns, own);
                // Embeddings take a table, whatever is in it.
                let nothing = vec![0.0; rows * width];
                let positions = loader.add_computed(form, name, rows, width, nothing);
                (positions, Some(angles))
            }
        };
        let names = config.names;
        let embedding_norm = names.embedding_norm.map(|own| Norm::read(loader, own));
        let encoder_width = config.encoder_width;
        let memory_positions = config.memory_positions.map(|own| {
            let MemoryPositions { name, count } = own;
            loader.load(Form::Positions, name, count, encoder_width)
        });
        let memory_positions = memory_positions.transpose()?;
        let memory = names.memory;
        let memory = memory.map(|own| Linear::read(loader, &[own], encoder_width));
        let (embedding_norm, memory) = (embedding_norm.transpose()?, memory.transpose()?);
        let layers = (0..config.layers)
            .map(|l| Layer::read(loader, &config, l))
            .collect::<Result<_>>()?;
        let weight = if config.own_projection {
            loader.load(Form::Matrix, PROJECTION, vocabulary, width)?
        } else {
            embedding
        };
        let bias = match config.projection_bias {
            true => Some(loader.load(Form::Bias, PROJECTION_BIAS, 1, vocabulary)?),
            false => None,
        };
        Ok(Self {
            embedding,
            positions,
            angles,
            embedding_norm,
            memory_positions,
            memory,
            layers,
            norm: Norm::read(loader, names.norm)?,
            projection: Linear { weight, bias },
            config,
        })
    }

    /// Records the keys and values (B, T', 2A) of cross-attention, by layer: all
    /// that a decoder needs of the encoder's output (B, T', columns).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn record_memories(
        &self,
        recording: &mut Recording,
        encoder_output: TensorId,
    ) -> Result<Vec<TensorId>> {
        let mut heard = encoder_output;
        let frames = recording.shape(heard).rows;
        if let Some(positions) = self.first_memory_positions(recording, frames)? {
            heard = recording.add(heard, positions)?;
        }
        self.record_behind_positions(recording, heard)
    }

    /// The positions (1, T', columns) of so many of the encoder's frames, where they are
    /// added.
    fn first_memory_positions(
        &self,
        recording: &mut Recording,
        frames: usize,
    ) -> Result<Option<TensorId>> {
        let positions = self.memory_positions.map(|id| recording.weight(id));
        let first = positions.map(|own| recording.take_rows(own, 0, frames));
        first.transpose()
    }

    fn record_behind_positions(
        &self,
        recording: &mut Recording,
        heard: TensorId,
    ) -> Result<Vec<TensorId>> {
        let heard = match &self.memory {
            Some(memory) => memory.record(recording, heard, Activation::None)?,
            None => heard,
        };
        self.record_keys_and_values(recording, heard)
    }

    fn record_keys_and_values(
        &self,
        recording: &mut Recording,
        heard: TensorId,
    ) -> Result<Vec<TensorId>> {
        let layers = self.layers.iter();
        layers
            .map(|layer| {
                layer
                    .cross_memory
                    .record(recording, heard, Activation::None)
            })
            .collect()
    }

    /// The output projection (D, A) of layer `l`'s cross-attention.
    pub fn cross_output(&self, l: usize) -> WeightId {
        self.layers[l].cross_out.weight
    }

    /// Records the decoder's input (N, I, D) for ids (N, I, 1): scaled
    /// embeddings plus positions, and their norm where there is one.
    ///
    /// # Errors
    /// If there are more tokens than positions.
    pub fn record_input(&self, recording: &mut Recording, ids: TensorId) -> Result<TensorId> {
        self.record_embedded(recording, ids, self.config.embedding_scale, false)
    }

    /// What is left of the decoder's input (1, I, D) when a token's embedding is
    /// zeroed: that of its position.
    ///
    /// # Errors
    /// As [`record_input`](Self::record_input).
    pub fn record_positions(&self, recording: &mut Recording, ids: TensorId) -> Result<TensorId> {
        self.record_embedded(recording, ids, 0.0, false)
    }

    fn record_embedded(
        &self,
        recording: &mut Recording,
        ids: TensorId,
        scale: f32,
        at_step: bool,
    ) -> Result<TensorId> {
        let embedding = recording.weight(self.embedding);
        let positions = recording.weight(self.positions);
        let x = recording.embedding(ids, embedding, scale, positions, at_step)?;
        match &self.embedding_norm {
            Some(norm) => norm.record(recording, x),
            None => Ok(x),
        }
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
        let projections = self.record_self_projections(recording, layer, x, false)?;
        let width = self.config.attention_width();
        let spec = self.attention([
            (projections, 0),
            (projections, width),
            (projections, 2 * width),
        ]);
        let (mixed, _) = recording.attention(AttentionSpec {
            mask: Mask::Causal,
            ..spec
        })?;
        let x = layer.self_out.record_onto(recording, mixed, 1.0, x)?;
        self.record_query(recording, layer, x)
    }

    /// Queries, keys and values (N, I, 3A) of a layer's self-attention, the first two
    /// turned by their positions where these are rotary.
    fn record_self_projections(
        &self,
        recording: &mut Recording,
        layer: &Layer,
        x: TensorId,
        at_step: bool,
    ) -> Result<TensorId> {
        let normed = layer.self_norm.record(recording, x)?;
        let projections = layer.self_projections;
        let projected = projections.record(recording, normed, Activation::None)?;
        let Some(angles) = self.angles else {
            return Ok(projected);
        };
        let angles = recording.weight(angles);
        let turned = 2 * self.config.attention_width();
        recording.rotary(projected, angles, [self.config.depth, turned], at_step)
    }

    fn record_query(&self, recording: &mut Recording, layer: &Layer, x: TensorId) -> Result<Begun> {
        let normed = layer.cross_norm.record(recording, x)?;
        let query = layer
            .cross_query
            .record(recording, normed, Activation::None)?;
        Ok(Begun { x, query })
    }

    /// By layer, what is left of a memory's rows when the `frames` of the encoder that
    /// they come from are zeroed, (1, 1, 2A) for all or (1, frames, 2A): the projections'
    /// bias, and what they make of positions and of the bias of a projection before them.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn record_memory_biases(
        &self,
        recording: &mut Recording,
        frames: usize,
    ) -> Result<Vec<TensorId>> {
        if let Some(positions) = self.first_memory_positions(recording, frames)? {
            return self.record_behind_positions(recording, positions);
        }
        if let Some(bias) = self.memory.and_then(|own| own.bias) {
            let heard = recording.weight(bias);
            return self.record_keys_and_values(recording, heard);
        }
        let width = 2 * self.config.attention_width();
        let layers = self.layers.iter();
        let biases = layers.map(|layer| match layer.cross_memory.bias {
            Some(bias) => recording.weight(bias),
            None => recording.constant(Shape::new(1, 1, width), vec![0.0; width]),
        });
        Ok(biases.collect())
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
        let width = self.config.attention_width();
        let scale = self.config.embedding_scale;
        let ancestry_shape = Shape::new(state.hypotheses, state.capacity, 1);
        let ancestry = recording.persistent(state.ancestry, Kind::Index, ancestry_shape);
        let mut x = self.record_embedded(recording, ids, scale, true)?;
        for (l, layer) in self.layers.iter().enumerate() {
            let projections = self.record_self_projections(recording, layer, x, true)?;
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
        (1.0 / (self.config.depth as f64).sqrt()) as f32
    }

    fn attention(&self, [query, key, value]: [(TensorId, usize); 3]) -> AttentionSpec {
        let columns = |(tensor, offset)| Columns { tensor, offset };
        AttentionSpec {
            query: columns(query),
            key: columns(key),
            value: columns(value),
            heads: self.config.heads,
            width: self.config.attention_width(),
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
        let width = self.config.attention_width();
        let spec = self.attention([(query, 0), (memory, 0), (memory, width)]);
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
        let hidden = match self.config.gated {
            true => {
                let both = layer.feed_in.record(recording, normed, Activation::None)?;
                recording.glu(both, Gate::Silu, 1.0)?
            }
            false => layer
                .feed_in
                .record(recording, normed, self.config.activation)?,
        };
        layer.feed_out.record_onto(recording, hidden, 1.0, x)
    }

    fn record_projection(&self, recording: &mut Recording, x: TensorId) -> Result<TensorId> {
        let normed = self.norm.record(recording, x)?;
        self.projection.record(recording, normed, Activation::None)
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
        let (names, inner) = (config.names, config.attention_width());
        let of = |attention: &str, own: &str| format!("{attention}.{own}");
        let to_self = [QUERY, KEY, VALUE].map(|own| of("self_attn", own));
        let to_memory = [KEY, VALUE].map(|own| of("encoder_attn", own));
        let out = names.attention_out;
        let [feed_in, feed_out] = names.feed_forward;
        Ok(Self {
            self_norm: norm(loader, names.self_norm)?,
            self_projections: linear(loader, &to_self.each_ref().map(String::as_str), width)?,
            self_out: linear(loader, &[&of("self_attn", out)], inner)?,
            cross_norm: norm(loader, names.cross_norm)?,
            cross_query: linear(loader, &[&of("encoder_attn", QUERY)], width)?,
            cross_memory: linear(loader, &to_memory.each_ref().map(String::as_str), width)?,
            cross_out: linear(loader, &[&of("encoder_attn", out)], inner)?,
            feed_norm: norm(loader, names.feed_norm)?,
            feed_in: linear(loader, &[feed_in], width)?,
            feed_out: linear(loader, &[feed_out], config.feed_forward)?,
        })
    }
}
