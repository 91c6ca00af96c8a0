//! The FastConformer encoder: convolutions over the spectrogram's plane that
//! leave one frame of several, then a conformer's blocks whose attention knows
//! the distance to what comes after, too.

use super::Encoder;
use super::checkpoint::TensorList;
use super::config::Config;
use super::conformer_block::{Block, BlockNames, BlockSizes, FeedForwardNames};
use super::layers::{LastPositions, Linear, two_sided_positions};
use super::loader::Loader;
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId, WeightId};
use crate::engine::weights::Form;
use crate::features::Kind;
use crate::ops::{Activation, Plane, Windows};

const NAMES: BlockNames = BlockNames {
    feed_forwards: [
        FeedForwardNames {
            norm: "norm_feed_forward1",
            linear: ["feed_forward1.linear1", "feed_forward1.linear2"],
        },
        FeedForwardNames {
            norm: "norm_feed_forward2",
            linear: ["feed_forward2.linear1", "feed_forward2.linear2"],
        },
    ],
    attention_norm: "norm_self_att",
    projections: [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
    ],
    positions: "self_attn.relative_k_proj",
    biases: ["self_attn.bias_u", "self_attn.bias_v"],
    convolution_norm: "norm_conv",
    pointwise: ["conv.pointwise_conv1", "conv.pointwise_conv2"],
    depthwise: "conv.depthwise_conv",
    batch_norm: "conv.norm",
    norm: "norm_out",
};

/// The name of a convolution of the plane.
fn convolution(n: usize) -> String {
    format!("encoder.subsampling.layers.{n}")
}

/// What takes the plane's frames to the blocks' columns.
const LINEAR: &str = "encoder.subsampling.linear";

/// The name of block `l`.
fn block(l: usize) -> String {
    format!("encoder.layers.{l}")
}

/// Plane convolutions beyond this leave nothing of any sound.
const MOST_CONVOLUTIONS: u32 = 16;

/// Sizes from `encoder_config`.
pub struct FastConformerSizes {
    layers: usize,
    max_frames: usize,
    /// F
    mel_bins: usize,
    channels: usize,
    /// Of each convolution, along both sides of the plane.
    windows: Windows,
    /// How many there are.
    convolutions: usize,
    /// Bins that they leave.
    bins: usize,
    /// What their result is multiplied by.
    input_scale: f32,
    block: BlockSizes,
}

/// What a family's encoder is where its config does not say.
pub struct Usual {
    pub mel_bins: usize,
    /// Whether the convolutions' result is multiplied by the root of D.
    pub scaled: bool,
}

/// The encoder's weights.
pub struct FastConformer {
    sizes: FastConformerSizes,
    hears_by: Kind,
    first: PlaneConvolution,
    others: Vec<(PlaneConvolution, Linear)>,
    /// (D, bins · channels)
    linear: Linear,
    blocks: Vec<Block>,
    last_positions: LastPositions,
}

/// A convolution that mixes no channels: (k·k, C) and (1, C).
struct PlaneConvolution {
    weight: WeightId,
    bias: WeightId,
}

