//! Typed access to the entries of a JSON object, with errors that name the file
//! and the key.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::parameters::{is_parameter, listed};
use crate::{Error, Result};

/// Numbers of tokens and the like beyond this are taken for mistakes.
const LARGEST_COUNT: u64 = 1 << 32;

/// A sequence of tokens, and what is added to the score of its last one.
pub(super) type Bias = (Vec<u32>, f64);

/// A position, and the token there; without one it is open.
pub(super) type Forced = (usize, Option<u32>);

/// The entries of a file, of which only those are read that are listed.
pub(super) struct Entries<'a> {
    pub path: &'a Path,
    pub value: &'a Value,
    /// V: token ids are below it.
    pub vocabulary: usize,
    /// Whether entries count that are no parameters of transformers'
    /// GenerationConfig.
    pub with_others: bool,
}

impl<'a> Entries<'a> {
    /// An entry; null where it is absent or does not count.
    pub fn get(&self, key: &str) -> &'a Value {
        debug_assert!(listed(key), "{key} is not listed");
        match self.with_others || is_parameter(key) {
            true => &self.value[key],
            false => &Value::Null,
        }
    }

    /// An error about an entry.
    pub fn wrong(&self, key: &str, right: &str) -> Error {
        let value = &self.value[key];
        let problem = format!("{key} is {value}, where {right} would be right");
        Error::file(self.path, problem)
    }

    /// What `read` makes of an entry; absent where there is none.
    fn read<T>(
        &self,
        key: &str,
        right: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.get(key) {
            Value::Null => Ok(None),
            value => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(self.wrong(key, right)),
            },
        }
    }

    /// A whole number from `least` on.
    pub fn count(&self, key: &str, least: usize) -> Result<Option<usize>> {
        let right = format!("a whole number from {least} to {LARGEST_COUNT}");
        self.read(key, &right, |value| count(value, least))
    }

    /// A finite number that `fits`.
    pub fn number(
        &self,
        key: &str,
        right: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Result<Option<f64>> {
        let finite = |value: &Value| value.as_f64().filter(|own| own.is_finite() && fits(*own));
        self.read(key, right, finite)
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// A text, or a list that holds a single one.
    pub fn text(&self, key: &str, right: &str) -> Result<Option<String>> {
        self.read(key, right, |value| {
            let text = match value.as_array().map(Vec::as_slice) {
                Some([one]) => one.as_str(),
                Some(_) => None,
                None => value.as_str(),
            };
            text.map(str::to_owned)
        })
    }

    pub fn token(&self, key: &str) -> Result<Option<u32>> {
        let right = format!("a token id below {}", self.vocabulary);
        self.read(key, &right, |value| self.id(value))
    }

    /// Token ids, or a single one.
    pub fn token_or_tokens(&self, key: &str) -> Result<Option<Vec<u32>>> {
        let right = format!("a token id below {} or a list of such", self.vocabulary);
        self.read(key, &right, |value| match self.id(value) {
            Some(id) => Some(vec![id]),
            None => self.ids(value).filter(|ids| !ids.is_empty()),
        })
    }

    pub fn tokens(&self, key: &str) -> Result<Option<Vec<u32>>> {
        let right = format!("a list of token ids below {}", self.vocabulary);
        self.read(key, &right, |value| self.ids(value))
    }

    /// Lists of token ids, none of them empty.
    pub fn sequences(&self, key: &str) -> Result<Option<Vec<Vec<u32>>>> {
        let vocabulary = self.vocabulary;
        let right = format!("a list of lists of token ids below {vocabulary}");
        self.read(key, &right, |value| {
            let lists = value.as_array().filter(|lists| !lists.is_empty())?;
            lists.iter().map(|list| self.sequence(list)).collect()
        })
    }

    /// Lists of token ids with a number each: `[[[id, ...], number], ...]`.
    pub fn biases(&self, key: &str) -> Result<Option<Vec<Bias>>> {
        let right = format!(
            "a list such as [[[1, 2], -1.5]] with token ids below {}",
            self.vocabulary
        );
        self.read(key, &right, |value| {
            let pairs = value.as_array().filter(|pairs| !pairs.is_empty())?;
            let pair = |pair: &Value| match pair.as_array()?.as_slice() {
                // transformers wants a float.
                [list, bias] if bias.is_f64() => Some((self.sequence(list)?, bias.as_f64()?)),
                _ => None,
            };
            pairs.iter().map(pair).collect()
        })
    }

    /// Pairs of a position and a token id or null.
    pub fn forced(&self, key: &str) -> Result<Option<Vec<Forced>>> {
        let right = format!(
            "a list of pairs of a position and a token id below {} or null",
            self.vocabulary
        );
        self.read(key, &right, |value| {
            let pair = |pair: &Value| match pair.as_array()?.as_slice() {
                [at, Value::Null] => Some((count(at, 0)?, None)),
                [at, id] => Some((count(at, 0)?, Some(self.id(id)?))),
                _ => None,
            };
            value.as_array()?.iter().map(pair).collect()
        })
    }

    /// A pair of a whole number and a number above 0.
    pub fn decay(&self, key: &str) -> Result<Option<(usize, f64)>> {
        let right = "a pair of a number of tokens and a factor above 0";
        self.read(key, right, |value| match value.as_array()?.as_slice() {
            [start, factor] => {
                let factor = factor
                    .as_f64()
                    .filter(|own| own.is_finite() && *own > 0.0)?;
                Some((count(start, 0)?, factor))
            }
            _ => None,
        })
    }

    /// Token ids by name.
    pub fn named_tokens(&self, key: &str) -> Result<Option<BTreeMap<String, u32>>> {
        let right = format!(
            "an object from names to token ids below {}",
            self.vocabulary
        );
        self.read(key, &right, |value| {
            let own = value.as_object()?.iter();
            own.map(|(name, id)| Some((name.clone(), self.id(id)?)))
                .collect()
        })
    }

    fn id(&self, value: &Value) -> Option<u32> {
        let id = value.as_u64().filter(|&id| id < self.vocabulary as u64)?;
        u32::try_from(id).ok()
    }

    fn ids(&self, value: &Value) -> Option<Vec<u32>> {
        value.as_array()?.iter().map(|id| self.id(id)).collect()
    }

    fn sequence(&self, value: &Value) -> Option<Vec<u32>> {
        self.ids(value).filter(|ids| !ids.is_empty())
    }
}

/// A whole number from `least` on that is no mistake.
fn count(value: &Value, least: usize) -> Option<usize> {
    let count = value.as_u64().filter(|&count| count <= LARGEST_COUNT)?;
    usize::try_from(count).ok().filter(|&count| count >= least)
}
