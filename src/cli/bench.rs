//! `sonograd bench`: how long whole models take on a device.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{ModelArgs, Outcome, print, print_table, progress, read_sound};
use crate::bench::Measurement;
use crate::bench::counting::CountingExecutor;
use crate::bench::peak::Peak;
use crate::bench::presets::{PRESETS, Preset};
use crate::bench::subject::Subject;
use crate::bench::works::{Bench, Work};
use crate::engine::device::NativeInfo;
use crate::engine::executor::Executor;
use crate::hub::Hub;
use crate::model::Model;
use crate::model::files::ModelFiles;
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
    /// A sound, and the tokens that the model writes of it, instead of random ones
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["preset", "reference", "seconds", "tokens", "estimate"])]
    audio: Option<PathBuf>,
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
    /// Each operator of the passes below alone, at the sizes it has there
    Kernels,
    /// Log-probabilities under forced decoding
    Forward,
    /// The same, and all tokens' gradients at the features
    Gradient,
    /// Occlusion of the features, without making superpixels
    Spes,
    /// Greedy search
    Generate,
}

impl WorkName {
    /// The pass of that name, unless it is the single operators.
    fn work(self) -> Option<Work> {
        match self {
            Self::Kernels => None,
            Self::Forward => Some(Work::Forward),
            Self::Gradient => Some(Work::Gradient),
            Self::Spes => Some(Work::Spes),
            Self::Generate => Some(Work::Generate),
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
    if args.preset.as_deref() == Some("list") {
        print(&presets(args.json)?)?;
        return Ok(Outcome::Done);
    }
    // Before the model is loaded for measuring, so that it is in memory once.
    let heard = args.audio.as_deref().map(|path| hear(args, path));
    let heard = heard.transpose()?;
    let model = load(args)?;
    let subject = match (heard, &args.reference) {
        (Some(heard), _) => heard,
        (None, Some(path)) => Subject::reference(&model, path)?,
        (None, None) => Subject::random(&model, args.seconds, args.tokens as usize, args.seed)?,
    };
    let spes = [WorkName::Spes, WorkName::Kernels];
    let spes = args.work.iter().any(|name| spes.contains(name));
    let bench = Bench {
        model: &model,
        segmentation: spes.then(|| subject.segmentation(&model)).transpose()?,
        subject: &subject,
        masks: args.masks as usize,
        memory: (args.memory as usize) << 20,
    };
    let open = |profiling: bool| -> Result<Box<dyn Executor>> {
        if args.estimate {
            return Ok(Box::new(CountingExecutor::new(&model.weights)));
        }
        args.model.executor.open(&model.weights, profiling)
    };
    let mut executor = open(false)?;
    let (peak, repeats) = if args.estimate {
        (None, 1)
    } else {
        let peak = Peak::measure(executor.as_mut())?;
        (Some(peak), args.repeats as usize)
    };
    let mut measured: Vec<Measurement> = Vec::new();
    let mut profiling = false;
    for name in &args.work {
        // A GPU tells its own times of single kernels, but whole works are
        // slower while it does.
        let wanted = *name == WorkName::Kernels && executor.kind() == "gpu";
        if wanted != profiling {
            drop(executor);
            executor = open(wanted)?;
            profiling = wanted;
        }
        let report = &mut |work: Work, seconds: f64| {
            if !args.estimate {
                say!("{}: {seconds:.3} s", work.name());
            }
        };
        let executor = executor.as_mut();
        let rows = match name.work() {
            Some(work) => vec![bench.measure(executor, work, repeats, peak, report)?],
            None => bench.kernels(executor, repeats, peak)?,
        };
        for mut one in rows {
            one.preset = args.preset.clone();
            if args.json {
                let line = serde_json::to_string(&one);
                print(&line.map_err(|problem| Error::file("JSON", problem))?)?;
            }
            measured.push(one);
        }
    }
    if !args.json {
        print_table(&table(&measured))?;
    }
    Ok(Outcome::Done)
}

/// All presets with their sizes, as a table or as JSON lines.
fn presets(json: bool) -> Result<String> {
    let mut text = match json {
        true => String::new(),
        false => format!("{:<18} {:>12} {:>10}\n", "preset", "parameters", "f32 MB"),
    };
    for preset in PRESETS {
        let (name, count) = (preset.name, preset.parameters()?);
        let _ = match json {
            true => writeln!(
                text,
                "{}",
                json!({"preset": name, "parameters": count, "assumed": preset.assumed})
            ),
            false => writeln!(
                text,
                "{name:<18} {:>11.1}M {:>10.0}",
                count as f64 / 1e6,
                4.0 * count as f64 / 1e6
            ),
        };
    }
    Ok(text.trim_end().to_owned())
}

/// What the model hears in a sound.
fn hear(args: &BenchArgs, path: &Path) -> Result<Subject> {
    let sound = read_sound(path)?;
    let mut listener = args.model.open(args.model.builder())?;
    let fits = listener.check_explainable(&sound);
    fits.map_err(|problem| Error::file(path, problem))?;
    Subject::heard(&mut listener, &sound)
}

/// The model, unless its weights alone are more than this machine holds.
fn load(args: &BenchArgs) -> Result<Model> {
    let Some(name) = &args.preset else {
        return match &args.model.model {
            Some(place) => {
                let _shown = progress::work("", "loading the model");
                let found = Hub::from_environment().find(place, &mut progress::downloads())?;
                match args.estimate {
                    true => Model::outline(ModelFiles::found(&found)?),
                    false => Model::open(found),
                }
            }
            None => Model::load(ModelFiles::default_model()),
        };
    };
    let preset = Preset::named(name)?;
    let bytes = 4 * preset.parameters()? as u64;
    if let Some(memory) = NativeInfo::detect().memory_bytes
        && bytes > memory
        && !args.estimate
    {
        return Err(Error::Memory(format!(
            "the weights of {name} take {} MB where this machine has {} MB",
            bytes / 1_000_000,
            memory / 1_000_000
        )));
    }
    if !preset.assumed.is_empty() {
        say!("{name}: assumed: {}", preset.assumed.join(", "));
    }
    let files = preset.files(args.seed);
    match args.estimate {
        true => Model::outline(files),
        false => Model::load(files),
    }
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
    let (kernels, works): (Vec<_>, Vec<_>) = measured.iter().partition(|one| one.kernel.is_some());
    if !works.is_empty() {
        works_table(&mut text, &works);
    }
    if !kernels.is_empty() {
        kernels_table(&mut text, &kernels);
    }
    text.trim_end().to_owned()
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.0}%", 100.0 * share))
}

fn works_table(text: &mut String, works: &[&Measurement]) {
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
    for one in works {
        let range = match (one.seconds_min, one.seconds_max) {
            (Some(min), Some(max)) => format!("{min:.3} - {max:.3}"),
            _ => "-".into(),
        };
        let _ = writeln!(
            text,
            "{:<10} {:>10} {range:>21} {:>10.1} {:>9} {:>7} {:>8} {:>9.0} {:>8}",
            one.work,
            number(one.seconds_median, 3),
            one.flops as f64 / 1e9,
            number(one.gflops, 1),
            percent(one.share_of_peak),
            number(one.gbytes_per_s, 1),
            one.peak_memory_bytes as f64 / 1e6,
            number(one.masks_per_s, 1),
        );
    }
}

/// Times of one run; the share is of all operators of the pass, each alone.
fn kernels_table(text: &mut String, kernels: &[&Measurement]) {
    let _ = writeln!(
        text,
        "\n{:<9} {:<22} {:>6} {:>10} {:>5} {:>9} {:>7} {:>7} {:>7}  shapes",
        "pass", "kernel", "calls", "median ms", "share", "GFLOP/s", "of peak", "GB/s", "of copy"
    );
    let in_all = |one: &Measurement| {
        let calls = one.calls.unwrap_or(1) as f64;
        one.seconds_median.map(|seconds| seconds * calls)
    };
    for one in kernels {
        let pass = kernels.iter().filter(|other| other.pass == one.pass);
        let whole: f64 = pass.filter_map(|other| in_all(other)).sum();
        let products = one.flops > 0;
        let bytes = one.gbytes_per_s.zip(one.peak_gbytes_per_s);
        let _ = writeln!(
            text,
            "{:<9} {:<22} {:>6} {:>10} {:>5} {:>9} {:>7} {:>7} {:>7}  {}",
            one.pass.unwrap_or_default(),
            one.kernel.unwrap_or_default(),
            one.calls.unwrap_or_default(),
            number(one.seconds_median.map(|seconds| 1e3 * seconds), 4),
            percent(in_all(one).map(|own| own / whole)),
            number(one.gflops.filter(|_| products), 1),
            percent(one.share_of_peak.filter(|_| products)),
            number(one.gbytes_per_s, 1),
            percent(bytes.map(|(own, peak)| own / peak)),
            one.shapes.as_deref().unwrap_or_default(),
        );
    }
}
