//! A SentencePiece model with the ids that a speech model gives its pieces.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::added::AddedTokens;
use super::sentencepiece::{SPACE, SentencePiece};

/// Ids that a `vocab.json` may have. The largest vocabularies have some
/// hundred thousand tokens.
const MOST_IDS: u64 = 1 << 24;

/// Pieces and further tokens by their ids.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    model: SentencePiece,
    ids: HashMap<String, u32>,
    tokens: HashMap<u32, String>,
    special: HashSet<u32>,
    unknown: u32,
    /// Added tokens that are text, the longest first.
    added: Vec<String>,
    /// One more than the largest id.
    size: usize,
}

impl Numbered {
    /// Ids come from `vocabulary` (an object from tokens to ids), or else are
    /// the model's own. `added` tokens that have none yet get theirs.
    pub(super) fn new(
        model: SentencePiece,
        vocabulary: Option<&Value>,
        added: &AddedTokens,
    ) -> Result<Self, String> {
        let mut ids = match vocabulary {
            Some(json) => numbers(json)?,
            None => {
                let texts = (0..model.len() as u32).filter_map(|id| Some((id, model.text(id)?)));
                texts.map(|(id, text)| (text.to_owned(), id)).collect()
            }
        };
        let mut tokens: HashMap<u32, String> = HashMap::with_capacity(ids.len());
        for (token, &id) in &ids {
            if let Some(other) = tokens.insert(id, token.clone()) {
                return Err(format!("gives {token:?} and {other:?} the same id {id}"));
            }
        }
        for (token, &id) in &added.ids {
            if u64::from(id) < MOST_IDS && !ids.contains_key(token) && !tokens.contains_key(&id) {
                ids.insert(token.clone(), id);
                tokens.insert(id, token.clone());
            }
        }
        let unknown = model.unknown_text();
        let Some(&unknown) = ids.get(unknown) else {
            return Err(format!(
                "has no token {unknown:?}, the model's unknown piece"
            ));
        };
        let is_special = |token: &str, id: u32| {
            let own = model.id(token);
            let control = own.is_some_and(|own| model.is_control(own));
            let tag = token.starts_with('<') && token.ends_with('>');
            // A byte piece looks like a tag, but is text.
            let text = added.ids.contains_key(token) && !added.special.contains(token);
            let given = tag && own.is_none() && !text || is_language(token);
            id != unknown && (control || given || added.special.contains(token))
        };
        let special = ids.iter().filter(|&(token, &id)| is_special(token, id));
        let special: HashSet<u32> = special.map(|(_, &id)| id).collect();
        let of_model = |token: &str| model.id(token).is_some();
        let mut in_text: Vec<String> = added
            .ids
            .keys()
            .filter(|token| !of_model(token) && !token.is_empty())
            .filter(|token| ids.get(*token).is_some_and(|id| !special.contains(id)))
            .cloned()
            .collect();
        in_text.sort_by_key(|token| std::cmp::Reverse(token.len()));
        Ok(Self {
            special,
            added: in_text,
            size: tokens.keys().max().map_or(0, |&id| id as usize + 1),
            unknown,
            model,
            ids,
            tokens,
        })
    }

    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let ids = self.pieces(text).into_iter();
        ids.map(|(_, id)| id.unwrap_or(self.unknown)).collect()
    }

    /// The characters of a text that no token stands for.
    pub(super) fn unknown(&self, text: &str) -> Vec<char> {
        let lacks = |id: Option<u32>| id.is_none_or(|id| id == self.unknown);
        let pieces = self.pieces(text).into_iter();
        let lost = pieces.filter(|&(_, id)| lacks(id));
        let characters = lost.flat_map(|(piece, _)| piece.chars().collect::<Vec<char>>());
        characters.filter(|&c| c != SPACE).collect()
    }

    /// The pieces of a text and their ids, if they have any; added tokens are
    /// found as they stand.
    fn pieces(&self, text: &str) -> Vec<(String, Option<u32>)> {
        let mut found = Vec::new();
        let between = |text: &str, found: &mut Vec<(String, Option<u32>)>| {
            let pieces = self.model.encode(text).into_iter();
            found.extend(pieces.map(|(piece, _)| {
                let id = self.ids.get(&piece).copied();
                (piece, id)
            }));
        };
        let (mut begin, mut at) = (0, 0);
        while at < text.len() {
            let token = self
                .added
                .iter()
                .find(|token| text[at..].starts_with(*token));
            let Some(token) = token else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            between(&text[begin..at], &mut found);
            found.push((token.clone(), self.ids.get(token).copied()));
            at += token.len();
            begin = at;
        }
        between(&text[begin..], &mut found);
        found
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let spoken = ids.iter().filter(|&&id| !self.is_special(id));
        let pieces: Vec<&str> = spoken
            .filter_map(|id| self.tokens.get(id).map(String::as_str))
            .collect();
        let decode = |pieces: &[&str]| {
            let pieces = pieces.iter().map(|token| (*token, self.model.id(token)));
            self.model.decode(pieces)
        };
        if !pieces.iter().any(|token| self.is_added(token)) {
            return decode(&pieces);
        }
        // Added tokens are words of their own, as they were given.
        let runs = pieces.chunk_by(|a, b| !self.is_added(a) && !self.is_added(b));
        let texts = runs.map(|run| match run {
            [token] if self.is_added(token) => (*token).to_owned(),
            run => decode(run),
        });
        texts.collect::<Vec<String>>().join(" ")
    }

    fn is_added(&self, token: &str) -> bool {
        self.added.iter().any(|own| own == token)
    }

    /// Whether a token is one that was added as text.
    pub(super) fn is_added_text(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| self.is_added(token))
    }

    pub(super) fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(&id).map(String::as_str)
    }

    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.ids.keys().map(String::as_str)
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }
}

/// Language tags are often user-defined pieces; they tell the model something
/// and are no text.
fn is_language(token: &str) -> bool {
    token.starts_with("<lang:") && token.ends_with('>')
}

/// The ids in a `vocab.json`.
pub(super) fn numbers(json: &Value) -> Result<HashMap<String, u32>, String> {
    let object = json
        .as_object()
        .ok_or("is no JSON object from tokens to ids")?;
    let number = |(token, id): (&String, &Value)| match id.as_u64() {
        Some(id) if id < MOST_IDS => Ok((token.clone(), id as u32)),
        _ => Err(format!("gives {token:?} the id {id}, which is none")),
    };
    object.iter().map(number).collect()
}
