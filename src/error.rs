//! The one error type of the crate.
//!
//! A message is one line that names the file or object, says what is wrong
//! with it and, where that helps, what would be right. The program prints it
//! and exits with code 2.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

/// Another crate's error, beneath one of ours.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Anything that keeps the library from doing what it was asked.
///
/// [`kind`](Self::kind) tells errors apart; variants are for making them. The
/// message is whole by itself: where there is a
/// [`source`](std::error::Error::source), it has the source's words already.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read, written or understood.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
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
    /// A server that cannot be reached or does not give what it should; the
    /// same may work another time.
    #[error("{0}")]
    Network(String),
    /// Work that its caller stopped and that has no half result.
    #[error("stopped")]
    Stopped,
    /// A recording that breaks an operator's shape rule.
    #[error("{operator}: {problem}")]
    Shape {
        /// The operator's name.
        operator: &'static str,
        /// What is wrong with its operands.
        problem: String,
    },
    /// One of the others, and what lies beneath it.
    #[error("{error}")]
    Caused {
        /// What went wrong.
        error: Box<Error>,
        /// Why.
        #[source]
        cause: Cause,
    },
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file that cannot be read, written or understood; [`Error::path`] says
    /// which.
    File,
    /// A model folder whose parts do not fit each other.
    Model,
    /// An argument or an input that cannot be worked with.
    Input,
    /// A device that does not exist, lacks something or failed.
    Device,
    /// Memory that a device does not have; less work at once may fit.
    Memory,
    /// A server that cannot be reached or does not give what it should; the
    /// same may work another time.
    Network,
    /// Work that its caller stopped and that has no half result.
    Stopped,
    /// A recording that breaks an operator's shape rule.
    Shape,
}

impl Error {
    /// A problem with the file at `path`.
    pub fn file(path: impl AsRef<Path>, problem: impl Into<Problem>) -> Self {
        let Problem { text, cause } = problem.into();
        let error = Self::File {
            path: path.as_ref().to_owned(),
            problem: one_line(&text),
        };
        match cause {
            Some(cause) => error.because(cause),
            None => error,
        }
    }

    /// A violation of an operator's shape rule.
    pub fn shape(operator: &'static str, problem: impl Into<String>) -> Self {
        Self::Shape {
            operator,
            problem: problem.into(),
        }
    }

    /// A name that is none of the `known` ones.
    pub(crate) fn unknown(what: &str, text: &str, known: &[&str]) -> Self {
        let known = known.join(", ");
        Self::Input(format!("there is no {what} {text:?}; there are {known}"))
    }

    /// The same error with what lies beneath it.
    pub fn because(self, cause: impl Into<Cause>) -> Self {
        Self::Caused {
            error: Box::new(self),
            cause: cause.into(),
        }
    }

    /// What kind of thing is wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } => ErrorKind::File,
            Self::Model(_) => ErrorKind::Model,
            Self::Input(_) => ErrorKind::Input,
            Self::Device(_) => ErrorKind::Device,
            Self::Memory(_) => ErrorKind::Memory,
            Self::Network(_) => ErrorKind::Network,
            Self::Stopped => ErrorKind::Stopped,
            Self::Shape { .. } => ErrorKind::Shape,
            Self::Caused { error, .. } => error.kind(),
        }
    }

    /// The file that it is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::Caused { error, .. } => error.path(),
            _ => None,
        }
    }
}

/// What is wrong with something that is named elsewhere: in words, or by
/// another error, whose words they are then.
#[derive(Debug)]
pub struct Problem {
    text: String,
    cause: Option<Cause>,
}

impl Problem {
    /// A problem in words of its own, and what lies beneath it.
    pub fn new(text: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self {
            text: text.into(),
            cause: Some(cause.into()),
        }
    }

    /// What is not valid JSON.
    pub(crate) fn json(cause: serde_json::Error) -> Self {
        Self::new(format!("not valid JSON: {cause}"), cause)
    }

    /// What is not a whole safetensors file.
    pub(crate) fn safetensors(cause: safetensors::SafeTensorError) -> Self {
        Self::new(format!("not a whole safetensors file: {cause}"), cause)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self { text, cause: None }
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Cause> for Problem {
    fn from(cause: Cause) -> Self {
        Self::new(cause.to_string(), cause)
    }
}

/// Errors that are problems of files as they are.
macro_rules! causes {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Problem {
            fn from(cause: $error) -> Self {
                Cause::from(cause).into()
            }
        })*
    };
}

causes!(
    Error,
    std::io::Error,
    std::str::Utf8Error,
    serde_json::Error,
    safetensors::SafeTensorError,
);

/// Messages of other crates may span lines; ours never do.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The result type of the crate; its errors are the crate's where no other are named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn words(error: &Error) -> (String, Option<String>) {
        let source = error.source().map(ToString::to_string);
        (error.to_string(), source)
    }

    #[test]
    fn what_lies_beneath_is_the_source() {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "gone\n away");
        let error = Error::file("a.json", gone());
        assert_eq!(
            words(&error),
            ("a.json: gone away".into(), Some("gone\n away".into()))
        );
        assert_eq!(error.kind(), ErrorKind::File);
        assert_eq!(error.path(), Some(Path::new("a.json")));
        let beneath = error.source().unwrap().downcast_ref::<io::Error>();
        assert_eq!(beneath.unwrap().kind(), io::ErrorKind::NotFound);

        // An error of ours beneath another keeps its own source.
        let outer = Error::file("b.wav", error);
        assert_eq!(outer.to_string(), "b.wav: a.json: gone away");
        assert!(outer.source().unwrap().source().is_some());

        let error = Error::Device("no device".into()).because(gone());
        assert_eq!(words(&error).0, "no device");
        assert_eq!(error.kind(), ErrorKind::Device);
        assert_eq!(error.path(), None);
    }

    #[test]
    fn words_alone_have_no_source() {
        for problem in [
            Error::file("a", "is odd"),
            Error::file("a", String::from("is odd")),
            Error::Input("is odd".into()),
            Error::shape("add", "is odd"),
        ] {
            assert!(problem.source().is_none());
        }
        let json = serde_json::from_str::<u32>("x").unwrap_err();
        let error = Error::file("a", Problem::json(json));
        assert_eq!(
            words(&error),
            (
                "a: not valid JSON: expected value at line 1 column 1".into(),
                Some("expected value at line 1 column 1".into())
            )
        );
    }
}
