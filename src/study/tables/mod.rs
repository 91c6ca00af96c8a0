//! Means over utterances, with intervals, from the logs of a study.

mod attention;
mod conclusion;
mod group;
mod onsets;
mod statistic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::faithfulness::{Curve, Measure};
use super::folder::logs_in;
use super::log::{self, Header};
use super::map_name::MapName;
use super::onset_statistics::OnsetStatistic;
use super::record::{Outcome, Record, Utterance};
use super::statistics::Correlation;
use super::text::or_empty;
use crate::{Error, Result, shown};
pub use attention::{Attention, View, Weighting};
use group::Group;
pub use statistic::Statistic;

/// The first line of a summary.
pub const SUMMARY: &str = "sonograd study: the summary";

/// How the first line of the rows as comma-separated values begins, in every
/// version.
pub const COLUMNS: &str = "model,direction,map,statistic,attention,mean,low,high,utterances";

/// Fewer utterances than this have no 95% interval: even the whole range of 4
/// values misses the middle of what they are drawn from one time in eight.
pub const ENOUGH: usize = 5;

/// One row: a mean over utterances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Row {
    pub model: String,
    pub direction: String,
    /// What attention is compared with, or what is measured itself; absent
    /// where it is the text.
    #[serde(with = "or_empty")]
    pub map: Option<MapName>,
    pub statistic: Statistic,
    /// Absent where no attention has a part.
    #[serde(with = "or_empty")]
    pub attention: Option<Attention>,
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Utterances that the mean is of.
    pub utterances: usize,
}

/// A row as it stands in files: with what its interval is.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            #[serde(flatten, serialize_with = "own")]
            row: &'a Row,
            interval: &'static str,
        }
        fn own<S: Serializer>(row: &&Row, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            // Without the interval: what is derived, not this.
            Row::serialize(row, serializer)
        }
        let written = Written {
            row: self,
            interval: self.interval(),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

impl Row {
    /// Whether its interval is of too few utterances to be a 95% interval.
    pub fn is_of_few(&self) -> bool {
        self.utterances < ENOUGH
    }

    /// What its interval is, as it stands in files.
    pub fn interval(&self) -> &'static str {
        match self.is_of_few() {
            true => "too few utterances",
            false => "95%",
        }
    }

    /// Model, direction, map, statistic and attention as they stand in files;
    /// empty where there is none.
    pub fn names(&self) -> [String; 5] {
        let text = |name: Option<String>| name.unwrap_or_default();
        [
            self.model.clone(),
            self.direction.clone(),
            text(self.map.map(|map| map.to_string())),
            self.statistic.to_string(),
            text(self.attention.map(|attention| attention.to_string())),
        ]
    }
}

/// An utterance that could not be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Makes the tables of all logs (`*.jsonl`, `*.jsonl.gz`) in some folders;
    /// several logs of one model with the same settings are shards of one study.
    ///
    /// # Errors
    /// If there is no log, one cannot be read, or shards were made with
    /// different settings or overlap.
    pub fn new(folders: &[PathBuf]) -> Result<Self> {
        let mut paths = Vec::new();
        for folder in folders {
            paths.extend(logs_in(folder)?);
        }
        paths.sort();
        let first = folders
            .first()
            .map(PathBuf::as_path)
            .unwrap_or(Path::new("."));
        if paths.is_empty() {
            return Err(Error::file(
                first,
                "has no logs of a study (*.jsonl, *.jsonl.gz)",
            ));
        }
        let mut studies: BTreeMap<String, Study> = BTreeMap::new();
        for path in &paths {
            // A run that has just begun has no line yet.
            let Some(contents) = log::read_begun(path)? else {
                continue;
            };
            let model = contents.header.model.clone();
            let Some(study) = studies.get_mut(&model) else {
                let study = Study {
                    header: contents.header,
                    records: contents.records,
                };
                studies.insert(model, study);
                continue;
            };
            if let Some(differences) = study.header.differences(&contents.header) {
                let problem = format!("another log of {model} was made with {differences}");
                return Err(Error::file(path, problem));
            }
            study.records.extend(contents.records);
        }
        if studies.is_empty() {
            return Err(Error::file(first, "has no log with a finished utterance"));
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
            // Tables say what was done, and are the same of the same numbers.
            study.header.about = None;
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
            Group::new(model, direction, &utterances, &mut self.rows).all();
        }
    }

    /// All tables as JSON.
    ///
    /// # Errors
    /// If something cannot be said in JSON.
    pub fn json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self);
        let json = json.map_err(|problem| Error::file("JSON", problem))?;
        Ok(json + "\n")
    }

    /// The rows as comma-separated values.
    pub fn csv(&self) -> String {
        let mut text = format!("{COLUMNS},interval\n");
        for row in &self.rows {
            let quoted = row.names().map(|field| shown::cell(&field)).join(",");
            let Row {
                mean,
                low,
                high,
                utterances,
                ..
            } = row;
            let interval = row.interval();
            text += &format!("{quoted},{mean},{low},{high},{utterances},{interval}\n");
        }
        text
    }

    /// The conclusion, and the rows that one wants to see first: attention
    /// averaged over all heads and layers against each map, by Pearson's
    /// correlation, and what else there is one number of.
    pub fn summary(&self) -> String {
        let mut text = format!("{SUMMARY}\n\n{}\n", self.conclusion());
        let mut place = (String::new(), String::new());
        for row in &self.rows {
            if !is_first(row) {
                continue;
            }
            if place != (row.model.clone(), row.direction.clone()) {
                place = (row.model.clone(), row.direction.clone());
                text += &format!("{} {}\n", row.model, row.direction);
            }
            let weighted = match row.attention {
                Some(Attention::View(weighting, _)) if weighting != Weighting::Plain => {
                    format!(", {}", weighting.name())
                }
                _ => String::new(),
            };
            let [_, _, map, statistic, _] = row.names();
            let name = format!("{map} {statistic}{weighted}");
            text += &format!(
                "  {name:<42} {:>8.3} [{:.3}, {:.3}] of {}{}\n",
                row.mean,
                row.low,
                row.high,
                row.utterances,
                if row.is_of_few() {
                    ", too few for a 95% interval"
                } else {
                    ""
                }
            );
        }
        if !self.failures.is_empty() {
            text += &format!("{} utterances failed\n", self.failures.len());
        }
        text
    }
}

/// Whether a row is among those that one wants to see first.
fn is_first(row: &Row) -> bool {
    let all = matches!(row.attention, Some(Attention::View(_, View::All)));
    match row.statistic {
        Statistic::Correlation { kind, .. } => kind == Correlation::Pearson && all,
        Statistic::Gap | Statistic::Coverage | Statistic::Reliability | Statistic::SizeArea => true,
        Statistic::Written(measure) => measure == Measure::WordErrorRate,
        Statistic::Area { curve, measure } => {
            (curve, measure) == (Curve::Deletion, Measure::WordErrorRate)
        }
        Statistic::Onset(OnsetStatistic::MeanError) => {
            row.attention.is_none() || row.attention == Some(Attention::ALL)
        }
        _ => false,
    }
}
