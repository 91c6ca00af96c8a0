//! From an utterance and a model to maps: which sound each token came from.

pub mod alignment;
pub mod attention_norm;
pub mod compared;
pub mod explanation;
pub mod output;
pub mod passes;
pub mod probe;
pub mod profile;
pub mod quadrature;
pub mod slic;
pub mod spes;
pub mod timing;

use serde_json::{Map, Value, json};

use self::explanation::{
    Audio, Device, Explanation, FORMAT, MapInfo, Model as ModelInfo, Token, VERSION, Word,
};
use self::passes::{
    Gradients, MapSpec, Site, Utterance, Variants, averaged_gradients, forward_and_reverse,
    memories,
};
use self::profile::MAPS;
use self::spes::{
    Checkpoint, Occluded, Progress, Segmentation, Segments, SpesOptions, SpesPass, Stop, spes,
};
use crate::audio::SAMPLE_RATE;
use crate::engine::executor::{Executor, Inputs};
use crate::engine::tensor::PersistentId;
use crate::features::{FRAME_SECONDS, Features};
use crate::model::Model;
use crate::ops::{BaselineKind, Reduction};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// A way to say which sound a token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Cross-attention of every decoder layer and head.
    Attention,
    /// Cross-attention times the norm of the value it carries.
    AttentionNorm,
    /// Cross-attention times d log p(token) / d attention.
    AttentionXGradient,
    /// d log p(token) / d x
    Gradient,
    /// Gradient times x.
    InputXGradient,
    /// Mean gradient between a baseline and x, times their difference.
    IntegratedGradients,
    /// Mean gradient over noisy copies of x.
    SmoothGrad,
    /// Occlusion by random masks of superpixels, frames or tokens.
    Spes,
}

impl Method {
    /// The method's name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::AttentionNorm => "attention-norm",
            Self::AttentionXGradient => "attention-x-gradient",
            Self::Gradient => "gradient",
            Self::InputXGradient => "input-x-gradient",
            Self::IntegratedGradients => "integrated-gradients",
            Self::SmoothGrad => "smoothgrad",
            Self::Spes => "spes",
        }
    }

    /// Whether the method looks at the decoder's attention, wherever others
    /// look.
    fn is_attention(self) -> bool {
        matches!(
            self,
            Self::Attention | Self::AttentionNorm | Self::AttentionXGradient
        )
    }

    /// Whether the method has a map at a site.
    fn works_at(self, site: Site) -> bool {
        self == Self::Spes || (!self.is_attention() && site != Site::Tokens)
    }

    /// How the model dimension is reduced at the encoder's output: gradients
    /// by their norm, attributions by their signed sum, which keeps them
    /// complete.
    fn encoder_reduction(self) -> Reduction {
        match self {
            Self::InputXGradient | Self::IntegratedGradients => Reduction::Sum,
            _ => Reduction::L2,
        }
    }

    fn reduction(self, site: Site) -> Reduction {
        match site {
            Site::Encoder if self != Self::Spes => self.encoder_reduction(),
            _ => Reduction::None,
        }
    }
}

fn reduction_name(reduction: Reduction) -> &'static str {
    match reduction {
        Reduction::None => "none",
        Reduction::L2 => "l2",
        Reduction::Sum => "sum",
        Reduction::Max => "max",
    }
}

fn baseline_name(baseline: BaselineKind) -> &'static str {
    match baseline {
        BaselineKind::Zero => "zero",
        BaselineKind::Mean => "mean",
        BaselineKind::Min => "min",
    }
}

/// What to compute and how.
#[derive(Clone, Debug)]
pub struct ExplainOptions {
    pub methods: Vec<Method>,
    pub sites: Vec<Site>,
    /// Points on the path of integrated gradients.
    pub steps: usize,
    /// Noisy copies of SmoothGrad.
    pub samples: usize,
    /// SmoothGrad's standard deviation as a share of x's range.
    pub noise: f32,
    pub baseline: BaselineKind,
    /// Bytes a pass may take beside the weights.
    pub memory: usize,
    pub seed: u64,
    /// Which of the tokens to explain; all if empty.
    pub tokens: Vec<usize>,
    /// How masks are drawn and scored; its seed, baseline and memory are
    /// those above.
    pub spes: SpesOptions,
}

