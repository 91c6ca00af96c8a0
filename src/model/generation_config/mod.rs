//! `generation_config.json`: what a model's folder says of how to generate and
//! align, read once, into a type; and one entry of it written anew.
//!
//! Entries mean what they mean to transformers 5.23. Folders of 2022 have no such
//! file: there the entries stand in `config.json`.

mod edit;
mod entries;
mod parameters;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

pub use self::edit::with_alignment_heads;
use self::entries::Entries;
use self::parameters::{Fate, PARAMETERS};
use super::config::Config;
use super::files::ModelFiles;
use crate::error::Problem;
use crate::{Error, Result};

/// The file's name in a model's folder.
pub const FILE: &str = "generation_config.json";

/// The entry that names a model's heads for alignment.
pub const ALIGNMENT_HEADS: &str = "alignment_heads";

/// Where this is true, transformers drops whatever is no parameter of
/// GenerationConfig itself.
const FROM_MODEL_CONFIG: &str = "_from_model_config";

/// The entry that old folders have in `config.json`, and that counts from there
/// where the file of its own is silent.
const FORCED: &str = "forced_decoder_ids";

/// Where a `generation_config.json` was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// There is none: at most a `config.json` stands in for it, and where that
    /// is silent on how to prompt, the vocabulary decides.
    #[default]
    Absent,
    /// There is one, whose silence counts.
    File,
}

/// How a search ends that finds more than one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EarlyStopping {
    /// When no better text is likely, at the length that there is.
    #[default]
    Likely,
    /// With as many finished hypotheses as beams.
    Full,
    /// When no better text is possible, at the greatest length.
    Never,
}

/// A `generation_config.json`; absent is what it does not say.
///
/// Fields are named as the file's entries, whose meaning is that of the
/// transformers library. Two entries are wrong only for those who need them, and
/// are refused when they are asked for: [`alignment_heads`](Self::alignment_heads)
/// and [`directions`](Self::directions).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerationConfig {
    /// Whether there was such a file.
    pub origin: Origin,
    /// Whether it says `_from_model_config`: then transformers, and this, drop what is
    /// no parameter of generation itself, such as `alignment_heads`.
    pub from_model_config: bool,
    /// Hypotheses kept.
    pub num_beams: Option<usize>,
    /// Most tokens after the prompt.
    pub max_new_tokens: Option<usize>,
    /// Most tokens of the decoder's sequence.
    pub max_length: Option<usize>,
    /// Fewest tokens after the prompt.
    pub min_new_tokens: Option<usize>,
    /// Fewest tokens of the decoder's sequence.
    pub min_length: Option<usize>,
    /// Length of what is never repeated.
    pub no_repeat_ngram_size: Option<usize>,
    /// What divides the scores of tokens that are there already, if they are
    /// above 0, and multiplies them if below.
    pub repetition_penalty: Option<f64>,
    /// Exponent of the length by which scores are divided.
    pub length_penalty: Option<f64>,
    /// How the search ends.
    pub early_stopping: Option<EarlyStopping>,
    /// After so many tokens, by which factor more the end scores with each.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// The text's first token.
    pub forced_bos_token_id: Option<u32>,
    /// The text's last tokens at the greatest length: any of them.
    pub forced_eos_token_id: Option<Vec<u32>>,
    /// Tokens never chosen.
    pub suppress_tokens: Vec<u32>,
    /// Tokens not chosen first.
    pub begin_suppress_tokens: Vec<u32>,
    /// Sequences never completed.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Sequences, and what is added to the score of their last token.
    pub sequence_bias: Vec<(Vec<u32>, f64)>,
    /// Whether probabilities are made to sum to 1 again after all rules.
    pub renormalize_logits: Option<bool>,
    /// Whether tokens are drawn; Whisper's never are.
    pub do_sample: Option<bool>,
    /// What the decoder starts with.
    pub decoder_start_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_id: Option<Vec<u32>>,
    /// Fills up shorter sequences.
    pub pad_token_id: Option<u32>,
    /// Begin of sentence.
    pub bos_token_id: Option<u32>,
    /// A language's code, name or token.
    pub language: Option<String>,
    /// `transcribe` or `translate`.
    pub task: Option<String>,
    /// Positions behind the start token, and the token there; without one a
    /// language is detected.
    pub forced_decoder_ids: Option<Vec<(usize, Option<u32>)>>,
    /// Whether times are written.
    pub return_timestamps: Option<bool>,
    /// Token ids by languages as the file writes them, as in `<|en|>`.
    pub lang_to_id: Option<BTreeMap<String, u32>>,
    /// Whether there are languages to choose from.
    pub is_multilingual: Option<bool>,
    /// Token ids by task.
    pub task_to_id: BTreeMap<String, u32>,
    /// The token behind which the ids of times begin.
    pub no_timestamps_token_id: Option<u32>,
    /// Steps after which no text begins.
    pub max_initial_timestamp_index: Option<u32>,
    /// Entries that ask for what is not there, and why it is not.
    refused: Vec<(&'static str, Value, &'static str)>,
    alignment_heads: Checked<Vec<[usize; 2]>>,
    directions: Checked<Vec<String>>,
    /// For messages.
    path: PathBuf,
}

