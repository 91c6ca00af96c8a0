//! Which part of a model's cross-attention a row is of.

use std::fmt;
use std::str::FromStr;

use super::super::choosing::Criterion;
use super::super::text::as_text;
use crate::explain::alignment::Head;
use crate::{Error, Result};

/// What multiplies the attention, if anything does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Weighting {
    Plain,
    /// The norm of what it carries.
    Norm,
    /// Its gradient.
    Gradient,
}

impl Weighting {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Norm, Self::Gradient];

    /// The name in tables; empty for attention as it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Norm => "norm-weighted",
            Self::Gradient => "gradient-weighted",
        }
    }
}

/// A head, or an average of heads; from 0, but counted from 1 in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum View {
    /// The mean over all heads and layers.
    All,
    /// The mean over a layer's heads.
    Layer(usize),
    /// The mean of one head number over all layers.
    AcrossLayers(usize),
    Head(Head),
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Layer(l) => write!(f, "layer {}", l + 1),
            Self::AcrossLayers(h) => write!(f, "head {} of all layers", h + 1),
            Self::Head([l, h]) => write!(f, "layer {} head {}", l + 1, h + 1),
        }
    }
}

/// The attention that a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attention {
    View(Weighting, View),
    /// The head that is best on other utterances.
    BestHead(Criterion),
}

impl Attention {
    /// Attention as it is, over all heads and layers.
    pub const ALL: Self = Self::View(Weighting::Plain, View::All);

    /// A part of the attention as it is.
    pub fn plain(view: View) -> Self {
        Self::View(Weighting::Plain, view)
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::View(Weighting::Plain, view) => view.fmt(f),
            Self::View(weighting, view) => write!(f, "{} {view}", weighting.name()),
            Self::BestHead(Criterion::Onsets) => f.write_str("best head by onset error"),
            Self::BestHead(Criterion::Map(map)) => write!(f, "best head by {map}"),
        }
    }
}

impl FromStr for Attention {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A number that is written otherwise is none of ours.
        let found = parsed(text).filter(|own| own.to_string() == text);
        found.ok_or_else(|| Error::Input(format!("{text:?} is no part of an attention")))
    }
}

fn parsed(text: &str) -> Option<Attention> {
    if let Some(by) = text.strip_prefix("best head by ") {
        return Some(Attention::BestHead(match by {
            "onset error" => Criterion::Onsets,
            map => Criterion::Map(map.parse().ok()?),
        }));
    }
    let weighted = Weighting::ALL.into_iter().find_map(|weighting| {
        let name = Some(weighting.name()).filter(|name| !name.is_empty())?;
        let rest = text.strip_prefix(name)?.strip_prefix(' ')?;
        Some((weighting, rest))
    });
    let (weighting, text) = weighted.unwrap_or((Weighting::Plain, text));
    let words: Vec<&str> = text.split(' ').collect();
    let index = |number: &str| number.parse::<usize>().ok()?.checked_sub(1);
    let view = match *words.as_slice() {
        ["all"] => View::All,
        ["layer", l] => View::Layer(index(l)?),
        ["head", h, "of", "all", "layers"] => View::AcrossLayers(index(h)?),
        ["layer", l, "head", h] => View::Head([index(l)?, index(h)?]),
        _ => return None,
    };
    Some(Attention::View(weighting, view))
}

as_text!(Attention);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::map_name::MapName;

    #[test]
    fn every_part_is_read_back() {
        let views = [
            (View::All, "all"),
            (View::Layer(1), "layer 2"),
            (View::AcrossLayers(2), "head 3 of all layers"),
            (View::Head([1, 10]), "layer 2 head 11"),
        ];
        for weighting in Weighting::ALL {
            for (view, name) in views {
                let own = Attention::View(weighting, view);
                let text = own.to_string();
                assert_eq!(text, format!("{} {name}", weighting.name()).trim_start());
                assert_eq!(text.parse::<Attention>().unwrap(), own);
            }
        }
        for (by, name) in [
            (Criterion::Onsets, "onset error"),
            (Criterion::Map(MapName::ENCODER), "spes.encoder"),
        ] {
            let own = Attention::BestHead(by);
            assert_eq!(own.to_string(), format!("best head by {name}"));
            assert_eq!(own.to_string().parse::<Attention>().unwrap(), own);
        }
        for text in [
            "",
            "layer 0",
            "layer 01",
            "layer",
            "head 3",
            " all",
            "norm-weighted  all",
            "best head by onsets",
            "layer +1",
        ] {
            let message = text.parse::<Attention>().unwrap_err().to_string();
            assert!(message.contains("no part"), "{message}");
        }
    }
}
