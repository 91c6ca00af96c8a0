//! The command line: one file per subcommand.
//!
//! Exit codes: 0 done, 1 done with failed items or checks, 2 could not run.

#[macro_use]
mod say;

mod align;
mod bench;
pub mod devices;
mod explain;
mod heads;
mod limits;
mod progress;
mod shown;
pub mod study;
mod transcribe;
mod usage;
mod validate;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::audio::{self, Sound};
use crate::engine::device::{self, DeviceChoice};
use crate::engine::executor::Executor;
use crate::engine::precision::Precision;
use crate::engine::weights::WeightTable;
use crate::explain::ExplainOptions;
use crate::explain::spes::{SpesOptions, Stop};
use crate::gauge::Gauge;
use crate::generate::{Fallback, Wanted};
use crate::hub::Hub;
use crate::listener::{Builder, Listener, Warning};
use crate::model::files::ModelFiles;
use crate::{Error, Result};

/// Exit codes.
const DONE: u8 = 0;
const WITH_FAILURES: u8 = 1;
const FAILED: u8 = 2;

/// Which sound made a speech-to-text model write each word.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Devices(DevicesArgs),
    Transcribe(transcribe::TranscribeArgs),
    Align(Box<align::AlignArgs>),
    Explain(Box<explain::ExplainArgs>),
    Study(Box<study::StudyArgs>),
    Heads(heads::HeadsArgs),
    Validate(validate::ValidateArgs),
    Bench(bench::BenchArgs),
}

/// List the devices that could do the work, and which one `auto` takes.
#[derive(Args)]
#[command(after_help = "Example:\n  sonograd devices --json")]
struct DevicesArgs {
    /// Print JSON and nothing else
    #[arg(long)]
    json: bool,
}

/// How a subcommand that ran to its end went.
#[derive(PartialEq, Eq)]
enum Outcome {
    Done,
    /// Some items or checks failed; what could be done was done.
    Failures,
}

/// Parses this process' command line, runs it and gives the exit code.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os()))
}

/// The program as a function: parses `arguments`, of which the first is the
/// program's own name, runs them and gives the exit code. Standard output and
/// error are this process' own; whoever presses Ctrl-C twice ends it.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    limits::refuse_too_large_files();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(message) => {
            if message.use_stderr() {
                let first = arguments.get(1).cloned().unwrap_or_default();
                say!("{}", usage::line(&message, &first.to_string_lossy()));
                return FAILED;
            }
            return match message.print() {
                Err(problem) if problem.kind() != ErrorKind::BrokenPipe => {
                    say!("error: {}", Error::file("standard output", problem));
                    FAILED
                }
                _ => DONE,
            };
        }
    };
    let outcome = match cli.command {
        Command::Devices(args) => devices::run(args.json).map(|()| Outcome::Done),
        Command::Transcribe(args) => transcribe::run(&args),
        Command::Align(args) => align::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Study(args) => study::run(&args),
        Command::Heads(args) => heads::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match outcome {
        Ok(Outcome::Done) => DONE,
        Ok(Outcome::Failures) => WITH_FAILURES,
        Err(error) => {
            say!("error: {error}");
            FAILED
        }
    }
}

/// The model and the device, as most subcommands take them.
#[derive(Args)]
struct ModelArgs {
    /// Model folder as Hugging Face saves it, CTranslate2's, or a LoRA adapter's; OpenAI's file
    /// (.pt); or OWNER/NAME or OWNER/NAME@REVISION on the hub
    /// [default: the small English model that is part of the program]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: Option<PathBuf>,
    #[command(flatten)]
    executor: ExecutorArgs,
}

/// Where and how to compute.
#[derive(Args, Clone)]
struct ExecutorArgs {
    /// Where to compute: auto, cpu, gpu, or part of an adapter's name
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// In which numbers to compute
    #[arg(long, value_enum, default_value_t)]
    precision: PrecisionName,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PrecisionName {
    #[default]
    F32,
    /// Weights stored as f16, arithmetic in f32; GPUs only
    F16Weights,
    /// The same, and forward products in f16 on matrix units; GPUs that have them
    Mixed,
    /// The native executor only
    F64,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::F16Weights => Self::F16Weights,
            PrecisionName::Mixed => Self::Mixed,
            PrecisionName::F64 => Self::F64,
        }
    }
}

/// How SPES draws its masks, and what a pass may take.
#[derive(Args)]
struct MaskArgs {
    /// SPES: score exactly this many masks
    #[arg(long, value_name = "N", conflicts_with = "reliability",
        value_parser = clap::value_parser!(u32).range(1..))]
    masks: Option<u32>,
    /// SPES: stop when the map is this reliable [default: 0.9]
    #[arg(long, value_name = "R", value_parser = explain::fraction)]
    reliability: Option<f64>,
    /// SPES: seed of the masks
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Memory a pass may take beside the weights, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..))]
    memory: u32,
}

