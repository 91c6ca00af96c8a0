//! Which sound made a speech-to-text model write each token.
//!
//! The modules in the order in which an utterance passes through them; none
//! knows of those below it.

pub mod error;

pub mod explain;
pub mod report;

pub use error::{Error, Result};
