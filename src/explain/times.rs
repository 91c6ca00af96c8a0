//! When words were said: the one rule, for `explain`, `align` and the study.

use super::alignment::Source;
use super::explanation::{Explanation, Word};
use super::{Maps, encoder_frame_seconds};
use crate::Result;
use crate::align::{
    AlignOptions, Clock, Pooling, TokenMap, WordTime, WordTokens, silence, word_times,
};
use crate::features::Features;
use crate::model::Model;

/// How a map over time and frequency becomes one over encoder frames where
/// times are read off it. Measured with the gradient on samples and test set:
/// 0.002 to 0.005 s better than by the largest value.
pub const POOLING: Pooling = Pooling::Mean;

/// Times of `words` in what is said in `features`, by maps (K, T').
///
/// # Errors
/// As for [`word_times`].
pub fn times(
    model: &Model,
    features: &Features,
    maps: Vec<TokenMap>,
    words: &[WordTokens],
    options: &AlignOptions,
) -> Result<Vec<WordTime>> {
    let clock = Clock {
        frame_seconds: encoder_frame_seconds(model),
        sound_seconds: sound_seconds(model, features),
        silence: &silent_frames(model, features),
    };
    word_times(maps, words, &clock, options)
}

/// How long the sound is.
pub(super) fn sound_seconds(model: &Model, features: &Features) -> f64 {
    features.sound_frames as f64 * model.encoder.frame_seconds()
}

/// How probable silence is in the sound's encoder frames; empty if nothing is
/// known.
pub fn silent_frames(model: &Model, features: &Features) -> Vec<f64> {
    let frames = model.encoder.encoder_frames(features.sound_frames);
    silence(&features.power, frames, encoder_frame_seconds(model))
}

/// Whether there is nothing to be heard at all.
pub(super) fn is_silent(model: &Model, features: &Features) -> bool {
    let frames = silent_frames(model, features);
    !frames.is_empty() && frames.iter().all(|&p| p > 0.5)
}

/// The maps (K, T') that a source reads times off, where an explanation of a
/// whole text has them: its map, or `attention` (L, H, K, T').
///
/// # Errors
/// If the map is not over time.
pub(super) fn at_hand(
    maps: &Maps,
    attention: &[f32],
    source: &Source,
) -> Result<Option<Vec<TokenMap>>> {
    let model = &maps.explanation().model;
    match *source {
        Source::Attention => {
            let tokens = maps.explanation().tokens.len();
            let heads = TokenMap::each(attention, tokens, model.encoder_frames);
            // Where a window is filled up, only the sound's share counts.
            Ok(Some(heads.map(|head| head.shares()).collect()))
        }
        Source::Heads(_) => Ok(None),
        Source::Map(method, site) => match maps.get(method, site) {
            Ok(map) => Ok(Some(vec![map.pooled(POOLING)?.shares()])),
            Err(_) => Ok(None),
        },
    }
}

/// Writes times into an explanation. `chosen` are its tokens' places in the
/// text whose words `times` are of; parts of words have the whole word's time.
/// None is behind the sound's end, which may lie within its last frame.
pub(super) fn write(explanation: &mut Explanation, chosen: &[usize], times: &[WordTime]) {
    let most = explanation.audio.seconds;
    let timed = explanation.words.drain(..).filter_map(|word| {
        let within = |time: &&WordTime| {
            let mut places = word.tokens.iter().filter_map(|&token| chosen.get(token));
            places.any(|place| time.tokens.contains(place))
        };
        let first = times.iter().find(within)?;
        let last = times.iter().rfind(within)?;
        Some(Word {
            start_seconds: first.start_seconds.min(most),
            end_seconds: last.end_seconds.min(most),
            confidence: first.confidence.min(last.confidence),
            reliable: first.reliable && last.reliable,
            ..word
        })
    });
    explanation.words = timed.collect();
}
