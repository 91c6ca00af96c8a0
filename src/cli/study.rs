//! `sonograd study`: how much of the explanation is cross-attention?

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::explain::{MethodName, fraction};
use super::files::write;
use super::progress;
use super::{ExecutorArgs, LoadedModel, ModelArgs, Outcome, print};
use crate::engine::precision::Precision;
use crate::explain::Site;
use crate::explain::spes::{SpesOptions, Stop};
use crate::explain::{ExplainOptions, Method};
use crate::model::Model;
use crate::study::agreement::{Normalisation, Pooling};
use crate::study::checks::{Shuffled, ShuffledModel};
use crate::study::log::{FORMAT, Header, Log, VERSION};
use crate::study::manifest::{self, Item};
use crate::study::onsets::TrueOnsets;
use crate::study::record::{self, Comparison};
use crate::study::run::{Shard, Step, Subjects, run as run_study};
use crate::study::tables::Tables;
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
    /// Model folders; each does the directions that its generation_config.json names, or all
    /// [default: the small English model that is part of the program]
    #[arg(long, value_name = "DIR", num_args = 1..)]
    model: Vec<PathBuf>,
    /// Folder for logs and tables
    #[arg(long, value_name = "DIR", required_unless_present = "tables")]
    out: Option<PathBuf>,
    /// Make the tables of these folders again, merging shards, and print them
    #[arg(long, value_name = "DIR", num_args = 1..)]
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
    /// the latest
    #[arg(long, value_name = "R", default_value_t = 0.9, value_parser = fraction)]
    reliability: f64,
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
    /// Measure how well maps tell when words begin: files of true onsets, JSON lines of id and
    /// words with onset_seconds
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "tables")]
    onsets: Vec<PathBuf>,
    /// Hypotheses kept in the search; 1 is greedy [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    beam: Option<u16>,
    /// Do the first utterances of each manifest only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Do one part of the utterances: i of n, i from 1
    #[arg(long, value_name = "i/n", value_parser = shard)]
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

/// `i/n` with 1 <= i <= n.
fn shard(text: &str) -> std::result::Result<Shard, String> {
    let parts = text.split_once('/');
    let numbers = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match numbers {
        Some((number, count)) if (1..=count).contains(&number) => Ok(Shard { number, count }),
        _ => Err("i/n with i from 1 to n is wanted".into()),
    }
}

pub(super) fn run(args: &StudyArgs) -> Result<Outcome> {
    let Some(out) = args.out.as_ref().filter(|_| args.tables.is_empty()) else {
        let first = args.tables.first().expect("clap asks for it");
        return finish(args, &args.tables, first);
    };
    let items = args.items()?;
    let onsets = onsets_of(&items, &args.onsets)?;
    // What cannot work fails before the long work.
    fs::create_dir_all(out).map_err(|problem| Error::file(out, problem))?;
    let models: Vec<Option<&PathBuf>> = match args.model.is_empty() {
        true => vec![None],
        false => args.model.iter().map(Some).collect(),
    };
    let mut names: Vec<String> = Vec::new();
    for model in models {
        let model = ModelArgs {
            model: model.cloned(),
            executor: args.executor.clone(),
        };
        let loaded = model.load()?;
        let name = loaded.model.name.clone();
        if names.contains(&name) {
            let problem = format!("two models have the name {name}; rename one of the folders");
            return Err(Error::Input(problem));
        }
        if !args.study(&model, &loaded, &items, &onsets, out)? {
            eprintln!("stopped; the same command goes on");
            return Ok(Outcome::Failures);
        }
        names.push(name);
    }
    finish(args, std::slice::from_ref(out), out)
}

