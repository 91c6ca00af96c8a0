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

// What people give never ends the program: nothing outside of tests panics by
// its own doing, in no room that reads it. The rooms that are let off work on
// recordings, plans and templates of our own.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]

pub mod allocator;
pub mod error;
mod files;
pub mod fingerprint;
pub mod gauge;
mod outside;
mod plain;
mod shown;

pub mod audio;
pub mod features;
pub mod tokenizer;

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable
)]
pub mod engine;
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable
)]
pub mod ops;

pub mod hub;
pub mod model;

pub mod generate;

pub mod align;
#[allow(clippy::expect_used)]
pub mod explain;
pub mod listener;

pub mod study;

pub mod report;
#[allow(clippy::expect_used)]
pub mod validate;

#[allow(clippy::expect_used, clippy::unreachable)]
pub mod bench;

#[cfg(feature = "cli")]
pub mod cli;

pub use audio::Sound;
pub use error::{Error, ErrorKind, Result};
pub use explain::{Event, ExplainOptions, Map, Maps, Method, Progress, Site};
pub use generate::Wanted;
pub use listener::{Alignment, Heard, Input, Listener, Warning};

/// README's program in Rust compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
