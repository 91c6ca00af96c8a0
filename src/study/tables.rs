//! Means over utterances, with intervals, from the logs of a study.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::checks::{Checked, SeedAgreement};
use super::error_rate::{BleuCounts, WordErrors};
use super::faithfulness::{Curves, STEP_PERCENT, STEPS, Written, area};
use super::log::{self, Header};
use super::onset_tables;
use super::perturbation::{Foretelling, PERCENTS};
use super::record::{MapResult, Outcome, Record, Utterance};
use super::statistics::{Correlation, Interval, bootstrap, bootstrap_of, disattenuated, mean};
use crate::{Error, Result};

/// Resampled means behind an interval.
pub(super) const RESAMPLES: usize = 2_000;

/// As many for values that need the whole corpus each time.
pub(super) const RESAMPLES_OF_CURVES: usize = 400;

/// Seed of the resampling.
pub(super) const SEED: u64 = 0;

/// The published names of what is compared: saliency at the input and at the
/// encoder's output.
const INPUT: &str = "spes.input";
const ENCODER: &str = "spes.encoder";

/// One row: a mean over utterances.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub model: String,
    pub direction: String,
    /// What attention is compared with, or between: `spes.input`.
    pub map: String,
    /// `pearson`, `spearman`, `kendall`, `reliability`, `masks`, `gap`,
    /// `coverage`; `pearson, corrected` for the map's reliability; `word error
    /// rate`, `bleu`; `deletion area, bleu`, `insertion 35%, word error rate`,
    /// `size area`; `infidelity`, `infidelity, share`, `sensitivity-n 20%`,
    /// `sensitivity-n, mean`; `seed agreement`, `seed agreement, full
    /// resolution`, `randomised decoder`, `randomised all weights`; `onset
    /// error, mean`, `onset within 50 ms`, `pointing game`.
    pub statistic: String,
    /// `all`, `layer 2`, `head 3 of all layers`, `layer 2 head 3`, both from
    /// 1, `best head by spes.encoder`, and `norm-weighted all`,
    /// `gradient-weighted all` and so on; empty where attention has no part.
    pub attention: String,
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Utterances that the mean is of.
    pub utterances: usize,
}

/// An utterance that could not be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    pub model: String,
    pub direction: String,
    pub id: String,
    pub error: String,
}

/// What an utterance is known by.
fn key(record: &Record) -> (&str, &str) {
    (&record.direction, &record.id)
}

/// All tables of a study.
#[derive(Clone, Debug, Serialize)]
pub struct Tables {
    /// Of each model's log.
    pub settings: Vec<Header>,
    pub rows: Vec<Row>,
    pub failures: Vec<Failure>,
}

/// A model's records, shards merged.
struct Study {
    header: Header,
    records: Vec<Record>,
}

