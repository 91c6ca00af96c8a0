//! `sonograd heads`: which heads of the cross-attention to trust.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::align::SiteName;
use super::files::{parent, write};
use super::progress;
use super::study::{onsets_of, within};
use super::{LoadedModel, MaskArgs, ModelArgs, Outcome, print};
use crate::explain::Progress;
use crate::explain::Site;
use crate::explain::alignment::{Head, all_heads};
use crate::explain::spes::Stop;
use crate::explain::{ExplainOptions, Method};
use crate::model::Model;
use crate::model::generation_config::{self, ALIGNMENT_HEADS, with_alignment_heads};
use crate::study::heads::{Criterion, Difference, HeadSet, RankedHead, Survey, survey};
use crate::study::manifest::{self, Item};
use crate::study::onsets::{EVEN, TrueOnsets};
use crate::study::record::Comparison;
use crate::study::run::Subjects;
use crate::study::statistics::Interval;
use crate::{Error, Result};

/// Heads that are taken where nobody says how many, of a model that has twice
/// as many.
const TOP: usize = 6;

/// Say which heads of the cross-attention to trust.
///
/// Ranks heads over the utterances of manifests by how far they agree with
/// saliency, or by how well they tell when words begin; and says how well the
/// best of them do together on utterances that they were not chosen on.
#[derive(Args)]
#[command(
    after_help = "Example:\n  sonograd heads samples/manifest.tsv --by gradient --top 4 --write \
                  generation_config.json"
)]
pub(super) struct HeadsArgs {
    /// Utterances: fairseq's TSV (id audio tgt_text src_lang tgt_lang ...) or NeMo's JSON lines
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// What heads are ranked by
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    by: By,
    /// Where spes and gradient look [default: encoder]
    #[arg(long, value_enum, value_name = "SITE")]
    at: Option<SiteName>,
    /// Files of true onsets, JSON lines of id and words with onset_seconds
    #[arg(long, value_name = "FILE", num_args = 1..)]
    onsets: Vec<PathBuf>,
    /// How many heads to choose [default: 6, or half of the heads if there are fewer than 12]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Take the first utterances of each manifest only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    masks: MaskArgs,
    /// Write the best heads as alignment_heads into this generation_config.json; a new one is a
    /// copy of the model's
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print JSON and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum By {
    /// Agreement with occlusion by random masks
    #[default]
    Spes,
    /// Agreement with the size of the gradient
    Gradient,
    /// Errors of word starts, against --onsets
    Onsets,
}

pub(super) fn run(args: &HeadsArgs) -> Result<Outcome> {
    let criterion = args.criterion()?;
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let items = manifest::read_all(&args.manifests, limit)?;
    let onsets = onsets_of(&items, &args.onsets)?;
    let loaded = args.model.load()?;
    let model = &loaded.model;
    let top = args.top(model)?;
    // What cannot be written fails before the long work.
    if let Some(path) = &args.write {
        with_heads(path, model, &[])?;
        parent(path)?;
    }
    let items = chosen_items(within(&items, model)?, &onsets, &criterion)?;
    let survey = args.survey(&loaded, &criterion, &items, &onsets)?;
    if survey.readings.is_empty() {
        let problem = match survey.failures.len() {
            0 => "stopped before the first utterance was done".into(),
            failed => format!("all of {failed} utterances failed"),
        };
        return Err(Error::Input(problem));
    }
    if criterion == Criterion::Onsets && survey.matched().0 == 0 {
        let problem = "of the words with true onsets the model wrote none";
        return Err(Error::Input(problem.into()));
    }
    let best = survey.best(top);
    if best.is_empty() {
        let problem = format!("no head varies with {}; there is no best", criterion.name());
        return Err(Error::Input(problem));
    }
    if best.len() < top {
        let name = criterion.name();
        eprintln!("warning: {} heads vary with {name}, not {top}", best.len());
    }
    let ranking = survey.ranking();
    let (sets, difference) = survey.sets(top)?;
    let found = Found {
        args,
        model,
        criterion: &criterion,
        survey: &survey,
        ranking: &ranking,
        top,
        best: &best,
        sets: &sets,
        difference: difference.as_ref(),
    };
    match args.json {
        true => print(&found.json())?,
        false => print(found.text().trim_end())?,
    }
    if !survey.complete {
        eprintln!("stopped; nothing is written");
        return Ok(Outcome::Failures);
    }
    if let Some(path) = &args.write {
        write(path, with_heads(path, model, &best)?.as_bytes())?;
        eprintln!(
            "{}: {ALIGNMENT_HEADS} are {}",
            path.display(),
            listed(&best)
        );
    }
    Ok(match survey.failures.len() {
        0 => Outcome::Done,
        failed => {
            eprintln!("{failed} of {} utterances failed", items.len());
            Outcome::Failures
        }
    })
}

/// The text of a `generation_config.json` with some heads: the file's own, or
/// if there is none the model's.
fn with_heads(path: &Path, model: &Model, heads: &[Head]) -> Result<String> {
    const MODELS: &str = generation_config::FILE;
    let (source, bytes) = match fs::read(path) {
        Ok(bytes) => (path.to_owned(), bytes),
        Err(problem) if problem.kind() == ErrorKind::NotFound => {
            let bytes = model.files.read_if_present(MODELS)?;
            let bytes = bytes.unwrap_or_else(|| b"{}\n".into());
            (model.files.path(MODELS), bytes)
        }
        Err(problem) => return Err(Error::file(path, problem)),
    };
    let wrong = |problem: &dyn std::fmt::Display| {
        Error::file(&source, format!("not a JSON object: {problem}"))
    };
    let text = std::str::from_utf8(&bytes).map_err(|e| wrong(&e))?;
    with_alignment_heads(text, heads).map_err(|e| wrong(&e))
}

/// As `--heads` of `align` takes them.
fn listed(heads: &[Head]) -> String {
    let heads = heads.iter().map(|[layer, head]| format!("{layer}.{head}"));
    heads.collect::<Vec<_>>().join(",")
}

/// The utterances that say something.
fn chosen_items(items: Vec<Item>, onsets: &TrueOnsets, criterion: &Criterion) -> Result<Vec<Item>> {
    if items.is_empty() {
        let problem = "the manifests have no utterances of the model's directions";
        return Err(Error::Input(problem.into()));
    }
    if *criterion != Criterion::Onsets {
        return Ok(items);
    }
    let all = items.len();
    let known = |item: &Item| onsets.of(&item.id).is_some() && !item.translates();
    let items: Vec<Item> = items.into_iter().filter(known).collect();
    match items.len() {
        0 => {
            let problem = "none of the utterances has onsets in the files given";
            return Err(Error::Input(problem.into()));
        }
        some if some < all => eprintln!("leaves out {} utterances without onsets", all - some),
        _ => {}
    }
    Ok(items)
}

impl HeadsArgs {
    /// What heads are ranked by. Options that would have no effect are
    /// refused.
    fn criterion(&self) -> Result<Criterion> {
        let refused = |option: &str, of_what: &str| {
            Err(Error::Input(format!("only --by {of_what} takes {option}")))
        };
        if self.at.is_some() && self.by == By::Onsets {
            return refused("--at", "spes or gradient");
        }
        if self.masks.given() && self.by != By::Spes {
            return refused("--masks and --reliability", "spes");
        }
        if self.by == By::Onsets && self.onsets.is_empty() {
            let problem = "--by onsets needs files of true onsets: --onsets FILE...";
            return Err(Error::Input(problem.into()));
        }
        Ok(match self.method() {
            None => Criterion::Onsets,
            Some(method) => {
                let (method, site) = (method.name(), self.site().name());
                Criterion::Map(format!("{method}.{site}"))
            }
        })
    }

