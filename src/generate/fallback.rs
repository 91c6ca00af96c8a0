//! Temperature fallback: what was written is looked at, and where it is
//! improbable or repeats itself, it is drawn again at a higher temperature.
//!
//! Measures, thresholds and their order are those of transformers' Whisper;
//! only the random numbers are our own.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

use super::session::Session;
use super::watch::Watch;
use super::{Generated, SearchTask, search};
use crate::engine::executor::Executor;
use crate::ops::Draw;
use crate::{Error, Result};

/// How often draws are told apart within one window.
const MOST_ATTEMPTS: usize = 64;

/// When tokens are drawn again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fallback {
    /// Tried one after the other: 0 searches, others draw. The last one's
    /// tokens are taken as they are.
    pub temperatures: Vec<f32>,
    /// Tokens whose bytes zlib makes smaller by more than this factor repeat
    /// themselves.
    pub compression_ratio: f64,
    /// Tokens are improbable where the mean logarithm of their probabilities
    /// is below it.
    pub log_probability: f64,
    /// Improbable tokens of a sound that is silence with more than this
    /// probability count for nothing. Models with a multitask prompt alone know
    /// of silence.
    pub no_speech: f64,
    /// Of what is drawn.
    pub seed: u64,
}

impl Default for Fallback {
    /// The values that transformers' documentation recommends.
    fn default() -> Self {
        Self {
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            compression_ratio: 1.35,
            log_probability: -1.0,
            no_speech: 0.6,
            seed: 0,
        }
    }
}

/// What was found of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// The one that they were found at.
    pub temperature: f32,
    /// Mean natural logarithm of the tokens' probabilities among those that the
    /// rules left, the end included.
    pub mean_log_probability: f64,
    /// See [`compression_ratio`].
    pub compression_ratio: f64,
    /// Probability that nobody speaks, from a model that knows of silence.
    pub no_speech_probability: Option<f64>,
    /// Whether the tokens count for nothing, since nobody speaks.
    pub silent: bool,
}

impl Fallback {
    /// Checks values that a user gave.
    ///
    /// # Errors
    /// If there are no temperatures, too many, or numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        let count = self.temperatures.len();
        let fits = |t: &f32| *t == 0.0 || (1e-4..=1e4).contains(t);
        if count == 0 || count > MOST_ATTEMPTS || !self.temperatures.iter().all(fits) {
            return Err(Error::Input(format!(
                "temperatures are 1 to {MOST_ATTEMPTS} numbers, 0 or from 0.0001 to 10000, not {:?}",
                self.temperatures
            )));
        }
        Ok(())
    }

    fn judge(&self, temperature: f32, mean: f64, ratio: f64, silence: Option<f64>) -> Quality {
        let improbable = mean < self.log_probability;
        Quality {
            temperature,
            mean_log_probability: mean,
            compression_ratio: ratio,
            no_speech_probability: silence,
            silent: improbable && silence.is_some_and(|silence| silence > self.no_speech),
        }
    }

    /// Whether to try the next temperature.
    fn goes_on(&self, quality: &Quality) -> bool {
        let improbable = quality.mean_log_probability < self.log_probability;
        let repeated = quality.compression_ratio > self.compression_ratio;
        (improbable || repeated) && !quality.silent
    }
}

/// How many times smaller zlib makes tokens, each written with the fewest
/// whole bytes that the vocabulary needs.
pub fn compression_ratio(tokens: &[u32], vocabulary: usize) -> f64 {
    let width = (vocabulary as f64).log2() as usize / 8 + 1;
    let bytes = tokens
        .iter()
        .flat_map(|id| id.to_le_bytes().into_iter().take(width));
    let bytes: Vec<u8> = bytes.collect();
    // At this level it packs as tightly as zlib does at its own default.
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(9));
    let written = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    // Memory refuses no bytes.
    let packed = written.map_or(bytes.len(), |packed| packed.len());
    bytes.len() as f64 / packed.max(1) as f64
}

