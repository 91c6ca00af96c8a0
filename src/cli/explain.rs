//! `sonograd explain`: which sound each token came from.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::progress;
use super::{GenerationArgs, LoadedModel, ModelArgs, Outcome, for_each_file, print};
use crate::engine::executor::Executor;
use crate::explain::Site;
use crate::explain::explanation::Explanation;
use crate::explain::methods::integrated_gradients::IntegratedGradientsOptions;
use crate::explain::methods::smoothgrad::SmoothGradOptions;
use crate::explain::profile::ProfileDocument;
use crate::explain::spes::{SpesOptions, Stop};
use crate::explain::{ExplainOptions, Maps, Method, Progress, Subject, explain};
use crate::generate::{GenerationOptions, generate, prompt};
use crate::ops::BaselineKind;
use crate::report::folder::REPORT;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Show which sound each token came from.
///
/// Writes a folder with maps.safetensors, explanation.json and report.html.
#[derive(Args)]
#[command(
    after_help = "Example:\n  sonograd explain samples/*.wav --method attention,\
                        integrated-gradients --out explained"
)]
pub(super) struct ExplainArgs {
    /// Sound files (WAV, FLAC, MP3, OGG, M4A, AAC)
    #[arg(required = true, value_name = "AUDIO")]
    audio: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Explain this text instead of what the model hears; for one file only
    #[arg(long)]
    text: Option<String>,
    #[command(flatten)]
    generation: GenerationArgs,
    /// Explain these tokens only, counted from 0
    #[arg(long, value_name = "I,J,...", value_delimiter = ',')]
    tokens: Vec<usize>,
    /// How to explain
    #[arg(
        long,
        value_enum,
        value_name = "M,M,...",
        value_delimiter = ',',
        default_values_t = [MethodName::Attention, MethodName::Gradient]
    )]
    method: Vec<MethodName>,
    /// Where gradients are taken and masks put; tokens are for spes only
    #[arg(
        long,
        value_enum,
        value_name = "SITE,...",
        value_delimiter = ',',
        default_values_t = [SiteName::Input, SiteName::Encoder]
    )]
    at: Vec<SiteName>,
    /// Steps of integrated gradients
    #[arg(long, value_name = "N", default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    steps: u32,
    /// Noisy copies of SmoothGrad
    #[arg(long, value_name = "N", default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..=65536))]
    samples: u32,
    /// SmoothGrad's noise as a share of the input's range
    #[arg(long, value_name = "X", default_value_t = 0.1, value_parser = share)]
    noise: f32,
    /// SPES: score exactly this many masks (19998 is the published number)
    #[arg(long, value_name = "N", conflicts_with = "reliability",
        value_parser = clap::value_parser!(u32).range(1..))]
    masks: Option<u32>,
    /// SPES: stop when the map pooled to encoder frames is this reliable, after 20000 masks at
    /// the latest
    #[arg(long, value_name = "R", default_value_t = 0.9, value_parser = fraction)]
    reliability: f64,
    /// SPES: share of segments that a mask hides [default: 0.5, at tokens 0.4]
    #[arg(long, value_name = "P", value_parser = fraction)]
    mask_probability: Option<f64>,
    /// SPES: superpixels for 500 frames, one segmentation each
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = [2000, 2500, 3000],
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    segments: Vec<u32>,
    /// SPES: standard deviation of the smoothing before segmentation, in pixels
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    sigma: f64,
    /// SPES: masks scored at once [default: by memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Option<u32>,
    /// What stands for no sound
    #[arg(long, value_enum, default_value_t)]
    baseline: BaselineName,
    /// Memory a pass may take beside the weights, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..))]
    memory: u32,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder to write, or with several files the folder to write theirs into [default: the
    /// file's name with .explained]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Add counters, since the program's start, and times to explanation.json
    #[arg(long)]
    profile: bool,
    /// Print explanation.json and nothing else; with several files, a line for each
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MethodName {
    Attention,
    AttentionNorm,
    AttentionXGradient,
    Gradient,
    InputXGradient,
    IntegratedGradients,
    #[value(name = "smoothgrad")]
    SmoothGrad,
    Spes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SiteName {
    Input,
    Encoder,
    Tokens,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum BaselineName {
    /// Zero: the mean of features normalised by utterance
    #[default]
    Zero,
    /// Every column's mean over time
    Mean,
    /// Every column's minimum over time
    Min,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Attention => Self::Attention,
            MethodName::AttentionNorm => Self::AttentionNorm,
            MethodName::AttentionXGradient => Self::AttentionXGradient,
            MethodName::Gradient => Self::Gradient,
            MethodName::InputXGradient => Self::InputXGradient,
            MethodName::IntegratedGradients => Self::IntegratedGradients,
            MethodName::SmoothGrad => Self::SmoothGrad,
            MethodName::Spes => Self::Spes,
        }
    }
}

/// A number strictly between 0 and 1.
pub(super) fn fraction(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x < 1.0 => Ok(x),
        _ => Err("a number between 0 and 1 is wanted".into()),
    }
}

