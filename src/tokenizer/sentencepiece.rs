//! SentencePiece models (`.model`): unigram and BPE.
//!
//! Read and run here and not turned into a model of the tokenizers library:
//! that one normalises by grapheme, needs ids without gaps, ranks merges
//! instead of scoring them, and finds control symbols in a text. Each of these
//! gives other ids than the model was trained with for some text.
//!
//! Arithmetic and order of comparisons are those of the C++ library 0.2, since
//! scores of different splits are often nearly or exactly equal.

use std::collections::{BinaryHeap, HashMap, HashSet};

use super::charsmap::Charsmap;
use super::proto::{Value, fields};

/// Stands for a space in a piece.
pub(super) const SPACE: char = '▁';

/// What an unknown piece decodes to, unless the model says otherwise.
const UNKNOWN_SURFACE: &str = " \u{2047} ";

/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;

/// What a piece is for, numbered as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    /// Has no text and is never found in one.
    Control = 3,
    /// Always found as a whole.
    UserDefined = 4,
    /// Takes part in merges but not in the result.
    Unused = 5,
    /// One byte, as `<0xAB>`.
    Byte = 6,
}

#[derive(Clone, Debug)]
struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Unigram,
    Bpe,
}

/// A model as it stands in its file. Ids are the file's order.
#[derive(Clone, Debug)]
pub(super) struct SentencePiece {
    pieces: Vec<Piece>,
    /// Control, unknown and byte pieces are not in the text of anything.
    in_text: HashMap<String, u32>,
    others: HashMap<String, u32>,
    unknown: u32,
    /// What the unknown piece decodes to.
    unknown_surface: String,
    /// Lengths in bytes of the longest piece and the user-defined pieces.
    longest: usize,
    user_defined: HashSet<String>,
    longest_user_defined: usize,
    lowest_score: f32,
    highest_score: f32,
    algorithm: Algorithm,
    byte_fallback: bool,
    charsmap: Charsmap,
    add_dummy_prefix: bool,
    remove_extra_spaces: bool,
    escape_spaces: bool,
}

impl SentencePiece {
    /// Reads the contents of a `.model` file, or says what is wrong.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let broken = || "is not a usable SentencePiece model".to_owned();
        let mut pieces = Vec::new();
        let (mut trainer, mut normalizer): (&[u8], &[u8]) = (&[], &[]);
        let mut denormalizer: &[u8] = &[];
        for (number, value) in fields(bytes).ok_or_else(broken)? {
            let message = || value.bytes().ok_or_else(broken);
            match number {
                1 => pieces.push(piece(message()?).ok_or_else(broken)?),
                2 => trainer = message()?,
                3 => normalizer = message()?,
                5 => denormalizer = message()?,
                _ => {}
            }
        }

        let mut algorithm = Algorithm::Unigram;
        let mut byte_fallback = false;
        let mut unknown_surface = UNKNOWN_SURFACE.to_owned();
        for (number, value) in fields(trainer).ok_or_else(broken)? {
            match number {
                3 => {
                    algorithm = match value.number() {
                        Some(1) => Algorithm::Unigram,
                        Some(2) => Algorithm::Bpe,
                        Some(3) => return Err(unsupported("splits into words")),
                        Some(4) => return Err(unsupported("splits into characters")),
                        _ => return Err(broken()),
                    }
                }
                24 if flag(value) => return Err(unsupported("puts spaces behind words")),
                35 => byte_fallback = flag(value),
                44 => unknown_surface = value.text().ok_or_else(broken)?.to_owned(),
                _ => {}
            }
        }

        let mut charsmap = Charsmap::default();
        let (mut add_dummy_prefix, mut remove_extra_spaces, mut escape_spaces) = (true, true, true);
        for (number, value) in fields(normalizer).ok_or_else(broken)? {
            match number {
                2 => {
                    let map = value.bytes().and_then(Charsmap::read);
                    charsmap = map.ok_or_else(broken)?;
                }
                3 => add_dummy_prefix = flag(value),
                4 => remove_extra_spaces = flag(value),
                5 => escape_spaces = flag(value),
                _ => {}
            }
        }
        let denormalizer = fields(denormalizer).ok_or_else(broken)?;
        let changes = |(number, value): &(u64, Value)| {
            *number == 2 && value.bytes().is_some_and(|map| !map.is_empty())
        };
        if denormalizer.iter().any(changes) {
            return Err(unsupported("changes characters of its output"));
        }

