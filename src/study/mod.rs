//! The study: how much of the explanation is cross-attention?
//!
//! Every utterance of a manifest is transcribed and explained; cross-attention
//! is compared with the other maps, by head, layer and average; one line per
//! utterance goes to a log, and tables over the logs give means with
//! intervals (after "Cross-Attention is Half Explanation in Speech-to-Text
//! Models", arXiv 2509.18010).

pub mod about;
pub mod agreement;
pub mod checks;
pub mod choosing;
pub mod directions;
pub mod error_rate;
pub mod faithfulness;
pub mod folder;
pub mod heads;
mod heard;
pub mod log;
pub mod manifest;
pub mod map_name;
pub mod onset_statistics;
pub mod onsets;
pub mod perturbation;
pub mod record;
pub mod run;
pub mod settings;
pub mod sounds;
mod spread_maps;
pub mod statistics;
pub mod tables;
mod text;
pub mod truth;
pub mod watch;
pub mod work;

pub use heard::Subjects;
