//! `sonograd align`: when each word was said.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::progress;
use super::{
    FallbackArgs, GenerationArgs, MaskArgs, ModelArgs, Outcome, for_each_file, print, read_sound,
    start, stem, warn,
};
use crate::align::formats::{AlignedRecording, Format, ctm_id};
use crate::align::{AlignOptions, Rule};
use crate::explain::alignment::{
    AlignmentOptions, Crop, Head, Source, all_heads, check_heads, model_heads,
};
use crate::explain::{Event, Method, Site};
use crate::files::{check_own_whole, check_place, check_writable, followed, parent, write};
use crate::model::Model;
use crate::plain::{self, read_text};
use crate::{Error, Result};

/// Say when each word was said.
///
/// The best way through a map of tokens over time is found, on which words may be parted by the
/// silence that the sound's level tells.
#[derive(Args)]
#[command(
    after_help = "Example:\n  sonograd align samples/*.{wav,flac} --format textgrid --out textgrids"
)]
pub(super) struct AlignArgs {
    /// Sound files (WAV, AIFF, AU, SPHERE, FLAC, MP3, OGG, Opus, WebM, M4A, AAC); - is standard
    /// input
    #[arg(required = true, value_name = "AUDIO")]
    audio: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    generation: GenerationArgs,
    /// Whisper writes times as it listens, so that nothing behind a pause is lost and recordings
    /// longer than its window are cut between segments; without them it hears windows of 30 s
    #[arg(long, conflicts_with_all = ["text", "transcript"])]
    no_timestamps: bool,
    #[command(flatten)]
    fallback: FallbackArgs,
    /// Find the words of this text instead of what the model hears; for one file only
    #[arg(long, conflicts_with_all = ["transcript", "fallback"])]
    text: Option<String>,
    /// As --text, with the text in a file
    #[arg(long, value_name = "FILE", conflicts_with = "fallback")]
    transcript: Option<PathBuf>,
    /// What says when a token was said [default: attention for Whisper, gradient for others]
    #[arg(long, value_enum, value_name = "MAP")]
    from: Option<MapName>,
    /// Where spes and gradient look [default: input]
    #[arg(long, value_enum, value_name = "SITE")]
    at: Option<SiteName>,
    /// Heads of the cross-attention, as in 2.0,3.5: layer and head from 0; model: those that its
    /// generation_config.json names; all [default: model]
    #[arg(long, value_name = "L.H,...|model|all", value_parser = heads)]
    heads: Option<Heads>,
    /// What of Whisper's window counts where the sound does not fill it: cut attention before the
    /// softmax, after it, or not at all [default: before]
    #[arg(long, value_enum)]
    crop: Option<CropName>,
    /// Frames of the median filter, an odd number; 1 is none
    #[arg(long, value_name = "N", default_value_t = AlignOptions::default().median, value_parser = odd)]
    median: usize,
    /// How the way through the map is found
    #[arg(long, value_enum, value_name = "RULE", default_value_t)]
    rule: RuleName,
    #[command(flatten)]
    masks: MaskArgs,
    /// How to write the times
    #[arg(long, value_enum, default_value_t)]
    format: FormatName,
    /// File to write, or folder to write a file for each recording into [default: standard output]
    #[arg(long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MapName {
    /// Cross-attention of all heads
    Attention,
    /// Cross-attention of the heads that --heads chooses
    Heads,
    /// Occlusion by random masks
    Spes,
    /// Size of the gradient
    Gradient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SiteName {
    /// The features, pooled to the encoder's frames
    Input,
    /// The encoder's output
    Encoder,
}

impl From<SiteName> for Site {
    fn from(name: SiteName) -> Self {
        match name {
            SiteName::Input => Self::Input,
            SiteName::Encoder => Self::Encoder,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CropName {
    Before,
    After,
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RuleName {
    /// Words may be parted by silence; heads that know the words count more
    #[default]
    Silences,
    /// As OpenAI's whisper: every frame belongs to a word
    Whisper,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heads {
    Model,
    All,
    These(Vec<Head>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// One line for each recording
    #[default]
    Json,
    /// NIST's, one line for each word, recordings in the order of their names
    Ctm,
    /// Subtitles
    Srt,
    /// Subtitles with a time for each word
    Vtt,
    /// The same without times of words, for readers that know cues alone
    VttLines,
    /// Praat's
    #[value(name = "textgrid")]
    TextGrid,
}

impl FormatName {
    fn format(self) -> Format {
        match self {
            Self::Json => Format::Json,
            Self::Ctm => Format::Ctm,
            Self::Srt => Format::Srt,
            Self::Vtt => Format::Vtt,
            Self::VttLines => Format::VttLines,
            Self::TextGrid => Format::TextGrid,
        }
    }
}

fn heads(text: &str) -> std::result::Result<Heads, String> {
    let head = |text: &str| {
        let (layer, head) = text.split_once('.')?;
        Some([layer.parse().ok()?, head.parse().ok()?])
    };
    match text {
        "model" => Ok(Heads::Model),
        "all" => Ok(Heads::All),
        _ => {
            let mut heads: Vec<Head> = Vec::new();
            for part in text.split(',') {
                let wanted = "heads are written as layer.head, both from 0, as in 2.0,3.5";
                let head = head(part.trim()).ok_or_else(|| wanted.to_owned())?;
                if !heads.contains(&head) {
                    heads.push(head);
                }
            }
            Ok(Heads::These(heads))
        }
    }
}

fn odd(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n) if n % 2 == 1 => Ok(n),
        _ => Err("an odd number is wanted".into()),
    }
}

pub(super) fn run(args: &AlignArgs) -> Result<Outcome> {
    let text = args.given_text()?;
    let mut output = Output::new(args)?;
    let wanted = args.generation.wanted(false, args.fallback.wanted()?);
    let untimed = args.no_timestamps.then(|| wanted.clone());
    let mut listener = args.model.open(args.model.builder().wanted(wanted))?;
    let options = args.options(listener.model())?;
    start(&mut listener)?;
    let masked = matches!(options.source, Source::Map(Method::Spes, _));
    // Only masks can be cut short: whoever scores none keeps Ctrl-C as it is.
    let mut masks = masked.then(|| progress::reporter("aligning by what they gave"));
    let outcome = for_each_file(&args.in_order(), |path| {
        let name = path.display().to_string();
        let _shown = progress::work_on(path, "reading");
        let sound = read_sound(path)?.named(name);
        progress::stage("transcribing");
        let mut show = progress::shower();
        let watch = |event: Event| match (event, &mut masks) {
            (Event::Explained(progress), Some(masks)) => masks(progress),
            (event, _) => {
                show(&event);
                true
            }
        };
        let mut request = listener.align(&sound).options(options.clone()).watch(watch);
        if let Some(text) = &text {
            request = request.text(text);
        }
        if let Some(wanted) = &untimed {
            request = request.wanted(wanted.clone());
        }
        let aligned = request.run();
        let aligned = aligned.map_err(|problem| Error::file(path, problem))?;
        warn(&aligned.warnings());
        output.add(path, &aligned.recording())
    })?;
    output.finish()?;
    Ok(outcome)
}

impl AlignArgs {
    /// The recordings in the order in which they are written.
    fn in_order(&self) -> Vec<PathBuf> {
        let mut audio = self.audio.clone();
        if self.format == FormatName::Ctm {
            audio.sort_by_cached_key(|path| ctm_id(path));
        }
        audio
    }

    /// The text whose words are to be found, if one is given.
    fn given_text(&self) -> Result<Option<String>> {
        let (name, text) = match (&self.text, &self.transcript) {
            (None, None) => return Ok(None),
            (Some(text), _) => ("--text".to_owned(), text.clone()),
            (None, Some(file)) => (file.display().to_string(), read_text(file)?),
        };
        if self.audio.len() > 1 {
            let problem = "a text is for one file; give one, or leave the text to the model";
            return Err(Error::Input(problem.into()));
        }
        // Lines are how a text is laid out, not how it is spoken.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match text.as_str() {
            "" => Err(Error::Input(format!("{name}: the text has no words"))),
            _ => Ok(Some(text)),
        }
    }

    /// How words are found. Options that would have no effect are refused.
    fn options(&self, model: &Model) -> Result<AlignmentOptions> {
        let default = AlignmentOptions::by(self.source(model)?);
        Ok(AlignmentOptions {
            crop: match self.crop {
                None | Some(CropName::Before) => Crop::Before,
                Some(CropName::After) => Crop::After,
                Some(CropName::None) => Crop::None,
            },
            prepared: AlignOptions {
                median: self.median,
                rule: match self.rule {
                    RuleName::Silences => Rule::Silences,
                    RuleName::Whisper => Rule::Whisper,
                },
                ..default.prepared
            },
            explain: self.masks.explain_options(),
            ..default
        })
    }

    fn source(&self, model: &Model) -> Result<Source> {
        let from = match (self.from, &self.heads, Source::of(model)) {
            (Some(from), ..) => from,
            (None, Some(_), _) => MapName::Heads,
            (None, None, Source::Map(..)) => MapName::Gradient,
            (None, None, _) => MapName::Attention,
        };
        // Whoever needs no heads is not troubled by wrong ones.
        let named = match (from, &self.heads) {
            (MapName::Heads, None | Some(Heads::Model)) => model_heads(model)?,
            _ => None,
        };
        if self.no_timestamps && model.capabilities.prompting.tasks().is_none() {
            let family = model.capabilities.family;
            return Err(Error::Input(format!(
                "{}: {family} writes no times, so that --no-timestamps has no effect",
                model.name
            )));
        }
        let masked = from == MapName::Spes;
        let mapped = masked || from == MapName::Gradient;
        let refused = |option: &str, of_what: &str| {
            Err(Error::Input(format!(
                "only --from {of_what} takes {option}"
            )))
        };
        if self.heads.is_some() && from != MapName::Heads {
            return refused("--heads", "heads");
        }
        if self.crop.is_some() && mapped {
            return refused("--crop", "attention or heads");
        }
        if self.at.is_some() && !mapped {
            return refused("--at", "spes or gradient");
        }
        if self.masks.given() && !masked {
            return refused("--masks and --reliability", "spes");
        }
        let site = self.at.map_or(Site::Input, Site::from);
        Ok(match (from, &self.heads) {
            (MapName::Spes, _) => Source::Map(Method::Spes, site),
            (MapName::Gradient, _) => Source::Map(Method::Gradient, site),
            (MapName::Attention, _) => Source::Attention,
            (MapName::Heads, Some(Heads::All)) => Source::Heads(all_heads(model)),
            (MapName::Heads, Some(Heads::These(heads))) => {
                check_heads(model, heads)?;
                Source::Heads(heads.clone())
            }
            (MapName::Heads, None | Some(Heads::Model)) => {
                Source::Heads(named.ok_or_else(|| {
                    let why = match model.generation.from_model_config {
                        true => " that count (it says _from_model_config, which drops them)",
                        false => "",
                    };
                    Error::Input(format!(
                        "{}: generation_config.json names no alignment_heads{why}; name some \
                         with --heads, or take --from attention",
                        model.name
                    ))
                })?)
            }
        })
    }
}

/// Whether a path ends as only a folder's does.
fn is_folder_name(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    last.is_some_and(|&byte| std::path::is_separator(byte.into()))
}

/// Where the texts go.
enum Output {
    /// To standard output, one recording after the other.
    Printed(Format),
    /// All into one file, when all are there; nothing if all failed.
    File(Format, PathBuf, Option<String>),
    /// Each into a file of its own.
    Folder(Format, HashMap<PathBuf, PathBuf>),
}

impl Output {
    /// Refuses what could not be written, before the long work.
    fn new(args: &AlignArgs) -> Result<Self> {
        let format = args.format.format();
        let several = args.audio.len() > 1;
        let name = args.format.to_possible_value();
        let name = name.map_or_else(String::new, |name| name.get_name().to_owned());
        let one_only = several && !format.holds_several();
        let output = match &args.out {
            None if one_only => {
                return Err(Error::Input(format!(
                    "{name} holds one recording; name a folder for several with --out"
                )));
            }
            None => Self::Printed(format),
            // A name that ends with a slash is a folder's, also of one to come.
            Some(out) if out.is_dir() || one_only || is_folder_name(out) => {
                Self::folder(args, format, out)?
            }
            Some(out) => {
                check_place(out)?;
                Self::File(format, out.clone(), None)
            }
        };
        if format == Format::Ctm && !matches!(output, Self::Folder(..)) {
            let mut names: HashMap<String, &Path> = HashMap::new();
            for audio in &args.audio {
                let id = ctm_id(audio);
                if let Some(other) = names.insert(id.clone(), audio) {
                    return Err(Error::Input(format!(
                        "{} and {} would both be called {} in one CTM file; name a folder with \
                         --out",
                        other.display(),
                        audio.display(),
                        id
                    )));
                }
            }
        }
        for path in output.files() {
            let same = |audio: &PathBuf| {
                let both = (fs::canonicalize(audio), fs::canonicalize(path));
                matches!(both, (Ok(audio), Ok(path)) if audio == path)
            };
            if args.audio.iter().any(same) {
                let problem = "is one of the recordings; name another file with --out";
                return Err(Error::file(path, problem));
            }
        }
        Ok(output)
    }

    fn folder(args: &AlignArgs, format: Format, folder: &Path) -> Result<Self> {
        let folder = &followed(folder);
        match folder.is_dir() {
            true => check_writable(folder)?,
            false if folder.exists() => {
                let problem = "is no folder; several files are written";
                return Err(Error::file(folder, problem));
            }
            false => check_writable(parent(folder)?)?,
        }
        let mut taken: HashMap<PathBuf, &Path> = HashMap::new();
        for audio in &args.audio {
            let mut name = stem(audio);
            name.push(".");
            name.push(format.extension());
            let path = folder.join(name);
            check_own_whole(&path, |file| format.may_be_own(file))?;
            if let Some(other) = taken.insert(path.clone(), audio) {
                return Err(Error::Input(format!(
                    "{} and {} would both be written to {}; align one of them at a time",
                    other.display(),
                    audio.display(),
                    path.display()
                )));
            }
        }
        let swapped = taken
            .into_iter()
            .map(|(path, audio)| (audio.to_owned(), path));
        Ok(Self::Folder(format, swapped.collect()))
    }

    /// The files that will be written.
    fn files(&self) -> Vec<&Path> {
        match self {
            Self::Printed(_) => Vec::new(),
            Self::File(_, path, _) => vec![path],
            Self::Folder(_, paths) => paths.values().map(PathBuf::as_path).collect(),
        }
    }

    fn add(&mut self, audio: &Path, recording: &AlignedRecording) -> Result<()> {
        match self {
            // The line that is printed ends itself.
            Self::Printed(format) => match format.text(recording).as_str() {
                "" => Ok(()),
                text => print(text.strip_suffix('\n').unwrap_or(text)),
            },
            Self::File(format, _, text) => {
                let text = text.get_or_insert_default();
                text.push_str(&format.text(recording));
                Ok(())
            }
            Self::Folder(format, paths) => {
                let path = &paths[audio];
                if let Some(folder) = path.parent()
                    && !folder.is_dir()
                {
                    fs::create_dir(folder).map_err(|problem| Error::file(folder, problem))?;
                }
                let text = format.file(recording);
                // What is written already need not be known.
                if plain::read(path).is_ok_and(|there| there == text.as_bytes()) {
                    return Ok(());
                }
                // Another may have come since the beginning.
                check_own_whole(path, |file| format.is_own(file))?;
                write(path, text.as_bytes())
            }
        }
    }

    fn finish(&self) -> Result<()> {
        match self {
            Self::File(_, path, Some(text)) => write(path, text.as_bytes()),
            _ => Ok(()),
        }
    }
}