impl Tables {
    /// Makes the tables of all logs (`*.jsonl`) in some folders; several logs
    /// of one model with the same settings are shards of one study.
    ///
    /// # Errors
    /// If there is no log, one cannot be read, or shards were made with
    /// different settings or overlap.
    pub fn new(folders: &[PathBuf]) -> Result<Self> {
        let mut paths = Vec::new();
        for folder in folders {
            let entries = fs::read_dir(folder).map_err(|e| Error::file(folder, e))?;
            for entry in entries {
                let path = entry.map_err(|e| Error::file(folder, e))?.path();
                if path
                    .extension()
                    .is_some_and(|extension| extension == "jsonl")
                {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        let first = folders
            .first()
            .map(PathBuf::as_path)
            .unwrap_or(Path::new("."));
        if paths.is_empty() {
            return Err(Error::file(first, "has no logs of a study (*.jsonl)"));
        }
        let mut studies: BTreeMap<String, Study> = BTreeMap::new();
        for path in &paths {
            let contents = log::read(path)?;
            let model = contents.header.model.clone();
            let Some(study) = studies.get_mut(&model) else {
                let study = Study {
                    header: contents.header,
                    records: contents.records,
                };
                studies.insert(model, study);
                continue;
            };
            if study.header != contents.header {
                let problem = format!("another log of {model} was made with other settings");
                return Err(Error::file(path, problem));
            }
            study.records.extend(contents.records);
        }
        let mut tables = Self {
            settings: Vec::new(),
            rows: Vec::new(),
            failures: Vec::new(),
        };
        for (model, mut study) in studies {
            // The order of shards, and within them, does not matter.
            study.records.sort_by(|a, b| key(a).cmp(&key(b)));
            let mut pairs = study.records.windows(2);
            if let Some(pair) = pairs.find(|pair| key(&pair[0]) == key(&pair[1])) {
                let (direction, id) = key(&pair[0]);
                let problem = format!("{model} has utterance {id} of {direction} in two logs");
                return Err(Error::file(first, problem));
            }
            tables.add(&model, &study.records);
            tables.settings.push(study.header);
        }
        Ok(tables)
    }

    fn add(&mut self, model: &str, records: &[Record]) {
        let mut directions: BTreeMap<&str, Vec<&Utterance>> = BTreeMap::new();
        for record in records {
            match &record.outcome {
                Outcome::Failed { error } => self.failures.push(Failure {
                    model: model.to_owned(),
                    direction: record.direction.clone(),
                    id: record.id.clone(),
                    error: error.clone(),
                }),
                Outcome::Done(utterance) => {
                    directions
                        .entry(&record.direction)
                        .or_default()
                        .push(utterance);
                }
            }
        }
        for (direction, utterances) in directions {
            let mut group = Group {
                model,
                direction,
                utterances: &utterances,
                rows: &mut self.rows,
            };
            group.all();
        }
    }

    /// The rows as comma-separated values.
    pub fn csv(&self) -> String {
        let mut text =
            String::from("model,direction,map,statistic,attention,mean,low,high,utterances\n");
        for row in &self.rows {
            let quoted = [
                &row.model,
                &row.direction,
                &row.map,
                &row.statistic,
                &row.attention,
            ]
            .map(|field| match field.contains([',', '"', '\n']) {
                true => format!("\"{}\"", field.replace('"', "\"\"")),
                false => field.clone(),
            })
            .join(",");
            let Row {
                mean,
                low,
                high,
                utterances,
                ..
            } = row;
            text += &format!("{quoted},{mean},{low},{high},{utterances}\n");
        }
        text
    }

    /// What one wants to see first: attention averaged over all heads and
    /// layers, and the best layer, against each map, by Pearson's
    /// correlation.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut place = (String::new(), String::new());
        for row in &self.rows {
            let shown = match row.statistic.as_str() {
                "pearson" | "pearson, corrected" => row.attention.ends_with("all"),
                "gap" | "coverage" | "reliability" | "word error rate" => true,
                "deletion area, word error rate" | "size area" => true,
                "onset error, mean" => matches!(row.attention.as_str(), "" | "all"),
                _ => false,
            };
            if !shown {
                continue;
            }
            if place != (row.model.clone(), row.direction.clone()) {
                place = (row.model.clone(), row.direction.clone());
                text += &format!("{} {}\n", row.model, row.direction);
            }
            let weighted = match row.attention.as_str() {
                "norm-weighted all" => ", norm-weighted",
                "gradient-weighted all" => ", gradient-weighted",
                _ => "",
            };
            let name = format!("{} {}{weighted}", row.map, row.statistic);
            text += &format!(
                "  {name:<42} {:>8.3} [{:.3}, {:.3}] of {}\n",
                row.mean, row.low, row.high, row.utterances
            );
        }
        if !self.failures.is_empty() {
            text += &format!("{} utterances failed\n", self.failures.len());
        }
        text
    }
}

/// The utterances of one model in one direction.
pub(super) struct Group<'a> {
    model: &'a str,
    direction: &'a str,
    pub(super) utterances: &'a [&'a Utterance],
    rows: &'a mut Vec<Row>,
}

impl Group<'_> {
    fn row(&mut self, map: &str, statistic: &str, attention: &str, values: &[Option<f64>]) {
        let Some(interval) = bootstrap(values, RESAMPLES, SEED) else {
            return;
        };
        let Interval {
            mean,
            low,
            high,
            count,
        } = interval;
        self.rows.push(Row {
            model: self.model.to_owned(),
            direction: self.direction.to_owned(),
            map: map.to_owned(),
            statistic: statistic.to_owned(),
            attention: attention.to_owned(),
            mean,
            low,
            high,
            utterances: count,
        });
    }

    fn all(&mut self) {
        self.correlations("", &|own| &own.maps);
        self.correlations("norm-weighted ", &|own| &own.maps_of_norms);
        self.correlations("gradient-weighted ", &|own| &own.maps_of_gradients);
        self.errors();
        self.curves();
        self.foretelling();
        self.checks();
        onset_tables::rows(self);
        let utterances = self.utterances;
        // What mixing in the encoder takes away, and how much of the
        // explanation at its output attention is.
        let rho = |utterance: &Utterance, map: &str| {
            View::All.of(utterance.maps.get(map)?, Correlation::Pearson)
        };
        let gaps: Vec<Option<f64>> = utterances
            .iter()
            .map(|own| Some(rho(own, ENCODER)? - rho(own, INPUT)?))
            .collect();
        self.row("spes.encoder - spes.input", "gap", "all", &gaps);
        let coverage: Vec<Option<f64>> = utterances
            .iter()
            .map(|own| Some(100.0 * rho(own, ENCODER)?))
            .collect();
        self.row(ENCODER, "coverage", "all", &coverage);
    }
}

