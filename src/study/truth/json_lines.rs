//! JSON lines, a form of our own: `id`, and `words`, each with `word`,
//! `onset_seconds` and, where it is known, `end_seconds`, from the beginning of
//! the utterance.

use serde::Deserialize;
use serde_json::Value;

use super::{Places, TrueWord, Utterance};

#[derive(Deserialize)]
struct Line {
    id: Value,
    words: Vec<TrueWord>,
}

/// # Errors
/// If a line is no such utterance.
pub(super) fn read(text: &str) -> Result<Vec<Utterance>, String> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let utterances = lines.map(|(number, line)| {
        let number = number + 1;
        let problem = |what: &str| format!("line {number}: {what}");
        let Line { id, words } =
            serde_json::from_str(line).map_err(|error| problem(&error.to_string()))?;
        let id = match id {
            Value::String(id) => id,
            Value::Number(id) => id.to_string(),
            other => return Err(problem(&format!("id is {other}, neither text nor number"))),
        };
        Ok(Utterance {
            id,
            words,
            places: Places::Line(number),
            begins: 0.0,
        })
    });
    utterances.collect()
}