/// An entry that is refused where it is of another type than its own.
#[derive(Clone, Debug, Default, PartialEq)]
enum Checked<T> {
    #[default]
    Absent,
    Given(T),
    Wrong(Value),
}

impl<T: serde::de::DeserializeOwned> Checked<T> {
    fn new(value: &Value) -> Self {
        match value {
            Value::Null => Self::Absent,
            value => match T::deserialize(value) {
                Ok(given) => Self::Given(given),
                Err(_) => Self::Wrong(value.clone()),
            },
        }
    }
}

impl<T> Checked<T> {
    fn get(&self, problem: impl FnOnce(&Value) -> Error) -> Result<Option<&T>> {
        match self {
            Self::Absent => Ok(None),
            Self::Given(given) => Ok(Some(given)),
            Self::Wrong(value) => Err(problem(value)),
        }
    }
}

impl GenerationConfig {
    /// Reads a model's file, or what its `config.json` says in the file's
    /// place; V is `vocabulary`.
    ///
    /// # Errors
    /// If it cannot be read or is not JSON, and as [`new`](Self::new).
    pub(super) fn read(files: &ModelFiles, config: &Config, vocabulary: usize) -> Result<Self> {
        let old = config.value();
        let old_path = files.path(super::config::FILE);
        let mut own = match files.json_of_present(FILE)? {
            Some(value) => Self::new(files.path(FILE), &value, vocabulary)?,
            None => {
                let own = Self::entries(old_path.clone(), old, vocabulary, false)?;
                // Directions are written in the file alone.
                let directions = Checked::Absent;
                Self { directions, ..own }
            }
        };
        if own.forced_decoder_ids.is_none() {
            let entries = Entries {
                path: &old_path,
                value: old,
                vocabulary,
                with_others: true,
            };
            own.forced_decoder_ids = entries.forced(FORCED)?;
        }
        Ok(own)
    }

    /// What the contents of a `generation_config.json` say; `path` stands in
    /// error messages, and token ids are below `vocabulary`.
    ///
    /// # Errors
    /// If an entry has a wrong type or an impossible value; the message names
    /// it.
    pub fn new(path: impl Into<PathBuf>, value: &Value, vocabulary: usize) -> Result<Self> {
        let path = path.into();
        if !value.is_object() {
            return Err(Error::file(path, "is not a JSON object"));
        }
        let dropped = is_true(&value[FROM_MODEL_CONFIG]);
        let own = Self::entries(path, value, vocabulary, !dropped)?;
        Ok(Self {
            origin: Origin::File,
            from_model_config: dropped,
            ..own
        })
    }

