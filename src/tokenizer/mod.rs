//! From text to token ids and back, and from tokens to words.

mod added;
mod beside;
mod charsmap;
mod folder;
mod numbered;
mod proto;
mod sentencepiece;
mod unknown;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use tokenizers::DecoderWrapper;

use self::numbered::Numbered;
use self::sentencepiece::SentencePiece;
use crate::error::Problem;
use crate::fingerprint::Fingerprint;
use crate::outside::guarded;
use crate::{Error, Result, plain};

pub use self::added::AddedTokens;
pub(crate) use self::words::is_unspaced;

/// Whose panics are caught.
const LIBRARY: &str = "tokenizers";

/// A model's vocabulary: a `tokenizer.json`, a SentencePiece model, or the
/// byte-level files of Whisper.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    /// The file, for error messages.
    name: String,
    /// By name: the files of a model's folder that were read for it.
    files: BTreeMap<String, Fingerprint>,
    /// Once it was counted: the library lists all tokens for that.
    size: OnceLock<usize>,
}

#[derive(Clone, Debug)]
enum Inner {
    /// Run by the tokenizers library.
    Library(Box<tokenizers::Tokenizer>),
    SentencePiece(Box<Numbered>),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If it cannot be read or is not such a file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = plain::read(path).map_err(|e| Error::file(path, e))?;
        Self::from_bytes(path, &bytes)
    }

    /// Reads the contents of a `tokenizer.json`; `name` stands in error
    /// messages.
    ///
    /// # Errors
    /// If they are not such a file's.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Self> {
        let name = name.as_ref();
        let inner = guarded(LIBRARY, || tokenizers::Tokenizer::from_bytes(bytes));
        let inner = inner.map_err(|problem| Error::file(name, problem))?;
        let mut inner = inner.map_err(|e| {
            let text = format!("is not a usable tokenizer.json: {e}");
            Error::file(name, Problem::new(text, e))
        })?;
        // A file may ask for both; here a token too few or too many would
        // move every map.
        inner
            .with_truncation(None)
            .map_err(|e| Error::file(name, e))?
            .with_padding(None);
        Ok(Self {
            inner: Inner::Library(Box::new(inner)),
            name: name.display().to_string(),
            files: BTreeMap::new(),
            size: OnceLock::new(),
        })
    }

    /// Reads the contents of a SentencePiece `.model`, unigram or BPE. Ids are
    /// those of `vocabulary`, the contents of a `vocab.json`, if there is one,
    /// else the model's own; `added` are tokens beside them. `name` stands in
    /// error messages.
    ///
    /// Special tokens are the model's control pieces, tokens of `vocabulary`
    /// that are no pieces and read `<...>`, language tags, and those that
    /// `added` calls so. The unknown token is none: it has a text.
    ///
    /// # Errors
    /// If they are not such files' contents, or the model is of a type or has
    /// settings that are not supported.
    pub fn from_sentencepiece(
        name: impl AsRef<Path>,
        model: &[u8],
        vocabulary: Option<&[u8]>,
        added: &AddedTokens,
    ) -> Result<Self> {
        let name = name.as_ref();
        let model = SentencePiece::read(model).map_err(|problem| Error::file(name, problem))?;
        let beside = name.with_file_name("vocab.json");
        let json = vocabulary.map(serde_json::from_slice).transpose();
        let json = json.map_err(|e| Error::file(&beside, Problem::json(e)))?;
        let numbered = Numbered::new(model, json.as_ref(), added);
        let blamed = if json.is_some() { &beside } else { name };
        let numbered = numbered.map_err(|problem| Error::file(blamed, problem))?;
        Ok(Self {
            inner: Inner::SentencePiece(Box::new(numbered)),
            name: name.display().to_string(),
            files: BTreeMap::new(),
            size: OnceLock::new(),
        })
    }

    /// The tokens of `text`, without special tokens before or after.
    ///
    /// # Errors
    /// If the text has no tokens or the tokenizer cannot split it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let fail = |problem: &str| Error::Input(format!("{}: text {text:?} {problem}", self.name));
        let ids = match &self.inner {
            Inner::SentencePiece(pieces) => pieces.encode(text),
            Inner::Library(library) => {
                let encoding = guarded(LIBRARY, || library.encode(text, false));
                let encoding = encoding
                    .map_err(|problem| Error::file(&self.name, problem))?
                    .map_err(|e| fail(&format!("cannot be split into tokens: {e}")).because(e))?;
                encoding.get_ids().to_vec()
            }
        };
        if ids.is_empty() {
            return Err(fail("has no tokens; give a text with at least one word"));
        }
        Ok(ids)
    }

    /// The tokens of a prompt in which special tokens are written out; `framed`:
    /// with those that the vocabulary puts before and after every text.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and for a SentencePiece model, which knows no
    /// special tokens within texts.
    pub fn encode_prompt(&self, text: &str, framed: bool) -> Result<Vec<u32>> {
        let fail = |problem: String| Error::file(&self.name, problem);
        let Inner::Library(library) = &self.inner else {
            let problem = "is a SentencePiece model; the prompt's tokens are in a tokenizer.json";
            return Err(fail(problem.into()));
        };
        let encoding = guarded(LIBRARY, || library.encode(text, framed));
        let encoding = encoding
            .map_err(|problem| Error::file(&self.name, problem))?
            .map_err(|e| fail(format!("cannot split the prompt {text:?}: {e}")).because(e))?;
        match encoding.get_ids() {
            [] => Err(fail(format!("makes no tokens of the prompt {text:?}"))),
            ids => Ok(ids.to_vec()),
        }
    }

    /// As [`encode`](Self::encode), of a text that has to come back as it is.
    ///
    /// # Errors
    /// As for it, and if the vocabulary lacks characters of the text; the
    /// message names them.
    pub fn encode_whole(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(text)?;
        let unknown = self.unknown(text, &ids);
        if unknown.is_empty() {
            return Ok(ids);
        }
        let named: Vec<String> = unknown.iter().map(|c| format!("{c:?}")).collect();
        Err(Error::Input(format!(
            "{}: text {text:?} has {}, which the vocabulary lacks; write it otherwise",
            self.name,
            named.join(", ")
        )))
    }

    /// The text of `ids`. Special tokens and ids outside the vocabulary have
    /// none.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.inner {
            Inner::SentencePiece(pieces) => pieces.decode(ids),
            Inner::Library(library) => {
                let spoken = ids.iter().copied().filter(|&id| !self.is_special(id));
                let spoken: Vec<u32> = spoken.collect();
                self.decode_spoken(library, &spoken)
            }
        }
    }

    /// The text of tokens that are no marks. A byte-level decoder would take
    /// the letters of added tokens for bytes, where all of them stand in its
    /// table as those of Latin-1 do: added tokens come back as they are.
    fn decode_spoken(&self, library: &tokenizers::Tokenizer, ids: &[u32]) -> String {
        let decode = |ids: &[u32]| {
            let text = guarded(LIBRARY, || library.decode(ids, true));
            text.ok().and_then(Result::ok).unwrap_or_else(|| {
                // Should a decoder fail, the pieces as they stand still tell.
                ids.iter().map(|&id| self.token_text(id)).collect()
            })
        };
        if !matches!(library.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return decode(ids);
        }
        let added = library.get_added_vocabulary().get_added_tokens_decoder();
        let mut text = String::new();
        for run in ids.chunk_by(|a, b| !added.contains_key(a) && !added.contains_key(b)) {
            match run.first().and_then(|id| added.get(id)) {
                Some(token) => text.push_str(&token.content),
                None => text.push_str(&decode(run)),
            }
        }
        text
    }

    /// A token as it stands in the vocabulary: `▁train`, not ` train`. An id
    /// outside the vocabulary, which models with a padded output layer can
    /// write, gives `<id 17>`.
    pub fn token_text(&self, id: u32) -> String {
        let token = match &self.inner {
            Inner::SentencePiece(pieces) => pieces.token(id).map(str::to_owned),
            Inner::Library(library) => library.id_to_token(id),
        };
        token.unwrap_or_else(|| format!("<id {id}>"))
    }

    /// The id of a token as it stands in the vocabulary.
    pub fn id(&self, piece: &str) -> Option<u32> {
        match &self.inner {
            Inner::SentencePiece(pieces) => pieces.id(piece),
            Inner::Library(library) => library.token_to_id(piece),
        }
    }

    /// Whether a token is special: a mark, not text. That is what the
    /// vocabulary says, and every added token that reads `<|...|>`, since
    /// Whisper's vocabularies do not call their times special.
    pub fn is_special(&self, id: u32) -> bool {
        match &self.inner {
            Inner::SentencePiece(pieces) => pieces.is_special(id),
            Inner::Library(library) => {
                let added = library.get_added_vocabulary();
                library.id_to_token(id).is_some_and(|token| {
                    let mark = token.starts_with("<|") && token.ends_with("|>");
                    added.is_special_token(&token) || mark && added.get_vocab().contains_key(&token)
                })
            }
        }
    }

    /// Whether a token reads as one of Whisper's times: `<|1.50|>`.
    pub fn is_time(&self, id: u32) -> bool {
        let text = self.token_text(id);
        let inner = text
            .strip_prefix("<|")
            .and_then(|text| text.strip_suffix("|>"));
        let parts = inner.and_then(|inner| inner.split_once('.'));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        parts.is_some_and(|(whole, rest)| digits(whole) && rest.len() == 2 && digits(rest))
    }

    /// The file it was read from.
    pub fn file(&self) -> &str {
        &self.name
    }

    /// By name: the files of a model's folder that were read for it.
    pub(crate) fn files(&self) -> &BTreeMap<String, Fingerprint> {
        &self.files
    }

    /// The number of tokens, added ones included; with gaps between ids, one
    /// more than the largest.
    pub fn vocab_size(&self) -> usize {
        *self.size.get_or_init(|| match &self.inner {
            Inner::SentencePiece(pieces) => pieces.size(),
            Inner::Library(library) => {
                let ids = library.get_vocab(true).into_values();
                ids.max().map_or(0, |most| most as usize + 1)
            }
        })
    }

    /// The token `<lang:xx>` or, in Whisper, `<|xx|>` that tells a model the
    /// language to write.
    ///
    /// # Errors
    /// If there is none; the message lists the languages that there are.
    pub fn language_token(&self, language: &str) -> Result<u32> {
        let tokens = [format!("<lang:{language}>"), format!("<|{language}|>")];
        let is_tag = |token: &&String| language_of(token) == Some(language);
        if let Some(id) = tokens
            .iter()
            .filter(is_tag)
            .find_map(|token| self.id(token))
        {
            return Ok(id);
        }
        let known = self.languages();
        Err(Error::Input(if known.is_empty() {
            format!(
                "{}: there are no language tokens, so {language:?} cannot be chosen; \
                 give no language",
                self.name
            )
        } else {
            format!(
                "{}: there is no language {language:?}; there are {}",
                self.name,
                known.join(", ")
            )
        }))
    }

    /// The languages, by their codes, that there are tokens for.
    pub fn languages(&self) -> Vec<String> {
        let mut known: Vec<String> = match &self.inner {
            Inner::SentencePiece(pieces) => languages(pieces.tokens()),
            Inner::Library(library) => {
                languages(library.get_vocab(true).keys().map(String::as_str))
            }
        };
        known.sort_unstable();
        known
    }
}

