//! `sonograd study`: how much of the explanation is cross-attention?

pub mod shared_out;
mod work;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::explain::{MethodName, fraction};
use super::progress::{self, Extent};
use super::{ExecutorArgs, Outcome, print, print_table, warn_of};
use crate::explain::Method;
use crate::explain::spes::Stop;
use crate::files::{check_writable, followed};
use crate::study::agreement::{Normalisation, Pooling};
use crate::study::folder::Folder;
use crate::study::manifest::{self, Item};
use crate::study::run::Shard;
use crate::study::settings::{KnownOnsets, Settings};
use crate::study::truth::TrueOnsets;
use crate::study::watch::{Event, Rewritten};
use crate::study::work::{Shared, check_some};
use crate::{Error, Result, report};

/// Compare cross-attention with saliency over many utterances.
///
/// Writes a log for each model, a line for every finished utterance, and
/// tables over all logs in the folder. A run that was stopped or killed goes
/// on where it ended.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sonograd study samples/manifest.tsv --out study --limit 2 --masks 960\n  \
                  sonograd study --tables study"
)]
pub(super) struct StudyArgs {
    /// Utterances: fairseq's TSV (id audio tgt_text src_lang tgt_lang ...) or NeMo's JSON lines
    #[arg(
        value_name = "MANIFEST",
        num_args = 1..,
        required_unless_present = "tables",
        conflicts_with = "tables"
    )]
    manifests: Vec<PathBuf>,
    /// Model folders, or names on the Hugging Face hub; each does the directions that its
    /// generation_config.json names, or all
    /// [default: the small English model that is part of the program]
    #[arg(long, value_name = "DIR|FILE|NAME", num_args = 1..)]
    model: Vec<PathBuf>,
    /// Folder for logs and tables
    #[arg(long, value_name = "DIR", required_unless_present = "tables")]
    out: Option<PathBuf>,
    /// Make the tables of these folders again, merging shards
    #[arg(
        long,
        value_name = "DIR",
        num_args = 1..,
        conflicts_with_all = [
            "onsets", "model", "out", "device", "precision", "method", "masks", "reliability", "pooling",
            "normalise", "special", "faithfulness", "checks", "beam", "limit", "shard", "memory",
            "seed",
        ]
    )]
    tables: Vec<PathBuf>,
    #[command(flatten)]
    executor: ExecutorArgs,
    /// What attention is compared with; attention-norm and attention-x-gradient are compared too
    #[arg(
        long,
        value_enum,
        value_name = "M,M,...",
        value_delimiter = ',',
        default_values_t = [
            MethodName::Spes,
            MethodName::Gradient,
            MethodName::AttentionNorm,
            MethodName::AttentionXGradient,
        ]
    )]
    method: Vec<MethodName>,
    /// SPES: score exactly this many masks (19998 is the published number)
    #[arg(long, value_name = "N", conflicts_with = "reliability",
        value_parser = clap::value_parser!(u32).range(1..))]
    masks: Option<u32>,
    /// SPES: stop when the map pooled to encoder frames is this reliable, after 20000 masks at
    /// the latest [default: 0.9]
    #[arg(long, value_name = "R", value_parser = fraction)]
    reliability: Option<f64>,
    /// How maps over time and frequency become maps over encoder frames
    #[arg(long, value_enum, default_value_t)]
    pooling: PoolingName,
    /// What is normalised before maps are compared
    #[arg(long, value_enum, default_value_t)]
    normalise: NormalisationName,
    /// Count the end of sentence and other special tokens
    #[arg(long)]
    special: bool,
    /// Measure faithfulness too: delete and insert features in the order of each map, and write
    /// again at every step
    #[arg(long)]
    faithfulness: bool,
    /// Check the maps themselves on the first N utterances of each direction: against those of
    /// another seed, and of the model with shuffled weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    checks: u32,
    #[command(flatten)]
    onsets: OnsetArgs,
    /// Hypotheses kept in the search; 1 is greedy [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    beam: Option<u16>,
    /// Do the first utterances of each manifest only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Do one part of the utterances: i of n, i from 1
    #[arg(long, value_name = "i/n", value_parser = clap::value_parser!(Shard))]
    shard: Option<Shard>,
    /// Memory a pass may take beside the weights, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..))]
    memory: u32,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print the tables as JSON and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PoolingName {
    /// Largest value over frequency and time
    #[default]
    Max,
    /// Largest value over frequency, mean over time
    MaxMean,
    /// Mean over frequency and time
    Mean,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum NormalisationName {
    /// Each token
    #[default]
    Token,
    /// Each encoder frame
    Frame,
    /// The whole map
    Map,
}

impl From<PoolingName> for Pooling {
    fn from(name: PoolingName) -> Self {
        match name {
            PoolingName::Max => Self::Max,
            PoolingName::MaxMean => Self::MaxMean,
            PoolingName::Mean => Self::Mean,
        }
    }
}

impl From<NormalisationName> for Normalisation {
    fn from(name: NormalisationName) -> Self {
        match name {
            NormalisationName::Token => Self::Token,
            NormalisationName::Frame => Self::Frame,
            NormalisationName::Map => Self::Map,
        }
    }
}

pub(super) fn run(args: &StudyArgs) -> Result<Outcome> {
    if let Some(first) = args.tables.first() {
        return finish(args, &args.tables, first);
    }
    let Some(out) = &args.out else {
        return Err(Error::Input("name a folder to write with --out".into()));
    };
    // What cannot work fails before the long work: first what needs no model,
    // then what needs each.
    let prepared = Prepared::new(args, out)?;
    let (folder, shared) = (&prepared.folder, prepared.shared());
    let mut works = args.works(folder)?;
    let mut listener = None;
    let several = works.len() > 1;
    for own in &mut works {
        // One at a time: together they may not fit the memory.
        drop(listener.take());
        let opened = own.open()?;
        let _shown = progress::work("", "looking at what is to be done");
        own.work.look(&opened, folder, &shared)?;
        listener = Some(opened);
    }
    check_some(works.iter().map(|own| &own.work), shared.items)?;
    for left_out in works.iter().filter_map(|own| own.work.left_out()) {
        say!("{left_out}");
    }
    for own in &mut works {
        let opened = match listener.take().filter(|_| !several) {
            Some(opened) => opened,
            None => own.open()?,
        };
        if !args.study(own, opened, &shared, several)? {
            say!("stopped; the same command goes on");
            return Ok(Outcome::Failures);
        }
    }
    finish(args, &[folder.path().to_owned()], folder.path())
}

/// What the models of a run have in common, read and looked at.
struct Prepared {
    items: Vec<Item>,
    onsets: TrueOnsets,
    settings: Settings,
    memory: usize,
    folder: Folder,
}

impl Prepared {
    fn new(args: &StudyArgs, out: &Path) -> Result<Self> {
        args.check()?;
        let items = args.items()?;
        if let Some(warning) = manifest::without_text(&items) {
            say!("warning: {warning}");
        }
        let onsets = args.onsets.of(&items)?;
        let folder = Folder::open(out)?;
        report::study::check(folder.path())?;
        Ok(Self {
            settings: args.settings(&onsets),
            memory: (args.memory as usize) << 20,
            items,
            onsets,
            folder,
        })
    }

    fn shared(&self) -> Shared<'_> {
        Shared {
            items: &self.items,
            onsets: &self.onsets,
            settings: &self.settings,
            memory: self.memory,
        }
    }
}

