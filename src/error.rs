//! The one error type of the crate.
//!
//! A message is one line that names the file or object, says what is wrong
//! with it and, where that helps, what would be right. The program prints it
//! and exits with code 2.

use std::path::{Path, PathBuf};

/// Anything that keeps the program from doing what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read, written or understood.
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    /// A model folder whose parts do not fit each other.
    #[error("{0}")]
    Model(String),
    /// An argument or an input that cannot be worked with.
    #[error("{0}")]
    Input(String),
    /// A device that does not exist, lacks something or failed.
    #[error("{0}")]
    Device(String),
    /// Memory that a device does not have; less work at once may fit.
    #[error("{0}")]
    Memory(String),
    /// Work that its caller stopped and that has no half result.
    #[error("stopped")]
    Stopped,
    /// A recording that breaks an operator's shape rule.
    #[error("{operator}: {problem}")]
    Shape {
        operator: &'static str,
        problem: String,
    },
}

impl Error {
    /// A problem with the file at `path`.
    pub fn file(path: impl AsRef<Path>, problem: impl ToString) -> Self {
        Self::File {
            path: path.as_ref().to_owned(),
            problem: one_line(&problem.to_string()),
        }
    }

    /// A violation of an operator's shape rule.
    pub fn shape(operator: &'static str, problem: impl Into<String>) -> Self {
        Self::Shape {
            operator,
            problem: problem.into(),
        }
    }
}

/// Messages of other crates may span lines; ours never do.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The result type of the crate.
pub type Result<T> = std::result::Result<T, Error>;
