//! What a model says was said: greedy and beam search with a key-value cache.
//!
//! Rules, scores, length normalisation and the stopping rule are those of the
//! transformers library, so that the same weights give the same tokens;
//! `tests/fixtures/generation/README.md` writes them down.

mod controls;
mod fallback;
mod languages;
mod options;
mod rules;
mod scores;
mod search;
mod session;
mod template;
mod watch;
mod windows;

pub use fallback::{Fallback, Quality, compression_ratio};
pub use options::{GenerationOptions, Language, Multitask, Wanted};
pub use scores::ScoreRules;
pub use watch::{Listened, Moment, Searched, Watch};
pub use windows::{Segment, Transcript, Window, heard_from, transcribe, transcribe_encoded};

use self::session::{Heard, Session};
use crate::engine::executor::Executor;
use crate::engine::profile::Purpose;
use crate::features::Features;
use crate::model::Model;
use crate::model::encoded::Encoded;
use crate::{Error, Result};

/// Tokens and candidates of decoding steps.
pub const GENERATION: Purpose = Purpose("generation");

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// What the decoder started with, a detected language included.
    pub prompt: Vec<u32>,
    /// Tokens after the prompt, forced ones and the end included.
    pub tokens: Vec<u32>,
    /// Natural logarithm of the sequence's probability, divided by its length
    /// to the power of the length penalty.
    pub score: f64,
    /// Whether the length limit ended it instead of the end of sentence.
    pub truncated: bool,
    /// What decided whether to draw the tokens again, with fallback.
    pub quality: Option<Quality>,
}

impl Generated {
    /// What was given, forced tokens such as a language tag included, and
    /// what the model chose after it.
    pub fn given_and_chosen(&self, options: &GenerationOptions) -> (Vec<u32>, &[u32]) {
        let (forced, chosen) = self.tokens.split_at(options.forced.len());
        ([self.prompt.as_slice(), forced].concat(), chosen)
    }
}

/// Generates the tokens of one sound, which for models that hear windows is
/// one window.
///
/// # Errors
/// If the features do not fit the model or the device fails.
pub fn generate(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    options: &GenerationOptions,
) -> Result<Generated> {
    generate_window(executor, model, features, None, options, 0, &mut |_| true)
}

/// Generates the tokens of a recording's window number `window`.
fn generate_window(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    encoded: Option<&Encoded>,
    options: &GenerationOptions,
    window: usize,
    watch: Watch,
) -> Result<Generated> {
    model.check_features(features)?;
    let mark = executor.mark();
    let encoded = encoded.filter(|own| own.is_of(features));
    let done = listen_and_search(executor, model, features, encoded, options, window, watch);
    executor.unwind(mark);
    done
}

/// What the decoder starts with for a sound: it is listened to only where a
/// language has to be detected.
///
/// # Errors
/// If the features do not fit the model or the device fails.
pub fn prompt(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    options: &GenerationOptions,
) -> Result<Vec<u32>> {
    let mark = executor.mark();
    let prompt = options.prompt(|start, languages| {
        model.check_features(features)?;
        let heard = Heard::encode(executor, model, features, None)?;
        Session::likeliest_of(executor, model, &heard, start, languages)
    });
    executor.unwind(mark);
    let prompt = prompt?;
    check_tokens(model, &prompt)?;
    Ok(prompt)
}

fn listen_and_search(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    encoded: Option<&Encoded>,
    options: &GenerationOptions,
    window: usize,
    watch: Watch,
) -> Result<Generated> {
    let heard = Heard::encode(executor, model, features, encoded)?;
    let prompt = options.prompt(|start, languages| {
        Session::likeliest_of(executor, model, &heard, start, languages)
    })?;
    let given = [prompt.as_slice(), &options.forced].concat();
    check_tokens(model, &given)?;
    let limit = options.limit(prompt.len());
    if given.len() >= limit {
        return Err(Error::Input(format!(
            "a limit of {limit} tokens leaves no room after a prompt of {}",
            given.len()
        )));
    }
    let task = SearchTask {
        model,
        heard: &heard,
        options,
        prompt: &prompt,
        limit,
    };
    match &options.fallback {
        Some(fallback) => fallback::search(executor, task, fallback, window, watch),
        None if options.judges_silence => fallback::search_and_judge(executor, task, watch),
        None => {
            let mut session = Session::start(executor, task, None, 0)?;
            Ok(search::search(&mut session, task, watch)?.generated)
        }
    }
}

/// Refuses tokens that a model has not, such as those that a
/// `generation_config.json` of another model names.
fn check_tokens(model: &Model, tokens: &[u32]) -> Result<()> {
    let vocabulary = model.decoder.config.vocabulary;
    match tokens.iter().find(|&&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(id) => Err(Error::Model(format!(
            "{}: the prompt has the token {id} where the vocabulary has {vocabulary}",
            model.name
        ))),
    }
}

/// A search for what was said in one sound.
#[derive(Clone, Copy)]
struct SearchTask<'a> {
    model: &'a Model,
    heard: &'a Heard,
    options: &'a GenerationOptions,
    prompt: &'a [u32],
    /// Most tokens of the decoder's sequence.
    limit: usize,
}
