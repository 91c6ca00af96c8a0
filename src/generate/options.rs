//! How to generate: what a model's `generation_config.json` asks for and what
//! the user wants otherwise.

use super::controls::{self, Listed};
use super::fallback::Fallback;
use super::languages::{bare, code};
use super::scores::ScoreRules;
use crate::model::family::{Prompting, Tasks};
use crate::model::generation_config::{EarlyStopping, Origin};
use crate::model::{Model, TIMES};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Most hypotheses kept: more are a mistake that no memory holds.
const MOST_BEAMS: usize = 1024;

/// The start token in OpenAI's English-only vocabulary; in the others it is one
/// more.
const ENGLISH_START: u32 = 50_257;

/// What the user wants, to begin with [`Default`]; the model's own choice where
/// something is absent.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Wanted {
    /// A language's code or name, as in `en` and `English`: of the language that
    /// is spoken where the model is told that, else of the one to write.
    pub language: Option<String>,
    /// `transcribe` or `translate`; for models that write several languages also
    /// `translate:LANGUAGE`.
    pub task: Option<String>,
    /// Whether the prompt behind a detected language asks to transcribe where
    /// neither `task` nor the model's folder asks for anything; transformers'
    /// prompt is silent then.
    pub task_after_detection: bool,
    /// Hypotheses kept; 1 is greedy search.
    pub beams: Option<usize>,
    /// Whether the model writes times between its words; it does also where
    /// its folder says so.
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
    /// Tokens behind these two, such as those of `forced_decoder_ids`.
    pub further: Vec<u32>,
    /// Whether the prompt says so where no times are written.
    pub says_no_timestamps: bool,
    /// Whether times are written.
    pub timestamps: bool,
    /// Says that no times are to be written; the ids after it are times, 0.02
    /// seconds apart.
    pub no_timestamps: u32,
    /// The first id behind the times: tokens added there are text.
    pub behind_timestamps: u32,
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
    /// Fewest tokens of the decoder's sequence before the end.
    pub min_length: usize,
    /// No n-gram of this size occurs twice; 0 allows all.
    pub no_repeat_ngram_size: usize,
    /// Exponent of the length by which a hypothesis' score is divided.
    pub length_penalty: f64,
    /// When beam search ends.
    pub early_stopping: EarlyStopping,
    /// Tokens that end a text; the first is the one that is written behind a
    /// given text.
    pub ends: Vec<u32>,
    /// What the decoder starts with.
    pub start: u32,
    /// What stands behind it where a prompt is a list of control tokens.
    pub controls: Vec<u32>,
    /// What stands between the texts of a recording's pieces.
    pub between_pieces: &'static str,
    /// First tokens of the result, such as a language tag.
    pub forced: Vec<u32>,
    /// Tokens never chosen.
    pub suppressed: Vec<u32>,
    /// Tokens not chosen first.
    pub suppressed_first: Vec<u32>,
    /// Sequences of tokens that are never completed.
    pub bad_words: Vec<Vec<u32>>,
    /// What changes scores beside bans.
    pub scores: ScoreRules,
    /// What the prompt says, where the model has such prompts.
    pub multitask: Option<Multitask>,
    /// When to draw tokens again; never if absent.
    pub fallback: Option<Fallback>,
    /// Whether a model with a multitask prompt is asked whether anybody
    /// speaks; with fallback it always is.
    pub judges_silence: bool,
}

