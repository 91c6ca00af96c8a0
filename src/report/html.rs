//! One explained utterance as one HTML file.
//!
//! Maps stand inside it, packed (`packing.rs`), and the
//! sound (`player.rs`); what a page is made of otherwise is in `markup.rs`.

use serde::Serialize;

use super::markup::{Page, escape, fill};
use super::packing::{Packed, Rows, fitting};
use super::player::Player;
use super::waveform::{Framed, InFrames};
use crate::audio::Waveform;
use crate::explain::explanation::Explanation;
use crate::explain::{Map, Maps, Method};

const BODY: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Bytes for the sound and all maps together, before base64: with its text and
/// its script a page takes at most 6 MB then.
const BUDGET: usize = 4_200_000;
/// The most of what the sound leaves that all small maps together, and then
/// the attention, may take. What remains is for the maps at the input.
const SMALL_SHARE: f64 = 0.3;
const ATTENTION_SHARE: f64 = 0.35;

/// A tensor of `maps.safetensors`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct NamedTensor<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub data: &'a [f32],
}

/// The page of an explanation. It has room for one attention: those that are
/// weighted are left to the maps' file.
pub fn page(maps: &Maps) -> String {
    let shown = maps.iter().filter(|map| {
        let weighted = [Method::AttentionNorm, Method::AttentionXGradient];
        !weighted.contains(&map.method())
    });
    let waveform = InFrames::of(maps.explanation(), maps.sound());
    let shape = match &waveform {
        Some(own) => own.features.as_ref().map(|own| [own.frames, own.bins]),
        None => Some(maps.features_shape()),
    };
    let features = shape.as_ref().map(|shape| NamedTensor {
        name: "features",
        shape,
        data: match &waveform {
            Some(own) => own.features.as_ref().map_or(&[], |own| &own.data),
            None => maps.features(),
        },
    });
    let shown: Vec<(Map, Option<Framed>)> = shown
        .map(|map| (map, waveform.as_ref().and_then(|own| own.framed(&map))))
        .collect();
    let shown = shown.iter().map(|(map, framed)| NamedTensor {
        name: map.name(),
        shape: framed.as_ref().map_or(map.shape(), |own| &own.shape),
        data: framed.as_ref().map_or(map.data(), |own| &own.data),
    });
    let tensors: Vec<NamedTensor> = features.into_iter().chain(shown).collect();
    let (explanation, samples) = match &waveform {
        Some(own) => (&own.explanation, Some(own.samples)),
        None => (maps.explanation(), None),
    };
    compose(explanation, &tensors, maps.sound(), samples)
}

/// The page for `explanation`.
///
/// `tensors` holds `features` (T, F), `attention` (L, H, I, T') and any number
/// of `<method>.input` (I, T, F), `<method>.encoder` (I, T') and
/// `<method>.tokens` (I, I). Each may be missing. One that has another name or
/// a shape that does not fit the explanation is left out, and the page says so.
pub fn render(explanation: &Explanation, tensors: &[NamedTensor]) -> String {
    compose(explanation, tensors, None, None)
}

/// `samples`: how many there are, where the model hears the waveform.
fn compose(
    explanation: &Explanation,
    tensors: &[NamedTensor],
    sound: Option<&Waveform>,
    samples: Option<usize>,
) -> String {
    let player = sound.map(Player::new);
    let heard = player.as_ref().map_or(0, Player::bytes);
    // Of a waveform a map has one row, whatever stands behind it.
    let bins = samples.map_or(explanation.model.mel_bins, |_| 1);
    let budget = BUDGET.saturating_sub(heard);
    let (tensors, omitted) = embed((explanation, bins), tensors, budget);
    let mut explanation = explanation.clone();
    explanation.profile = None;
    let data = Data {
        explanation: &explanation,
        hertz: hertz(&explanation),
        samples,
        tensors,
        omitted,
    };
    let text = match explanation.text.trim() {
        "" => "(no text)",
        text => text,
    };
    let audio = &explanation.audio;
    let device = &explanation.device;
    let body = fill(
        BODY,
        &[
            ("text", &escape(text)),
            ("file", &escape(&audio.file)),
            ("seconds", &format!("{:.2} s", audio.seconds)),
            ("model", &escape(&explanation.model.name)),
            (
                "device",
                &escape(&format!("{} ({})", device.name, device.executor)),
            ),
            (
                "player",
                &player.as_ref().map_or_else(String::new, Player::markup),
            ),
        ],
    );
    let page = Page {
        policy: if player.is_some() {
            "; media-src data:"
        } else {
            ""
        },
        title: &format!("{}: {text}", audio.file),
        version: &explanation.sonograd,
        style: STYLE,
        body: &body,
        script: SCRIPT,
    };
    page.render("report-data", &data)
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    explanation: &'a Explanation,
    /// The centre of each bin of the features; nothing where it is not known.
    hertz: Vec<f64>,
    /// How many samples the maps at the input are of, where the model hears those.
    samples: Option<usize>,
    tensors: Vec<Embedded<'a>>,
    /// Why a tensor is not there, one sentence each.
    omitted: Vec<String>,
}

