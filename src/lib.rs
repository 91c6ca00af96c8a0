//! Which sound made a speech-to-text model write each token.
//!
//! A [`Listener`] owns a model and the device that runs it; a [`Sound`] is what
//! it hears, [`Heard`] what it wrote about it, [`Maps`] which sound each token
//! came from:
//!
//! ```
#![doc = include_str!("../examples/explain.rs")]
//! ```
//!
//! All else is there to be used, too: the modules stand in the order in which an
//! utterance passes through them; none knows of those below it.

pub mod error;
mod files;

pub mod audio;
pub mod features;
pub mod tokenizer;

pub mod engine;
pub mod ops;

pub mod hub;
pub mod model;

pub mod generate;

pub mod align;
pub mod explain;
pub mod listener;

pub mod study;

pub mod report;
pub mod validate;

pub mod bench;

#[cfg(feature = "cli")]
pub mod cli;

pub use audio::Sound;
pub use error::{Error, ErrorKind, Result};
pub use explain::{Event, ExplainOptions, Map, Maps, Method, Progress, Site};
pub use generate::Wanted;
pub use listener::{Alignment, Heard, Listener, Warning};

/// README's program in Rust compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
