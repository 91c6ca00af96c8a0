//! What a study found, in a few plain sentences with their numbers.

use std::collections::BTreeSet;

use super::super::faithfulness::{Curve, Measure};
use super::super::map_name::MapName;
use super::super::onset_statistics::OnsetStatistic;
use super::super::statistics::Correlation;
use super::{Attention, ENOUGH, Row, Statistic, Tables, View, Weighting};
use crate::align::Rule;
use crate::explain::{Method, Site};

/// What a row is of: map, statistic and attention.
type Place = (Option<MapName>, Statistic, Option<Attention>);

const PEARSON: Statistic = Statistic::Correlation {
    kind: Correlation::Pearson,
    corrected: false,
};
const DELETION: Statistic = Statistic::Area {
    curve: Curve::Deletion,
    measure: Measure::WordErrorRate,
};
const ONSETS: Statistic = Statistic::Onset(OnsetStatistic::MeanError);

fn of_attention(map: MapName) -> Place {
    (Some(map), PEARSON, Some(Attention::ALL))
}

fn of_map(map: MapName, statistic: Statistic) -> Place {
    (Some(map), statistic, None)
}

/// A number of a row: three digits or two decimals.
fn number(value: f64, unit: &str) -> String {
    let decimals = match value.abs() {
        size if size >= 99.5 => 0,
        size if size >= 9.95 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}{unit}")
}

/// The mean over models and directions.
fn mean(rows: &[&Row]) -> Option<f64> {
    let sum: f64 = rows.iter().map(|row| row.mean).sum();
    (!rows.is_empty() && sum.is_finite()).then(|| sum / rows.len() as f64)
}

impl Tables {
    /// At most nine lines: what was studied, and what was found where it was
    /// measured. Of several models or directions the least and the most are
    /// said, with their names.
    pub fn conclusion(&self) -> String {
        let mut lines = vec![self.studied()];
        let found = [
            self.says(
                "Cross-attention, all heads averaged, agrees with what counts in the sound (SPES at \
                 the input) to rho ",
                of_attention(MapName::INPUT),
                "",
            ),
            self.says(
                "With what counts at the encoder's output attention agrees to rho ",
                of_attention(MapName::ENCODER),
                &self.gap(),
            ),
            self.best_parts(),
            self.says(
                "With gradients at the encoder's output attention agrees to rho ",
                of_attention(MapName::At(Method::Gradient, Site::Encoder)),
                "",
            ),
            self.reliability(),
            self.deletion(),
            self.onsets(),
        ];
        lines.extend(found.into_iter().flatten());
        lines.extend(self.few());
        lines.join("\n") + "\n"
    }

    fn at(&self, place: Place) -> Vec<&Row> {
        let own = |row: &&Row| (row.map, row.statistic, row.attention) == place;
        self.rows.iter().filter(own).collect()
    }

    /// Model and direction, as far as they are needed to tell rows apart.
    fn subject(&self, row: &Row) -> String {
        let several = |name: fn(&Row) -> &String| {
            let names: BTreeSet<&String> = self.rows.iter().map(name).collect();
            names.len() > 1
        };
        let model = several(|row| &row.model).then_some(&*row.model);
        let direction = several(|row| &row.direction).then_some(&*row.direction);
        let names: Vec<&str> = model.into_iter().chain(direction).collect();
        names.join(" ")
    }

    /// One row's number with its interval, or the least and the most of several.
    fn values(&self, rows: &[&Row]) -> Option<String> {
        let finite = rows.iter().filter(|row| row.mean.is_finite());
        let mut rows: Vec<&&Row> = finite.collect();
        rows.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        match *rows.as_slice() {
            [] => None,
            [row] => {
                let [mean, low, high] = [row.mean, row.low, row.high].map(|x| number(x, ""));
                Some(match row.is_of_few() {
                    true => format!("{mean} ({low} to {high} in {} utterances)", row.utterances),
                    false => format!("{mean} [{low}, {high}]"),
                })
            }
            [least, .., most] => {
                let [low, high] = [least, most].map(|row| number(row.mean, ""));
                let [first, last] = [least, most].map(|row| self.subject(row));
                Some(format!("{low} ({first}) to {high} ({last})"))
            }
        }
    }

    /// A sentence about the rows at a place, if there are any.
    fn says(&self, before: &str, place: Place, after: &str) -> Option<String> {
        let values = self.values(&self.at(place))?;
        Some(format!("{before}{values}{after}."))
    }

    /// How much more that is than at the input.
    fn gap(&self) -> String {
        let place = (
            Some(MapName::EncoderLessInput),
            Statistic::Gap,
            Some(Attention::ALL),
        );
        let gap = self.values(&self.at(place));
        gap.map_or_else(String::new, |gap| {
            format!("; the gap between both is {gap}")
        })
    }

