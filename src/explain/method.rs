//! The ways to say which sound a token came from, and the places where they
//! look.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ops::Reduction;
use crate::{Error, Result};

/// A way to say which sound a token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// Cross-attention of every decoder layer and head.
    Attention,
    /// Cross-attention times the norm of the value it carries.
    AttentionNorm,
    /// Cross-attention times d log p(token) / d attention.
    AttentionXGradient,
    /// d log p(token) / d x
    Gradient,
    /// Gradient times x.
    InputXGradient,
    /// Mean gradient between a baseline and x, times their difference.
    IntegratedGradients,
    /// Mean gradient over noisy copies of x.
    #[serde(rename = "smoothgrad")]
    SmoothGrad,
    /// Occlusion by random masks of superpixels, frames or tokens.
    Spes,
}

impl Method {
    /// All of them, in the order in which an explanation lists their maps.
    pub const ALL: [Self; 8] = [
        Self::Attention,
        Self::AttentionNorm,
        Self::AttentionXGradient,
        Self::Gradient,
        Self::InputXGradient,
        Self::IntegratedGradients,
        Self::SmoothGrad,
        Self::Spes,
    ];

    /// The method's name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::AttentionNorm => "attention-norm",
            Self::AttentionXGradient => "attention-x-gradient",
            Self::Gradient => "gradient",
            Self::InputXGradient => "input-x-gradient",
            Self::IntegratedGradients => "integrated-gradients",
            Self::SmoothGrad => "smoothgrad",
            Self::Spes => "spes",
        }
    }

    /// Whether the method looks at the decoder's attention, wherever others
    /// look.
    pub fn is_attention(self) -> bool {
        matches!(
            self,
            Self::Attention | Self::AttentionNorm | Self::AttentionXGradient
        )
    }

    /// Whether the method has a map at a site.
    pub fn works_at(self, site: Site) -> bool {
        match site {
            Site::Decoder => self.is_attention(),
            Site::Tokens => self == Self::Spes,
            Site::Input | Site::Encoder => !self.is_attention(),
        }
    }

    /// How the columns of a site become one value in the method's map. The
    /// model dimension of the encoder's output has no meaning of its own:
    /// gradients are reduced by their norm, attributions by their signed sum,
    /// which keeps them complete.
    pub fn reduction(self, site: Site) -> Reduction {
        match (self, site) {
            (Self::InputXGradient | Self::IntegratedGradients, Site::Encoder) => Reduction::Sum,
            (Self::Gradient | Self::SmoothGrad, Site::Encoder) => Reduction::L2,
            _ => Reduction::None,
        }
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|method| method.name() == text);
        found.ok_or_else(|| Error::unknown("method", text, &Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the explained thing is varied or differentiated, or what a map is
/// over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Site {
    /// The features (T, F).
    Input,
    /// The encoder's output (T', D).
    Encoder,
    /// The decoder's input tokens (I): occlusion only.
    Tokens,
    /// The decoder's cross-attention (L, H, I, T'): attention's own maps only.
    Decoder,
}

impl Site {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Input, Self::Encoder, Self::Tokens, Self::Decoder];

    /// The site's name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Encoder => "encoder",
            Self::Tokens => "tokens",
            Self::Decoder => "decoder",
        }
    }
}

impl FromStr for Site {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|site| site.name() == text);
        found.ok_or_else(|| Error::unknown("site", text, &Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a method's map at a site: in `maps.safetensors`, in tables and
/// in figures. Maps of the attention have the method's name alone.
pub fn map_name(method: Method, site: Site) -> String {
    match site {
        Site::Decoder => method.name().to_owned(),
        site => format!("{method}.{site}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_files_are_the_names_in_options() {
        for method in Method::ALL {
            let json = serde_json::to_value(method).unwrap();
            assert_eq!(json, method.name());
            assert_eq!(serde_json::from_value::<Method>(json).unwrap(), method);
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
        }
        for site in Site::ALL {
            assert_eq!(site.name().parse::<Site>().unwrap(), site);
            assert_eq!(serde_json::to_value(site).unwrap(), site.name());
        }
    }

    #[test]
    fn unknown_names_are_refused_with_those_that_there_are() {
        let message = "lime".parse::<Method>().unwrap_err().to_string();
        assert!(
            message.contains("\"lime\"") && message.contains("smoothgrad"),
            "{message}"
        );
        let message = "Input".parse::<Site>().unwrap_err().to_string();
        assert!(
            message.contains("input, encoder, tokens, decoder"),
            "{message}"
        );
    }

    #[test]
    fn every_method_has_a_map_somewhere_and_attention_only_at_the_decoder() {
        for method in Method::ALL {
            assert_eq!(method.works_at(Site::Decoder), method.is_attention());
            assert_eq!(method.works_at(Site::Input), !method.is_attention());
        }
        assert_eq!(map_name(Method::Attention, Site::Decoder), "attention");
        assert_eq!(map_name(Method::Spes, Site::Input), "spes.input");
    }
}
