//! The conformer encoder of the FBK speech models, and their loading.
//!
//! Two strided convolutions with gated linear units, then blocks of two half
//! feed-forwards around relative self-attention and a convolution module.

use super::checkpoint::{Checkpoint, PROJECTION, TensorList, standard_name};
use super::config::Config;
use super::decoder::{Decoder, DecoderConfig, DecoderDefaults, Positions};
use super::family::{Capabilities, Family};
use super::files::ModelFiles;
use super::layers::{
    Convolution, EPS, LastPositions, Linear, Norm, halved_positions, interleaved_positions,
};
use super::loader::Loader;
use super::subsampler::{Subsampler, SubsamplerSizes};
use super::{Encoder, FIRST_POSITION, Parts};
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Columns, Shape, TensorId, WeightId};
use crate::engine::weights::{Form, Part, WeightTable};
use crate::ops::{Activation, AttentionSpec, Gate, Mask, Relative};

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "ConformerEncoderDecoderForConditionalGeneration";

/// What this file offers.
pub(super) const FAMILY: Family = Family {
    architecture: ARCHITECTURE,
    model_type: "conformer_encoder_decoder",
    tensors,
    read,
};

struct Conformer {
    mel_bins: usize,
    width: usize,
    heads: usize,
    half_step: f32,
    max_frames: usize,
    subsampler: Subsampler,
    blocks: Vec<Block>,
    last_positions: LastPositions,
}

struct Block {
    first_feed_forward: FeedForward,
    attention_norm: Norm,
    /// Queries, keys and values, (3D, D).
    projections: Linear,
    positions: Linear,
    /// u and v, (2, D)
    biases: WeightId,
    attention_out: Linear,
    convolution_norm: Norm,
    pointwise_in: Linear,
    /// (k, D), batch norm folded in
    depthwise: WeightId,
    /// (1, D), from the folded batch norm
    depthwise_bias: WeightId,
    pointwise_out: Linear,
    second_feed_forward: FeedForward,
    norm: Norm,
}

struct FeedForward {
    norm: Norm,
    linear_in: Linear,
    linear_out: Linear,
}

/// Sizes from `config.json`.
struct Sizes {
    width: usize,
    layers: usize,
    heads: usize,
    feed_forward: usize,
    kernel: usize,
    max_frames: usize,
    half_step: f32,
    subsampler: SubsamplerSizes,
    decoder: DecoderConfig,
}

impl Sizes {
    fn read(config: &Config, own_projection: bool) -> Result<Self> {
        let width = config.size("d_model")?;
        if width % 2 != 0 {
            return Err(config.wrong("d_model", "an even number"));
        }
        let kernel = config.size_or("conformer_conv_kernel_size", 31)?;
        if kernel % 2 == 0 {
            return Err(config.wrong("conformer_conv_kernel_size", "an odd number"));
        }
        if config.size_or("conv_expansion_factor", 2)? != 2 {
            return Err(config.wrong("conv_expansion_factor", "2"));
        }
        let half_step = config.flag("conformer_half_step_residual", true)?;
        Ok(Self {
            width,
            layers: config.layers("encoder_layers")?,
            heads: config.heads("encoder_attention_heads", width)?,
            feed_forward: width * config.size_or("feed_forward_expansion_factor", 4)?,
            kernel,
            max_frames: config.size("max_source_positions")?,
            half_step: if half_step { 0.5 } else { 1.0 },
            subsampler: SubsamplerSizes::read(config, width, "encoder.subsample.conv_layers")?,
            decoder: DecoderConfig::read(
                config,
                own_projection,
                DecoderDefaults {
                    activation: Activation::Relu,
                    scaled: Some(true),
                    key_bias: true,
                },
            )?,
        })
    }

    fn list(&self) -> TensorList {
        let mut all = TensorList::default();
        let list = &mut all;
        let width = self.width;
        self.subsampler.list(list);
        for l in 0..self.layers {
            let block = format!("encoder.conformer_layers.{l}");
            for feed in ["first_feed_forward", "second_feed_forward"] {
                list.norm(&format!("{block}.{feed}.layernorm"), width);
                list.linear(
                    &format!("{block}.{feed}.first_linear"),
                    self.feed_forward,
                    width,
                );
                list.linear(
                    &format!("{block}.{feed}.second_linear"),
                    width,
                    self.feed_forward,
                );
            }
            list.norm(&format!("{block}.attention.layer_norm"), width);
            let attention = format!("{block}.attention.attention");
            for projection in ["query_proj", "key_proj", "value_proj", "out_proj"] {
                list.linear(&format!("{attention}.{projection}"), width, width);
            }
            list.weight(format!("{attention}.pos_proj.weight"), &[width, width]);
            for bias in ["u_bias", "v_bias"] {
                let shape = [self.heads, width / self.heads];
                list.bias(format!("{attention}.{bias}"), &shape);
            }
            let module = format!("{block}.conv_module");
            list.norm(&format!("{module}.layernorm"), width);
            Convolution::list(
                list,
                &format!("{module}.first_pointwise_conv1d"),
                2 * width,
                width,
                1,
            );
            list.weight(
                format!("{module}.depthwise_conv1d.weight"),
                &[width, 1, self.kernel],
            );
            list.batch_norm(&format!("{module}.batchnorm"), width);
            Convolution::list(
                list,
                &format!("{module}.second_pointwise_conv1d"),
                width,
                width,
                1,
            );
            list.norm(&format!("{block}.layernorm"), width);
        }
        Decoder::list(list, &self.decoder);
        all
    }
}