/// Bins' centres as far as they can be drawn: finite and rising.
fn hertz(explanation: &Explanation) -> Vec<f64> {
    let model = &explanation.model;
    let centres = model.mel_scale.map(|scale| scale.centres(model.mel_bins));
    let rising = |centres: &Vec<f64>| {
        let finite = centres.iter().all(|x| x.is_finite() && *x >= 0.0);
        finite && centres.windows(2).all(|pair| pair[0] < pair[1])
    };
    let centres = centres.filter(rising).unwrap_or_default();
    let rounded = centres.iter().map(|x| (10.0 * x).round() / 10.0);
    rounded.collect()
}

/// One tensor.
#[derive(Serialize)]
struct Embedded<'a> {
    name: &'a str,
    kind: Kind,
    shape: &'a [usize],
    #[serde(flatten)]
    packed: Packed,
}

/// What shares a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Small,
    Attention,
    Input,
}

impl Kind {
    fn group(self) -> Group {
        match self {
            Self::Features | Self::MapEncoder | Self::MapTokens => Group::Small,
            Self::Attention => Group::Attention,
            Self::MapInput => Group::Input,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Features,
    Attention,
    MapInput,
    MapEncoder,
    MapTokens,
}

/// A tensor seen as (rows, frames, bins); every row has its own scale.
struct Layout {
    kind: Kind,
    frames: usize,
    bins: usize,
}

impl Layout {
    fn of<'a>(&self, tensor: &NamedTensor<'a>) -> Rows<'a> {
        Rows {
            data: tensor.data,
            frames: self.frames,
            bins: self.bins,
        }
    }
}

/// How `tensor` is laid out, or why it cannot be shown; maps at the input have so many
/// bins.
fn layout(
    (explanation, bins): (&Explanation, usize),
    tensor: &NamedTensor,
) -> Result<Layout, String> {
    let model = &explanation.model;
    let tokens = explanation.tokens.len();
    let (input, encoder) = (model.frames, model.encoder_frames);
    let (kind, shape) = match tensor.name.rsplit_once('.') {
        None if tensor.name == "features" => (Kind::Features, vec![input, model.mel_bins]),
        None if tensor.name == "attention" => (
            Kind::Attention,
            vec![model.decoder_layers, model.decoder_heads, tokens, encoder],
        ),
        Some((_, "input")) => (Kind::MapInput, vec![tokens, input, bins]),
        Some((_, "encoder")) => (Kind::MapEncoder, vec![tokens, encoder]),
        Some((_, "tokens")) => (Kind::MapTokens, vec![tokens, tokens]),
        _ => return Err(format!("{} is not shown on this page.", tensor.name)),
    };
    if tensor.shape != shape {
        return Err(format!(
            "{} is not shown: its shape is {:?}, and {shape:?} was expected.",
            tensor.name, tensor.shape
        ));
    }
    let size: usize = shape.iter().product();
    if size == 0 || tensor.data.len() != size {
        return Err(format!(
            "{} is not shown: it holds {} values, and its shape {shape:?} asks for {size}.",
            tensor.name,
            tensor.data.len()
        ));
    }
    let (frames, bins) = match kind {
        Kind::Features => (input, model.mel_bins),
        Kind::MapInput => (input, shape[2]),
        Kind::Attention | Kind::MapEncoder | Kind::MapTokens => (shape[shape.len() - 1], 1),
    };
    Ok(Layout { kind, frames, bins })
}

/// Packs what can be shown into about `budget` bytes, the maps in the order of
/// the explanation, and says what cannot.
fn embed<'a>(
    (explanation, bins): (&Explanation, usize),
    tensors: &[NamedTensor<'a>],
    budget: usize,
) -> (Vec<Embedded<'a>>, Vec<String>) {
    let mut shown = Vec::new();
    let mut omitted = Vec::new();
    for tensor in tensors {
        match layout((explanation, bins), tensor) {
            Ok(layout) => shown.push((tensor, layout)),
            Err(why) => omitted.push(why),
        }
    }
    let listed = |name: &str| explanation.maps.iter().position(|map| map.name == name);
    shown.sort_by_key(|(tensor, _)| listed(tensor.name).unwrap_or(usize::MAX));

    let mut packed: Vec<Option<Packed>> = shown.iter().map(|_| None).collect();
    let mut left = budget as f64;
    for (group, share) in [
        (Group::Small, SMALL_SHARE),
        (Group::Attention, ATTENTION_SHARE),
        (Group::Input, 1.0),
    ] {
        let own = |at: &usize| shown[*at].1.kind.group() == group;
        let places: Vec<usize> = (0..shown.len()).filter(own).collect();
        let rows: Vec<Rows> = places
            .iter()
            .map(|&at| shown[at].1.of(shown[at].0))
            .collect();
        let all = fitting(&rows, (share * left) as usize, group != Group::Small);
        left -= all.iter().map(Packed::bytes).sum::<usize>() as f64;
        for (at, own) in places.into_iter().zip(all) {
            packed[at] = Some(own);
        }
    }
    let embedded = shown.iter().zip(packed);
    let embedded = embedded.filter_map(|((tensor, layout), packed)| {
        Some(Embedded {
            name: tensor.name,
            kind: layout.kind,
            shape: tensor.shape,
            packed: packed?,
        })
    });
    (embedded.collect(), omitted)
}