/// Writes the tables of some folders and their page, and prints the conclusion.
fn finish(args: &StudyArgs, folders: &[PathBuf], out: &Path) -> Result<Outcome> {
    if let Some(other) = folders.iter().find(|folder| !folder.is_dir()) {
        return Err(Error::file(
            other,
            "is no folder; --tables takes those with logs of a study",
        ));
    }
    check_writable(&followed(out))?;
    let shown = progress::work("", "making tables");
    let tables = report::study::make(folders, out)?;
    drop(shown);
    if args.json {
        print(tables.json()?.trim_end())?;
    } else {
        let [short, rows, page] = [
            report::study::SUMMARY,
            report::study::CSV,
            report::study::REPORT,
        ]
        .map(|name| out.join(name));
        print_table(&format!(
            "{}tables: {} (short), {} (all rows); figures: {}",
            tables.conclusion(),
            short.display(),
            rows.display(),
            page.display()
        ))?;
    }
    Ok(match tables.failures.is_empty() {
        true => Outcome::Done,
        false => Outcome::Failures,
    })
}

/// Where it is known when words were said.
#[derive(Args)]
pub(super) struct OnsetArgs {
    /// Files of true onsets, or folders of them: TextGrid, CTM, TIMIT's .WRD, Buckeye's .words, or
    /// JSON lines of id and words with onset_seconds; with them maps are scored as clocks
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    onsets: Vec<PathBuf>,
    /// The tier of TextGrids that has the words [default: words, or the only one]
    #[arg(long, value_name = "NAME", requires = "onsets")]
    tier: Option<String>,
}

