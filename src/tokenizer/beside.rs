//! Tokens beside a vocabulary: those of `added_tokens.json`,
//! `special_tokens_map.json` and `tokenizer_config.json`, as transformers 5.23
//! adds them.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::AddedToken;

use super::folder::{ADDED, CONFIG};

/// What the files beside a vocabulary say.
pub(super) struct Beside<'a> {
    /// `tokenizer_config.json`
    pub config: &'a Value,
    /// `special_tokens_map.json`
    pub map: &'a Value,
    /// `added_tokens.json`
    pub added: &'a Value,
}

/// A token, and the id that its file states.
pub(super) struct Stated {
    pub token: AddedToken,
    pub id: Option<u32>,
    /// Whether the file says all of it, as `added_tokens_decoder` does.
    pub described: bool,
}

impl Beside<'_> {
    /// The file that gives tokens their ids.
    pub fn file(&self) -> &'static str {
        match self.config["added_tokens_decoder"].is_object() {
            true => CONFIG,
            false => ADDED,
        }
    }

    /// The tokens in the order in which they are added, known ones among
    /// them: first those with ids. With `added_tokens_decoder` the two old files
    /// count for nothing.
    ///
    /// # Errors
    /// If an id is no number from 0 on; the text names its entry.
    pub fn tokens(&self) -> Result<Vec<Stated>, String> {
        let newer = self.config["added_tokens_decoder"].as_object();
        let mut named = special(self.config);
        let mut numbered: BTreeMap<u32, AddedToken> = BTreeMap::new();
        match newer {
            Some(decoder) => {
                for (id, token) in decoder {
                    let wrong = |_| format!("added_tokens_decoder has {id:?} for an id");
                    let id = id.parse().map_err(wrong)?;
                    numbered.extend(token_of(token, false).map(|token| (id, token)));
                }
            }
            None => {
                named.extend(special(self.map));
                for (content, id) in self.added.as_object().into_iter().flatten() {
                    let is_special = named.iter().any(|own| own.content == *content);
                    let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
                    let wrong = || format!("gives {content:?} {id} for an id");
                    let id = number.ok_or_else(wrong)?;
                    numbered.insert(id, AddedToken::from(content.clone(), is_special));
                }
            }
        }
        let numbered = numbered.into_iter();
        let numbered = numbered.map(|(id, token)| Stated {
            token,
            id: Some(id),
            described: newer.is_some(),
        });
        let named = named.into_iter().map(|token| Stated {
            token,
            id: None,
            described: false,
        });
        Ok(numbered.chain(named).collect())
    }
}

/// The special tokens that a file names: every `..._token`, and the lists.
fn special(file: &Value) -> Vec<AddedToken> {
    let mut tokens = Vec::new();
    for (key, value) in file.as_object().into_iter().flatten() {
        if key.ends_with("_token") {
            tokens.extend(token_of(value, true));
        }
    }
    for list in ["extra_special_tokens", "additional_special_tokens"] {
        match &file[list] {
            Value::Array(list) => tokens.extend(list.iter().filter_map(|own| token_of(own, true))),
            Value::Object(by_name) => {
                tokens.extend(by_name.values().filter_map(|own| token_of(own, true)));
            }
            _ => {}
        }
    }
    tokens
}

/// A token that is given as a text, or as an object with a `content`.
fn token_of(value: &Value, special: bool) -> Option<AddedToken> {
    let content = value.as_str().or_else(|| value["content"].as_str())?;
    let flag = |key: &str| value[key] == true;
    let special = special || flag("special");
    let token = AddedToken::from(content, special)
        .single_word(flag("single_word"))
        .lstrip(flag("lstrip"))
        .rstrip(flag("rstrip"));
    let token = match value["normalized"].as_bool() {
        Some(normalized) => token.normalized(normalized),
        None => token,
    };
    Some(token).filter(|own| !own.content.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    fn contents(config: &Value, map: &Value, added: &Value) -> Vec<(String, Option<u32>, bool)> {
        let beside = Beside { config, map, added };
        let tokens = beside.tokens().unwrap().into_iter();
        tokens
            .map(|own| (own.token.content.clone(), own.id, own.token.special))
            .collect()
    }

    #[test]
    fn tokens_stand_in_every_file() {
        let config = json!({"bos_token": "<s>", "add_bos_token": true, "model_max_length": 3,
            "image_token": {"content": "<i>"}, "extra_special_tokens": ["<x>"]});
        let map = json!({"eos_token": {"content": "</s>"}, "additional_special_tokens": ["<y>"],
            "unk_token": ""});
        let added = json!({"<y>": 8, "noise": 7});
        let owned = |own: &[(&str, Option<u32>, bool)]| -> Vec<(String, Option<u32>, bool)> {
            let own = own
                .iter()
                .map(|&(text, id, special)| (text.to_owned(), id, special));
            own.collect()
        };
        assert_eq!(
            contents(&config, &map, &added),
            owned(&[
                ("noise", Some(7), false),
                ("<y>", Some(8), true),
                ("<s>", None, true),
                ("<i>", None, true),
                ("<x>", None, true),
                ("</s>", None, true),
                ("<y>", None, true),
            ])
        );
        // With the newer entry the older files count for nothing.
        let newer = json!({"added_tokens_decoder": {
            "9": {"content": "b", "special": false}}});
        let wanted = owned(&[("b", Some(9), false)]);
        assert_eq!(contents(&newer, &map, &added), wanted);
        let null = Value::Null;
        assert_eq!(contents(&null, &null, &null), []);
        // An id that is none is not passed over.
        let problem = |config: &Value, added: &Value| {
            let beside = Beside {
                config,
                map: &null,
                added,
            };
            beside.tokens().err().unwrap()
        };
        let decoder = json!({"added_tokens_decoder": {"x": {"content": "c"}}});
        assert!(problem(&decoder, &null).contains("\"x\""));
        for id in [json!(-1), json!("x"), json!(1.5)] {
            let text = problem(&null, &json!({"bad": id}));
            assert!(text.contains("\"bad\""), "{text}");
        }
    }
}