    fn entries(path: PathBuf, value: &Value, vocabulary: usize, others: bool) -> Result<Self> {
        let entries = Entries {
            path: &path,
            value,
            vocabulary,
            with_others: others,
        };
        let any_language = "the name, the code or the token of a language";
        let index = entries.count("max_initial_timestamp_index", 0)?;
        let task = entries.text("task", "\"transcribe\" or \"translate\"")?;
        if task.as_deref().is_some_and(|task| !TASKS.contains(&task)) {
            return Err(entries.wrong("task", "\"transcribe\" or \"translate\""));
        }
        let positive = |own: f64| own > 0.0;
        Ok(Self {
            from_model_config: false,
            origin: Origin::Absent,
            num_beams: entries.count("num_beams", 1)?,
            max_new_tokens: entries.count("max_new_tokens", 1)?,
            max_length: entries.count("max_length", 1)?,
            min_new_tokens: entries.count("min_new_tokens", 0)?,
            min_length: entries.count("min_length", 0)?,
            no_repeat_ngram_size: entries.count("no_repeat_ngram_size", 0)?,
            repetition_penalty: entries.number(
                "repetition_penalty",
                "a number above 0",
                positive,
            )?,
            length_penalty: entries.number("length_penalty", "a finite number", |_| true)?,
            early_stopping: match entries.get("early_stopping") {
                Value::Null => None,
                Value::Bool(true) => Some(EarlyStopping::Full),
                Value::Bool(false) => Some(EarlyStopping::Likely),
                Value::String(text) if text == "never" => Some(EarlyStopping::Never),
                _ => return Err(entries.wrong("early_stopping", "true, false or \"never\"")),
            },
            exponential_decay_length_penalty: entries.decay("exponential_decay_length_penalty")?,
            forced_bos_token_id: entries.token("forced_bos_token_id")?,
            forced_eos_token_id: entries.token_or_tokens("forced_eos_token_id")?,
            suppress_tokens: entries.tokens("suppress_tokens")?.unwrap_or_default(),
            begin_suppress_tokens: entries.tokens("begin_suppress_tokens")?.unwrap_or_default(),
            bad_words_ids: entries.sequences("bad_words_ids")?.unwrap_or_default(),
            sequence_bias: entries.biases("sequence_bias")?.unwrap_or_default(),
            renormalize_logits: entries.flag("renormalize_logits")?,
            do_sample: entries.flag("do_sample")?,
            decoder_start_token_id: entries.token("decoder_start_token_id")?,
            eos_token_id: entries.token_or_tokens("eos_token_id")?,
            pad_token_id: entries.token("pad_token_id")?,
            bos_token_id: entries.token("bos_token_id")?,
            language: entries.text("language", any_language)?,
            task,
            forced_decoder_ids: entries.forced(FORCED)?,
            return_timestamps: entries.flag("return_timestamps")?,
            lang_to_id: entries.named_tokens("lang_to_id")?,
            is_multilingual: entries.flag("is_multilingual")?,
            task_to_id: entries.named_tokens("task_to_id")?.unwrap_or_default(),
            no_timestamps_token_id: entries.token("no_timestamps_token_id")?,
            max_initial_timestamp_index: index.and_then(|index| u32::try_from(index).ok()),
            refused: refused(&entries)?,
            alignment_heads: Checked::new(entries.get(ALIGNMENT_HEADS)),
            directions: Checked::new(entries.get("directions")),
            path,
        })
    }

    /// An error about the file.
    pub fn problem(&self, what: impl Into<Problem>) -> Error {
        Error::file(&self.path, what)
    }

    /// Refuses entries that ask for what is not there.
    ///
    /// # Errors
    /// If there is one; the message names it.
    pub fn check_supported(&self) -> Result<()> {
        match self.refused.first() {
            None => Ok(()),
            Some((key, value, why)) => {
                Err(self.problem(format!("{key} is {value}, which is not supported: {why}")))
            }
        }
    }

    /// The heads of cross-attention, layer and head, that show where words are.
    ///
    /// # Errors
    /// If they are no list of pairs of numbers.
    pub fn alignment_heads(&self) -> Result<Option<&[[usize; 2]]>> {
        let heads = self.alignment_heads.get(|wrong| {
            let rule = "pairs of layer and head are wanted";
            self.problem(format!("{ALIGNMENT_HEADS} is {wrong}; {rule}"))
        });
        Ok(heads?.map(Vec::as_slice))
    }

    /// The directions that the model was made for, as in `en-it`: an entry of
    /// this project's own.
    ///
    /// # Errors
    /// If they are no list of texts.
    pub fn directions(&self) -> Result<Option<&[String]>> {
        let directions = self.directions.get(|wrong| {
            let right = "a list such as [\"en-it\"]";
            self.problem(format!(
                "directions is {wrong}, where {right} would be right"
            ))
        });
        Ok(directions?.map(Vec::as_slice))
    }
}

/// Whether Python takes a value for true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// What `task` may be.
const TASKS: [&str; 2] = ["transcribe", "translate"];