impl OnsetArgs {
    pub fn given(&self) -> bool {
        !self.onsets.is_empty()
    }

    /// True onsets of all files, with a warning where they are of no use.
    pub fn of(&self, items: &[Item]) -> Result<TrueOnsets> {
        let onsets = self.needed(items)?;
        if let Some(warning) = onsets.check(items) {
            say!("warning: {warning}");
        }
        Ok(onsets)
    }

    /// The same for work that fails by itself where they are of no use.
    pub fn needed(&self, items: &[Item]) -> Result<TrueOnsets> {
        let onsets = TrueOnsets::read(&self.onsets, self.tier.as_deref())?;
        if self.tier.is_some() && !onsets.have_tiers() {
            let problem = "only TextGrids take --tier, and --onsets names none";
            return Err(Error::Input(problem.into()));
        }
        if let Some(warning) = onsets.begins_late() {
            say!("warning: {warning}");
        }
        onsets.check_items(items)?;
        Ok(onsets)
    }
}

impl StudyArgs {
    /// Refuses options that would have no effect, and a manifest that was taken
    /// for a model.
    fn check(&self) -> Result<()> {
        let masked = self.method.contains(&MethodName::Spes);
        if !masked && (self.masks.is_some() || self.reliability.is_some()) {
            let problem = "only --method spes takes --masks and --reliability";
            return Err(Error::Input(problem.into()));
        }
        let is_list = |path: &&PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("tsv" | "json" | "jsonl")) && path.is_file()
        };
        match self.model.iter().find(is_list) {
            None => Ok(()),
            Some(list) => Err(Error::file(
                list,
                "is no model; --model takes all names behind it, so name manifests before it",
            )),
        }
    }

    /// All that shapes a log's numbers.
    fn settings(&self, onsets: &TrueOnsets) -> Settings {
        let mut methods = vec![Method::Attention];
        for method in self.method.iter().map(|&name| Method::from(name)) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        Settings {
            beams: self.beam.map(usize::from),
            checks: self.checks as usize,
            faithfulness: self.faithfulness,
            methods,
            normalisation: self.normalise.into(),
            onsets: KnownOnsets::of(onsets),
            pooling: self.pooling.into(),
            precision: self.executor.precision.into(),
            seed: self.seed,
            special_tokens: self.special,
            stop: match (self.masks, self.reliability) {
                (Some(masks), _) => Stop::Masks(masks as usize),
                (None, Some(reliability)) => Stop::Reliability(reliability),
                (None, None) => Settings::default().stop,
            },
            ..Settings::default()
        }
    }

    /// The utterances of this run.
    fn items(&self) -> Result<Vec<Item>> {
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let items = manifest::read_all(&self.manifests, limit)?;
        let Some(shard) = self.shard else {
            return Ok(items);
        };
        let all = items.len();
        let items = shard.of(items);
        if items.is_empty() {
            let Shard { number, count } = shard;
            let problem = format!(
                "there is nothing to do: none of {all} utterances is in part {number} of {count} \
                 (--shard)"
            );
            return Err(Error::Input(problem));
        }
        Ok(items)
    }
}

/// Says on standard error how far long work is, behind some words; shows
/// masks, and stops at Ctrl-C, with what `becomes` of the utterance in work. One
/// that `failed` is an error or a warning.
pub(super) fn watcher(
    before: String,
    failed: &'static str,
    becomes: &'static str,
) -> impl FnMut(Event) -> bool {
    let mut masks = progress::reporter(becomes);
    let mut utterances = utterances(before, failed);
    move |event| match event {
        Event::Explained(state) => masks(state),
        Event::Rewritten(_) if progress::stopped() => {
            say!("stopped; {becomes}");
            false
        }
        event => utterances(event),
    }
}

