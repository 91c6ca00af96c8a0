//! How well maps tell when words begin, against true onsets: the error of a
//! word's start, found as `align` finds it, and whether a map points at the word.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::error_rate::equal_words;
use super::map_name::MapName;
use super::record::Comparison;
use super::statistics::MOST_COUNT;
use super::truth::{TrueWord, comparable};
use crate::align::{
    AlignOptions, Clock, Prepared, Rule, TokenMap, WordTime, WordTokens, word_times_of,
};
use crate::explain::alignment::Head;
use crate::explain::{Map, Maps, Method, POOLING, Site};
use crate::{Error, Result};

/// What an utterance says of maps as clocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Onsets {
    /// Words that were spoken.
    pub spoken: usize,
    /// Those of them that the model wrote: they are scored.
    pub matched: usize,
    /// By map, pooled to encoder frames; attentions averaged over all heads
    /// and layers; `even`.
    pub maps: BTreeMap<MapName, Scored>,
    /// By layer: attention averaged over its heads.
    pub layers: Vec<Scored>,
    /// By layer and head.
    pub heads: Vec<Vec<Scored>>,
}

impl Onsets {
    /// Whether some utterance can have these counts.
    pub(super) fn is_possible(&self) -> bool {
        let maps = self.maps.values().chain(&self.layers);
        let mut all = maps.chain(self.heads.iter().flatten());
        all.all(|own| own.hits <= own.errors_ms.len())
            && self.matched <= self.spoken
            && self.spoken as u64 <= MOST_COUNT
    }
}

/// One map against the true onsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scored {
    /// By matched word: its start by the map less the true onset, in
    /// milliseconds.
    pub errors_ms: Vec<i32>,
    /// Matched words at which the map points.
    pub hits: usize,
}

/// Scores every map of an explanation but those over tokens. `silence` is by
/// encoder frame.
///
/// # Errors
/// If there is no attention or no map has the shape it should have.
pub fn scored(
    truth: &[TrueWord],
    explained: &Maps,
    silence: Vec<f64>,
    by: &Comparison,
) -> Result<Onsets> {
    let clock = Truth::of(truth, explained, silence);
    let mut onsets = Onsets {
        spoken: truth.len(),
        matched: clock.matched.len(),
        maps: BTreeMap::from([(MapName::Even, clock.even())]),
        layers: Vec::new(),
        heads: Vec::new(),
    };
    for map in explained.iter() {
        let name = MapName::of(&map);
        let score = match map.site() {
            Site::Tokens => continue,
            Site::Decoder => {
                let heads = Heads::new(map)?;
                if map.method() == Method::Attention {
                    for layer in 0..heads.layers() {
                        let (all, ready) = heads.layer(layer);
                        onsets.layers.push(clock.average(all, ready)?);
                        let each = all.iter().zip(ready);
                        let each = each.map(|(map, ready)| clock.score(map, &[ready]));
                        onsets.heads.push(each.collect::<Result<_>>()?);
                    }
                }
                clock.average(&heads.maps, &heads.ready)?
            }
            Site::Input | Site::Encoder => {
                let ready = prepared(&map.pooled(POOLING)?)?;
                clock.score(&map.pooled(by.pooling)?, &[ready])?
            }
        };
        onsets.maps.insert(name, score);
    }
    match onsets.heads.is_empty() {
        true => Err(Error::Model("no attention".into())),
        false => Ok(onsets),
    }
}

/// The heads of one utterance whose onsets are known, kept so that any set of
/// them can be scored: as the model gave them, since a large one has hundreds,
/// and made ready when they are asked for.
pub struct TimedHeads {
    clock: Truth,
    /// Heads of a layer.
    each: usize,
    /// K and T'
    shape: [usize; 2],
    /// (L, H, K, T')
    attention: Vec<f32>,
}

impl TimedHeads {
    /// # Errors
    /// If there is no attention.
    pub fn new(truth: &[TrueWord], explained: &Maps, silence: Vec<f64>) -> Result<Self> {
        let map = explained.get(Method::Attention, Site::Decoder)?;
        let (each, shape) = heads_of(&map)?;
        Ok(Self {
            clock: Truth::of(truth, explained, silence),
            each,
            shape,
            attention: map.data().to_vec(),
        })
    }

