//! What a study's page says without scripts: settings, failures and the
//! tables that one wants to see first.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::super::markup::escape;
use super::command;
use super::{PAPER, Range};
use crate::study::faithfulness::Measure;
use crate::study::log::Header;
use crate::study::map_name::MapName;
use crate::study::statistics::Correlation;
use crate::study::tables::{Attention, Row, Statistic, Tables};

/// The minus sign; a hyphen is shorter than the digits are wide.
const MINUS: &str = "\u{2212}";

/// The rows of one model in one direction.
pub(super) struct Subject<'a> {
    model: &'a str,
    direction: &'a str,
    rows: Vec<&'a Row>,
    places: HashMap<Place, &'a Row>,
}

/// What a row is of: map, statistic and attention.
type Place = (Option<MapName>, Statistic, Option<Attention>);

/// Plain attention over all heads and layers against a map.
fn of_all(map: MapName, statistic: Statistic) -> Place {
    (Some(map), statistic, Some(Attention::ALL))
}

fn pearson(map: MapName, corrected: bool) -> Place {
    let kind = Correlation::Pearson;
    of_all(map, Statistic::Correlation { kind, corrected })
}

/// About a map alone.
fn of_map(map: MapName, statistic: Statistic) -> Place {
    (Some(map), statistic, None)
}

fn written(measure: Measure) -> Place {
    (None, Statistic::Written(measure), None)
}

impl<'a> Subject<'a> {
    /// All subjects in the order of the rows.
    pub(super) fn all(rows: &'a [Row]) -> Vec<Self> {
        let mut subjects: Vec<Self> = Vec::new();
        for row in rows {
            let (model, direction) = (&*row.model, &*row.direction);
            let own = |one: &Self| one.model == model && one.direction == direction;
            let place = subjects.iter().rposition(own).unwrap_or_else(|| {
                subjects.push(Self {
                    model,
                    direction,
                    rows: Vec::new(),
                    places: HashMap::new(),
                });
                subjects.len() - 1
            });
            let subject = &mut subjects[place];
            subject.rows.push(row);
            let place = (row.map, row.statistic, row.attention);
            subject.places.insert(place, row);
        }
        subjects
    }

    fn row(&self, place: Place) -> Option<&'a Row> {
        self.places.get(&place).copied()
    }

    /// Utterances that were explained.
    fn utterances(&self) -> usize {
        let counts = self.rows.iter().map(|row| row.utterances);
        counts.max().unwrap_or(0)
    }
}

/// A table's lines, one for each subject; directions of one model stand
/// beside one heading.
fn lines(subjects: &[&Subject], cells: &dyn Fn(&Subject) -> String) -> String {
    let mut out = String::new();
    for own in subjects.chunk_by(|a, b| a.model == b.model) {
        for (n, subject) in own.iter().enumerate() {
            out += "<tr>";
            if n == 0 {
                out += &format!(
                    "<th scope=\"rowgroup\" rowspan=\"{}\" dir=\"auto\">{}</th>",
                    own.len(),
                    escape(subject.model)
                );
            }
            let direction = escape(subject.direction);
            out += &format!("<th scope=\"row\">{direction}</th>{}</tr>", cells(subject));
        }
    }
    out
}

