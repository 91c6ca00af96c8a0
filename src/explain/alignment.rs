//! When the words of a recording were said, by any map that has a row for
//! each token: attention, some of its heads, occlusion or gradients.

use serde_json::{Map, Value, json};

use super::passes::{Utterance, forward_and_gradients};
use super::profile::MAPS;
use super::progress::{Event, Progress};
use super::times::{POOLING, is_silent, sound_seconds};
use super::{
    ExplainOptions, Made, Method, Site, Subject, made, map_name, text_of_all, texts, times, words,
};
use crate::align::{AlignOptions, TokenMap, WordTime};
use crate::engine::executor::Executor;
use crate::features::Features;
use crate::generate::{
    GenerationOptions, Listened, Moment, Transcript, heard_from, prompt, transcribe,
};
use crate::model::Model;
use crate::model::family::ClockName;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// A head of the decoder's cross-attention: layer and head, from 0.
pub type Head = [usize; 2];

/// Where times are read off.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// Cross-attention of all heads.
    Attention,
    /// Cross-attention of these heads.
    Heads(Vec<Head>),
    /// The map of a method at a site: for `spes` and the gradient family, at
    /// the features or the encoder's output.
    Map(Method, Site),
}

impl Source {
    /// What tells best when a model's words were said, as measured for its
    /// family.
    pub fn of(model: &Model) -> Self {
        match model.capabilities.clock {
            ClockName::Attention => Self::Attention,
            ClockName::Gradient => Self::Map(Method::Gradient, Site::Input),
        }
    }

    /// The map's name, as in `gradient.input`.
    pub fn map_name(&self) -> String {
        match *self {
            Self::Attention | Self::Heads(_) => self.name().to_owned(),
            Self::Map(method, site) => map_name(method, site),
        }
    }

    /// `attention`, `heads`, or the map's method.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Attention => Method::Attention.name(),
            Self::Heads(_) => "heads",
            Self::Map(method, _) => method.name(),
        }
    }

    /// Refuses heads that a model has not, and maps that are not over time.
    ///
    /// # Errors
    /// If it is one of these.
    pub fn check(&self, model: &Model) -> Result<()> {
        match self {
            Self::Attention => Ok(()),
            Self::Heads(heads) => check_heads(model, heads),
            Self::Map(method, site) => match site {
                Site::Input | Site::Encoder if method.works_at(*site) => Ok(()),
                _ => Err(Error::Input(format!(
                    "times cannot be read off {method} at {site}; maps at input and encoder have them"
                ))),
            },
        }
    }

    /// The heads that are averaged, where it is attention.
    fn heads(&self, model: &Model) -> Option<Vec<Head>> {
        match self {
            Self::Attention => Some(all_heads(model)),
            Self::Heads(heads) => Some(heads.clone()),
            Self::Map(..) => None,
        }
    }
}

/// What of a window's attention counts, where the sound does not fill it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Crop {
    /// Attention as if there were the sound alone: what fills the window is
    /// cut off before the softmax, as OpenAI's Whisper does it.
    #[default]
    Before,
    /// The sound's share of the attention, cut off behind the softmax, as
    /// transformers does it where it knows the length.
    After,
    /// All of the window, as transformers does it otherwise. Tokens may then
    /// be found behind the sound: they have no reliable time.
    None,
}

impl Crop {
    /// The name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::None => "none",
        }
    }
}

/// How words are found in time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AlignmentOptions {
    pub source: Source,
    pub crop: Crop,
    /// How maps are prepared.
    pub prepared: AlignOptions,
    /// Memory, seed and masks; methods and sites are those of `source`.
    pub explain: ExplainOptions,
}

impl AlignmentOptions {
    /// Times from a source, with the defaults for all else.
    pub fn by(source: Source) -> Self {
        Self {
            source,
            crop: Crop::default(),
            prepared: AlignOptions::default(),
            explain: ExplainOptions::default(),
        }
    }
}

/// What was found in a recording.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Aligned {
    /// The text, without special tokens.
    pub text: String,
    /// In order; none overlaps another.
    pub words: Vec<WordTime>,
    /// Whether a length limit cut the text short.
    pub truncated: bool,
    /// For each window with words: where it begins and how its map was made.
    pub windows: Vec<Map<String, Value>>,
    /// Whether the text was given, not heard.
    pub given: bool,
    /// Whether the caller stopped it before the recording's end.
    pub interrupted: bool,
}

/// A part of a recording and what is said in it.
struct Part<'a> {
    features: &'a Features,
    /// Seconds into the recording.
    origin: f64,
    /// What the decoder starts with.
    prompt: Vec<u32>,
    /// The spoken tokens, without times and the end.
    tokens: Vec<u32>,
    /// How probable it is that nobody speaks, where the model was asked.
    no_speech: Option<f64>,
}

