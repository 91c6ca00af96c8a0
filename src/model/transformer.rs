//! The pre-norm transformer encoder that Whisper and Speech2Text share: what
//! comes after the convolutions and positions.

use super::checkpoint::TensorList;
use super::config::Config;
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
    layers: usize,
    heads: usize,
    feed_forward: usize,
    activation: Activation,
    /// Whether key projections have a bias.
    key_bias: bool,
}

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
            key_bias,
        })
    }

    /// Lists the tensors.
    pub fn list(&self, list: &mut TensorList) {
        let width = self.width;
        for l in 0..self.layers {
            let layer = format!("encoder.layers.{l}");
            for projection in ["q_proj", "v_proj", "out_proj"] {
                list.linear(&format!("{layer}.self_attn.{projection}"), width, width);
            }
            let key = format!("{layer}.self_attn.k_proj");
            list.weight(format!("{key}.weight"), &[width, width]);
            if self.key_bias {
                list.bias(format!("{key}.bias"), &[width]);
            }
            list.norm(&format!("{layer}.self_attn_layer_norm"), width);
            list.linear(&format!("{layer}.fc1"), self.feed_forward, width);
            list.linear(&format!("{layer}.fc2"), width, self.feed_forward);
            list.norm(&format!("{layer}.final_layer_norm"), width);
        }
        list.norm("encoder.layer_norm", width);
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
            norm: Norm::read(loader, "encoder.layer_norm")?,
        })
    }
}

impl Transformer {
    /// Records x (N, T', D) to the encoder's output of the same shape.
    ///
    /// # Errors
    /// If x has another width.
    pub fn record(&self, recording: &mut Recording, x: TensorId) -> Result<TensorId> {
        let mut x = x;
        for block in &self.blocks {
            x = block.record(recording, self, x)?;
        }
        self.norm.record(recording, x)
    }
}

impl Block {
    fn read(loader: &mut Loader, sizes: &TransformerSizes, l: usize) -> Result<Self> {
        let width = sizes.width;
        let name = |part: &str| format!("encoder.layers.{l}.{part}");
        let projections = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(name);
        let projections = projections.each_ref().map(String::as_str);
        let mut linear = |part: &str, inputs| Linear::read(loader, &[&name(part)], inputs);
        Ok(Self {
            attention_out: linear("self_attn.out_proj", width)?,
            feed_in: linear("fc1", width)?,
            feed_out: linear("fc2", sizes.feed_forward)?,
            projections: Linear::read(loader, &projections, width)?,
            attention_norm: Norm::read(loader, &name("self_attn_layer_norm"))?,
            feed_norm: Norm::read(loader, &name("final_layer_norm"))?,
        })
    }

    fn record(
        &self,
        recording: &mut Recording,
        encoder: &Transformer,
        x: TensorId,
    ) -> Result<TensorId> {
        let width = encoder.width;
        let normed = self.attention_norm.record(recording, x)?;
        let projections = self
            .projections
            .record(recording, normed, Activation::None)?;
        let part = |offset| Columns {
            tensor: projections,
            offset,
        };
        let depth = width / encoder.heads;
        let (mixed, _) = recording.attention(AttentionSpec {
            query: part(0),
            key: part(width),
            value: part(2 * width),
            heads: encoder.heads,
            width,
            scale: (1.0 / (depth as f64).sqrt()) as f32,
            mask: Mask::None,
            relative: None,
        })?;
        let x = self.attention_out.record_onto(recording, mixed, 1.0, x)?;
        let normed = self.feed_norm.record(recording, x)?;
        let hidden = self.feed_in.record(recording, normed, encoder.activation)?;
        self.feed_out.record_onto(recording, hidden, 1.0, x)
    }
}
