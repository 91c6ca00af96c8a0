//! `sonograd transcribe`: what was said.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{
    FallbackArgs, GenerationArgs, ModelArgs, Outcome, for_each_file, print, print_text, progress,
    read_quietly, start, warn, warn_of,
};
use crate::audio;
use crate::explain::{Event, Written};
use crate::generate::{Quality, Segment};
use crate::listener::{Heard, Warning};
use crate::{Error, Result};

/// Write down what was said.
#[derive(Args)]
#[command(after_help = "Example:\n  sonograd transcribe --beam 5 samples/*.{wav,flac}")]
pub(super) struct TranscribeArgs {
    /// Sound files (WAV, AIFF, AU, SPHERE, FLAC, MP3, OGG, Opus, WebM, M4A, AAC); - is standard
    /// input
    #[arg(required = true, value_name = "AUDIO")]
    audio: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    generation: GenerationArgs,
    /// Write the times that Whisper gives, a line for each segment; with them recordings longer
    /// than its window are cut between segments
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    fallback: FallbackArgs,
    /// Print JSON, one line per file, and nothing else
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &TranscribeArgs) -> Result<Outcome> {
    let wanted = args
        .generation
        .wanted(args.timestamps, args.fallback.wanted()?);
    let builder = args.model.builder().wanted(wanted.clone());
    let mut listener = args.model.open(builder)?;
    start(&mut listener)?;
    for_each_file(&args.audio, |path| {
        let _shown = progress::work_on(path, "reading");
        let sound = read_quietly(path)?;
        progress::stage("transcribing");
        // Who asks for no times need not know that they may be late.
        let warnings = sound.warnings().iter();
        let warnings = warnings.filter(|own| args.timestamps || !own.concerns_times());
        let warnings: Vec<&audio::Warning> = warnings.collect();
        warn_of(path, warnings.iter().copied());
        let mut lines = Lines::new(args, path);
        let mut show = progress::shower();
        let heard = listener.transcribe_as(&sound, &wanted, &mut |event| {
            show(&event);
            match event {
                Event::Written(window) => lines.print(&window),
                _ => true,
            }
        });
        let heard = heard.map_err(|problem| Error::file(path, problem))?;
        warn(&heard.warnings());
        match args.json {
            true => print(&json_line(args, path, &heard, &warnings)),
            false => lines.end(),
        }
    })
}

/// What is printed of one file, window after window.
struct Lines<'a> {
    args: &'a TranscribeArgs,
    /// Before each line.
    name: String,
    printed: usize,
    problem: Option<Error>,
}

impl<'a> Lines<'a> {
    fn new(args: &'a TranscribeArgs, path: &Path) -> Self {
        Self {
            args,
            name: match args.audio.len() {
                1 => String::new(),
                _ => format!("{}: ", path.display()),
            },
            printed: 0,
            problem: None,
        }
    }

    /// Prints a window, if anything was said in it; returns whether that
    /// worked.
    fn print(&mut self, window: &Written) -> bool {
        let text = match self.args {
            args if args.json => String::new(),
            args if args.timestamps => self.segments(window.segments),
            _ if window.text.is_empty() => String::new(),
            _ => format!("{}{}", self.name, window.text),
        };
        if !text.is_empty() {
            self.printed += 1;
            self.problem = print_text(&text).err();
        }
        self.problem.is_none()
    }

    fn segments(&self, segments: &[Segment]) -> String {
        let name = &self.name;
        let lines = segments.iter().map(|segment| {
            let Segment {
                start_seconds,
                end_seconds,
                text,
                ..
            } = segment;
            format!("{name}{start_seconds:8.2} s {end_seconds:8.2} s  {text}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Where nothing was said there is an empty line.
    fn end(self) -> Result<()> {
        match self.problem {
            Some(problem) => Err(problem),
            None if self.printed > 0 => Ok(()),
            None if self.args.timestamps => print(""),
            None => print_text(&self.name),
        }
    }
}

/// What was found of a window.
#[derive(Serialize)]
struct WrittenWindow {
    start_seconds: f64,
    #[serde(flatten)]
    quality: Quality,
}

/// With fallback, by window.
fn windows(heard: &Heard) -> Vec<WrittenWindow> {
    let windows = heard.transcript().into_iter();
    let windows = windows.flat_map(|transcript| &transcript.windows);
    let written = windows.filter_map(|window| {
        Some(WrittenWindow {
            start_seconds: window.start_seconds,
            quality: window.generated.quality?,
        })
    });
    written.collect()
}

fn json_line(
    args: &TranscribeArgs,
    path: &Path,
    heard: &Heard,
    warnings: &[&audio::Warning],
) -> String {
    let mut value = json!({
        "audio": path.display().to_string(),
        "text": heard.text(),
        "tokens": heard.tokens(),
        "score": heard.score(),
        "truncated": heard.warnings().contains(&Warning::Truncated),
    });
    if !warnings.is_empty() {
        let words = warnings.iter().map(ToString::to_string);
        value["warnings"] = words.collect();
    }
    if args.timestamps {
        value["segments"] = json!(heard.segments());
    }
    if args.fallback.fallback {
        value["windows"] = json!(windows(heard));
    }
    value.to_string()
}
