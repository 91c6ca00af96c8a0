//! Which sound made a speech-to-text model write each token.
//!
//! The modules in the order in which an utterance passes through them; none
//! knows of those below it.

pub mod error;

pub mod audio;
pub mod features;
pub mod tokenizer;

pub mod engine;
pub mod ops;

pub mod model;

pub mod generate;

pub mod align;
pub mod explain;

pub mod study;

pub mod report;
pub mod validate;

pub mod bench;

#[cfg(feature = "cli")]
pub mod cli;

pub use error::{Error, Result};
