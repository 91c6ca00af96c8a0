//! From an utterance and a model to maps: which sound each token came from.
//!
//! [`explain`] is the driver: it takes the works of all wanted methods through
//! one upload, one forward and reverse pass, passes of their own, and one
//! readback. What a method needs stands in its file of `methods`.

pub mod alignment;
mod describe;
pub mod explanation;
mod maps;
mod method;
pub mod methods;
mod options;
pub mod passes;
pub mod probe;
pub mod profile;
mod progress;
pub mod readback;
pub mod spes;
mod subject;
mod times;
pub mod timing;

pub use self::describe::{
    encoder_frame_seconds, is_special, text, text_of_all, texts, words, words_of_all,
};
pub use self::maps::{Axis, Map, Maps};
pub use self::method::{Method, Site, map_name};
pub use self::options::ExplainOptions;
pub use self::progress::{Event, Progress, Step, Written};
pub use self::subject::Subject;
pub use self::times::{POOLING, silent_frames, times};

use self::alignment::{Crop, Search, Source};
use self::describe::tokens_and_words;
use self::explanation::{Audio, Device, Explanation, FORMAT, Model as ModelInfo, VERSION};
use self::methods::attention::Reading;
use self::methods::{Finished, Read, Shared, works};
use self::passes::{Gradients, Utterance, forward_and_reverse};
use self::profile::MAPS;
use self::readback::Batch;
use self::subject::Forced;
use crate::align::AlignOptions;
use crate::audio::SAMPLE_RATE;
use crate::engine::executor::{Executor, Inputs};
use crate::features::Features;
use crate::model::Model;
use crate::model::encoded::Encoded;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Explains the tokens of one utterance. `progress` is called while gradients
/// are taken and averaged and masks scored; if it returns false, masks end
/// there, and gradients end the work.
///
/// # Errors
/// If the utterance does not fit the model, the device fails, or `progress`
/// stopped what cannot be cut short.
pub fn explain(
    executor: &mut dyn Executor,
    model: &Model,
    tokenizer: &Tokenizer,
    subject: &Subject,
    options: &ExplainOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Maps> {
    let source = Source::of(model);
    let mut stopped = false;
    let made = made(executor, model, tokenizer, subject, options, &mut |own| {
        let go_on = progress(own);
        stopped |= !go_on;
        go_on
    });
    let made = made?;
    let Made {
        mut maps,
        forced,
        attention,
    } = made;
    if !options.timed {
        return Ok(maps);
    }
    let words = words(model, tokenizer, subject.tokens);
    if !words.is_empty() {
        let whole = forced.chosen.len() == subject.tokens.len();
        let clocks = match whole {
            true => times::at_hand(&maps, &attention, &source)?,
            false => None,
        };
        let clocks = match clocks {
            Some(clocks) => clocks,
            None => {
                let search = Search {
                    model,
                    tokenizer,
                    source: &source,
                    crop: Crop::default(),
                    options,
                };
                // Who ended the masks is given the map so far, with times.
                let watch = &mut |own| stopped || progress(own);
                search.maps(executor, subject, watch)?.0
            }
        };
        let prepared = AlignOptions::default();
        let times = times::times(model, subject.features, clocks, &words, &prepared)?;
        times::write(&mut maps.explanation, &forced.chosen, &times);
    }
    maps.explanation.words_from = source.map_name();
    Ok(maps)
}

/// Encodes a sound that is to be transcribed and explained, and keeps what the
/// explanation will need of it.
///
/// # Errors
/// If the features do not fit the model or the device fails.
pub fn encode(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    options: &ExplainOptions,
) -> Result<Encoded> {
    let mut wanted = Gradients::default();
    for work in &mut works(options) {
        work.ask(&mut wanted);
    }
    passes::encode(executor, model, features, &wanted)
}

/// Maps, and what they were made from.
struct Made {
    /// Words have no times yet.
    maps: Maps,
    forced: Forced,
    /// (L, H, K, T')
    attention: Vec<f32>,
}

fn made(
    executor: &mut dyn Executor,
    model: &Model,
    tokenizer: &Tokenizer,
    subject: &Subject,
    options: &ExplainOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Made> {
    options.check()?;
    let forced = Forced::new(subject, &options.tokens)?;
    // Whatever it takes on the device is given back, also when it fails.
    let mark = executor.mark();
    let done = compute(executor, model, subject, &forced, options, progress);
    executor.unwind(mark);
    let mut computed = done?;
    let explanation = describe(executor, model, tokenizer, subject, &forced, &computed);
    Ok(Made {
        attention: std::mem::take(&mut computed.read.attention),
        maps: computed.into_maps(subject, explanation, options.seed)?,
        forced,
    })
}

/// What came back from the device.
struct Computed {
    read: Read,
    finished: Vec<Finished>,
    /// T'
    encoder_frames: usize,
}

fn compute(
    executor: &mut dyn Executor,
    model: &Model,
    subject: &Subject,
    forced: &Forced,
    options: &ExplainOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Computed> {
    let mut works = works(options);
    // Everything goes to the device in one transfer.
    let mut uploads = Inputs::default();
    let utterance = Utterance::place(
        executor,
        &mut uploads,
        model,
        subject.features,
        &forced.inputs,
        &forced.positions,
        &forced.labels,
    )?;
    let shared = Shared {
        model,
        subject,
        forced,
        utterance: &utterance,
        options,
    };
    for work in &mut works {
        work.place(&shared, executor, &mut uploads)?;
    }
    uploads.send(executor, MAPS)?;

    // One pass gives the plain gradients at both sites and at the attention.
    let mut wanted = Gradients::default();
    for work in &mut works {
        work.ask(&mut wanted);
    }
    let pass = forward_and_reverse(
        executor,
        model,
        &utterance,
        &wanted,
        subject.encoded(),
        options.memory,
        progress,
    )?;
    for work in &mut works {
        work.run(&shared, &pass, executor, progress)?;
    }

    // Everything comes back in one transfer.
    let mut batch = Batch::default();
    let log_probs = batch.want(pass.forward.log_probs);
    let attention = Reading::want(&pass, &mut batch);
    for work in &mut works {
        work.want(&pass, &mut batch);
    }
    let mut arrived = batch.read(executor)?;
    let read = Read {
        log_probs: arrived.take(log_probs),
        attention: attention.take(&shared, &mut arrived),
    };
    let finished = works.into_iter();
    let finished = finished.map(|work| work.finish(&shared, &read, &mut arrived));
    Ok(Computed {
        finished: finished.collect::<Result<_>>()?,
        read,
        encoder_frames: utterance.encoder_frames,
    })
}

/// The explanation without its maps.
fn describe(
    executor: &dyn Executor,
    model: &Model,
    tokenizer: &Tokenizer,
    subject: &Subject,
    forced: &Forced,
    computed: &Computed,
) -> Explanation {
    let (read, frames) = (&computed.read, computed.encoder_frames);
    let averaged = timing::averaged(&read.attention, forced.chosen.len(), frames);
    let log_probs = &read.log_probs;
    let lengths = (frames, subject.seconds);
    let (tokens, words) = tokens_and_words(model, tokenizer, forced, log_probs, &averaged, lengths);
    let decoder = &model.decoder.config;
    Explanation {
        format: FORMAT.into(),
        version: VERSION,
        sonograd: env!("CARGO_PKG_VERSION").into(),
        audio: Audio {
            file: subject.file.clone(),
            seconds: subject.seconds,
            sample_rate: SAMPLE_RATE,
            fingerprint: subject.fingerprint,
            warnings: subject.warnings.iter().map(ToString::to_string).collect(),
        },
        text: text(model, tokenizer, subject.tokens),
        model: ModelInfo {
            name: model.name.clone(),
            revision: model.revision.clone(),
            architecture: model.architecture.clone(),
            decoder_layers: decoder.layers,
            decoder_heads: decoder.heads,
            frames: subject.features.sound_frames,
            mel_bins: subject.features.bins,
            mel_scale: None,
            encoder_frames: frames,
            frame_seconds: model.encoder.frame_seconds(),
            encoder_frame_seconds: encoder_frame_seconds(model),
        },
        device: Device {
            name: executor.name(),
            executor: executor.kind().into(),
        },
        precision: executor.precision().name().into(),
        seed: 0,
        tokens,
        words,
        words_from: String::new(),
        maps: Vec::new(),
        profile: None,
    }
}

impl Computed {
    fn into_maps(self, subject: &Subject, explanation: Explanation, seed: u64) -> Result<Maps> {
        let broken = |data: &[f32]| data.iter().any(|x| !x.is_finite());
        let features = subject.features.sound().data;
        let named = self.finished.iter().map(|map| (&*map.info.name, &map.data));
        let all = [("features", &features)].into_iter().chain(named);
        if let Some((name, _)) = all.into_iter().find(|(_, data)| broken(data)) {
            return Err(Error::Model(format!(
                "{name} has values that are not finite: the model's numbers overflow on this sound"
            )));
        }
        let finished = self.finished.into_iter();
        let (infos, values) = finished.map(|map| (map.info, map.data)).unzip();
        let explanation = Explanation {
            seed,
            maps: infos,
            ..explanation
        };
        Maps::new(explanation, features, values)
    }
}