/// Writes the tables of some folders and their page, and prints what is first.
fn finish(args: &StudyArgs, folders: &[PathBuf], out: &Path) -> Result<Outcome> {
    let tables = Tables::new(folders)?;
    let mut json = serde_json::to_string_pretty(&tables).map_err(|e| Error::file(out, e))?;
    json.push('\n');
    write(&out.join("tables.json"), json.as_bytes())?;
    write(&out.join("tables.csv"), tables.csv().as_bytes())?;
    let page = out.join("report.html");
    write(&page, report::study::render(&tables).as_bytes())?;
    if args.json {
        print(json.trim_end())?;
    } else {
        let place = out.join("tables.csv");
        print(&format!(
            "{}all rows are in {}, figures in {}",
            tables.summary(),
            place.display(),
            page.display()
        ))?;
    }
    Ok(match tables.failures.is_empty() {
        true => Outcome::Done,
        false => Outcome::Failures,
    })
}

/// True onsets of all files.
pub(super) fn onsets_of(items: &[Item], files: &[PathBuf]) -> Result<TrueOnsets> {
    let mut onsets = TrueOnsets::default();
    for path in files {
        onsets.add(path)?;
    }
    // A shard may have none of them by right.
    if !files.is_empty() && !items.iter().any(|item| onsets.of(&item.id).is_some()) {
        eprintln!("warning: none of the utterances has onsets in the files given");
    }
    Ok(onsets)
}

/// The utterances of the directions that a model was made for:
/// `"directions": ["en-en", "en-it"]` in its `generation_config.json`. A model
/// without does all.
pub(super) fn within(items: &[Item], model: &Model) -> Result<Vec<Item>> {
    let Some(own) = model.generation.directions()? else {
        return Ok(items.to_vec());
    };
    let has = |item: &Item| own.iter().any(|one| *one == item.direction());
    let (inside, outside): (Vec<Item>, Vec<Item>) = items.iter().cloned().partition(has);
    let others: BTreeSet<String> = outside.iter().map(Item::direction).collect();
    if !others.is_empty() {
        let (name, others) = (&model.name, Vec::from_iter(others).join(", "));
        eprintln!("{name}: leaves out {others}, which it was not made for");
    }
    Ok(inside)
}

impl StudyArgs {
    /// The utterances to do.
    fn items(&self) -> Result<Vec<Item>> {
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let items = manifest::read_all(&self.manifests, limit)?;
        let shard = self.shard.unwrap_or(Shard {
            number: 1,
            count: 1,
        });
        let own = items.into_iter().enumerate();
        let own = own.filter(|(index, _)| shard.has(*index));
        Ok(own.map(|(_, item)| item).collect())
    }

    fn comparison(&self) -> Comparison {
        Comparison {
            pooling: match self.pooling {
                PoolingName::Max => Pooling::Max,
                PoolingName::MaxMean => Pooling::MaxMean,
                PoolingName::Mean => Pooling::Mean,
            },
            normalisation: match self.normalise {
                NormalisationName::Token => Normalisation::Token,
                NormalisationName::Frame => Normalisation::Frame,
                NormalisationName::Map => Normalisation::Map,
            },
            special: self.special,
        }
    }

    fn explain_options(&self) -> ExplainOptions {
        let mut methods = vec![Method::Attention];
        for method in self.method.iter().map(|&name| Method::from(name)) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        ExplainOptions {
            methods,
            sites: vec![Site::Input, Site::Encoder],
            memory: (self.memory as usize) << 20,
            seed: self.seed,
            spes: SpesOptions {
                stop: match self.masks {
                    Some(masks) => Stop::Masks(masks as usize),
                    None => Stop::Reliability(self.reliability),
                },
                ..SpesOptions::default()
            },
            ..ExplainOptions::default()
        }
    }

    /// All that shapes a log's numbers.
    fn settings(
        &self,
        explain: &ExplainOptions,
        by: Comparison,
        onsets: &TrueOnsets,
    ) -> Map<String, Value> {
        let methods: Vec<&str> = explain.methods.iter().map(|method| method.name()).collect();
        let spes = &explain.spes;
        let stop = match spes.stop {
            Stop::Masks(masks) => json!({ "masks": masks }),
            Stop::Reliability(reliability) => json!({ "reliability": reliability }),
        };
        let settings = json!({
            "methods": methods,
            "stop": stop,
            "seed": self.seed,
            "pooling": by.pooling.name(),
            "normalisation": by.normalisation.name(),
            "special_tokens": by.special,
            "beams": self.beam,
            "faithfulness": self.faithfulness,
            "checks": self.checks,
            "segments": spes.segments,
            "compactness": spes.compactness,
            "sigma": spes.sigma,
        });
        let Value::Object(mut settings) = settings else {
            unreachable!("settings are an object");
        };
        // What most logs have not goes on as they were begun.
        let precision = Precision::from(self.executor.precision);
        if precision != Precision::F32 {
            settings.insert("precision".into(), precision.name().into());
        }
        if onsets.utterances() > 0 {
            let known = json!({ "utterances": onsets.utterances(), "words": onsets.words() });
            settings.insert("onsets".into(), known);
        }
        settings
    }

