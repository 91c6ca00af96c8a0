//! Published models by their sizes: real architectures, to be filled with
//! random weights.

use serde_json::{Value, json};

use crate::model::{self, files::ModelFiles};
use crate::{Error, Result};

/// A published model's sizes.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// As it was published.
    pub name: &'static str,
    family: Family,
    /// D
    width: usize,
    encoder_layers: usize,
    decoder_layers: usize,
    heads: usize,
    /// F
    mel_bins: usize,
    /// V
    vocabulary: usize,
    /// Numbers that are not published and were taken from similar models.
    pub assumed: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Whisper,
    SpeechToText,
    Conformer,
    Cohere,
    Canary,
    Moonshine,
}

const fn whisper(name: &'static str, width: usize, layers: usize, heads: usize) -> Preset {
    Preset {
        name,
        family: Family::Whisper,
        width,
        encoder_layers: layers,
        decoder_layers: layers,
        heads,
        mel_bins: 80,
        vocabulary: 51_865,
        assumed: &[],
    }
}

const fn conformer(name: &'static str, width: usize, layers: [usize; 2], heads: usize) -> Preset {
    Preset {
        name,
        family: Family::Conformer,
        width,
        encoder_layers: layers[0],
        decoder_layers: layers[1],
        heads,
        mel_bins: 80,
        vocabulary: 16_000,
        assumed: &[
            "conv_channels 1024",
            "untied projection",
            "max_target_positions 1024",
        ],
    }
}

const fn fastconformer(name: &'static str, family: Family, width: usize, layers: usize) -> Preset {
    Preset {
        name,
        family,
        width,
        encoder_layers: layers,
        decoder_layers: 8,
        heads: 8,
        mel_bins: 128,
        vocabulary: 16_384,
        assumed: &[],
    }
}

const fn moonshine(name: &'static str, width: usize, layers: usize) -> Preset {
    Preset {
        name,
        family: Family::Moonshine,
        width,
        encoder_layers: layers,
        decoder_layers: layers,
        heads: 8,
        mel_bins: 1,
        vocabulary: 32_768,
        assumed: &[],
    }
}

const LARGE_V3: Preset = Preset {
    mel_bins: 128,
    vocabulary: 51_866,
    ..whisper("whisper-large-v3", 1280, 32, 20)
};

/// All there are.
pub const PRESETS: &[Preset] = &[
    whisper("whisper-tiny", 384, 4, 6),
    whisper("whisper-base", 512, 6, 8),
    whisper("whisper-small", 768, 12, 12),
    whisper("whisper-medium", 1024, 24, 16),
    LARGE_V3,
    Preset {
        name: "whisper-turbo",
        decoder_layers: 4,
        ..LARGE_V3
    },
    Preset {
        name: "s2t-small",
        family: Family::SpeechToText,
        width: 256,
        encoder_layers: 12,
        decoder_layers: 6,
        heads: 4,
        mel_bins: 80,
        vocabulary: 10_000,
        assumed: &[],
    },
    Preset {
        vocabulary: 8_000,
        assumed: &[
            "vocab_size 8000",
            "conv_channels 1024",
            "untied projection",
            "max_target_positions 1024",
        ],
        ..conformer("conformer-base", 512, [12, 6], 8)
    },
    conformer("fama-small", 1024, [12, 6], 16),
    conformer("fama-medium", 1024, [24, 12], 16),
    fastconformer("cohere-transcribe", Family::Cohere, 1280, 48),
    fastconformer("canary-1b-v2", Family::Canary, 1024, 32),
    moonshine("moonshine-tiny", 288, 6),
    moonshine("moonshine-base", 416, 8),
];

impl Preset {
    /// The preset of that name.
    ///
    /// # Errors
    /// If there is none; the message lists all with their parameters.
    pub fn named(name: &str) -> Result<Self> {
        let found = PRESETS.iter().find(|preset| preset.name == name);
        found.copied().ok_or_else(|| {
            let all: Vec<String> = PRESETS.iter().map(Self::described).collect();
            Error::Input(format!(
                "there is no preset {name:?}; there are {}",
                all.join(", ")
            ))
        })
    }

    /// Name and millions of parameters.
    fn described(&self) -> String {
        match self.parameters() {
            Ok(count) => format!("{} ({:.1}M)", self.name, count as f64 / 1e6),
            Err(_) => self.name.to_owned(),
        }
    }

    /// Numbers in its weights.
    ///
    /// # Errors
    /// If the config does not make sense.
    pub fn parameters(&self) -> Result<usize> {
        model::parameters(&self.files(0))
    }

    /// A model of these sizes with random weights.
    pub fn files(&self, seed: u64) -> ModelFiles {
        ModelFiles::Random {
            name: self.name.to_owned(),
            config: self.config(),
            seed,
        }
    }