impl Default for ExplainOptions {
    fn default() -> Self {
        Self {
            methods: vec![Method::Attention, Method::Gradient],
            sites: vec![Site::Input, Site::Encoder],
            steps: 32,
            samples: 32,
            noise: 0.1,
            baseline: BaselineKind::Zero,
            memory: 1 << 30,
            seed: 0,
            tokens: Vec::new(),
            spes: SpesOptions::default(),
        }
    }
}

/// What is said about: a sound's features and the tokens it is heard as.
pub struct Subject<'a> {
    /// File name without its folder.
    pub file: String,
    pub seconds: f64,
    pub features: &'a Features,
    /// What the decoder starts with.
    pub prompt: &'a [u32],
    /// Tokens after the prompt, the end of sentence included.
    pub tokens: &'a [u32],
}

/// What the decoder is given so that it says a subject's tokens.
struct Forced {
    /// The prompt and all tokens but the last.
    inputs: Vec<u32>,
    /// Where the chosen tokens are predicted.
    positions: Vec<u32>,
    /// The chosen tokens.
    labels: Vec<u32>,
}

impl Forced {
    fn new(subject: &Subject, chosen: &[usize]) -> Self {
        let (prompt, tokens) = (subject.prompt, subject.tokens);
        let mut inputs = [prompt, tokens].concat();
        inputs.pop();
        Self {
            inputs,
            positions: chosen
                .iter()
                .map(|&c| (prompt.len() - 1 + c) as u32)
                .collect(),
            labels: chosen.iter().map(|&c| tokens[c]).collect(),
        }
    }

    /// All of a subject's tokens are chosen.
    fn all(subject: &Subject) -> Self {
        Self::new(subject, &Vec::from_iter(0..subject.tokens.len()))
    }
}

/// A named tensor of finished values.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedMap {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// An explanation with its maps, `features` among them.
pub struct Explained {
    pub explanation: Explanation,
    pub maps: Vec<NamedMap>,
}

/// A map that is being computed.
struct Pending {
    method: Method,
    site: Site,
    map: passes::DeviceMap,
    options: Map<String, Value>,
    /// Log-probabilities at the baseline, for integrated gradients.
    baseline: Option<PersistentId>,
    /// (1, K, 1): negative scores met, for occlusion.
    clamped: Option<PersistentId>,
}