/// The heads that a model's `generation_config.json` names for alignment;
/// absent where it names none.
///
/// # Errors
/// If it names heads that are no pairs of numbers or that the model has not.
pub fn model_heads(model: &Model) -> Result<Option<Vec<Head>>> {
    let named = model.generation.alignment_heads()?;
    let heads = named.unwrap_or_default();
    // Another model's heads are the file's fault.
    check_heads(model, heads).map_err(|wrong| {
        let advice = "other heads can be named, or another map taken";
        model
            .generation
            .problem(format!("alignment_heads: {wrong}; {advice}"))
    })?;
    Ok(Some(heads.to_vec()).filter(|heads| !heads.is_empty()))
}

/// All heads of the decoder's cross-attention.
pub fn all_heads(model: &Model) -> Vec<Head> {
    let decoder = &model.decoder.config;
    let layers = 0..decoder.layers;
    let pairs = layers.flat_map(|layer| (0..decoder.heads).map(move |head| [layer, head]));
    pairs.collect()
}

/// Refuses heads that a model has not.
///
/// # Errors
/// If there is such a head; the message says which there are.
pub fn check_heads(model: &Model, heads: &[Head]) -> Result<()> {
    let decoder = &model.decoder.config;
    let absent = heads
        .iter()
        .find(|&&[layer, head]| layer >= decoder.layers || head >= decoder.heads);
    match absent {
        None => Ok(()),
        Some([layer, head]) => Err(Error::Input(format!(
            "{}: there is no head {layer}.{head}; layers are 0 to {}, heads 0 to {}",
            model.name,
            decoder.layers - 1,
            decoder.heads - 1
        ))),
    }
}

/// What serves all windows and all recordings.
pub struct Aligner<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    pub generation: &'a GenerationOptions,
    pub options: &'a AlignmentOptions,
}

