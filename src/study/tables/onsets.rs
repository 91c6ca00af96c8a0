//! Rows about true onsets: how far words' starts by each map are off, and how
//! often it points at the word. Heads may be chosen on other utterances than
//! those they are scored on.

use std::collections::BTreeSet;

use super::super::choosing::{Criterion, across_folds, best, ranked};
use super::super::map_name::MapName;
use super::super::onset_statistics::{OnsetStatistic, mean_error, percent};
use super::super::onsets::{Onsets, Scored};
use super::super::record::Utterance;
use super::super::statistics::{Correlation, mean};
use super::group::Group;
use super::{Attention, Statistic, View};
use crate::explain::alignment::Head;
use crate::explain::{Method, Site};

/// The maps that heads are chosen by, without knowing any onset.
const CHOOSING: [MapName; 3] = [
    MapName::ENCODER,
    MapName::INPUT,
    MapName::At(Method::Gradient, Site::Encoder),
];

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
    group.corpus_row(None, Statistic::WordsMatched, None, &known, &|all| {
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
    let names = timed.iter().flat_map(|(_, own)| own.maps.keys());
    for name in BTreeSet::from_iter(names.copied()) {
        let part = (name == MapName::ATTENTION).then_some(Attention::ALL);
        source(group, name, part, &timed, &|own| own.maps.get(&name));
    }
    let Some((_, example)) = timed.first() else {
        return;
    };
    for l in 0..example.layers.len() {
        let part = Some(Attention::plain(View::Layer(l)));
        source(group, MapName::ATTENTION, part, &timed, &|own| {
            own.layers.get(l)
        });
    }
    for [l, h] in heads(example) {
        let part = Some(Attention::plain(View::Head([l, h])));
        source(group, MapName::ATTENTION, part, &timed, &|own| {
            head(own, [l, h])
        });
    }
    best_heads(group, &timed);
}

/// Rows of one source.
fn source(
    group: &mut Group,
    map: MapName,
    part: Option<Attention>,
    timed: &[Timed],
    of: &dyn Fn(&Onsets) -> Option<&Scored>,
) {
    let scores: Vec<&Scored> = timed.iter().filter_map(|(_, own)| of(own)).collect();
    scored(group, map, part, &scores);
}

/// Rows of one source's scores.
fn scored(group: &mut Group, map: MapName, part: Option<Attention>, scores: &[&Scored]) {
    if scores.is_empty() {
        return;
    }
    for own in OnsetStatistic::ALL {
        group.corpus_row(Some(map), Statistic::Onset(own), part, scores, &|all| {
            own.of(all)
        });
    }
}

/// Rows of the head that is best on other utterances, by true onsets and by
/// correlations that need none.
fn best_heads(group: &mut Group, timed: &[Timed]) {
    let by_onsets = |place: Head, others: &[Timed]| {
        let scores = others.iter().filter_map(|(_, own)| head(own, place));
        mean_error(&scores.collect::<Vec<_>>()).map(|error| -error)
    };
    chosen(group, timed, Criterion::Onsets, &by_onsets);
    for map in CHOOSING {
        let by_map = |[l, h]: Head, others: &[Timed]| {
            mean(others.iter().map(|(own, _)| {
                let kinds = &own.maps.get(&map)?.correlations;
                let heads = &kinds.get(&Correlation::Pearson)?.heads;
                *heads.get(l)?.get(h)?
            }))
        };
        chosen(group, timed, Criterion::Map(map), &by_map);
    }
}

/// Rows of the heads that are worth most on the utterances of other folds.
/// The interval takes the choices as given.
fn chosen(
    group: &mut Group,
    timed: &[Timed],
    by: Criterion,
    worth: &dyn Fn(Head, &[Timed]) -> Option<f64>,
) {
    let choose = |others: &[Timed]| {
        let ranked = ranked(heads(timed[0].1), |place| worth(place, others));
        Some(best(&ranked, 1)?[0])
    };
    let Some(folds) = across_folds(timed, choose) else {
        return;
    };
    let each = folds.iter().flat_map(|(own, place)| {
        let scores = own.iter();
        scores.filter_map(|(_, own)| head(own, *place))
    });
    let scores: Vec<&Scored> = each.collect();
    scored(
        group,
        MapName::ATTENTION,
        Some(Attention::BestHead(by)),
        &scores,
    );
}

fn heads(example: &Onsets) -> impl Iterator<Item = Head> + '_ {
    let layers = example.heads.iter().enumerate();
    layers.flat_map(|(l, heads)| (0..heads.len()).map(move |h| [l, h]))
}

fn head(own: &Onsets, [l, h]: Head) -> Option<&Scored> {
    own.heads.get(l)?.get(h)
}
