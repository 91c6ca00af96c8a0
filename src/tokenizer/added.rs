//! Tokens beside a vocabulary's own: `added_tokens.json`,
//! `special_tokens_map.json` and `tokenizer_config.json`.

use std::collections::{BTreeMap, BTreeSet};

use super::beside::Stated;

/// Tokens with their ids, and which tokens are special: no text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddedTokens {
    /// Ids by token.
    pub ids: BTreeMap<String, u32>,
    /// Tokens that are marks, not text.
    pub special: BTreeSet<String>,
}

impl AddedTokens {
    /// Of all that the files beside a vocabulary say.
    pub(super) fn of(stated: Vec<Stated>) -> Self {
        let mut added = Self::default();
        for Stated { token, id, .. } in stated {
            if token.special {
                added.special.insert(token.content.clone());
            }
            added.ids.extend(id.map(|id| (token.content, id)));
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use super::super::beside::Beside;
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn all_three_files_are_read() {
        let added = |config: Value, map: Value, added: Value| {
            let beside = Beside {
                config: &config,
                map: &map,
                added: &added,
            };
            AddedTokens::of(beside.tokens().unwrap())
        };
        let old = added(
            json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}}),
            json!({"additional_special_tokens": ["<a>", {"content": "<b>"}, 3], "unk_token": ""}),
            json!({"<|0.00|>": 7, "<a>": 8}),
        );
        let ids: Vec<(&str, u32)> = old.ids.iter().map(|(t, &i)| (t.as_str(), i)).collect();
        assert_eq!(ids, [("<a>", 8), ("<|0.00|>", 7)]);
        let special: Vec<&str> = old.special.iter().map(String::as_str).collect();
        assert_eq!(special, ["</s>", "<a>", "<b>", "<s>"]);
        // With the newer entry the older files count for nothing.
        let new = added(
            json!({"added_tokens_decoder": {
                "4": {"content": "<c>", "special": true}, "5": {"content": "d", "special": false}}}),
            json!({"bos_token": "<x>"}),
            json!({"y": 9}),
        );
        let ids: Vec<(&str, u32)> = new.ids.iter().map(|(t, &i)| (t.as_str(), i)).collect();
        assert_eq!(ids, [("<c>", 4), ("d", 5)]);
        assert_eq!(new.special.len(), 1);
    }
}
