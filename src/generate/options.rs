//! How to generate: what a model's `generation_config.json` asks for and what
//! the user wants otherwise.

use super::fallback::Fallback;
use crate::model::Model;
use crate::model::family::Tasks;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Most hypotheses kept: more are a mistake that no memory holds.
const MOST_BEAMS: usize = 1024;

/// What the user wants, to begin with [`Default`]; the model's own choice where
/// something is absent.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Wanted {
    /// A language's code, as in `en`: of the language that is spoken where
    /// the model is told that, else of the one to write.
    pub language: Option<String>,
    /// `transcribe` or `translate`.
    pub task: Option<String>,
    /// Hypotheses kept; 1 is greedy search.
    pub beams: Option<usize>,
    /// Whether the model writes times between its words.
    pub timestamps: bool,
    /// When to draw tokens again; never if absent.
    pub fallback: Option<Fallback>,
}

/// The language in a multitask prompt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Language {
    /// The model has no languages.
    None,
    /// The token of one language.
    Given(u32),
    /// The likeliest of these after the start token.
    Detected(Vec<u32>),
}

/// What a multitask prompt says, and the tokens that come with the format.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Multitask {
    /// Of the sound.
    pub language: Language,
    /// Token of the task.
    pub task: Option<u32>,
    /// Whether times are written.
    pub timestamps: bool,
    /// Says that no times are to be written; the ids after it are times, 0.02
    /// seconds apart.
    pub no_timestamps: u32,
    /// Largest time, counted in steps, at which the first word may begin.
    pub max_initial_timestamp: Option<u32>,
}

/// How to search. Made by [`new`](Self::new) or [`plain`](Self::plain), then
/// changed as wanted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GenerationOptions {
    /// Hypotheses kept; 1 is greedy search.
    pub beams: usize,
    /// Most tokens after the prompt, the end included.
    pub max_new_tokens: Option<usize>,
    /// Most tokens of the decoder's sequence: whole, or beside a multitask
    /// prompt. Holds where `max_new_tokens` is absent.
    pub max_length: usize,
    /// Positions of the decoder.
    pub positions: usize,
    /// Fewest tokens after the prompt before the end.
    pub min_new_tokens: usize,
    /// No n-gram of this size occurs twice; 0 allows all.
    pub no_repeat_ngram_size: usize,
    /// Exponent of the length by which a hypothesis' score is divided.
    pub length_penalty: f64,
    /// Whether beam search ends with as many finished hypotheses as beams.
    pub early_stopping: bool,
    /// What the decoder starts with.
    pub start: u32,
    /// First tokens of the result, such as a language tag.
    pub forced: Vec<u32>,
    /// Tokens never chosen.
    pub suppressed: Vec<u32>,
    /// Tokens not chosen first.
    pub suppressed_first: Vec<u32>,
    /// What the prompt says, where the model has such prompts.
    pub multitask: Option<Multitask>,
    /// When to draw tokens again; never if absent.
    pub fallback: Option<Fallback>,
}

impl GenerationOptions {
    /// The options that a model's `generation_config.json` and the user ask
    /// for. The tokenizer is asked where the file does not name languages and
    /// tasks.
    ///
    /// # Errors
    /// If the language or task is unknown to the model; the message lists
    /// those that it has. If there are too many beams.
    pub fn new(model: &Model, tokenizer: Option<&Tokenizer>, wanted: &Wanted) -> Result<Self> {
        let config = &model.generation;
        let (multitask, forced) = match model.capabilities.prompting.tasks() {
            Some(tasks) => {
                let multitask = Multitask::new(model, tasks, tokenizer, wanted)?;
                (Some(multitask), None)
            }
            None => (None, forced(model, tokenizer, wanted)?),
        };
        let beams = wanted.beams.or(config.num_beams).unwrap_or(1).max(1);
        if beams > MOST_BEAMS {
            return Err(Error::Input(format!(
                "{}: {beams} beams are more than {MOST_BEAMS}",
                model.name
            )));
        }
        let plain = Self::plain(model);
        Ok(Self {
            beams,
            max_new_tokens: config.max_new_tokens,
            max_length: config.max_length.unwrap_or(plain.max_length),
            min_new_tokens: config.min_new_tokens.unwrap_or(0),
            no_repeat_ngram_size: config.no_repeat_ngram_size.unwrap_or(0),
            length_penalty: config.length_penalty.unwrap_or(1.0),
            early_stopping: config.early_stopping.unwrap_or(false),
            forced: forced.into_iter().collect(),
            suppressed: config.suppress_tokens.clone(),
            suppressed_first: config.begin_suppress_tokens.clone(),
            multitask,
            fallback: wanted.fallback.clone(),
            ..plain
        })
    }

    /// Greedy search from the start token to the last position, whatever the
    /// model's folder says.
    pub fn plain(model: &Model) -> Self {
        let positions = model.decoder.config.max_tokens;
        Self {
            beams: 1,
            max_new_tokens: None,
            max_length: positions,
            positions,
            min_new_tokens: 0,
            no_repeat_ngram_size: 0,
            length_penalty: 1.0,
            early_stopping: false,
            start: model.tokens.start,
            forced: Vec::new(),
            suppressed: Vec::new(),
            suppressed_first: Vec::new(),
            multitask: None,
            fallback: None,
        }
    }

    /// The format's tokens, where the model writes times.
    pub(super) fn writes_times(&self) -> Option<&Multitask> {
        self.multitask.as_ref().filter(|own| own.timestamps)
    }

