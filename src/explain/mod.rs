//! From an utterance and a model to maps.

pub mod explanation;
pub mod philox;
pub mod slic;