    /// Of heads of one layer (H, K, T') with a frame every 20 ms, and words of a
    /// token each that were written as they were spoken.
    #[cfg(test)]
    pub(super) fn planted(truth: &[TrueWord], each: usize, attention: Vec<f32>) -> Self {
        let words = truth.iter().enumerate();
        let words = words.map(|(k, own)| WordTokens::new(&own.word, k..k + 1));
        let frames = attention.len() / each / truth.len();
        let words: Vec<WordTokens> = words.collect();
        Self {
            clock: Truth::new(truth, &words, 0.02, frames as f64 * 0.02),
            each,
            shape: [truth.len(), frames],
            attention,
        }
    }

    /// Words that were spoken.
    pub fn spoken(&self) -> usize {
        self.clock.truth.len()
    }

    /// Those of them that the model wrote: they are scored.
    pub fn matched(&self) -> usize {
        self.clock.matched.len()
    }

    /// Some heads, each prepared by itself and then averaged. Those that are
    /// not there do not count.
    ///
    /// # Errors
    /// If none is there.
    pub fn score(&self, heads: &[Head]) -> Result<Scored> {
        let maps: Vec<TokenMap> = self.maps(heads).collect();
        let mean = mean_of(&maps)?;
        let ready = maps.into_par_iter().map(|map| prepared(&map));
        self.clock.score(&mean, &ready.collect::<Result<Vec<_>>>()?)
    }

    /// Some heads made ready, so that many sets of them can be tried.
    ///
    /// # Errors
    /// If one is not there.
    pub fn ready(&self, heads: &[Head]) -> Result<ReadyHeads<'_>> {
        let ready = self.maps(heads).map(|map| prepared(&map));
        let ready = ready.collect::<Result<Vec<_>>>()?;
        match ready.len() == heads.len() {
            true => Ok(ReadyHeads {
                clock: &self.clock,
                ready,
            }),
            false => Err(Error::Model("some of its heads have no attention".into())),
        }
    }

    /// Without any head: tokens that all take equally long.
    pub fn even(&self) -> Scored {
        self.clock.even()
    }

    fn maps(&self, heads: &[Head]) -> impl Iterator<Item = TokenMap> {
        let (each, [tokens, frames]) = (self.each, self.shape);
        let size = tokens * frames;
        let there = heads.iter().filter(move |[_, head]| *head < each);
        let places = there.map(move |[layer, head]| (layer * each + head) * size);
        let values = places.filter_map(move |at| self.attention.get(at..at + size));
        values.map(move |own| TokenMap::new(own.iter().map(|&x| f64::from(x)).collect(), frames))
    }
}

/// Some heads of an utterance, made ready.
pub struct ReadyHeads<'a> {
    clock: &'a Truth,
    ready: Vec<Prepared>,
}

impl ReadyHeads<'_> {
    /// By matched word: its start by some of the heads as one clock less the
    /// true onset, in milliseconds. `set` are their places among those that
    /// were made ready.
    ///
    /// # Errors
    /// If there is none.
    pub fn errors_ms(&self, set: &[usize]) -> Result<Vec<i32>> {
        let ready = set.iter().filter_map(|&at| self.ready.get(at));
        let times = self.clock.times(&ready.collect::<Vec<_>>())?;
        let score = self.clock.against(|word| (start(&times, word), None));
        Ok(score.errors_ms)
    }
}

/// Heads of a layer and (K, T') of attention (L, H, K, T').
fn heads_of(map: &Map) -> Result<(usize, [usize; 2])> {
    match *map.shape() {
        [_, each, tokens, frames] => Ok((each, [tokens, frames])),
        _ => Err(Error::Model(format!("{} is no attention", map.name()))),
    }
}

/// Maps (K, T') of all heads, layer after layer.
struct Heads {
    /// Heads of a layer.
    each: usize,
    maps: Vec<TokenMap>,
    /// The same, made ready.
    ready: Vec<Prepared>,
}

impl Heads {
    /// From (L, H, K, T').
    fn new(map: Map) -> Result<Self> {
        let (each, [tokens, frames]) = heads_of(&map)?;
        let maps: Vec<TokenMap> = TokenMap::each(map.data(), tokens, frames).collect();
        Ok(Self {
            each,
            ready: maps.iter().map(prepared).collect::<Result<_>>()?,
            maps,
        })
    }

    fn layers(&self) -> usize {
        self.maps.len() / self.each
    }

    fn layer(&self, layer: usize) -> (&[TokenMap], &[Prepared]) {
        let own = layer * self.each..(layer + 1) * self.each;
        (&self.maps[own.clone()], &self.ready[own])
    }
}

/// A map made ready as `align` does it: rows of any scale by their shares.
fn prepared(map: &TokenMap) -> Result<Prepared> {
    Prepared::new(map.shares(), &AlignOptions::default())
}

