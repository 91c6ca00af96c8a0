//! Speech-to-text models: from a folder to recordings.
//!
//! A family is one file that reads its config and weights and records its
//! encoder; the decoder is shared. Models contain forward passes only.

pub mod canary;
mod checkpoint;
pub mod cohere;
mod config;
pub mod conformer;
mod conformer_block;
pub mod decoder;
pub mod encoded;
pub mod family;
mod fastconformer;
pub mod files;
pub mod forms;
pub mod generation_config;
mod layers;
mod loader;
pub mod moonshine;
pub mod moonshine_streaming;
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
use self::generation_config::{GenerationConfig, Origin};
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;
use crate::engine::weights::WeightTable;
use crate::features::{Features, FrontEnd, Kind};
use crate::gauge::Gauge;
use crate::hub::{Found, Source};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// First row of a filter-bank family's sinusoid positions: fairseq counts
/// from the padding index plus one.
const FIRST_POSITION: usize = 2;

/// Numbers that vocabularies are filled up to multiples of.
const ROUND: [usize; 8] = [1, 8, 16, 32, 64, 128, 256, 512];

/// Times in OpenAI's vocabularies: each 0.02 s of 30 s, and the end.
pub(crate) const TIMES: usize = 1501;

/// The part of a model that differs between families.
pub trait Encoder: Send + Sync {
    /// F: mel bins of a feature frame; 1 where frames are samples.
    fn mel_bins(&self) -> usize;

    /// Most feature frames the model takes.
    fn max_frames(&self) -> usize;

    /// The kind of its front end.
    fn hears_by(&self) -> Kind {
        Kind::FilterBank
    }

