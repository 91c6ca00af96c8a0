//! The pre-norm transformer encoder that Whisper, Speech2Text and Moonshine share:
//! what comes after the convolutions and positions.

use super::checkpoint::TensorList;
use super::config::Config;
use super::decoder::{Biases, KEY, QUERY, VALUE};
use super::layers::{Linear, Norm};
use super::loader::Loader;
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Columns, TensorId};
use crate::ops::{Activation, AttentionSpec, Mask};

/// Sizes from `config.json`.
pub struct TransformerSizes {
    /// D
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Columns between the two products of a layer's feed-forward.
    pub feed_forward: usize,
    /// Between these products.
    pub activation: Activation,
    /// Which projections of attention have a bias.
    pub biases: Biases,
    pub norms: Norms,
    /// What queries see, by layer; all they can where there is none.
    pub masks: Vec<Mask>,
    pub names: &'static EncoderNames,
}

/// What norms have in the files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// `weight` and `bias`
    Both,
    /// `weight` alone
    Weight,
    /// `gamma`, the weight less 1, alone
    Offset,
}

impl Norms {
    fn list(self, list: &mut TensorList, name: &str, width: usize) {
        match self {
            Self::Both => list.norm(name, width),
            Self::Weight => list.scale(name, width),
            Self::Offset => list.offset_scale(name, width),
        }
    }

    fn read(self, loader: &mut Loader, name: &str) -> Result<Norm> {
        match self {
            Self::Both | Self::Weight => Norm::read(loader, name),
            Self::Offset => Norm::read_offset(loader, name),
        }
    }
}

/// What the tensors of such an encoder are called, those of a layer within it.
pub struct EncoderNames {
    pub attention_norm: &'static str,
    pub attention_out: &'static str,
    pub feed_norm: &'static str,
    pub feed_forward: [&'static str; 2],
    /// Of the whole encoder.
    pub norm: &'static str,
}

/// As fairseq has them, and its models in transformers.
const FAIRSEQ: EncoderNames = EncoderNames {
    attention_norm: "self_attn_layer_norm",
    attention_out: "out_proj",
    feed_norm: "final_layer_norm",
    feed_forward: ["fc1", "fc2"],
    norm: "encoder.layer_norm",
};

/// The encoder's weights.
pub struct Transformer {
    width: usize,
    heads: usize,
    activation: Activation,
    blocks: Vec<Block>,
    norm: Norm,
}

struct Block {
    attention_norm: Norm,
    mask: Mask,
    /// Queries, keys and values, (3D, D).
    projections: Linear,
    attention_out: Linear,
    feed_norm: Norm,
    feed_in: Linear,
    feed_out: Linear,
}

impl TransformerSizes {
    /// Reads `d_model` and the `encoder_...` fields.
    ///
    /// # Errors
    /// If a field is missing or wrong.
    pub fn read(config: &Config, activation: Activation, key_bias: bool) -> Result<Self> {
        let width = config.size("d_model")?;
        Ok(Self {
            width,
            layers: config.layers("encoder_layers")?,
            heads: config.heads("encoder_attention_heads", width)?,
            feed_forward: config.size("encoder_ffn_dim")?,
            activation: config.activation("activation_function", activation)?,
            biases: match key_bias {
                true => Biases::All,
                false => Biases::NoKeys,
            },
            norms: Norms::Both,
            masks: Vec::new(),
            names: &FAIRSEQ,
        })
    }

