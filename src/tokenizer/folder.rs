//! The vocabulary in a model's folder, in whichever form it is there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tokenizers::AddedToken;

use super::added::AddedTokens;
use super::beside::{Beside, Stated};
use super::numbered::numbers;
use super::{Inner, LIBRARY, Tokenizer};
use crate::error::Problem;
use crate::fingerprint::Fingerprint;
use crate::outside::guarded;
use crate::{Error, Result};

const TOKENIZER: &str = "tokenizer.json";
pub(super) const CONFIG: &str = "tokenizer_config.json";
pub(super) const ADDED: &str = "added_tokens.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// Names of SentencePiece models, the first that is there is taken.
const MODELS: [&str; 3] = ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model"];

impl Tokenizer {
    /// The vocabulary of a model's folder: `tokenizer.json`; or a
    /// SentencePiece model (`spiece.model`, `sentencepiece.bpe.model`,
    /// `tokenizer.model` or one that `tokenizer_config.json` names), with the
    /// ids of `vocab.json` if that is there; or Whisper's byte-level
    /// `vocab.json` and `merges.txt`. All with the tokens of
    /// `added_tokens.json`, `special_tokens_map.json` and
    /// `tokenizer_config.json` that they lack.
    ///
    /// `read` gives the contents of a file by its name, nothing where there is
    /// none; `folder` stands in error messages.
    ///
    /// # Errors
    /// If a file cannot be read or used, or none of them is there.
    pub fn from_files(
        folder: impl AsRef<Path>,
        read: impl Fn(&str) -> Result<Option<Vec<u8>>>,
    ) -> Result<Self> {
        Self::from_files_within(folder, usize::MAX, read)
    }

    /// The same for a model of `most` tokens. Special tokens that are only named, as
    /// many folders do whose model never learnt them, are not added behind those:
    /// transformers gives them ids that its model cannot take.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files).
    pub fn from_files_within(
        folder: impl AsRef<Path>,
        most: usize,
        read: impl Fn(&str) -> Result<Option<Vec<u8>>>,
    ) -> Result<Self> {
        // Whoever wants to know what a vocabulary is need not read it again.
        let files = RefCell::new(BTreeMap::new());
        let noted = |name: &str| {
            let bytes = read(name)?;
            if let Some(bytes) = &bytes {
                let own = Fingerprint::of(bytes);
                files.borrow_mut().insert(name.to_owned(), own);
            }
            Ok(bytes)
        };
        let made = Self::found(folder.as_ref(), most, noted)?;
        Ok(Self {
            files: files.into_inner(),
            ..made
        })
    }

    fn found(
        folder: &Path,
        most: usize,
        read: impl Fn(&str) -> Result<Option<Vec<u8>>>,
    ) -> Result<Self> {
        let path = |name: &str| folder.join(name);
        let json = |name: &str| match read(name)? {
            None => Ok(Value::Null),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::file(path(name), Problem::json(e))),
        };
        let config = json(CONFIG)?;
        let map = json("special_tokens_map.json")?;
        let listed = json(ADDED)?;
        let beside = Beside {
            config: &config,
            map: &map,
            added: &listed,
        };
        if let Some(bytes) = read(TOKENIZER)? {
            let tokenizer = Self::from_bytes(path(TOKENIZER), &bytes)?;
            return tokenizer.with(&beside, folder, most);
        }
        let stated = beside.tokens();
        let stated = stated.map_err(|problem| Error::file(path(beside.file()), problem))?;
        let added = AddedTokens::of(stated);

