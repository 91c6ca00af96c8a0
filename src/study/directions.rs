//! The directions that a model was made for.

use std::collections::BTreeSet;

use super::manifest::Item;
use super::watch::Warning;
use crate::Result;
use crate::model::Model;

/// The utterances of the directions that a model was made for:
/// `"directions": ["en-en", "en-it"]` in its `generation_config.json`, and
/// which others there were. A model without such a list does all.
///
/// # Errors
/// If the entry is no list of names.
pub fn within(items: &[Item], model: &Model) -> Result<(Vec<Item>, Option<Warning>)> {
    let Some(own) = model.generation.directions()? else {
        return Ok((items.to_vec(), None));
    };
    let has = |item: &Item| own.iter().any(|one| *one == item.direction());
    let (inside, outside): (Vec<Item>, Vec<Item>) = items.iter().cloned().partition(has);
    let others: BTreeSet<String> = outside.iter().map(Item::direction).collect();
    let warning = (!others.is_empty()).then(|| Warning::LeftOut {
        model: model.name.clone(),
        directions: others.into_iter().collect(),
    });
    Ok((inside, warning))
}