/// The tensors that an FBK conformer consists of.
///
/// # Errors
/// If the config does not make sense.
fn tensors(config: &Config, own_projection: bool) -> Result<TensorList> {
    Ok(Sizes::read(config, own_projection)?.list())
}

/// Tensors that such files carry and inference does not use.
fn ignored(name: &str) -> bool {
    name.ends_with(".positional_encoding.pe")
        || name.ends_with(".num_batches_tracked")
        || name.starts_with("encoder.ctc_fc.")
        || name.starts_with("auxiliary_decoder.")
        || name.starts_with("decoder.embed_positions.")
        || name.ends_with("_float_tensor")
        || name.ends_with(".version")
        || name == "version"
}

/// Reads an FBK conformer model.
///
/// # Errors
/// If the config does not make sense or the weights do not fit it.
fn read(files: &ModelFiles, config: &Config) -> Result<Parts> {
    let mut checkpoint = Checkpoint::open(files, config, standard_name)?;
    let sizes = Sizes::read(config, checkpoint.contains(PROJECTION))?;
    let width = sizes.width;
    checkpoint.check(&sizes.list(), ignored)?;

    let mut table = WeightTable::default();
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Encoder);
    let scale = (width as f64).sqrt() as f32;
    let subsampler = sizes.subsampler.load(&mut loader, scale)?;
    let blocks = (0..sizes.layers)
        .map(|l| Block::read(&mut loader, &sizes, l))
        .collect::<Result<_>>()?;
    let encoder = Conformer {
        mel_bins: sizes.subsampler.mel_bins,
        width,
        heads: sizes.heads,
        half_step: sizes.half_step,
        max_frames: sizes.max_frames,
        subsampler,
        blocks,
        last_positions: LastPositions::default(),
    };
    let positions = halved_positions(sizes.decoder.max_tokens, width, FIRST_POSITION);
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Decoder);
    let decoder = Decoder::read(&mut loader, sizes.decoder, Positions::Computed(positions))?;
    Ok(Parts {
        capabilities: Capabilities::plain("FBK conformer"),
        encoder: Box::new(encoder),
        decoder,
        weights: table,
    })
}

impl FeedForward {
    fn read(loader: &mut Loader, name: &str, sizes: &Sizes) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        let inner = sizes.feed_forward;
        Ok(Self {
            norm: Norm::read(loader, &part("layernorm"))?,
            linear_in: Linear::read(loader, &[&part("first_linear")], sizes.width)?,
            linear_out: Linear::read(loader, &[&part("second_linear")], inner)?,
        })
    }

    /// x + scale · W2 silu(W1 norm(x))
    fn record(&self, recording: &mut Recording, x: TensorId, scale: f32) -> Result<TensorId> {
        let normed = self.norm.record(recording, x)?;
        let hidden = self.linear_in.record(recording, normed, Activation::Silu)?;
        self.linear_out.record_onto(recording, hidden, scale, x)
    }
}

impl Block {
    fn read(loader: &mut Loader, sizes: &Sizes, l: usize) -> Result<Self> {
        let width = sizes.width;
        let name = |part: &str| format!("encoder.conformer_layers.{l}.{part}");
        let attention = |part: &str| name(&format!("attention.attention.{part}"));
        let projections = ["query_proj", "key_proj", "value_proj"].map(attention);
        let projections = projections.each_ref().map(String::as_str);
        let mut biases = loader.read(&attention("u_bias"))?;
        biases.extend(loader.read(&attention("v_bias"))?);
        let (depthwise, depthwise_bias) = fold_batch_norm(loader, &name("conv_module"), sizes)?;
        let norm = |loader: &mut Loader, part: &str| Norm::read(loader, &name(part));
        let feed_forward =
            |loader: &mut Loader, part: &str| FeedForward::read(loader, &name(part), sizes);
        let pointwise =
            |loader: &mut Loader, part: &str| Linear::read(loader, &[&name(part)], width);
        Ok(Self {
            first_feed_forward: feed_forward(loader, "first_feed_forward")?,
            attention_norm: norm(loader, "attention.layer_norm")?,
            projections: Linear::read(loader, &projections, width)?,
            positions: Linear::read(loader, &[&attention("pos_proj")], width)?,
            biases: loader.add(Form::Bias, attention("u_bias, v_bias"), 2, width, biases),
            attention_out: Linear::read(loader, &[&attention("out_proj")], width)?,
            convolution_norm: norm(loader, "conv_module.layernorm")?,
            pointwise_in: pointwise(loader, "conv_module.first_pointwise_conv1d")?,
            depthwise,
            depthwise_bias,
            pointwise_out: pointwise(loader, "conv_module.second_pointwise_conv1d")?,
            second_feed_forward: feed_forward(loader, "second_feed_forward")?,
            norm: norm(loader, "layernorm")?,
        })
    }

