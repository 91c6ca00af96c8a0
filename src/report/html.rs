//! One explained utterance as one HTML file.
//!
//! Maps stand inside it, quantised; what a page is made of otherwise is in
//! `markup.rs`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::markup::{Page, escape, fill};
use crate::explain::explanation::Explanation;
use crate::explain::{Maps, Method};

const BODY: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Bytes for all input maps together, and for the attention, before base64.
/// Above it values take one byte instead of two, then frames are averaged.
const INPUT_BUDGET: usize = 8 << 20;
const ATTENTION_BUDGET: usize = 6 << 20;

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
    let shape = maps.features_shape();
    let features = NamedTensor {
        name: "features",
        shape: &shape,
        data: maps.features(),
    };
    let shown = maps.iter().filter(|map| {
        let weighted = [Method::AttentionNorm, Method::AttentionXGradient];
        !weighted.contains(&map.method())
    });
    let shown = shown.map(|map| NamedTensor {
        name: map.name(),
        shape: map.shape(),
        data: map.data(),
    });
    let tensors: Vec<NamedTensor> = [features].into_iter().chain(shown).collect();
    render(maps.explanation(), &tensors)
}

/// The page for `explanation`.
///
/// `tensors` holds `features` (T, F), `attention` (L, H, I, T') and any number
/// of `<method>.input` (I, T, F), `<method>.encoder` (I, T') and
/// `<method>.tokens` (I, I). Each may be missing. One that has another name or
/// a shape that does not fit the explanation is left out, and the page says so.
pub fn render(explanation: &Explanation, tensors: &[NamedTensor]) -> String {
    let (tensors, omitted) = embed(explanation, tensors);
    let mut explanation = explanation.clone();
    explanation.profile = None;
    let data = Data {
        explanation: &explanation,
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
        ],
    );
    let page = Page {
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
    tensors: Vec<Embedded<'a>>,
    /// Why a tensor is not there, one sentence each.
    omitted: Vec<String>,
}

/// One tensor, quantised row by row.
#[derive(Serialize)]
struct Embedded<'a> {
    name: &'a str,
    kind: Kind,
    shape: &'a [usize],
    /// 8 or 16 per value; 16 is little-endian.
    bits: u32,
    /// Frames averaged into one.
    stride: usize,
    /// Per row the value of code 0 and the step to the next code. The largest
    /// code stands for a value that is not finite.
    rows: Vec<(f64, f64)>,
    /// The codes in base64.
    data: String,
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
    rows: usize,
    frames: usize,
    bins: usize,
}

/// How `tensor` is laid out, or why it cannot be shown.
fn layout(explanation: &Explanation, tensor: &NamedTensor) -> Result<Layout, String> {
    let model = &explanation.model;
    let tokens = explanation.tokens.len();
    let (input, encoder) = (model.frames, model.encoder_frames);
    let (kind, shape) = match tensor.name.rsplit_once('.') {
        None if tensor.name == "features" => (Kind::Features, vec![input, model.mel_bins]),
        None if tensor.name == "attention" => (
            Kind::Attention,
            vec![model.decoder_layers, model.decoder_heads, tokens, encoder],
        ),
        Some((_, "input")) => (Kind::MapInput, vec![tokens, input, model.mel_bins]),
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
    Ok(match kind {
        Kind::Features => Layout {
            kind,
            rows: 1,
            frames: input,
            bins: model.mel_bins,
        },
        Kind::MapInput => Layout {
            kind,
            rows: tokens,
            frames: input,
            bins: model.mel_bins,
        },
        Kind::Attention | Kind::MapEncoder | Kind::MapTokens => {
            let frames = shape[shape.len() - 1];
            Layout {
                kind,
                rows: size / frames,
                frames,
                bins: 1,
            }
        }
    })
}

/// Quantises what can be shown, the maps in the order of the explanation, and
/// says what cannot.
fn embed<'a>(
    explanation: &Explanation,
    tensors: &[NamedTensor<'a>],
) -> (Vec<Embedded<'a>>, Vec<String>) {
    let mut shown = Vec::new();
    let mut omitted = Vec::new();
    for tensor in tensors {
        match layout(explanation, tensor) {
            Ok(layout) => shown.push((tensor, layout)),
            Err(why) => omitted.push(why),
        }
    }
    let listed = |name: &str| explanation.maps.iter().position(|map| map.name == name);
    shown.sort_by_key(|(tensor, _)| listed(tensor.name).unwrap_or(usize::MAX));

    let values = |kind| {
        let of_kind = shown.iter().filter(|(_, layout)| layout.kind == kind);
        of_kind.map(|(tensor, _)| tensor.data.len()).sum()
    };
    let input = economy(values(Kind::MapInput), INPUT_BUDGET);
    let attention = economy(values(Kind::Attention), ATTENTION_BUDGET);
    let embedded = shown.iter().map(|(tensor, layout)| {
        let (bits, stride) = match layout.kind {
            Kind::MapInput => input,
            Kind::Attention => attention,
            Kind::Features | Kind::MapEncoder | Kind::MapTokens => (16, 1),
        };
        encode(tensor, layout, bits, stride)
    });
    (embedded.collect(), omitted)
}

/// Bits per value and frames averaged into one, so that `values` take about
/// `budget` bytes.
fn economy(values: usize, budget: usize) -> (u32, usize) {
    if 2 * values <= budget {
        (16, 1)
    } else {
        (8, values.div_ceil(budget))
    }
}

fn encode<'a>(tensor: &NamedTensor<'a>, layout: &Layout, bits: u32, stride: usize) -> Embedded<'a> {
    let mut rows = Vec::with_capacity(layout.rows);
    let mut bytes = Vec::new();
    for row in tensor.data.chunks_exact(layout.frames * layout.bins) {
        let row = averaged(row, layout.bins, stride);
        let (low, step, codes) = quantise(&row, (1 << bits) - 1);
        rows.push((low, step));
        for code in codes {
            match bits {
                8 => bytes.push(code as u8),
                _ => bytes.extend((code as u16).to_le_bytes()),
            }
        }
    }
    Embedded {
        name: tensor.name,
        kind: layout.kind,
        shape: tensor.shape,
        bits,
        stride,
        rows,
        data: STANDARD.encode(bytes),
    }
}

