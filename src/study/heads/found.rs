//! What was found about a model's heads: one document, as JSON and as a text
//! for a terminal.

use std::fmt;

use serde::Serialize;

use super::super::choosing::Criterion;
use super::super::onset_statistics::OnsetStatistic;
use super::super::statistics::Interval;
use super::super::tables::Failure;
use super::super::watch::Warning;
use super::{
    Choice, Difference, Forward, HeadSet, RankedHead, Reading, Sets, Settings, Survey, Tried,
    listed,
};
use crate::explain::alignment::Head;
use crate::{Error, Result};

/// Identifies the document's format; `version` counts incompatible changes.
pub const FORMAT: &str = "sonograd-heads";
pub const VERSION: u32 = 1;

/// Which heads are to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Wanted {
    /// The best single heads.
    #[default]
    Best,
    /// Heads that are good clocks together, by greedy forward selection.
    Forward,
}

/// A model's heads, ranked, and the best of them together.
#[derive(Serialize)]
pub struct Found<'a> {
    format: &'static str,
    version: u32,
    /// Version of the program.
    sonograd: &'static str,
    pub model: &'a str,
    pub settings: &'a Settings,
    /// Whether all utterances were asked and all sets were tried.
    pub complete: bool,
    /// The best first.
    #[serde(rename = "heads")]
    pub ranking: Vec<RankedHead>,
    /// How many heads were to be chosen.
    pub top: usize,
    pub set: Wanted,
    /// Those of `set`, by layer and head.
    #[serde(rename = "alignment_heads")]
    pub chosen: Vec<Head>,
    #[serde(skip)]
    best: Vec<Head>,
    pub onsets: Matched,
    /// Empty where no onsets are known.
    pub sets: Vec<HeadSet>,
    pub difference: Option<Difference>,
    /// Absent where no onsets are known.
    pub forward: Option<Forward>,
    pub utterances: &'a [Reading],
    pub failures: &'a [Failure],
}

/// What is known of true onsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Matched {
    /// Utterances that have such words.
    pub utterances: usize,
    /// Spoken words that the model wrote.
    pub words: usize,
}

impl<'a> Found<'a> {
    /// Ranks the heads of a survey and chooses the best `top`; tells `watch` of
    /// the sets that are tried. Where that asks to stop, it is not complete.
    ///
    /// # Errors
    /// If the survey says nothing about any head, or nothing of onsets and they
    /// are needed.
    pub fn new(
        model: &'a str,
        settings: &'a Settings,
        survey: &'a Survey,
        (top, set): (usize, Wanted),
        watch: &mut dyn FnMut(Tried) -> bool,
    ) -> Result<Self> {
        let problem = |problem: String| Err(Error::Input(problem));
        let (words, utterances) = survey.matched();
        if survey.readings.is_empty() {
            return problem(match survey.failures.len() {
                0 => "stopped before the first utterance was done".into(),
                failed => format!("all of {failed} utterances failed"),
            });
        }
        let needed = settings.by == Criterion::Onsets || set == Wanted::Forward;
        if needed && words == 0 {
            return problem("of the words with true onsets the model wrote none".into());
        }
        let best = survey.best(top);
        if best.is_empty() {
            let by = settings.by;
            return problem(format!("no head varies with {by}; there is no best"));
        }
        let Sets {
            sets,
            difference,
            forward,
        } = survey.sets(top, watch)?;
        let stopped = words > 0 && forward.is_none();
        let chosen = match (set, &forward) {
            (Wanted::Best, _) => best.clone(),
            (Wanted::Forward, Some(own)) => own.places(),
            (Wanted::Forward, None) => Vec::new(),
        };
        Ok(Self {
            format: FORMAT,
            version: VERSION,
            sonograd: env!("CARGO_PKG_VERSION"),
            model,
            settings,
            complete: survey.complete && !stopped,
            ranking: survey.ranking(),
            top,
            set,
            chosen,
            best,
            onsets: Matched { utterances, words },
            sets,
            difference,
            forward,
            utterances: &survey.readings,
            failures: &survey.failures,
        })
    }

    /// Says so if there are fewer heads to choose than were wanted.
    pub fn warning(&self) -> Option<Warning> {
        let found = self.best.len();
        (self.set == Wanted::Best && found < self.top).then_some(Warning::FewHeads {
            found,
            by: self.settings.by,
            wanted: self.top,
        })
    }