    fn method(&self) -> Option<Method> {
        match self.by {
            By::Spes => Some(Method::Spes),
            By::Gradient => Some(Method::Gradient),
            By::Onsets => None,
        }
    }

    fn site(&self) -> Site {
        self.at.map_or(Site::Encoder, Site::from)
    }

    /// How many heads to choose.
    fn top(&self, model: &Model) -> Result<usize> {
        let all = all_heads(model).len();
        let top = match self.top {
            None => TOP.min(all / 2).max(1),
            Some(top) => top as usize,
        };
        if top > all {
            let name = &model.name;
            let problem = format!("{name} has {all} heads; --top {top} is more");
            return Err(Error::Input(problem));
        }
        Ok(top)
    }

    fn explain_options(&self) -> ExplainOptions {
        ExplainOptions {
            methods: [Method::Attention]
                .into_iter()
                .chain(self.method())
                .collect(),
            sites: vec![self.site()],
            ..self.masks.explain_options()
        }
    }

    fn survey(
        &self,
        loaded: &LoadedModel,
        criterion: &Criterion,
        items: &[Item],
        onsets: &TrueOnsets,
    ) -> Result<Survey> {
        let tokenizer = loaded.tokenizer()?;
        let explain = self.explain_options();
        let weights = &loaded.model.weights;
        let mut executor = self.model.executor.open(weights, false)?;
        let subjects = Subjects {
            model: &loaded.model,
            front_end: &loaded.front_end,
            tokenizer: &tokenizer,
            beams: None,
            explain: &explain,
            comparison: Comparison::default(),
            faithfulness: false,
            checked: 0,
            onsets,
        };
        let (begin, mut done) = (Instant::now(), 0);
        let mut after = |item: &Item, failed: Option<&Error>| {
            done += 1;
            if let Some(error) = failed {
                eprintln!("error: {error}");
            }
            let left = (items.len() - done) as f64 * begin.elapsed().as_secs_f64() / done as f64;
            let (direction, id) = (item.direction(), &item.id);
            let all = items.len();
            eprintln!("{done} of {all}, {direction} {id}, {left:.0} s left");
            !progress::stopped()
        };
        // Only masks can be cut short: whoever scores none keeps Ctrl-C as it is.
        let mut masks: Box<dyn FnMut(Progress) -> bool> = match self.by {
            By::Spes => Box::new(progress::reporter("the utterance is left out")),
            By::Gradient | By::Onsets => Box::new(|_| true),
        };
        let executor = executor.as_mut();
        let masks = masks.as_mut();
        Ok(survey(
            executor, &subjects, criterion, items, &mut after, masks,
        ))
    }
}

/// All that was found, to be printed.
struct Found<'a> {
    args: &'a HeadsArgs,
    model: &'a Model,
    criterion: &'a Criterion,
    survey: &'a Survey,
    ranking: &'a [RankedHead],
    top: usize,
    best: &'a [Head],
    sets: &'a [HeadSet],
    difference: Option<&'a Difference>,
}

