//! The rows of a study's tables, small enough to stand in a page.
//!
//! Models, directions, maps, statistics and parts of the attention are
//! numbered and stand there once, with all that the script has to know of them
//! as fields. Rows of one model, direction and map are a block; the statistics
//! and parts that a block has are mostly those of other blocks too, and stand
//! there once.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Serialize, Serializer};

use crate::study::faithfulness::{Curve, Measure};
use crate::study::manifest::translates;
use crate::study::map_name::MapName;
use crate::study::tables::{Attention, Row, Statistic, View, Weighting};

/// Significant digits of an embedded value.
const DIGITS: usize = 5;

/// All rows, in blocks.
#[derive(Debug, Serialize)]
pub(super) struct Embedded<'a> {
    models: Vec<&'a str>,
    directions: Vec<DirectionFields<'a>>,
    maps: Vec<MapFields>,
    statistics: Vec<StatisticFields>,
    attentions: Vec<AttentionFields>,
    /// What a block's rows are: statistic and attention of the first row, of
    /// the second, and so on, as numbers.
    shapes: Vec<Vec<usize>>,
    blocks: Vec<Block>,
}

#[derive(Debug, Serialize)]
struct DirectionFields<'a> {
    name: &'a str,
    translates: bool,
}

/// A map; one without a name where there is none.
#[derive(Debug, Serialize)]
struct MapFields {
    /// As in the tables.
    name: String,
    /// As the paper writes it, where it does.
    title: String,
}

impl MapFields {
    fn new(map: Option<MapName>) -> Self {
        Self {
            name: map.map(|map| map.to_string()).unwrap_or_default(),
            title: map.map(MapName::title).unwrap_or_default(),
        }
    }
}

/// Where the page shows rows, beside the long table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Group {
    Areas,
    Curves,
    Heads,
    Models,
    Times,
    /// Nowhere else.
    Other,
}

#[derive(Debug, Default, Serialize)]
struct StatisticFields {
    /// As in the tables.
    name: String,
    /// As it stands over a figure.
    title: String,
    group: Option<Group>,
    /// What is found by the page, whatever else it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// For correlations.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrected: Option<bool>,
    /// For points of curves and the areas under them.
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measure: Option<MeasureFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<usize>,
}

#[derive(Debug, Serialize)]
struct MeasureFields {
    name: &'static str,
    title: &'static str,
}

impl MeasureFields {
    fn new(measure: Measure) -> Self {
        let title = match measure {
            Measure::WordErrorRate => "word error rate, %",
            Measure::Bleu => "BLEU",
        };
        Self {
            name: measure.name(),
            title,
        }
    }
}

impl StatisticFields {
    fn new(statistic: Statistic) -> Self {
        let name = statistic.to_string();
        let mut fields = Self {
            title: name.clone(),
            name,
            ..Self::default()
        };
        let mut of_curve = |curve: Curve, measure: Measure| {
            fields.curve = Some(curve.name());
            fields.measure = Some(MeasureFields::new(measure));
        };
        let group = match statistic {
            Statistic::Correlation { kind, corrected } => {
                fields.correlation = Some(kind.name());
                fields.corrected = Some(corrected);
                Group::Heads
            }
            Statistic::Written(measure) => {
                fields.title = MeasureFields::new(measure).title.into();
                fields.role = Some(match measure {
                    Measure::WordErrorRate => "word-errors",
                    Measure::Bleu => "bleu",
                });
                Group::Models
            }
            Statistic::Gap => {
                fields.role = Some("gap");
                Group::Models
            }
            Statistic::Coverage => {
                fields.title = "coverage, %".into();
                fields.role = Some("coverage");
                Group::Models
            }
            Statistic::Reliability | Statistic::Masks => Group::Models,
            Statistic::Point {
                curve,
                percent,
                measure,
            } => {
                of_curve(curve, measure);
                fields.percent = Some(percent);
                Group::Curves
            }
            Statistic::Area { curve, measure } => {
                of_curve(curve, measure);
                Group::Areas
            }
            Statistic::SizeArea => Group::Areas,
            Statistic::WordsMatched | Statistic::Onset(_) => Group::Times,
            _ => Group::Other,
        };
        fields.group = Some(group);
        fields
    }
}

/// A part of an attention; one without a name where there is none.
#[derive(Debug, Default, Serialize)]
struct AttentionFields {
    /// As in the tables.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<ViewFields>,
}

/// A head, or an average of heads.
#[derive(Debug, Serialize)]
struct ViewFields {
    /// The name without the weighting's.
    name: String,
    weighting: &'static str,
    /// From 1; 0 for all.
    layer: usize,
    /// From 1; 0 for all.
    head: usize,
}