    /// What the decoder starts with; `detect` finds the likeliest of some
    /// languages after the start token.
    ///
    /// # Errors
    /// If `detect` fails.
    pub(super) fn prompt(
        &self,
        detect: impl FnOnce(u32, &[u32]) -> Result<u32>,
    ) -> Result<Vec<u32>> {
        let mut prompt = vec![self.start];
        if let Some(multitask) = &self.multitask {
            match &multitask.language {
                Language::None => {}
                Language::Given(id) => prompt.push(*id),
                Language::Detected(ids) => prompt.push(detect(self.start, ids)?),
            }
            prompt.extend(multitask.task);
            if !multitask.timestamps {
                prompt.push(multitask.no_timestamps);
            }
        }
        Ok(prompt)
    }

    /// Most tokens of the decoder's sequence after a prompt of so many.
    pub(super) fn limit(&self, prompt: usize) -> usize {
        let wanted = match (self.max_new_tokens, &self.multitask) {
            (Some(new), _) => prompt.saturating_add(new),
            (None, Some(_)) => prompt.saturating_add(self.max_length),
            (None, None) => self.max_length,
        };
        wanted.min(self.positions)
    }
}

/// The first token of the text, where the model is told nothing else.
fn forced(model: &Model, tokenizer: Option<&Tokenizer>, wanted: &Wanted) -> Result<Option<u32>> {
    let forced = match &wanted.language {
        Some(language) => {
            let tokenizer = tokenizer.ok_or_else(|| no_languages(model, language))?;
            Some(tokenizer.language_token(language)?)
        }
        None => model.generation.forced_bos_token_id,
    };
    let wrong = match (&wanted.task, wanted.timestamps) {
        (Some(task), _) if task != "transcribe" => format!("task {task}"),
        (_, true) => "timestamps".into(),
        _ => return Ok(forced),
    };
    Err(Error::Input(format!(
        "{}: {} has no {wrong}; Whisper models have it",
        model.name, model.architecture
    )))
}

fn no_languages(model: &Model, language: &str) -> Error {
    Error::Input(format!(
        "{}: there are no language tokens, so {language:?} cannot be chosen; give no language",
        model.name
    ))
}

impl Multitask {
    /// Reads what `generation_config.json` says of languages, tasks and
    /// times, or asks the tokenizer where it is silent.
    fn new(
        model: &Model,
        tasks: Tasks,
        tokenizer: Option<&Tokenizer>,
        wanted: &Wanted,
    ) -> Result<Self> {
        let config = &model.generation;
        let id = |text: &str| tokenizer.and_then(|tokenizer| tokenizer.id(text));
        let no_timestamps = config.no_timestamps_token_id;
        let no_timestamps = no_timestamps
            .or_else(|| id("<|notimestamps|>"))
            .ok_or_else(|| config.problem("has no no_timestamps_token_id"))?;
        let languages = languages(model, tokenizer);
        let language = match &wanted.language {
            Some(language) if languages.is_empty() && language != "en" => {
                return Err(no_languages(model, language));
            }
            _ if languages.is_empty() => Language::None,
            None => Language::Detected(languages.iter().map(|(_, id)| *id).collect()),
            Some(language) => {
                let found = languages.iter().find(|(name, _)| name == code(language));
                let Some((_, id)) = found else {
                    let names: Vec<&str> =
                        languages.iter().map(|(name, _)| name.as_str()).collect();
                    return Err(Error::Input(format!(
                        "{}: there is no language {language:?}; there are {}",
                        model.name,
                        names.join(", ")
                    )));
                };
                Language::Given(*id)
            }
        };
        let task = match (&wanted.task, &language) {
            (Some(task), Language::None) if task != tasks.transcribe => {
                return Err(Error::Input(format!(
                    "{}: an English-only model has no task {task}",
                    model.name
                )));
            }
            (_, Language::None) | (None, Language::Detected(_)) => None,
            (wanted, _) => {
                let task = wanted.as_deref().unwrap_or(tasks.transcribe);
                let found = config.task_to_id.get(task).copied();
                let found = found.or_else(|| id(&format!("<|{task}|>")));
                Some(found.ok_or_else(|| {
                    Error::Input(format!(
                        "{}: there is no task {task:?}; there are {} and {}",
                        model.name, tasks.transcribe, tasks.translate
                    ))
                })?)
            }
        };
        Ok(Self {
            language,
            task,
            timestamps: wanted.timestamps,
            no_timestamps,
            max_initial_timestamp: config.max_initial_timestamp_index,
        })
    }

    /// Says that nobody speaks.
    pub fn no_speech(&self) -> u32 {
        self.no_timestamps.saturating_sub(1)
    }

    /// The id of 0.00 seconds.
    pub fn first_timestamp(&self) -> u32 {
        self.no_timestamps.saturating_add(1)
    }
}

/// A model's languages, by their codes, and their tokens, in order; none where
/// it knows one alone.
fn languages(model: &Model, tokenizer: Option<&Tokenizer>) -> Vec<(String, u32)> {
    let config = &model.generation;
    let mut languages: Vec<(String, u32)> = match (&config.lang_to_id, tokenizer) {
        (Some(ids), _) => {
            let named = ids.iter().map(|(name, &id)| (code(name).to_owned(), id));
            named.collect()
        }
        (None, Some(tokenizer)) if config.is_multilingual != Some(false) => {
            let known = tokenizer.languages().into_iter();
            let named = known.filter_map(|name| {
                let id = tokenizer.id(&format!("<|{name}|>"))?;
                Some((name, id))
            });
            named.collect()
        }
        _ => Vec::new(),
    };
    languages.sort();
    languages
}

/// `en` of `<|en|>` and of `en`.
fn code(name: &str) -> &str {
    name.trim_start_matches("<|").trim_end_matches("|>")
}