impl Group<'_> {
    /// Correlations of one attention with every map; `prefix` stands before
    /// the names of its parts.
    fn correlations(
        &mut self,
        prefix: &str,
        maps: &dyn Fn(&Utterance) -> &BTreeMap<String, MapResult>,
    ) {
        let utterances = self.utterances;
        let named = utterances.iter().flat_map(|&own| maps(own));
        let examples: BTreeMap<&String, &MapResult> = named.collect();
        for (name, example) in examples {
            let results: Vec<Option<&MapResult>> =
                utterances.iter().map(|&own| maps(own).get(name)).collect();
            let of = |value: &dyn Fn(&MapResult) -> Option<f64>| -> Vec<Option<f64>> {
                let results = results.iter();
                results.map(|result| value(result.as_ref()?)).collect()
            };
            if prefix.is_empty() {
                self.row(name, "reliability", "", &of(&|result| result.reliability));
                self.row(name, "masks", "", &of(&|result| Some(result.masks? as f64)));
            }
            for kind in Correlation::ALL {
                for (attention, view) in views(example) {
                    let attention = format!("{prefix}{attention}");
                    let values = of(&|result| view.of(result, kind));
                    self.row(name, kind.name(), &attention, &values);
                    let corrected =
                        of(&|result| disattenuated(view.of(result, kind)?, result.reliability?));
                    let statistic = format!("{}, corrected", kind.name());
                    self.row(name, &statistic, &attention, &corrected);
                }
            }
        }
    }

    /// A value over all utterances together, with the interval that
    /// resampling them gives.
    fn corpus_row(&mut self, map: &str, statistic: &str, value: &dyn Fn(&[&Utterance]) -> f64) {
        self.corpus_row_of(self.utterances, [map, statistic, ""], value);
    }

    /// The same over something that some utterances have: one item of each.
    /// Named by map, statistic and part of the attention.
    pub(super) fn corpus_row_of<T: Copy>(
        &mut self,
        items: &[T],
        [map, statistic, attention]: [&str; 3],
        value: &dyn Fn(&[T]) -> f64,
    ) {
        let interval = bootstrap_of(items, RESAMPLES_OF_CURVES, SEED, value);
        self.rows.push(Row {
            model: self.model.to_owned(),
            direction: self.direction.to_owned(),
            map: map.to_owned(),
            statistic: statistic.to_owned(),
            attention: attention.to_owned(),
            mean: interval.mean,
            low: interval.low,
            high: interval.high,
            utterances: interval.count,
        });
    }

    /// Errors of what the model wrote.
    fn errors(&mut self) {
        let of = |own: &Utterance| own.written;
        self.corpus_row("", "word error rate", &|all| {
            word_error_rate(all.iter().map(|u| of(u)))
        });
        self.corpus_row("", "bleu", &|all| bleu(all.iter().map(|u| of(u))));
    }

    /// Areas under the curves, and the curves themselves.
    fn curves(&mut self) {
        let names: BTreeSet<&String> = self
            .utterances
            .iter()
            .flat_map(|own| own.faithfulness.keys())
            .collect();
        type Pick = fn(&Curves) -> &[Written];
        let kinds: [(&str, Pick); 2] = [
            ("deletion", |own| &own.deletion),
            ("insertion", |own| &own.insertion),
        ];
        for name in names {
            let at = |all: &[&Utterance], pick: Pick, step: usize| -> [f64; 2] {
                let written = all.iter().filter_map(|own| own.faithfulness.get(name));
                let written = written.map(|curves| pick(curves)[step]);
                [word_error_rate(written.clone()).min(100.0), bleu(written)]
            };
            for (kind, pick) in kinds {
                for (index, measure) in ["word error rate", "bleu"].into_iter().enumerate() {
                    self.corpus_row(name, &format!("{kind} area, {measure}"), &|all| {
                        let curve = (0..STEPS).map(|step| at(all, pick, step)[index]);
                        area(&curve.collect::<Vec<_>>())
                    });
                    for step in 0..STEPS {
                        let percent = step * STEP_PERCENT;
                        let statistic = format!("{kind} {percent}%, {measure}");
                        self.corpus_row(name, &statistic, &|all| at(all, pick, step)[index]);
                    }
                }
            }
            self.corpus_row(name, "size area", &|all| {
                let sizes = all.iter().filter_map(|own| own.faithfulness.get(name));
                let areas: Vec<f64> = sizes.map(|curves| area(&curves.size)).collect();
                areas.iter().sum::<f64>() / areas.len() as f64
            });
        }
    }
}

