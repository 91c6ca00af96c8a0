//! `sonograd bench`: how long whole models take on a device.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ModelArgs, Outcome, print};
use crate::bench::Measurement;
use crate::bench::counting::CountingExecutor;
use crate::bench::peak::Peak;
use crate::bench::presets::Preset;
use crate::bench::subject::Subject;
use crate::bench::works::{Bench, Work};
use crate::engine::device::NativeInfo;
use crate::engine::executor::Executor;
use crate::model::Model;
use crate::{Error, Result};

/// Measure time, arithmetic and memory of whole models.
///
/// With --preset the model has the sizes of a published one and random weights, so that nothing
/// has to be downloaded; --preset list names them all.
#[derive(Args)]
#[command(
    after_help = "Example:\n  sonograd bench --preset whisper-base --work forward,gradient --seconds 10"
)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A published model's sizes with random weights
    #[arg(long, value_name = "P", conflicts_with = "model")]
    preset: Option<String>,
    /// Features and tokens of a reference file, instead of random ones
    #[arg(long, value_name = "FILE", requires = "model", conflicts_with_all = ["seconds", "tokens"])]
    reference: Option<PathBuf>,
    /// Length of the sound
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = positive)]
    seconds: f64,
    /// Tokens: all are explained, or so many generated
    #[arg(long, value_name = "I", default_value_t = 24,
        value_parser = clap::value_parser!(u32).range(1..=65536))]
    tokens: u32,
    /// What to measure
    #[arg(
        long,
        value_enum,
        value_name = "W,W,...",
        value_delimiter = ',',
        default_values_t = [WorkName::Forward, WorkName::Gradient, WorkName::Spes, WorkName::Generate]
    )]
    work: Vec<WorkName>,
    /// Masks of spes
    #[arg(long, value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..))]
    masks: u32,
    /// Runs of each work
    #[arg(long, value_name = "R", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Memory a pass may take beside the weights, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..))]
    memory: u32,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Compute nothing: only count the operations and the memory that the native executor would
    /// need
    #[arg(long)]
    estimate: bool,
    /// Print a JSON line for each work and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WorkName {
    /// Log-probabilities under forced decoding
    Forward,
    /// The same, and all tokens' gradients at the features
    Gradient,
    /// Occlusion of the features, without making superpixels
    Spes,
    /// Greedy search
    Generate,
}

impl From<WorkName> for Work {
    fn from(name: WorkName) -> Self {
        match name {
            WorkName::Forward => Self::Forward,
            WorkName::Gradient => Self::Gradient,
            WorkName::Spes => Self::Spes,
            WorkName::Generate => Self::Generate,
        }
    }
}

/// A positive number of seconds.
fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err("a number above 0 is wanted".into()),
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<Outcome> {
    measure(args).map_err(|error| match error {
        Error::Memory(problem) => Error::Memory(format!(
            "{problem}; lower --memory or choose a smaller model"
        )),
        other => other,
    })
}

fn measure(args: &BenchArgs) -> Result<Outcome> {
    let model = load(args)?;
    let subject = match &args.reference {
        Some(path) => Subject::reference(&model, path)?,
        None => Subject::random(&model, args.seconds, args.tokens as usize, args.seed)?,
    };
    let works = args.work.iter().map(|&name| Work::from(name));
    let works: Vec<Work> = works.collect();
    let spes = works.contains(&Work::Spes);
    let bench = Bench {
        model: &model,
        segmentation: spes.then(|| subject.segmentation()).transpose()?,
        subject: &subject,
        masks: args.masks as usize,
        memory: (args.memory as usize) << 20,
    };
    let mut executor: Box<dyn Executor> = if args.estimate {
        Box::new(CountingExecutor::new(&model.weights))
    } else {
        args.model.executor.open(&model.weights, false)?
    };
    let executor = executor.as_mut();
    let (peak, repeats) = if args.estimate {
        (None, 1)
    } else {
        (Some(Peak::measure(executor)?), args.repeats as usize)
    };
    let mut measured: Vec<Measurement> = Vec::new();
    for work in works {
        let report = &mut |work: Work, seconds: f64| {
            if !args.estimate {
                eprintln!("{}: {seconds:.3} s", work.name());
            }
        };
        let mut one = bench.measure(executor, work, repeats, peak, report)?;
        one.preset = args.preset.clone();
        if args.json {
            let line = serde_json::to_string(&one);
            print(&line.map_err(|problem| Error::file("JSON", problem))?)?;
        }
        measured.push(one);
    }
    if !args.json {
        print(&table(&measured))?;
    }
    Ok(Outcome::Done)
}

/// The model, unless its weights alone are more than this machine holds.
fn load(args: &BenchArgs) -> Result<Model> {
    let Some(name) = &args.preset else {
        return Ok(args.model.load()?.model);
    };
    let preset = Preset::named(name)?;
    let bytes = 4 * preset.parameters()? as u64;
    if let Some(memory) = NativeInfo::detect().memory_bytes
        && bytes > memory
    {
        return Err(Error::Memory(format!(
            "the weights of {name} take {} MB where this machine has {} MB",
            bytes / 1_000_000,
            memory / 1_000_000
        )));
    }
    if !preset.assumed.is_empty() {
        eprintln!("{name}: assumed: {}", preset.assumed.join(", "));
    }
    Model::load(preset.files(args.seed))
}

/// What one would paste into an issue.
fn table(measured: &[Measurement]) -> String {
    let mut text = String::new();
    let Some(first) = measured.first() else {
        return text;
    };
    let kind = match first.preset {
        Some(_) => "preset",
        None => "model",
    };
    let _ = writeln!(
        text,
        "sonograd {} on {} {}, {} {}: {}",
        first.sonograd,
        std::env::consts::OS,
        std::env::consts::ARCH,
        first.executor,
        first.precision,
        first.device,
    );
    let _ = writeln!(
        text,
        "{kind} {}: {:.1}M parameters, {:.0} MB; {} frames, {} tokens",
        first.model,
        first.parameters as f64 / 1e6,
        first.weight_bytes as f64 / 1e6,
        first.frames,
        first.tokens,
    );
    if let (Some(flops), Some(bytes)) = (first.peak_gflops, first.peak_gbytes_per_s) {
        let _ = writeln!(
            text,
            "peak: {flops:.0} GFLOP/s (product), {bytes:.1} GB/s (copy)"
        );
    }
    let _ = writeln!(
        text,
        "\n{:<10} {:>10} {:>21} {:>10} {:>9} {:>7} {:>8} {:>9} {:>8}",
        "work",
        "median s",
        "min - max s",
        "GFLOP",
        "GFLOP/s",
        "of peak",
        "GB/s",
        "memory MB",
        "masks/s"
    );
    let number = |value: Option<f64>, digits: usize| {
        value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
    };
    for one in measured {
        let range = match (one.seconds_min, one.seconds_max) {
            (Some(min), Some(max)) => format!("{min:.3} - {max:.3}"),
            _ => "-".into(),
        };
        let share = one.share_of_peak.map(|share| 100.0 * share);
        let share = share.map_or("-".to_owned(), |share| format!("{share:.0}%"));
        let _ = writeln!(
            text,
            "{:<10} {:>10} {range:>21} {:>10.1} {:>9} {share:>7} {:>8} {:>9.0} {:>8}",
            one.work,
            number(one.seconds_median, 3),
            one.flops as f64 / 1e9,
            number(one.gflops, 1),
            number(one.gbytes_per_s, 1),
            one.peak_memory_bytes as f64 / 1e6,
            number(one.masks_per_s, 1),
        );
    }
    text.trim_end().to_owned()
}