impl FastConformerSizes {
    /// Reads an `encoder_config`.
    ///
    /// # Errors
    /// If a field is missing or wrong, or asks for what is not done.
    pub fn read(config: &Config, usual: Usual) -> Result<Self> {
        config.only("model_type", "parakeet_encoder")?;
        let width = config.size("hidden_size")?;
        if width % 2 != 0 {
            return Err(config.wrong("hidden_size", "an even number"));
        }
        let heads = config.heads("num_attention_heads", width)?;
        config.own_keys("num_key_value_heads", heads)?;
        config.only("head_dim", width / heads)?;
        if config.activation("hidden_act", Activation::Silu)? != Activation::Silu {
            return Err(config.wrong("hidden_act", "silu"));
        }
        let kernel = config.size_or("conv_kernel_size", 9)?;
        if kernel % 2 == 0 {
            return Err(config.wrong("conv_kernel_size", "an odd number"));
        }
        let size = config.size_or("subsampling_conv_kernel_size", 3)?;
        let windows = Windows::padded(
            size,
            config.size_or("subsampling_conv_stride", 2)?,
            (size - 1) / 2,
        );
        // As the reference counts them, whatever the stride is.
        let factor = config.size_or("subsampling_factor", 8)?;
        let convolutions = factor.ilog2();
        if !(1..=MOST_CONVOLUTIONS).contains(&convolutions) {
            return Err(config.wrong("subsampling_factor", "a number from 2 to 65536"));
        }
        let convolutions = convolutions as usize;
        let mel_bins = config.size_or("num_mel_bins", usual.mel_bins)?;
        let left = |bins: Option<usize>, _| bins.and_then(|bins| windows.count(bins));
        let bins = (0..convolutions).fold(Some(mel_bins), left);
        // The linear layer behind is made for bins that divide, and fits no others.
        let stride = windows.stride.checked_pow(convolutions as u32);
        let expected = stride.map(|stride| mel_bins / stride);
        let Some(bins) = bins.filter(|&bins| bins > 0 && Some(bins) == expected) else {
            let right = format!(
                "a number that {convolutions} convolutions of kernel {size} and stride {} divide \
                 without a rest",
                windows.stride
            );
            return Err(config.wrong("num_mel_bins", &right));
        };
        let stride = stride.unwrap_or(1);
        let positions = config.size_or("max_position_embeddings", 5000)?;
        let scaled = config.flag("scale_input", usual.scaled)?;
        let linear_bias = config.flag("attention_bias", true)?;
        let convolution_bias = config.flag("convolution_bias", true)?;
        Ok(Self {
            layers: config.layers("num_hidden_layers")?,
            max_frames: positions.saturating_mul(stride),
            mel_bins,
            channels: config.size_or("subsampling_conv_channels", 256)?,
            windows,
            convolutions,
            bins,
            input_scale: match scaled {
                true => (width as f64).sqrt() as f32,
                false => 1.0,
            },
            block: BlockSizes {
                width,
                heads,
                feed_forward: config.size("intermediate_size")?,
                kernel,
                step: 0.5,
                scale: (1.0 / ((width / heads) as f64).sqrt()) as f32,
                linear_bias,
                pointwise_bias: convolution_bias,
                depthwise_bias: convolution_bias,
                names: &NAMES,
            },
        })
    }

    /// D
    pub fn width(&self) -> usize {
        self.block.width
    }

    /// The names of the convolutions behind the first, depthwise and pointwise;
    /// activations have numbers in between.
    fn others(&self) -> impl Iterator<Item = (String, String)> {
        let others = 1..self.convolutions;
        others.map(|n| (convolution(3 * n - 1), convolution(3 * n)))
    }

    /// Lists the tensors.
    pub fn list(&self, list: &mut TensorList) {
        let (channels, kernel) = (self.channels, self.windows.kernel);
        let plane = |list: &mut TensorList, name: &str| {
            list.weight(format!("{name}.weight"), &[channels, 1, kernel, kernel]);
            list.bias(format!("{name}.bias"), &[channels]);
        };
        plane(list, &convolution(0));
        for (depthwise, pointwise) in self.others() {
            plane(list, &depthwise);
            let shape = [channels, channels, 1, 1];
            list.weight(format!("{pointwise}.weight"), &shape);
            list.bias(format!("{pointwise}.bias"), &[channels]);
        }
        list.linear(LINEAR, self.width(), channels * self.bins);
        for l in 0..self.layers {
            self.block.list(list, &block(l));
        }
    }

