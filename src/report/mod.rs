//! What a person reads: one page per explained utterance, and one per study.

pub mod folder;
pub mod html;
mod markup;
pub mod study;
