//! From text to token ids and back, and from tokens to words.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// A model's vocabulary, read from its `tokenizer.json`.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The file, for error messages.
    name: String,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If it cannot be read or is not such a file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|e| Error::file(path, e))?;
        Self::from_bytes(path, &bytes)
    }

    /// Reads the contents of a `tokenizer.json`; `name` stands in error
    /// messages.
    ///
    /// # Errors
    /// If they are not such a file's.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Self> {
        let name = name.as_ref();
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| Error::file(name, format!("is not a usable tokenizer.json: {e}")))?;
        // A file may ask for both; here a token too few or too many would
        // move every map.
        inner
            .with_truncation(None)
            .map_err(|e| Error::file(name, e))?
            .with_padding(None);
        Ok(Self {
            inner,
            name: name.display().to_string(),
        })
    }

    /// The tokens of `text`, without special tokens before or after.
    ///
    /// # Errors
    /// If the text has no tokens or the tokenizer cannot split it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let fail = |problem: &str| Error::Input(format!("{}: text {text:?} {problem}", self.name));
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| fail(&format!("cannot be split into tokens: {e}")))?;
        if encoding.is_empty() {
            return Err(fail("has no tokens; give a text with at least one word"));
        }
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`. Special tokens and ids outside the vocabulary have
    /// none.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_else(|_| {
            // Should a decoder fail, the pieces as they stand still tell.
            ids.iter().map(|&id| self.token_text(id)).collect()
        })
    }

    /// A token as it stands in the vocabulary: `▁train`, not ` train`. An id
    /// outside the vocabulary, which models with a padded output layer can
    /// write, gives `<id 17>`.
    pub fn token_text(&self, id: u32) -> String {
        self.inner
            .id_to_token(id)
            .unwrap_or_else(|| format!("<id {id}>"))
    }

    /// The id of a token as it stands in the vocabulary.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.inner.token_to_id(piece)
    }

    /// Whether the vocabulary marks a token as special.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        self.inner
            .id_to_token(id)
            .is_some_and(|token| added.is_special_token(&token))
    }

    /// The number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token `<lang:xx>` that tells a model the language to write.
    ///
    /// # Errors
    /// If there is none; the message lists the languages that there are.
    pub fn language_token(&self, language: &str) -> Result<u32> {
        if let Some(id) = self.id(&format!("<lang:{language}>")) {
            return Ok(id);
        }
        let mut known: Vec<String> = self
            .inner
            .get_vocab(true)
            .into_keys()
            .filter_map(|t| Some(t.strip_prefix("<lang:")?.strip_suffix('>')?.to_owned()))
            .collect();
        known.sort_unstable();
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

    /// Groups tokens into words: each word's text and the positions of its
    /// tokens in `ids`. Tokens marked in `special` belong to no word and end
    /// the one before them.
    ///
    /// A word begins at a piece with a leading `▁`, `Ġ` or space. Its text is
    /// decoded from all of its tokens together, so that characters spread
    /// over several byte-level tokens come out whole. A lone space mark joins
    /// the word that follows it. In languages written without spaces a whole
    /// phrase is one word.
    ///
    /// # Panics
    /// If `ids` and `special` differ in length.
    pub fn words(&self, ids: &[u32], special: &[bool]) -> Vec<(String, Vec<usize>)> {
        assert_eq!(ids.len(), special.len(), "one mark per token");
        let mut words: Vec<(String, Vec<usize>)> = Vec::new();
        let mut run: Vec<usize> = Vec::new();
        for (position, (&id, &special)) in ids.iter().zip(special).enumerate() {
            if special {
                self.close_word(ids, &mut run, &mut words);
                continue;
            }
            let starts = self.token_text(id).starts_with(['▁', 'Ġ', ' ']);
            if starts && !self.word_text(ids, &run).is_empty() {
                self.close_word(ids, &mut run, &mut words);
            }
            run.push(position);
        }
        self.close_word(ids, &mut run, &mut words);
        words
    }

    /// Ends the word made of the tokens in `run`, if there are any.
    fn close_word(&self, ids: &[u32], run: &mut Vec<usize>, words: &mut Vec<(String, Vec<usize>)>) {
        if !run.is_empty() {
            let text = self.word_text(ids, run);
            words.push((text, std::mem::take(run)));
        }
    }

    fn word_text(&self, ids: &[u32], positions: &[usize]) -> String {
        let ids: Vec<u32> = positions.iter().map(|&p| ids[p]).collect();
        self.decode(&ids).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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
        let marks: Vec<bool> = (0..ids.len()).map(|i| special.contains(&i)).collect();
        tokenizer.words(ids, &marks)
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
