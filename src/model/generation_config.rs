//! `generation_config.json`: what a model's folder says of how to generate and
//! align, read once, into a type; and one entry of it written anew.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::value::RawValue;

use super::files::ModelFiles;
use crate::error::Problem;
use crate::{Error, Result};

/// The file's name in a model's folder.
pub const FILE: &str = "generation_config.json";

/// The entry that names a model's heads for alignment.
pub const ALIGNMENT_HEADS: &str = "alignment_heads";

/// All entries that are obeyed. Others say nothing here, as does an obeyed one
/// of another type than its own.
pub const OBEYED: [&str; 17] = [
    ALIGNMENT_HEADS,
    "begin_suppress_tokens",
    "directions",
    "early_stopping",
    "forced_bos_token_id",
    "is_multilingual",
    "lang_to_id",
    "length_penalty",
    "max_initial_timestamp_index",
    "max_length",
    "max_new_tokens",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "no_timestamps_token_id",
    "num_beams",
    "suppress_tokens",
    "task_to_id",
];

/// A `generation_config.json`; absent is what it does not say.
///
/// Fields are named as the file's entries, whose meaning is that of the
/// transformers library. Two entries are wrong only for those who need them, and
/// are refused when they are asked for: [`alignment_heads`](Self::alignment_heads)
/// and [`directions`](Self::directions).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerationConfig {
    /// Hypotheses kept.
    pub num_beams: Option<usize>,
    /// Most tokens after the prompt.
    pub max_new_tokens: Option<usize>,
    /// Most tokens of the decoder's sequence.
    pub max_length: Option<usize>,
    /// Fewest tokens after the prompt.
    pub min_new_tokens: Option<usize>,
    /// Length of what is never repeated.
    pub no_repeat_ngram_size: Option<usize>,
    /// Exponent of the length by which scores are divided.
    pub length_penalty: Option<f64>,
    /// Whether the search ends with as many finished hypotheses as beams.
    pub early_stopping: Option<bool>,
    /// The text's first token.
    pub forced_bos_token_id: Option<u32>,
    /// Tokens never chosen.
    pub suppress_tokens: Vec<u32>,
    /// Tokens not chosen first.
    pub begin_suppress_tokens: Vec<u32>,
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
    /// Reads a model's file; where it has none, nothing is said.
    ///
    /// # Errors
    /// If it cannot be read or is not JSON.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let value = files.json_if_present(FILE)?;
        Ok(Self::new(files.path(FILE), &value))
    }

    /// What the file's contents say; `path` stands in error messages.
    pub fn new(path: impl Into<PathBuf>, value: &Value) -> Self {
        let entries = Entries(value);
        Self {
            num_beams: entries.size("num_beams"),
            max_new_tokens: entries.size("max_new_tokens"),
            max_length: entries.size("max_length"),
            min_new_tokens: entries.size("min_new_tokens"),
            no_repeat_ngram_size: entries.size("no_repeat_ngram_size"),
            length_penalty: entries.get("length_penalty").as_f64(),
            early_stopping: entries.get("early_stopping").as_bool(),
            forced_bos_token_id: token(entries.get("forced_bos_token_id")),
            suppress_tokens: entries.tokens("suppress_tokens"),
            begin_suppress_tokens: entries.tokens("begin_suppress_tokens"),
            lang_to_id: entries.ids("lang_to_id"),
            is_multilingual: entries.get("is_multilingual").as_bool(),
            task_to_id: entries.ids("task_to_id").unwrap_or_default(),
            no_timestamps_token_id: token(entries.get("no_timestamps_token_id")),
            max_initial_timestamp_index: token(entries.get("max_initial_timestamp_index")),
            alignment_heads: entries.checked(ALIGNMENT_HEADS),
            directions: entries.checked("directions"),
            path: path.into(),
        }
    }

    /// An error about the file.
    pub fn problem(&self, what: impl Into<Problem>) -> Error {
        Error::file(&self.path, what)
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

/// The entries of a file, of which only those are read that are [`OBEYED`].
struct Entries<'a>(&'a Value);

impl<'a> Entries<'a> {
    fn get(&self, key: &str) -> &'a Value {
        debug_assert!(OBEYED.contains(&key), "{key} is not listed");
        &self.0[key]
    }

    fn size(&self, key: &str) -> Option<usize> {
        self.get(key).as_u64().map(|size| size as usize)
    }

    fn tokens(&self, key: &str) -> Vec<u32> {
        let tokens = self.get(key).as_array();
        tokens.into_iter().flatten().filter_map(token).collect()
    }

    fn ids(&self, key: &str) -> Option<BTreeMap<String, u32>> {
        let ids = self.get(key).as_object()?.iter();
        let ids = ids.filter_map(|(name, id)| Some((name.clone(), token(id)?)));
        Some(ids.collect())
    }

    fn checked<T: serde::de::DeserializeOwned>(&self, key: &str) -> Checked<T> {
        match self.get(key) {
            Value::Null => Checked::Absent,
            value => match T::deserialize(value) {
                Ok(given) => Checked::Given(given),
                Err(_) => Checked::Wrong(value.clone()),
            },
        }
    }
}

