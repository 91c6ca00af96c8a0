//! The tokens and words of an explanation, as `explanation.json` lists them.

use std::ops::Range;

use super::explanation::{Token, Word};
use super::subject::Forced;
use super::timing;
use crate::align::WordTokens;
use crate::features::Features;
use crate::model::Model;
use crate::tokenizer::Tokenizer;

/// Seconds from one encoder frame to the next.
pub fn encoder_frame_seconds(model: &Model) -> f64 {
    model.encoder.frame_seconds() * model.encoder.subsampling() as f64
}

/// Whether a token stands for no text.
pub fn is_special(model: &Model, tokenizer: &Tokenizer, id: u32) -> bool {
    let tokens = model.tokens;
    [tokens.start, tokens.end, tokens.pad, tokens.begin].contains(&id)
        || model.ends.contains(&id)
        || tokenizer.is_special(id)
}

/// The text of tokens, special ones left out, without the space that some
/// vocabularies put before the first word.
pub fn text(model: &Model, tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let spoken = tokens.iter().copied();
    let spoken: Vec<u32> = spoken
        .filter(|&id| !is_special(model, tokenizer, id))
        .collect();
    tokenizer.decode(&spoken).trim().to_owned()
}

/// The words of tokens, each with the range of tokens it is written with.
/// Special tokens belong to none, and what nobody says aloud, such as a full
/// stop that stands alone, is no word.
pub fn words(model: &Model, tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<WordTokens> {
    let words = tokenizer.words(tokens, |i| is_special(model, tokenizer, tokens[i]));
    // A word's tokens follow each other.
    let words = words.into_iter().filter_map(|(text, own)| {
        let all = *own.first()?..*own.last()? + 1;
        let spoken = spoken(tokenizer, tokens, &all).filter(|_| is_said(&text))?;
        Some(WordTokens {
            text,
            tokens: all,
            spoken,
        })
    });
    words.collect()
}

/// The tokens of a recording's windows, those that are one text together: a
/// window goes on where the one before ended, a piece is a text of its own.
pub fn texts(features: &Features, windows: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    match features.pieces.is_empty() {
        true => vec![windows.concat()],
        false => windows,
    }
}

/// What [`texts`] say, with this `between` two of them.
pub fn text_of_all(tokenizer: &Tokenizer, texts: &[Vec<u32>], between: &str) -> String {
    let texts = texts.iter().map(|tokens| tokenizer.decode(tokens));
    let texts: Vec<String> = texts
        .map(|own| own.trim().to_owned())
        .filter(|own| !own.is_empty())
        .collect();
    texts.join(between)
}

/// The [`words`] of [`texts`], with their ranges of all tokens. None is of two
/// texts.
pub fn words_of_all(model: &Model, tokenizer: &Tokenizer, texts: &[Vec<u32>]) -> Vec<WordTokens> {
    let mut begin = 0;
    let mut all = Vec::new();
    for tokens in texts {
        let own = words(model, tokenizer, tokens);
        all.extend(own.into_iter().map(|word| word.shifted(begin)));
        begin += tokens.len();
    }
    all
}

/// Whether a text holds something that is said aloud: letters, digits, or
/// signs that have a name in every language.
pub(super) fn is_said(text: &str) -> bool {
    let named = |c: char| "$€£¥₹¢%‰&@#+=×÷°§²³½¼¾".contains(c);
    let unknown = |c: char| c == char::REPLACEMENT_CHARACTER;
    text.chars()
        .any(|c| c.is_alphanumeric() || named(c) || unknown(c))
}

/// A word's tokens without those before and behind that have punctuation
/// alone; none if nothing is left.
fn spoken(tokenizer: &Tokenizer, tokens: &[u32], all: &Range<usize>) -> Option<Range<usize>> {
    let said = |&k: &usize| is_said(&tokenizer.decode(&tokens[k..k + 1]));
    let first = all.clone().find(said)?;
    let last = all.clone().rfind(said)?;
    Some(first..last + 1)
}

/// Ranges of places at which indices go up one by one.
fn runs(indices: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (place, &index) in indices.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if indices[place - 1] + 1 == index => run.end = place + 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}

/// The explained tokens and their words, whose times are not known yet;
/// `attention` (K, T') is the cross-attention averaged over heads and layers.
pub(super) fn tokens_and_words(
    model: &Model,
    tokenizer: &Tokenizer,
    forced: &Forced,
    log_probs: &[f32],
    attention: &[f32],
    (frames, seconds): (usize, f64),
) -> (Vec<Token>, Vec<Word>) {
    let step = encoder_frame_seconds(model);
    let row = |token: usize| &attention[token * frames..(token + 1) * frames];
    let all = &forced.tokens;
    let texts = tokenizer.readable(all, |i| is_special(model, tokenizer, all[i]));
    let tokens = forced.labels.iter().enumerate();
    let tokens = tokens.map(|(index, &id)| Token {
        index,
        position: forced.chosen[index],
        id,
        text: texts[forced.chosen[index]].clone(),
        log_probability: f64::from(log_probs[index]),
        special: is_special(model, tokenizer, id),
        peak_seconds: ((timing::peak(row(index)) as f64 + 0.5) * step).min(seconds),
    });
    // Only tokens that follow each other in the text make a word.
    let words = runs(&forced.chosen).into_iter().flat_map(|run| {
        let first = run.start;
        let words = words(model, tokenizer, &forced.labels[run]);
        words.into_iter().map(move |word| Word {
            text: word.text,
            tokens: (first + word.tokens.start..first + word.tokens.end).collect(),
            start_seconds: 0.0,
            end_seconds: 0.0,
            confidence: 0.0,
            reliable: false,
        })
    });
    (tokens.collect(), words.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_are_in_one_run() {
        assert_eq!(runs(&[0, 1, 6]), [0..2, 2..3]);
        assert_eq!(runs(&[3]), vec![Range { start: 0, end: 1 }]);
        assert_eq!(runs(&[4, 3, 4, 5, 7]), [0..1, 1..4, 4..5]);
        assert!(runs(&[]).is_empty());
    }
}
