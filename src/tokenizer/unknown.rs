//! Characters of a text that a vocabulary lacks.

use tokenizers::{DecoderWrapper, ModelWrapper};

use super::{Inner, Tokenizer};

impl Tokenizer {
    /// The characters of a text that no token of the vocabulary stands for, in
    /// order, each once: they would be lost, or read as the unknown token.
    pub(super) fn unknown(&self, text: &str) -> Vec<char> {
        let mut found: Vec<char> = match &self.inner {
            Inner::SentencePiece(pieces) => pieces.unknown(text),
            Inner::Library(library) => unknown(library, text),
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

fn unknown(library: &tokenizers::Tokenizer, text: &str) -> Vec<char> {
    let Ok(encoding) = library.encode(text, false) else {
        return Vec::new();
    };
    let id = unknown_id(library);
    let parts = encoding.get_ids().iter().zip(encoding.get_offsets());
    let mut covered = vec![false; text.len()];
    let mut lost: Vec<(usize, char)> = Vec::new();
    for (own, &(start, end)) in parts {
        let end = end.min(text.len());
        covered
            .iter_mut()
            .take(end)
            .skip(start)
            .for_each(|place| *place = true);
        if Some(*own) == id {
            let part = text.get(start..end).unwrap_or_default();
            lost.extend(part.char_indices().map(|(at, c)| (start + at, c)));
        }
    }
    // What a normaliser takes away is not lost by the vocabulary.
    if library.get_normalizer().is_none() {
        let byte_level = matches!(library.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let bare = text
            .char_indices()
            .filter(|&(at, c)| !covered[at] || byte_level && !c.is_ascii() && is_torn(library, c));
        lost.extend(bare);
    }
    lost.sort_unstable();
    lost.into_iter().map(|(_, c)| c).collect()
}

/// Whether some of a character's bytes have no token.
fn is_torn(library: &tokenizers::Tokenizer, c: char) -> bool {
    let text = c.to_string();
    let Ok(encoding) = library.encode(text.as_str(), false) else {
        return true;
    };
    let added = library.get_added_vocabulary().get_added_tokens_decoder();
    let is_added = |id: &u32| added.contains_key(id);
    if encoding.get_ids().iter().any(is_added) {
        return false;
    }
    library.decode(encoding.get_ids(), true).ok().as_deref() != Some(text.as_str())
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
