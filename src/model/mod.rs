//! Speech-to-text models: from a folder to recordings.
//!
//! A family is one file that reads its config and weights and records its
//! encoder; the decoder is shared. Models contain forward passes only.

mod checkpoint;
mod config;
pub mod conformer;
pub mod decoder;
pub mod family;
pub mod files;
pub mod forms;
pub mod generation_config;
mod layers;
mod loader;
mod random;
pub mod speech_to_text;
mod subsampler;
mod transformer;
pub mod whisper;

use std::sync::Arc;

use self::config::Config;
use self::decoder::Decoder;
use self::family::{Capabilities, Family};
use self::files::ModelFiles;
use self::generation_config::GenerationConfig;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;
use crate::engine::weights::WeightTable;
use crate::features::{FRAME_SECONDS, Features, FrontEnd};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// First row of a filter-bank family's sinusoid positions: fairseq counts
/// from the padding index plus one.
const FIRST_POSITION: usize = 2;

/// The part of a model that differs between families.
pub trait Encoder: Send + Sync {
    /// F: mel bins of a feature frame.
    fn mel_bins(&self) -> usize;

    /// Most feature frames the model takes.
    fn max_frames(&self) -> usize;

    /// How the model hears where its folder does not say.
    ///
    /// # Errors
    /// If there is no such front end for its mel bins.
    fn default_front_end(&self) -> Result<FrontEnd> {
        FrontEnd::fbank(self.mel_bins())
    }

    /// T' for T feature frames.
    fn encoder_frames(&self, frames: usize) -> usize;

    /// Feature frames for each encoder frame.
    fn subsampling(&self) -> usize;

    /// Records the encoder: features (B, T, F) to (B, T', D).
    ///
    /// # Errors
    /// If the features have another width or are too short.
    fn record(&self, recording: &mut Recording, features: TensorId) -> Result<TensorId>;
}

/// What a family's file reads from a folder.
struct Parts {
    capabilities: Capabilities,
    encoder: Box<dyn Encoder>,
    decoder: Decoder,
    weights: WeightTable,
}

/// Supported families.
const FAMILIES: &[Family] = &[conformer::FAMILY, speech_to_text::FAMILY, whisper::FAMILY];

impl Family {
    /// The family that a config names.
    fn of(config: &Config) -> Result<&'static Self> {
        let architecture = config.architecture()?;
        let found = FAMILIES
            .iter()
            .find(|family| family.architecture == architecture);
        found.ok_or_else(|| {
            let names: Vec<&str> = FAMILIES.iter().map(|family| family.architecture).collect();
            let what = forms::unread::architecture(architecture).unwrap_or_default();
            config.problem(format!(
                "architecture {architecture} is not supported; supported: {}{what}",
                names.join(", ")
            ))
        })
    }
}

/// Numbers in the weights that a config asks for; nothing but the config is
/// read.
///
/// # Errors
/// If it is missing, does not make sense or is of an unsupported family.
pub fn parameters(files: &ModelFiles) -> Result<usize> {
    let config = Config::read(files)?;
    let own_projection = !config.tied()?;
    let list = (Family::of(&config)?.tensors)(&config, own_projection)?;
    Ok(list.parameters())
}

/// A loaded model.
pub struct Model {
    /// Name of the folder, or of the embedded model.
    pub name: String,
    /// `architectures[0]`
    pub architecture: String,
    /// Numbers in its weights.
    pub parameters: usize,
    /// What its family declares.
    pub capabilities: Capabilities,
    /// From features to what the decoder attends to.
    pub encoder: Box<dyn Encoder>,
    /// From there, and tokens, to the next token's probabilities.
    pub decoder: Decoder,
    /// What recordings of the encoder and the decoder read.
    pub weights: Arc<WeightTable>,
    /// Those that `config.json` names.
    pub tokens: SpecialTokens,
    /// What the folder says of how to generate.
    pub generation: GenerationConfig,
    /// Where it was loaded from.
    pub files: ModelFiles,
}