/// The language that a token stands for. Whisper's other marks look alike but
/// have more letters than a language's two or three.
fn language_of(token: &str) -> Option<&str> {
    if let Some(rest) = token.strip_prefix("<lang:") {
        return rest.strip_suffix('>');
    }
    let language = token.strip_prefix("<|")?.strip_suffix("|>")?;
    let short = matches!(language.len(), 2 | 3);
    (short && language.bytes().all(|b| b.is_ascii_lowercase())).then_some(language)
}

fn languages<'a>(tokens: impl Iterator<Item = &'a str>) -> Vec<String> {
    tokens.filter_map(language_of).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::fs;

    fn special(id: u32, content: &str) -> Value {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    }

    /// Pieces as SentencePiece makes them.
    fn pieces() -> Value {
        json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"},
            "added_tokens": [special(0, "<unk>"), special(1, "</s>"), special(9, "<lang:it>"), special(10, "<lang:en>")],
            "normalizer": null,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [],
                "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}
            },
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [
                ["<unk>", 0.0], ["</s>", 0.0], ["▁", -3.0], ["▁the", -1.0], ["▁train", -1.0],
                ["s", -2.0], ["▁run", -1.5], ["ning", -1.5], ["così", -2.0]]}
        })
    }

    fn pieces_tokenizer() -> Tokenizer {
        Tokenizer::from_bytes("pieces.json", pieces().to_string().as_bytes()).unwrap()
    }

    /// Byte-level tokens as in GPT-2 and Whisper; é is spread over two.
    fn bytes_tokenizer() -> Tokenizer {
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(9, "<|endoftext|>")],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                      "vocab": {"c": 0, "a": 1, "f": 2, "Ã": 3, "©": 4, "Ġ": 5, "Ġa": 6, "ca": 7, "!": 8},
                      "merges": [["c", "a"], ["Ġ", "a"]]}
        });
        Tokenizer::from_bytes("bytes.json", json.to_string().as_bytes()).unwrap()
    }

    fn words_of(
        tokenizer: &Tokenizer,
        ids: &[u32],
        special: &[usize],
    ) -> Vec<(String, Vec<usize>)> {
        tokenizer.words(ids, |i| special.contains(&i))
    }

    #[test]
    fn text_goes_to_tokens_and_back() {
        let tokenizer = pieces_tokenizer();
        // Neither cut to 2 tokens nor padded to 8, as the file has it.
        let ids = tokenizer.encode("the trains running").unwrap();
        assert_eq!(ids, [3, 4, 5, 6, 7]);
        assert_eq!(tokenizer.decode(&ids), "the trains running");
        assert_eq!(tokenizer.decode(&[10, 3, 4, 1]), "the train");
        assert_eq!(tokenizer.decode(&[]), "");
        assert_eq!(tokenizer.decode(&[999, 3]), "the");
    }

    #[test]
    fn pieces_have_ids_and_texts() {
        let tokenizer = pieces_tokenizer();
        assert_eq!(tokenizer.token_text(4), "▁train");
        assert_eq!(tokenizer.token_text(10), "<lang:en>");
        assert_eq!(tokenizer.token_text(11), "<id 11>");
        assert_eq!(tokenizer.id("▁train"), Some(4));
        assert_eq!(tokenizer.id("train"), None);
        assert_eq!(tokenizer.vocab_size(), 11);
    }

    #[test]
    fn text_without_tokens_is_refused() {
        for tokenizer in [pieces_tokenizer(), bytes_tokenizer()] {
            let message = tokenizer.encode("").unwrap_err().to_string();
            assert!(message.contains("has no tokens"), "{message}");
        }
    }

    /// A byte-level vocabulary of all bytes, with tokens added beside it.
    fn files_with(added: &str, config: &str) -> Result<Tokenizer> {
        let mut vocabulary = serde_json::Map::new();
        // As GPT-2 writes bytes.
        let shown = |byte: u8| byte.is_ascii_graphic() || byte >= 0xa1 && byte != 0xad;
        let mut others = 0x100..;
        for byte in 0..=255u8 {
            let c = match shown(byte) {
                true => char::from(byte),
                false => others.next().and_then(char::from_u32).unwrap(),
            };
            vocabulary.insert(c.to_string(), json!(byte));
        }
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true});
        let whole = json!({
            "version": "1.0", "added_tokens": [special(256, "<|end|>")], "pre_tokenizer": bytes,
            "decoder": bytes,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []}
        });
        let files = [
            ("tokenizer.json", whole.to_string()),
            ("added_tokens.json", added.to_owned()),
            ("tokenizer_config.json", config.to_owned()),
        ];
        let files = files.map(|(name, text)| (name, text.into_bytes()));
        from_list(&files)
    }

    /// Whatever its letters, an added token comes back as it was given.
    #[test]
    fn added_tokens_come_back() {
        let names = [
            "Zürich", "naïve", "<noise>", "Łódź", "ÿé", "ĠĢ", "new york", "日本",
        ];
        let ids: serde_json::Map<String, Value> = (257..)
            .zip(names)
            .map(|(id, name)| (name.to_owned(), json!(id)))
            .collect();
        let own = files_with(&Value::Object(ids).to_string(), "{}").unwrap();
        for (name, id) in names.iter().zip(257..) {
            for text in [
                format!("the {name} é train"),
                (*name).to_owned(),
                format!("x{name}"),
            ] {
                let ids = own.encode(&text).unwrap();
                assert!(ids.contains(&id), "{text}");
                assert_eq!(own.decode(&ids), text);
            }
        }
        let ids = own.encode("a Zürich <noise> Łódź").unwrap();
        let words = words_of(&own, &ids, &[]);
        let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, ["a", "Zürich", "<noise>", "Łódź"]);
        assert_eq!(own.vocab_size(), 257 + names.len());
    }

    #[test]
    fn tokens_beside_a_tokenizer_json_count() {
        let decoder = r#"{"added_tokens_decoder": {"257": {"content": "<a>", "special": false}},
            "extra_special_tokens": ["<b>"], "pad_token": "<c>"}"#;
        let own = files_with(r#"{"<d>": 257}"#, decoder).unwrap();
        let ids = ["<a>", "<b>", "<c>", "<d>"].map(|token| own.id(token));
        // The old file counts for nothing beside the newer entry.
        assert_eq!((ids[0], ids[3]), (Some(257), None));
        assert!(ids[1].is_some_and(|id| own.is_special(id)));
        assert!(ids[2].is_some_and(|id| own.is_special(id)));
        assert_eq!(own.decode(&own.encode("x <a>").unwrap()), "x <a>");
        let message = files_with(r#"{"<d>": 300}"#, "{}").unwrap_err().to_string();
        assert!(
            message.contains("added_tokens.json") && message.contains("\"<d>\" the id 300"),
            "{message}"
        );
    }

    /// They would be lost, or read as the unknown token.
    #[test]
    fn characters_that_a_vocabulary_lacks_are_named() {
        for (tokenizer, text, wanted) in [
            (bytes_tokenizer(), "ca zaz", "'z'"),
            (bytes_tokenizer(), "ca ñ", "'ñ'"),
            (bytes_tokenizer(), "caf!é", ""),
            (pieces_tokenizer(), "the train ж q", "'ж', 'q'"),
            (
                from_list(&[("spiece.model", pieces_fixture("unigram.model"))]).unwrap(),
                "the ☃ trains ☃☂",
                "'☃', '☂'",
            ),
        ] {
            let encoded = tokenizer.encode_whole(text);
            if wanted.is_empty() {
                assert_eq!(tokenizer.decode(&encoded.unwrap()), text);
                continue;
            }
            let message = encoded.unwrap_err().to_string();
            let words = format!("has {wanted}, which the vocabulary lacks");
            assert!(message.contains(&words), "{message}");
        }
    }

    #[test]
    fn languages_are_found_or_listed() {
        assert_eq!(pieces_tokenizer().language_token("it").unwrap(), 9);
        assert_eq!(pieces_tokenizer().language_token("en").unwrap(), 10);
        let message = pieces_tokenizer()
            .language_token("fr")
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "pieces.json: there is no language \"fr\"; there are en, it"
        );
        let message = bytes_tokenizer()
            .language_token("en")
            .unwrap_err()
            .to_string();
        assert!(message.contains("no language tokens"), "{message}");
    }

    #[test]
    fn pieces_are_grouped_into_words() {
        let tokenizer = pieces_tokenizer();
        // <lang:en> ▁the ▁train s ▁run ning </s>
        assert_eq!(
            words_of(&tokenizer, &[10, 3, 4, 5, 6, 7, 1], &[0, 6]),
            [
                ("the".to_owned(), vec![1]),
                ("trains".to_owned(), vec![2, 3]),
                ("running".to_owned(), vec![4, 5]),
            ]
        );
        assert_eq!(words_of(&tokenizer, &[], &[]), []);
        assert_eq!(words_of(&tokenizer, &[10, 1], &[0, 1]), []);
    }

    #[test]
    fn words_survive_awkward_neighbours() {
        let tokenizer = pieces_tokenizer();
        // A word without its mark at the start, after a special token, and
        // after a mark of its own; a mark alone at the end.
        assert_eq!(
            words_of(&tokenizer, &[5, 7, 10, 7, 2, 8, 2, 4, 2], &[2]),
            [
                ("sning".to_owned(), vec![0, 1]),
                ("ning".to_owned(), vec![3]),
                ("così".to_owned(), vec![4, 5]),
                ("train".to_owned(), vec![6, 7]),
                (String::new(), vec![8]),
            ]
        );
        // An id outside the vocabulary has no text but keeps its position.
        assert_eq!(
            words_of(&tokenizer, &[4, 77, 6], &[]),
            [
                ("train".to_owned(), vec![0, 1]),
                ("run".to_owned(), vec![2])
            ]
        );
    }

    #[test]
    fn characters_spread_over_tokens_come_out_whole() {
        let tokenizer = bytes_tokenizer();
        let ids = tokenizer.encode("café a café!").unwrap();
        assert_eq!(ids, [7, 2, 3, 4, 6, 5, 7, 2, 3, 4, 8]);
        assert_eq!(tokenizer.decode(&ids[2..3]), "\u{fffd}");
        assert_eq!(
            words_of(&tokenizer, &ids, &[]),
            [
                ("café".to_owned(), vec![0, 1, 2, 3]),
                ("a".to_owned(), vec![4]),
                ("café!".to_owned(), vec![5, 6, 7, 8, 9, 10]),
            ]
        );
    }

    /// The files of a byte-level vocabulary with every byte as a token, some
    /// merges, and Whisper's marks.
    fn whisper_files() -> Vec<(&'static str, String)> {
        // Bytes that print stand for themselves, the others for characters
        // from 256 on.
        let prints = |b: &u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
        let others = (0..256u32).filter(|b| !prints(b)).count() as u32;
        let bytes = (0..256).filter(prints).chain(256..256 + others);
        let mut tokens: Vec<String> = bytes
            .map(|c| char::from_u32(c).unwrap().to_string())
            .collect();
        let merges = ["Ġ t", "h e", "Ġt he", "ä» Ĭ", "æ Ĺ", "æĹ ¥", "ã ģ"];
        tokens.push("ä»".into());
        tokens.extend(merges.iter().map(|pair| pair.replace(' ', "")));
        let first = tokens.len();
        let mut vocabulary: serde_json::Map<String, Value> = serde_json::Map::new();
        for (id, token) in tokens.iter().enumerate() {
            vocabulary.insert(token.clone(), json!(id));
        }
        vocabulary.insert("<|endoftext|>".into(), json!(first));
        let merges = format!("#version: 0.2\nä »\n{}\n", merges.join("\n"));
        let marks = [
            "<|startoftranscript|>",
            "<|en|>",
            "<|ja|>",
            "<|transcribe|>",
            "<|0.00|>",
        ];
        let added: serde_json::Map<String, Value> = marks
            .iter()
            .enumerate()
            .map(|(i, mark)| ((*mark).to_owned(), json!(first + 1 + i)))
            .collect();
        let special = json!({"eos_token": "<|endoftext|>",
            "additional_special_tokens": ["<|startoftranscript|>", "<|en|>", "<|ja|>", "<|transcribe|>"]});
        vec![
            ("vocab.json", Value::Object(vocabulary).to_string()),
            ("merges.txt", merges),
            ("added_tokens.json", Value::Object(added).to_string()),
            ("special_tokens_map.json", special.to_string()),
        ]
    }

    fn from_list(files: &[(&str, Vec<u8>)]) -> Result<Tokenizer> {
        Tokenizer::from_files("folder", |name| {
            let found = files.iter().find(|(file, _)| *file == name);
            Ok(found.map(|(_, bytes)| bytes.clone()))
        })
    }

    fn whisper() -> Tokenizer {
        let files: Vec<(&str, Vec<u8>)> = whisper_files()
            .into_iter()
            .map(|(name, text)| (name, text.into_bytes()))
            .collect();
        from_list(&files).unwrap()
    }

    #[test]
    fn whispers_files_make_a_vocabulary() {
        let tokenizer = whisper();
        assert_eq!(tokenizer.vocab_size(), 256 + 8 + 6);
        let the = tokenizer.id("Ġthe").unwrap();
        assert_eq!(tokenizer.encode(" the the").unwrap(), [the, the]);
        for text in ["é 今日は 🚀!", " a\n\tb", "<|en|"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids), text);
        }
        let id = |token: &str| tokenizer.id(token).unwrap();
        assert_eq!(tokenizer.language_token("ja").unwrap(), id("<|ja|>"));
        let message = tokenizer.language_token("xx").unwrap_err().to_string();
        assert!(message.ends_with("there are en, ja"), "{message}");
        assert!(tokenizer.language_token("transcribe").is_err());
        // Times are marks, although the vocabulary does not call them so.
        let marks = ["<|startoftranscript|>", "<|0.00|>", "<|endoftext|>"].map(id);
        assert!(marks.iter().all(|&id| tokenizer.is_special(id)));
        assert!(!tokenizer.is_special(the));
        assert_eq!(
            tokenizer.decode(&[marks[0], marks[1], the, marks[2]]),
            " the"
        );
        assert_eq!(tokenizer.encode("<|en|>").unwrap(), [id("<|en|>")]);
    }

    #[test]
    fn scripts_without_spaces_are_split_by_token() {
        let tokenizer = whisper();
        let time = tokenizer.id("<|0.00|>").unwrap();
        let mut ids = vec![time];
        ids.extend(tokenizer.encode("今日、っは 🚀go the日x").unwrap());
        ids.push(time);
        let last = ids.len() - 1;
        let words = words_of(&tokenizer, &ids, &[0, last]);
        let texts: Vec<&str> = words.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["今", "日、っ", "は", "🚀go", "the", "日", "x"]);
        // Every token belongs to one word, in order.
        let positions: Vec<usize> = words.into_iter().flat_map(|(_, p)| p).collect();
        assert_eq!(positions, (1..last).collect::<Vec<_>>());
        // Bytes that are no character hold nothing up.
        let broken = tokenizer.id("ä").unwrap();
        let the = tokenizer.id("Ġthe").unwrap();
        assert_eq!(
            words_of(&tokenizer, &[broken, broken, the], &[]).pop(),
            Some(("the".to_owned(), vec![2]))
        );
        let many = vec![broken; 11];
        let words = words_of(&tokenizer, &many, &[]);
        assert_eq!(words.iter().map(|(_, p)| p.len()).sum::<usize>(), 11);
    }

    #[test]
    fn tokens_read_as_people_do() {
        let tokenizer = whisper();
        let id = |token: &str| tokenizer.id(token).unwrap();
        let mut ids = vec![id("<|0.00|>"), id("Ġthe")];
        ids.extend(tokenizer.encode("é日the").unwrap());
        ids.push(id("ä"));
        ids.push(id("<|endoftext|>"));
        let last = ids.len() - 1;
        let texts = tokenizer.readable(&ids, |i| i == 0 || i == last);
        assert_eq!(
            texts[..6],
            ["<|0.00|>", " the", "é 1/2", "é 2/2", "日", "t"]
        );
        assert_eq!(texts[last - 1..], ["<0xE4>", "<|endoftext|>"]);
        for text in ["今日は 🚀!", " a\n\tb", "Привет"] {
            let ids = tokenizer.encode(text).unwrap();
            let read = tokenizer.readable(&ids, |_| false);
            assert_eq!(read.len(), ids.len());
            let odd = |text: &String| text.contains(['Ġ', 'Ċ', '\u{fffd}']) || text.is_empty();
            assert!(!read.iter().any(odd), "{read:?}");
        }

        let pieces = pieces_tokenizer();
        let ids = pieces.encode("the trains running").unwrap();
        let read = pieces.readable(&ids, |_| false);
        assert_eq!(read.concat(), " the trains running");

        let fallback = from_list(&[
            ("own.model", pieces_fixture("bpe.model")),
            (
                "tokenizer_config.json",
                br#"{"sp_model_file": "own.model"}"#.to_vec(),
            ),
        ]);
        let fallback = fallback.unwrap();
        let mut ids = fallback.encode("go 今").unwrap();
        let read = fallback.readable(&ids, |_| false);
        assert!(read.last().unwrap().starts_with("今 "), "{read:?}");
        ids.pop();
        let read = fallback.readable(&ids, |_| false);
        assert!(read.last().unwrap().starts_with("<0x"), "{read:?}");
    }

    fn pieces_fixture(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sentencepiece");
        fs::read(folder.join(name)).unwrap()
    }

    #[test]
    fn sentencepiece_takes_its_ids_from_the_vocabulary_beside_it() {
        let model = pieces_fixture("unigram.model");
        let vocabulary = pieces_fixture("vocab.json");
        let alone = from_list(&[("spiece.model", model.clone())]).unwrap();
        let both = from_list(&[
            ("sentencepiece.bpe.model", model),
            ("vocab.json", vocabulary.clone()),
            (
                "added_tokens.json",
                r#"{"<new>": 500, "Zürich": 501}"#.into(),
            ),
        ])
        .unwrap();
        assert_eq!((alone.vocab_size(), both.vocab_size()), (400, 501 + 1));
        let numbers: Value = serde_json::from_slice(&vocabulary).unwrap();
        for text in ["the trains were running", "今日は <lang:it> città Ж"] {
            let (a, b) = (alone.encode(text).unwrap(), both.encode(text).unwrap());
            let same: Vec<u32> = a
                .iter()
                .map(|&id| numbers[alone.token_text(id)].as_u64().unwrap() as u32)
                .collect();
            assert_eq!(b, same);
            assert_ne!(a, b);
            assert_eq!(alone.decode(&a), both.decode(&b));
        }
        let id = |token: &str| both.id(token).unwrap();
        assert_eq!(
            (id("<s>"), id("<pad>"), id("</s>"), id("<unk>")),
            (0, 1, 2, 3)
        );
        for token in ["<s>", "<pad>", "</s>", "<lang:en>", "<lang:fr>"] {
            assert!(both.is_special(id(token)), "{token}");
        }
        // Added tokens are text, and words of their own.
        let given = "the <new> trains Zürich";
        let ids = both.encode(given).unwrap();
        assert!(ids.contains(&500) && ids.contains(&501) && !both.is_special(500));
        assert_eq!(both.decode(&ids), given);
        let words = words_of(&both, &ids, &[]);
        let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words.join(" "), given);
        assert!(!both.is_special(id("▁the")) && !both.is_special(3));
        assert_eq!(both.language_token("fr").unwrap(), id("<lang:fr>"));
        let ids = both.encode("the trains").unwrap();
        let spoken = [
            &[id("</s>"), id("<lang:en>")],
            &ids[..],
            &[id("</s>"), 9999],
        ]
        .concat();
        assert_eq!(both.decode(&spoken), "the trains");
        let words = words_of(&both, &ids, &[]);
        assert_eq!(words.len(), 2);
        assert_eq!(words[1].0, "trains");
        assert!(alone.encode("").is_err());
    }

    #[test]
    fn bytes_of_pieces_make_characters() {
        let tokenizer = from_list(&[
            ("own.model", pieces_fixture("bpe.model")),
            (
                "tokenizer_config.json",
                br#"{"sp_model_file": "a/b/own.model"}"#.to_vec(),
            ),
        ])
        .unwrap();
        let ids = tokenizer.encode("go 🚀 今日").unwrap();
        assert_eq!(tokenizer.decode(&ids), "go 🚀 今日");
        assert!(ids.iter().all(|&id| !tokenizer.is_special(id)));
        let words = words_of(&tokenizer, &ids, &[]);
        let texts: Vec<&str> = words.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["go", "🚀", "今", "日"]);
    }

    #[test]
    fn folders_without_a_usable_vocabulary() {
        let model = pieces_fixture("bpe.model");
        let refused = |files: &[(&str, Vec<u8>)], words: &str| {
            let message = from_list(files).unwrap_err().to_string();
            println!("{message}");
            assert!(
                message.starts_with("folder/") && message.contains(words),
                "{message}"
            );
            assert!(!message.contains('\n'));
        };
        let text = |text: &str| text.as_bytes().to_vec();
        refused(&[], "tokenizer.json: there is no such file");
        refused(&[("vocab.json", text("{}"))], "merges.txt");
        refused(
            &[("spiece.model", text("no"))],
            "spiece.model: is not a usable",
        );
        let with = |vocabulary: &str| {
            [
                ("tokenizer.model", model.clone()),
                ("vocab.json", text(vocabulary)),
            ]
        };
        refused(&with("{"), "vocab.json: not valid JSON");
        refused(&with("[1]"), "vocab.json: is no JSON object");
        refused(&with("{\"a\": -1}"), "\"a\" the id -1");
        refused(&with("{\"a\": 4294967296}"), "the id 4294967296");
        refused(&with("{\"a\": 0}"), "no token \"<unk>\"");
        refused(&with("{\"a\": 0, \"<unk>\": 0}"), "the same id 0");
        let bpe = |merges: &str| {
            [
                ("vocab.json", text("{\"a\": 0}")),
                ("merges.txt", text(merges)),
            ]
        };
        refused(&bpe("a"), "merges.txt: line 1 is no pair");
        refused(&bpe("a b"), "vocab.json: is not a usable");
        refused(
            &[("tokenizer_config.json", text("{"))],
            "tokenizer_config.json: not valid",
        );
        refused(
            &[("tokenizer.json", text("{}"))],
            "tokenizer.json: is not a usable",
        );
    }

    #[test]
    fn files_that_are_no_tokenizers_are_named() {
        for text in ["", "{}", "[1, 2]", "{\"model\": {\"type\": \"Oracle\"}}"] {
            let message = Tokenizer::from_bytes("t.json", text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(message.starts_with("t.json: is not a usable"), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
        let message = Tokenizer::from_file("absent/t.json")
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("absent/t.json: "), "{message}");
    }

    #[test]
    fn files_are_read_from_disk() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), pieces().to_string()).unwrap();
        assert_eq!(Tokenizer::from_file(file.path()).unwrap().id("s"), Some(5));
    }
}
