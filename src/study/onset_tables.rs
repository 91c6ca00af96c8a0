//! Rows about true onsets: how far words' starts by each map are off, and how
//! often it points at the word. Heads may be chosen on other utterances than
//! those they are scored on.

use std::collections::BTreeSet;

use super::onsets::{Onsets, Scored};
use super::record::Utterance;
use super::statistics::{Correlation, mean};
use super::tables::Group;
use crate::explain::spes::median;

/// Parts that the utterances are cut into; the head for one is chosen on the
/// others.
const FOLDS: usize = 5;

/// Onsets this near count as found, in milliseconds.
const NEAR_MS: [u32; 3] = [50, 100, 200];

/// The maps that heads are chosen by, without knowing any onset.
const CHOOSING: [&str; 3] = ["spes.encoder", "spes.input", "gradient.encoder"];

/// An utterance of which words were matched.
type Timed<'a> = (&'a Utterance, &'a Onsets);

/// All rows about onsets, if there are any.
pub(super) fn rows(group: &mut Group) {
    let utterances = group.utterances;
    let known = utterances.iter().filter_map(|own| own.onsets.as_ref());
    let known: Vec<&Onsets> = known.collect();
    if known.is_empty() {
        return;
    }
    group.corpus_row_of(&known, ["", "onset words matched", ""], &|all| {
        let matched: usize = all.iter().map(|own| own.matched).sum();
        let spoken: usize = all.iter().map(|own| own.spoken).sum();
        percent(matched, spoken)
    });
    // Where no word was matched there is nothing to score.
    let timed = utterances.iter().filter_map(|&own| {
        let onsets = own.onsets.as_ref()?;
        (onsets.matched > 0).then_some((own, onsets))
    });
    let timed: Vec<Timed> = timed.collect();
    let names: BTreeSet<&String> = timed.iter().flat_map(|(_, own)| own.maps.keys()).collect();
    for name in names {
        let part = match name.as_str() {
            "attention" => "all",
            _ => "",
        };
        source(group, name, part, &timed, &|own| own.maps.get(name));
    }
    let Some((_, example)) = timed.first() else {
        return;
    };
    for l in 0..example.layers.len() {
        let part = format!("layer {}", l + 1);
        source(group, "attention", &part, &timed, &|own| own.layers.get(l));
    }
    for (l, h) in heads(example) {
        let part = format!("layer {} head {}", l + 1, h + 1);
        source(group, "attention", &part, &timed, &|own| head(own, (l, h)));
    }
    best_heads(group, &timed);
}

/// Rows of one source.
fn source(
    group: &mut Group,
    map: &str,
    part: &str,
    timed: &[Timed],
    of: &dyn Fn(&Onsets) -> Option<&Scored>,
) {
    let scores: Vec<&Scored> = timed.iter().filter_map(|(_, own)| of(own)).collect();
    scored(group, map, part, &scores);
}

/// Rows of one source's scores.
fn scored(group: &mut Group, map: &str, part: &str, scores: &[&Scored]) {
    if scores.is_empty() {
        return;
    }
    let mut row = |statistic: &str, value: &dyn Fn(&[&Scored]) -> f64| {
        group.corpus_row_of(scores, [map, statistic, part], value);
    };
    row("onset error, mean", &|all| {
        mean_of(errors(all).map(f64::from)) / 1e3
    });
    row("onset error, median", &|all| {
        let middle = median(errors(all).map(|ms| Some(f64::from(ms))));
        middle.unwrap_or(0.0) / 1e3
    });
    row("onset error, signed mean", &|all| {
        let signed = all.iter().flat_map(|own| &own.errors_ms);
        mean_of(signed.map(|&ms| f64::from(ms))) / 1e3
    });
    for near in NEAR_MS {
        row(&format!("onset within {near} ms"), &|all| {
            let found = errors(all).filter(|&ms| ms <= near).count();
            percent(found, errors(all).count())
        });
    }
    row("pointing game", &|all| {
        percent(all.iter().map(|own| own.hits).sum(), errors(all).count())
    });
}

/// Rows of the head that is best on other utterances, by true onsets and by
/// correlations that need none.
fn best_heads(group: &mut Group, timed: &[Timed]) {
    let by_onsets = |(l, h): Place, others: &[Timed]| {
        let scores: Vec<&Scored> = others
            .iter()
            .filter_map(|(_, own)| head(own, (l, h)))
            .collect();
        let some = !scores.is_empty();
        some.then(|| -mean_of(errors(&scores).map(f64::from)))
    };
    chosen(group, timed, "onset error", &by_onsets);
    for map in CHOOSING {
        let by_map = |(l, h): Place, others: &[Timed]| {
            mean(others.iter().map(|(own, _)| {
                let kinds = &own.maps.get(map)?.correlations;
                let heads = &kinds.get(Correlation::Pearson.name())?.heads;
                *heads.get(l)?.get(h)?
            }))
        };
        chosen(group, timed, map, &by_map);
    }
}

/// Layer and head.
type Place = (usize, usize);

/// Rows of the heads that are worth most on the utterances of other folds;
/// utterance n belongs to fold n mod [`FOLDS`]. The interval takes the choices
/// as given.
fn chosen(
    group: &mut Group,
    timed: &[Timed],
    by: &str,
    worth: &dyn Fn(Place, &[Timed]) -> Option<f64>,
) {
    let folds = FOLDS.min(timed.len());
    let mut scores: Vec<&Scored> = Vec::new();
    for fold in 0..folds {
        let numbered = || timed.iter().copied().enumerate();
        let others = numbered().filter(|(n, _)| n % folds != fold);
        let others: Vec<_> = others.map(|(_, own)| own).collect();
        let mut best: Option<(f64, Place)> = None;
        for place in heads(timed[0].1) {
            // The first of equals.
            if let Some(worth) = worth(place, &others)
                && best.is_none_or(|(most, _)| worth > most)
            {
                best = Some((worth, place));
            }
        }
        let Some((_, place)) = best else {
            // A row over some folds only would compare other utterances.
            return;
        };
        let own = numbered().filter(|(n, _)| n % folds == fold);
        scores.extend(own.filter_map(|(_, (_, own))| head(own, place)));
    }
    scored(group, "attention", &format!("best head by {by}"), &scores);
}

fn heads(example: &Onsets) -> impl Iterator<Item = Place> + '_ {
    let layers = example.heads.iter().enumerate();
    layers.flat_map(|(l, heads)| (0..heads.len()).map(move |h| (l, h)))
}

fn head(own: &Onsets, (l, h): Place) -> Option<&Scored> {
    own.heads.get(l)?.get(h)
}

/// Errors of all words without their signs, in milliseconds.
fn errors<'a>(all: &'a [&'a Scored]) -> impl Iterator<Item = u32> + 'a {
    let errors = all.iter().flat_map(|own| &own.errors_ms);
    errors.map(|ms| ms.unsigned_abs())
}

/// 0 without values: every scored utterance has some.
fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    mean(values.map(Some)).unwrap_or(0.0)
}

fn percent(part: usize, whole: usize) -> f64 {
    match whole {
        0 => 0.0,
        whole => 100.0 * part as f64 / whole as f64,
    }
}