    /// Does one model's utterances; returns whether it came to its end.
    fn study(
        &self,
        model: &ModelArgs,
        loaded: &LoadedModel,
        items: &[Item],
        onsets: &TrueOnsets,
        out: &Path,
    ) -> Result<bool> {
        let tokenizer = loaded.tokenizer()?;
        let explain = self.explain_options();
        let comparison = self.comparison();
        let name = &loaded.model.name;
        let header = Header {
            format: FORMAT.into(),
            version: VERSION,
            sonograd: env!("CARGO_PKG_VERSION").into(),
            model: name.clone(),
            settings: self.settings(&explain, comparison, onsets),
        };
        let file = match self.shard {
            None => format!("{name}.jsonl"),
            Some(Shard { number, count }) => format!("{name}.{number}-of-{count}.jsonl"),
        };
        let items = &within(items, &loaded.model)?;
        let mut log = Log::open(&out.join(file), &header)?;
        let open = items.iter().filter(|item| !log.has(item)).count();
        if open == 0 {
            return Ok(true);
        }
        let weights = &loaded.model.weights;
        let mut executor = model.executor.open(weights, false)?;
        let subjects = Subjects {
            model: &loaded.model,
            front_end: &loaded.front_end,
            tokenizer: &tokenizer,
            beams: self.beam.map(usize::from),
            explain: &explain,
            comparison,
            faithfulness: self.faithfulness,
            checked: self.checks as usize,
            onsets,
        };
        let mut shuffled = Vec::new();
        if items.iter().any(|item| item.place < subjects.checked) {
            for level in Shuffled::EVERY {
                let mut copy = Model::load(loaded.model.files.clone())?;
                level.apply(&mut copy, self.seed);
                shuffled.push(ShuffledModel {
                    level,
                    executor: model.executor.open(&copy.weights, false)?,
                    model: copy,
                });
            }
        }
        let begin = Instant::now();
        let mut done = 0;
        let mut masks = progress::reporter("the utterance is left for the next run");
        let mut after = |item: &Item, step: Step| {
            if let Step::Done(record) = step {
                done += 1;
                let left = (open - done) as f64 * begin.elapsed().as_secs_f64() / done as f64;
                if let record::Outcome::Failed { error } = &record.outcome {
                    eprintln!("error: {error}");
                }
                let direction = item.direction();
                let id = &item.id;
                eprintln!("{name}: {done} of {open}, {direction} {id}, {left:.0} s left");
            }
            !progress::stopped()
        };
        run_study(
            executor.as_mut(),
            &subjects,
            &mut shuffled,
            items,
            &mut log,
            &mut after,
            &mut masks,
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: StudyArgs,
    }

    fn settings(words: &[&str]) -> Map<String, Value> {
        let args = Line::parse_from(words).args;
        let onsets = TrueOnsets::default();
        args.settings(&args.explain_options(), args.comparison(), &onsets)
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
            let line = format!("study list.tsv --out x {options}");
            let settings_of = |line: &str| settings(&line.split_whitespace().collect::<Vec<_>>());
            let header = Header {
                format: FORMAT.into(),
                version: VERSION,
                sonograd: "0".into(),
                model: "m".into(),
                settings: settings_of(&line),
            };
            let again = report::study::command(&header);
            let again = again.strip_prefix("sonograd ").unwrap();
            assert!(again.contains("--model m"), "{again}");
            assert_eq!(settings_of(again), header.settings, "{again}");
        }
    }
}
