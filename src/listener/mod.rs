//! The front door: one type that owns a model, the way it hears, its
//! vocabulary and the device that runs it, so that they cannot be mixed up.
//!
//! A [`Listener`] transcribes, explains and aligns sounds, or features that
//! were made of sounds elsewhere: either is an [`Input`]. It may move to
//! another thread and serves one at a time; for several threads open one in
//! each.

mod aligning;
mod builder;
mod ears;
mod explaining;
mod heard;
mod input;
mod machine;

pub use self::aligning::{Aligning, Alignment};
pub use self::builder::Builder;
pub use self::explaining::{Explaining, Sites};
pub use self::heard::Heard;
pub use self::input::Input;

use std::fmt;

use self::ears::Ears;
use self::heard::{Fingerprint, Hearing};
use self::machine::Machine;
use crate::engine::executor::Executor;
use crate::engine::precision::Precision;
use crate::engine::profile::Profile;
use crate::explain::{Event, ExplainOptions, encode};
use crate::features::{Features, FrontEnd};
use crate::gauge::Gauge;
use crate::generate::{GenerationOptions, Moment, Wanted, prompt, transcribe_encoded};
use crate::model::Model;
use crate::model::encoded::Encoded;
use crate::tokenizer::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// A model that listens: with its front end, tokenizer and device.
pub struct Listener {
    model: Model,
    /// Absent where the builder was told that no text is needed.
    tokenizer: Option<Tokenizer>,
    /// How sounds are transcribed if nothing else is said.
    wanted: Wanted,
    ears: Ears,
    machine: Machine,
    fingerprint: Fingerprint,
    /// How what is transcribed will be explained, if that was said.
    foreseen: Option<ExplainOptions>,
    /// The last sound's way through the encoder, until it is explained.
    encoded: Option<Encoded>,
}

/// What is not as whoever asked may think. Nothing is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The device or the precision is not what was asked for, or is far slower
    /// than another.
    Device(String),
    /// The length limit cut the transcript short.
    Truncated,
    /// Whoever watched ended the work before the sound's end.
    Interrupted,
    /// The model begins its texts with a space, and the one that was given does
    /// not: its first token is not what the model would write.
    Spaceless,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(text) => f.write_str(text),
            Self::Truncated => f.write_str("the length limit cut the transcript short"),
            Self::Interrupted => f.write_str("stopped before the end of the sound"),
            Self::Spaceless => f.write_str(
                "the model begins its texts with a space; the text given does not, so its first token is not what the model would write",
            ),
        }
    }
}

/// What a listener owns, lent together, for work that it has no method for.
pub struct Parts<'a> {
    /// Its sizes, weights and abilities.
    pub model: &'a Model,
    /// How it hears.
    pub front_end: &'a FrontEnd,
    tokenizer: Option<&'a Tokenizer>,
    /// What runs it.
    pub executor: &'a mut dyn Executor,
}

impl Warning {
    fn of(truncated: bool, interrupted: bool) -> Vec<Self> {
        let truncated = truncated.then_some(Self::Truncated);
        let interrupted = interrupted.then_some(Self::Interrupted);
        [truncated, interrupted].into_iter().flatten().collect()
    }
}

impl<'a> Parts<'a> {
    /// Its vocabulary.
    ///
    /// # Errors
    /// If the builder was told that no text is needed.
    pub fn tokenizer(&self) -> Result<&'a Tokenizer> {
        needed(self.tokenizer, self.model)
    }
}

fn needed<'a>(tokenizer: Option<&'a Tokenizer>, model: &Model) -> Result<&'a Tokenizer> {
    tokenizer.ok_or_else(|| {
        let problem = "the listener was opened without a tokenizer";
        Error::Input(format!("{}: {problem}", model.name))
    })
}