impl MaskArgs {
    /// Whether an option is given that only SPES takes.
    fn given(&self) -> bool {
        self.masks.is_some() || self.reliability.is_some()
    }

    fn stop(&self) -> Stop {
        match (self.masks, self.reliability, SpesOptions::default().stop) {
            (Some(masks), _, _) => Stop::Masks(masks as usize),
            (None, Some(reliability), _) => Stop::Reliability(reliability),
            (None, None, default) => default,
        }
    }

    /// Options of an explanation that these say something about.
    fn explain_options(&self) -> ExplainOptions {
        ExplainOptions {
            memory: (self.memory as usize) << 20,
            seed: self.seed,
            spes: SpesOptions {
                stop: self.stop(),
                ..SpesOptions::default()
            },
            ..ExplainOptions::default()
        }
    }
}

/// How to search for what was said.
#[derive(Args)]
struct GenerationArgs {
    /// Language to write, by code or name, for models with languages [default: the model's, or
    /// what Whisper hears]
    #[arg(long, value_name = "L")]
    language: Option<String>,
    /// What Whisper and Canary write: `transcribe` the language that is spoken, `translate` into
    /// English, Canary also `translate:LANGUAGE` [default: the model's, or transcribe]
    #[arg(long, value_parser = task)]
    task: Option<String>,
    /// Hypotheses kept in the search; 1 is greedy [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    beam: Option<u16>,
}

/// The value of `--task`. Which languages there are is the model's to say.
fn task(text: &str) -> std::result::Result<String, String> {
    let known = text == "transcribe" || text == "translate";
    match known || text.starts_with("translate:") {
        true => Ok(text.to_owned()),
        false => Err("transcribe, translate and translate:LANGUAGE are there".into()),
    }
}

impl GenerationArgs {
    fn wanted(&self, timestamps: bool, fallback: Option<Fallback>) -> Wanted {
        Wanted {
            language: self.language.clone(),
            task: self.task.clone(),
            task_after_detection: true,
            beams: self.beam.map(usize::from),
            timestamps,
            fallback,
        }
    }
}

/// When to draw tokens again.
#[derive(Args)]
struct FallbackArgs {
    /// Where what was written is improbable or repeats itself, draw it again at higher temperatures;
    /// improbable words where Whisper hears silence are left out
    #[arg(long, help_heading = "Fallback")]
    fallback: bool,
    /// Temperatures to try in order; 0 searches [default: 0,0.2,0.4,0.6,0.8,1]
    #[arg(
        long,
        value_name = "T,...",
        value_delimiter = ',',
        requires = "fallback",
        help_heading = "Fallback"
    )]
    temperatures: Option<Vec<f32>>,
    /// Repeats itself: zlib makes its tokens smaller by more than this factor [default: 1.35]
    #[arg(long, value_name = "X", requires = "fallback", value_parser = finite,
        help_heading = "Fallback")]
    compression_ratio: Option<f64>,
    /// Improbable: the mean logarithm of its tokens' probabilities is below this [default: -1]
    #[arg(long, value_name = "X", requires = "fallback", value_parser = finite,
        allow_negative_numbers = true, help_heading = "Fallback")]
    log_probability: Option<f64>,
    /// Silence: Whisper gives it more than this probability [default: 0.6]
    #[arg(long, value_name = "P", requires = "fallback", value_parser = explain::fraction,
        help_heading = "Fallback")]
    no_speech: Option<f64>,
}

impl FallbackArgs {
    fn wanted(&self) -> Result<Option<Fallback>> {
        let default = Fallback::default();
        let fallback = Fallback {
            temperatures: self.temperatures.clone().unwrap_or(default.temperatures),
            compression_ratio: self.compression_ratio.unwrap_or(default.compression_ratio),
            log_probability: self.log_probability.unwrap_or(default.log_probability),
            no_speech: self.no_speech.unwrap_or(default.no_speech),
            seed: default.seed,
        };
        fallback.check()?;
        Ok(self.fallback.then_some(fallback))
    }
}

/// A number that is one.
fn finite(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("not a number".into()),
    }
}

impl ModelArgs {
    /// The model and the device; the device is opened by [`start`].
    fn builder(&self) -> Builder {
        let builder = Listener::builder()
            .device(self.executor.device.to_string())
            .precision(self.executor.precision.into())
            .start_later();
        match &self.model {
            Some(place) => builder.model(place),
            None => builder,
        }
    }

    /// Finds the model, and gives the name that it will have; shows downloads.
    fn find(&self) -> Result<String> {
        let Some(place) = &self.model else {
            return Ok(ModelFiles::default_model().name());
        };
        let _shown = progress::work("", "looking for the model");
        let found = Hub::from_environment().find(place, &mut progress::downloads())?;
        let files = ModelFiles::found(&found)?;
        Ok(found.source.map_or_else(|| files.name(), |own| own.name))
    }

