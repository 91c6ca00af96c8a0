//! `sonograd transcribe`: what was said.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{LoadedModel, ModelArgs, Outcome, Precision, for_each_file, print};
use crate::Result;
use crate::engine::executor::Executor;
use crate::generate::{Generated, GenerationOptions, generate};
use crate::tokenizer::Tokenizer;

/// Write down what was said.
#[derive(Args)]
#[command(after_help = "Example:\n  sonograd transcribe --beam 5 samples/*.wav")]
pub(super) struct TranscribeArgs {
    /// Sound files (WAV, FLAC, MP3, OGG, M4A, AAC)
    #[arg(required = true, value_name = "AUDIO")]
    audio: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Language to write, for models with language tags
    #[arg(long, value_name = "L")]
    language: Option<String>,
    /// Hypotheses kept in the search; 1 is greedy [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    beam: Option<u16>,
    /// Print JSON, one line per file, and nothing else
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &TranscribeArgs) -> Result<Outcome> {
    let loaded = args.model.load()?;
    let tokenizer = loaded.tokenizer()?;
    let beams = args.beam.map(usize::from);
    let language = args.language.as_deref();
    let options = GenerationOptions::new(&loaded.model, &tokenizer, language, beams)?;
    let mut executor = args
        .model
        .executor(&loaded.model.weights, Precision::F32, false)?;
    for_each_file(&args.audio, |path| {
        let generated = transcribe(executor.as_mut(), &loaded, path, &options)?;
        print(&line(args, path, &tokenizer, &generated))
    })
}

fn transcribe(
    executor: &mut dyn Executor,
    loaded: &LoadedModel,
    path: &Path,
    options: &GenerationOptions,
) -> Result<Generated> {
    let (_, features) = loaded.listen(path)?;
    generate(executor, &loaded.model, &features, options)
}

fn line(
    args: &TranscribeArgs,
    path: &Path,
    tokenizer: &Tokenizer,
    generated: &Generated,
) -> String {
    let text = tokenizer.decode(&generated.tokens);
    if args.json {
        let value = json!({
            "audio": path.display().to_string(),
            "text": text,
            "tokens": generated.tokens,
            "score": generated.score,
            "truncated": generated.truncated,
        });
        value.to_string()
    } else if args.audio.len() == 1 {
        text
    } else {
        format!("{}: {text}", path.display())
    }
}
