//! What a family of models declares of itself.
//!
//! Whoever treats models differently (generation, alignment, the study, the
//! command line) reads it here. Nothing is concluded from a model's name, or
//! from one of its abilities about another.

use super::Parts;
use super::checkpoint::TensorList;
use super::config::Config;
use super::files::ModelFiles;
use crate::Result;

/// What a family's file offers.
pub(super) struct Family {
    /// `architectures[0]`
    pub architecture: &'static str,
    /// `model_type`, which names the family where `architectures` does not.
    pub model_type: &'static str,
    /// Whether the output projection is the embedding where the config does not say.
    pub tied: bool,
    /// Lists the tensors for a config; the flag says whether the output
    /// projection is one of its own.
    pub tensors: fn(&Config, bool) -> Result<TensorList>,
    /// Reads config and weights.
    pub read: fn(&ModelFiles, &Config) -> Result<Parts>,
}

/// What a model does beside writing text about a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The family's name, for messages.
    pub family: &'static str,
    /// Feature frames that every input has: sounds are filled up to them and
    /// recordings cut into them. Absent where a sound of any length is heard as
    /// it is.
    pub window_frames: Option<usize>,
    /// How the model is told what to write.
    pub prompting: Prompting,
    /// Whether the tokens of a text are those of a space and the text.
    pub text_begins_with_space: bool,
    /// What tells best when its words were said; `docs/align.md` has the
    /// measurements.
    pub clock: ClockName,
}

/// What tells when words were said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockName {
    /// Cross-attention.
    Attention,
    /// The gradient at the features.
    Gradient,
}

/// How a model is told what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompting {
    /// By the start token alone. In a model of several languages the first
    /// token of the text may be forced: a tag of the language to write.
    Start,
    /// By Whisper's multitask format: behind the start token a tag of the
    /// language that is spoken, which the model can detect, then one of the
    /// tasks, and a mark where no times are to be written. The model also
    /// knows how probable it is that nobody speaks.
    Multitask(Tasks),
    /// By a list of control tokens that name the language that is spoken and the
    /// one to write. The model detects neither.
    Controls(Controls),
}

/// What a list of control tokens can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Controls {
    /// The languages to choose from.
    pub languages: &'static [LanguageName],
    /// Code of the language that is spoken where nobody says which; absent where
    /// somebody has to.
    pub spoken: Option<&'static str>,
    /// Whether another language can be written than the one that is spoken.
    pub translates: bool,
    /// Codes of those that are written without spaces.
    pub spaceless: &'static [&'static str],
    /// What makes the list.
    pub list: ControlList,
}

/// What makes a list of control tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlList {
    /// These tokens; where one is absent stands the tag of the language.
    Tokens(&'static [Option<&'static str>]),
    /// The chat template in the model's folder.
    Template,
}

/// The tasks that a multitask prompt can ask for, each the name of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tasks {
    /// Writes the language that is spoken; what is done if nobody asks.
    pub transcribe: &'static str,
    /// Writes the language `into` whatever is spoken.
    pub translate: &'static str,
    /// What `translate` writes.
    pub into: LanguageName,
}

/// A language as tokens have it and as people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanguageName {
    /// As in `en`.
    pub code: &'static str,
    /// As in `English`.
    pub name: &'static str,
}

impl Capabilities {
    /// Those of a family that hears sounds of any length and is told what to
    /// write by the start token.
    pub(super) const fn plain(family: &'static str) -> Self {
        Self {
            family,
            window_frames: None,
            prompting: Prompting::Start,
            text_begins_with_space: false,
            clock: ClockName::Gradient,
        }
    }
}

impl Prompting {
    /// The tasks to choose from, where a prompt names one.
    pub fn tasks(self) -> Option<Tasks> {
        match self {
            Self::Start | Self::Controls(_) => None,
            Self::Multitask(tasks) => Some(tasks),
        }
    }

    /// What can be asked for, where a prompt is a list of control tokens.
    pub fn controls(self) -> Option<Controls> {
        match self {
            Self::Start | Self::Multitask(_) => None,
            Self::Controls(controls) => Some(controls),
        }
    }
}

/// Languages from pairs of code and name.
pub(super) const fn languages<const N: usize>(
    pairs: [(&'static str, &'static str); N],
) -> [LanguageName; N] {
    let mut all = [LanguageName { code: "", name: "" }; N];
    let mut n = 0;
    while n < N {
        let (code, name) = pairs[n];
        all[n] = LanguageName { code, name };
        n += 1;
    }
    all
}
