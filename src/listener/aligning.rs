//! A request for the times of words.

use serde_json::{Map, Value};

use super::{Input, Listener, Warning, needed};
use crate::Result;
use crate::align::WordTime;
use crate::align::formats::AlignedRecording;
use crate::explain::Event;
use crate::explain::alignment::{Aligned, Aligner, AlignmentOptions, Source};
use crate::generate::Wanted;

/// What is to be aligned and how; made by [`Listener::align`].
#[must_use = "nothing is computed until `run`"]
pub struct Aligning<'a> {
    listener: &'a mut Listener,
    input: Input,
    /// The source that the model calls for, if absent.
    options: Option<AlignmentOptions>,
    text: Option<String>,
    wanted: Option<Wanted>,
    watch: Box<dyn FnMut(Event) -> bool + 'a>,
}

/// When the words of a sound were said.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    aligned: Aligned,
    name: String,
    seconds: f64,
    made: Map<String, Value>,
    /// About the sound, in words.
    of_sound: Vec<String>,
}

impl<'a> Aligning<'a> {
    pub(super) fn new(listener: &'a mut Listener, input: Input) -> Self {
        Self {
            listener,
            input,
            options: None,
            text: None,
            wanted: None,
            watch: Box::new(|_| true),
        }
    }

    /// Where times are read off, with the defaults for all else. If it is not
    /// said: what was measured to tell it best for the model's family.
    pub fn by(self, source: Source) -> Self {
        self.options(AlignmentOptions::by(source))
    }

    /// All that can be said; replaces what was said before.
    pub fn options(mut self, options: AlignmentOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// Finds the words of this text instead of what the model hears.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// How the sound is transcribed; if it is not said, as the listener's
    /// builder was told, and with times where the model can write them: so
    /// nothing behind a pause is lost.
    pub fn wanted(mut self, wanted: Wanted) -> Self {
        self.wanted = Some(wanted);
        self
    }

    /// Who is told of windows and masks, and returns whether to go on.
    pub fn watch(mut self, watch: impl FnMut(Event) -> bool + 'a) -> Self {
        self.watch = Box::new(watch);
        self
    }

    /// Finds the words.
    ///
    /// # Errors
    /// If the sound or the text does not fit the model, there is no such head
    /// or map, or the device fails.
    pub fn run(self) -> Result<Alignment> {
        let Self {
            listener,
            input,
            options,
            text,
            wanted,
            mut watch,
        } = self;
        let mut generation = listener.generation(wanted.as_ref().unwrap_or(&listener.wanted))?;
        let times = generation.knows_times(&listener.model);
        if times && wanted.is_none() {
            generation = listener.generation(&Wanted {
                timestamps: true,
                ..listener.wanted.clone()
            })?;
        }
        generation.judges_silence = times;
        let options = match options {
            Some(options) => options,
            None => AlignmentOptions::by(Source::of(&listener.model)),
        };
        options.source.check(&listener.model)?;
        let model = &listener.model;
        let aligner = Aligner {
            model,
            tokenizer: needed(listener.tokenizer.as_ref(), model)?,
            generation: &generation,
            options: &options,
        };
        let features = listener.ears.hear(&input)?;
        let executor = listener.machine.open(model)?;
        let aligned = match text {
            Some(text) => aligner.given(executor, features, &text, watch.as_mut())?,
            None => aligner.transcribed(executor, features, watch.as_mut())?,
        };
        Ok(Alignment {
            made: aligner.made(&aligned, executor),
            name: input.name().to_owned(),
            seconds: input.seconds(model.encoder.frame_seconds()),
            of_sound: input.warnings().iter().map(ToString::to_string).collect(),
            aligned,
        })
    }
}

impl Alignment {
    /// The text, without special tokens.
    pub fn text(&self) -> &str {
        &self.aligned.text
    }

    /// The words in order; none overlaps another.
    pub fn words(&self) -> &[WordTime] {
        &self.aligned.words
    }

    /// What is not as it should be.
    pub fn warnings(&self) -> Vec<Warning> {
        Warning::of(self.aligned.truncated, self.aligned.interrupted)
    }

    /// As files have it; a [`Format`](crate::align::formats::Format) writes
    /// it. The name is that of the sound.
    pub fn recording(&self) -> AlignedRecording {
        let (name, text) = (self.name.clone(), self.aligned.text.clone());
        let made = self.made.clone();
        let recording = AlignedRecording::new(name, self.seconds, text, self.words(), made);
        AlignedRecording {
            warnings: self.of_sound.clone(),
            ..recording
        }
    }
}
