//! The maps of a study, by name.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::text::as_text;
use crate::explain::{Map, Method, Site};
use crate::{Error, Result};

/// What attention is compared with, scored, or deletes features in the order
/// of. Sorted as the texts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapName {
    /// What a method found at a site: `spes.input`; attention, as it is or
    /// weighted, at the decoder: `attention`, `attention-norm`.
    At(Method, Site),
    /// The same over time and frequency, pooled to the encoder's frames and
    /// spread again: `spes.input, pooled`.
    Pooled(Method, Site),
    /// SPES at the encoder's output less SPES at the input: `spes.encoder -
    /// spes.input`.
    EncoderLessInput,
    /// Random numbers, the same for all tokens.
    Random,
    /// No map at all: tokens that take equally long.
    Even,
}

impl MapName {
    /// SM^X of the paper: saliency at the input.
    pub const INPUT: Self = Self::At(Method::Spes, Site::Input);
    /// SM^H of the paper: saliency at the encoder's output.
    pub const ENCODER: Self = Self::At(Method::Spes, Site::Encoder);

    /// Cross-attention of all heads.
    pub const ATTENTION: Self = Self::At(Method::Attention, Site::Decoder);

    /// An explanation's map.
    pub fn of(map: &Map) -> Self {
        Self::At(map.method(), map.site())
    }

    /// Every map there may be.
    pub fn all() -> impl Iterator<Item = Self> {
        let pairs = Method::ALL
            .into_iter()
            .flat_map(|method| Site::ALL.map(|site| (method, site)));
        let pairs = pairs.filter(|(method, site)| method.works_at(*site));
        let explained = pairs.flat_map(|(method, site)| {
            let pooled = (site == Site::Input).then_some(Self::Pooled(method, site));
            [Self::At(method, site)].into_iter().chain(pooled)
        });
        explained.chain([Self::EncoderLessInput, Self::Random, Self::Even])
    }

    /// The name as the paper writes it, where it does: `SM^X`; the minus sign
    /// is one.
    pub fn title(self) -> String {
        match self {
            Self::INPUT => "SM^X".into(),
            Self::ENCODER => "SM^H".into(),
            Self::Pooled(Method::Spes, Site::Input) => "SM^X, pooled".into(),
            Self::EncoderLessInput => "SM^H \u{2212} SM^X".into(),
            other => other.to_string(),
        }
    }

    /// The text, in pieces that need no memory.
    fn pieces(self) -> [&'static str; 4] {
        match self {
            Self::At(method, Site::Decoder) => [method.name(), "", "", ""],
            Self::At(method, site) => [method.name(), ".", site.name(), ""],
            Self::Pooled(method, site) => [method.name(), ".", site.name(), ", pooled"],
            Self::EncoderLessInput => ["spes.encoder", " - ", "spes.input", ""],
            Self::Random => ["random", "", "", ""],
            Self::Even => ["even", "", "", ""],
        }
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        self.pieces().into_iter().flat_map(str::bytes)
    }
}

impl fmt::Display for MapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces()
            .iter()
            .try_for_each(|piece| f.write_str(piece))
    }
}

impl FromStr for MapName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::all().find(|own| own.bytes().eq(text.bytes()));
        found.ok_or_else(|| Error::Input(format!("{text:?} is no map of a study")))
    }
}

as_text!(MapName);

impl Ord for MapName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for MapName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::map_name;

    #[test]
    fn every_name_is_read_back_and_sorted_as_its_text() {
        let mut all: Vec<MapName> = MapName::all().collect();
        for name in &all {
            assert_eq!(name.to_string().parse::<MapName>().unwrap(), *name);
            if let MapName::At(method, site) = *name {
                assert_eq!(name.to_string(), map_name(method, site));
            }
        }
        all.sort();
        let texts: Vec<String> = all.iter().map(MapName::to_string).collect();
        assert!(texts.windows(2).all(|pair| pair[0] < pair[1]), "{texts:?}");
        for text in [
            "attention",
            "spes.input, pooled",
            "spes.encoder - spes.input",
            "even",
        ] {
            assert!(texts.iter().any(|own| own == text), "{text}");
        }
        for text in ["", "spes", "attention.input", "spes.input,pooled", "Random"] {
            let message = text.parse::<MapName>().unwrap_err().to_string();
            assert!(message.contains("no map"), "{message}");
        }
    }
}
