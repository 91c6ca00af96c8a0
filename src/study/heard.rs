//! An utterance of a manifest as a model hears it: its features, and the tokens
//! that the model writes about them.

use super::manifest::Item;
use super::sounds::Sounds;
use super::truth::TrueOnsets;
use super::watch::{Event, Watch};
use crate::audio::Sound;
use crate::engine::executor::Executor;
use crate::explain::Subject;
use crate::features::{Features, FrontEnd};
use crate::generate::{GenerationOptions, Wanted, generate};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What serves all utterances.
#[derive(Clone, Copy)]
pub struct Subjects<'a> {
    pub model: &'a Model,
    pub front_end: &'a FrontEnd,
    pub tokenizer: &'a Tokenizer,
    /// Of utterances whose written language is the spoken one.
    pub onsets: &'a TrueOnsets,
    /// Bytes that a pass may take beside the weights.
    pub memory: usize,
}

pub(super) struct Heard {
    sound: Sound,
    pub features: Features,
    /// How the tokens were searched for.
    pub options: GenerationOptions,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

impl Heard {
    /// Reads the sound and writes about it, with so many hypotheses in the
    /// search, or as many as the model keeps. Tells `watch` what is odd about
    /// the sound.
    ///
    /// # Errors
    /// If it cannot be read or does not fit the model, the device fails, or
    /// `watch` asks to stop.
    pub fn new(
        executor: &mut dyn Executor,
        subjects: &Subjects,
        sounds: &mut Sounds,
        beams: Option<usize>,
        item: &Item,
        watch: &mut Watch,
    ) -> Result<Self> {
        let model = subjects.model;
        let sound = sounds.read(item)?;
        for warning in sound.warnings() {
            if !watch(Event::Sound { item, warning }) {
                return Err(Error::Stopped);
            }
        }
        subjects.onsets.check_within(item, sound.seconds())?;
        let features = subjects.front_end.features(sound.waveform());
        let features = features.map_err(|problem| Error::file(&item.audio, problem))?;
        let fits = model.check_features(&features);
        fits.map_err(|problem| Error::file(&item.audio, problem))?;
        let wanted = Wanted {
            beams,
            ..wanted(subjects, item)?
        };
        let options = GenerationOptions::new(model, Some(subjects.tokenizer), &wanted)?;
        let generated = generate(executor, model, &features, &options)?;
        let (prompt, tokens) = generated.given_and_chosen(&options);
        let tokens = tokens.to_vec();
        Ok(Self {
            sound,
            features,
            options,
            prompt,
            tokens,
        })
    }

    /// What is to be explained.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            file: self.sound.name().to_owned(),
            seconds: self.sound.seconds(),
            fingerprint: Some(self.sound.fingerprint()),
            warnings: self.sound.warnings(),
            features: &self.features,
            encoded: None,
            prompt: &self.prompt,
            tokens: &self.tokens,
        }
    }
}

/// Languages and task as the manifest gives them, for models that have any.
fn wanted(subjects: &Subjects, item: &Item) -> Result<Wanted> {
    let capabilities = &subjects.model.capabilities;
    let tasks = capabilities.prompting.tasks();
    let has_languages = !subjects.tokenizer.languages().is_empty();
    let translates = item.source != item.target && item.target.is_some();
    let (language, task) = match (tasks, has_languages) {
        _ if capabilities.prompting.controls().is_some() => {
            let target = item.target.as_deref().filter(|_| translates);
            let task = target.map(|target| format!("translate:{target}"));
            (item.source.clone(), task)
        }
        // A model with tasks is told what it hears, others what they write.
        (Some(tasks), _) => {
            let target = item.target.as_deref().unwrap_or_default();
            if translates && target != tasks.into.code {
                return Err(Error::Input(format!(
                    "{} translates to {} only, not to {target}",
                    capabilities.family, tasks.into.name
                )));
            }
            let task = if translates {
                tasks.translate
            } else {
                tasks.transcribe
            };
            (item.source.clone(), Some(task.to_owned()))
        }
        (None, true) => (item.target.clone(), None),
        (None, false) => (None, None),
    };
    Ok(Wanted {
        language,
        task,
        task_after_detection: true,
        beams: None,
        timestamps: false,
        fallback: None,
    })
}
