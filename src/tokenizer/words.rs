//! From tokens to words.

use super::{Inner, Tokenizer};

/// Most tokens that one character is spread over: its bytes.
const CHARACTER_TOKENS: usize = 4;

impl Tokenizer {
    /// Groups tokens into words: each word's text and the positions of its
    /// tokens in `ids`. Tokens marked in `special` belong to no word and end
    /// the one before them.
    ///
    /// A word begins at a piece with a leading `▁`, `Ġ` or space. Its text is
    /// decoded from all of its tokens together, so that characters spread
    /// over several byte-level tokens come out whole. A lone space mark joins
    /// the word that follows it. In scripts without spaces (Chinese, Japanese,
    /// Thai, Lao, Burmese, Khmer) every token is a word, or as many tokens as
    /// a character takes; what cannot begin one joins the one before.
    pub fn words(
        &self,
        ids: &[u32],
        is_special: impl Fn(usize) -> bool,
    ) -> Vec<(String, Vec<usize>)> {
        let special: Vec<bool> = (0..ids.len()).map(is_special).collect();
        let mut words: Vec<(String, Vec<usize>)> = Vec::new();
        let mut word: Vec<usize> = Vec::new();
        let mut position = 0;
        while position < ids.len() {
            if special[position] {
                self.close_word(ids, &mut word, &mut words);
                position += 1;
                continue;
            }
            let unit = self.unit(ids, &special, position);
            position += unit.len();
            if self.begins_word(ids, &word, &unit) {
                self.close_word(ids, &mut word, &mut words);
            }
            word.extend(unit);
        }
        self.close_word(ids, &mut word, &mut words);
        words
    }

    /// What each token reads as among the others: its text with the space before
    /// it, not its entry in the vocabulary. Tokens that only together are whole
    /// characters each have all of these and their number: `日 1/3`, `日 2/3`.
    /// Bytes that are no character are written as such: `<0xE6>`. Tokens marked
    /// in `special` stay as they are.
    pub fn readable(&self, ids: &[u32], is_special: impl Fn(usize) -> bool) -> Vec<String> {
        let special: Vec<bool> = (0..ids.len()).map(is_special).collect();
        let mut texts: Vec<String> = Vec::with_capacity(ids.len());
        while let Some(&id) = ids.get(texts.len()) {
            let position = texts.len();
            if special[position] {
                texts.push(self.token_text(id));
                continue;
            }
            let unit = self.unit(ids, &special, position);
            let own: Vec<u32> = unit.iter().map(|&p| ids[p]).collect();
            let text = self.decode(&own);
            let whole = !text.contains('\u{fffd}');
            match own.len() {
                _ if !whole => texts.push(self.broken_text(id)),
                1 => texts.push(self.spaced(id, &text)),
                count => {
                    let text = self.spaced(id, &text);
                    texts.extend((1..=count).map(|part| format!("{text} {part}/{count}")));
                }
            }
        }
        texts
    }

    /// A token's decoded text with its own space: decoders drop the first one.
    fn spaced(&self, id: u32, text: &str) -> String {
        let entry = self.token_text(id);
        match entry.starts_with(['▁', 'Ġ', ' ']) {
            true => format!(" {}", text.strip_prefix(' ').unwrap_or(text)),
            false if text.is_empty() => entry,
            false => text.to_owned(),
        }
    }

    /// A token whose bytes are no whole characters, whatever follows.
    fn broken_text(&self, id: u32) -> String {
        let whole = self.decode(&[id]).replace('\u{fffd}', "");
        if !whole.trim().is_empty() {
            return self.spaced(id, &whole);
        }
        let entry = self.token_text(id);
        if entry.starts_with("<0x") {
            return entry;
        }
        let bytes: Option<Vec<String>> = entry.chars().map(byte_text).collect();
        bytes.map_or(entry, |bytes| bytes.concat())
    }

    /// The tokens from `start` on that only together are whole characters.
    fn unit(&self, ids: &[u32], special: &[bool], start: usize) -> Vec<usize> {
        let mut unit = vec![start];
        let most = (start + CHARACTER_TOKENS).min(ids.len());
        for next in start + 1..most {
            let incomplete = self.word_text(ids, &unit).ends_with('\u{fffd}');
            if !incomplete || special[next] || self.has_space(ids[next]) {
                break;
            }
            unit.push(next);
        }
        unit
    }

    /// Whether the word so far ends before `unit`.
    fn begins_word(&self, ids: &[u32], word: &[usize], unit: &[usize]) -> bool {
        let so_far = self.word_text(ids, word);
        let Some(last) = so_far.chars().next_back() else {
            return false;
        };
        if self.has_space(ids[unit[0]]) {
            return true;
        }
        let first = self.word_text(ids, unit).chars().next();
        first.is_some_and(|first| {
            begins_unspaced(first)
                || is_unspaced(last) && first.is_alphanumeric() && !is_unspaced(first)
        })
    }

    fn has_space(&self, id: u32) -> bool {
        let added = match &self.inner {
            Inner::SentencePiece(pieces) => pieces.is_added_text(id),
            Inner::Library(_) => false,
        };
        added || self.token_text(id).starts_with(['▁', 'Ġ', ' '])
    }

    /// Ends the word made of the tokens in `word`, if there are any.
    fn close_word(
        &self,
        ids: &[u32],
        word: &mut Vec<usize>,
        words: &mut Vec<(String, Vec<usize>)>,
    ) {
        if !word.is_empty() {
            let text = self.word_text(ids, word);
            words.push((text, std::mem::take(word)));
        }
    }

    fn word_text(&self, ids: &[u32], positions: &[usize]) -> String {
        let ids: Vec<u32> = positions.iter().map(|&p| ids[p]).collect();
        self.decode(&ids).trim().to_owned()
    }
}

/// The byte that a letter of a byte-level vocabulary stands for, as text. Bytes
/// that print are themselves there; the others follow each other from U+0100.
fn byte_text(letter: char) -> Option<String> {
    let byte = match u32::from(letter) {
        own @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => own,
        own @ 0x100..=0x120 => own - 0x100,
        own @ 0x121..=0x142 => own - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    Some(format!("<0x{byte:02X}>"))
}

/// Letters and marks of scripts that are written without spaces.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{e01}'..='\u{eff}'           // Thai, Lao
        | '\u{1000}'..='\u{109f}'       // Burmese
        | '\u{1780}'..='\u{17d3}'       // Khmer
        | '\u{3005}' | '\u{3041}'..='\u{309f}' | '\u{30a1}'..='\u{30fe}' // Japanese
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// Those of them that something can begin with: no vowel signs, tone marks,
/// small kana or marks of length and repetition.
fn begins_unspaced(c: char) -> bool {
    let follows = matches!(c,
        '\u{e2f}'..='\u{e3a}' | '\u{e45}'..='\u{e4e}'
        | '\u{eaf}'..='\u{ebc}' | '\u{ec6}'..='\u{ece}'
        | '\u{102b}'..='\u{103e}' | '\u{1056}'..='\u{1059}'
        | '\u{17b4}'..='\u{17d3}'
        | '\u{3005}' | '\u{3099}'..='\u{309e}' | '\u{30fb}'..='\u{30fe}'
        | 'ぁ' | 'ぃ' | 'ぅ' | 'ぇ' | 'ぉ' | 'っ' | 'ゃ' | 'ゅ' | 'ょ' | 'ゎ'
        | 'ァ' | 'ィ' | 'ゥ' | 'ェ' | 'ォ' | 'ッ' | 'ャ' | 'ュ' | 'ョ' | 'ヮ');
    is_unspaced(c) && !follows
}