fn token(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// The text of a `generation_config.json` that names these heads for
/// alignment, and is otherwise the same to the last byte.
///
/// # Errors
/// If the text is no JSON object.
pub fn with_alignment_heads(text: &str, heads: &[[usize; 2]]) -> serde_json::Result<String> {
    let heads: Vec<String> = heads.iter().map(|[l, h]| format!("[{l}, {h}]")).collect();
    with_entry(text, ALIGNMENT_HEADS, &format!("[{}]", heads.join(", ")))
}

/// The text of a JSON object with one entry replaced, or added behind all
/// others; `value` is JSON.
///
/// # Errors
/// If the text is no JSON object.
fn with_entry(text: &str, key: &str, value: &str) -> serde_json::Result<String> {
    // Of entries with one name the last counts, here as in Python.
    let entries: HashMap<String, &RawValue> = serde_json::from_str(text)?;
    let place = |raw: &RawValue| -> Range<usize> {
        let begin = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        begin..begin + raw.get().len()
    };
    if let Some(old) = entries.get(key) {
        let Range { start, end } = place(old);
        return Ok([&text[..start], value, &text[end..]].concat());
    }
    let entry = format!("\"{key}\": {value}");
    let begin = text.find('{').map_or(0, |at| at + 1);
    let Some(last) = entries.values().map(|raw| place(raw).end).max() else {
        let end = text.rfind('}').unwrap_or(text.len());
        return Ok([&text[..begin], "\n  ", &entry, "\n", &text[end..]].concat());
    };
    // Laid out as the first entry is.
    let name = text[begin..].find('"').map_or(begin, |at| begin + at);
    let space = match &text[begin..name] {
        "" => " ",
        space => space,
    };
    Ok([&text[..last], ",", space, &entry, &text[last..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    fn config(value: &Value) -> GenerationConfig {
        GenerationConfig::new("g.json", value)
    }

    /// A list of what is obeyed that is neither too long nor too short: reading
    /// any other entry ends a debug build.
    #[test]
    fn every_listed_entry_is_obeyed() {
        let nothing = config(&Value::Null);
        let values = [
            json!(3),
            json!(true),
            json!([1]),
            json!([[1, 2]]),
            json!(["a-b"]),
            json!({"a": 1}),
        ];
        for key in OBEYED {
            let obeyed = |value: &Value| {
                let own = config(&json!({ key: value }));
                let refused = own.alignment_heads().is_err() || own.directions().is_err();
                own != nothing && !refused
            };
            assert!(values.iter().any(obeyed), "{key}");
            assert_eq!(config(&json!({ key: null })), nothing, "{key}");
        }
        assert_eq!(
            config(&json!({"temperature": 1.0, "use_cache": true})),
            nothing
        );
        assert_eq!(config(&json!([1, 2])), nothing);
    }

    #[test]
    fn entries_of_another_type_say_nothing() {
        let odd = config(
            &json!({"num_beams": "5", "max_length": -1, "early_stopping": "never",
            "length_penalty": null, "forced_bos_token_id": 4_294_967_296u64,
            "suppress_tokens": [-1, 7, "x"], "lang_to_id": {"<|en|>": 5, "<|xx|>": null},
            "task_to_id": []}),
        );
        let expected = GenerationConfig {
            suppress_tokens: vec![7],
            lang_to_id: Some([("<|en|>".to_owned(), 5)].into()),
            ..config(&Value::Null)
        };
        assert_eq!(odd, expected);
    }

    #[test]
    fn what_is_wrong_is_refused_when_it_is_asked_for() {
        let own = config(&json!({"alignment_heads": [[1, 2]], "directions": ["en-it"]}));
        assert_eq!(own.alignment_heads().unwrap(), Some(&[[1, 2]][..]));
        assert_eq!(own.directions().unwrap(), Some(&["en-it".to_owned()][..]));
        let none = config(&Value::Null);
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

    fn with(text: &str) -> String {
        with_alignment_heads(text, &[[0, 1], [2, 3]]).unwrap()
    }

    #[test]
    fn an_entry_is_replaced_where_it_stands() {
        let text = "{\n  \"z\": 1e-05,\n  \"alignment_heads\": [\n    [\n      9,\n      9\n    ]\n  ],\n  \
                    \"a\": 1.0\n}\n";
        let wanted =
            "{\n  \"z\": 1e-05,\n  \"alignment_heads\": [[0, 1], [2, 3]],\n  \"a\": 1.0\n}\n";
        assert_eq!(with(text), wanted);
        assert_eq!(with(wanted), wanted);
        // Whatever it was, and however its name is written.
        assert_eq!(
            with(r#"{"alignment\u005fheads": null}"#),
            r#"{"alignment\u005fheads": [[0, 1], [2, 3]]}"#
        );
    }

    #[test]
    fn a_new_entry_is_laid_out_as_the_others() {
        for (text, wanted) in [
            (
                "{\n \"b\": [1, {\"alignment_heads\": 2}],\n \"a\": \"x}\"\n}\n",
                "{\n \"b\": [1, {\"alignment_heads\": 2}],\n \"a\": \"x}\",\n \"alignment_heads\": \
                 [[0, 1], [2, 3]]\n}\n",
            ),
            (
                r#"{"a": 1}"#,
                r#"{"a": 1, "alignment_heads": [[0, 1], [2, 3]]}"#,
            ),
            ("{}", "{\n  \"alignment_heads\": [[0, 1], [2, 3]]\n}"),
            (
                " {\n}\n",
                " {\n  \"alignment_heads\": [[0, 1], [2, 3]]\n}\n",
            ),
        ] {
            assert_eq!(with(text), wanted);
            let whole: serde_json::Value = serde_json::from_str(&with(text)).unwrap();
            assert_eq!(whole["alignment_heads"].to_string(), "[[0,1],[2,3]]");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "{\"a\": 1", "{\"a\": 1} x", "null", "{'a': 1}"] {
            assert!(with_entry(text, "k", "1").is_err(), "{text}");
        }
    }
}
