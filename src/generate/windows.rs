//! Recordings of any length: window after window for models that hear
//! windows, piece after piece where the front end cut the recording, else whole.

use std::borrow::Cow;

use serde::Serialize;

use super::options::{GenerationOptions, Language};
use super::watch::{Listened, Moment, Watch};
use super::{Generated, Quality, generate_window};
use crate::engine::executor::Executor;
use crate::features::Features;
use crate::model::Model;
use crate::model::encoded::Encoded;
use crate::{Error, Result};

/// What was generated in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// First frame of the recording.
    pub seek: usize,
    /// Where in the recording that is.
    pub start_seconds: f64,
    /// What counts of it was said before this place in the recording.
    pub end_seconds: f64,
    /// All that was generated.
    pub generated: Generated,
    /// How many of its tokens count: what comes after the last whole segment
    /// is heard again in the next window; none where nobody speaks.
    pub kept: usize,
}

impl Window {
    /// The segments between the times that were written, or the whole window
    /// where it has no pair of times. Their texts are empty: the tokenizer has
    /// them.
    pub fn segments(&self, model: &Model, options: &GenerationOptions) -> Vec<Segment> {
        let times = options.multitask.as_ref();
        let time_of = |id: u32| {
            let own = times.filter(|own| own.is_time(id))?;
            Some(f64::from(id - own.first_timestamp()))
        };
        let step = model.encoder.frame_seconds() * model.encoder.subsampling() as f64;
        let mut segments = Vec::new();
        let origin = self.start_seconds;
        let (mut start, mut stop) = (origin, None);
        let mut tokens = Vec::new();
        let kept = self.generated.tokens[..self.kept].iter();
        for &id in kept.filter(|&&id| !options.is_end(id)) {
            let Some(steps) = time_of(id) else {
                tokens.push(id);
                continue;
            };
            let time = origin + steps * step;
            if tokens.is_empty() {
                start = time;
            } else {
                segments.push(Segment::new(start, time, std::mem::take(&mut tokens)));
            }
            stop = Some(time);
        }
        if !tokens.is_empty() {
            let stop = stop.filter(|&stop| stop > start);
            let stop = stop.unwrap_or(self.end_seconds);
            segments.push(Segment::new(start, stop, tokens));
        }
        segments
    }

    /// The tokens that count, without those that end a text.
    pub fn tokens<'a>(&'a self, ends: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let kept = self.generated.tokens[..self.kept].iter().copied();
        kept.filter(|id| !ends.contains(id))
    }
}

/// What was generated for a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// In the order of time.
    pub windows: Vec<Window>,
    /// Whether the caller stopped it before the recording's end.
    pub interrupted: bool,
}

impl Transcript {
    /// The tokens that count, without those that end a text.
    pub fn tokens(&self, ends: &[u32]) -> Vec<u32> {
        let windows = self.windows.iter();
        windows.flat_map(|window| window.tokens(ends)).collect()
    }

    /// The segments between the times that were written: each window's own,
    /// or the whole window where it has no pair of times. Their texts are
    /// empty: the tokenizer has them.
    pub fn segments(&self, model: &Model, options: &GenerationOptions) -> Vec<Segment> {
        let windows = self.windows.iter();
        let segments = windows.flat_map(|window| window.segments(model, options));
        segments.collect()
    }

    /// The frame at which the next window begins, or the sound ends: what
    /// counts of window `index` was said before it.
    pub fn behind(&self, index: usize, features: &Features) -> usize {
        let next = self.windows.get(index + 1);
        next.map_or(features.sound_frames, |next| next.seek)
    }

    /// Whether a length limit ended a window whose tokens count.
    pub fn truncated(&self) -> bool {
        let mut windows = self.windows.iter().map(|window| &window.generated);
        windows.any(|generated| generated.truncated && !silent(generated))
    }
}

/// A part of a recording and what was said in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Segment {
    /// From the beginning of the recording.
    pub start_seconds: f64,
    /// From the beginning of the recording.
    pub end_seconds: f64,
    /// Without times and other marks.
    pub tokens: Vec<u32>,
    /// What the tokens say, once somebody has decoded them.
    pub text: String,
}

impl Segment {
    fn new(start_seconds: f64, end_seconds: f64, tokens: Vec<u32>) -> Self {
        Self {
            start_seconds,
            end_seconds,
            tokens,
            text: String::new(),
        }
    }
}

/// Generates the tokens of a recording of any length: (T, F).
///
/// A model that hears windows of W frames is given one after the other, as
/// transformers does it: where it writes times, the next window begins with
/// the last whole segment's end, else behind the last window. A detected
/// language is that of the first window. Each piece of a recording that was cut
/// is a window. `watch` is told of tokens and windows; if it returns false, the
/// transcript ends there.
///
/// # Errors
/// If the features do not fit the model, the device fails, or `watch` asks to
/// stop before there is a window.
pub fn transcribe(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    options: &GenerationOptions,
    watch: Watch,
) -> Result<Transcript> {
    transcribe_encoded(executor, model, features, None, options, watch)
}

