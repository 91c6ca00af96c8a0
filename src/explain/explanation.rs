//! What `explain` writes beside the maps: the contents of `explanation.json`.
//!
//! The structures here are the schema; `docs/explanation.md` describes it in
//! words and a test holds the two together.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::describe::is_said;
use super::method::{Method, Site};
use crate::align::WordTokens;
use crate::features::MelScale;
use crate::fingerprint::Fingerprint;
use crate::ops::Reduction;

/// Identifies the file's format; `version` counts incompatible changes.
pub const FORMAT: &str = "sonograd-explanation";
pub const VERSION: u32 = 1;

/// One explained utterance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
    /// Version of the program that wrote the file.
    pub sonograd: String,
    pub audio: Audio,
    /// The explained text, without special tokens.
    pub text: String,
    pub model: Model,
    pub device: Device,
    /// Numbers that the executor computed in: `f32`, `f16-weights`, `mixed` or
    /// `f64`.
    pub precision: String,
    /// Seed of everything random.
    pub seed: u64,
    /// The explained tokens, in order; the first axis of every map.
    pub tokens: Vec<Token>,
    /// The tokens grouped into words; special tokens belong to none.
    pub words: Vec<Word>,
    /// The map that says when words were said, by its name.
    #[serde(default)]
    pub words_from: String,
    /// The tensors in `maps.safetensors`.
    pub maps: Vec<MapInfo>,
    /// Counters and times, with `--profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Value>,
}

impl Explanation {
    /// The words as rows of the maps.
    pub fn word_tokens(&self) -> Vec<WordTokens> {
        let words = self.words.iter();
        // A word's tokens follow each other; see `Tokenizer::words`.
        words
            .filter_map(|word| {
                let tokens = *word.tokens.first()?..word.tokens.last()? + 1;
                let said = |&k: &usize| self.tokens.get(k).is_some_and(|own| is_said(&own.text));
                let first = tokens.clone().find(said).unwrap_or(tokens.start);
                let last = tokens.clone().rfind(said).unwrap_or(tokens.end - 1);
                Some(WordTokens {
                    text: word.text.clone(),
                    tokens,
                    spoken: first..last + 1,
                })
            })
            .collect()
    }
}

/// The explained sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audio {
    /// File name without its folder.
    pub file: String,
    /// Length of the sound in seconds.
    pub seconds: f64,
    /// Sample rate the model hears, in Hz.
    pub sample_rate: u32,
    /// Of the samples that the model hears; absent where they were not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// What is not as whoever gave the sound may think, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The model and the sizes of its maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Name of the model's folder, of the embedded model, or on the hub.
    pub name: String,
    /// The commit, where it is the hub's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The architecture as `config.json` names it.
    pub architecture: String,
    pub decoder_layers: usize,
    pub decoder_heads: usize,
    /// T: input frames.
    pub frames: usize,
    /// F: mel bins.
    pub mel_bins: usize,
    /// Where they lie; absent where that was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mel_scale: Option<MelScale>,
    /// T': encoder frames.
    pub encoder_frames: usize,
    /// Seconds from one input frame to the next.
    pub frame_seconds: f64,
    /// Seconds from one encoder frame to the next.
    pub encoder_frame_seconds: f64,
}

/// Where it was computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    /// `native` or `gpu`.
    pub executor: String,
}

/// One explained token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Position among the explained tokens: the row in the maps.
    pub index: usize,
    /// Position in the decoder's output, counted from the start of the text.
    pub position: usize,
    pub id: u32,
    /// As people read it, [`Tokenizer::readable`](crate::tokenizer::Tokenizer::readable).
    pub text: String,
    /// Natural logarithm of the probability the model gave the token.
    pub log_probability: f64,
    /// End of sentence, language tags and the like.
    pub special: bool,
    /// Time at which the averaged cross-attention peaks, in seconds.
    pub peak_seconds: f64,
}

/// One word and its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    pub text: String,
    /// Indices into [`Explanation::tokens`].
    pub tokens: Vec<usize>,
    /// When it was said, by [`Explanation::words_from`].
    pub start_seconds: f64,
    pub end_seconds: f64,
    /// How much of the word's rows lies in between, from 0 to 1.
    #[serde(default)]
    pub confidence: f64,
    /// Whether the time is to be trusted.
    #[serde(default)]
    pub reliable: bool,
}

/// One tensor of `maps.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapInfo {
    /// The tensor's name, [`map_name`](super::method::map_name).
    pub name: String,
    pub method: Method,
    pub site: Site,
    /// Decoder (L, H, K, T'), input (K, T, F), encoder (K, T'), tokens (K, I).
    pub shape: Vec<usize>,
    /// How the model dimension was reduced.
    pub reduction: Reduction,
    /// Everything else that shaped the map: steps, noise, baseline, gaps.
    pub options: Map<String, Value>,
}