impl GenerationOptions {
    /// The options that a model's `generation_config.json` and the user ask
    /// for. The tokenizer is asked where the file does not name languages and
    /// tasks.
    ///
    /// # Errors
    /// If the language or task is unknown to the model; the message lists
    /// those that it has. If there are too many beams, or the model's folder
    /// asks for what is not there.
    pub fn new(model: &Model, tokenizer: Option<&Tokenizer>, wanted: &Wanted) -> Result<Self> {
        let config = &model.generation;
        config.check_supported()?;
        let draws = config.do_sample == Some(true);
        if draws && model.capabilities.prompting.tasks().is_none() {
            let why = "texts would be others in every run";
            return Err(config.problem(format!("do_sample is true, which is not supported: {why}")));
        }
        let plain = Self::plain(model);
        let (mut multitask, mut forced, mut listed) = (None, None, Listed::default());
        match model.capabilities.prompting {
            Prompting::Start => forced = self::forced(model, tokenizer, wanted)?,
            Prompting::Multitask(tasks) => {
                multitask = Some(Multitask::new(model, tasks, tokenizer, wanted)?);
            }
            Prompting::Controls(own) => listed = controls::list(model, own, tokenizer, wanted)?,
        }
        let beams = wanted.beams.or(config.num_beams).unwrap_or(1).max(1);
        if beams > MOST_BEAMS {
            return Err(match wanted.beams {
                Some(_) => Error::Input(format!(
                    "{}: {beams} beams are more than {MOST_BEAMS}",
                    model.name
                )),
                None => config.problem(format!(
                    "num_beams is {beams}; no more than {MOST_BEAMS} are supported"
                )),
            });
        }
        let scores = ScoreRules {
            repetition_penalty: config.repetition_penalty.unwrap_or(1.0) as f32,
            bias: config
                .sequence_bias
                .iter()
                .map(|(sequence, bias)| (sequence.clone(), *bias as f32))
                .collect(),
            decay: config.exponential_decay_length_penalty,
            forced_last: config.forced_eos_token_id.clone().unwrap_or_default(),
            // Without beams it changes no choice.
            normalised_again: beams > 1 && config.renormalize_logits == Some(true),
        };
        if wanted.fallback.is_some() && !scores.are_none() {
            return Err(config.problem(format!(
                "{} is not supported together with fallback",
                scores.names().join(", ")
            )));
        }
        Ok(Self {
            beams,
            max_new_tokens: config.max_new_tokens,
            max_length: config.max_length.unwrap_or(plain.max_length),
            min_new_tokens: config.min_new_tokens.unwrap_or(0),
            min_length: match config.min_new_tokens {
                Some(_) => 0,
                None => config.min_length.unwrap_or(0),
            },
            no_repeat_ngram_size: config.no_repeat_ngram_size.unwrap_or(0),
            length_penalty: config.length_penalty.unwrap_or(1.0),
            early_stopping: config.early_stopping.unwrap_or_default(),
            forced: forced.into_iter().collect(),
            suppressed: config.suppress_tokens.clone(),
            suppressed_first: config.begin_suppress_tokens.clone(),
            bad_words: bad_words(model),
            scores,
            multitask,
            fallback: wanted.fallback.clone(),
            controls: listed.tokens,
            between_pieces: listed.between_pieces,
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
            min_length: 0,
            no_repeat_ngram_size: 0,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
            ends: model.ends.clone(),
            start: model.tokens.start,
            controls: Vec::new(),
            between_pieces: Listed::default().between_pieces,
            forced: Vec::new(),
            suppressed: Vec::new(),
            suppressed_first: Vec::new(),
            bad_words: Vec::new(),
            scores: ScoreRules::default(),
            multitask: None,
            fallback: None,
            judges_silence: false,
        }
    }

    /// How probable silence may be where somebody speaks.
    pub fn most_silence(&self) -> f64 {
        let usual = || Fallback::default().no_speech;
        self.fallback
            .as_ref()
            .map_or_else(usual, |own| own.no_speech)
    }

    /// Whether the model's vocabulary has times.
    pub fn knows_times(&self, model: &Model) -> bool {
        let vocabulary = model.decoder.config.vocabulary as u32;
        let multitask = self.multitask.as_ref();
        multitask.is_some_and(|own| own.first_timestamp() < vocabulary)
    }

    /// Candidates of a hypothesis: every beam may end, with each of the ends.
    pub(super) fn candidates(&self) -> usize {
        match self.beams {
            1 => 1,
            beams => beams * (1 + self.ends.len()).max(2),
        }
    }

    /// Whether a token ends a text.
    pub(super) fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
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
        prompt.extend(&self.controls);
        if let Some(multitask) = &self.multitask {
            match &multitask.language {
                Language::None => {}
                Language::Given(id) => prompt.push(*id),
                Language::Detected(ids) => prompt.push(detect(self.start, ids)?),
            }
            prompt.extend(multitask.task);
            prompt.extend(&multitask.further);
            if !multitask.timestamps
                && multitask.says_no_timestamps
                && prompt.last() != Some(&multitask.no_timestamps)
            {
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
            // As it is given, or else by its name.
            let found = tokenizer.language_token(language);
            let by_name = || tokenizer.language_token(&code(language)).ok();
            Some(found.or_else(|unknown| by_name().ok_or(unknown))?)
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
    /// The prompt that is wanted, that `generation_config.json` asks for, or
    /// `forced_decoder_ids` where neither says a language or a task; as
    /// transformers does it. The tokenizer is asked for tokens that the file
    /// does not name, and where there is no such file at all, for languages.
    fn new(
        model: &Model,
        tasks: Tasks,
        tokenizer: Option<&Tokenizer>,
        wanted: &Wanted,
    ) -> Result<Self> {
        let config = &model.generation;
        let id = |text: &str| tokenizer.and_then(|tokenizer| tokenizer.id(text));
        let no_timestamps = config.no_timestamps_token_id;
        let no_timestamps = no_timestamps.or_else(|| id("<|notimestamps|>"));
        let asked = wanted.language.is_some() || wanted.task.is_some();
        let silent = !asked && config.language.is_none() && config.task.is_none();
        let forced = match silent {
            true => forced_tokens(model)?,
            false => None,
        };
        let timestamps = wanted.timestamps || config.return_timestamps == Some(true);
        let says_no_timestamps = config.no_timestamps_token_id.is_some()
            || forced.is_none() && (asked || config.origin != Origin::File);
        let needed = timestamps || says_no_timestamps || wanted.fallback.is_some();
        let no_timestamps = match no_timestamps {
            Some(id) => id,
            // Nobody asks for it: no token is it.
            None if !needed => model.decoder.config.vocabulary as u32,
            None => return Err(config.problem("has no no_timestamps_token_id")),
        };
        let given = Self {
            language: Language::None,
            task: None,
            further: Vec::new(),
            says_no_timestamps,
            timestamps,
            no_timestamps,
            behind_timestamps: behind_timestamps(model, tokenizer, no_timestamps),
            max_initial_timestamp: config.max_initial_timestamp_index,
        };
        if let Some(forced) = forced {
            return Ok(given.with_forced(model, forced));
        }
        // A file that is silent on languages counts, unless somebody asks.
        let unsaid = config.origin == Origin::File && config.lang_to_id.is_none();
        let languages = match unsaid && !asked && config.language.is_none() {
            true => Vec::new(),
            false => languages(model, tokenizer),
        };
        let language = language(model, &languages, wanted)?;
        let named = wanted.task.as_deref().or(config.task.as_deref());
        let task = match (named, &language) {
            // Tasks of models without languages go without saying.
            (Some(task), Language::None) if asked || !unsaid => {
                if task != tasks.transcribe {
                    return Err(Error::Input(format!(
                        "{}: an English-only model has no task {task}",
                        model.name
                    )));
                }
                None
            }
            (Some(task), _) => Some(task),
            (None, Language::Given(_)) => Some(tasks.transcribe),
            (None, Language::Detected(_)) if wanted.task_after_detection => Some(tasks.transcribe),
            (None, _) => None,
        };
        let token = |task: &str| {
            let found = config.task_to_id.get(task).copied();
            let found = found.or_else(|| id(&format!("<|{task}|>")));
            found.ok_or_else(|| {
                Error::Input(format!(
                    "{}: there is no task {task:?}; there are {} and {}",
                    model.name, tasks.transcribe, tasks.translate
                ))
            })
        };
        Ok(Self {
            language,
            task: task.map(token).transpose()?,
            ..given
        })
    }

    /// With the tokens of `forced_decoder_ids` behind the start; where the
    /// first is open, it is a language to detect.
    fn with_forced(self, model: &Model, forced: Vec<Option<u32>>) -> Self {
        let open = forced.first() == Some(&None);
        let language = match &model.generation.lang_to_id {
            Some(ids) if open && !ids.is_empty() => {
                Language::Detected(ids.values().copied().collect())
            }
            _ => Language::None,
        };
        let mut further: Vec<u32> = forced.into_iter().flatten().collect();
        if self.timestamps && further.last() == Some(&self.no_timestamps) {
            further.pop();
        }
        Self {
            language,
            further,
            ..self
        }
    }

    /// Says that nobody speaks.
    pub fn no_speech(&self) -> u32 {
        self.no_timestamps.saturating_sub(1)
    }

    /// The id of 0.00 seconds.
    pub fn first_timestamp(&self) -> u32 {
        self.no_timestamps.saturating_add(1)
    }

    /// Whether an id is a time.
    pub fn is_time(&self, id: u32) -> bool {
        (self.first_timestamp()..self.behind_timestamps).contains(&id)
    }
}

/// The tokens of `forced_decoder_ids` from position 1 on; none where they begin
/// elsewhere, which transformers passes over.
///
/// # Errors
/// If positions are left out.
fn forced_tokens(model: &Model) -> Result<Option<Vec<Option<u32>>>> {
    let config = &model.generation;
    let Some(forced) = &config.forced_decoder_ids else {
        return Ok(None);
    };
    if forced.first().is_none_or(|&(at, _)| at != 1) {
        return Ok(None);
    }
    let gap = forced.iter().zip(1..).find(|((at, _), right)| at != right);
    if let Some(((at, _), right)) = gap {
        return Err(config.problem(format!(
            "forced_decoder_ids has position {at} where {right} would be right"
        )));
    }
    Ok(Some(forced.iter().map(|&(_, id)| id).collect()))
}

/// The language of a prompt: wanted, of the model's folder, or detected.
///
/// # Errors
/// If the model has not the language.
fn language(model: &Model, languages: &[(String, u32)], wanted: &Wanted) -> Result<Language> {
    let config = &model.generation;
    // A wrong one in the folder is the folder's fault.
    let wrong = |problem: String| match wanted.language {
        Some(_) => Error::Input(format!("{}: {problem}", model.name)),
        None => config.problem(format!("language: {problem}")),
    };
    let given = wanted.language.as_ref().or(config.language.as_ref());
    let Some(given) = given else {
        return Ok(match languages {
            [] => Language::None,
            some => Language::Detected(some.iter().map(|(_, id)| *id).collect()),
        });
    };
    let code = code(given);
    if let Some((_, id)) = languages.iter().find(|(name, _)| *name == code) {
        return Ok(Language::Given(*id));
    }
    if languages.is_empty() && code == "en" {
        return Ok(Language::None);
    }
    let names: Vec<&str> = languages.iter().map(|(name, _)| name.as_str()).collect();
    Err(wrong(match names.as_slice() {
        [] => {
            format!("there are no language tokens, so {given:?} cannot be chosen; give no language")
        }
        names => format!(
            "there is no language {given:?}; there are {}",
            names.join(", ")
        ),
    }))
}

/// `bad_words_ids` without those that are an end alone, as transformers has it.
fn bad_words(model: &Model) -> Vec<Vec<u32>> {
    let is_end = |word: &[u32]| matches!(word, [id] if model.ends.contains(id));
    let words = model.generation.bad_words_ids.iter();
    words.filter(|word| !is_end(word)).cloned().collect()
}

/// The first id behind the times: by the tokenizer, where it has any, else
/// where OpenAI's vocabularies have it.
fn behind_timestamps(model: &Model, tokenizer: Option<&Tokenizer>, no_timestamps: u32) -> u32 {
    let first = no_timestamps.saturating_add(1);
    let vocabulary = u32::try_from(model.decoder.config.vocabulary).unwrap_or(u32::MAX);
    let most = first.saturating_add(TIMES as u32).min(vocabulary);
    let is_time = |id: &u32| tokenizer.is_some_and(|own| own.is_time(*id));
    match (first..vocabulary).take_while(is_time).last() {
        Some(last) => last + 1,
        None => most.max(first),
    }
}

/// A model's languages, by their codes, and their tokens, in order; none where
/// it knows one alone.
fn languages(model: &Model, tokenizer: Option<&Tokenizer>) -> Vec<(String, u32)> {
    let mut languages: Vec<(String, u32)> = match (&model.generation.lang_to_id, tokenizer) {
        (Some(ids), _) => {
            let named = ids
                .iter()
                .map(|(name, &id)| (bare(name).to_lowercase(), id));
            named.collect()
        }
        (None, Some(tokenizer)) if !is_english_only(model, tokenizer) => {
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

/// Whether a model knows English alone: its folder says so, or its vocabulary.
/// OpenAI's English-only vocabulary has tokens of all languages, but is GPT-2's,
/// with the end of text at 50,256.
fn is_english_only(model: &Model, tokenizer: &Tokenizer) -> bool {
    match model.generation.is_multilingual {
        Some(many) => !many,
        None => {
            let start = tokenizer.id("<|startoftranscript|>");
            start == Some(ENGLISH_START) || tokenizer.languages().len() < 2
        }
    }
}