impl Aligner<'_> {
    /// Transcribes a recording (T, F) of any length that the model takes, and
    /// finds its words. `watch` is told of windows and masks; if it returns
    /// false, the recording or the map ends there.
    ///
    /// The words of each of Whisper's windows, and of each piece of a recording
    /// that was cut, are found by themselves, in what it has before the next one
    /// begins; times that Whisper wrote
    /// among the words are left out.
    ///
    /// # Errors
    /// If the features do not fit the model, there is no such head or map, or
    /// the device fails.
    pub fn transcribed(
        &self,
        executor: &mut dyn Executor,
        features: &Features,
        watch: &mut dyn FnMut(Event) -> bool,
    ) -> Result<Aligned> {
        let on = &mut |own: Moment| match own {
            Moment::Searched(own) => watch(Event::Searched(own)),
            Moment::Listened(own) => watch(Event::Listened(own)),
            Moment::Window(..) => true,
        };
        let transcript = transcribe(executor, self.model, features, self.generation, on)?;
        let ends = &self.model.ends;
        let mut aligned = self.nothing(&transcript);
        let mut spoken = Vec::new();
        for (index, own) in transcript.windows.iter().enumerate() {
            let given = self.generation.forced.len().min(own.kept);
            let (forced, chosen) = own.generated.tokens[..own.kept].split_at(given);
            let tokens = chosen.iter().copied();
            let tokens = tokens.filter(|id| !ends.contains(id) && !self.is_time(*id));
            let prompt = self.timeless([own.generated.prompt.as_slice(), forced].concat());
            let quality = own.generated.quality.as_ref();
            let no_speech = quality.and_then(|quality| quality.no_speech_probability);
            let behind = transcript.behind(index, features);
            let heard = heard_from(self.model, features, own.seek, behind)?;
            if !is_silent(self.model, &heard) {
                let part = Part {
                    features: &heard,
                    origin: own.start_seconds,
                    prompt,
                    tokens: tokens.collect(),
                    no_speech,
                };
                spoken.push(self.add(executor, part, &mut aligned, watch)?);
            }
            let told = Listened::of(self.model, behind, features.sound_frames);
            if index + 1 < transcript.windows.len() && !watch(Event::Aligned(told)) {
                aligned.interrupted = true;
                break;
            }
        }
        self.write(features, spoken, &mut aligned);
        Ok(aligned)
    }

    /// Finds the words of a given text in a sound (T, F) that the model hears
    /// at once.
    ///
    /// # Errors
    /// As [`transcribed`](Self::transcribed), and if the text has no tokens or
    /// too many.
    pub fn given(
        &self,
        executor: &mut dyn Executor,
        features: &Features,
        text: &str,
        watch: &mut dyn FnMut(Event) -> bool,
    ) -> Result<Aligned> {
        self.model.check_features(features)?;
        let tokens = self
            .tokenizer
            .encode_whole(&self.model.begun(text.trim()))?;
        let mut prompt = prompt(executor, self.model, features, self.generation)?;
        prompt.extend(&self.generation.forced);
        let prompt = self.timeless(prompt);
        let mut aligned = self.nothing(&Transcript {
            windows: Vec::new(),
            interrupted: false,
        });
        aligned.given = true;
        let part = Part {
            features,
            origin: 0.0,
            prompt,
            tokens,
            no_speech: None,
        };
        let spoken = self.add(executor, part, &mut aligned, watch)?;
        self.write(features, vec![spoken], &mut aligned);
        Ok(aligned)
    }

    /// Writes down what is said in all windows.
    fn write(&self, features: &Features, spoken: Vec<Vec<u32>>, aligned: &mut Aligned) {
        let texts = texts(features, spoken);
        aligned.text = text_of_all(self.tokenizer, &texts, self.generation.between_pieces);
    }

    fn nothing(&self, transcript: &Transcript) -> Aligned {
        Aligned {
            text: String::new(),
            words: Vec::new(),
            truncated: transcript.truncated(),
            windows: Vec::new(),
            given: false,
            interrupted: transcript.interrupted,
        }
    }

    fn is_time(&self, id: u32) -> bool {
        let multitask = self.generation.multitask.as_ref();
        multitask.is_some_and(|own| own.is_time(id))
    }

    /// The prompt that asks for text without times.
    fn timeless(&self, mut prompt: Vec<u32>) -> Vec<u32> {
        if let Some(multitask) = &self.generation.multitask
            && multitask.timestamps
        {
            prompt.push(multitask.no_timestamps);
        }
        prompt
    }

    /// Adds the words of a part; returns the tokens that say them.
    fn add(
        &self,
        executor: &mut dyn Executor,
        part: Part,
        aligned: &mut Aligned,
        watch: &mut dyn FnMut(Event) -> bool,
    ) -> Result<Vec<u32>> {
        let Part {
            features,
            origin,
            prompt,
            mut tokens,
            no_speech,
        } = part;
        let words = words(self.model, self.tokenizer, &tokens);
        if words.is_empty() {
            return Ok(Vec::new());
        }
        // The end's row holds the silence behind the last word.
        tokens.push(self.model.tokens.end);
        let (maps, made) = self.maps(executor, features, &prompt, &tokens, watch)?;
        let times = times(self.model, features, maps, &words, &self.options.prepared)?;
        let spoken = no_speech.is_none_or(|own| own <= self.generation.most_silence());
        aligned.words.extend(times.into_iter().map(|word| WordTime {
            start_seconds: origin + word.start_seconds,
            end_seconds: origin + word.end_seconds,
            reliable: word.reliable && spoken,
            ..word
        }));
        let mut window = Map::from_iter([("start_seconds".to_owned(), json!(origin))]);
        window.extend(made);
        if let Some(own) = no_speech {
            window.insert("no_speech_probability".to_owned(), json!(own));
        }
        aligned.windows.push(window);
        tokens.pop();
        Ok(tokens)
    }

    /// The maps (K, T') of `tokens` behind `prompt`, and how they were made.
    fn maps(
        &self,
        executor: &mut dyn Executor,
        features: &Features,
        prompt: &[u32],
        tokens: &[u32],
        watch: &mut dyn FnMut(Event) -> bool,
    ) -> Result<(Vec<TokenMap>, Map<String, Value>)> {
        let AlignmentOptions {
            source,
            crop,
            explain,
            ..
        } = self.options;
        let search = Search {
            model: self.model,
            tokenizer: self.tokenizer,
            source,
            crop: *crop,
            options: explain,
        };
        let subject = Subject {
            file: String::new(),
            seconds: sound_seconds(self.model, features),
            fingerprint: None,
            warnings: &[],
            features,
            encoded: None,
            prompt,
            tokens,
        };
        search.maps(executor, &subject, &mut |own| watch(Event::Explained(own)))
    }

    /// How times came about, for [`Format::Json`](crate::align::formats::Format).
    pub fn made(&self, aligned: &Aligned, executor: &dyn Executor) -> Map<String, Value> {
        let AlignmentOptions {
            source,
            crop,
            prepared,
            explain,
        } = self.options;
        let made = [
            ("sonograd", json!(env!("CARGO_PKG_VERSION"))),
            ("model", json!(self.model.name)),
            ("device", json!(executor.name())),
            ("given_text", json!(aligned.given)),
            ("truncated", json!(aligned.truncated)),
            ("from", json!(source.name())),
            ("median", json!(prepared.median)),
            ("rule", json!(prepared.rule.name())),
            ("windows", json!(aligned.windows)),
        ];
        let revision = self.model.revision.iter();
        let revision = revision.map(|own| ("revision", json!(own)));
        let heads = source.heads(self.model).into_iter();
        let heads = heads.flat_map(|heads| [("heads", json!(heads)), ("crop", json!(crop.name()))]);
        let map = match source {
            Source::Map(method, site) => {
                let seed = (*method == Method::Spes).then(|| ("seed", json!(explain.seed)));
                [Some(("at", json!(site.name()))), seed]
            }
            _ => [None, None],
        };
        let all = made
            .into_iter()
            .chain(revision)
            .chain(heads)
            .chain(map.into_iter().flatten());
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Where times are read off, and how that is made.
pub(super) struct Search<'a> {
    pub model: &'a Model,
    pub tokenizer: &'a Tokenizer,
    pub source: &'a Source,
    pub crop: Crop,
    /// Methods, sites and tokens are those of the source.
    pub options: &'a ExplainOptions,
}