    /// Reads the weights of an encoder with a front end of this kind.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn load(self, loader: &mut Loader, hears_by: Kind) -> Result<FastConformer> {
        let others = self.others().map(|(depthwise, pointwise)| {
            let depthwise = self.plane_convolution(loader, &depthwise)?;
            let pointwise = Linear::read(loader, &[&pointwise], self.channels)?;
            Ok((depthwise, pointwise))
        });
        let others = others.collect::<Result<_>>()?;
        let blocks = (0..self.layers).map(|l| self.block.read(loader, &block(l)));
        Ok(FastConformer {
            blocks: blocks.collect::<Result<_>>()?,
            first: self.plane_convolution(loader, &convolution(0))?,
            others,
            linear: self.linear(loader)?,
            sizes: self,
            hears_by,
            last_positions: LastPositions::default(),
        })
    }

    /// Channels are the faster ones here, so weights (C, 1, k, k) are turned.
    fn plane_convolution(&self, loader: &mut Loader, name: &str) -> Result<PlaneConvolution> {
        let (channels, taps) = (self.channels, self.windows.kernel.pow(2));
        let weight = format!("{name}.weight");
        let turned = turned(&loader.read(&weight)?, channels, taps);
        let bias = format!("{name}.bias");
        Ok(PlaneConvolution {
            weight: loader.add(Form::Depthwise, weight, taps, channels, turned),
            bias: loader.load(Form::Bias, &bias, 1, channels)?,
        })
    }

    /// A frame's bins are side by side here with the channels of each, where the
    /// file has channels with the bins of each.
    fn linear(&self, loader: &mut Loader) -> Result<Linear> {
        let (width, inputs) = (self.width(), self.channels * self.bins);
        let name = format!("{LINEAR}.weight");
        let rows = loader.read(&name)?;
        let rows = rows.chunks(inputs);
        let weight: Vec<f32> = rows
            .flat_map(|row| turned(row, self.channels, self.bins))
            .collect();
        let bias = loader.load(Form::Bias, &format!("{LINEAR}.bias"), 1, width)?;
        Ok(Linear {
            weight: loader.add(Form::Matrix, name, width, inputs, weight),
            bias: Some(bias),
        })
    }
}

/// The transpose of (rows, cols).
fn turned(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let places = (0..cols).flat_map(|col| (0..rows).map(move |row| row * cols + col));
    places.map(|at| values[at]).collect()
}

impl FastConformer {
    /// Records features (N, T, F) to (N, T', D).
    fn record_subsampling(
        &self,
        recording: &mut Recording,
        features: TensorId,
    ) -> Result<TensorId> {
        let (sizes, windows) = (&self.sizes, self.sizes.windows);
        let of = |recording: &mut Recording, own: &PlaneConvolution| {
            [own.weight, own.bias].map(|id| recording.weight(id))
        };
        let [weight, bias] = of(recording, &self.first);
        let relu = Activation::Relu;
        let (mut x, mut plane): (TensorId, Plane) =
            recording.convolution_2d(features, weight, bias, windows, relu)?;
        for (depthwise, pointwise) in &self.others {
            let [weight, bias] = of(recording, depthwise);
            (x, plane) = recording.depthwise_2d((x, plane), weight, bias, windows)?;
            x = pointwise.record(recording, x, relu)?;
        }
        // All bins of a frame are one window of the plane's rows.
        let frames = Windows::padded(plane.bins, plane.bins, 0);
        let weight = recording.weight(self.linear.weight);
        let bias = self.linear.bias.map(|id| recording.weight(id));
        let product = recording.matmul(x, weight).windows(frames).bias(bias);
        product.scale(sizes.input_scale).record()
    }
}

impl Encoder for FastConformer {
    fn mel_bins(&self) -> usize {
        self.sizes.mel_bins
    }

    fn max_frames(&self) -> usize {
        self.sizes.max_frames
    }

    fn hears_by(&self) -> Kind {
        self.hears_by
    }

    fn encoder_frames(&self, frames: usize) -> usize {
        let count = |frames, _| self.sizes.windows.count(frames).unwrap_or(0);
        (0..self.sizes.convolutions).fold(frames, count)
    }

    fn subsampling(&self) -> usize {
        self.sizes
            .windows
            .stride
            .pow(self.sizes.convolutions as u32)
    }

    fn record(&self, recording: &mut Recording, features: TensorId) -> Result<TensorId> {
        let mut x = self.record_subsampling(recording, features)?;
        let (frames, width) = (recording.shape(x).rows, self.sizes.width());
        let make = || two_sided_positions(frames, width);
        let table = self.last_positions.get(frames, make);
        let table = recording.constant(Shape::new(1, 2 * frames - 1, width), table);
        for block in &self.blocks {
            x = block.record(recording, &self.sizes.block, table, x)?;
        }
        Ok(x)
    }
}
