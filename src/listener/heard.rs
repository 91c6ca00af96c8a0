//! What a listener heard, or was given to explain.

use std::hash::{Hash, Hasher};

use fnv::FnvHasher;

use super::Warning;
use crate::align::WordTokens;
use crate::explain::{Event, Written, text, text_of_all, texts, words, words_of_all};
use crate::features::Features;
use crate::generate::{GenerationOptions, Segment, Transcript, Window};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// A text with its tokens and words, as one model wrote it or would write it.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    text: String,
    tokens: Vec<u32>,
    words: Vec<WordTokens>,
    segments: Vec<Segment>,
    /// Absent where the text was given.
    transcript: Option<Transcript>,
    /// What can be explained; absent where it took several windows.
    said: Option<Said>,
    /// Whether it does not begin as the model would begin it.
    spaceless: bool,
    fingerprint: Fingerprint,
}

/// What the decoder is given, and what it says then.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub prompt: Vec<u32>,
    /// The end of sentence included.
    pub tokens: Vec<u32>,
}

/// Tells models apart: tokens of one mean nothing to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    /// From the special tokens, and shapes and some of the values of all
    /// weights.
    pub fn of(model: &Model) -> Self {
        const VALUES: usize = 16;
        let mut hasher = FnvHasher::default();
        model.architecture.hash(&mut hasher);
        let tokens = model.tokens;
        [tokens.start, tokens.end, tokens.pad, tokens.begin].hash(&mut hasher);
        for weight in model.weights.iter() {
            (weight.rows, weight.cols).hash(&mut hasher);
            let step = (weight.data.len() / VALUES).max(1);
            for value in weight.data.iter().step_by(step) {
                value.to_bits().hash(&mut hasher);
            }
        }
        Self(hasher.finish())
    }
}

/// Who writes a text down.
pub(super) struct Hearing<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    pub fingerprint: Fingerprint,
    /// Length of the sound.
    pub seconds: f64,
}

impl Hearing<'_> {
    /// Tells what a window was heard as.
    pub fn tell(
        &self,
        generation: &GenerationOptions,
        window: &Window,
        watch: &mut dyn FnMut(Event) -> bool,
    ) -> bool {
        let tokens: Vec<u32> = window.tokens(&self.model.ends).collect();
        watch(Event::Written(Written {
            text: self.tokenizer.decode(&tokens).trim(),
            segments: &self.read(window.segments(self.model, generation)),
        }))
    }

    /// Segments with their texts, none behind the end of the sound, where
    /// Whisper writes times, too.
    fn read(&self, mut segments: Vec<Segment>) -> Vec<Segment> {
        for segment in &mut segments {
            segment.start_seconds = segment.start_seconds.min(self.seconds);
            segment.end_seconds = segment.end_seconds.min(self.seconds);
            segment.text = self.tokenizer.decode(&segment.tokens).trim().to_owned();
        }
        segments
    }

    /// What a transcript of `features` says.
    pub fn heard(
        &self,
        generation: &GenerationOptions,
        features: &Features,
        transcript: Transcript,
    ) -> Heard {
        let (model, tokenizer) = (self.model, self.tokenizer);
        let windows = transcript.windows.iter();
        let windows = windows.map(|own| own.tokens(&model.ends).collect());
        let texts = texts(features, windows.collect());
        let segments = self.read(transcript.segments(model, generation));
        let said = match transcript.windows.as_slice() {
            [only] => {
                let (prompt, tokens) = only.generated.given_and_chosen(generation);
                let tokens = tokens.to_vec();
                Some(Said { prompt, tokens })
            }
            _ => None,
        };
        Heard {
            text: text_of_all(tokenizer, &texts, generation.between_pieces),
            words: words_of_all(model, tokenizer, &texts),
            tokens: texts.concat(),
            segments,
            transcript: Some(transcript),
            said,
            spaceless: false,
            fingerprint: self.fingerprint,
        }
    }

    /// A text that was given as `tokens`, the end of sentence among them, and
    /// whether it lacks the space with which the model would begin it.
    pub fn given(&self, prompt: Vec<u32>, tokens: Vec<u32>, spaceless: bool) -> Heard {
        let end = self.model.tokens.end;
        let spoken = tokens.iter().copied().filter(|&id| id != end);
        let spoken: Vec<u32> = spoken.collect();
        Heard {
            text: text(self.model, self.tokenizer, &tokens).trim().to_owned(),
            words: words(self.model, self.tokenizer, &spoken),
            tokens: spoken,
            segments: Vec::new(),
            transcript: None,
            said: Some(Said { prompt, tokens }),
            spaceless,
            fingerprint: self.fingerprint,
        }
    }
}

impl Heard {
    /// The text, without special tokens.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Ids of the tokens that count, in order, without the end of sentence.
    /// Where the model was asked for times, these are among them.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens grouped into words, each with its range of
    /// [`tokens`](Self::tokens); special ones belong to none. When they
    /// were said is what [`Listener::align`](super::Listener::align) tells.
    pub fn words(&self) -> &[WordTokens] {
        &self.words
    }

    /// Parts with times, where the model was asked for them; one part for each
    /// window where it was not; none of a text that was given.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// All that was generated, window by window; absent for a text that was
    /// given.
    pub fn transcript(&self) -> Option<&Transcript> {
        self.transcript.as_ref()
    }

    /// Mean over windows of the logarithm of a window's probability, divided
    /// by its length to the power of the length penalty; absent for a text
    /// that was given.
    pub fn score(&self) -> Option<f64> {
        let windows = &self.transcript.as_ref()?.windows;
        let sum: f64 = windows.iter().map(|window| window.generated.score).sum();
        Some(sum / windows.len() as f64)
    }

    /// What is not as it should be.
    pub fn warnings(&self) -> Vec<Warning> {
        let transcript = self.transcript.as_ref();
        let cut = transcript.is_some_and(Transcript::truncated);
        let mut warnings = Warning::of(cut, transcript.is_some_and(|own| own.interrupted));
        warnings.extend(self.spaceless.then_some(Warning::Spaceless));
        warnings
    }

    /// What the decoder is given and says.
    ///
    /// # Errors
    /// If another model heard it, or it was heard in several windows.
    pub(super) fn said_by(&self, fingerprint: Fingerprint) -> Result<&Said> {
        if self.fingerprint != fingerprint {
            let problem = "another model heard this text; its tokens mean nothing to this one";
            return Err(Error::Input(problem.into()));
        }
        self.said.as_ref().ok_or_else(|| {
            let problem = "the text was heard in several windows; cut the sound to explain it";
            Error::Input(problem.into())
        })
    }
}