    /// Its `config.json`.
    pub fn config(&self) -> Value {
        let (architecture, parts) = match self.family {
            Family::Whisper => {
                let own = json!({
                    "activation_function": "gelu",
                    "num_mel_bins": self.mel_bins,
                    "max_source_positions": 1500,
                    "max_target_positions": 448,
                    "bos_token_id": 50_257,
                    "pad_token_id": 50_257,
                    "eos_token_id": 50_257,
                    "decoder_start_token_id": 50_258,
                });
                let parts = vec![self.transformer(4 * self.width), own];
                (model::whisper::ARCHITECTURE, parts)
            }
            Family::SpeechToText => {
                let parts = vec![self.transformer(2048), self.filter_bank()];
                (model::speech_to_text::ARCHITECTURE, parts)
            }
            Family::Conformer => {
                let own = json!({
                    "feed_forward_expansion_factor": 4,
                    "conv_expansion_factor": 2,
                    "conformer_conv_kernel_size": 31,
                    "tie_word_embeddings": false,
                });
                let parts = vec![self.transformer(4 * self.width), self.filter_bank(), own];
                (model::conformer::ARCHITECTURE, parts)
            }
            Family::Cohere => {
                let parts = vec![self.fastconformer(), self.behind_fastconformer()];
                (model::cohere::ARCHITECTURE, parts)
            }
            Family::Canary => {
                let mut decoder = self.behind_fastconformer();
                decoder["model_type"] = json!("canary_decoder");
                let own = json!({ "decoder_config": decoder, "vocab_size": self.vocabulary });
                (model::canary::ARCHITECTURE, vec![self.fastconformer(), own])
            }
            Family::Moonshine => (model::moonshine::ARCHITECTURE, vec![self.moonshine()]),
        };
        let mut config = serde_json::Map::new();
        config.insert("architectures".into(), json!([architecture]));
        let objects = parts.into_iter().filter_map(|part| match part {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        config.extend(objects.flatten());
        Value::Object(config)
    }

    /// The sizes of a transformer on both sides.
    fn transformer(&self, feed_forward: usize) -> Value {
        json!({
            "d_model": self.width,
            "encoder_layers": self.encoder_layers,
            "decoder_layers": self.decoder_layers,
            "encoder_attention_heads": self.heads,
            "decoder_attention_heads": self.heads,
            "encoder_ffn_dim": feed_forward,
            "decoder_ffn_dim": feed_forward,
            "vocab_size": self.vocabulary,
        })
    }

    /// What the families with a filter bank have in common.
    fn filter_bank(&self) -> Value {
        json!({
            "activation_function": "relu",
            "input_feat_per_channel": self.mel_bins,
            "input_channels": 1,
            "conv_channels": 1024,
            "conv_kernel_sizes": [5, 5],
            "max_source_positions": 6000,
            "max_target_positions": 1024,
            "scale_embedding": true,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
        })
    }

    fn moonshine(&self) -> Value {
        // Both sizes turn 32 columns of a head.
        let depth = self.width / self.heads;
        json!({
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "encoder_num_hidden_layers": self.encoder_layers,
            "decoder_num_hidden_layers": self.decoder_layers,
            "encoder_num_attention_heads": self.heads,
            "decoder_num_attention_heads": self.heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 194,
            "partial_rotary_factor": 32.5 / depth as f64,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        })
    }

    /// A FastConformer, and the tokens of the families that have one.
    fn fastconformer(&self) -> Value {
        json!({
            "encoder_config": {
                "model_type": "parakeet_encoder",
                "hidden_size": self.width,
                "num_hidden_layers": self.encoder_layers,
                "num_attention_heads": self.heads,
                "intermediate_size": 4 * self.width,
                "num_mel_bins": self.mel_bins,
                "scale_input": false,
            },
            "pad_token_id": 2,
            "eos_token_id": 3,
            "bos_token_id": 4,
            "decoder_start_token_id": 7,
        })
    }

    /// The decoder behind it, whose width is the same in all of them.
    fn behind_fastconformer(&self) -> Value {
        json!({
            "hidden_size": 1024,
            "num_hidden_layers": self.decoder_layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4096,
            "head_dim": 128,
            "max_position_embeddings": 1024,
            "vocab_size": self.vocabulary,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_published_models() {
        for (name, millions, tolerance) in [
            ("whisper-tiny", 37.8, 0.01),
            ("whisper-base", 72.6, 0.01),
            ("whisper-small", 241.7, 0.01),
            ("whisper-medium", 763.9, 0.01),
            ("whisper-large-v3", 1543.5, 0.01),
            ("whisper-turbo", 808.9, 0.01),
            // The published counts of these hold heads that only training
            // uses, and some of their sizes are assumed here.
            ("conformer-base", 125.0, 0.11),
            ("fama-small", 479.0, 0.11),
            ("fama-medium", 878.0, 0.11),
            // Its card says two billion.
            ("cohere-transcribe", 2000.0, 0.05),
            ("canary-1b-v2", 978.0, 0.02),
        ] {
            let count = Preset::named(name).unwrap().parameters().unwrap();
            println!("{name}: {count}, published {millions}M");
            let ratio = count as f64 / (millions * 1e6);
            assert!((ratio - 1.0).abs() <= tolerance, "{name}: {count}");
        }
    }

    #[test]
    fn an_unknown_name_gets_them_all_with_their_sizes() {
        let message = Preset::named("list").unwrap_err().to_string();
        for preset in PRESETS {
            assert!(message.contains(preset.name), "{message}");
        }
        assert!(message.contains("whisper-tiny (37.8M)"), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
}
