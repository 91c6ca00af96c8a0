//! `docs/explanation.md` and the structures of `explanation.json` agree.

use std::fs;
use std::path::Path;

use crate::json_fields::fields;
use serde_json::Value;
use sonograd::explain::explanation::{Explanation, FORMAT, VERSION};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/explanation.md");
    fs::read_to_string(&path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
}

fn example(document: &str) -> &str {
    let (_, after) = document.split_once("```json\n").expect("an example");
    after.split_once("```").expect("the example's end").0
}

#[test]
fn the_example_is_an_explanation_with_every_field() {
    let document = document();
    let example: Value = serde_json::from_str(example(&document)).expect("JSON");
    let read: Explanation = serde_json::from_value(example.clone()).expect("an explanation");
    assert_eq!((read.format.as_str(), read.version), (FORMAT, VERSION));
    assert_eq!(serde_json::to_value(&read).expect("JSON"), example);
}

#[test]
fn every_field_is_described() {
    let document = document();
    let example: Value = serde_json::from_str(example(&document)).expect("JSON");
    let mut names = Vec::new();
    fields(&example, "", &mut names);
    for name in names {
        // A group is described by its parts, a profile is free in form.
        let group = ["audio", "model", "device"].contains(&name.as_str());
        if !group && !name.starts_with("profile.") {
            assert!(document.contains(&format!("`{name}`")), "{name}");
        }
    }
}