/// Explains the tokens of one utterance. `progress` is called while masks are
/// scored; if it returns false, they end there.
///
/// # Errors
/// If the utterance does not fit the model or the device fails.
pub fn explain(
    executor: &mut dyn Executor,
    model: &Model,
    tokenizer: &Tokenizer,
    subject: &Subject,
    options: &ExplainOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Explained> {
    // Whatever it takes on the device is given back, also when it fails.
    let mark = executor.mark();
    let explained = compute(executor, model, tokenizer, subject, options, progress);
    executor.unwind(mark);
    explained
}

fn compute(
    executor: &mut dyn Executor,
    model: &Model,
    tokenizer: &Tokenizer,
    subject: &Subject,
    options: &ExplainOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Explained> {
    check_sites(options)?;
    let chosen = chosen_tokens(subject.tokens, &options.tokens)?;
    let Forced {
        inputs,
        positions,
        labels,
    } = Forced::new(subject, &chosen);

    // Everything goes to the device in one transfer.
    let mut uploads = Inputs::default();
    let utterance = Utterance::place(
        executor,
        &mut uploads,
        model,
        subject.features,
        &inputs,
        &positions,
        &labels,
    )?;
    let own = SpesOptions {
        baseline: options.baseline,
        seed: options.seed,
        memory: options.memory,
        ..options.spes.clone()
    };
    let mut occlusions: Vec<(Occluded, Segments)> = Vec::new();
    if options.methods.contains(&Method::Spes) {
        for &site in &options.sites {
            let (occluded, segmentation) = segmentation(&utterance, subject.features, site, &own)?;
            let segments = segmentation.place(executor, &mut uploads)?;
            occlusions.push((occluded, segments));
        }
    }
    uploads.send(executor, MAPS)?;

    // One pass gives the plain gradients at both sites and at the attention.
    let plain = [Method::Gradient, Method::InputXGradient];
    let plain: Vec<(Method, Site)> = pairs(options)
        .filter(|(method, _)| plain.contains(method))
        .collect();
    let specs: Vec<MapSpec> = plain
        .iter()
        .map(|&(method, site)| MapSpec {
            site,
            times_input: method == Method::InputXGradient,
            reduction: method.reduction(site),
        })
        .collect();
    let wanted = Gradients {
        maps: &specs,
        attention: options.methods.contains(&Method::AttentionXGradient),
    };
    let pass = forward_and_reverse(executor, model, &utterance, wanted, options.memory)?;
    let mut pending: Vec<Pending> = Vec::new();
    for (&(method, site), &map) in plain.iter().zip(&pass.maps) {
        pending.push(Pending {
            method,
            site,
            map,
            options: Map::new(),
            baseline: None,
            clamped: None,
        });
    }
    for (method, site) in pairs(options) {
        let (variants, own) = match method {
            Method::IntegratedGradients => {
                let (fractions, weights) = quadrature::gauss_legendre(options.steps);
                let variants = Variants::Path {
                    baseline: options.baseline,
                    fractions: fractions.iter().map(|&x| x as f32).collect(),
                    weights: weights.iter().map(|&x| x as f32).collect(),
                };
                let baseline = baseline_name(options.baseline);
                let own = json!({"steps": options.steps, "baseline": baseline,
                    "quadrature": "gauss-legendre"});
                (variants, own)
            }
            Method::SmoothGrad => {
                let variants = Variants::Noise {
                    level: options.noise,
                    samples: options.samples,
                    seed: options.seed,
                };
                let own = json!({"samples": options.samples, "noise": options.noise,
                    "seed": options.seed});
                (variants, own)
            }
            _ => continue,
        };
        let averaged = averaged_gradients(
            executor,
            model,
            &utterance,
            pass.forward.encoder_output,
            site,
            &variants,
            method.reduction(site),
            options.memory,
        )?;
        let Value::Object(own) = own else {
            unreachable!("options are an object")
        };
        pending.push(Pending {
            method,
            site,
            map: averaged.map,
            options: own,
            baseline: averaged.baseline_log_probs,
            clamped: None,
        });
    }
    for (occluded, segments) in occlusions {
        let pass = spes(
            executor,
            model,
            &utterance,
            pass.forward.encoder_output,
            occluded,
            segments,
            None,
            &own,
            progress,
        )?;
        let Value::Object(described) = described(&pass, &own) else {
            unreachable!("options are an object")
        };
        pending.push(Pending {
            method: Method::Spes,
            site: occluded.site(),
            map: pass.map,
            options: described,
            baseline: None,
            clamped: Some(pass.clamped),
        });
    }

    let memories = match options.methods.contains(&Method::AttentionNorm) {
        true => memories(executor, model, &utterance, pass.forward.encoder_output)?,
        false => Vec::new(),
    };

    // Everything comes back in one transfer.
    let mut ids = vec![pass.forward.log_probs];
    ids.extend(&pass.forward.cross_attention);
    ids.extend(&memories);
    ids.extend(&pass.attention_x_gradient);
    ids.extend(pending.iter().map(|pending| pending.map.id));
    ids.extend(pending.iter().filter_map(|pending| pending.baseline));
    ids.extend(pending.iter().filter_map(|pending| pending.clamped));
    let mut read = executor.read(&ids, MAPS)?.into_iter();
    let mut next = || read.next().expect("as many as were asked for");
    let log_probs = next();
    let decoder = &model.decoder.config;
    let attention: Vec<f32> = (0..decoder.layers)
        .flat_map(|_| select_rows(&next(), decoder.heads, &utterance, &positions))
        .collect();
    let weighted: Vec<f32> = memories
        .iter()
        .zip(attention.chunks(attention.len() / decoder.layers))
        .enumerate()
        .flat_map(|(l, (_, weights))| {
            let layer = attention_norm::Layer {
                heads: decoder.heads,
                width: decoder.width,
                memory: &next(),
                output: &model.weights.get(model.decoder.cross_output(l)).data,
            };
            layer.weighted(weights)
        })
        .collect();
    let times_gradient: Vec<f32> = pass
        .attention_x_gradient
        .iter()
        .flat_map(|_| next())
        .collect();
    let values: Vec<Vec<f32>> = pending.iter().map(|_| next()).collect();
    let baselines: Vec<Option<Vec<f32>>> = pending
        .iter()
        .map(|pending| pending.baseline.map(|_| next()))
        .collect();
    let clamped: Vec<Option<Vec<f32>>> = pending
        .iter()
        .map(|pending| pending.clamped.map(|_| next()))
        .collect();

    let features = NamedMap {
        name: "features".into(),
        shape: vec![subject.features.sound_frames, subject.features.bins],
        data: subject.features.sound().data,
    };
    let mut maps = vec![features];
    let mut infos = Vec::new();
    let averaged = timing::averaged(&attention, chosen.len(), utterance.encoder_frames);
    for (method, data) in [
        (Method::Attention, attention),
        (Method::AttentionNorm, weighted),
        (Method::AttentionXGradient, times_gradient),
    ] {
        if !options.methods.contains(&method) {
            continue;
        }
        let shape = vec![
            decoder.layers,
            decoder.heads,
            chosen.len(),
            utterance.encoder_frames,
        ];
        infos.push(MapInfo {
            name: method.name().into(),
            method: method.name().into(),
            site: "decoder".into(),
            shape: shape.clone(),
            reduction: "none".into(),
            options: Map::new(),
        });
        maps.push(NamedMap {
            name: method.name().into(),
            shape,
            data,
        });
    }
    let extra = baselines.into_iter().zip(clamped);
    for ((mut pending, data), (baseline, clamped)) in pending.into_iter().zip(values).zip(extra) {
        let Pending { method, site, .. } = pending;
        if let Some(clamped) = clamped {
            let count: f64 = clamped.iter().map(|&x| f64::from(x)).sum();
            pending
                .options
                .insert("clamped_scores".into(), json!(count));
        }
        if let Some(baseline) = baseline {
            let gaps = completeness_gaps(&data, &log_probs, &baseline);
            pending
                .options
                .insert("completeness_gap".into(), json!(gaps));
        }
        let reduction = method.reduction(site);
        let mut shape = vec![pending.map.shape.lead, pending.map.shape.rows];
        if site == Site::Input {
            shape.push(pending.map.shape.cols);
        }
        let name = format!("{}.{}", method.name(), site.name());
        infos.push(MapInfo {
            name: name.clone(),
            method: method.name().into(),
            site: site.name().into(),
            shape: shape.clone(),
            reduction: reduction_name(reduction).into(),
            options: pending.options,
        });
        maps.push(NamedMap { name, shape, data });
    }
    if let Some(map) = maps
        .iter()
        .find(|map| map.data.iter().any(|x| !x.is_finite()))
    {
        return Err(Error::Model(format!(
            "{} has values that are not finite: the model's numbers overflow on this sound",
            map.name
        )));
    }

    let (tokens, words) = tokens_and_words(
        model,
        tokenizer,
        &chosen,
        &labels,
        &log_probs,
        &averaged,
        utterance.encoder_frames,
    );
    let special = |id: &u32| is_special(model, tokenizer, *id);
    let spoken: Vec<u32> = subject
        .tokens
        .iter()
        .copied()
        .filter(|id| !special(id))
        .collect();
    let explanation = Explanation {
        format: FORMAT.into(),
        version: VERSION,
        sonograd: env!("CARGO_PKG_VERSION").into(),
        audio: Audio {
            file: subject.file.clone(),
            seconds: subject.seconds,
            sample_rate: SAMPLE_RATE,
        },
        text: tokenizer.decode(&spoken),
        model: ModelInfo {
            name: model.name.clone(),
            architecture: model.architecture.clone(),
            decoder_layers: decoder.layers,
            decoder_heads: decoder.heads,
            frames: utterance.frames,
            mel_bins: utterance.mel_bins,
            encoder_frames: utterance.encoder_frames,
            frame_seconds: FRAME_SECONDS,
            encoder_frame_seconds: encoder_frame_seconds(model),
        },
        device: Device {
            name: executor.name(),
            executor: executor.kind().into(),
        },
        precision: executor.precision().name().into(),
        seed: options.seed,
        tokens,
        words,
        maps: infos,
        profile: None,
    };
    Ok(Explained { explanation, maps })
}

/// Every wanted (method, site) but attention, in the order of the options.
fn pairs(options: &ExplainOptions) -> impl Iterator<Item = (Method, Site)> {
    let methods = options.methods.iter().copied();
    let methods = methods.filter(|method| !method.is_attention());
    let all = methods.flat_map(|method| options.sites.iter().map(move |&site| (method, site)));
    all.filter(|(method, site)| method.works_at(*site))
}

/// Refuses a method that has no map at any of the sites.
fn check_sites(options: &ExplainOptions) -> Result<()> {
    for &method in &options.methods {
        let some = options.sites.iter().any(|&site| method.works_at(site));
        if !method.is_attention() && !some {
            return Err(Error::Input(format!(
                "{} has no map at tokens; it has at input and encoder",
                method.name()
            )));
        }
    }
    Ok(())
}

/// What SPES hides at a site, and in which pieces.
fn segmentation(
    utterance: &Utterance,
    features: &Features,
    site: Site,
    options: &SpesOptions,
) -> Result<(Occluded, Segmentation)> {
    Ok(match site {
        Site::Input => (
            Occluded::Input,
            Segmentation::superpixels(features, options)?,
        ),
        Site::Encoder => {
            let frames = utterance.encoder_frames;
            (Occluded::Encoder, Segmentation::elements(frames, 1))
        }
        Site::Tokens => (
            Occluded::Tokens,
            Segmentation::elements(utterance.inputs, 1),
        ),
    })
}

/// What shaped an occlusion map, for `explanation.json`.
fn described(pass: &SpesPass, options: &SpesOptions) -> Value {
    let checkpoints: Vec<Value> = pass
        .checkpoints
        .iter()
        .map(|checkpoint| {
            json!({
                "masks": checkpoint.masks,
                "reliability_pooled": checkpoint.pooled_median(),
                "reliability_full": checkpoint.full_median(),
            })
        })
        .collect();
    let last = pass.checkpoints.last();
    let probability = options
        .probability
        .unwrap_or_else(|| pass.occluded.default_probability());
    let mut value = json!({
        "masks": pass.masks,
        "interrupted": pass.interrupted,
        "probability": probability,
        "seed": options.seed,
        "segments": pass.segments,
        "batch": pass.batch,
        "reliability_pooled": last.and_then(Checkpoint::pooled_median),
        "reliability_full": last.and_then(Checkpoint::full_median),
        "token_reliability_pooled": last.map(|last| last.pooled.clone()),
        "token_reliability_full": last.map(|last| last.full.clone()),
        "checkpoints": checkpoints,
    });
    match options.stop {
        Stop::Masks(count) => value["wanted_masks"] = json!(count),
        Stop::Reliability(wanted) => {
            let reached = last.and_then(Checkpoint::pooled_median);
            value["wanted_reliability"] = json!(wanted);
            value["reliable"] = json!(reached.is_some_and(|reached| reached >= wanted));
        }
    }
    if pass.occluded == Occluded::Input {
        value["nominal_segments"] = json!(options.segments);
        value["compactness"] = json!(options.compactness);
        value["sigma"] = json!(options.sigma);
        value["baseline"] = json!(baseline_name(options.baseline));
    }
    value
}

fn encoder_frame_seconds(model: &Model) -> f64 {
    FRAME_SECONDS * model.encoder.subsampling() as f64
}

/// Indices of the tokens to explain.
fn chosen_tokens(tokens: &[u32], wanted: &[usize]) -> Result<Vec<usize>> {
    if tokens.is_empty() {
        return Err(Error::Input("there are no tokens to explain".into()));
    }
    if wanted.is_empty() {
        return Ok((0..tokens.len()).collect());
    }
    let mut chosen = wanted.to_vec();
    chosen.sort_unstable();
    chosen.dedup();
    match chosen.iter().find(|&&c| c >= tokens.len()) {
        Some(c) => Err(Error::Input(format!(
            "there is no token {c}: the {} tokens count from 0",
            tokens.len()
        ))),
        None => Ok(chosen),
    }
}

/// Rows of the explained positions, cut to the sound: (H·I, W') to
/// (H, K, T').
fn select_rows(
    probabilities: &[f32],
    heads: usize,
    utterance: &Utterance,
    positions: &[u32],
) -> Vec<f32> {
    let frames = utterance.encoder_frames;
    let mut rows = Vec::with_capacity(heads * positions.len() * frames);
    for h in 0..heads {
        for &position in positions {
            let begin = (h * utterance.inputs + position as usize) * utterance.encoder_window;
            rows.extend_from_slice(&probabilities[begin..begin + frames]);
        }
    }
    rows
}

/// For every token: sum of its attributions minus the change of its
/// log-probability from baseline to sound; 0 if the integral were exact.
fn completeness_gaps(map: &[f32], log_probs: &[f32], baseline: &[f32]) -> Vec<f64> {
    let each = map.len() / log_probs.len();
    map.chunks(each)
        .zip(log_probs.iter().zip(baseline))
        .map(|(row, (&here, &there))| {
            let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
            sum - (f64::from(here) - f64::from(there))
        })
        .collect()
}

/// Whether a token stands for no text.
pub fn is_special(model: &Model, tokenizer: &Tokenizer, id: u32) -> bool {
    let tokens = model.tokens;
    [tokens.start, tokens.end, tokens.pad, tokens.begin].contains(&id) || tokenizer.is_special(id)
}

fn tokens_and_words(
    model: &Model,
    tokenizer: &Tokenizer,
    chosen: &[usize],
    labels: &[u32],
    log_probs: &[f32],
    attention: &[f32],
    frames: usize,
) -> (Vec<Token>, Vec<Word>) {
    let step = encoder_frame_seconds(model);
    let special: Vec<bool> = labels
        .iter()
        .map(|&id| is_special(model, tokenizer, id))
        .collect();
    let tokens = labels
        .iter()
        .enumerate()
        .map(|(index, &id)| Token {
            index,
            position: chosen[index],
            id,
            text: tokenizer.token_text(id),
            log_probability: f64::from(log_probs[index]),
            special: special[index],
            peak_seconds: {
                let row = &attention[index * frames..(index + 1) * frames];
                (timing::peak(row) as f64 + 0.5) * step
            },
        })
        .collect();
    let words = tokenizer.words(labels, &special).into_iter();
    let words = words.map(|(text, tokens)| {
        let rows: Vec<&[f32]> = tokens
            .iter()
            .map(|&token| &attention[token * frames..(token + 1) * frames])
            .collect();
        let (start, end) = timing::span(&rows);
        Word {
            text,
            tokens,
            start_seconds: start as f64 * step,
            end_seconds: end as f64 * step,
        }
    });
    (tokens, words.collect())
}
