//! How to generate: what a model's `generation_config.json` asks for and what
//! the user wants otherwise.

use serde_json::Value;

use super::fallback::Fallback;
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What the user wants; the model's own choice where something is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// A language's code, as in `en`.
    pub language: Option<String>,
    /// `transcribe` or `translate`.
    pub task: Option<String>,
    /// Hypotheses kept; 1 is greedy search.
    pub beams: Option<usize>,
    /// Whether Whisper writes times between its words.
    pub timestamps: bool,
    /// When to draw tokens again; never if absent.
    pub fallback: Option<Fallback>,
}

/// Whisper's language in its prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Language {
    /// The model has no languages.
    None,
    Given(u32),
    /// The likeliest of these after the start token.
    Detected(Vec<u32>),
}

/// What only Whisper has.
#[derive(Clone, Debug, PartialEq)]
pub struct Whisper {
    pub language: Language,
    /// Token of the task.
    pub task: Option<u32>,
    pub timestamps: bool,
    /// Says that no times are to be written; the ids after it are times, 0.02
    /// seconds apart.
    pub no_timestamps: u32,
    /// Largest time, counted in steps, at which the first word may begin.
    pub max_initial_timestamp: Option<u32>,
}

/// How to search.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationOptions {
    /// Hypotheses kept; 1 is greedy search.
    pub beams: usize,
    /// Most tokens after the prompt, the end included.
    pub max_new_tokens: Option<usize>,
    /// Most tokens of the decoder's sequence: whole, or beside the prompt in
    /// Whisper. Holds where `max_new_tokens` is absent.
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
    pub whisper: Option<Whisper>,
    pub fallback: Option<Fallback>,
}

impl GenerationOptions {
    /// The options that a model's `generation_config.json` and the user ask
    /// for. The tokenizer is asked where the file does not name languages and
    /// tasks.
    ///
    /// # Errors
    /// If the language or task is unknown to the model; the message lists
    /// those that it has.
    pub fn new(model: &Model, tokenizer: Option<&Tokenizer>, wanted: &Wanted) -> Result<Self> {
        let config = &model.generation;
        let size = |name: &str| config[name].as_u64().map(|size| size as usize);
        let list = |name: &str| -> Vec<u32> {
            let tokens = config[name].as_array();
            tokens.into_iter().flatten().filter_map(token).collect()
        };
        let positions = model.decoder.config.max_tokens;
        let whisper = match model.encoder.window_frames() {
            Some(_) => Some(Whisper::new(model, tokenizer, wanted)?),
            None => None,
        };
        let forced = match (&whisper, &wanted.language) {
            (Some(_), _) => None,
            (None, Some(language)) => {
                let tokenizer = tokenizer.ok_or_else(|| no_languages(model, language))?;
                Some(tokenizer.language_token(language)?)
            }
            (None, None) => token(&config["forced_bos_token_id"]),
        };
        if whisper.is_none() {
            let wrong = match (&wanted.task, wanted.timestamps) {
                (Some(task), _) if task != "transcribe" => Some(format!("task {task}")),
                (_, true) => Some("timestamps".into()),
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Err(Error::Input(format!(
                    "{}: {} has no {wrong}; Whisper models have it",
                    model.name, model.architecture
                )));
            }
        }
        Ok(Self {
            beams: wanted.beams.or(size("num_beams")).unwrap_or(1).max(1),
            max_new_tokens: size("max_new_tokens"),
            max_length: size("max_length").unwrap_or(positions),
            positions,
            min_new_tokens: size("min_new_tokens").unwrap_or(0),
            no_repeat_ngram_size: size("no_repeat_ngram_size").unwrap_or(0),
            length_penalty: config["length_penalty"].as_f64().unwrap_or(1.0),
            early_stopping: config["early_stopping"] == true,
            start: model.tokens.start,
            forced: forced.into_iter().collect(),
            suppressed: list("suppress_tokens"),
            suppressed_first: list("begin_suppress_tokens"),
            whisper,
            fallback: wanted.fallback.clone(),
        })
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
        if let Some(whisper) = &self.whisper {
            match &whisper.language {
                Language::None => {}
                Language::Given(id) => prompt.push(*id),
                Language::Detected(ids) => prompt.push(detect(self.start, ids)?),
            }
            prompt.extend(whisper.task);
            if !whisper.timestamps {
                prompt.push(whisper.no_timestamps);
            }
        }
        Ok(prompt)
    }