/// As [`transcribe`]; the window that was `encoded` before is not encoded
/// again.
///
/// # Errors
/// As for [`transcribe`].
pub fn transcribe_encoded(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    encoded: Option<&Encoded>,
    options: &GenerationOptions,
    watch: Watch,
) -> Result<Transcript> {
    if features.frames == 0 {
        return Err(Error::Input("there are no feature frames".into()));
    }
    let mut options = options.clone();
    let mut windows = Vec::new();
    let mut interrupted = false;
    let mut seek = 0;
    while seek < features.frames {
        let heard = heard_from(model, features, seek, features.sound_frames)?;
        let taken = heard.frames.min(features.frames - seek);
        let index = windows.len();
        let generated = generate_window(executor, model, &heard, encoded, &options, index, watch);
        let generated = match generated {
            Err(Error::Stopped) if !windows.is_empty() => {
                interrupted = true;
                break;
            }
            generated => generated?,
        };
        if let Some(multitask) = &mut options.multitask
            && matches!(multitask.language, Language::Detected(_))
        {
            multitask.language = Language::Given(generated.prompt[1]);
        }
        let chosen = generated.tokens.iter();
        let text = chosen.take_while(|&&id| !options.is_end(id)).count();
        let text = &generated.tokens[..text];
        let (kept, frames) = match whole_segments(text, &options) {
            _ if silent(&generated) => (0, taken),
            Some((kept, steps)) => (kept, steps * model.encoder.subsampling()),
            None => (text.len(), taken),
        };
        let end = (seek + frames).min(features.sound_frames);
        let own = Window {
            seek,
            start_seconds: seconds_at(model, features, seek),
            end_seconds: seconds_at(model, features, end),
            generated,
            kept,
        };
        seek += frames;
        let on = watch(Moment::Window(&own));
        windows.push(own);
        // What fills a window that is not whole is no sound of its own;
        // transformers, which is not told where the sound ends, hears it too.
        if seek >= features.sound_frames {
            break;
        }
        let listened = Listened::of(model, seek, features.sound_frames);
        interrupted = !(watch(Moment::Listened(listened)) && on);
        if interrupted {
            break;
        }
    }
    Ok(Transcript {
        windows,
        interrupted,
    })
}

/// What a model hears of a recording at once from frame `seek` on, where a window
/// or a piece begins; of that, frames before `behind` are the sound.
///
/// # Errors
/// If there is no such frame.
pub fn heard_from<'a>(
    model: &Model,
    features: &'a Features,
    seek: usize,
    behind: usize,
) -> Result<Cow<'a, Features>> {
    if let Some(length) = model.capabilities.window_frames {
        return window(features, seek, length, behind).map(Cow::Owned);
    }
    let piece = features.pieces.iter().find(|piece| piece.begin == seek);
    match piece {
        Some(piece) => features.piece(*piece).map(Cow::Owned),
        None => Ok(Cow::Borrowed(features)),
    }
}

/// Where in a recording a frame begins; of pieces, the end of one may be no whole
/// frame before the next one's beginning.
fn seconds_at(model: &Model, features: &Features, frame: usize) -> f64 {
    let mut pieces = features.pieces.iter();
    let own = pieces.rfind(|piece| piece.begin <= frame);
    let (begin, seconds) = own.map_or((0, 0.0), |piece| (piece.begin, piece.start_seconds));
    seconds + (frame - begin) as f64 * model.encoder.frame_seconds()
}

/// Frames `seek` to `seek + length` of a recording, 0 where there are none;
/// of them those before frame `behind` are the sound.
///
/// # Errors
/// If there is no such frame.
fn window(features: &Features, seek: usize, length: usize, behind: usize) -> Result<Features> {
    if seek >= features.frames {
        return Err(Error::Input(format!(
            "there is no frame {seek} in a recording of {}",
            features.frames
        )));
    }
    let taken = length.min(features.frames - seek);
    let begin = seek * features.bins;
    let mut data = features.data[begin..begin + taken * features.bins].to_vec();
    data.resize(length * features.bins, 0.0);
    let window = Features::new(data, length, features.bins)?;
    let sound = behind.min(features.sound_frames);
    let mut window = window.with_sound_frames(sound.saturating_sub(seek));
    let power = features.power.iter().skip(seek).take(window.sound_frames);
    window.power = power.copied().collect();
    Ok(window)
}

/// Whether a window's tokens count for nothing.
fn silent(generated: &Generated) -> bool {
    generated
        .quality
        .is_some_and(|Quality { silent, .. }| silent)
}

/// Where times are written: the tokens up to the last pair of times, and the
/// first of the pair, in steps; nothing where there is no pair or the text
/// ends with a single time, which ends the window.
fn whole_segments(text: &[u32], options: &GenerationOptions) -> Option<(usize, usize)> {
    let multitask = options.multitask.as_ref()?;
    let first = multitask.first_timestamp();
    let is_time = |at: usize| multitask.is_time(text[at]);
    let pair = (1..text.len()).rfind(|&at| is_time(at - 1) && is_time(at))?;
    let last = text.len() - 1;
    if is_time(last) && !is_time(last - 1) {
        return None;
    }
    Some((pair + 1, (text[pair - 1] - first) as usize))
}
