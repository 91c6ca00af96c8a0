//! The strided convolutions with which the filter-bank families begin: each
//! halves the frames and is followed by a gated linear unit over channels.

use super::checkpoint::TensorList;
use super::config::Config;
use super::layers::Convolution;
use super::loader::Loader;
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;
use crate::ops::{Activation, Gate};

const STRIDE: usize = 2;

/// Layers beyond this leave nothing of any sound.
const MOST_LAYERS: usize = 24;

/// Sizes from `config.json`.
pub struct SubsamplerSizes {
    /// F
    pub mel_bins: usize,
    channels: usize,
    kernels: Vec<usize>,
    /// D
    width: usize,
    /// What the layers' names begin with.
    prefix: &'static str,
}

/// The convolutions' weights.
pub struct Subsampler {
    convolutions: Vec<Convolution>,
    scale: f32,
}

impl SubsamplerSizes {
    /// Reads `input_feat_per_channel`, `conv_channels` and
    /// `conv_kernel_sizes` for a model of `width` columns.
    ///
    /// # Errors
    /// If a field is missing or wrong.
    pub fn read(config: &Config, width: usize, prefix: &'static str) -> Result<Self> {
        let channels = config.size("conv_channels")?;
        if channels % 2 != 0 {
            return Err(config.wrong("conv_channels", "an even number"));
        }
        let kernels = config.sizes("conv_kernel_sizes")?;
        if kernels.is_empty() || kernels.iter().any(|kernel| kernel % 2 == 0) {
            return Err(config.wrong("conv_kernel_sizes", "a list of odd numbers"));
        }
        if kernels.len() > MOST_LAYERS {
            let right = format!("at most {MOST_LAYERS} of them");
            return Err(config.wrong("conv_kernel_sizes", &right));
        }
        Ok(Self {
            mel_bins: config.size("input_feat_per_channel")?,
            channels,
            kernels,
            width,
            prefix,
        })
    }

    /// (name, inputs, outputs, kernel) of every convolution.
    fn convolutions(&self) -> impl Iterator<Item = (String, usize, usize, usize)> {
        let last = self.kernels.len() - 1;
        let kernels = self.kernels.iter().enumerate();
        kernels.map(move |(n, &kernel)| {
            let inputs = match n {
                0 => self.mel_bins,
                _ => self.channels / 2,
            };
            let outputs = match n {
                n if n == last => 2 * self.width,
                _ => self.channels,
            };
            (format!("{}.{n}", self.prefix), inputs, outputs, kernel)
        })
    }

    /// Lists the tensors.
    pub fn list(&self, list: &mut TensorList) {
        for (name, inputs, outputs, kernel) in self.convolutions() {
            Convolution::list(list, &name, outputs, inputs, kernel);
        }
    }

    /// Reads the weights; the output is multiplied by `scale`.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn load(&self, loader: &mut Loader, scale: f32) -> Result<Subsampler> {
        let convolutions = self.convolutions();
        let convolutions = convolutions.map(|(name, inputs, _, kernel)| {
            Convolution::read(loader, &name, inputs, kernel, STRIDE)
        });
        Ok(Subsampler {
            convolutions: convolutions.collect::<Result<_>>()?,
            scale,
        })
    }
}

impl Subsampler {
    /// T' for T feature frames.
    pub fn frames(&self, frames: usize) -> usize {
        let layers = self.convolutions.iter();
        layers.fold(frames, |frames, layer| layer.frames(frames))
    }

    /// Feature frames for each output frame.
    pub fn stride(&self) -> usize {
        self.convolutions
            .iter()
            .map(|layer| layer.windows.stride)
            .product()
    }

    /// Records features (N, T, F) to (N, T', D).
    ///
    /// # Errors
    /// If the features have another width.
    pub fn record(&self, recording: &mut Recording, features: TensorId) -> Result<TensorId> {
        let mut x = features;
        let last = self.convolutions.len() - 1;
        for (n, layer) in self.convolutions.iter().enumerate() {
            x = layer.record(recording, x, Activation::None)?;
            x = recording.glu(x, Gate::Sigmoid, if n == last { self.scale } else { 1.0 })?;
        }
        Ok(x)
    }
}