impl Search<'_> {
    /// The maps (K, T') of all tokens of a subject, and how they were made.
    ///
    /// # Errors
    /// If the model has not the heads, the map is not over time, the device
    /// fails, or `watch` stops what cannot be cut short.
    pub fn maps(
        &self,
        executor: &mut dyn Executor,
        subject: &Subject,
        watch: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<(Vec<TokenMap>, Map<String, Value>)> {
        let (model, tokenizer) = (self.model, self.tokenizer);
        let heads = |heads: &[Head], executor: &mut dyn Executor| {
            let Subject {
                features,
                prompt,
                tokens,
                ..
            } = *subject;
            let crop = self.crop;
            let maps = attention(executor, model, features, prompt, tokens, heads, crop)?;
            Ok((maps, Map::new()))
        };
        let (method, site) = match self.source {
            Source::Attention => return heads(&all_heads(model), executor),
            Source::Heads(own) => return heads(own, executor),
            Source::Map(method, site) => (*method, *site),
        };
        let options = ExplainOptions {
            methods: vec![method],
            sites: vec![site],
            tokens: Vec::new(),
            ..self.options.clone()
        };
        let Made { maps, .. } = made(executor, model, tokenizer, subject, &options, watch)?;
        let map = maps.get(method, site)?;
        let told = ["masks", "interrupted", "reliability_pooled", "reliable"];
        let told = told.into_iter().filter_map(|name| {
            let value = map.info().options.get(name)?;
            Some((name.to_owned(), value.clone()))
        });
        let told = told.collect();
        // Attention's rows sum to 1; these do not.
        Ok((vec![map.pooled(POOLING)?.shares()], told))
    }
}

/// Cross-attention (K, T') of some heads, in their order: the rows that
/// predict `tokens` behind `prompt`. The columns are the sound's encoder
/// frames, or the window's if nothing is cut off.
///
/// # Errors
/// If the model cannot take the features or the tokens, or has not the heads,
/// or if the device fails.
pub fn attention(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    prompt: &[u32],
    tokens: &[u32],
    heads: &[Head],
    crop: Crop,
) -> Result<Vec<TokenMap>> {
    check_heads(model, heads)?;
    let all: Vec<u32> = prompt.iter().chain(tokens).copied().collect();
    let inputs = &all[..all.len().saturating_sub(1)];
    let first = prompt.len().saturating_sub(1);
    let positions: Vec<u32> = (first..inputs.len()).map(|at| at as u32).collect();
    let mark = executor.mark();
    let mut read = || -> Result<(Utterance, Vec<Vec<f32>>)> {
        let executor = &mut *executor;
        let utterance = Utterance::upload(executor, model, features, inputs, &positions, tokens)?;
        let pass = forward_and_gradients(executor, model, &utterance, &[], usize::MAX)?;
        let layers = executor.read(&pass.forward.cross_attention, MAPS)?;
        Ok((utterance, layers))
    };
    let done = read();
    executor.unwind(mark);
    let (utterance, layers) = done?;
    let window = utterance.encoder_window;
    let kept = match crop {
        Crop::None => window,
        Crop::Before | Crop::After => utterance.encoder_frames,
    };
    let map = |&[layer, head]: &Head| {
        let begin = (head * utterance.inputs + first) * window;
        let rows = layers[layer][begin..].chunks(window).take(tokens.len());
        let rows = rows.flat_map(|row| {
            let row = row[..kept].iter().map(|&x| f64::from(x));
            // A softmax over fewer places is the share of these places.
            let whole: f64 = row.clone().sum();
            let scale = match crop {
                Crop::Before if kept < window && whole > 0.0 => 1.0 / whole,
                _ => 1.0,
            };
            row.map(move |x| x * scale)
        });
        TokenMap::new(rows.collect(), kept)
    };
    Ok(heads.iter().map(map).collect())
}