    /// Most tokens of the decoder's sequence after a prompt of so many.
    pub(super) fn limit(&self, prompt: usize) -> usize {
        let wanted = match (self.max_new_tokens, &self.whisper) {
            (Some(new), _) => prompt + new,
            (None, Some(_)) => prompt + self.max_length,
            (None, None) => self.max_length,
        };
        wanted.min(self.positions)
    }
}

fn token(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn no_languages(model: &Model, language: &str) -> Error {
    Error::Input(format!(
        "{}: there are no language tokens, so {language:?} cannot be chosen; give no language",
        model.name
    ))
}

impl Whisper {
    /// Reads what `generation_config.json` says of languages, tasks and
    /// times, or asks the tokenizer where it is silent.
    fn new(model: &Model, tokenizer: Option<&Tokenizer>, wanted: &Wanted) -> Result<Self> {
        let config = &model.generation;
        let id = |text: &str| tokenizer.and_then(|tokenizer| tokenizer.id(text));
        let problem = |what: String| Error::file(model.files.path("generation_config.json"), what);
        let no_timestamps = token(&config["no_timestamps_token_id"])
            .or_else(|| id("<|notimestamps|>"))
            .ok_or_else(|| problem("has no no_timestamps_token_id".into()))?;

        let mut languages: Vec<(String, u32)> = match config["lang_to_id"].as_object() {
            Some(map) => {
                let named = map.iter().filter_map(|(name, id)| Some((name, token(id)?)));
                named
                    .map(|(name, id)| (code(name).to_owned(), id))
                    .collect()
            }
            None if config["is_multilingual"] == false => Vec::new(),
            None => {
                let known = tokenizer.map_or_else(Vec::new, Tokenizer::languages);
                let named = known.into_iter();
                let named = named.filter_map(|name| Some((id(&format!("<|{name}|>"))?, name)));
                named.map(|(id, name)| (name, id)).collect()
            }
        };
        languages.sort();
        let language = match &wanted.language {
            _ if languages.is_empty() => match &wanted.language {
                Some(language) if language != "en" => return Err(no_languages(model, language)),
                _ => Language::None,
            },
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
            (Some(task), Language::None) if task != "transcribe" => {
                return Err(Error::Input(format!(
                    "{}: an English-only model has no task {task}",
                    model.name
                )));
            }
            (_, Language::None) | (None, Language::Detected(_)) => None,
            (wanted, _) => {
                let task = wanted.as_deref().unwrap_or("transcribe");
                let found = token(&config["task_to_id"][task]);
                let found = found.or_else(|| id(&format!("<|{task}|>")));
                Some(found.ok_or_else(|| {
                    let known = "there are transcribe and translate";
                    Error::Input(format!(
                        "{}: there is no task {task:?}; {known}",
                        model.name
                    ))
                })?)
            }
        };
        Ok(Self {
            language,
            task,
            timestamps: wanted.timestamps,
            no_timestamps,
            max_initial_timestamp: token(&config["max_initial_timestamp_index"]),
        })
    }

    /// Says that nobody speaks.
    pub fn no_speech(&self) -> u32 {
        self.no_timestamps.saturating_sub(1)
    }

    /// The id of 0.00 seconds.
    pub fn first_timestamp(&self) -> u32 {
        self.no_timestamps + 1
    }
}

/// `en` of `<|en|>` and of `en`.
fn code(name: &str) -> &str {
    name.trim_start_matches("<|").trim_end_matches("|>")
}