    /// The document as JSON, names in order.
    ///
    /// # Errors
    /// If something cannot be said in JSON.
    pub fn json(&self) -> Result<String> {
        let value = serde_json::to_value(self);
        let value = value.map_err(|problem| Error::file("JSON", problem))?;
        Ok(format!("{value:#}"))
    }

    fn write_ranking(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agreement = self.settings.by != Criterion::Onsets;
        let timed = self.onsets.utterances > 0;
        f.write_str("rank  layer  head")?;
        for (shown, title) in [(agreement, "agreement"), (timed, "onset error, s")] {
            if shown {
                write!(f, "  {title:<23}  utterances")?;
            }
        }
        for row in &self.ranking {
            write!(f, "\n{:>4}  {:>5}  {:>4}", row.rank, row.layer, row.head)?;
            let columns = [(agreement, row.agreement), (timed, row.onset_error)];
            for (_, interval) in columns.into_iter().filter(|(shown, _)| *shown) {
                let count = interval.map_or(0, |interval| interval.count);
                write!(f, "  {:<23}  {count:>10}", shown(interval, 3))?;
            }
        }
        Ok(())
    }

    fn write_sets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matched { utterances, words } = self.onsets;
        let top = self.top;
        write!(
            f,
            "\nonset errors of heads averaged, {words} words of {utterances} utterances; sets \
             of {top} heads are chosen\non other utterances than those they are scored on\n\n"
        )?;
        let name = |set: &HeadSet| match set.by {
            Choice::All => format!("all {}", self.ranking.len()),
            Choice::Even => "none, evenly spaced".into(),
            Choice::Best(by) => format!("best {top} by {by}"),
            Choice::Forward => "greedy forward selection".into(),
        };
        let names: Vec<String> = self.sets.iter().map(name).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let mut line = " ".repeat(width);
        for (title, _, _) in COLUMNS {
            line += &format!("  {title:<20}");
        }
        writeln!(f, "{}", line.trim_end())?;
        for (set, name) in self.sets.iter().zip(names) {
            let mut line = format!("{name:<width$}");
            for (_, statistic, digits) in COLUMNS {
                let interval = set.statistics.get(&statistic).copied();
                line += &format!("  {:<20}", shown(interval, digits));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        match &self.difference {
            Some(Difference {
                by,
                less,
                onset_error,
            }) => {
                let seconds = shown(Some(*onset_error), 3);
                writeln!(f, "\nmean by {by} less mean by {less}: {seconds} s")?;
            }
            None if self.sets.len() == 2 => {
                f.write_str("\ntoo few utterances to choose on others\n")?;
            }
            None => {}
        }
        match &self.forward {
            Some(forward) => write_forward(f, forward),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, by, heads) = (self.model, self.settings.by, self.ranking.len());
        let utterances = self.utterances.len();
        writeln!(
            f,
            "{name}: {heads} heads by {by} over {utterances} utterances; layers and heads from 0\n"
        )?;
        self.write_ranking(f)?;
        let (top, listed) = (self.top, listed(&self.best));
        write!(
            f,
            "\n\nthe best {top}, as align takes them: --heads {listed}\n"
        )?;
        match self.sets.is_empty() {
            true => Ok(()),
            false => self.write_sets(f),
        }
    }
}

/// Heads in the order in which they were added, and what each made of the
/// error.
fn write_forward(f: &mut fmt::Formatter<'_>, forward: &Forward) -> fmt::Result {
    if let Some(own) = forward.less_all {
        let seconds = shown(Some(own), 3);
        writeln!(
            f,
            "mean by greedy forward selection less mean of all: {seconds} s"
        )?;
    }
    let added = forward.heads.iter();
    let added = added.map(|own| format!("{}.{} {:.3}", own.layer, own.head, own.onset_error));
    let (listed, added) = (listed(&forward.places()), added.collect::<Vec<_>>());
    write!(
        f,
        "\ngreedy forward selection over all utterances: --heads {listed}\nadded one by one, mean \
         error on these utterances in s: {}\n",
        added.join(", ")
    )
}

/// Columns of the table of sets: their heads, statistics and decimals.
const COLUMNS: [(&str, OnsetStatistic, usize); 5] = [
    ("mean, s", OnsetStatistic::MeanError, 3),
    ("median, s", OnsetStatistic::MedianError, 3),
    ("within 50 ms, %", OnsetStatistic::Within50, 1),
    ("within 100 ms, %", OnsetStatistic::Within100, 1),
    ("within 200 ms, %", OnsetStatistic::Within200, 1),
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
