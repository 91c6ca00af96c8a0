//! What a Hugging Face folder of Whisper would say, for forms that hold sizes
//! and tensors alone.

use serde_json::{Value, json};

use crate::tokenizer::Tokenizer;

/// Sizes of a Whisper model; pairs are the encoder's and the decoder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub mel_bins: usize,
    pub width: usize,
    pub layers: [usize; 2],
    pub heads: [usize; 2],
    pub feed_forward: [usize; 2],
    /// Positions: encoder frames, tokens.
    pub positions: [usize; 2],
    pub vocabulary: usize,
}

impl Sizes {
    /// A `config.json`; `id` gives a token's id.
    ///
    /// # Errors
    /// With the name of a token that is missing.
    pub fn config(&self, id: impl Fn(&str) -> Option<u32>) -> Result<Value, String> {
        let wanted = |token: &str| id(token).ok_or_else(|| token.to_owned());
        let end = wanted(END)?;
        Ok(json!({
            "architectures": [crate::model::whisper::ARCHITECTURE],
            "activation_function": "gelu",
            "num_mel_bins": self.mel_bins,
            "d_model": self.width,
            "encoder_layers": self.layers[0],
            "decoder_layers": self.layers[1],
            "encoder_attention_heads": self.heads[0],
            "decoder_attention_heads": self.heads[1],
            "encoder_ffn_dim": self.feed_forward[0],
            "decoder_ffn_dim": self.feed_forward[1],
            "max_source_positions": self.positions[0],
            "max_target_positions": self.positions[1],
            "vocab_size": self.vocabulary,
            "decoder_start_token_id": wanted(START)?,
            "eos_token_id": end,
            "pad_token_id": end,
            "bos_token_id": end,
        }))
    }
}

/// Of every sequence.
const END: &str = "<|endoftext|>";
const START: &str = "<|startoftranscript|>";

/// The end's id in OpenAI's English-only vocabulary, which has language tokens
/// that those models were never trained with.
const ENGLISH_END: u32 = 50_256;

/// Steps of 20 ms after which a window's first text begins at the latest, as
/// OpenAI's program and faster-whisper have it.
const LATEST_BEGIN: u32 = 50;

/// What of a `generation_config.json` follows from the vocabulary: the prompt's
/// tokens, the times, and the rules for both. `languages` are the codes that
/// the vocabulary has tokens for.
pub fn generation(
    sizes: &Sizes,
    languages: &[String],
    id: impl Fn(&str) -> Option<u32>,
) -> serde_json::Map<String, Value> {
    let mut entries = serde_json::Map::new();
    let mut set = |key: &str, value: Value| {
        entries.insert(key.to_owned(), value);
    };
    let multilingual = !languages.is_empty() && id(END) != Some(ENGLISH_END);
    set("is_multilingual", json!(multilingual));
    if multilingual {
        let tags = languages.iter().map(|code| format!("<|{code}|>"));
        let tags = tags.filter_map(|tag| Some((tag.clone(), json!(id(&tag)?))));
        set("lang_to_id", Value::Object(tags.collect()));
        let tasks = ["transcribe", "translate"].iter();
        let tasks =
            tasks.filter_map(|task| Some(((*task).to_owned(), json!(id(&format!("<|{task}|>"))?))));
        set("task_to_id", Value::Object(tasks.collect()));
    }
    if let Some(id) = id("<|notimestamps|>") {
        set("no_timestamps_token_id", json!(id));
    }
    set("max_initial_timestamp_index", json!(LATEST_BEGIN));
    set("max_length", json!(sizes.positions[1]));
    entries
}

/// Tokens that Whisper does not write, as OpenAI's program finds them: marks
/// that speech has no sound for, and the prompt's tokens; and those that it does
/// not begin with.
pub fn suppressed(tokenizer: &Tokenizer) -> (Vec<u32>, Vec<u32>) {
    let encode = |text: &str| tokenizer.encode(text).unwrap_or_default();
    let alone = "\" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ \u{300c} \u{300d} \u{300e} \
                 \u{300f} << >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} \
                 \u{266a}\u{266a} \u{266a}\u{266a}\u{266a}";
    // Parts of these characters are suppressed too.
    let music = "\u{2669} \u{266a} \u{266b} \u{266c} \u{266d} \u{266e} \u{266f}";
    let mut tokens = Vec::new();
    // Within a word hyphens and apostrophes are speech, before one they are not.
    for text in [" -", " '"] {
        tokens.extend(encode(text).first());
    }
    for (texts, parts) in [(alone, false), (music, true)] {
        for text in texts.split(' ') {
            for ids in [encode(text), encode(&format!(" {text}"))] {
                tokens.extend(ids.first().filter(|_| parts || ids.len() == 1));
            }
        }
    }
    for mark in [
        START,
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|nocaptions|>",
    ] {
        tokens.extend(tokenizer.id(mark));
    }
    tokens.sort_unstable();
    tokens.dedup();
    let mut first = encode(" ");
    first.truncate(1);
    first.extend(tokenizer.id(END));
    (tokens, first)
}
