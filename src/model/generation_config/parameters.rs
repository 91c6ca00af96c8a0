//! What becomes of every entry that transformers' `generate` obeys: those that
//! are obeyed here too, those that are refused, and those without effect on
//! the text of a sound. Of transformers 5.23.

use serde_json::Value;

/// An entry, by its name.
pub struct Parameter {
    /// As in the file.
    pub key: &'static str,
    /// Whether it is a parameter of transformers' GenerationConfig itself. The
    /// others are dropped with `_from_model_config`, and where `config.json`
    /// stands in for the file.
    pub own: bool,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of an entry.
pub enum Fate {
    /// Obeyed.
    Obeyed,
    /// Refused where its value asks for something, for this reason.
    Refused(Asks, &'static str),
    /// Without effect on what is written; the type is checked all the same.
    Idle(Kind),
}

/// Which values of an entry ask for something that is not there.
#[derive(Clone, Copy)]
pub enum Asks {
    /// All but null.
    Given,
    /// True.
    Flag,
    /// False.
    Unset,
    /// Numbers above this one.
    Above(f64),
    /// Numbers but this one.
    Other(f64),
}

/// The type of an entry without effect.
#[derive(Clone, Copy)]
pub enum Kind {
    Any,
    Flag,
    Number,
}

impl Asks {
    /// Whether a value asks for something; absent for a value of another type.
    pub fn of(self, value: &Value) -> Option<bool> {
        match self {
            _ if value.is_null() => Some(false),
            Self::Given => Some(true),
            Self::Flag => value.as_bool(),
            Self::Unset => value.as_bool().map(|flag| !flag),
            Self::Above(most) => value.as_f64().map(|own| own > most),
            Self::Other(only) => value.as_f64().map(|own| own != only),
        }
    }

    /// What would be a value of the right type.
    pub fn right(self) -> &'static str {
        match self {
            Self::Given => "null",
            Self::Flag | Self::Unset => "true or false",
            Self::Above(_) | Self::Other(_) => "a number",
        }
    }
}

impl Kind {
    pub fn fits(self, value: &Value) -> bool {
        match self {
            _ if value.is_null() => true,
            Self::Any => true,
            Self::Flag => value.is_boolean(),
            Self::Number => value.is_number(),
        }
    }

    pub fn right(self) -> &'static str {
        match self {
            Self::Any => "any value",
            Self::Flag => "true or false",
            Self::Number => "a number",
        }
    }
}

const fn obeyed(key: &'static str) -> Parameter {
    own(key, Fate::Obeyed)
}

const fn idle(key: &'static str, kind: Kind) -> Parameter {
    own(key, Fate::Idle(kind))
}

const fn refused(key: &'static str, asks: Asks, why: &'static str) -> Parameter {
    own(key, Fate::Refused(asks, why))
}

const fn own(key: &'static str, fate: Fate) -> Parameter {
    let own = true;
    Parameter { key, own, fate }
}

/// An entry that is no parameter of GenerationConfig itself.
const fn other(key: &'static str, fate: Fate) -> Parameter {
    let own = false;
    Parameter { key, own, fate }
}

const ASSISTED: &str = "there is no assisted generation";
const DELETED: &str = "transformers has it no more, nor is it here";
const FALLBACK: &str = "leave it out and use --fallback, whose options set it";

