//! When words were said: from maps over tokens and encoder frames to times,
//! by dynamic time warping, as Whisper does with its attention.
//!
//! ```
//! use sonograd::align::{AlignOptions, TokenMap, WordTokens, word_times};
//!
//! // One head: two tokens over four encoder frames of 40 ms.
//! let head = TokenMap::new(vec![0.7, 0.2, 0.1, 0.0, 0.0, 0.1, 0.5, 0.4], 4);
//! let words = ["a", "b"].into_iter().enumerate();
//! let words: Vec<WordTokens> = words
//!     .map(|(k, text)| WordTokens { text: text.into(), tokens: k..k + 1 })
//!     .collect();
//! // So short a map is not smoothed.
//! let options = AlignOptions { median: 1, ..AlignOptions::default() };
//! let times = word_times([head], &words, 0.04, 0.16, &options)?;
//! assert_eq!(times[1].start_seconds, 0.08);
//! # Ok::<(), sonograd::Error>(())
//! ```

pub mod dtw;
pub mod filter;
pub mod formats;
mod pooling;
mod shares;
mod token_map;
pub mod words;

pub use filter::{AlignOptions, filtered};
pub use pooling::Pooling;
pub use token_map::TokenMap;
pub use words::{WordTime, WordTokens, token_starts, word_times};
