//! Changes one entry of a `generation_config.json` and leaves all else as it
//! is, to the last byte.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::value::RawValue;

/// The text of a JSON object with one entry replaced, or added behind all
/// others; `value` is JSON.
///
/// # Errors
/// If the text is no JSON object.
pub fn with_entry(text: &str, key: &str, value: &str) -> serde_json::Result<String> {
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

    const HEADS: &str = "[[0, 1], [2, 3]]";

    fn with(text: &str) -> String {
        with_entry(text, "alignment_heads", HEADS).unwrap()
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
