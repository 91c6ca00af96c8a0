//! Speech2Text: strided convolutions with gated linear units, sinusoid
//! positions, a transformer encoder and the shared decoder.

use super::checkpoint::{Checkpoint, TensorList, standard_name};
use super::config::Config;
use super::decoder::{Decoder, DecoderConfig, DecoderDefaults};
use super::files::ModelFiles;
use super::layers::halved_positions;
use super::subsampler::{Subsampler, SubsamplerSizes};
use super::transformer::{Transformer, TransformerSizes};
use super::{Encoder, FIRST_POSITION, Parts};
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};
use crate::engine::weights::WeightTable;
use crate::ops::Activation;

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "Speech2TextForConditionalGeneration";

struct SpeechToText {
    mel_bins: usize,
    width: usize,
    max_frames: usize,
    subsampler: Subsampler,
    transformer: Transformer,
}

/// Tensors that such files carry and that are computed here.
fn ignored(name: &str) -> bool {
    name.contains(".embed_positions.") || name.ends_with(".version")
}

/// Reads a Speech2Text model.
///
/// # Errors
/// If the config does not make sense or the weights do not fit it.
pub fn read(files: &ModelFiles, config: &Config) -> Result<Parts> {
    let checkpoint = Checkpoint::open(files, standard_name)?;
    if config.size_or("input_channels", 1)? != 1 {
        return Err(config.wrong("input_channels", "1"));
    }
    let sizes = TransformerSizes::read(config, Activation::Relu, true)?;
    let width = sizes.width;
    if width % 2 != 0 {
        return Err(config.wrong("d_model", "an even number"));
    }
    let subsampler = SubsamplerSizes::read(config, width, "encoder.conv.conv_layers")?;
    let decoder = DecoderConfig::read(
        config,
        &checkpoint,
        DecoderDefaults {
            activation: Activation::Relu,
            scaled: Some(true),
            key_bias: true,
        },
    )?;
    let mut list = TensorList::default();
    subsampler.list(&mut list);
    sizes.list(&mut list);
    Decoder::list(&mut list, &decoder);
    checkpoint.check(&list, ignored)?;

    let mut table = WeightTable::default();
    let encoder = SpeechToText {
        mel_bins: subsampler.mel_bins,
        width,
        max_frames: config.size("max_source_positions")?,
        // One field scales the encoder's and the decoder's embedding.
        subsampler: subsampler.load(&checkpoint, &mut table, decoder.embedding_scale)?,
        transformer: sizes.load(&checkpoint, &mut table)?,
    };
    let positions = halved_positions(decoder.max_tokens, width, FIRST_POSITION);
    let decoder = Decoder::read(&checkpoint, &mut table, decoder, positions)?;
    Ok(Parts {
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
        let table = halved_positions(frames, self.width, FIRST_POSITION);
        let positions = recording.constant(Shape::new(1, frames, self.width), table);
        let x = recording.add(x, positions)?;
        self.transformer.record(recording, x)
    }
}
