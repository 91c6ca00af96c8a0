//! Characters of a text that a vocabulary lacks.

use std::collections::HashSet;

use tokenizers::ModelWrapper;

use super::{Inner, Tokenizer};

impl Tokenizer {
    /// The characters of a text that no token of the vocabulary stands for, in
    /// order, each once: they would be lost, or read as the unknown token.
    /// `ids` are the text's.
    pub(super) fn unknown(&self, text: &str, ids: &[u32]) -> Vec<char> {
        let mut found: Vec<char> = match &self.inner {
            Inner::SentencePiece(pieces) => pieces.unknown(text),
            Inner::Library(library) => unknown(library, text, &self.decode(ids)),
        };
        found.retain(|c| !c.is_whitespace());
        let mut once: Vec<char> = Vec::new();
        for c in found {
            if !once.contains(&c) {
                once.push(c);
            }
        }
        once
    }
}

/// What was read as the unknown token, or left out; `back` is the text that
/// came back. What a normaliser changes is not lost by the vocabulary.
fn unknown(library: &tokenizers::Tokenizer, text: &str, back: &str) -> Vec<char> {
    let Ok(encoding) = library.encode(text, false) else {
        return Vec::new();
    };
    if let Some(id) = unknown_id(library) {
        let parts = encoding.get_ids().iter().zip(encoding.get_offsets());
        let lost = parts.filter(|&(own, _)| *own == id);
        let lost = lost.filter_map(|(_, &(start, end))| text.get(start..end));
        let mut lost: Vec<char> = lost.flat_map(str::chars).collect();
        // Of whole words a word is unknown whose letters others have.
        if matches!(library.get_model(), ModelWrapper::WordLevel(_)) {
            let known: HashSet<char> = library
                .get_vocab(true)
                .keys()
                .flat_map(|token| token.chars())
                .collect();
            lost.retain(|c| !known.contains(c));
        }
        return lost;
    }
    if library.get_normalizer().is_some() || back.trim() == text.trim() {
        return Vec::new();
    }
    // Without a token for it, what is unknown is left out without a word.
    text.chars().filter(|&c| is_lost(library, c)).collect()
}

/// Whether a character by itself does not come back.
fn is_lost(library: &tokenizers::Tokenizer, c: char) -> bool {
    let text = c.to_string();
    let Ok(encoding) = library.encode(text.as_str(), false) else {
        return true;
    };
    let back = library.decode(encoding.get_ids(), true);
    back.is_ok_and(|back| back.trim() != text)
}

/// The id of the token for what is unknown.
fn unknown_id(library: &tokenizers::Tokenizer) -> Option<u32> {
    let token = match library.get_model() {
        ModelWrapper::BPE(model) => model.unk_token.clone(),
        ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
        ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
        ModelWrapper::Unigram(_) => return unigram_unknown(library),
    };
    library.token_to_id(&token?)
}

/// A unigram model keeps its own; what it makes of a character that no
/// vocabulary has is the unknown one.
fn unigram_unknown(library: &tokenizers::Tokenizer) -> Option<u32> {
    let encoding = library.encode("\u{10FFFD}", false).ok()?;
    let last = encoding.get_ids().last().copied()?;
    // Bytes in its place are known.
    let is_byte = |token: &str| token.len() == 6 && token.starts_with("<0x");
    let token = library.id_to_token(last)?;
    (!is_byte(&token)).then_some(last)
}
