//! `sonograd explain`: which sound each token came from.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{
    GenerationArgs, ModelArgs, Outcome, for_each_file, print, print_table, read_sound, start, stem,
    warn,
};
use super::{progress, shown};
use crate::explain::explanation::Explanation;
use crate::explain::methods::integrated_gradients::IntegratedGradientsOptions;
use crate::explain::methods::smoothgrad::SmoothGradOptions;
use crate::explain::profile::ProfileDocument;
use crate::explain::spes::{SpesOptions, Stop};
use crate::explain::{ExplainOptions, Maps, Method, Progress, Site};
use crate::features::Kind;
use crate::files::{check_writable, followed, parent};
use crate::generate::Wanted;
use crate::listener::Listener;
use crate::model::Model;
use crate::ops::BaselineKind;
use crate::report::folder::REPORT;
use crate::{Error, Result};

/// Show which sound each token came from.
///
/// Writes a folder with maps.safetensors, explanation.json and report.html.
#[derive(Args)]
#[command(
    after_help = "Example:\n  sonograd explain samples/*.{wav,flac} --method attention,\
                        integrated-gradients --out explained"
)]
pub(super) struct ExplainArgs {
    /// Sound files (WAV, AIFF, AU, SPHERE, FLAC, MP3, OGG, Opus, WebM, M4A, AAC); - is standard
    /// input
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
    /// Where gradients are taken and masks put; tokens are for spes only [default: input,encoder]
    #[arg(long, value_enum, value_name = "SITE,...", value_delimiter = ',')]
    at: Vec<SiteName>,
    /// Steps of integrated gradients [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    steps: Option<u32>,
    /// Noisy copies of SmoothGrad [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    samples: Option<u32>,
    /// SmoothGrad's noise as a share of the input's range [default: 0.1]
    #[arg(long, value_name = "X", value_parser = share)]
    noise: Option<f32>,
    /// SPES: score exactly this many masks (19998 is the published number)
    #[arg(long, value_name = "N", conflicts_with = "reliability",
        value_parser = clap::value_parser!(u32).range(1..))]
    masks: Option<u32>,
    /// SPES: stop when the map pooled to encoder frames is this reliable, after 20000 masks at
    /// the latest [default: 0.9]
    #[arg(long, value_name = "R", value_parser = fraction)]
    reliability: Option<f64>,
    /// SPES: share of segments that a mask hides [default: 0.5, at tokens 0.4]
    #[arg(long, value_name = "P", value_parser = fraction)]
    mask_probability: Option<f64>,
    /// SPES: superpixels for 500 frames, one segmentation each [default: 2000,2500,3000]
    #[arg(long, value_name = "N,N,...", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    segments: Vec<u32>,
    /// SPES: standard deviation of the smoothing before segmentation, in pixels [default: 0]
    #[arg(long, value_name = "X")]
    sigma: Option<f64>,
    /// SPES: length of the stretches that are hidden of a waveform, for models that hear it, in
    /// milliseconds [default: 10]
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    segment_ms: Option<f64>,
    /// SPES: masks scored at once [default: by memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Option<u32>,
    /// What stands for no sound, to integrated gradients and SPES [default: zero]
    #[arg(long, value_enum)]
    baseline: Option<BaselineName>,
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
    /// Leave the recording out of the folder: its page plays none then
    #[arg(long)]
    no_sound: bool,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BaselineName {
    /// Zero: the mean of features normalised by utterance
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

/// A positive number of milliseconds.
fn milliseconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err("a number above 0 is wanted".into()),
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
    fn methods(&self) -> Vec<Method> {
        let methods = self.method.iter().map(|&name| Method::from(name));
        methods.collect()
    }

    fn sites(&self) -> Vec<Site> {
        if self.at.is_empty() {
            return ExplainOptions::default().sites;
        }
        let sites = self.at.iter().map(|site| match site {
            SiteName::Input => Site::Input,
            SiteName::Encoder => Site::Encoder,
            SiteName::Tokens => Site::Tokens,
        });
        sites.collect()
    }

    /// Refuses options that would have no effect.
    fn check(&self) -> Result<()> {
        use Method::{IntegratedGradients, SmoothGrad, Spes};

        let (methods, sites) = (self.methods(), self.sites());
        let given: [(bool, &str, &[Method]); 11] = [
            (self.steps.is_some(), "--steps", &[IntegratedGradients]),
            (self.samples.is_some(), "--samples", &[SmoothGrad]),
            (self.noise.is_some(), "--noise", &[SmoothGrad]),
            (self.masks.is_some(), "--masks", &[Spes]),
            (self.reliability.is_some(), "--reliability", &[Spes]),
            (
                self.mask_probability.is_some(),
                "--mask-probability",
                &[Spes],
            ),
            (!self.segments.is_empty(), "--segments", &[Spes]),
            (self.sigma.is_some(), "--sigma", &[Spes]),
            (self.segment_ms.is_some(), "--segment-ms", &[Spes]),
            (self.batch.is_some(), "--batch", &[Spes]),
            (
                self.baseline.is_some(),
                "--baseline",
                &[IntegratedGradients, Spes],
            ),
        ];
        for (_, option, own) in given.iter().filter(|(given, ..)| *given) {
            if !own.iter().any(|method| methods.contains(method)) {
                let names: Vec<&str> = own.iter().map(|method| method.name()).collect();
                let names = names.join(" or ");
                return Err(Error::Input(format!(
                    "only --method {names} takes {option}"
                )));
            }
        }
        let pieces = self.pixels() || self.segment_ms.is_some();
        if pieces && !sites.contains(&Site::Input) {
            let problem = "only --at input takes --segments, --sigma and --segment-ms";
            return Err(Error::Input(problem.into()));
        }
        if self.at.is_empty() {
            return Ok(());
        }
        if methods.iter().all(|method| method.is_attention()) {
            let problem =
                "maps of the attention have their own place; none of these methods takes --at";
            return Err(Error::Input(problem.into()));
        }
        for site in sites {
            if !methods.iter().any(|method| method.works_at(site)) {
                let own = Method::ALL.into_iter().filter(|own| own.works_at(site));
                let own: Vec<&str> = own.map(Method::name).collect();
                let problem = format!("only --method {} takes --at {site}", own.join(" or "));
                return Err(Error::Input(problem));
            }
        }
        Ok(())
    }

    /// Whether superpixels are spoken of.
    fn pixels(&self) -> bool {
        !self.segments.is_empty() || self.sigma.is_some()
    }

    /// Refuses options that have no effect with this model.
    fn check_model(&self, model: &Model) -> Result<()> {
        let waveform = model.encoder.hears_by() == Kind::Waveform;
        let problem = if waveform && self.pixels() {
            "the model hears the waveform, of which --segment-ms says what is hidden; --segments \
             and --sigma are of mel bins"
        } else if !waveform && self.segment_ms.is_some() {
            "only models that hear the waveform take --segment-ms; of mel bins --segments says \
             what is hidden"
        } else {
            return Ok(());
        };
        Err(Error::Input(problem.into()))
    }

    fn options(&self) -> ExplainOptions {
        let default = ExplainOptions::default();
        let baseline = match self.baseline {
            None | Some(BaselineName::Zero) => BaselineKind::Zero,
            Some(BaselineName::Mean) => BaselineKind::Mean,
            Some(BaselineName::Min) => BaselineKind::Min,
        };
        let integrated = default.integrated_gradients;
        ExplainOptions {
            methods: self.methods(),
            sites: self.sites(),
            tokens: self.tokens.clone(),
            timed: true,
            seed: self.seed,
            memory: (self.memory as usize) << 20,
            integrated_gradients: IntegratedGradientsOptions {
                steps: self.steps.map_or(integrated.steps, |steps| steps as usize),
                baseline,
            },
            smoothgrad: SmoothGradOptions {
                samples: self
                    .samples
                    .map_or(default.smoothgrad.samples, |samples| samples as usize),
                noise: self.noise.unwrap_or(default.smoothgrad.noise),
            },
            spes: SpesOptions {
                stop: match (self.masks, self.reliability) {
                    (Some(masks), _) => Stop::Masks(masks as usize),
                    (None, Some(reliability)) => Stop::Reliability(reliability),
                    (None, None) => default.spes.stop,
                },
                probability: self.mask_probability,
                segments: match self.segments.as_slice() {
                    [] => default.spes.segments,
                    own => own.iter().map(|&n| n as usize).collect(),
                },
                sigma: self.sigma.unwrap_or(default.spes.sigma),
                segment_ms: self.segment_ms.unwrap_or(default.spes.segment_ms),
                baseline,
                batch: self.batch.map(|batch| batch as usize),
                ..default.spes
            },
        }
    }

    /// The folder to write for each file.
    fn folders(&self) -> Result<HashMap<&Path, PathBuf>> {
        let explained = |audio: &Path| {
            let mut name = stem(audio);
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
        let inside = followed(&self.out.clone().unwrap_or_default());
        // It is made once the model is there.
        let is_there = inside.as_os_str().is_empty() || inside.is_dir();
        if !is_there {
            if inside.exists() {
                return Err(Error::file(
                    inside,
                    "is no folder; several are written into it",
                ));
            }
            check_writable(parent(&inside)?)?;
        }
        let mut taken: HashMap<PathBuf, &Path> = HashMap::new();
        for audio in &self.audio {
            let folder = inside.join(explained(audio));
            if is_there {
                Maps::check_folder(&folder)?;
            }
            if let Some(other) = taken.insert(folder.clone(), audio) {
                return Err(Error::Input(format!(
                    "{} and {} would both be written to {}; explain them one at a time, each with --out",
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
    args.check()?;
    let mut stages = Stages::new();
    let folders = args.folders()?;
    let builder = args.model.builder().profiling(args.profile);
    let wanted = args.generation.wanted(false, None);
    let mut listener = args.model.open(builder.wanted(wanted.clone()))?;
    args.check_model(listener.model())?;
    stages.end("load");
    if args.audio.len() > 1 {
        // What fails for all files fails before the first.
        start(&mut listener)?;
        if let Some(out) = &args.out
            && !out.is_dir()
        {
            fs::create_dir(followed(out)).map_err(|problem| Error::file(out, problem))?;
        }
    }
    for_each_file(&args.audio, |audio| {
        let stages = stages.again();
        let out = &folders[audio];
        explain_file(args, &mut listener, &wanted, stages, audio, out)
    })
}

/// Explains one file and writes its folder.
fn explain_file(
    args: &ExplainArgs,
    listener: &mut Listener,
    wanted: &Wanted,
    mut stages: Stages,
    audio: &Path,
    out: &Path,
) -> Result<()> {
    Maps::check_folder(out)?;
    let shown = progress::work_on(audio, "reading");
    let sound = read_sound(audio)?;
    let fits = listener.check_explainable(&sound);
    fits.map_err(|problem| Error::file(audio, problem))?;
    // A name that follows from the sound's may be that of a like-named sound.
    if args.out.is_none() || args.audio.len() > 1 {
        Maps::check_sound(out, sound.fingerprint())?;
    }
    stages.end("front_end");
    // A text that cannot be explained is refused before a device is started.
    if let Some(text) = &args.text {
        if text.trim().is_empty() {
            return Err(Error::Input(format!("--text {text:?} has no tokens")));
        }
        listener.tokens_of(text)?;
    }
    drop(shown);
    start(listener)?;
    let shown = progress::work_on(audio, "transcribing");
    stages.end("device");
    let heard = match &args.text {
        Some(text) => listener.given(&sound, text)?,
        None => {
            listener.foresee(Some(args.options()));
            let mut show = progress::shower();
            listener.transcribe_as(&sound, wanted, &mut |event| {
                show(&event);
                true
            })?
        }
    };
    progress::stage("explaining");
    warn(&heard.warnings());
    stages.end("generate");

    // Only masks can be cut short: whoever computes none keeps Ctrl-C as it is.
    let watch: Box<dyn FnMut(Progress) -> bool> = match args.method.contains(&MethodName::Spes) {
        true => Box::new(progress::reporter("writing what they gave")),
        false => Box::new(|own| {
            progress::explained(&own);
            true
        }),
    };
    let request = listener.explain(&sound, &heard);
    let mut maps = request.options(args.options()).watch(watch).run()?;
    stages.end("explain");
    progress::stage("writing the maps and their page");
    if args.profile {
        maps.set_profile(profile(listener, stages.seconds)?);
    }
    if args.no_sound {
        maps = maps.without_sound();
    }
    maps.save(out)?;
    drop(shown);
    report(args, audio, maps.explanation(), out)
}

/// Prints what was found of a file.
fn report(args: &ExplainArgs, audio: &Path, explanation: &Explanation, out: &Path) -> Result<()> {
    let several = args.audio.len() > 1;
    if args.json {
        let json = if several {
            serde_json::to_string(explanation)
        } else {
            serde_json::to_string_pretty(explanation)
        };
        return print(&json.map_err(|problem| Error::file("JSON", problem))?);
    }
    let summary = summary(explanation, out);
    match several {
        true => {
            let audio = shown::line(&audio.to_string_lossy());
            print_table(&format!("{audio}: {summary}"))
        }
        false => print_table(&summary),
    }
}

fn profile(listener: &Listener, seconds: Map<String, Value>) -> Result<Value> {
    let profile = listener.profile().unwrap_or_default();
    let profile = serde_json::to_value(ProfileDocument::from(profile));
    let mut profile = profile.map_err(|problem| Error::file("profile", problem))?;
    profile["stage_seconds"] = Value::Object(seconds);
    Ok(profile)
}

/// What a person wants to see at once: the words and when they were said.
fn summary(explanation: &Explanation, out: &Path) -> String {
    let mut text = format!("{}\n", explanation.text);
    if !explanation.words.is_empty() {
        let from = match explanation.words_from.as_str() {
            "attention" => "cross-attention".to_owned(),
            other => other.replace('.', " at "),
        };
        text += &format!("   start      end  when each word was said, by {from}; ? is unsure\n");
    }
    for word in &explanation.words {
        let unsure = if word.reliable { "" } else { "  ?" };
        text += &format!(
            "{:>6.2} s {:>6.2} s  {}{unsure}\n",
            word.start_seconds, word.end_seconds, word.text
        );
    }
    let page = out.join(REPORT);
    text + &format!("open {} in a browser", page.display())
}