impl Listener {
    /// A listener with the embedded model on the best device, unless the
    /// builder is told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The model: its name, sizes and abilities.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Opens the device, if it is not open. What the user should know of it is
    /// among the [`warnings`](Self::warnings) then.
    ///
    /// # Errors
    /// If there is no such device, it cannot compute in the precision, or has
    /// not the memory for the weights.
    pub fn start(&mut self) -> Result<()> {
        self.machine.open(&self.model).map(|_| ())
    }

    /// The device's name and in which numbers it computes, once it is open.
    pub fn device(&self) -> Option<(String, Precision)> {
        let executor = self.machine.executor.as_ref()?;
        Some((executor.name(), executor.precision()))
    }

    /// Goes while the device compiles, once it is open.
    pub fn compiling(&self) -> Option<Gauge> {
        let executor = self.machine.executor.as_ref();
        executor.map(|executor| executor.compiling())
    }

    /// What was found when the device was opened.
    pub fn warnings(&self) -> &[Warning] {
        &self.machine.warnings
    }

    /// Counters and times since the device was opened.
    pub fn profile(&self) -> Option<Profile> {
        let executor = self.machine.executor.as_ref();
        executor.map(|executor| executor.profile())
    }

    /// What it owns, for work that it has no method for; opens the device.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn parts(&mut self) -> Result<Parts<'_>> {
        Ok(Parts {
            executor: self.machine.open(&self.model)?,
            model: &self.model,
            front_end: &self.ears.front_end,
            tokenizer: self.tokenizer.as_ref(),
        })
    }

    /// Says how what is transcribed from now on will be explained, or that it
    /// will not be. A sound is then encoded once for both: what the
    /// explanation needs of the encoder is kept on the device till it is
    /// explained or another is transcribed.
    pub fn foresee(&mut self, explanation: Option<ExplainOptions>) {
        self.foreseen = explanation;
    }

    /// What the decoder is given for a text that was heard, and what it says
    /// then, the end of sentence included.
    pub(crate) fn said<'a>(&self, heard: &'a Heard) -> Result<(&'a [u32], &'a [u32])> {
        let said = heard.said_by(self.fingerprint)?;
        Ok((&said.prompt, &said.tokens))
    }

    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer> {
        needed(self.tokenizer.as_ref(), &self.model)
    }

    /// How `wanted` is searched for.
    fn generation(&self, wanted: &Wanted) -> Result<GenerationOptions> {
        GenerationOptions::new(&self.model, Some(self.tokenizer()?), wanted)
    }

    /// The features of a sound of any length, computed once: (T, F), T being
    /// a window's length or more where there are windows.
    ///
    /// # Errors
    /// If the sound is too short.
    pub fn features(&mut self, sound: impl Into<Input>) -> Result<&Features> {
        self.ears.hear(&sound.into())
    }

    /// Refuses a sound that cannot be explained at once, before a device is
    /// needed.
    ///
    /// # Errors
    /// If it is too long or too short for the model.
    pub fn check_explainable(&mut self, sound: impl Into<Input>) -> Result<()> {
        self.ears
            .hear_at_once(&self.model, &sound.into())
            .map(|_| ())
    }

    /// The tokens that a text is written with, letter for letter, and the end
    /// of sentence.
    ///
    /// # Errors
    /// If the text has no tokens, or some that the vocabulary lacks.
    pub fn tokens_of(&self, text: &str) -> Result<Vec<u32>> {
        if text.trim().is_empty() {
            return Err(Error::Input(format!("the text {text:?} has no tokens")));
        }
        let mut tokens = self.tokenizer()?.encode_whole(text)?;
        tokens.push(self.model.tokens.end);
        Ok(tokens)
    }

    /// Writes down what is said in a sound of any length, as the builder was
    /// told.
    ///
    /// # Errors
    /// If the sound does not fit the model or the device fails.
    pub fn transcribe(&mut self, sound: impl Into<Input>) -> Result<Heard> {
        let wanted = self.wanted.clone();
        self.transcribe_as(sound, &wanted, &mut |_| true)
    }

    /// Writes down what is said as wanted. `watch` is told of tokens, and of
    /// what each window was heard as; if it returns false, the transcript ends
    /// there.
    ///
    /// # Errors
    /// If the model has not the language or task, the sound does not fit it,
    /// or the device fails.
    pub fn transcribe_as(
        &mut self,
        sound: impl Into<Input>,
        wanted: &Wanted,
        watch: &mut dyn FnMut(Event) -> bool,
    ) -> Result<Heard> {
        let input = sound.into();
        let generation = self.generation(wanted)?;
        let features = self.ears.hear(&input)?;
        let model = &self.model;
        let executor = self.machine.open(model)?;
        if let Some(old) = self.encoded.take() {
            old.free(executor);
        }
        // What takes several windows cannot be explained.
        if let Some(options) = &self.foreseen
            && model.check_features(features).is_ok()
        {
            let mark = executor.mark();
            self.encoded = match encode(executor, model, features, options) {
                Ok(encoded) => Some(encoded),
                Err(problem) => {
                    executor.unwind(mark);
                    // Then it is encoded twice.
                    match problem.kind() {
                        ErrorKind::Memory => None,
                        _ => return Err(problem),
                    }
                }
            };
        }
        let encoded = self.encoded.as_ref();
        let hearing = Hearing {
            model,
            tokenizer: needed(self.tokenizer.as_ref(), model)?,
            fingerprint: self.fingerprint,
            seconds: input.seconds(model.encoder.frame_seconds()),
        };
        let told = &mut |moment: Moment| match moment {
            Moment::Searched(own) => watch(Event::Searched(own)),
            Moment::Listened(own) => watch(Event::Listened(own)),
            Moment::Window(window) => hearing.tell(&generation, window, watch),
        };
        let transcript = transcribe_encoded(executor, model, features, encoded, &generation, told)?;
        Ok(hearing.heard(&generation, features, transcript))
    }

    /// What would have been heard if the model had written `text`.
    ///
    /// # Errors
    /// If the text cannot be written with the vocabulary, the sound does not
    /// fit the model, or the device fails.
    pub fn given(&mut self, sound: impl Into<Input>, text: &str) -> Result<Heard> {
        let wanted = self.wanted.clone();
        self.given_as(sound, text, &wanted)
    }

    /// As [`given`](Self::given), with the prompt of what is wanted.
    ///
    /// # Errors
    /// As for [`given`](Self::given), and if the model has not the language or
    /// task.
    pub fn given_as(
        &mut self,
        sound: impl Into<Input>,
        text: &str,
        wanted: &Wanted,
    ) -> Result<Heard> {
        let input = sound.into();
        let tokens = self.tokens_of(text)?;
        let generation = self.generation(wanted)?;
        let model = &self.model;
        let features = self.ears.hear_at_once(model, &input)?;
        let executor = self.machine.open(model)?;
        let mut prompt = prompt(executor, model, features, &generation)?;
        // A given text has no times.
        if let Some(own) = generation.multitask.as_ref().filter(|own| own.timestamps)
            && !wanted.timestamps
        {
            prompt.push(own.no_timestamps);
        }
        prompt.extend(&generation.forced);
        let hearing = Hearing {
            model,
            tokenizer: needed(self.tokenizer.as_ref(), model)?,
            fingerprint: self.fingerprint,
            seconds: input.seconds(model.encoder.frame_seconds()),
        };
        let spaceless = model.begun(text) != text;
        Ok(hearing.given(prompt, tokens, spaceless))
    }

    /// Asks which sound each token came from; [`run`](Explaining::run) does
    /// it.
    pub fn explain<'a>(&'a mut self, sound: impl Into<Input>, heard: &Heard) -> Explaining<'a> {
        Explaining::new(self, sound.into(), heard)
    }

    /// Asks when each word was said; [`run`](Aligning::run) does it. The text
    /// is what the model hears, unless one is given.
    pub fn align<'a>(&'a mut self, sound: impl Into<Input>) -> Aligning<'a> {
        Aligning::new(self, sound.into())
    }
}