    /// Opens the listener; shows downloads, and weights that are read.
    fn open(&self, builder: Builder) -> Result<Listener> {
        let loading = Gauge::default();
        let name = self.model.as_deref().unwrap_or(Path::new(""));
        let _shown = progress::work_on(name, "");
        progress::gauged("loading the model", &loading);
        let builder = builder.loading(&loading);
        builder.open_watched(&mut progress::downloads())
    }
}

/// Opens a listener's device, if it is not open, and says on standard error
/// which one it is, and in which numbers it computes where that is unusual.
fn start(listener: &mut Listener) -> Result<()> {
    if listener.device().is_some() {
        return Ok(());
    }
    let shown = progress::work("", "starting the device");
    listener.start()?;
    drop(shown);
    // Processors are ready at once.
    let gpu = listener.parts()?.executor.kind() == "gpu";
    progress::compiles(listener.compiling().filter(|_| gpu));
    warn(listener.warnings());
    if let Some((name, precision)) = listener.device() {
        say_device(&name, precision);
    }
    Ok(())
}

fn say_device(name: &str, precision: Precision) {
    match precision {
        Precision::F32 => say!("device: {name}"),
        other => say!("device: {name}, {other}"),
    }
}

/// Where a path is a sound's, this is standard input, and what that is called.
const STANDARD_INPUT: &str = "-";
const STANDARD_INPUT_NAME: &str = "standard input";

/// Reads a sound and says on standard error what is odd about it.
fn read_sound(path: &Path) -> Result<Sound> {
    let sound = read_quietly(path)?;
    warn_of(path, sound.warnings());
    Ok(sound)
}

fn read_quietly(path: &Path) -> Result<Sound> {
    if path != Path::new(STANDARD_INPUT) {
        return Sound::read(path);
    }
    let sound = Sound::from_reader(std::io::stdin().lock());
    let sound = sound.map_err(|problem| Error::file(STANDARD_INPUT_NAME, problem))?;
    Ok(sound.named(STANDARD_INPUT_NAME))
}

fn warn_of<'a>(path: &Path, warnings: impl IntoIterator<Item = &'a audio::Warning>) {
    let name = match path == Path::new(STANDARD_INPUT) {
        true => Path::new(STANDARD_INPUT_NAME),
        false => path,
    };
    for warning in warnings {
        say!("warning: {}: {warning}", name.display());
    }
}

/// What files are called that are written about a sound.
fn stem(audio: &Path) -> OsString {
    match audio == Path::new(STANDARD_INPUT) {
        true => "standard-input".into(),
        false => audio.file_stem().unwrap_or_default().to_os_string(),
    }
}

fn warn(warnings: &[Warning]) {
    for warning in warnings {
        say!("warning: {warning}");
    }
}

impl ExecutorArgs {
    /// Opens the device and says on standard error which one it is, and in
    /// which numbers it computes where that is unusual.
    fn open(&self, weights: &WeightTable, profiling: bool) -> Result<Box<dyn Executor>> {
        let (device, warning) = device::open(&self.device)?;
        if let Some(warning) = warning {
            say!("warning: {warning}");
        }
        let (executor, warning) =
            device::executor(device, weights, self.precision.into(), profiling)?;
        if let Some(warning) = warning {
            say!("warning: {warning}");
        }
        say_device(&executor.name(), executor.precision());
        Ok(executor)
    }
}

/// Does `work` for every file. Where it fails the others are done all the
/// same, unless the one file is the whole work.
///
/// # Errors
/// That of the only file, or if standard input is to be read twice.
fn for_each_file(files: &[PathBuf], mut work: impl FnMut(&Path) -> Result<()>) -> Result<Outcome> {
    let inputs = files
        .iter()
        .filter(|path| **path == Path::new(STANDARD_INPUT));
    if inputs.count() > 1 {
        let problem = "standard input (-) is given twice, and can be read once";
        return Err(Error::Input(problem.into()));
    }
    if let [only] = files {
        return work(only).map(|()| Outcome::Done);
    }
    let mut failed = 0;
    for path in files {
        if progress::stopped() {
            say!("stopped before {}", path.display());
            failed += 1;
        } else if let Err(error) = work(path) {
            say!("error: {error}");
            failed += 1;
        }
    }
    if failed == 0 {
        return Ok(Outcome::Done);
    }
    say!("{failed} of {} files failed", files.len());
    Ok(Outcome::Failures)
}

/// Prints what was said, of any length, with what is not safe to print escaped.
fn print_text(text: &str) -> Result<()> {
    print(&shown::text(text))
}

/// The same of a table, whose lines are of bounded length.
fn print_table(text: &str) -> Result<()> {
    let lines: Vec<String> = text.lines().map(shown::line).collect();
    print(&lines.join("\n"))
}

/// Prints to standard output as it is; a reader that has gone away is no failure.
fn print(text: &str) -> Result<()> {
    match progress::aside(|| writeln!(std::io::stdout(), "{text}")) {
        Err(problem) if problem.kind() != ErrorKind::BrokenPipe => {
            Err(Error::file("standard output", problem))
        }
        _ => Ok(()),
    }
}
