//! Heads that are to be used: how many, from which utterances, and where they
//! are written.

use std::io::ErrorKind;
use std::path::Path;

use super::super::choosing::Criterion;
use super::super::manifest::Item;
use super::super::truth::TrueOnsets;
use super::super::watch::Warning;
use super::Wanted;
use crate::explain::alignment::{Head, all_heads};
use crate::files::{check_place, write};
use crate::model::Model;
use crate::model::generation_config::{FILE, with_alignment_heads};
use crate::{Error, Result};

/// Heads that are taken where nobody says how many, of a model that has twice
/// as many.
const USUAL: usize = 6;

/// How many heads are taken where nobody says how many.
pub fn usual_count(model: &Model) -> usize {
    USUAL.min(all_heads(model).len() / 2).max(1)
}

/// As `--heads` of `align` takes them: `2.0,3.5`.
pub fn listed(heads: &[Head]) -> String {
    let heads = heads.iter().map(|[layer, head]| format!("{layer}.{head}"));
    heads.collect::<Vec<_>>().join(",")
}

/// The utterances that say something of heads, and whether others do not.
///
/// # Errors
/// If none does.
pub fn usable(
    items: Vec<Item>,
    onsets: &TrueOnsets,
    (by, set): (Criterion, Wanted),
) -> Result<(Vec<Item>, Option<Warning>)> {
    if items.is_empty() {
        let problem = "the manifests have no utterances of the model's directions";
        return Err(Error::Input(problem.into()));
    }
    let known = |item: &Item| onsets.of_words_written(item).is_some();
    let needed = by == Criterion::Onsets || set == Wanted::Forward;
    if needed && !items.iter().any(known) {
        let problem = "none of the utterances has onsets in the files given";
        return Err(Error::Input(problem.into()));
    }
    if by != Criterion::Onsets {
        return Ok((items, None));
    }
    let all = items.len();
    let items: Vec<Item> = items.into_iter().filter(known).collect();
    let utterances = all - items.len();
    let warning = (utterances > 0).then_some(Warning::WithoutOnsets { utterances });
    Ok((items, warning))
}

/// Writes some heads into a `generation_config.json`, in one step. A file that
/// is not there begins as a copy of the model's.
///
/// # Errors
/// If it cannot be written, or what is there is no JSON object.
pub fn write_heads(path: &Path, model: &Model, heads: &[Head]) -> Result<()> {
    write(path, with_heads(path, model, heads)?.as_bytes())
}

/// Whether [`write_heads`] may work, for before long work.
///
/// # Errors
/// As [`write_heads`], as far as that can be told.
pub fn check_file(path: &Path, model: &Model) -> Result<()> {
    with_heads(path, model, &[])?;
    check_place(path)
}

/// The text of a `generation_config.json` with some heads: the file's own, or
/// if there is none the model's. Every other byte of it stays.
fn with_heads(path: &Path, model: &Model, heads: &[Head]) -> Result<String> {
    let (source, bytes) = match crate::plain::read(path) {
        Ok(bytes) => (path.to_owned(), bytes),
        Err(problem) if problem.kind() == ErrorKind::NotFound => {
            let bytes = model.files.read_if_present(FILE)?;
            let bytes = bytes.unwrap_or_else(|| b"{}\n".into());
            (model.files.path(FILE), bytes)
        }
        Err(problem) => return Err(Error::file(path, problem)),
    };
    let wrong = |problem: &dyn std::fmt::Display| {
        Error::file(&source, format!("not a JSON object: {problem}"))
    };
    let text = std::str::from_utf8(&bytes).map_err(|e| wrong(&e))?;
    with_alignment_heads(text, heads).map_err(|e| wrong(&e))
}
