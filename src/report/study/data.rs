//! The rows of a study's tables, small enough to stand in a page.
//!
//! Texts are numbered. Rows of one model, direction and map are a block; the
//! statistics and parts of the attention that a block has are mostly those of
//! other blocks too, and stand there once.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::study::tables::Row;

/// Significant digits of an embedded value.
const DIGITS: usize = 5;

/// All rows, in blocks.
#[derive(Debug, Serialize)]
pub(super) struct Embedded<'a> {
    /// Each text once.
    strings: Vec<&'a str>,
    /// What a block's rows are: statistic and attention of the first row, of
    /// the second, and so on, as numbers of strings.
    shapes: Vec<Vec<usize>>,
    blocks: Vec<Block>,
}

/// The rows of one map.
#[derive(Debug, Serialize)]
struct Block {
    /// Model, direction and map, as numbers of strings.
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

impl<T: Clone + Eq + std::hash::Hash> Numbered<T> {
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
}

impl<'a> Embedded<'a> {
    pub(super) fn new(rows: &'a [Row]) -> Self {
        let mut strings = Numbered::new();
        let mut shapes = Numbered::new();
        let mut places = Numbered::new();
        let mut members: Vec<Vec<&Row>> = Vec::new();
        for row in rows {
            let place = [&row.model, &row.direction, &row.map];
            let place = places.number(place.map(|text| strings.number(text.as_str())));
            if place == members.len() {
                members.push(Vec::new());
            }
            members[place].push(row);
        }
        let blocks = places.all.iter().zip(&members).map(|(&of, rows)| {
            let names = rows.iter().flat_map(|row| [&row.statistic, &row.attention]);
            let shape = names.map(|name| strings.number(name.as_str())).collect();
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
            strings: strings.all,
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
}
