//! What long work says while it goes on, and what it leaves out.

use std::fmt;
use std::path::PathBuf;

use super::choosing::Criterion;
use super::manifest::Item;
use crate::audio;
use crate::explain::Progress;

/// A moment of long work.
#[non_exhaustive]
pub enum Event<'a> {
    /// Masks of the utterance in work were scored, or gradients averaged.
    Explained(Progress),
    /// The utterance in work was written again with some features deleted.
    Rewritten(Rewritten),
    /// A sound is not as whoever gave it may think.
    Sound {
        item: &'a Item,
        warning: &'a audio::Warning,
    },
    /// An utterance came to its end.
    Utterance {
        item: &'a Item,
        /// Why it could not be done.
        error: Option<&'a str>,
        /// Utterances that this work has come to the end of, this one among
        /// them.
        done: usize,
        /// All that it is to do.
        all: usize,
    },
}

/// How often an utterance was written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    pub done: usize,
    pub all: usize,
}

/// Is told of each event and returns whether to go on. To stop within an
/// utterance drops it.
pub type Watch<'a> = dyn FnMut(Event) -> bool + 'a;

/// What is not as whoever asked for the work may think.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Files of true onsets know none of the utterances.
    NoOnsets,
    /// Utterances without onsets say nothing where heads are ranked by them.
    WithoutOnsets { utterances: usize },
    /// TextGrids begin elsewhere than their sounds, as parts that were cut out
    /// do.
    BeginLate {
        /// The first of them.
        file: PathBuf,
        milliseconds: i64,
        files: usize,
    },
    /// A model was not made for some directions.
    LeftOut {
        model: String,
        directions: Vec<String>,
    },
    /// Error rates leave these utterances out.
    NoText { utterances: usize },
    /// Nothing keeps two runs from writing one log.
    NoLock { log: PathBuf },
    /// Fewer heads can be chosen than were wanted.
    FewHeads {
        found: usize,
        by: Criterion,
        wanted: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOnsets => f.write_str("none of the utterances has onsets in the files given"),
            Self::WithoutOnsets { utterances } => {
                write!(f, "leaves out {utterances} utterances without onsets")
            }
            Self::BeginLate {
                file,
                milliseconds,
                files,
            } => {
                let others = match files - 1 {
                    0 => String::new(),
                    others => format!(" (and {others} more files do not begin at 0)"),
                };
                write!(
                    f,
                    "{}: begins at {} s{others}; its times are taken as they stand, from the \
                     sound's beginning",
                    file.display(),
                    *milliseconds as f64 / 1e3
                )
            }
            Self::LeftOut { model, directions } => {
                let unknown = |own: &String| own.starts_with("--") || own.ends_with("--");
                let note = match directions.iter().any(unknown) {
                    true => " (- is a language that is not given)",
                    false => "",
                };
                let directions = directions.join(", ");
                write!(
                    f,
                    "{model}: leaves out {directions}{note}, which it was not made for"
                )
            }
            Self::NoText { utterances } => write!(
                f,
                "{utterances} utterances have no text: error rates leave them out"
            ),
            Self::NoLock { log } => write!(
                f,
                "{}: the file system has no locks, so that a second run that writes it is not \
                 stopped",
                log.display()
            ),
            Self::FewHeads { found, by, wanted } => {
                write!(f, "{found} heads vary with {by}, not {wanted}")
            }
        }
    }
}