/// A positive share.
fn share(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err("a number above 0 is wanted".into()),
    }
}

impl ExplainArgs {
    fn options(&self) -> ExplainOptions {
        let mut methods: Vec<Method> = Vec::new();
        for method in self.method.iter().map(|&name| Method::from(name)) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        let mut sites: Vec<Site> = Vec::new();
        for site in &self.at {
            let site = match site {
                SiteName::Input => Site::Input,
                SiteName::Encoder => Site::Encoder,
                SiteName::Tokens => Site::Tokens,
            };
            if !sites.contains(&site) {
                sites.push(site);
            }
        }
        let baseline = match self.baseline {
            BaselineName::Zero => BaselineKind::Zero,
            BaselineName::Mean => BaselineKind::Mean,
            BaselineName::Min => BaselineKind::Min,
        };
        ExplainOptions {
            methods,
            sites,
            tokens: self.tokens.clone(),
            seed: self.seed,
            memory: (self.memory as usize) << 20,
            integrated_gradients: IntegratedGradientsOptions {
                steps: self.steps as usize,
                baseline,
            },
            smoothgrad: SmoothGradOptions {
                samples: self.samples as usize,
                noise: self.noise,
            },
            spes: SpesOptions {
                stop: match self.masks {
                    Some(masks) => Stop::Masks(masks as usize),
                    None => Stop::Reliability(self.reliability),
                },
                probability: self.mask_probability,
                segments: self.segments.iter().map(|&n| n as usize).collect(),
                sigma: self.sigma,
                baseline,
                batch: self.batch.map(|batch| batch as usize),
                ..SpesOptions::default()
            },
        }
    }

    /// The folder to write for each file.
    fn folders(&self) -> Result<HashMap<&Path, PathBuf>> {
        let explained = |audio: &Path| {
            let mut name = audio.file_stem().unwrap_or_default().to_os_string();
            name.push(".explained");
            PathBuf::from(name)
        };
        if let [only] = self.audio.as_slice() {
            let folder = self.out.clone().unwrap_or_else(|| explained(only));
            Maps::check_folder(&folder)?;
            return Ok(HashMap::from([(only.as_path(), folder)]));
        }
        if self.text.is_some() {
            let problem = "--text is for one file; give one, or leave the text to the model";
            return Err(Error::Input(problem.into()));
        }
        let mut taken: HashMap<PathBuf, &Path> = HashMap::new();
        for audio in &self.audio {
            let folder = self.out.clone().unwrap_or_default().join(explained(audio));
            if let Some(other) = taken.insert(folder.clone(), audio) {
                return Err(Error::Input(format!(
                    "{} and {} would both be written to {}; explain one of them at a time",
                    other.display(),
                    audio.display(),
                    folder.display()
                )));
            }
        }
        let swapped = taken.into_iter().map(|(folder, audio)| (audio, folder));
        Ok(swapped.collect())
    }
}

/// Seconds by stage.
struct Stages {
    last: Instant,
    seconds: Map<String, Value>,
}

impl Stages {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            seconds: Map::new(),
        }
    }

    /// The same so far, with the clock at now.
    fn again(&self) -> Self {
        Self {
            last: Instant::now(),
            seconds: self.seconds.clone(),
        }
    }

    fn end(&mut self, stage: &str) {
        let seconds = self.last.elapsed().as_secs_f64();
        self.seconds.insert(stage.into(), json!(seconds));
        self.last = Instant::now();
    }
}

pub(super) fn run(args: &ExplainArgs) -> Result<Outcome> {
    let mut stages = Stages::new();
    let folders = args.folders()?;
    let loaded = args.model.load()?;
    let tokenizer = loaded.tokenizer()?;
    let generation = args
        .generation
        .options(&loaded.model, &tokenizer, false, None)?;
    stages.end("load");
    let session = Session {
        args,
        loaded,
        tokenizer,
        generation,
        stages,
    };
    let mut executor = None;
    if args.audio.len() > 1 {
        // What fails for all files fails before the first.
        executor = Some(session.open()?);
        if let Some(parent) = &args.out
            && !parent.is_dir()
        {
            fs::create_dir(parent).map_err(|problem| Error::file(parent, problem))?;
        }
    }
    for_each_file(&args.audio, |audio| {
        explain_file(&session, &mut executor, audio, &folders[audio])
    })
}