/// All entries that are known.
pub const PARAMETERS: &[Parameter] = &[
    obeyed("begin_suppress_tokens"),
    obeyed("bad_words_ids"),
    obeyed("bos_token_id"),
    obeyed("decoder_start_token_id"),
    obeyed("early_stopping"),
    obeyed("eos_token_id"),
    obeyed("exponential_decay_length_penalty"),
    obeyed("forced_bos_token_id"),
    obeyed("forced_eos_token_id"),
    obeyed("length_penalty"),
    obeyed("max_length"),
    obeyed("max_new_tokens"),
    obeyed("min_length"),
    obeyed("min_new_tokens"),
    obeyed("no_repeat_ngram_size"),
    obeyed("num_beams"),
    obeyed("pad_token_id"),
    obeyed("renormalize_logits"),
    obeyed("repetition_penalty"),
    obeyed("sequence_bias"),
    obeyed("suppress_tokens"),
    // Whisper's generate turns it off; other families' tokens would be drawn.
    obeyed("do_sample"),
    // Whisper's, and those of this project.
    other("alignment_heads", Fate::Obeyed),
    other("directions", Fate::Obeyed),
    other("forced_decoder_ids", Fate::Obeyed),
    other("is_multilingual", Fate::Obeyed),
    other("lang_to_id", Fate::Obeyed),
    other("language", Fate::Obeyed),
    other("max_initial_timestamp_index", Fate::Obeyed),
    other("no_timestamps_token_id", Fate::Obeyed),
    other("return_timestamps", Fate::Obeyed),
    other("task", Fate::Obeyed),
    other("task_to_id", Fate::Obeyed),
    // What would change the text and is not there.
    refused("assistant_early_exit", Asks::Given, ASSISTED),
    refused("constraints", Asks::Given, DELETED),
    refused("dola_layers", Asks::Given, DELETED),
    refused("force_words_ids", Asks::Given, DELETED),
    refused("guidance_scale", Asks::Other(1.0), "there is no guidance"),
    refused("is_assistant", Asks::Flag, ASSISTED),
    refused(
        "max_time",
        Asks::Given,
        "it makes texts depend on the machine",
    ),
    refused("num_beam_groups", Asks::Above(1.0), DELETED),
    refused(
        "num_return_sequences",
        Asks::Above(1.0),
        "one text is written",
    ),
    refused("penalty_alpha", Asks::Above(0.0), DELETED),
    refused("prompt_lookup_num_tokens", Asks::Given, ASSISTED),
    refused("stop_strings", Asks::Given, "nothing stops at a text"),
    refused("token_healing", Asks::Flag, "there are no prompts to heal"),
    refused("use_mtp", Asks::Flag, ASSISTED),
    refused(
        "watermarking_config",
        Asks::Given,
        "there are no watermarks",
    ),
    other(
        "condition_on_prev_tokens",
        Fate::Refused(Asks::Flag, "windows do not know of earlier ones' text"),
    ),
    other(
        "force_unique_generate_call",
        Fate::Refused(Asks::Flag, "windows are heard one after the other"),
    ),
    other(
        "_detect_timestamp_from_logprob",
        Fate::Refused(Asks::Unset, "times are chosen by their probability"),
    ),
    other("logprob_threshold", Fate::Refused(Asks::Given, FALLBACK)),
    other("no_speech_threshold", Fate::Refused(Asks::Given, FALLBACK)),
    // Without sampling, for sounds, and with one temperature these do nothing.
    idle("assistant_confidence_threshold", Kind::Number),
    idle("assistant_lookbehind", Kind::Number),
    idle("cache_config", Kind::Any),
    idle("cache_implementation", Kind::Any),
    idle("disable_compile", Kind::Flag),
    idle("diversity_penalty", Kind::Number),
    idle("encoder_no_repeat_ngram_size", Kind::Number),
    idle("encoder_repetition_penalty", Kind::Number),
    idle("epsilon_cutoff", Kind::Number),
    idle("eta_cutoff", Kind::Number),
    idle("low_memory", Kind::Flag),
    idle("max_cache_len", Kind::Number),
    idle("max_matching_ngram_size", Kind::Number),
    idle("min_p", Kind::Number),
    idle("num_assistant_tokens", Kind::Number),
    idle("num_assistant_tokens_schedule", Kind::Any),
    idle("output_attentions", Kind::Flag),
    idle("output_hidden_states", Kind::Flag),
    idle("output_logits", Kind::Flag),
    idle("output_scores", Kind::Flag),
    idle("prefill_chunk_size", Kind::Number),
    idle("remove_invalid_values", Kind::Flag),
    idle("return_dict_in_generate", Kind::Flag),
    idle("target_lookbehind", Kind::Number),
    idle("temperature", Kind::Any),
    idle("top_h", Kind::Number),
    idle("top_k", Kind::Number),
    idle("top_p", Kind::Number),
    idle("typical_p", Kind::Number),
    idle("use_cache", Kind::Flag),
    other("compression_ratio_threshold", Fate::Idle(Kind::Number)),
    other("prev_sot_token_id", Fate::Idle(Kind::Number)),
];

/// Whether an entry is known.
pub fn listed(key: &str) -> bool {
    PARAMETERS.iter().any(|own| own.key == key)
}

/// Whether an entry counts where those of Whisper alone do not.
pub fn is_parameter(key: &str) -> bool {
    // Nobody but this project writes directions, nor drops them.
    key == "directions" || PARAMETERS.iter().any(|own| own.key == key && own.own)
}