/// Token ids that generation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// What the decoder is started with.
    pub start: u32,
    /// End of sentence.
    pub end: u32,
    /// Fills up shorter sequences; no model here needs it.
    pub pad: u32,
    /// Begin of sentence.
    pub begin: u32,
}

impl Model {
    /// Loads a model.
    ///
    /// # Errors
    /// If a file is missing or broken, the architecture is not supported, or
    /// the weights do not fit the config; the message names what and where.
    pub fn load(files: ModelFiles) -> Result<Self> {
        let config = Config::read(&files)?;
        let family = Family::of(&config)?;
        let parts = (family.read)(&files, &config)?;
        let own_projection = parts.decoder.config.own_projection;
        let tensors = (family.tensors)(&config, own_projection)?;
        let vocabulary = parts.decoder.config.vocabulary;
        Ok(Self {
            name: files.name(),
            architecture: family.architecture.to_owned(),
            parameters: tensors.parameters(),
            capabilities: parts.capabilities,
            encoder: parts.encoder,
            decoder: parts.decoder,
            weights: Arc::new(parts.weights),
            tokens: SpecialTokens {
                start: config.token("decoder_start_token_id", vocabulary)?,
                end: config.token("eos_token_id", vocabulary)?,
                pad: config.token("pad_token_id", vocabulary)?,
                begin: config.token("bos_token_id", vocabulary)?,
            },
            generation: GenerationConfig::read(&files)?,
            files,
        })
    }

    /// How the model hears: `preprocessor_config.json`, or the family's
    /// default.
    ///
    /// # Errors
    /// If the file asks for what is not there, or for other mel bins than the
    /// model takes.
    pub fn front_end(&self) -> Result<FrontEnd> {
        const FILE: &str = "preprocessor_config.json";
        let front_end = match self.files.read_if_present(FILE)? {
            Some(bytes) => FrontEnd::from_bytes(self.files.path(FILE), &bytes)?,
            None => self.encoder.default_front_end()?,
        };
        if front_end.bins() != self.encoder.mel_bins() {
            return Err(Error::file(
                self.files.path(FILE),
                format!(
                    "gives {} mel bins where the model takes {}",
                    front_end.bins(),
                    self.encoder.mel_bins()
                ),
            ));
        }
        Ok(front_end)
    }

    /// The model's tokenizer, from whichever files the folder has it in.
    ///
    /// # Errors
    /// If it is missing, broken, or has more tokens than the model.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.files.path("");
        let tokenizer = Tokenizer::from_files(path, |name| self.files.read_if_present(name))?;
        let vocabulary = self.decoder.config.vocabulary;
        if tokenizer.vocab_size() > vocabulary {
            return Err(Error::file(
                tokenizer.file(),
                format!(
                    "has {} tokens where the model's vocabulary has {vocabulary}",
                    tokenizer.vocab_size()
                ),
            ));
        }
        Ok(tokenizer)
    }

    /// Refuses features that the model cannot take.
    ///
    /// # Errors
    /// If they have other mel bins, are too long or too short, or are not what
    /// they say of themselves.
    pub fn check_features(&self, features: &Features) -> Result<()> {
        features.check()?;
        let encoder = &self.encoder;
        let seconds = |frames: usize| frames as f64 * FRAME_SECONDS;
        if features.bins != encoder.mel_bins() {
            return Err(Error::Input(format!(
                "features have {} mel bins where the model takes {}",
                features.bins,
                encoder.mel_bins()
            )));
        }
        if features.frames > encoder.max_frames() {
            return Err(Error::Input(format!(
                "{} frames ({:.1} s) are more than the model's {} ({:.1} s); split the recording",
                features.frames,
                seconds(features.frames),
                encoder.max_frames(),
                seconds(encoder.max_frames())
            )));
        }
        if let Some(window) = self.capabilities.window_frames
            && features.frames != window
        {
            return Err(Error::Input(format!(
                "{} frames ({:.1} s) are not the model's window of {window} ({:.1} s)",
                features.frames,
                seconds(features.frames),
                seconds(window)
            )));
        }
        if features.sound_frames == 0 {
            return Err(Error::Input("there are no feature frames".into()));
        }
        Ok(())
    }
}