/// The same without a half result of masks; Ctrl-C is left as it is.
pub(super) fn utterances(before: String, failed: &'static str) -> impl FnMut(Event) -> bool {
    let begin = Instant::now();
    let shown = progress::work(&format!("{before}utterance 1"), "transcribing");
    move |event| {
        let _held = &shown;
        match &event {
            Event::Explained(state) => progress::explained(state),
            Event::Rewritten(Rewritten { done, all }) => {
                progress::at("deleting and inserting", Extent::of(*done, *all, ""));
            }
            _ => {}
        }
        if let Event::Sound { item, warning } = event {
            warn_of(&item.audio, [warning]);
        }
        if let Event::Utterance {
            item,
            error,
            done,
            all,
        } = event
        {
            if let Some(error) = error {
                say!("{failed}: {error}");
            }
            let left = (all - done) as f64 * begin.elapsed().as_secs_f64() / done as f64;
            let (direction, id) = (item.direction(), &item.id);
            say!("{before}{done} of {all}, {direction} {id}, {left:.0} s left");
            if done < all {
                progress::rename(format!("{before}utterance {} of {all}", done + 1));
                progress::stage("transcribing");
            }
            return !progress::stopped();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::study::log::Header;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: StudyArgs,
    }

    fn settings(line: &str) -> Settings {
        let args = Line::parse_from(line.split_whitespace()).args;
        args.settings(&TrueOnsets::default())
    }

    #[test]
    fn what_is_not_said_is_usual() {
        assert_eq!(settings("study list.tsv --out x"), Settings::default());
    }

    /// Whoever makes tables says nothing of how a study is done: a new option
    /// must not be taken without a word.
    #[test]
    fn tables_are_made_without_any_other_option() {
        use clap::CommandFactory;

        let command = Line::command();
        let mut arguments = command.get_arguments();
        let tables = arguments.find(|own| own.get_id() == "tables").unwrap();
        // --tier needs --onsets, which is refused.
        let allowed = ["tables", "json", "tier", "help"];
        for own in command.get_arguments() {
            let id = own.get_id();
            // Either may say so.
            let between = |one, other: &clap::Arg| {
                let refused = command.get_arg_conflicts_with(one);
                refused.iter().any(|own| own.get_id() == other.get_id())
            };
            let known = between(tables, own) || between(own, tables);
            assert!(known != allowed.contains(&id.as_str()), "{id}");
        }
        for options in ["--json", ""] {
            let line = format!("study --tables x {options}");
            assert!(Line::try_parse_from(line.split_whitespace()).is_ok());
        }
    }

    /// What differs between two logs is said with options that there are.
    #[test]
    fn options_that_messages_name_are_there() {
        use clap::CommandFactory;

        let usual = Header::new("m", &Settings::default());
        let line = "study list.tsv --out x --masks 9 --seed 7 --beam 3 --special --faithfulness \
                    --checks 2 --method gradient --pooling mean --normalise map --precision f64";
        let other = Header::new("m", &settings(line));
        let text = usual.differences(&other).unwrap();
        let named = text.split([' ', '(', ')', ',', ';']);
        let named: Vec<&str> = named.filter_map(|word| word.strip_prefix("--")).collect();
        assert!(named.len() > 9, "{text}");
        let command = Line::command();
        let known: Vec<&str> = command
            .get_opts()
            .filter_map(|own| own.get_long())
            .collect();
        for name in named {
            assert!(known.contains(&name), "--{name}: {text}");
        }
    }

    /// The page of a study names the command that made a log.
    #[test]
    fn a_log_names_the_command_that_makes_it_again() {
        for options in [
            "",
            "--masks 960 --seed 7 --beam 3 --special --faithfulness --checks 2",
            "--method attention --pooling max-mean --normalise map --precision f64",
            "--method spes,smoothgrad,attention-norm --reliability 0.85 --pooling mean",
        ] {
            let header = Header::new("m", &settings(&format!("study list.tsv --out x {options}")));
            let again = report::study::command(&header);
            let again = again.strip_prefix("sonograd ").unwrap();
            assert!(again.contains("--model m"), "{again}");
            assert_eq!(settings(again), header.settings, "{again}");
        }
    }
}