    /// Seconds from one feature frame to the next.
    fn frame_seconds(&self) -> f64 {
        self.hears_by().frame_seconds()
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
const FAMILIES: &[Family] = &[
    canary::FAMILY,
    cohere::FAMILY,
    conformer::FAMILY,
    moonshine::FAMILY,
    moonshine_streaming::FAMILY,
    speech_to_text::FAMILY,
    whisper::FAMILY,
];

impl Family {
    /// The family that a config names.
    fn of(config: &Config) -> Result<&'static Self> {
        let (named, kind) = match (config.architecture()?, config.model_type()?) {
            (Some(name), _) => (name, "architecture"),
            (None, Some(name)) => (name, "model_type"),
            (None, None) => {
                return Err(config.problem("has neither architectures nor model_type"));
            }
        };
        let name = |family: &Self| match kind {
            "architecture" => family.architecture,
            _ => family.model_type,
        };
        FAMILIES
            .iter()
            .find(|family| name(family) == named)
            .ok_or_else(|| {
                let names: Vec<&str> = FAMILIES.iter().map(name).collect();
                let what = forms::unread::architecture(named).unwrap_or_default();
                config.problem(format!(
                    "{kind} {named} is not supported; supported: {}{what}",
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
    let family = Family::of(&config)?;
    let config = config.usually_tied(family.tied);
    let list = (family.tensors)(&config, !config.tied()?)?;
    Ok(list.parameters())
}

/// A loaded model.
pub struct Model {
    /// Name of the folder, of the embedded model, or on the hub.
    pub name: String,
    /// The commit, where it is the hub's.
    pub revision: Option<String>,
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
    /// Those that `generation_config.json` names, or `config.json`.
    pub tokens: SpecialTokens,
    /// All tokens that end a text, the one among `tokens` first.
    pub ends: Vec<u32>,
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
    /// A model by its sizes alone, for counting: no weight is read or made.
    /// No executor that computes can run it.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for values of weights.
    pub fn outline(files: ModelFiles) -> Result<Self> {
        let config = Config::read(&files)?.without_weights();
        Self::of(files, config)
    }

    /// Loads a model that was found: it is known by its name on the hub, if it
    /// has one.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn open(found: Found) -> Result<Self> {
        Self::open_seen(found, &Gauge::default())
    }

    /// As [`open`](Self::open); the gauge tells of the tensors that are read.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn open_seen(found: Found, loading: &Gauge) -> Result<Self> {
        let files = ModelFiles::found(&found)?;
        let config = Config::read(&files)?.seen_by(loading);
        let model = Self::of(files, config);
        loading.end();
        let mut model = model?;
        if let Some(Source { name, revision }) = found.source {
            model.name = name;
            model.revision = Some(revision);
        }
        Ok(model)
    }

    /// Loads a model.
    ///
    /// # Errors
    /// If a file is missing or broken, the architecture is not supported, or
    /// the weights do not fit the config; the message names what and where.
    pub fn load(files: ModelFiles) -> Result<Self> {
        let config = Config::read(&files)?;
        Self::of(files, config)
    }

    fn of(files: ModelFiles, config: Config) -> Result<Self> {
        let family = Family::of(&config)?;
        let config = &config.usually_tied(family.tied);
        let parts = (family.read)(&files, config)?;
        let own_projection = parts.decoder.config.own_projection;
        let tensors = (family.tensors)(config, own_projection)?;
        let vocabulary = parts.decoder.config.vocabulary;
        let generation = GenerationConfig::read(&files, config, vocabulary)?;
        // Generation obeys its own file first.
        let ends = match &generation.eos_token_id {
            Some(ends) => ends.clone(),
            None => config.tokens("eos_token_id", vocabulary)?,
        };
        let end = *ends
            .first()
            .ok_or_else(|| config.problem("has no eos_token_id"))?;
        let begin = generation.bos_token_id;
        let begin = begin.map_or_else(
            || config.token_if_given("bos_token_id", vocabulary),
            |own| Ok(Some(own)),
        )?;
        let start = match (generation.decoder_start_token_id, begin) {
            (Some(start), _) => start,
            // As transformers does, which asks `config.json` only where there is no other
            // file.
            (None, Some(begin))
                if config.value()["decoder_start_token_id"].is_null()
                    || generation.origin == Origin::File && generation.bos_token_id.is_some() =>
            {
                begin
            }
            (None, _) => config.token("decoder_start_token_id", vocabulary)?,
        };
        let pad = match generation.pad_token_id {
            Some(pad) => Some(pad),
            None => config.token_if_given("pad_token_id", vocabulary)?,
        };
        Ok(Self {
            name: files.name(),
            revision: None,
            architecture: family.architecture.to_owned(),
            parameters: tensors.parameters(),
            capabilities: parts.capabilities,
            encoder: parts.encoder,
            decoder: parts.decoder,
            weights: Arc::new(parts.weights),
            tokens: SpecialTokens {
                start,
                end,
                pad: pad.unwrap_or(end),
                begin: begin.unwrap_or(end),
            },
            ends,
            generation,
            files,
        })
    }

    /// How the model hears: `feature_extractor` in `processor_config.json`, or
    /// `preprocessor_config.json`, or the family's default; as transformers has
    /// it, whichever file is the newer.
    ///
    /// # Errors
    /// If the file asks for what is not there, or for other mel bins than the
    /// model takes.
    pub fn front_end(&self) -> Result<FrontEnd> {
        const PROCESSOR: &str = "processor_config.json";
        const FILE: &str = "preprocessor_config.json";
        let processor = self.files.json_of_present(PROCESSOR)?;
        if processor.as_ref().is_some_and(|own| !own.is_object()) {
            let path = self.files.path(PROCESSOR);
            return Err(Error::file(path, "is not a JSON object"));
        }
        let processor = processor.unwrap_or_default();
        let key = ["feature_extractor", "audio_processor"];
        let key = key.into_iter().find(|key| processor.get(key).is_some());
        let nested = key.map_or(&serde_json::Value::Null, |key| &processor[key]);
        if let Some(key) = key.filter(|_| !nested.is_object() && !nested.is_null()) {
            let problem = format!("{key} is {nested}, where an object of settings would be right");
            return Err(Error::file(self.files.path(PROCESSOR), problem));
        }
        let kind = self.encoder.hears_by();
        let (file, front_end) = match (nested, self.files.read_if_present(FILE)?) {
            (serde_json::Value::Null, Some(bytes)) => {
                let path = self.files.path(FILE);
                (FILE, FrontEnd::of_family(path, &bytes, kind)?)
            }
            (serde_json::Value::Null, None) => (FILE, kind.published(self.encoder.mel_bins())?),
            (nested, _) => {
                let bytes = nested.to_string().into_bytes();
                let path = self.files.path(PROCESSOR);
                (PROCESSOR, FrontEnd::of_family(path, &bytes, kind)?)
            }
        };
        if front_end.bins() != self.encoder.mel_bins() {
            return Err(Error::file(
                self.files.path(file),
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
    /// If it is missing, broken, or has more tokens than the model, or fewer.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.files.path("");
        let vocabulary = self.decoder.config.vocabulary;
        let read = |name: &str| self.files.read_if_present(name);
        let tokenizer = Tokenizer::from_files_within(path, vocabulary, read)?;
        if tokenizer.vocab_size() > vocabulary {
            return Err(Error::file(
                tokenizer.file(),
                format!(
                    "has {} tokens where the model's vocabulary has {vocabulary}",
                    tokenizer.vocab_size()
                ),
            ));
        }
        self.check_vocabulary(&tokenizer)?;
        Ok(tokenizer)
    }

    /// Refuses a tokenizer that lacks tokens of the model: another model's. A
    /// model may have room behind its tokens, which makes their number round,
    /// and old tokenizers of Whisper leave its times out.
    fn check_vocabulary(&self, tokenizer: &Tokenizer) -> Result<()> {
        let vocabulary = self.decoder.config.vocabulary;
        let known = tokenizer.vocab_size();
        let times = self.generation.no_timestamps_token_id;
        let times = times.or_else(|| tokenizer.id("<|notimestamps|>"));
        let without_times = times.is_some_and(|id| id as usize + 1 == known);
        // How many there are with the times, if they are left out.
        let most = if without_times { known + TIMES } else { known };
        let fits = |count: usize| {
            let round = |to: usize| count.next_multiple_of(to) == vocabulary;
            ROUND.into_iter().any(round)
        };
        let filled = fits(known) || fits(most) || (known..=most).contains(&vocabulary);
        let own = [self.tokens.start, self.tokens.end];
        if filled && own.iter().all(|&id| (id as usize) < known) {
            return Ok(());
        }
        Err(Error::file(
            tokenizer.file(),
            format!("has {known} tokens where the model's vocabulary has {vocabulary}"),
        ))
    }

    /// A text as the model would begin its own: Whisper's begin with a space.
    pub fn begun(&self, text: &str) -> String {
        match self.capabilities.text_begins_with_space && !text.starts_with(' ') {
            true => format!(" {text}"),
            false => text.to_owned(),
        }
    }

    /// Refuses features that the model cannot take.
    ///
    /// # Errors
    /// If they have other mel bins, are too long or too short, or are not what
    /// they say of themselves.
    pub fn check_features(&self, features: &Features) -> Result<()> {
        features.check()?;
        let encoder = &self.encoder;
        let seconds = |frames: usize| frames as f64 * encoder.frame_seconds();
        let unit = match encoder.hears_by() {
            Kind::Waveform => "samples",
            _ => "frames",
        };
        if !features.pieces.is_empty() {
            let count = features.pieces.len();
            let problem = format!("the recording has {count} pieces that are heard one by one");
            return Err(Error::Input(problem));
        }
        if features.bins != encoder.mel_bins() {
            return Err(Error::Input(format!(
                "features have {} mel bins where the model takes {}",
                features.bins,
                encoder.mel_bins()
            )));
        }
        if features.frames > encoder.max_frames() {
            return Err(Error::Input(format!(
                "{} {unit} ({:.1} s) are more than the model's {} ({:.1} s); split the recording",
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
        if encoder.encoder_frames(features.sound_frames) == 0 {
            return Err(Error::Input(format!(
                "{} {unit} ({:.3} s) are too short a sound for the model's encoder",
                features.sound_frames,
                seconds(features.sound_frames)
            )));
        }
        Ok(())
    }
}
