//! The block that all conformers consist of: two half feed-forwards around
//! relative self-attention and a convolution module, and a norm.

use super::checkpoint::TensorList;
use super::layers::{EPS, Linear, Norm};
use super::loader::Loader;
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Columns, TensorId, WeightId};
use crate::engine::weights::Form;
use crate::ops::{Activation, AttentionSpec, Gate, Mask, Relative};

/// What the parts of a block are called.
pub struct BlockNames {
    pub feed_forwards: [FeedForwardNames; 2],
    pub attention_norm: &'static str,
    /// Queries, keys, values and what comes out.
    pub projections: [&'static str; 4],
    pub positions: &'static str,
    /// u and v
    pub biases: [&'static str; 2],
    pub convolution_norm: &'static str,
    pub pointwise: [&'static str; 2],
    pub depthwise: &'static str,
    pub batch_norm: &'static str,
    pub norm: &'static str,
}

/// What the parts of a feed-forward are called.
pub struct FeedForwardNames {
    pub norm: &'static str,
    pub linear: [&'static str; 2],
}

/// Sizes and variants of the blocks of an encoder.
pub struct BlockSizes {
    /// D
    pub width: usize,
    pub heads: usize,
    /// Columns between the two products of a feed-forward.
    pub feed_forward: usize,
    /// Taps of the depthwise convolution, an odd number.
    pub kernel: usize,
    /// What a feed-forward counts beside what it is added to.
    pub step: f32,
    /// Factor of the scores of attention.
    pub scale: f32,
    /// Whether feed-forwards and projections have biases.
    pub linear_bias: bool,
    /// Whether the pointwise convolutions have biases.
    pub pointwise_bias: bool,
    /// Whether the depthwise convolution has a bias beside its norm's.
    pub depthwise_bias: bool,
    pub names: &'static BlockNames,
}

/// A block's weights.
pub struct Block {
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

impl BlockSizes {
    /// Lists the tensors of the block `name`.
    pub fn list(&self, list: &mut TensorList, name: &str) {
        let (names, width) = (self.names, self.width);
        let part = |part: &str| format!("{name}.{part}");
        let pair = |list: &mut TensorList, own: &str, shape: &[usize], bias: bool| {
            list.weight(part(&format!("{own}.weight")), shape);
            if bias {
                list.bias(part(&format!("{own}.bias")), &shape[..1]);
            }
        };
        for own in &names.feed_forwards {
            list.norm(&part(own.norm), width);
            let inner = self.feed_forward;
            pair(list, own.linear[0], &[inner, width], self.linear_bias);
            pair(list, own.linear[1], &[width, inner], self.linear_bias);
        }
        list.norm(&part(names.attention_norm), width);
        for own in names.projections {
            pair(list, own, &[width, width], self.linear_bias);
        }
        pair(list, names.positions, &[width, width], false);
        for own in names.biases {
            list.bias(part(own), &[self.heads, width / self.heads]);
        }
        list.norm(&part(names.convolution_norm), width);
        let [first, second] = names.pointwise;
        pair(list, first, &[2 * width, width, 1], self.pointwise_bias);
        let kernel = [width, 1, self.kernel];
        pair(list, names.depthwise, &kernel, self.depthwise_bias);
        list.batch_norm(&part(names.batch_norm), width);
        pair(list, second, &[width, width, 1], self.pointwise_bias);
        list.norm(&part(names.norm), width);
    }

    /// Reads the block `name`.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn read(&self, loader: &mut Loader, name: &str) -> Result<Block> {
        let (names, width) = (self.names, self.width);
        let part = |part: &str| format!("{name}.{part}");
        let [query, key, value, out] = names.projections.map(part);
        let mut biases = loader.read(&part(names.biases[0]))?;
        biases.extend(loader.read(&part(names.biases[1]))?);
        let (depthwise, depthwise_bias) = self.fold_batch_norm(loader, name)?;
        let norm = |loader: &mut Loader, own: &str| Norm::read(loader, &part(own));
        let linear = |loader: &mut Loader, own: &str| Linear::read(loader, &[&part(own)], width);
        let [first, second] = &names.feed_forwards;
        let [pointwise_in, pointwise_out] = names.pointwise;
        let [u, v] = names.biases.map(part);
        let both = format!("{u}, {}", v.rsplit('.').next().unwrap_or(&v));
        Ok(Block {
            first_feed_forward: self.feed_forward(loader, name, first)?,
            attention_norm: norm(loader, names.attention_norm)?,
            projections: Linear::read(loader, &[&query, &key, &value], width)?,
            positions: linear(loader, names.positions)?,
            biases: loader.add(Form::Bias, both, 2, width, biases),
            attention_out: Linear::read(loader, &[&out], width)?,
            convolution_norm: norm(loader, names.convolution_norm)?,
            pointwise_in: linear(loader, pointwise_in)?,
            depthwise,
            depthwise_bias,
            pointwise_out: linear(loader, pointwise_out)?,
            second_feed_forward: self.feed_forward(loader, name, second)?,
            norm: norm(loader, names.norm)?,
        })
    }

    fn feed_forward(
        &self,
        loader: &mut Loader,
        name: &str,
        names: &FeedForwardNames,
    ) -> Result<FeedForward> {
        let part = |part: &str| format!("{name}.{part}");
        let [into, out] = names.linear.map(part);
        Ok(FeedForward {
            norm: Norm::read(loader, &part(names.norm))?,
            linear_in: Linear::read(loader, &[&into], self.width)?,
            linear_out: Linear::read(loader, &[&out], self.feed_forward)?,
        })
    }

    /// Depthwise weights (k, D) and bias (1, D) with the batch norm that follows
    /// folded in: w' = w·g, b' = (b - mean)·g + bias, g = weight / sqrt(var + eps).
    fn fold_batch_norm(&self, loader: &mut Loader, block: &str) -> Result<(WeightId, WeightId)> {
        let norm = |part: &str| loader.read(&format!("{block}.{}.{part}", self.names.batch_norm));
        let (weight, bias) = (norm("weight")?, norm("bias")?);
        let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
        let own = format!("{block}.{}", self.names.depthwise);
        let name = format!("{own}.weight");
        let kernel = loader.read(&name)?;
        let (width, taps) = (self.width, self.kernel);
        let before = match self.depthwise_bias {
            true => loader.read(&format!("{own}.bias"))?,
            false => vec![0.0; width],
        };
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
            let before = f64::from(before[c]) - f64::from(mean[c]);
            offset[c] = (f64::from(bias[c]) + before * gain[c]) as f32;
        }
        let bias = format!("{name} bias");
        Ok((
            loader.add(Form::Depthwise, name, taps, width, folded),
            loader.add(Form::Bias, bias, 1, width, offset),
        ))
    }
}

impl FeedForward {
    /// x + scale · W2 silu(W1 norm(x))
    fn record(&self, recording: &mut Recording, x: TensorId, scale: f32) -> Result<TensorId> {
        let normed = self.norm.record(recording, x)?;
        let hidden = self.linear_in.record(recording, normed, Activation::Silu)?;
        self.linear_out.record_onto(recording, hidden, scale, x)
    }
}

impl Block {
    /// Records x (N, T', D) to the block's output; `table` holds the encodings of
    /// positions, as [`Relative`] wants them before they are projected.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn record(
        &self,
        recording: &mut Recording,
        sizes: &BlockSizes,
        table: TensorId,
        x: TensorId,
    ) -> Result<TensorId> {
        let width = sizes.width;
        let x = self.first_feed_forward.record(recording, x, sizes.step)?;

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
            heads: sizes.heads,
            width,
            scale: sizes.scale,
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

        let x = self.second_feed_forward.record(recording, x, sizes.step)?;
        self.norm.record(recording, x)
    }
}
