//! What the errors of word starts come to over some utterances.

use super::onsets::Scored;
use super::statistics::mean;
use crate::explain::spes::median;

/// A statistic of the scores of some utterances: seconds or percent.
pub type Statistic = fn(&[&Scored]) -> f64;

/// All statistics by their names in tables. Those of no words at all are 0.
pub const ALL: [(&str, Statistic); 7] = [
    ("onset error, mean", |all| mean_error(all).unwrap_or(0.0)),
    ("onset error, median", |all| {
        let middle = median(errors(all).map(|ms| Some(f64::from(ms))));
        middle.unwrap_or(0.0) / 1e3
    }),
    ("onset error, signed mean", |all| {
        let signed = all.iter().flat_map(|own| &own.errors_ms);
        let signed = mean(signed.map(|&ms| Some(f64::from(ms))));
        signed.unwrap_or(0.0) / 1e3
    }),
    ("onset within 50 ms", |all| within(all, 50)),
    ("onset within 100 ms", |all| within(all, 100)),
    ("onset within 200 ms", |all| within(all, 200)),
    ("pointing game", |all| {
        percent(all.iter().map(|own| own.hits).sum(), errors(all).count())
    }),
];

/// The mean size of all words' errors in seconds; absent without words.
pub fn mean_error(all: &[&Scored]) -> Option<f64> {
    let milliseconds = mean(errors(all).map(|ms| Some(f64::from(ms))));
    milliseconds.map(|ms| ms / 1e3)
}

/// Errors of all words without their signs, in milliseconds.
fn errors<'a>(all: &'a [&'a Scored]) -> impl Iterator<Item = u32> + 'a {
    let errors = all.iter().flat_map(|own| &own.errors_ms);
    errors.map(|ms| ms.unsigned_abs())
}

/// Percent of the words whose error is at most so many milliseconds.
fn within(all: &[&Scored], near: u32) -> f64 {
    let found = errors(all).filter(|&ms| ms <= near).count();
    percent(found, errors(all).count())
}

/// 0 of nothing.
pub fn percent(part: usize, whole: usize) -> f64 {
    match whole {
        0 => 0.0,
        whole => 100.0 * part as f64 / whole as f64,
    }
}
