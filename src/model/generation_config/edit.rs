//! One entry of a `generation_config.json` written anew, the rest left as it is.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{ALIGNMENT_HEADS, FROM_MODEL_CONFIG, is_true};

/// The text of a `generation_config.json` that names these heads for
/// alignment, and is otherwise the same to the last byte. A true
/// `_from_model_config` becomes false: with it transformers would drop the
/// heads as it reads the file.
///
/// # Errors
/// If the text is no JSON object.
pub fn with_alignment_heads(text: &str, heads: &[[usize; 2]]) -> serde_json::Result<String> {
    let heads: Vec<String> = heads.iter().map(|[l, h]| format!("[{l}, {h}]")).collect();
    let text = with_entry(text, ALIGNMENT_HEADS, &format!("[{}]", heads.join(", ")))?;
    let entries: HashMap<String, &RawValue> = serde_json::from_str(&text)?;
    let own = entries.get(FROM_MODEL_CONFIG).map(|own| own.get());
    let own: Value = own.map_or(Ok(Value::Null), serde_json::from_str)?;
    match is_true(&own) {
        true => with_entry(&text, FROM_MODEL_CONFIG, "false"),
        false => Ok(text),
    }
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

    /// transformers drops what is no parameter of its own where this is true.
    #[test]
    fn heads_are_not_written_where_transformers_drops_them() {
        for (text, wanted) in [
            (
                r#"{"_from_model_config": true, "a": 1}"#,
                r#"{"_from_model_config": false, "a": 1, "alignment_heads": [[0, 1], [2, 3]]}"#,
            ),
            (
                r#"{"alignment_heads": null, "_from_model_config": 1}"#,
                r#"{"alignment_heads": [[0, 1], [2, 3]], "_from_model_config": false}"#,
            ),
            (
                r#"{"_from_model_config": 0.0}"#,
                r#"{"_from_model_config": 0.0, "alignment_heads": [[0, 1], [2, 3]]}"#,
            ),
            (
                r#"{"_from_model_config": ""}"#,
                r#"{"_from_model_config": "", "alignment_heads": [[0, 1], [2, 3]]}"#,
            ),
            (
                r#"{"_from_model_config": "no"}"#,
                r#"{"_from_model_config": false, "alignment_heads": [[0, 1], [2, 3]]}"#,
            ),
            (
                r#"{"_from_model_config": null}"#,
                r#"{"_from_model_config": null, "alignment_heads": [[0, 1], [2, 3]]}"#,
            ),
        ] {
            assert_eq!(with(text), wanted);
        }
    }
}