    fn studied(&self) -> String {
        let models: BTreeSet<&str> = self.settings.iter().map(|own| &*own.model).collect();
        let directions: BTreeSet<&str> = self.rows.iter().map(|row| &*row.direction).collect();
        let mut done = 0;
        for model in &models {
            for direction in &directions {
                let own = |row: &&Row| row.model == *model && row.direction == *direction;
                let counts = self.rows.iter().filter(own).map(|row| row.utterances);
                done += counts.max().unwrap_or(0);
            }
        }
        let named = |names: BTreeSet<&str>, what: &str| match names.len() {
            0..=3 => Vec::from_iter(names).join(", "),
            count => format!("{count} {what}"),
        };
        let named = [named(models, "models"), named(directions, "directions")];
        let named = named.iter().filter(|own| !own.is_empty());
        let named: String = named.map(|own| format!("; {own}")).collect();
        let failed = self.failures.len();
        format!("{done} utterances explained, {failed} failed{named}.")
    }

    /// The layer and the head that agree best with SPES at the encoder's output,
    /// of all models and directions.
    fn best_parts(&self) -> Option<String> {
        let best = |is_part: fn(&View) -> bool| {
            let rows = self.rows.iter().filter(|row| {
                let of_part = match row.attention {
                    Some(Attention::View(Weighting::Plain, view)) => is_part(&view),
                    _ => false,
                };
                of_part && row.map == Some(MapName::ENCODER) && row.statistic == PEARSON
            });
            let finite = rows.filter(|row| row.mean.is_finite());
            finite.max_by(|a, b| a.mean.total_cmp(&b.mean))
        };
        let said = |row: &Row| {
            let [.., part] = row.names();
            let subject = self.subject(row);
            let of = if subject.is_empty() {
                String::new()
            } else {
                format!(" of {subject}")
            };
            format!("{part}{of} ({})", number(row.mean, ""))
        };
        let layer = best(|view| matches!(view, View::Layer(_)))?;
        let head = best(|view| matches!(view, View::Head(_)))?;
        Some(format!(
            "The layer that agrees best with it is {}, the head {}.",
            said(layer),
            said(head)
        ))
    }

    fn reliability(&self) -> Option<String> {
        let rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.statistic == Statistic::Reliability)
            .collect();
        let least = rows.iter().min_by(|a, b| a.mean.total_cmp(&b.mean))?;
        let verdict = match least.mean {
            x if x >= 0.8 => "more masks would change little",
            _ => "with more masks the numbers above would be higher",
        };
        Some(format!(
            "The least reliable SPES maps are so to {} ({}): {verdict}.",
            number(least.mean, ""),
            least.names()[2]
        ))
    }

    /// How much deleting what attention calls important harms.
    fn deletion(&self) -> Option<String> {
        let area = |map: MapName| mean(&self.at(of_map(map, DELETION)));
        let attention = area(MapName::ATTENTION)?;
        let random = area(MapName::Random)?;
        let spes = area(MapName::INPUT).map(|spes| format!(", by SPES {}", number(spes, "%")));
        Some(format!(
            "Deleting by attention makes a mean word error rate of {}, at random of {}{}.",
            number(attention, "%"),
            number(random, "%"),
            spes.unwrap_or_default()
        ))
    }

    fn onsets(&self) -> Option<String> {
        // Errors by different rules have no mean.
        let known = self.settings.iter().filter_map(|own| own.settings.onsets);
        let rules: Vec<Option<Rule>> = known.map(|own| own.rule).collect();
        if rules.windows(2).any(|pair| pair[0] != pair[1]) {
            return None;
        }
        let error =
            |map: MapName, part: Option<Attention>| mean(&self.at((Some(map), ONSETS, part)));
        let attention = error(MapName::ATTENTION, Some(Attention::ALL))?;
        let others = self.rows.iter().filter(|row| {
            row.statistic == ONSETS && row.attention.is_none() && row.map != Some(MapName::Even)
        });
        let maps: BTreeSet<MapName> = others.filter_map(|row| row.map).collect();
        let errors = maps
            .iter()
            .filter_map(|&map| Some((map, error(map, None)?)));
        let best = errors.min_by(|a, b| a.1.total_cmp(&b.1));
        let best = best.map(|(map, error)| format!(", {map} by {}", number(error, " s")));
        let even = error(MapName::Even, None);
        let even = even.map(|even| format!(", words spread evenly by {}", number(even, " s")));
        Some(format!(
            "Attention misses the beginnings of words by {}{}{}, in the mean.",
            number(attention, " s"),
            best.unwrap_or_default(),
            even.unwrap_or_default()
        ))
    }

    /// A warning where intervals are of few utterances.
    fn few(&self) -> Option<String> {
        let few = self.rows.iter().filter(|row| row.is_of_few());
        let least = few.clone().map(|row| row.utterances).min()?;
        let all = if few.count() == self.rows.len() {
            "All"
        } else {
            "Some"
        };
        Some(format!(
            "{all} intervals are of fewer than {ENOUGH} utterances (the least of {least}): they show \
             how these few differ and are no 95% intervals."
        ))
    }
}