    fn record(
        &self,
        recording: &mut Recording,
        encoder: &Conformer,
        table: TensorId,
        x: TensorId,
    ) -> Result<TensorId> {
        let width = encoder.width;
        let x = self
            .first_feed_forward
            .record(recording, x, encoder.half_step)?;

        let normed = self.attention_norm.record(recording, x)?;
        let projections = self
            .projections
            .record(recording, normed, Activation::None)?;
        let positions = self.positions.record(recording, table, Activation::None)?;
        let part = |offset| Columns {
            tensor: projections,
            offset,
        };
        let relative = Relative {
            positions,
            biases: recording.weight(self.biases),
        };
        let (mixed, _) = recording.attention(AttentionSpec {
            query: part(0),
            key: part(width),
            value: part(2 * width),
            heads: encoder.heads,
            width,
            // By the model's width, not the head's: as the reference does it.
            scale: (1.0 / (width as f64).sqrt()) as f32,
            mask: Mask::None,
            relative: Some(relative),
        })?;
        let x = self.attention_out.record_onto(recording, mixed, 1.0, x)?;

        let normed = self.convolution_norm.record(recording, x)?;
        let gated = self
            .pointwise_in
            .record(recording, normed, Activation::None)?;
        let gated = recording.glu(gated, Gate::Sigmoid, 1.0)?;
        let weight = recording.weight(self.depthwise);
        let bias = recording.weight(self.depthwise_bias);
        let mixed = recording.depthwise(gated, weight, bias, Activation::Silu)?;
        let x = self.pointwise_out.record_onto(recording, mixed, 1.0, x)?;

        let x = self
            .second_feed_forward
            .record(recording, x, encoder.half_step)?;
        self.norm.record(recording, x)
    }
}

/// Depthwise weights (k, D) and bias (1, D) with the batch norm that follows
/// folded in: w' = w·g, b' = bias - mean·g, g = weight / sqrt(var + eps).
fn fold_batch_norm(
    loader: &mut Loader,
    module: &str,
    sizes: &Sizes,
) -> Result<(WeightId, WeightId)> {
    let norm = |part: &str| loader.read(&format!("{module}.batchnorm.{part}"));
    let (weight, bias) = (norm("weight")?, norm("bias")?);
    let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
    let name = format!("{module}.depthwise_conv1d.weight");
    let kernel = loader.read(&name)?;
    let (width, taps) = (sizes.width, sizes.kernel);
    let gain: Vec<f64> = weight
        .iter()
        .zip(&variance)
        .map(|(&weight, &variance)| {
            f64::from(weight) / (f64::from(variance) + f64::from(EPS)).sqrt()
        })
        .collect();
    let mut folded = vec![0.0; taps * width];
    let mut offset = vec![0.0; width];
    for c in 0..width {
        for j in 0..taps {
            folded[j * width + c] = (f64::from(kernel[c * taps + j]) * gain[c]) as f32;
        }
        offset[c] = (f64::from(bias[c]) - f64::from(mean[c]) * gain[c]) as f32;
    }
    let bias = format!("{name} bias");
    Ok((
        loader.add(Form::Depthwise, name, taps, width, folded),
        loader.add(Form::Bias, bias, 1, width, offset),
    ))
}

impl Encoder for Conformer {
    fn mel_bins(&self) -> usize {
        self.mel_bins
    }

    fn max_frames(&self) -> usize {
        self.max_frames
    }

    fn encoder_frames(&self, frames: usize) -> usize {
        self.subsampler.frames(frames)
    }

    fn subsampling(&self) -> usize {
        self.subsampler.stride()
    }

    fn record(&self, recording: &mut Recording, features: TensorId) -> Result<TensorId> {
        let mut x = self.subsampler.record(recording, features)?;
        let (frames, width) = (recording.shape(x).rows, self.width);
        let make = || interleaved_positions(frames, width);
        let table = self.last_positions.get(frames, make);
        let table = recording.constant(Shape::new(1, frames, width), table);
        for block in &self.blocks {
            x = block.record(recording, self, table, x)?;
        }
        Ok(x)
    }
}