/// Searches, and draws until tokens are good enough or temperatures are used
/// up. `window` keeps the draws of different sounds apart.
///
/// # Errors
/// If the device fails, the model's probabilities are no numbers, or `watch`
/// asks to stop.
pub(super) fn search(
    executor: &mut dyn Executor,
    task: SearchTask,
    fallback: &Fallback,
    window: usize,
    watch: Watch,
) -> Result<Generated> {
    fallback.check()?;
    let SearchTask { model, options, .. } = task;
    let silence = silence(executor, task)?;
    let mut attempts = fallback.temperatures.iter().enumerate();
    while let Some((attempt, &temperature)) = attempts.next() {
        let draw = (temperature > 0.0).then_some(Draw {
            temperature,
            seed: fallback.seed,
        });
        let mut own = options.clone();
        if draw.is_some() {
            own.beams = 1;
        }
        let stream = window * MOST_ATTEMPTS + attempt;
        let mark = executor.mark();
        let own = SearchTask {
            options: &own,
            ..task
        };
        let mut session = Session::start(executor, own, draw, stream)?;
        let found = search::search(&mut session, own, watch);
        executor.unwind(mark);
        let search::Found {
            mut generated,
            among_left,
        } = found?;
        let mean = among_left / generated.tokens.len() as f64;
        let ratio = compression_ratio(&generated.tokens, model.decoder.config.vocabulary);
        let quality = fallback.judge(temperature, mean, ratio, silence);
        generated.quality = Some(quality);
        if attempts.len() == 0 || !fallback.goes_on(&quality) {
            return Ok(generated);
        }
    }
    Err(Error::Input("there are no temperatures to draw at".into()))
}

/// Searches once and judges what was found as the first try of the published
/// fallback would.
///
/// # Errors
/// As for [`search`].
pub(super) fn search_and_judge(
    executor: &mut dyn Executor,
    task: SearchTask,
    watch: Watch,
) -> Result<Generated> {
    let silence = silence(executor, task)?;
    let mut session = Session::start(executor, task, None, 0)?;
    let search::Found {
        mut generated,
        among_left,
    } = search::search(&mut session, task, watch)?;
    let tokens = &generated.tokens;
    let ratio = compression_ratio(tokens, task.model.decoder.config.vocabulary);
    let mean = among_left / tokens.len().max(1) as f64;
    generated.quality = Some(Fallback::default().judge(0.0, mean, ratio, silence));
    Ok(generated)
}

/// How probable it is that nobody speaks, where the model knows of it.
fn silence(executor: &mut dyn Executor, task: SearchTask) -> Result<Option<f64>> {
    let SearchTask {
        model,
        heard,
        options,
        ..
    } = task;
    let Some(own) = &options.multitask else {
        return Ok(None);
    };
    let (start, token) = (options.start, own.no_speech());
    Session::probability_of(executor, model, heard, start, token).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_transformers() {
        let fallback = Fallback::default();
        let case = |mean: f64, ratio: f64, silence: Option<f64>| {
            let quality = fallback.judge(0.0, mean, ratio, silence);
            (fallback.goes_on(&quality), quality.silent)
        };
        assert_eq!(case(-0.5, 1.0, Some(0.9)), (false, false));
        assert_eq!(case(-1.5, 1.0, Some(0.5)), (true, false));
        assert_eq!(case(-1.5, 1.0, None), (true, false));
        assert_eq!(case(-0.5, 1.4, Some(0.9)), (true, false));
        // Silence is not tried again, even where the tokens repeat themselves.
        assert_eq!(case(-1.5, 1.4, Some(0.9)), (false, true));
        // At a threshold it holds.
        assert_eq!(case(-1.0, 1.35, Some(0.6)), (false, false));
        assert_eq!(case(-1.5, 1.0, Some(0.6)), (true, false));
    }

    /// Lengths of the packed bytes are those of Python's zlib.
    #[test]
    fn repetition_compresses_as_zlib_does() {
        let varied: Vec<u32> = (0..60).map(|i| (i * 7919 + 13) % 51_865).collect();
        let again = varied[..20].repeat(6);
        let one = vec![440; 200];
        for (tokens, vocabulary, bytes, packed) in [
            (&varied, 51_865, 120, 131),
            (&again, 51_865, 240, 55),
            (&one, 51_865, 400, 15),
            (&one, 65_536, 600, 17),
            (&vec![44; 200], 200, 200, 12),
        ] {
            let ratio = compression_ratio(tokens, vocabulary);
            let expected = f64::from(bytes) / f64::from(packed);
            println!("{ratio:.3} {expected:.3}");
            assert_eq!(ratio, expected);
        }
    }
}