        let vocabulary = read(VOCABULARY)?;
        let named = named_models(&config);
        for name in MODELS.into_iter().chain(named.iter().map(String::as_str)) {
            if let Some(bytes) = read(name)? {
                return Self::from_sentencepiece(path(name), &bytes, vocabulary.as_deref(), &added);
            }
        }
        match (vocabulary, read(MERGES)?) {
            (Some(vocabulary), Some(merges)) => {
                let own = Self::from_byte_level(folder, &vocabulary, &merges, &added)?;
                own.with(&beside, folder, most)
            }
            _ => Err(Error::file(
                path(TOKENIZER),
                format!(
                    "there is no such file in the model folder, nor {}, nor vocab.json with \
                     merges.txt",
                    MODELS.join(", ")
                ),
            )),
        }
    }

    /// The same with the tokens beside it that it lacks, behind all others.
    ///
    /// # Errors
    /// If a file states another id for a token than it has or gets.
    fn with(mut self, beside: &Beside, folder: &Path, most: usize) -> Result<Self> {
        let size = self.vocab_size();
        let Inner::Library(library) = &mut self.inner else {
            return Ok(self);
        };
        let fail = |problem: Problem| Error::file(folder.join(beside.file()), problem);
        // A known token is made anew where a file describes it as a whole, by
        // its id; one that is only named stays as it is.
        let stated = beside.tokens().map_err(|problem| fail(problem.into()))?;
        let known = library.get_added_vocabulary().get_vocab();
        let is_new = |own: &Stated| !known.contains_key(&own.token.content);
        let numbered = stated.iter().filter(|own| own.id.is_some() && is_new(own));
        // What is only named has the room that these leave.
        let mut room = most.saturating_sub(size + numbered.count());
        let mut named = BTreeSet::new();
        let wanted = stated.iter().filter(|own| {
            if own.id.is_some() {
                return own.described || is_new(own);
            }
            let text = own.token.content.as_str();
            let fits = is_new(own) && (room > 0 || named.contains(text));
            if fits && named.insert(text) {
                room -= 1;
            }
            fits
        });
        // All at once: the library prepares its search after every call.
        let wanted: Vec<AddedToken> = wanted.map(|own| own.token.clone()).collect();
        let added = guarded(LIBRARY, || library.add_tokens(wanted));
        added.map_err(fail)?.map_err(|e| fail(e.into()))?;
        for Stated { token, id, .. } in stated {
            let content = token.content;
            let own = library.token_to_id(&content);
            if let (Some(id), Some(own)) = (id, own)
                && id != own
            {
                let problem = format!("gives {content:?} the id {id} where it has {own}");
                return Err(fail(problem.into()));
            }
        }
        self.size = OnceLock::new();
        Ok(self)
    }

    /// A byte-level BPE vocabulary from the contents of `vocab.json` and
    /// `merges.txt`, as GPT-2 and Whisper have them.
    ///
    /// # Errors
    /// If one of them is not such a file's contents.
    fn from_byte_level(
        folder: &Path,
        vocabulary: &[u8],
        merges: &[u8],
        added: &AddedTokens,
    ) -> Result<Self> {
        let fail = |file: &str, problem: Problem| Error::file(folder.join(file), problem);
        let json: Value =
            serde_json::from_slice(vocabulary).map_err(|e| fail(VOCABULARY, Problem::json(e)))?;
        let mut ids = numbers(&json).map_err(|problem| fail(VOCABULARY, problem.into()))?;
        let merges = std::str::from_utf8(merges)
            .map_err(|e| fail(MERGES, Problem::new("is not a text in UTF-8", e)))?;
        let mut pairs = Vec::new();
        for (i, line) in merges.lines().enumerate() {
            if line.is_empty() || i == 0 && line.starts_with("#version") {
                continue;
            }
            let pair = line.split_once(' ').filter(|(_, b)| !b.contains(' '));
            let pair = pair.ok_or_else(|| {
                fail(
                    MERGES,
                    format!("line {} is no pair of tokens", i + 1).into(),
                )
            })?;
            pairs.push(json!([pair.0, pair.1]));
        }
        // With an id of their own in the vocabulary added tokens keep it; no
        // merge makes them.
        for (token, &id) in &added.ids {
            ids.entry(token.clone()).or_insert(id);
        }
        let mut tokens: Vec<(&String, u32)> = ids
            .iter()
            .filter(|(token, _)| added.ids.contains_key(*token) || added.special.contains(*token))
            .map(|(token, &id)| (token, id))
            .collect();
        tokens.sort_by_key(|&(_, id)| id);
        let tokens: Vec<Value> = tokens
            .into_iter()
            .map(|(token, id)| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false,
                    "special": added.special.contains(token)})
            })
            .collect();
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true});
        let whole = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens,
            "normalizer": null, "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
            "model": {"type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
                "byte_fallback": false, "vocab": ids, "merges": pairs},
        });
        Self::from_bytes(folder.join(VOCABULARY), whole.to_string().as_bytes())
    }
}

/// Files ending in `.model` that a `tokenizer_config.json` names.
fn named_models(config: &Value) -> Vec<String> {
    let values = config
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    let names = values.filter_map(Value::as_str);
    names
        .filter(|name| name.ends_with(".model"))
        // Some configs hold a path of the machine that wrote them.
        .filter_map(|name| name.rsplit(['/', '\\']).next())
        .map(str::to_owned)
        .collect()
}