/// The entries that ask for what is not there; the types of all that are not
/// read otherwise are checked.
fn refused(entries: &Entries) -> Result<Vec<(&'static str, Value, &'static str)>> {
    let mut refused = Vec::new();
    for own in PARAMETERS {
        let value = entries.get(own.key);
        match own.fate {
            Fate::Obeyed => {}
            Fate::Idle(kind) if kind.fits(value) => {}
            Fate::Idle(kind) => return Err(entries.wrong(own.key, kind.right())),
            Fate::Refused(asks, why) => match asks.of(value) {
                Some(false) => {}
                Some(true) => refused.push((own.key, value.clone(), why)),
                None => return Err(entries.wrong(own.key, asks.right())),
            },
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    fn config(value: &Value) -> GenerationConfig {
        GenerationConfig::new("g.json", value, 100).unwrap()
    }

    fn message(value: &Value) -> String {
        let problem = GenerationConfig::new("g.json", value, 100).unwrap_err();
        problem.to_string()
    }

    /// A list of what is obeyed that is neither too long nor too short: reading
    /// any other entry ends a debug build.
    #[test]
    fn every_listed_entry_is_obeyed_refused_or_idle() {
        let nothing = config(&json!({}));
        let values = [
            json!(3),
            json!(0.5),
            json!(true),
            json!(false),
            json!([1]),
            json!([[1, 2]]),
            json!([[[1], 2.5]]),
            json!([3, 1.5]),
            json!(["a-b"]),
            json!({"a": 1}),
            json!("transcribe"),
        ];
        for own in PARAMETERS {
            let key = own.key;
            let with = |value: &Value| GenerationConfig::new("g.json", &json!({ key: value }), 100);
            let changed = values.iter().any(|value| {
                with(value).is_ok_and(|own| {
                    let wrong = own.alignment_heads().is_err() || own.directions().is_err();
                    own != nothing && !wrong
                })
            });
            let refused = values
                .iter()
                .any(|value| with(value).is_ok_and(|own| own.check_supported().is_err()));
            let expected = match own.fate {
                Fate::Obeyed => (true, false),
                Fate::Refused(..) => (true, true),
                Fate::Idle(_) => (false, false),
            };
            assert_eq!((changed, refused), expected, "{key}");
            assert_eq!(config(&json!({ key: null })), nothing, "{key}");
        }
        assert_eq!(config(&json!({"use_cache": true, "of_mine": [1]})), nothing);
    }

    /// A wrong type, a number that cannot be, a token that is none: each is
    /// named with its file.
    #[test]
    fn wrong_entries_are_named() {
        for own in PARAMETERS {
            let key = own.key;
            // Checked by those who need them, or of any type.
            if ["alignment_heads", "directions"].contains(&key) {
                continue;
            }
            match own.fate {
                Fate::Idle(parameters::Kind::Any) => continue,
                Fate::Refused(parameters::Asks::Given, _) => continue,
                _ => {}
            }
            let problem = message(&json!({ key: {"a": "b"} }));
            assert!(
                problem.starts_with(&format!("g.json: {key} is ")),
                "{problem}"
            );
        }
        for (key, value) in [
            ("num_beams", json!(0)),
            ("num_beams", json!("5")),
            ("num_beams", json!(1.5)),
            ("max_length", json!(-1)),
            ("max_length", json!(0)),
            ("max_length", json!(1e30)),
            ("max_new_tokens", json!(u64::MAX)),
            ("min_length", json!(true)),
            ("no_repeat_ngram_size", json!(-2)),
            ("repetition_penalty", json!(0.0)),
            ("repetition_penalty", json!(-1.5)),
            ("length_penalty", json!("1")),
            ("early_stopping", json!("always")),
            ("early_stopping", json!(1)),
            ("exponential_decay_length_penalty", json!([3])),
            ("exponential_decay_length_penalty", json!([3, 0])),
            ("forced_bos_token_id", json!(100)),
            ("forced_bos_token_id", json!(4_294_967_296u64)),
            ("forced_eos_token_id", json!([])),
            ("suppress_tokens", json!([-1, 7])),
            ("suppress_tokens", json!([7, 100])),
            ("suppress_tokens", json!("7")),
            ("begin_suppress_tokens", json!([7, null])),
            ("bad_words_ids", json!([])),
            ("bad_words_ids", json!([[1], []])),
            ("bad_words_ids", json!([[1, 200]])),
            ("sequence_bias", json!([[[1, 200], 0.5]])),
            ("sequence_bias", json!([[[1], 1]])),
            ("eos_token_id", json!([3, 100])),
            ("decoder_start_token_id", json!([3])),
            ("pad_token_id", json!(-1)),
            ("language", json!(3)),
            ("language", json!(["en", "it"])),
            ("task", json!("summarize")),
            ("task", json!("Transcribe")),
            ("forced_decoder_ids", json!([[1]])),
            ("forced_decoder_ids", json!([[1, 100]])),
            ("forced_decoder_ids", json!({"1": 3})),
            ("return_timestamps", json!("word")),
            ("lang_to_id", json!({"<|en|>": null})),
            ("lang_to_id", json!({"<|en|>": 100})),
            ("task_to_id", json!([])),
            ("is_multilingual", json!("yes")),
            ("no_timestamps_token_id", json!(100)),
            ("max_initial_timestamp_index", json!(-50)),
            ("do_sample", json!("no")),
            ("guidance_scale", json!("much")),
            ("top_k", json!("all")),
            ("use_cache", json!(1)),
        ] {
            let problem = message(&json!({ key: value }));
            let begin = format!("g.json: {key} is {value}, where ");
            assert!(problem.starts_with(&begin), "{problem}");
        }
        assert_eq!(message(&json!([1])), "g.json: is not a JSON object");
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (key, value) in [
            ("guidance_scale", json!(1.5)),
            ("num_return_sequences", json!(2)),
            ("penalty_alpha", json!(0.6)),
            ("logprob_threshold", json!(-1.0)),
            ("condition_on_prev_tokens", json!(true)),
            ("stop_strings", json!(["x"])),
            ("_detect_timestamp_from_logprob", json!(false)),
        ] {
            let problem = config(&json!({ key: value })).check_supported();
            let problem = problem.unwrap_err().to_string();
            let begin = format!("g.json: {key} is {value}, which is not supported: ");
            assert!(problem.starts_with(&begin), "{problem}");
        }
        for (key, value) in [
            ("guidance_scale", json!(1)),
            ("num_return_sequences", json!(1)),
            ("penalty_alpha", json!(0)),
            ("condition_on_prev_tokens", json!(false)),
            ("_detect_timestamp_from_logprob", json!(true)),
        ] {
            config(&json!({ key: value })).check_supported().unwrap();
        }
    }

    /// As transformers does: only its own parameters are left.
    #[test]
    fn entries_of_a_file_from_the_model_config_are_dropped() {
        let whole = json!({"num_beams": 3, "suppress_tokens": [4], "lang_to_id": {"<|en|>": 5},
            "alignment_heads": [[0, 1]], "no_timestamps_token_id": 9, "language": 7,
            "return_timestamps": true, "condition_on_prev_tokens": true});
        for (mark, kept) in [
            (json!(true), false),
            (json!(1), false),
            (json!(false), true),
            (json!(null), true),
        ] {
            let mut own = whole.clone();
            own["_from_model_config"] = mark.clone();
            if kept {
                assert!(message(&own).contains("language"), "{mark}");
                continue;
            }
            let mut expected = config(&json!({"num_beams": 3, "suppress_tokens": [4]}));
            assert!(!expected.from_model_config);
            // It says so, for whoever looks for what was dropped.
            expected.from_model_config = true;
            assert_eq!(config(&own), expected, "{mark}");
        }
    }

    #[test]
    fn values_are_those_of_the_file() {
        let own = config(&json!({"early_stopping": "never", "eos_token_id": 3,
            "forced_eos_token_id": [3, 4], "sequence_bias": [[[1, 2], -1.5]],
            "forced_decoder_ids": [[1, null], [2, 8]], "language": ["Italian"],
            "repetition_penalty": 2, "exponential_decay_length_penalty": [5, 1.1]}));
        assert_eq!(own.early_stopping, Some(EarlyStopping::Never));
        assert_eq!(own.eos_token_id, Some(vec![3]));
        assert_eq!(own.forced_eos_token_id, Some(vec![3, 4]));
        assert_eq!(own.sequence_bias, [(vec![1, 2], -1.5)]);
        let forced = vec![(1, None), (2, Some(8))];
        assert_eq!(own.forced_decoder_ids, Some(forced));
        assert_eq!(own.language.as_deref(), Some("Italian"));
        assert_eq!(own.repetition_penalty, Some(2.0));
        assert_eq!(own.exponential_decay_length_penalty, Some((5, 1.1)));
        assert_eq!(own.origin, Origin::File);
    }

    #[test]
    fn what_is_wrong_is_refused_when_it_is_asked_for() {
        let own = config(&json!({"alignment_heads": [[1, 2]], "directions": ["en-it"]}));
        assert_eq!(own.alignment_heads().unwrap(), Some(&[[1, 2]][..]));
        assert_eq!(own.directions().unwrap(), Some(&["en-it".to_owned()][..]));
        let none = config(&json!({}));
        assert_eq!(none.alignment_heads().unwrap(), None);
        assert_eq!(none.directions().unwrap(), None);
        let odd = config(&json!({"alignment_heads": [[1]], "directions": "en-it"}));
        assert_eq!(
            odd.alignment_heads().unwrap_err().to_string(),
            "g.json: alignment_heads is [[1]]; pairs of layer and head are wanted"
        );
        assert_eq!(
            odd.directions().unwrap_err().to_string(),
            "g.json: directions is \"en-it\", where a list such as [\"en-it\"] would be right"
        );
    }
}