impl Group<'_> {
    /// Infidelity and sensitivity-n of every map.
    fn foretelling(&mut self) {
        let utterances = self.utterances;
        let keys = utterances.iter().flat_map(|own| own.perturbation.keys());
        let names: BTreeSet<&String> = keys.collect();
        for name in names {
            let of = |value: &dyn Fn(&Foretelling) -> Option<f64>| -> Vec<Option<f64>> {
                let all = utterances.iter();
                all.map(|own| value(own.perturbation.get(name)?)).collect()
            };
            self.row(name, "infidelity", "", &of(&|own| own.infidelity));
            let share = of(&|own| own.infidelity_share);
            self.row(name, "infidelity, share", "", &share);
            for (n, percent) in PERCENTS.iter().enumerate() {
                let statistic = format!("sensitivity-n {percent}%");
                self.row(name, &statistic, "", &of(&|own| *own.sensitivity.get(n)?));
            }
            let average = of(&|own| mean(own.sensitivity.iter().copied()));
            self.row(name, "sensitivity-n, mean", "", &average);
        }
    }
}

impl Group<'_> {
    /// Agreement of seeds, and with the maps of shuffled models.
    fn checks(&mut self) {
        let checks = self.utterances.iter().filter_map(|own| own.checks.as_ref());
        let checks: Vec<&Checked> = checks.collect();
        let maps: BTreeSet<&String> = checks.iter().flat_map(|own| own.seeds.keys()).collect();
        for map in maps {
            let of = |value: &dyn Fn(&SeedAgreement) -> Option<f64>| -> Vec<Option<f64>> {
                let all = checks.iter();
                all.map(|own| value(own.seeds.get(map)?)).collect()
            };
            self.row(map, "seed agreement", "", &of(&|own| own.pooled));
            let full = of(&|own| own.full);
            self.row(map, "seed agreement, full resolution", "", &full);
        }
        let levels = checks.iter().flat_map(|own| own.randomised.keys());
        for level in BTreeSet::from_iter(levels) {
            let randomised = || checks.iter().filter_map(|own| own.randomised.get(level));
            let maps: BTreeSet<&String> = randomised().flat_map(BTreeMap::keys).collect();
            for map in maps {
                let values: Vec<Option<f64>> = randomised().map(|own| *own.get(map)?).collect();
                self.row(map, &format!("randomised {level}"), "", &values);
            }
        }
    }
}

/// Percent; 0 without words.
fn word_error_rate(written: impl Iterator<Item = Written>) -> f64 {
    let mut all = WordErrors::default();
    written.for_each(|own| all += own.words);
    all.rate().unwrap_or(0.0)
}

fn bleu(written: impl Iterator<Item = Written>) -> f64 {
    let mut all = BleuCounts::default();
    written.for_each(|own| all += own.bleu);
    all.score()
}

/// A head, or an average of heads.
#[derive(Clone, Copy, Debug)]
enum View {
    All,
    Layer(usize),
    AcrossLayers(usize),
    Head(usize, usize),
}

impl View {
    fn of(self, result: &MapResult, kind: Correlation) -> Option<f64> {
        let own = result.correlations.get(kind.name())?;
        match self {
            Self::All => own.all,
            Self::Layer(l) => *own.layers.get(l)?,
            Self::AcrossLayers(h) => *own.across_layers.get(h)?,
            Self::Head(l, h) => *own.heads.get(l)?.get(h)?,
        }
    }
}

/// All views of an attention like that of `example`, with their names.
fn views(example: &MapResult) -> Vec<(String, View)> {
    let mut views = vec![("all".to_owned(), View::All)];
    let Some(own) = example.correlations.values().next() else {
        return views;
    };
    let layers = 0..own.layers.len();
    views.extend(layers.map(|l| (format!("layer {}", l + 1), View::Layer(l))));
    let heads = 0..own.across_layers.len();
    let name = |h: usize| format!("head {} of all layers", h + 1);
    views.extend(heads.map(|h| (name(h), View::AcrossLayers(h))));
    for (l, layer) in own.heads.iter().enumerate() {
        let name = |h: usize| format!("layer {} head {}", l + 1, h + 1);
        views.extend((0..layer.len()).map(|h| (name(h), View::Head(l, h))));
    }
    views
}
