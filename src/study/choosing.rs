//! Heads chosen on some utterances and scored on others.

use std::fmt;

use super::map_name::MapName;
use super::text::as_text;
use crate::explain::alignment::Head;
use crate::{Error, Result};

/// What heads are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Criterion {
    /// How well they tell when words begin.
    Onsets,
    /// Pearson's correlation with a map.
    Map(MapName),
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Onsets => f.write_str("onsets"),
            Self::Map(map) => map.fmt(f),
        }
    }
}

impl std::str::FromStr for Criterion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "onsets" => Ok(Self::Onsets),
            map => map.parse().map(Self::Map),
        }
    }
}

as_text!(Criterion);

/// Parts that the utterances are cut into; what is used on one is chosen on
/// the others.
pub const FOLDS: usize = 5;

/// The items of each fold, with what `choose` takes from those of all others;
/// item n belongs to fold n mod [`FOLDS`], or as many as there are items.
/// Absent where nothing can be chosen for some fold: what is left would
/// compare other utterances.
pub fn across_folds<T: Copy, C>(
    items: &[T],
    mut choose: impl FnMut(&[T]) -> Option<C>,
) -> Option<Vec<(Vec<T>, C)>> {
    let folds = FOLDS.min(items.len());
    let part = |keep: &dyn Fn(usize) -> bool| -> Vec<T> {
        let numbered = items.iter().copied().enumerate();
        let own = numbered.filter(|(n, _)| keep(n % folds));
        own.map(|(_, item)| item).collect()
    };
    let fold = |fold| {
        let chosen = choose(&part(&|own| own != fold))?;
        Some((part(&|own| own == fold), chosen))
    };
    (0..folds).map(fold).collect()
}

/// Heads by what they are worth, most first, and of equals the first; those
/// whose worth is undefined come last.
pub fn ranked(
    heads: impl IntoIterator<Item = Head>,
    worth: impl Fn(Head) -> Option<f64>,
) -> Vec<(Head, Option<f64>)> {
    let heads = heads.into_iter();
    let mut ranked: Vec<_> = heads.map(|head| (head, worth(head))).collect();
    ranked.sort_by(|(_, a), (_, b)| match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(a),
        _ => a.is_none().cmp(&b.is_none()),
    });
    ranked
}

/// The first of ranked heads, as many as wanted, without those whose worth is
/// undefined; absent if there is none.
pub fn best(ranked: &[(Head, Option<f64>)], count: usize) -> Option<Vec<Head>> {
    let defined = ranked.iter().filter(|(_, worth)| worth.is_some());
    let best: Vec<Head> = defined.map(|(head, _)| *head).take(count).collect();
    (!best.is_empty()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_heads_come_last_and_are_never_chosen() {
        let worth = |[layer, head]: Head| match (layer, head) {
            (0, 0) | (1, 1) => None,
            (0, 1) | (1, 2) => Some(0.5),
            _ => Some(-1.0 + head as f64),
        };
        let heads = (0..2).flat_map(|layer| (0..3).map(move |head| [layer, head]));
        let ranked = ranked(heads, worth);
        let order: Vec<Head> = ranked.iter().map(|(head, _)| *head).collect();
        assert_eq!(order, [[0, 2], [0, 1], [1, 2], [1, 0], [0, 0], [1, 1]]);
        assert_eq!(best(&ranked, 2), Some(vec![[0, 2], [0, 1]]));
        assert_eq!(best(&ranked, 6).unwrap().len(), 4);
        assert_eq!(best(&ranked[4..], 2), None);
    }

    #[test]
    fn nothing_is_chosen_on_what_it_is_used_on() {
        let items: Vec<usize> = (0..13).collect();
        let folds = across_folds(&items, |others| Some(others.to_vec())).unwrap();
        assert_eq!(folds.len(), FOLDS);
        let mut all: Vec<usize> = folds.iter().flat_map(|(own, _)| own.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, items);
        for (own, others) in &folds {
            assert!(own.iter().all(|item| !others.contains(item)));
            assert_eq!(own.len() + others.len(), items.len());
        }
        let two = across_folds(&[7, 8], |others| Some(others[0])).unwrap();
        assert_eq!(two, [(vec![7], 8), (vec![8], 7)]);
        // One fold without a choice, and one utterance without others.
        let but_one = |others: &[usize]| others.contains(&3).then_some(());
        assert_eq!(across_folds(&items, but_one), None);
        let some = |others: &[usize]| others.first().copied();
        assert_eq!(across_folds(&[1], some), None);
        assert_eq!(across_folds(&[], some), Some(Vec::new()));
    }
}
