//! Whisper: two convolutions over a window of fixed length, learned
//! positions, a transformer encoder and the shared decoder.

use super::checkpoint::{Checkpoint, PROJECTION, TensorList, standard_name};
use super::config::Config;
use super::decoder::{Decoder, DecoderConfig, DecoderDefaults, Positions};
use super::family::{Capabilities, ClockName, Family, LanguageName, Prompting, Tasks};
use super::files::ModelFiles;
use super::layers::Convolution;
use super::loader::Loader;
use super::transformer::{Transformer, TransformerSizes};
use super::{Encoder, Parts};
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{TensorId, WeightId};
use crate::engine::weights::{Form, Part, WeightTable};
use crate::features::Kind;
use crate::ops::Activation;

/// The name in `architectures[0]`.
pub const ARCHITECTURE: &str = "WhisperForConditionalGeneration";

/// What this file offers.
pub(super) const FAMILY: Family = Family {
    architecture: ARCHITECTURE,
    model_type: "whisper",
    tied: true,
    tensors,
    read,
};

const TASKS: Tasks = Tasks {
    transcribe: "transcribe",
    translate: "translate",
    into: LanguageName {
        code: "en",
        name: "English",
    },
};

const KERNEL: usize = 3;

/// Feature frames for each encoder frame.
const SUBSAMPLING: usize = 2;

const CONVOLUTIONS: [&str; 2] = ["encoder.conv1", "encoder.conv2"];
const ENCODER_POSITIONS: &str = "encoder.embed_positions.weight";
const DECODER_POSITIONS: &str = "decoder.embed_positions.weight";

struct Whisper {
    mel_bins: usize,
    /// T' of the window.
    positions_count: usize,
    /// The second one halves the frames.
    convolutions: [Convolution; 2],
    /// (T', D)
    positions: WeightId,
    transformer: Transformer,
}

/// Sizes from `config.json`.
struct Sizes {
    mel_bins: usize,
    /// T' of the window.
    positions_count: usize,
    transformer: TransformerSizes,
    decoder: DecoderConfig,
}

impl Sizes {
    fn read(config: &Config, own_projection: bool) -> Result<Self> {
        Ok(Self {
            mel_bins: config.size("num_mel_bins")?,
            positions_count: config.size("max_source_positions")?,
            transformer: TransformerSizes::read(config, Activation::Gelu, false)?,
            decoder: DecoderConfig::read(
                config,
                own_projection,
                DecoderDefaults {
                    activation: Activation::Gelu,
                    scaled: None,
                    key_bias: false,
                },
            )?,
        })
    }

    fn list(&self) -> TensorList {
        let mut list = TensorList::default();
        let width = self.transformer.width;
        for (name, inputs) in CONVOLUTIONS.into_iter().zip([self.mel_bins, width]) {
            Convolution::list(&mut list, name, width, inputs, KERNEL);
        }
        list.weight(ENCODER_POSITIONS, &[self.positions_count, width]);
        list.weight(DECODER_POSITIONS, &[self.decoder.max_tokens, width]);
        self.transformer.list(&mut list);
        Decoder::list(&mut list, &self.decoder);
        list
    }
}

/// The tensors that a Whisper model consists of.
///
/// # Errors
/// If the config does not make sense.
fn tensors(config: &Config, own_projection: bool) -> Result<TensorList> {
    Ok(Sizes::read(config, own_projection)?.list())
}

/// Reads a Whisper model.
///
/// # Errors
/// If the config does not make sense or the weights do not fit it.
fn read(files: &ModelFiles, config: &Config) -> Result<Parts> {
    let mut checkpoint = Checkpoint::open(files, config, standard_name)?;
    let sizes = Sizes::read(config, checkpoint.contains(PROJECTION))?;
    checkpoint.check(&sizes.list(), |_| false)?;
    let (mel_bins, positions_count) = (sizes.mel_bins, sizes.positions_count);
    let width = sizes.transformer.width;

    let mut table = WeightTable::default();
    let [first, second] = CONVOLUTIONS;
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Encoder);
    let loader = &mut loader;
    let encoder = Whisper {
        mel_bins,
        positions_count,
        convolutions: [
            Convolution::read(loader, first, mel_bins, KERNEL, 1)?,
            Convolution::read(loader, second, width, KERNEL, SUBSAMPLING)?,
        ],
        positions: loader.load(Form::Positions, ENCODER_POSITIONS, positions_count, width)?,
        transformer: sizes.transformer.load(loader)?,
    };
    let mut loader = Loader::new(&checkpoint, &mut table, Part::Decoder);
    let positions = Positions::Learned(loader.read(DECODER_POSITIONS)?);
    let decoder = Decoder::read(&mut loader, sizes.decoder, positions)?;
    Ok(Parts {
        capabilities: Capabilities {
            family: "Whisper",
            window_frames: Some(encoder.max_frames()),
            prompting: Prompting::Multitask(TASKS),
            text_begins_with_space: true,
            clock: ClockName::Attention,
        },
        encoder: Box::new(encoder),
        decoder,
        weights: table,
    })
}

impl Encoder for Whisper {
    fn mel_bins(&self) -> usize {
        self.mel_bins
    }

    fn max_frames(&self) -> usize {
        self.positions_count * SUBSAMPLING
    }

    fn hears_by(&self) -> Kind {
        Kind::Spectrogram
    }

    fn encoder_frames(&self, frames: usize) -> usize {
        frames.div_ceil(SUBSAMPLING)
    }

    fn subsampling(&self) -> usize {
        SUBSAMPLING
    }

    fn record(&self, recording: &mut Recording, features: TensorId) -> Result<TensorId> {
        let mut x = features;
        for convolution in &self.convolutions {
            x = convolution.record(recording, x, Activation::Gelu)?;
        }
        let positions = recording.weight(self.positions);
        let x = recording.add(x, positions)?;
        self.transformer.record(recording, x, None)
    }
}
