//! When words were said: from maps over tokens and encoder frames, and what is
//! known of the sound's silence, to times.
//!
//! ```
//! use sonograd::align::{AlignOptions, Clock, TokenMap, WordTokens, word_times};
//!
//! // One head: two tokens over four encoder frames of 40 ms.
//! let head = TokenMap::new(vec![0.7, 0.2, 0.1, 0.0, 0.0, 0.1, 0.5, 0.4], 4);
//! let words = [WordTokens::new("a", 0..1), WordTokens::new("b", 1..2)];
//! // So short a map is not smoothed.
//! let options = AlignOptions { median: 1, ..AlignOptions::default() };
//! let clock = Clock { frame_seconds: 0.04, sound_seconds: 0.16, silence: &[] };
//! let times = word_times(vec![head], &words, &clock, &options)?;
//! assert_eq!(times[1].start_seconds, 0.08);
//! # Ok::<(), sonograd::Error>(())
//! ```

pub mod dtw;
mod evidence;
pub mod filter;
pub mod formats;
mod path;
mod pooling;
mod shares;
mod silence;
mod token_map;
mod trust;
pub mod words;

pub use evidence::Prepared;
pub use filter::{AlignOptions, Rule, filtered};
pub use pooling::Pooling;
pub use silence::silence;
pub use token_map::TokenMap;
pub use words::{Clock, WordTime, WordTokens, token_starts, word_times, word_times_of};