impl Found<'_> {
    fn json(&self) -> String {
        let args = self.args;
        let stop = (args.by == By::Spes).then(|| match args.masks.stop() {
            Stop::Masks(masks) => json!({ "masks": masks }),
            Stop::Reliability(reliability) => json!({ "reliability": reliability }),
        });
        let comparison = Comparison::default();
        let (words, utterances) = self.survey.matched();
        let value = json!({
            "format": "sonograd-heads",
            "version": 1,
            "sonograd": env!("CARGO_PKG_VERSION"),
            "model": self.model.name,
            "settings": {
                "by": self.criterion.name(),
                "stop": stop,
                "seed": args.masks.seed,
                "pooling": comparison.pooling.name(),
                "normalisation": comparison.normalisation.name(),
                "special_tokens": comparison.special,
            },
            "complete": self.survey.complete,
            "heads": self.ranking,
            "top": self.top,
            ALIGNMENT_HEADS: self.best,
            "onsets": { "utterances": utterances, "words": words },
            "sets": self.sets,
            "difference": self.difference,
            "utterances": self.survey.readings,
            "failures": self.survey.failures,
        });
        format!("{value:#}")
    }

    fn text(&self) -> String {
        let (by, heads) = (self.criterion.name(), self.ranking.len());
        let utterances = self.survey.readings.len();
        let name = &self.model.name;
        let mut text = format!(
            "{name}: {heads} heads by {by} over {utterances} utterances; layers and heads from 0\n\n"
        );
        let agreement = *self.criterion != Criterion::Onsets;
        let timed = self.survey.matched().1 > 0;
        text += "rank  layer  head";
        if agreement {
            text += &format!("  {:<23}  utterances", "agreement");
        }
        if timed {
            text += &format!("  {:<23}  utterances", "onset error, s");
        }
        for row in self.ranking {
            text += &format!("\n{:>4}  {:>5}  {:>4}", row.rank, row.layer, row.head);
            let columns = [(agreement, row.agreement), (timed, row.onset_error)];
            for (_, interval) in columns.into_iter().filter(|(shown, _)| *shown) {
                let count = interval.map_or(0, |interval| interval.count);
                text += &format!("  {:<23}  {count:>10}", shown(interval, 3));
            }
        }
        let (top, listed) = (self.top, listed(self.best));
        text += &format!("\n\nthe best {top}, as align takes them: --heads {listed}\n");
        if !self.sets.is_empty() {
            text += &self.sets_text();
        }
        text
    }

    fn sets_text(&self) -> String {
        let (words, utterances) = self.survey.matched();
        let mut text = format!(
            "\nonset errors of heads averaged, {words} words of {utterances} utterances; sets \
             of {} heads are chosen\non other utterances than those they are scored on\n\n",
            self.top
        );
        let name = |set: &HeadSet| match set.by.as_str() {
            "all" => format!("all {}", self.ranking.len()),
            EVEN => "none, evenly spaced".into(),
            by => format!("best {} by {by}", self.top),
        };
        let names: Vec<String> = self.sets.iter().map(name).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        text += &" ".repeat(width);
        for (title, _, _) in SHOWN {
            text += &format!("  {title:<20}");
        }
        for (set, name) in self.sets.iter().zip(names) {
            text += &format!("\n{name:<width$}");
            for (_, statistic, digits) in SHOWN {
                let interval = set.statistics.get(statistic).copied();
                text += &format!("  {:<20}", shown(interval, digits));
            }
        }
        // Columns are padded behind the last one too.
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let mut text = lines.join("\n") + "\n";
        match self.difference {
            Some(Difference {
                by,
                less,
                onset_error,
            }) => {
                let seconds = shown(Some(*onset_error), 3);
                text += &format!("\nmean by {by} less mean by {less}: {seconds} s\n");
            }
            None if self.sets.len() == 2 => text += "\ntoo few utterances to choose on others\n",
            None => {}
        }
        text
    }
}

/// Columns of the table of sets: their heads, statistics and decimals.
const SHOWN: [(&str, &str, usize); 5] = [
    ("mean, s", "onset error, mean", 3),
    ("median, s", "onset error, median", 3),
    ("within 50 ms, %", "onset within 50 ms", 1),
    ("within 100 ms, %", "onset within 100 ms", 1),
    ("within 200 ms, %", "onset within 200 ms", 1),
];

/// A mean and its interval, or that there is none.
fn shown(interval: Option<Interval>, digits: usize) -> String {
    let Some(Interval {
        mean, low, high, ..
    }) = interval
    else {
        return "-".into();
    };
    format!("{mean:.digits$} [{low:.digits$}, {high:.digits$}]")
}