/// True and written words of one utterance.
struct Truth {
    truth: Vec<TrueWord>,
    words: Vec<WordTokens>,
    /// Indices of a spoken word and the written one that is it.
    matched: Vec<(usize, usize)>,
    frame_seconds: f64,
    sound_seconds: f64,
    /// By encoder frame.
    silence: Vec<f64>,
}

impl Truth {
    /// Of what an explanation's sound was heard as.
    fn of(truth: &[TrueWord], explained: &Maps, silence: Vec<f64>) -> Self {
        let explanation = explained.explanation();
        let own = Self::new(
            truth,
            &explanation.word_tokens(),
            explanation.model.encoder_frame_seconds,
            explanation.audio.seconds,
        );
        Self { silence, ..own }
    }

    fn new(
        truth: &[TrueWord],
        words: &[WordTokens],
        frame_seconds: f64,
        sound_seconds: f64,
    ) -> Self {
        let spoken: Vec<String> = truth.iter().map(|own| comparable(&own.word)).collect();
        let written: Vec<String> = words.iter().map(|own| comparable(&own.text)).collect();
        let matched = equal_words(
            &spoken.iter().map(String::as_str).collect::<Vec<_>>(),
            &written.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        Self {
            truth: truth.to_vec(),
            words: words.to_vec(),
            matched,
            frame_seconds,
            sound_seconds,
            silence: Vec::new(),
        }
    }

    /// Every matched word's start, and the moment that is pointed at, if any.
    fn against(&self, said: impl Fn(&WordTokens) -> (f64, Option<f64>)) -> Scored {
        let mut score = Scored {
            errors_ms: Vec::with_capacity(self.matched.len()),
            hits: 0,
        };
        for &(own, written) in &self.matched {
            let onset = self.truth[own].onset_seconds;
            // Nothing is pointed at behind the end of the sound.
            let next = self.truth.get(own + 1);
            let end = next.map_or(f64::INFINITY, |next| next.onset_seconds);
            let (start, pointed) = said(&self.words[written]);
            score.errors_ms.push(((start - onset) * 1e3).round() as i32);
            score.hits += usize::from(pointed.is_some_and(|at| (onset..end).contains(&at)));
        }
        score
    }

    /// Where one map points, and what several, made ready, say together.
    fn score<M: Borrow<Prepared>>(&self, map: &TokenMap, ready: &[M]) -> Result<Scored> {
        let times = self.times(ready)?;
        Ok(self.against(|word| {
            let pointed = peak(map, word).map(|frame| (frame as f64 + 0.5) * self.frame_seconds);
            (start(&times, word), pointed)
        }))
    }

    /// What several maps, made ready, say together.
    fn times<M: Borrow<Prepared>>(&self, ready: &[M]) -> Result<Vec<WordTime>> {
        let clock = Clock {
            frame_seconds: self.frame_seconds,
            sound_seconds: self.sound_seconds,
            silence: &self.silence,
        };
        word_times_of(ready, &self.words, &clock, Rule::default())
    }

    /// Where the mean of several maps points, and what they say together.
    fn average(&self, maps: &[TokenMap], ready: &[Prepared]) -> Result<Scored> {
        self.score(&mean_of(maps)?, ready)
    }

    /// Without a map: tokens that all take equally long.
    fn even(&self) -> Scored {
        let tokens = self.words.last().map_or(1, |word| word.tokens.end);
        let each = self.sound_seconds / tokens as f64;
        self.against(|word| {
            let middle = (word.tokens.start + word.tokens.end) as f64 / 2.0;
            (word.tokens.start as f64 * each, Some(middle * each))
        })
    }
}

fn mean_of(maps: &[TokenMap]) -> Result<TokenMap> {
    let mean = TokenMap::average(maps.iter());
    mean.ok_or_else(|| Error::Model("there is no attention".into()))
}

/// When a word begins; 0 where nothing is said of it.
fn start(times: &[WordTime], word: &WordTokens) -> f64 {
    let time = times.iter().find(|time| time.tokens == word.tokens);
    time.map_or(0.0, |time| time.start_seconds)
}

/// The frame at which a word's map is largest, the first of equals: the sum of
/// its tokens' rows, each brought to mean 0 and variance 1. Absent if none
/// varies.
fn peak(map: &TokenMap, word: &WordTokens) -> Option<usize> {
    let rows = map.rows().skip(word.tokens.start).take(word.tokens.len());
    let mut sum = vec![0.0; map.frames()];
    let mut some = false;
    for row in rows {
        let count = row.len() as f64;
        let mean = row.iter().sum::<f64>() / count;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let constant = row.iter().all(|x| *x == row[0]);
        if constant || variance == 0.0 || !variance.is_finite() {
            continue;
        }
        some = true;
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += (x - mean) / variance.sqrt();
        }
    }
    let frames = (0..sum.len()).rev();
    let largest = frames.max_by(|&a, &b| sum[a].total_cmp(&sum[b]));
    largest.filter(|_| some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(words: &[(&str, f64)]) -> Vec<TrueWord> {
        let words = words.iter().map(|&(word, onset_seconds)| TrueWord {
            word: word.into(),
            onset_seconds,
            end_seconds: None,
        });
        words.collect()
    }

    fn written(words: &[(&str, [usize; 2])]) -> Vec<WordTokens> {
        let words = words.iter();
        let words = words.map(|&(text, [start, end])| WordTokens::new(text, start..end));
        words.collect()
    }

    /// Three tokens over nine frames of 0.1 s, at frames 0..2, 2..6, 6..9, and
    /// each largest at one frame.
    fn map() -> TokenMap {
        let spans = [(0..2, 1), (2..6, 3), (6..9, 8)];
        let rows = spans.into_iter().flat_map(|(span, top)| {
            (0..9).map(move |j| match (j == top, span.contains(&j)) {
                (true, _) => 3.0,
                (false, inside) => f64::from(u8::from(inside)),
            })
        });
        TokenMap::new(rows.collect(), 9)
    }

    fn ready(map: &TokenMap) -> [Prepared; 1] {
        let options = AlignOptions {
            median: 1,
            ..AlignOptions::default()
        };
        [Prepared::new(map.clone(), &options).unwrap()]
    }

    #[test]
    fn errors_have_a_sign_and_only_written_words_count() {
        // "fish" was not written, "Dogs," is of two tokens.
        let truth = truth(&[("cats", 0.05), ("fish", 0.1), ("dogs", 0.25), ("end", 0.91)]);
        let words = written(&[("Cats", [0, 1]), ("Dogs,", [1, 3])]);
        let clock = Truth::new(&truth, &words, 0.1, 0.9);
        assert_eq!(clock.matched, [(0, 0), (2, 1)]);
        let score = clock.score(&map(), &ready(&map())).unwrap();
        assert_eq!(score.errors_ms, [-50, -50]);
        // Cats are pointed at in 0.15, behind the onset of fish; dogs in 0.35
        // (or 0.85) before the end.
        assert_eq!(score.hits, 1);
    }

    #[test]
    fn the_last_word_ends_with_the_sound() {
        let truth = truth(&[("a", 0.0), ("b", 0.2), ("c", 0.6)]);
        let words = written(&[("a", [0, 1]), ("b", [1, 2]), ("c", [2, 3])]);
        let clock = Truth::new(&truth, &words, 0.1, 0.82);
        let score = clock.score(&map(), &ready(&map())).unwrap();
        assert_eq!((score.errors_ms, score.hits), (vec![0, 0, 0], 3));
        // All tokens equally long: 0, 0.273 and 0.547 s.
        let even = clock.even();
        assert_eq!((even.errors_ms, even.hits), (vec![0, 73, -53], 3));
    }

    #[test]
    fn maps_that_say_nothing_point_nowhere() {
        let truth = truth(&[("a", 0.0), ("b", 0.1)]);
        let words = written(&[("a", [0, 1]), ("b", [1, 2])]);
        let flat = TokenMap::new(vec![0.1; 6], 3);
        let clock = Truth::new(&truth, &words, 0.1, 0.3);
        let score = clock.score(&flat, &ready(&flat)).unwrap();
        assert_eq!(score.hits, 0);
        assert_eq!(score.errors_ms.len(), 2);
        // A constant row beside one that varies adds nothing.
        let one = TokenMap::new(vec![7.0, 7.0, 7.0, 0.0, 2.0, 1.0], 3);
        assert_eq!(peak(&one, &written(&[("ab", [0, 2])])[0]), Some(1));
    }

    #[test]
    fn tokens_of_any_scale_count_alike() {
        // The loud first token would drown the other two.
        let rows = [[0.0, 900.0, 950.0], [0.2, 0.9, 0.1], [0.1, 0.8, 0.1]];
        let map = TokenMap::new(rows.concat(), 3);
        assert_eq!(peak(&map, &written(&[("abc", [0, 3])])[0]), Some(1));
    }
}
