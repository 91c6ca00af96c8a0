//! From an utterance and a model to maps.

pub mod explanation;
pub mod passes;
pub mod slic;