    /// Lists the tensors.
    pub fn list(&self, list: &mut TensorList) {
        let (width, names) = (self.width, self.names);
        let norm = |list: &mut TensorList, name: &str| self.norms.list(list, name, width);
        for l in 0..self.layers {
            let layer = format!("encoder.layers.{l}");
            for own in [QUERY, VALUE, names.attention_out, KEY] {
                let name = format!("{layer}.self_attn.{own}");
                list.weight(format!("{name}.weight"), &[width, width]);
                if self.biases.has(own) {
                    list.bias(format!("{name}.bias"), &[width]);
                }
            }
            norm(list, &format!("{layer}.{}", names.attention_norm));
            let [into, out] = names.feed_forward;
            list.linear(&format!("{layer}.{into}"), self.feed_forward, width);
            list.linear(&format!("{layer}.{out}"), width, self.feed_forward);
            norm(list, &format!("{layer}.{}", names.feed_norm));
        }
        norm(list, names.norm);
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn load(&self, loader: &mut Loader) -> Result<Transformer> {
        let blocks = (0..self.layers).map(|l| Block::read(loader, self, l));
        Ok(Transformer {
            width: self.width,
            heads: self.heads,
            activation: self.activation,
            blocks: blocks.collect::<Result<_>>()?,
            norm: self.norms.read(loader, self.names.norm)?,
        })
    }
}

impl Transformer {
    /// Records x (N, T', D) to the encoder's output of the same shape. With `angles`
    /// (1, T', 2 · pairs) queries and keys are turned by their positions, as
    /// [`Rotary`](crate::ops::Rotary) does it.
    ///
    /// # Errors
    /// If x has another width, or the angles do not fit it.
    pub fn record(
        &self,
        recording: &mut Recording,
        x: TensorId,
        angles: Option<TensorId>,
    ) -> Result<TensorId> {
        let mut x = x;
        for block in &self.blocks {
            x = block.record(recording, self, x, angles)?;
        }
        self.norm.record(recording, x)
    }
}

impl Block {
    fn read(loader: &mut Loader, sizes: &TransformerSizes, l: usize) -> Result<Self> {
        let (width, names) = (sizes.width, sizes.names);
        let name = |part: &str| format!("encoder.layers.{l}.{part}");
        let of_attention = |own: &str| name(&format!("self_attn.{own}"));
        let projections = [QUERY, KEY, VALUE].map(of_attention);
        let projections = projections.each_ref().map(String::as_str);
        let out = of_attention(names.attention_out);
        let [feed_in, feed_out] = names.feed_forward.map(name);
        Ok(Self {
            attention_out: Linear::read(loader, &[&out], width)?,
            feed_in: Linear::read(loader, &[&feed_in], width)?,
            feed_out: Linear::read(loader, &[&feed_out], sizes.feed_forward)?,
            projections: Linear::read(loader, &projections, width)?,
            attention_norm: sizes.norms.read(loader, &name(names.attention_norm))?,
            feed_norm: sizes.norms.read(loader, &name(names.feed_norm))?,
            mask: sizes.masks.get(l).copied().unwrap_or(Mask::None),
        })
    }

    fn record(
        &self,
        recording: &mut Recording,
        encoder: &Transformer,
        x: TensorId,
        angles: Option<TensorId>,
    ) -> Result<TensorId> {
        let width = encoder.width;
        let depth = width / encoder.heads;
        let normed = self.attention_norm.record(recording, x)?;
        let mut projections = self
            .projections
            .record(recording, normed, Activation::None)?;
        if let Some(angles) = angles {
            projections = recording.rotary(projections, angles, [depth, 2 * width], false)?;
        }
        let part = |offset| Columns {
            tensor: projections,
            offset,
        };
        let (mixed, _) = recording.attention(AttentionSpec {
            query: part(0),
            key: part(width),
            value: part(2 * width),
            heads: encoder.heads,
            width,
            scale: (1.0 / (depth as f64).sqrt()) as f32,
            mask: self.mask,
            relative: None,
        })?;
        let x = self.attention_out.record_onto(recording, mixed, 1.0, x)?;
        let normed = self.feed_norm.record(recording, x)?;
        let hidden = self.feed_in.record(recording, normed, encoder.activation)?;
        self.feed_out.record_onto(recording, hidden, 1.0, x)
    }
}