/// A table with its caption, inside a box that scrolls by itself, for the
/// keyboard too; a caption in the table would scroll away with it.
fn table(id: &str, caption: &str, head: &[&str], body: &str) -> String {
    let cells = head
        .iter()
        .map(|text| format!("<th scope=\"col\">{text}</th>"));
    format!(
        "<p class=\"caption\" id=\"{id}\">{caption}</p>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"{id}\">\
         <table aria-labelledby=\"{id}\"><thead><tr>{}</tr></thead><tbody>{body}</tbody></table></div>",
        cells.collect::<String>()
    )
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn in_words(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// "1 utterance", "2 utterances".
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Versions of the program behind the logs.
pub(super) fn versions(tables: &Tables) -> String {
    let versions: BTreeSet<&str> = tables.settings.iter().map(|own| &*own.sonograd).collect();
    Vec::from_iter(versions).join(", ")
}

// ------------------------------------------------------------------ numbers

/// Decimals at which the largest of some values has three digits; none where
/// only powers of ten can say it.
fn decimals(values: &[f64]) -> Option<usize> {
    let finite = values.iter().filter(|x| x.is_finite());
    let size = finite.fold(0.0_f64, |size, x| size.max(x.abs()));
    match size {
        0.0 => Some(1),
        size if !(1e-3..1e6).contains(&size) => None,
        size => Some((2.0 - size.log10().floor()).clamp(0.0, 5.0) as usize),
    }
}

fn number(value: f64, decimals: Option<usize>) -> String {
    if !value.is_finite() {
        return "not finite".into();
    }
    let text = match decimals {
        Some(decimals) => format!("{value:.decimals$}"),
        None => format!("{value:.2e}"),
    };
    text.replace('-', MINUS)
}

/// A cell with a row's mean and interval, and its count where that is not
/// `count`.
fn value(row: Option<&Row>, count: usize) -> String {
    judged(row, count, "")
}

/// The same with a word about it.
fn judged(row: Option<&Row>, count: usize, word: &str) -> String {
    let Some(row) = row else {
        return "<td class=\"value none\">\u{2013}</td>".into();
    };
    let (class, few) = match row.is_of_few() {
        true => ("interval few", " too few"),
        false => ("interval", ""),
    };
    let decimals = decimals(&[row.mean, row.low, row.high]);
    let [mean, low, high] = [row.mean, row.low, row.high].map(|x| number(x, decimals));
    let of = match row.utterances == count {
        true => String::new(),
        false => format!(" <span class=\"interval\">of {}</span>", row.utterances),
    };
    let word = match word {
        "" => String::new(),
        word => format!(" <span class=\"verdict\">{word}</span>"),
    };
    format!(
        "<td class=\"value\">{mean} <span class=\"{class}\">[{low}, {high}]{few}</span>{of}{word}</td>"
    )
}

/// A map's name as the paper writes it, where it does.
fn map_name(map: MapName) -> String {
    escape(&map.title())
        .replace("^X", "<sup>X</sup>")
        .replace("^H", "<sup>H</sup>")
}

// ----------------------------------------------------------------- sections

/// A setting as text: `max`, `reliability 0.9`.
fn setting(value: &Value) -> String {
    match value {
        Value::Null => "default".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(setting).collect::<Vec<_>>().join(", "),
        Value::Object(all) => {
            let parts = all
                .iter()
                .map(|(key, value)| format!("{key} {}", setting(value)));
            parts.collect::<Vec<_>>().join(", ")
        }
        number => number.to_string(),
    }
}

/// What was studied, in a list of names and values.
pub(super) fn facts(tables: &Tables, subjects: &[Subject]) -> String {
    let directions: BTreeSet<&str> = subjects.iter().map(|own| own.direction).collect();
    let done: usize = subjects.iter().map(Subject::utterances).sum();
    let mut facts = vec![
        ("Directions", Vec::from_iter(directions).join(", ")),
        ("Utterances explained", done.to_string()),
        ("Failed", tables.failures.len().to_string()),
    ];
    // A setting of all models; the table of settings has the others.
    let entries: Vec<Map<String, Value>> = entries(tables);
    let common = |key: &str| {
        let mut values = entries.iter().map(|own| own.get(key));
        let first = values.next()??;
        values.all(|own| own == Some(first)).then(|| setting(first))
    };
    let named = [
        ("stop", "SPES masks"),
        ("pooling", "Pooling"),
        ("normalisation", "Normalised by"),
        ("seed", "Seed"),
    ];
    for (key, name) in named {
        if let Some(value) = common(key) {
            facts.push((name, value));
        }
    }
    let facts = facts.iter().map(|(name, value)| {
        let value = match value.is_empty() {
            true => "none",
            false => value,
        };
        format!(
            "<div><dt>{name}</dt><dd dir=\"auto\">{}</dd></div>",
            escape(value)
        )
    });
    facts.collect()
}

/// What was found, sentence by sentence.
pub(super) fn conclusion(tables: &Tables) -> String {
    let conclusion = tables.conclusion();
    let lines = conclusion.lines();
    let items = lines.map(|line| format!("<li dir=\"auto\">{}</li>", escape(line)));
    items.collect()
}

/// Utterances that could not be done, and why.
pub(super) fn failures(tables: &Tables) -> String {
    if tables.failures.is_empty() {
        return String::new();
    }
    let rows = tables.failures.iter().map(|failure| {
        format!(
            "<tr><th scope=\"row\" dir=\"auto\">{}</th><td dir=\"auto\">{}</td><td dir=\"auto\">{}</td>\
             <td class=\"wide\" dir=\"auto\">{}</td></tr>",
            escape(&failure.model),
            escape(&failure.direction),
            escape(&failure.id),
            escape(&failure.error)
        )
    });
    format!(
        "<details id=\"failures\"><summary>{} failed</summary>{}</details>",
        counted(tables.failures.len(), "utterance"),
        table(
            "failures-caption",
            "Utterances that failed, and are in no number",
            &["Model", "Direction", "Utterance", "Reason"],
            &rows.collect::<String>()
        )
    )
}

/// Settings by their names, log after log.
fn entries(tables: &Tables) -> Vec<Map<String, Value>> {
    let settings = tables.settings.iter();
    settings.map(|own| own.settings.entries()).collect()
}

/// Every setting of every log.
pub(super) fn settings(tables: &Tables) -> String {
    let entries = entries(tables);
    let keys: BTreeSet<&String> = entries.iter().flat_map(Map::keys).collect();
    let models: Vec<String> = tables
        .settings
        .iter()
        .map(|own| escape(&own.model))
        .collect();
    let mut head = vec!["Setting"];
    head.extend(models.iter().map(|name| &**name));
    let line = |name: &str, of: &dyn Fn(&Header, &Map<String, Value>) -> String| {
        let logs = tables.settings.iter().zip(&entries);
        let cells = logs.map(|(own, entries)| format!("<td>{}</td>", escape(&of(own, entries))));
        let name = escape(&name.replace('_', " "));
        format!(
            "<tr><th scope=\"row\">{name}</th>{}</tr>",
            cells.collect::<String>()
        )
    };
    let mut body = line("version of sonograd", &|own, _| own.sonograd.clone());
    for key in keys {
        body += &line(key, &|_, entries| match entries.get(key) {
            Some(value) => setting(value),
            None => "\u{2013}".into(),
        });
    }
    table(
        "settings-caption",
        "Settings of the logs, by model",
        &head,
        &body,
    )
}

/// Models side by side.
pub(super) fn comparison(subjects: &[Subject]) -> String {
    let columns: [(&str, Place); 8] = [
        (
            "\u{3c1}(CA, SM<sup>X</sup>)",
            pearson(MapName::INPUT, false),
        ),
        ("corrected", pearson(MapName::INPUT, true)),
        (
            "\u{3c1}(CA, SM<sup>H</sup>)",
            pearson(MapName::ENCODER, false),
        ),
        ("corrected", pearson(MapName::ENCODER, true)),
        ("Gap", of_all(MapName::EncoderLessInput, Statistic::Gap)),
        ("Coverage, %", of_all(MapName::ENCODER, Statistic::Coverage)),
        ("Word error rate, %", written(Measure::WordErrorRate)),
        ("BLEU", written(Measure::Bleu)),
    ];
    let mut head = vec!["Model", "Direction", "Utterances"];
    head.extend(columns.iter().map(|(name, _)| *name));
    let all: Vec<&Subject> = subjects.iter().collect();
    let body = lines(&all, &|subject| {
        let count = subject.utterances();
        let cells = columns.iter();
        let cells = cells.map(|(_, place)| value(subject.row(*place), count));
        format!(
            "<td class=\"value\">{count}</td>{}",
            cells.collect::<String>()
        )
    });
    table(
        "comparison-caption",
        "Attention averaged over all heads and layers (CA) against saliency, and errors; mean \
         with its 95% interval",
        &head,
        &body,
    )
}

/// Where a row lies beside a range of the paper.
fn verdict(row: &Row, range: Range) -> &'static str {
    let inside = |x: f64| (range.low..=range.high).contains(&x);
    let touches = row.high >= range.low && row.low <= range.high;
    match () {
        // Without an interval the mean alone can be said to lie somewhere.
        () if row.is_of_few() && inside(row.mean) => "within, of few utterances",
        () if row.is_of_few() && row.mean < range.low => "below, of few utterances",
        () if row.is_of_few() && row.mean > range.high => "above, of few utterances",
        () if inside(row.mean) && inside(row.low) && inside(row.high) => "within",
        () if inside(row.mean) => "within, the interval reaches out",
        () if row.mean < range.low && touches => "below, the interval reaches in",
        () if row.mean < range.low => "below",
        () if touches => "above, the interval reaches in",
        () if row.mean > range.high => "above",
        () => "not comparable",
    }
}

/// The paper's ranges in words.
pub(super) fn paper(subjects: &[Subject]) -> String {
    let measures: [(&str, Range, Place); 3] = [
        (
            "\u{3c1}(CA, SM<sup>X</sup>), paper 0.45 to 0.63",
            PAPER.rho,
            pearson(MapName::INPUT, false),
        ),
        (
            "Gap, paper 0.03 to 0.18",
            PAPER.gap,
            of_all(MapName::EncoderLessInput, Statistic::Gap),
        ),
        (
            "Coverage, %, paper 52 to 75",
            PAPER.coverage,
            of_all(MapName::ENCODER, Statistic::Coverage),
        ),
    ];
    let mut head = vec!["Model", "Direction"];
    head.extend(measures.iter().map(|(name, ..)| *name));
    let all: Vec<&Subject> = subjects.iter().collect();
    let body = lines(&all, &|subject| {
        let cells = measures.iter().map(|(_, range, place)| {
            let row = subject.row(*place);
            let word = row.map_or("", |row| verdict(row, *range));
            judged(row, subject.utterances(), word)
        });
        cells.collect()
    });
    table(
        "paper-caption",
        "Beside the ranges that the paper found over its models",
        &head,
        &body,
    )
}

/// How reliable the SPES maps are, and after how many masks.
pub(super) fn reliability(subjects: &[Subject]) -> String {
    const STATISTICS: [Statistic; 2] = [Statistic::Reliability, Statistic::Masks];
    let is_own = |row: &Row| STATISTICS.contains(&row.statistic);
    let maps = subjects
        .iter()
        .flat_map(|own| &own.rows)
        .filter(|row| is_own(row));
    let maps: BTreeSet<MapName> = maps.filter_map(|row| row.map).collect();
    if maps.is_empty() {
        return "<p class=\"note\">There is no SPES map in this study.</p>".into();
    }
    let names = maps.iter().flat_map(|&map| {
        let map = map_name(map);
        [format!("{map}, reliability"), format!("{map}, masks")]
    });
    let names: Vec<String> = names.collect();
    let mut head = vec!["Model", "Direction"];
    head.extend(names.iter().map(|name| &**name));
    let with: Vec<&Subject> = subjects
        .iter()
        .filter(|own| own.rows.iter().any(|row| is_own(row)))
        .collect();
    let body = lines(&with, &|subject| {
        let maps = maps.iter();
        let places = maps.flat_map(|&map| STATISTICS.map(|statistic| of_map(map, statistic)));
        let cells = places.map(|place| value(subject.row(place), subject.utterances()));
        cells.collect()
    });
    table(
        "reliability-caption",
        "Reliability of the SPES maps as they are compared, and masks behind them",
        &head,
        &body,
    )
}

/// Areas under the curves, one table for each subject; the script shows one.
pub(super) fn areas(subjects: &[Subject]) -> String {
    let mut out = String::new();
    for (index, subject) in subjects.iter().enumerate() {
        let (mut maps, mut statistics): (Vec<MapName>, Vec<Statistic>) = (Vec::new(), Vec::new());
        for row in &subject.rows {
            let is_area = matches!(row.statistic, Statistic::Area { .. } | Statistic::SizeArea);
            let Some(map) = row.map.filter(|_| is_area) else {
                continue;
            };
            if !maps.contains(&map) {
                maps.push(map);
            }
            if !statistics.contains(&row.statistic) {
                statistics.push(row.statistic);
            }
        }
        if maps.is_empty() {
            continue;
        }
        let count = subject.utterances();
        let body = maps.iter().map(|&map| {
            let statistics = statistics.iter();
            let cells =
                statistics.map(|&statistic| value(subject.row(of_map(map, statistic)), count));
            format!(
                "<tr><th scope=\"row\">{}</th>{}</tr>",
                map_name(map),
                cells.collect::<String>()
            )
        });
        let names: Vec<String> = statistics
            .iter()
            .map(|own| escape(&own.to_string()))
            .collect();
        let mut head = vec!["Map"];
        head.extend(names.iter().map(|name| &**name));
        let caption = format!(
            "Areas under the curves, {} {}, {}; mean with its 95% interval",
            escape(subject.model),
            escape(subject.direction),
            counted(count, "utterance")
        );
        out += &format!(
            "<div class=\"areas\" data-subject=\"{index}\">{}</div>",
            table(
                &format!("areas-{index}"),
                &caption,
                &head,
                &body.collect::<String>()
            )
        );
    }
    match out.is_empty() {
        true => "<p class=\"note\">Faithfulness was not measured (--faithfulness).</p>".into(),
        false => out,
    }
}

/// The commands that make the logs, one for each model.
pub(super) fn commands(tables: &Tables) -> String {
    let lines = tables
        .settings
        .iter()
        .map(|own| escape(&command::again(own)));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a cell says.
    fn without_tags(markup: &str) -> String {
        let parts = markup.split('<').map(|part| match part.split_once('>') {
            Some((_, text)) => text,
            None => part,
        });
        parts.collect()
    }

    fn row(mean: f64, low: f64, high: f64) -> Row {
        Row {
            model: "m".into(),
            direction: "en-en".into(),
            map: Some(MapName::INPUT),
            statistic: Statistic::Correlation {
                kind: Correlation::Pearson,
                corrected: false,
            },
            attention: Some(Attention::ALL),
            mean,
            low,
            high,
            utterances: 12,
        }
    }

    #[test]
    fn values_have_three_digits_together() {
        let cell = |mean, low, high| without_tags(&value(Some(&row(mean, low, high)), 12));
        assert_eq!(cell(0.16913, 0.09612, 0.24245), "0.169 [0.096, 0.242]");
        assert_eq!(cell(65.9, 63.4, 68.75), "65.9 [63.4, 68.8]");
        assert_eq!(
            cell(-0.01, -0.2, 0.1),
            "\u{2212}0.010 [\u{2212}0.200, 0.100]"
        );
        assert_eq!(cell(1920.0, 1920.0, 3840.0), "1920 [1920, 3840]");
        assert_eq!(
            cell(2e-7, 1e-7, 3e-7),
            "2.00e\u{2212}7 [1.00e\u{2212}7, 3.00e\u{2212}7]"
        );
        assert_eq!(cell(0.0, 0.0, 0.0), "0.0 [0.0, 0.0]");
        assert_eq!(cell(f64::NAN, 0.0, 1.0), "not finite [0.00, 1.00]");
        let other = without_tags(&value(Some(&row(0.5, 0.4, 0.6)), 4));
        assert_eq!(other, "0.500 [0.400, 0.600] of 12");
        assert_eq!(without_tags(&value(None, 4)), "\u{2013}");
        let few = Row {
            utterances: 4,
            ..row(0.5, 0.4, 0.6)
        };
        let cell = without_tags(&value(Some(&few), 4));
        assert_eq!(cell, "0.500 [0.400, 0.600] too few");
    }

    #[test]
    fn verdicts_weigh_mean_and_interval() {
        let range = PAPER.rho;
        let says = |mean, low, high| verdict(&row(mean, low, high), range);
        assert_eq!(says(0.5, 0.45, 0.63), "within");
        assert_eq!(says(0.5, 0.44, 0.6), "within, the interval reaches out");
        assert_eq!(says(0.4, 0.3, 0.44), "below");
        assert_eq!(says(0.4, 0.3, 0.5), "below, the interval reaches in");
        assert_eq!(says(0.7, 0.6, 0.8), "above, the interval reaches in");
        assert_eq!(says(0.7, 0.64, 0.8), "above");
        assert_eq!(says(f64::NAN, f64::NAN, f64::NAN), "not comparable");
        let few = Row {
            utterances: 2,
            ..row(0.5, 0.4, 0.7)
        };
        assert_eq!(verdict(&few, range), "within, of few utterances");
    }

    #[test]
    fn names_in_words() {
        assert_eq!(in_words(&["a"]), "a");
        assert_eq!(in_words(&["a", "b", "c"]), "a, b and c");
    }
}