        let mut model = Self {
            in_text: HashMap::new(),
            others: HashMap::new(),
            unknown: 0,
            unknown_surface,
            longest: 0,
            user_defined: HashSet::new(),
            longest_user_defined: 0,
            lowest_score: f32::MAX,
            highest_score: f32::MIN,
            algorithm,
            byte_fallback,
            charsmap,
            add_dummy_prefix,
            remove_extra_spaces,
            escape_spaces,
            pieces,
        };
        model.index()?;
        Ok(model)
    }

    /// Fills in what follows from the pieces.
    fn index(&mut self) -> Result<(), String> {
        let mut unknown = None;
        for (id, piece) in self.pieces.iter().enumerate() {
            let (id, text) = (id as u32, &piece.text);
            if text.is_empty() || !piece.score.is_finite() {
                return Err(format!("has no usable text or score for piece {id}"));
            }
            let map = match piece.kind {
                Kind::Normal | Kind::UserDefined | Kind::Unused => {
                    self.longest = self.longest.max(text.len());
                    &mut self.in_text
                }
                Kind::Unknown | Kind::Control | Kind::Byte => &mut self.others,
            };
            if map.insert(text.clone(), id).is_some() {
                return Err(format!("has the piece {text:?} twice"));
            }
            match piece.kind {
                Kind::Normal => {
                    self.lowest_score = self.lowest_score.min(piece.score);
                    self.highest_score = self.highest_score.max(piece.score);
                }
                Kind::Unknown if unknown.replace(id).is_some() => {
                    return Err("has two unknown pieces".into());
                }
                Kind::UserDefined => {
                    self.longest_user_defined = self.longest_user_defined.max(text.len());
                    self.user_defined.insert(text.clone());
                }
                Kind::Byte if byte_value(text).is_none() => {
                    return Err(format!("has the piece {text:?}, which is no byte"));
                }
                _ => {}
            }
        }
        self.unknown = unknown.ok_or("has no unknown piece")?;
        let missing = |byte: &u8| !self.others.contains_key(&byte_piece(*byte));
        if self.byte_fallback
            && let Some(byte) = (0..=255).find(missing)
        {
            return Err(format!("has no piece {}", byte_piece(byte)));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn id(&self, piece: &str) -> Option<u32> {
        let id = self.others.get(piece).or_else(|| self.in_text.get(piece));
        id.copied()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        Some(&self.pieces.get(id as usize)?.text)
    }

    /// The unknown piece as it stands in the vocabulary.
    pub(super) fn unknown_text(&self) -> &str {
        &self.pieces[self.unknown as usize].text
    }

    pub(super) fn is_control(&self, id: u32) -> bool {
        self.kind(id) == Some(Kind::Control)
    }

    fn kind(&self, id: u32) -> Option<Kind> {
        self.pieces.get(id as usize).map(|piece| piece.kind)
    }

    /// The pieces of a text: their texts and ids. A run of unknown characters
    /// is one piece.
    pub(super) fn encode(&self, text: &str) -> Vec<(String, u32)> {
        let normal = self.normalize(text);
        let found = match self.algorithm {
            Algorithm::Unigram => self.best_path(&normal),
            Algorithm::Bpe => self.merged(&normal),
        };
        let mut result: Vec<(String, u32)> = Vec::new();
        let mut after_unknown = false;
        for (piece, id) in found {
            let unknown = id == self.unknown;
            if unknown && self.byte_fallback {
                for byte in piece.bytes() {
                    let text = byte_piece(byte);
                    let id = self.others[&text];
                    result.push((text, id));
                }
            } else if unknown
                && after_unknown
                && let Some((run, _)) = result.last_mut()
            {
                run.push_str(piece);
            } else {
                result.push((piece.to_owned(), id));
            }
            after_unknown = unknown;
        }
        result
    }

    /// The text as the pieces have it: characters replaced, spaces marked.
    fn normalize(&self, text: &str) -> String {
        let space = if self.escape_spaces { SPACE } else { ' ' };
        let mut rest = text;
        if self.remove_extra_spaces {
            while let Some((" ", length)) = self.next_normal(rest) {
                rest = &rest[length..];
            }
        }
        let mut normal = String::with_capacity(text.len() + 3);
        if rest.is_empty() {
            return normal;
        }
        if self.add_dummy_prefix {
            normal.push(space);
        }
        let mut after_space = self.remove_extra_spaces;
        while let Some((mut part, length)) = self.next_normal(rest) {
            if after_space {
                part = part.trim_start_matches(' ');
            }
            if !part.is_empty() {
                normal.extend(part.chars().map(|c| if c == ' ' { space } else { c }));
                after_space = self.remove_extra_spaces && part.ends_with(' ');
            }
            rest = &rest[length..];
        }
        if self.remove_extra_spaces {
            normal.truncate(normal.trim_end_matches(space).len());
        }
        normal
    }

    /// What the beginning of a text becomes, and the beginning's length.
    fn next_normal<'a>(&'a self, text: &'a str) -> Option<(&'a str, usize)> {
        if let Some(length) = self.user_defined_prefix(text) {
            return Some((&text[..length], length));
        }
        let first = text.chars().next()?.len_utf8();
        Some(
            self.charsmap
                .longest(text)
                .unwrap_or((&text[..first], first)),
        )
    }

    /// Length of the longest user-defined piece that the text begins with.
    fn user_defined_prefix(&self, text: &str) -> Option<usize> {
        let longest = self.longest_user_defined.min(text.len());
        (1..=longest).rev().find(|&length| {
            let prefix = text.get(..length);
            prefix.is_some_and(|prefix| self.user_defined.contains(prefix))
        })
    }

    /// Unigram: the split whose scores have the largest sum (Viterbi).
    fn best_path<'a>(&self, text: &'a str) -> Vec<(&'a str, u32)> {
        /// The best way to a place in the text.
        #[derive(Clone, Copy)]
        struct Way {
            from: usize,
            id: u32,
            score: f32,
        }
        let mut ways: Vec<Option<Way>> = vec![None; text.len() + 1];
        let unknown_score = self.lowest_score - UNKNOWN_PENALTY;
        for (from, first) in text.char_indices() {
            // Sums are stored in f32 and compared in f64.
            let so_far = match ways[from] {
                Some(way) => way.score,
                None if from == 0 => 0.0,
                None => continue,
            };
            let mut consider = |length: usize, id: u32, score: f64| {
                let way = &mut ways[from + length];
                if way.is_none_or(|way| score > f64::from(way.score)) {
                    let score = score as f32;
                    *way = Some(Way { from, id, score });
                }
            };
            let mut has_single = false;
            let most = self.longest.min(text.len() - from);
            for length in first.len_utf8()..=most {
                let piece = text.get(from..from + length);
                let Some(&id) = piece.and_then(|piece| self.in_text.get(piece)) else {
                    continue;
                };
                let piece = &self.pieces[id as usize];
                let score = match piece.kind {
                    Kind::Unused => continue,
                    // Always more than any other way over the same bytes.
                    Kind::UserDefined => f64::from(length as f32 * self.highest_score) - 0.1,
                    _ => f64::from(piece.score),
                };
                consider(length, id, score + f64::from(so_far));
                has_single |= length == first.len_utf8();
            }
            if !has_single {
                let score = unknown_score + so_far;
                consider(first.len_utf8(), self.unknown, score.into());
            }
        }
        let mut path = Vec::new();
        let mut end = text.len();
        while let Some(way) = ways[end].filter(|_| end > 0) {
            path.push((&text[way.from..end], way.id));
            end = way.from;
        }
        path.reverse();
        path
    }

    /// BPE: neighbours are joined, the pair with the highest score first and
    /// of equal ones the leftmost.
    fn merged<'a>(&self, text: &'a str) -> Vec<(&'a str, u32)> {
        let mut symbols = self.symbols(text);
        let mut joins = BinaryHeap::new();
        // How unused pieces were made, to take them apart again.
        let mut parts: HashMap<&str, usize> = HashMap::new();
        let mut propose = |symbols: &[Symbol], left: Option<usize>, right: Option<usize>| {
            let (Some(left), Some(right)) = (left, right) else {
                return None;
            };
            let (a, b) = (&symbols[left], &symbols[right]);
            if a.frozen || b.frozen {
                return None;
            }
            let joined = &text[a.start..b.end];
            let &id = self.in_text.get(joined)?;
            let piece = &self.pieces[id as usize];
            if piece.kind == Kind::Unused {
                parts.insert(joined, a.end - a.start);
            }
            Some(Join {
                score: piece.score,
                left,
                right,
                length: joined.len(),
            })
        };
        for right in 1..symbols.len() {
            joins.extend(propose(&symbols, Some(right - 1), Some(right)));
        }
        while let Some(join) = joins.pop() {
            let (a, b) = (symbols[join.left], symbols[join.right]);
            // One of the two may have been joined with another since.
            if a.is_empty() || b.is_empty() || b.end - a.start != join.length {
                continue;
            }
            symbols[join.left].end = b.end;
            symbols[join.left].next = b.next;
            symbols[join.right].end = b.start;
            if let Some(next) = b.next {
                symbols[next].previous = Some(join.left);
            }
            joins.extend(propose(&symbols, a.previous, Some(join.left)));
            joins.extend(propose(&symbols, Some(join.left), b.next));
        }
        let mut result = Vec::new();
        for symbol in symbols.iter().filter(|symbol| !symbol.is_empty()) {
            let mut left = vec![&text[symbol.start..symbol.end]];
            while let Some(piece) = left.pop() {
                let id = self.in_text.get(piece).copied().unwrap_or(self.unknown);
                match parts.get(piece) {
                    Some(&at) if self.kind(id) == Some(Kind::Unused) => {
                        left.extend([&piece[at..], &piece[..at]]);
                    }
                    _ => result.push((piece, id)),
                }
            }
        }
        result
    }

    /// The characters and user-defined pieces of a text.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::new();
        let mut start = 0;
        while let Some(first) = text[start..].chars().next() {
            let frozen = self.user_defined_prefix(&text[start..]);
            let end = start + frozen.unwrap_or(first.len_utf8());
            let at = symbols.len();
            if let Some(last) = symbols.last_mut() {
                last.next = Some(at);
            }
            symbols.push(Symbol {
                start,
                end,
                previous: at.checked_sub(1),
                next: None,
                frozen: frozen.is_some(),
            });
            start = end;
        }
        symbols
    }

    /// The text of pieces; `None` stands for one that has no text and is not
    /// of this model.
    pub(super) fn decode<'a>(
        &self,
        pieces: impl Iterator<Item = (&'a str, Option<u32>)>,
    ) -> String {
        let mut text = String::new();
        let mut bytes = Vec::new();
        let (mut at_start, mut space_dropped) = (true, false);
        for (piece, id) in pieces {
            let kind = id.and_then(|id| self.kind(id));
            if kind == Some(Kind::Byte) {
                bytes.extend(byte_value(piece));
                continue;
            }
            push_bytes(&mut text, &mut bytes);
            at_start &= !space_dropped && text.is_empty();
            space_dropped = false;
            match kind {
                Some(Kind::Control) => {}
                Some(Kind::Unknown) => text.push_str(&self.unknown_surface),
                _ => {
                    let mut piece = piece;
                    if at_start && (self.add_dummy_prefix || self.remove_extra_spaces) {
                        let without = piece.strip_prefix(SPACE);
                        // With extra spaces removed all leading ones go.
                        space_dropped = without.is_some() && !self.remove_extra_spaces;
                        piece = without.unwrap_or(piece);
                    }
                    text.extend(piece.chars().map(|c| if c == SPACE { ' ' } else { c }));
                }
            }
        }
        push_bytes(&mut text, &mut bytes);
        text
    }
}

