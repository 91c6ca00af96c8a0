//! The conformer encoder of the FBK speech models, and their loading: two
//! strided convolutions with gated linear units, then the blocks.

use super::checkpoint::{Checkpoint, PROJECTION, TensorList, standard_name};
use super::config::Config;
use super::conformer_block::{Block, BlockNames, BlockSizes, FeedForwardNames};
use super::decoder::{Decoder, DecoderConfig, DecoderDefaults, Positions};
use super::family::{Capabilities, Family};
use super::files::ModelFiles;
use super::layers::{LastPositions, halved_positions, interleaved_positions};
use super::loader::Loader;
use super::subsampler::{Subsampler, SubsamplerSizes};
use super::{Encoder, FIRST_POSITION, Parts};
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};
use crate::engine::weights::{Part, WeightTable};
use crate::ops::Activation;

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "ConformerEncoderDecoderForConditionalGeneration";

/// What this file offers.
pub(super) const FAMILY: Family = Family {
    architecture: ARCHITECTURE,
    model_type: "conformer_encoder_decoder",
    tied: true,
    tensors,
    read,
};

const NAMES: BlockNames = BlockNames {
    feed_forwards: [
        FeedForwardNames {
            norm: "first_feed_forward.layernorm",
            linear: [
                "first_feed_forward.first_linear",
                "first_feed_forward.second_linear",
            ],
        },
        FeedForwardNames {
            norm: "second_feed_forward.layernorm",
            linear: [
                "second_feed_forward.first_linear",
                "second_feed_forward.second_linear",
            ],
        },
    ],
    attention_norm: "attention.layer_norm",
    projections: [
        "attention.attention.query_proj",
        "attention.attention.key_proj",
        "attention.attention.value_proj",
        "attention.attention.out_proj",
    ],
    positions: "attention.attention.pos_proj",
    biases: ["attention.attention.u_bias", "attention.attention.v_bias"],
    convolution_norm: "conv_module.layernorm",
    pointwise: [
        "conv_module.first_pointwise_conv1d",
        "conv_module.second_pointwise_conv1d",
    ],
    depthwise: "conv_module.depthwise_conv1d",
    batch_norm: "conv_module.batchnorm",
    norm: "layernorm",
};

struct Conformer {
    mel_bins: usize,
    max_frames: usize,
    subsampler: Subsampler,
    sizes: BlockSizes,
    blocks: Vec<Block>,
    last_positions: LastPositions,
}

/// Sizes from `config.json`.
struct Sizes {
    layers: usize,
    max_frames: usize,
    subsampler: SubsamplerSizes,
    block: BlockSizes,
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
            layers: config.layers("encoder_layers")?,
            max_frames: config.size("max_source_positions")?,
            subsampler: SubsamplerSizes::read(config, width, "encoder.subsample.conv_layers")?,
            block: BlockSizes {
                width,
                heads: config.heads("encoder_attention_heads", width)?,
                feed_forward: width * config.size_or("feed_forward_expansion_factor", 4)?,
                kernel,
                step: if half_step { 0.5 } else { 1.0 },
                // By the model's width, not the head's: as the reference does it.
                scale: (1.0 / (width as f64).sqrt()) as f32,
                linear_bias: true,
                pointwise_bias: true,
                depthwise_bias: false,
                names: &NAMES,
            },
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
        self.subsampler.list(&mut all);
        for l in 0..self.layers {
            self.block.list(&mut all, &block(l));
        }
        Decoder::list(&mut all, &self.decoder);
        all
    }
}

/// The name of block `l`.
fn block(l: usize) -> String {
    format!("encoder.conformer_layers.{l}")
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
    let width = sizes.block.width;
    checkpoint.check(&sizes.list(), ignored)?;

    let mut table = WeightTable::default();
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Encoder);
    let scale = (width as f64).sqrt() as f32;
    let subsampler = sizes.subsampler.load(&mut loader, scale)?;
    let blocks = (0..sizes.layers)
        .map(|l| sizes.block.read(&mut loader, &block(l)))
        .collect::<Result<_>>()?;
    let encoder = Conformer {
        mel_bins: sizes.subsampler.mel_bins,
        max_frames: sizes.max_frames,
        subsampler,
        sizes: sizes.block,
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
        let (frames, width) = (recording.shape(x).rows, self.sizes.width);
        let make = || interleaved_positions(frames, width);
        let table = self.last_positions.get(frames, make);
        let table = recording.constant(Shape::new(1, frames, width), table);
        for block in &self.blocks {
            x = block.record(recording, &self.sizes, table, x)?;
        }
        Ok(x)
    }
}