/// What serves all files.
struct Session<'a> {
    args: &'a ExplainArgs,
    loaded: LoadedModel,
    tokenizer: Tokenizer,
    generation: GenerationOptions,
    stages: Stages,
}

impl Session<'_> {
    /// Opens the device.
    fn open(&self) -> Result<Box<dyn Executor>> {
        let (args, weights) = (self.args, &self.loaded.model.weights);
        args.model.executor.open(weights, args.profile)
    }
}

/// Explains one file and writes its folder.
fn explain_file(
    session: &Session,
    executor: &mut Option<Box<dyn Executor>>,
    audio: &Path,
    out: &Path,
) -> Result<()> {
    Maps::check_folder(out)?;
    let Session {
        args,
        loaded,
        tokenizer,
        generation,
        stages,
    } = session;
    let mut stages = stages.again();
    let (waveform, features) = loaded.listen(audio)?;
    stages.end("front_end");
    // A text that cannot be explained is refused before a device is started.
    let given = args.text.as_ref();
    let given = given.map(|text| given_tokens(loaded, tokenizer, text));
    let given = given.transpose()?;
    let executor = match executor {
        Some(executor) => executor,
        closed => closed.insert(session.open()?),
    };
    stages.end("device");

    let model = &loaded.model;
    let (prompt, tokens) = match given {
        Some(tokens) => {
            let mut prompt = prompt(executor.as_mut(), model, &features, generation)?;
            prompt.extend(&generation.forced);
            (prompt, tokens)
        }
        None => {
            let generated = generate(executor.as_mut(), model, &features, generation)?;
            if generated.truncated {
                eprintln!("warning: the length limit cut the transcript short");
            }
            let (prompt, tokens) = generated.given_and_chosen(generation);
            (prompt, tokens.to_vec())
        }
    };
    stages.end("generate");

    let file = audio.file_name().unwrap_or_default();
    let subject = Subject {
        file: file.to_string_lossy().into_owned(),
        seconds: waveform.seconds(),
        features: &features,
        prompt: &prompt,
        tokens: &tokens,
    };
    // Only masks can be cut short: whoever computes none keeps Ctrl-C as it is.
    let mut progress: Box<dyn FnMut(Progress) -> bool> = if args.method.contains(&MethodName::Spes)
    {
        Box::new(progress::reporter("writing what they gave"))
    } else {
        Box::new(|_| true)
    };
    let mut explained = explain(
        executor.as_mut(),
        &loaded.model,
        tokenizer,
        &subject,
        &args.options(),
        progress.as_mut(),
    )?;
    stages.end("explain");
    if args.profile {
        let profile = profile(executor.as_ref(), stages.seconds);
        explained.explanation.profile = Some(profile?);
    }
    explained.save(out)?;
    let several = args.audio.len() > 1;
    if args.json {
        let explanation = &explained.explanation;
        let json = if several {
            serde_json::to_string(explanation)
        } else {
            serde_json::to_string_pretty(explanation)
        };
        print(&json.map_err(|problem| Error::file("JSON", problem))?)
    } else {
        let summary = summary(&explained.explanation, out);
        if several {
            print(&format!("{}: {summary}", audio.display()))
        } else {
            print(&summary)
        }
    }
}

/// Tokens of a given text and the end of sentence.
fn given_tokens(loaded: &LoadedModel, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    if text.trim().is_empty() {
        return Err(Error::Input(format!("--text {text:?} has no tokens")));
    }
    let mut tokens = tokenizer.encode(text)?;
    tokens.push(loaded.model.tokens.end);
    Ok(tokens)
}

fn profile(executor: &dyn Executor, seconds: Map<String, Value>) -> Result<Value> {
    let profile = serde_json::to_value(ProfileDocument::from(executor.profile()));
    let mut profile = profile.map_err(|problem| Error::file("profile", problem))?;
    profile["stage_seconds"] = Value::Object(seconds);
    Ok(profile)
}

/// What a person wants to see at once: the words and when they were said.
fn summary(explanation: &Explanation, out: &Path) -> String {
    let mut text = format!("{}\n", explanation.text);
    for word in &explanation.words {
        text += &format!(
            "{:>8.2} s {:>6.2} s  {}\n",
            word.start_seconds, word.end_seconds, word.text
        );
    }
    let page = out.join(REPORT);
    text + &format!("open {} in a browser", page.display())
}