/// Mean over each `stride` frames of `row` (frames, bins); the last group may
/// be smaller. A value that is not finite makes its mean not finite.
fn averaged(row: &[f32], bins: usize, stride: usize) -> Vec<f32> {
    if stride == 1 {
        return row.to_vec();
    }
    let mut out = Vec::with_capacity(row.len() / stride + bins);
    for group in row.chunks(stride * bins) {
        let frames = group.len() / bins;
        for bin in 0..bins {
            let sum: f64 = group[bin..].iter().step_by(bins).map(|&x| x as f64).sum();
            out.push((sum / frames as f64) as f32);
        }
    }
    out
}

/// Codes for `row`: value = low + code * step, within half a step. Code
/// `missing` stands for what is not finite; zero stays exactly zero.
fn quantise(row: &[f32], missing: u32) -> (f64, f64, Vec<u32>) {
    let finite = || row.iter().filter(|x| x.is_finite()).map(|&x| x as f64);
    let mut low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return (0.0, 0.0, vec![missing; row.len()]);
    }
    let last = missing - 1;
    let mut step = (high - low) / last as f64;
    if low < 0.0 && high > 0.0 {
        step = (high - low) / (last - 1) as f64;
        low = -((-low / step).ceil() * step);
    }
    let code = |x: f32| match x.is_finite() {
        true if step > 0.0 => (((x as f64 - low) / step).round() as u32).min(last),
        true => 0,
        false => missing,
    };
    (low, step, row.iter().map(|&x| code(x)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restored(row: &[f32], missing: u32) -> Vec<f64> {
        let (low, step, codes) = quantise(row, missing);
        let value = |&code: &u32| match code == missing {
            true => f64::NAN,
            false => low + code as f64 * step,
        };
        codes.iter().map(value).collect()
    }

    #[test]
    fn quantising_keeps_every_value_within_half_a_step() {
        let row: Vec<f32> = (0..1023).map(|i| (i as f32 * 0.37).sin() - 0.3).collect();
        for missing in [255, 65535] {
            let bound = 1.3 / 2.0 * 2.0 / (missing - 2) as f64;
            let mut worst: f64 = 0.0;
            for (new, &old) in restored(&row, missing).iter().zip(&row) {
                worst = worst.max((new - old as f64).abs());
            }
            println!("worst error {worst:.3e} of {bound:.3e} at {missing} codes");
            assert!(worst <= bound);
        }
    }

    #[test]
    fn quantising_keeps_zero_constants_and_gaps() {
        for missing in [255, 65535] {
            let row = [-3.0, 0.0, 1.0, f32::NAN, f32::INFINITY, 0.0];
            let back = restored(&row, missing);
            assert_eq!(back[1], 0.0);
            assert_eq!(back[5], 0.0);
            assert!(back[3].is_nan() && back[4].is_nan());
            assert_eq!(restored(&[0.7_f32; 4], missing), [0.7_f32 as f64; 4]);
            assert_eq!(restored(&[0.0], missing), [0.0]);
            assert!(restored(&[f32::NAN], missing)[0].is_nan());
            let extremes = restored(&[f32::MIN, f32::MAX], missing);
            assert!(extremes.iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn averaging_takes_a_smaller_last_group() {
        let row = [1.0, 10.0, 3.0, 30.0, 7.0, 70.0]; // (3, 2)
        assert_eq!(averaged(&row, 2, 2), [2.0, 20.0, 7.0, 70.0]);
        assert_eq!(averaged(&row, 2, 1), row);
        assert!(averaged(&[1.0, f32::NAN, 2.0], 1, 2)[0].is_nan());
    }

    #[test]
    fn large_maps_get_smaller_values_and_then_fewer_frames() {
        assert_eq!(economy(50, 100), (16, 1));
        assert_eq!(economy(51, 100), (8, 1));
        assert_eq!(economy(100, 100), (8, 1));
        assert_eq!(economy(101, 100), (8, 2));
    }
}
