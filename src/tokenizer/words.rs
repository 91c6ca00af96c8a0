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
