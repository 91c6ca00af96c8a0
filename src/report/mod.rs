//! What a person reads: one page per explained utterance, and one per study.

pub mod folder;
pub mod html;
// Its templates are our own.
#[allow(clippy::expect_used, clippy::panic)]
mod markup;
mod packing;
mod player;
pub mod study;
mod waveform;
