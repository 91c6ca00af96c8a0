//! Tokens beside a vocabulary's own: `added_tokens.json`,
//! `special_tokens_map.json` and `tokenizer_config.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Tokens with their ids, and which tokens are special: no text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddedTokens {
    /// Ids by token.
    pub ids: BTreeMap<String, u32>,
    /// Tokens that are marks, not text.
    pub special: BTreeSet<String>,
}

/// Fields that hold one special token each, a text or an object with a
/// `content`; the last two hold several.
const SPECIAL: [&str; 9] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
    "additional_special_tokens",
    "extra_special_tokens",
];

impl AddedTokens {
    /// Adds what an `added_tokens.json` says: an object from tokens to ids.
    pub fn add_ids(&mut self, file: &Value) {
        for (token, id) in file.as_object().into_iter().flatten() {
            if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                self.ids.insert(token.clone(), id);
            }
        }
    }

    /// Adds what a `special_tokens_map.json` or a `tokenizer_config.json`
    /// says.
    pub fn add_settings(&mut self, file: &Value) {
        for field in SPECIAL {
            match &file[field] {
                Value::Array(tokens) => self.special.extend(tokens.iter().filter_map(content)),
                token => self.special.extend(content(token)),
            }
        }
        for (id, token) in file["added_tokens_decoder"]
            .as_object()
            .into_iter()
            .flatten()
        {
            let (Ok(id), Some(text)) = (id.parse(), content(token)) else {
                continue;
            };
            if token["special"] == true {
                self.special.insert(text.clone());
            }
            self.ids.insert(text, id);
        }
    }
}

fn content(token: &Value) -> Option<String> {
    let text = token.as_str().or_else(|| token["content"].as_str());
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_three_files_are_read() {
        let mut added = AddedTokens::default();
        added.add_ids(&json!({"<|0.00|>": 7, "<|x|>": "no id", "<|y|>": -1}));
        added.add_settings(
            &json!({"bos_token": "<s>", "eos_token": {"content": "</s>"},
            "additional_special_tokens": ["<a>", {"content": "<b>"}, 3], "unk_token": ""}),
        );
        added.add_settings(&json!({"added_tokens_decoder": {
            "4": {"content": "<c>", "special": true}, "5": {"content": "d", "special": false},
            "x": {"content": "e"}}}));
        for wrong in [
            json!(null),
            json!([1]),
            json!("x"),
            json!({"bos_token": []}),
        ] {
            added.add_ids(&wrong);
            added.add_settings(&wrong);
        }
        let ids: Vec<(&str, u32)> = added.ids.iter().map(|(t, &i)| (t.as_str(), i)).collect();
        assert_eq!(ids, [("<c>", 4), ("<|0.00|>", 7), ("d", 5)]);
        let special: Vec<&str> = added.special.iter().map(String::as_str).collect();
        assert_eq!(special, ["</s>", "<a>", "<b>", "<c>", "<s>"]);
    }
}
