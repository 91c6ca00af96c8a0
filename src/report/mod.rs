//! What a person reads: one page per explained utterance.

pub mod html;
