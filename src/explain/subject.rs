//! What is explained: a sound's features and the tokens it is heard as.

use crate::audio::Warning;
use crate::features::Features;
use crate::fingerprint::Fingerprint;
use crate::model::encoded::Encoded;
use crate::{Error, Result};

/// What is said about: a sound's features and the tokens it is heard as.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// File name without its folder.
    pub file: String,
    pub seconds: f64,
    /// Of its [samples](crate::Sound::fingerprint), if they are known.
    pub fingerprint: Option<Fingerprint>,
    /// What is odd about the sound.
    pub warnings: &'a [Warning],
    pub features: &'a Features,
    /// The sound's way through the encoder, where it was encoded before. That
    /// of other features is passed over.
    pub encoded: Option<&'a Encoded>,
    /// What the decoder starts with.
    pub prompt: &'a [u32],
    /// Tokens after the prompt, the end of sentence included.
    pub tokens: &'a [u32],
}

impl Subject<'_> {
    /// What was encoded of just these features.
    pub(super) fn encoded(&self) -> Option<&Encoded> {
        self.encoded.filter(|own| own.is_of(self.features))
    }
}

/// What the decoder is given so that it says a subject's tokens.
pub(super) struct Forced {
    /// The explained tokens' indices in the subject's.
    pub chosen: Vec<usize>,
    /// The prompt and all tokens but the last.
    pub inputs: Vec<u32>,
    /// Where the chosen tokens are predicted.
    pub positions: Vec<u32>,
    /// The chosen tokens.
    pub labels: Vec<u32>,
    /// All of the subject's tokens.
    pub tokens: Vec<u32>,
}

impl Forced {
    /// The `wanted` tokens of a subject, counted from 0; all if there are
    /// none.
    ///
    /// # Errors
    /// If the subject has no tokens, or not a wanted one.
    pub fn new(subject: &Subject, wanted: &[usize]) -> Result<Self> {
        let (prompt, tokens) = (subject.prompt, subject.tokens);
        let chosen = chosen_tokens(tokens, wanted)?;
        let mut inputs = [prompt, tokens].concat();
        inputs.pop();
        let first = prompt.len().saturating_sub(1);
        Ok(Self {
            inputs,
            positions: chosen.iter().map(|&c| (first + c) as u32).collect(),
            labels: chosen.iter().map(|&c| tokens[c]).collect(),
            tokens: tokens.to_vec(),
            chosen,
        })
    }
}

/// Indices of the tokens to explain, each once and in order.
fn chosen_tokens(tokens: &[u32], wanted: &[usize]) -> Result<Vec<usize>> {
    if tokens.is_empty() {
        return Err(Error::Input("there are no tokens to explain".into()));
    }
    if wanted.is_empty() {
        return Ok((0..tokens.len()).collect());
    }
    let mut chosen = wanted.to_vec();
    chosen.sort_unstable();
    chosen.dedup();
    match chosen.iter().find(|&&c| c >= tokens.len()) {
        Some(c) => Err(Error::Input(format!(
            "there is no token {c}: the {} tokens count from 0",
            tokens.len()
        ))),
        None => Ok(chosen),
    }
}