impl AttentionFields {
    fn new(attention: Option<Attention>) -> Self {
        let fields = |weighting: Weighting, view: View| {
            let (layer, head) = match view {
                View::All => (0, 0),
                View::Layer(l) => (l + 1, 0),
                View::AcrossLayers(h) => (0, h + 1),
                View::Head([l, h]) => (l + 1, h + 1),
            };
            ViewFields {
                name: view.to_string(),
                weighting: weighting.name(),
                layer,
                head,
            }
        };
        Self {
            name: attention.map(|own| own.to_string()).unwrap_or_default(),
            view: match attention {
                Some(Attention::View(weighting, view)) => Some(fields(weighting, view)),
                _ => None,
            },
        }
    }
}

/// The rows of one map.
#[derive(Debug, Serialize)]
struct Block {
    /// Numbers of model, direction and map.
    of: [usize; 3],
    /// Number of its shape.
    shape: usize,
    /// Mean, low and high of the first row, of the second, and so on.
    values: Vec<Short>,
    /// Utterances behind each row.
    counts: Counts,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Counts {
    Same(usize),
    Each(Vec<usize>),
}

/// A value with fewer digits; `null` where it is not finite.
#[derive(Clone, Copy, Debug)]
struct Short(f64);

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rounded = format!("{:.*e}", DIGITS - 1, self.0).parse::<f64>();
        match rounded {
            Ok(x) if x.is_finite() && x == x.trunc() && x.abs() < 1e9 => {
                serializer.serialize_i64(x as i64)
            }
            Ok(x) if x.is_finite() => serializer.serialize_f64(x),
            _ => serializer.serialize_none(),
        }
    }
}

/// Things in the order in which they first came, each with its number.
struct Numbered<T> {
    all: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    fn new() -> Self {
        Self {
            all: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    fn number(&mut self, one: T) -> usize {
        if let Some(&number) = self.numbers.get(&one) {
            return number;
        }
        self.all.push(one.clone());
        self.numbers.insert(one, self.all.len() - 1);
        self.all.len() - 1
    }

    fn fields<F>(self, of: impl Fn(T) -> F) -> Vec<F> {
        self.all.into_iter().map(of).collect()
    }
}

impl<'a> Embedded<'a> {
    pub(super) fn new(rows: &'a [Row]) -> Self {
        let (mut models, mut directions) = (Numbered::new(), Numbered::new());
        let (mut maps, mut statistics) = (Numbered::new(), Numbered::new());
        let (mut attentions, mut shapes) = (Numbered::new(), Numbered::new());
        let mut places = Numbered::new();
        let mut members: Vec<Vec<&Row>> = Vec::new();
        for row in rows {
            let place = places.number([
                models.number(row.model.as_str()),
                directions.number(row.direction.as_str()),
                maps.number(row.map),
            ]);
            if place == members.len() {
                members.push(Vec::new());
            }
            members[place].push(row);
        }
        let blocks = places.all.iter().zip(&members).map(|(&of, rows)| {
            let numbers = rows.iter().flat_map(|row| {
                [
                    statistics.number(row.statistic),
                    attentions.number(row.attention),
                ]
            });
            let shape = numbers.collect::<Vec<usize>>();
            let values = rows.iter().flat_map(|row| [row.mean, row.low, row.high]);
            let first = rows[0].utterances;
            Block {
                of,
                shape: shapes.number(shape),
                values: values.map(Short).collect(),
                counts: match rows.iter().all(|row| row.utterances == first) {
                    true => Counts::Same(first),
                    false => Counts::Each(rows.iter().map(|row| row.utterances).collect()),
                },
            }
        });
        let blocks = blocks.collect();
        Self {
            blocks,
            models: models.all,
            directions: directions.fields(|name| DirectionFields {
                name,
                translates: translates(name),
            }),
            maps: maps.fields(MapFields::new),
            statistics: statistics.fields(StatisticFields::new),
            attentions: attentions.fields(AttentionFields::new),
            shapes: shapes.all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(value: f64) -> String {
        serde_json::to_string(&Short(value)).unwrap()
    }

    #[test]
    fn five_digits_are_kept_of_large_and_small_values() {
        assert_eq!(short(0.888_042_106), "0.88804");
        assert_eq!(short(-12.345_678), "-12.346");
        assert_eq!(short(1920.0), "1920");
        assert_eq!(short(0.0), "0");
        assert_eq!(short(1.234_567e-9), "1.2346e-9");
        assert_eq!(short(f64::NAN), "null");
        assert_eq!(short(f64::INFINITY), "null");
    }

    #[test]
    fn every_statistic_has_its_place() {
        let of = |text: &str| StatisticFields::new(text.parse().unwrap()).group.unwrap();
        for (text, group) in [
            ("kendall, corrected", Group::Heads),
            ("gap", Group::Models),
            ("masks", Group::Models),
            ("bleu", Group::Models),
            ("insertion 35%, bleu", Group::Curves),
            ("deletion area, bleu", Group::Areas),
            ("size area", Group::Areas),
            ("onset words matched", Group::Times),
            ("pointing game", Group::Times),
            ("infidelity, share", Group::Other),
            ("randomised decoder", Group::Other),
        ] {
            assert_eq!(of(text), group, "{text}");
        }
    }
}