/// A part of a text that is not split any further.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
    /// Is not joined with others.
    frozen: bool,
}

impl Symbol {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Two neighbours that make a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Join {
    score: f32,
    left: usize,
    right: usize,
    /// Of both, in bytes.
    length: usize,
}

impl Eq for Join {}

impl Ord for Join {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Join {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn piece(message: &[u8]) -> Option<Piece> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Normal,
    };
    for (number, value) in fields(message)? {
        match number {
            1 => piece.text = value.text()?.to_owned(),
            2 => piece.score = value.float()?,
            3 => {
                piece.kind = match value.number()? {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    _ => return None,
                }
            }
            _ => {}
        }
    }
    Some(piece)
}

fn flag(value: Value) -> bool {
    value.number().is_some_and(|number| number != 0)
}

fn unsupported(what: &str) -> String {
    format!("is a SentencePiece model that {what}, which is not supported")
}

fn byte_piece(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

fn byte_value(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Appends `bytes` as text and empties them. Each byte that belongs to no
/// character becomes a replacement character.
fn push_bytes(text: &mut String, bytes: &mut Vec<u8>) {
    let mut rest = bytes.as_slice();
    loop {
        let valid = match std::str::from_utf8(rest) {
            Ok(whole) => {
                text.push_str(whole);
                break;
            }
            Err(e) => e.valid_up_to(),
        };
        text.push_str(&String::from_utf8_lossy(&rest[..valid]));
        text.push('\u{fffd}');
        rest = &rest[valid + 1..];
    }
    bytes.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;
    use std::path::Path;

    fn fixture(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sentencepiece");
        std::fs::read(folder.join(name)).unwrap()
    }

    fn ids(json: &Json) -> Vec<u32> {
        let ids = json.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    }

    fn decode(model: &SentencePiece, ids: &[u32]) -> String {
        model.decode(ids.iter().map(|&id| (model.text(id).unwrap(), Some(id))))
    }

    /// Ids and texts are those of the Python library.
    #[test]
    fn both_algorithms_are_the_librarys() {
        let cases: Json = serde_json::from_slice(&fixture("cases.json")).unwrap();
        for name in ["unigram", "bpe"] {
            let model = SentencePiece::read(&fixture(&format!("{name}.model"))).unwrap();
            let mut wrong = 0;
            let encode = cases[name]["encode"].as_array().unwrap();
            for case in encode {
                let text = case[0].as_str().unwrap();
                let pieces = model.encode(text);
                let out: Vec<u32> = pieces.iter().map(|&(_, id)| id).collect();
                let back = decode(&model, &out);
                if out != ids(&case[1]) || back != case[2] {
                    println!(
                        "{name} {text:?}: {pieces:?} {back:?}, not {} {}",
                        case[1], case[2]
                    );
                    wrong += 1;
                }
            }
            let lists = cases[name]["decode"].as_array().unwrap();
            for case in lists {
                let text = decode(&model, &ids(&case[0]));
                if text != case[1] {
                    println!("{name} {}: {text:?}, not {}", case[0], case[1]);
                    wrong += 1;
                }
            }
            println!("{name}: {wrong} of {} wrong", encode.len() + lists.len());
            assert_eq!(wrong, 0, "{name}");
        }
    }

    /// Unused pieces help to merge but are not in the result.
    #[test]
    fn unused_pieces_are_those_of_the_library() {
        let cases: Json = serde_json::from_slice(&fixture("cases.json")).unwrap();
        for name in ["unigram", "bpe"] {
            let mut model = SentencePiece::read(&fixture(&format!("{name}.model"))).unwrap();
            let unused = ids(&cases[name]["unused"]);
            assert!(unused.len() > 50);
            for id in unused {
                model.pieces[id as usize].kind = Kind::Unused;
            }
            for case in cases[name]["encode_without"].as_array().unwrap() {
                let pieces = model.encode(case[0].as_str().unwrap());
                let out: Vec<u32> = pieces.iter().map(|&(_, id)| id).collect();
                assert_eq!(out, ids(&case[1]), "{name} {}: {pieces:?}", case[0]);
            }
        }
    }

    #[test]
    fn broken_models_are_refused() {
        let whole = fixture("bpe.model");
        for bytes in [&[][..], b"no model", &whole[..whole.len() - 1], &whole[..9]] {
            assert!(SentencePiece::read(bytes).is_err());
        }
        // A changed byte anywhere gives an error or a model that does no harm.
        let mut refused = 0;
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                match SentencePiece::read(&bytes) {
                    Ok(model) => {
                        let pieces = model.encode("the [noise] trains 今日");
                        let _ = decode(&model, &pieces.iter().map(|p| p.1).collect::<Vec<_>>());
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        println!("{refused} of {} refused", 3 * whole.len());
        // Model types without an implementation.
        for kind in [3, 4, 9] {
            // The trainer's settings hold the type as field 3.
            let mut bytes = whole.clone();
            bytes.extend([0x12, 2, 0x18, kind]);
            assert!(SentencePiece::read(&bytes).is_err(), "{kind}");
        }
    }
}
