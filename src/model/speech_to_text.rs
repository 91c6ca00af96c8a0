//! Speech2Text: strided convolutions with gated linear units, sinusoid
//! positions, a transformer encoder and the shared decoder.

use super::checkpoint::{Checkpoint, PROJECTION, TensorList, standard_name};
use super::config::Config;
use super::decoder::{Decoder, DecoderConfig, DecoderDefaults, Positions};
use super::family::{Capabilities, Family};
use super::files::ModelFiles;
use super::layers::{LastPositions, halved_positions};
use super::loader::Loader;
use super::subsampler::{Subsampler, SubsamplerSizes};
use super::transformer::{Transformer, TransformerSizes};
use super::{Encoder, FIRST_POSITION, Parts};
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};
use crate::engine::weights::{Part, WeightTable};
use crate::ops::Activation;

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "Speech2TextForConditionalGeneration";

/// What this file offers.
pub(super) const FAMILY: Family = Family {
    architecture: ARCHITECTURE,
    model_type: "speech_to_text",
    tied: true,
    tensors,
    read,
};

struct SpeechToText {
    mel_bins: usize,
    width: usize,
    max_frames: usize,
    subsampler: Subsampler,
    transformer: Transformer,
    last_positions: LastPositions,
}

/// Tensors that such files carry and that are computed here.
fn ignored(name: &str) -> bool {
    name.contains(".embed_positions.") || name.ends_with(".version")
}

/// Sizes from `config.json`.
struct Sizes {
    max_frames: usize,
    subsampler: SubsamplerSizes,
    transformer: TransformerSizes,
    decoder: DecoderConfig,
}

impl Sizes {
    fn read(config: &Config, own_projection: bool) -> Result<Self> {
        if config.size_or("input_channels", 1)? != 1 {
            return Err(config.wrong("input_channels", "1"));
        }
        let transformer = TransformerSizes::read(config, Activation::Relu, true)?;
        let width = transformer.width;
        if width % 2 != 0 {
            return Err(config.wrong("d_model", "an even number"));
        }
        Ok(Self {
            max_frames: config.size("max_source_positions")?,
            subsampler: SubsamplerSizes::read(config, width, "encoder.conv.conv_layers")?,
            transformer,
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
        let mut list = TensorList::default();
        self.subsampler.list(&mut list);
        self.transformer.list(&mut list);
        Decoder::list(&mut list, &self.decoder);
        list
    }
}

/// The tensors that a Speech2Text model consists of.
///
/// # Errors
/// If the config does not make sense.
fn tensors(config: &Config, own_projection: bool) -> Result<TensorList> {
    Ok(Sizes::read(config, own_projection)?.list())
}

/// Reads a Speech2Text model.
///
/// # Errors
/// If the config does not make sense or the weights do not fit it.
fn read(files: &ModelFiles, config: &Config) -> Result<Parts> {
    let mut checkpoint = Checkpoint::open(files, config, standard_name)?;
    let sizes = Sizes::read(config, checkpoint.contains(PROJECTION))?;
    checkpoint.check(&sizes.list(), ignored)?;
    let (subsampler, decoder) = (sizes.subsampler, sizes.decoder);
    let width = decoder.width;

    let mut table = WeightTable::default();
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Encoder);
    let encoder = SpeechToText {
        mel_bins: subsampler.mel_bins,
        width,
        max_frames: sizes.max_frames,
        // One field scales the encoder's and the decoder's embedding.
        subsampler: subsampler.load(&mut loader, decoder.embedding_scale)?,
        transformer: sizes.transformer.load(&mut loader)?,
        last_positions: LastPositions::default(),
    };
    let positions = halved_positions(decoder.max_tokens, width, FIRST_POSITION);
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Decoder);
    let decoder = Decoder::read(&mut loader, decoder, Positions::Computed(positions))?;
    Ok(Parts {
        capabilities: Capabilities::plain("Speech2Text"),
        encoder: Box::new(encoder),
        decoder,
        weights: table,
    })
}

impl Encoder for SpeechToText {
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
        let x = self.subsampler.record(recording, features)?;
        let frames = recording.shape(x).rows;
        let make = || halved_positions(frames, self.width, FIRST_POSITION);
        let table = self.last_positions.get(frames, make);
        let positions = recording.constant(Shape::new(1, frames, self.width), table);
        let x = recording.add(x, positions)?;
        self.transformer.record(recording, x, None)
    }
}
