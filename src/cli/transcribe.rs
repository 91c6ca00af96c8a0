//! `sonograd transcribe`: what was said.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{FallbackArgs, GenerationArgs, ModelArgs, Outcome, for_each_file, print};
use crate::audio;
use crate::features::{FRAME_SECONDS, Features};
use crate::generate::{GenerationOptions, Quality, Segment, Transcript, transcribe};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Write down what was said.
#[derive(Args)]
#[command(after_help = "Example:\n  sonograd transcribe --beam 5 samples/*.wav")]
pub(super) struct TranscribeArgs {
    /// Sound files (WAV, FLAC, MP3, OGG, M4A, AAC)
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
    let loaded = args.model.load()?;
    let tokenizer = loaded.tokenizer()?;
    let timestamps = args.timestamps;
    let options = args.generation.options(
        &loaded.model,
        &tokenizer,
        timestamps,
        args.fallback.wanted()?,
    )?;
    let mut executor = args.model.executor.open(&loaded.model.weights, false)?;
    for_each_file(&args.audio, |path| {
        let waveform = audio::load(path)?;
        let features = loaded.front_end.recording(&waveform);
        let features = features.map_err(|problem| Error::file(path, problem))?;
        let transcript = transcribe(executor.as_mut(), &loaded.model, &features, &options);
        let transcript = transcript.map_err(|problem| Error::file(path, problem))?;
        if transcript.truncated() {
            eprintln!("warning: the length limit cut the transcript short");
        }
        let written = Written::new(&loaded.model, &tokenizer, &options, &features, &transcript);
        print(&written.line(args, path))
    })
}

/// A transcript as it is printed.
struct Written {
    text: String,
    tokens: Vec<u32>,
    score: f64,
    truncated: bool,
    segments: Vec<Segment>,
    /// With fallback, by window.
    windows: Vec<WrittenWindow>,
}

/// What was found of a window.
#[derive(Serialize)]
struct WrittenWindow {
    start_seconds: f64,
    #[serde(flatten)]
    quality: Quality,
}

impl Written {
    fn new(
        model: &Model,
        tokenizer: &Tokenizer,
        options: &GenerationOptions,
        features: &Features,
        transcript: &Transcript,
    ) -> Self {
        let tokens = transcript.tokens(model.tokens.end);
        let windows = transcript.windows.iter();
        let count = transcript.windows.len() as f64;
        let mut segments = transcript.segments(model, options, features);
        for segment in &mut segments {
            segment.text = tokenizer.decode(&segment.tokens).trim().to_owned();
        }
        Self {
            text: tokenizer.decode(&tokens).trim().to_owned(),
            tokens,
            score: windows.map(|window| window.generated.score).sum::<f64>() / count,
            truncated: transcript.truncated(),
            segments,
            windows: transcript
                .windows
                .iter()
                .filter_map(|window| {
                    Some(WrittenWindow {
                        start_seconds: window.seek as f64 * FRAME_SECONDS,
                        quality: window.generated.quality?,
                    })
                })
                .collect(),
        }
    }

    fn line(&self, args: &TranscribeArgs, path: &Path) -> String {
        if args.json {
            let mut value = json!({
                "audio": path.display().to_string(),
                "text": self.text,
                "tokens": self.tokens,
                "score": self.score,
                "truncated": self.truncated,
            });
            if args.timestamps {
                value["segments"] = json!(self.segments);
            }
            if args.fallback.fallback {
                value["windows"] = json!(self.windows);
            }
            return value.to_string();
        }
        let name = match args.audio.len() {
            1 => String::new(),
            _ => format!("{}: ", path.display()),
        };
        if !args.timestamps {
            return format!("{name}{}", self.text);
        }
        let lines = self.segments.iter().map(|segment| {
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
}
