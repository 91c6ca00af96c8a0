//! Which files of a model are wanted, and which of them a folder lacks.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::cache::Repository;
use super::{ADAPTER_CONFIG, name};

/// What is read beside the weights, where a model has it, and files `*.model`.
const SETTINGS: [&str; 14] = [
    "config.json",
    ADAPTER_CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "normalizer.json",
    "vocab.json",
    "merges.txt",
    "vocabulary.json",
    "vocabulary.txt",
];

/// Files of weights in the order in which they are looked for, each with the
/// index of its shards: Hugging Face's, an adapter's, CTranslate2's.
const WEIGHTS: [(&str, Option<&str>); 5] = [
    ("model.safetensors", Some("model.safetensors.index.json")),
    ("pytorch_model.bin", Some("pytorch_model.bin.index.json")),
    ("adapter_model.safetensors", None),
    ("adapter_model.bin", None),
    ("model.bin", None),
];

/// How many of them are a whole model's, in Hugging Face's forms.
const OWN: usize = 2;

/// Those of adapters.
#[cfg(feature = "hub")]
const ADAPTERS: std::ops::Range<usize> = OWN..OWN + 2;

/// Whether a folder has weights of its own, not an adapter's.
pub(super) fn has_own_weights(folder: &Path) -> bool {
    let mut own = WEIGHTS[..OWN].iter();
    own.any(|(single, index)| {
        folder.join(single).is_file() || index.is_some_and(|index| folder.join(index).is_file())
    })
}

/// What a folder lacks to be a model; of things that may have several names
/// the usual one.
pub(super) fn lacking(folder: &Path) -> Vec<String> {
    let has = |name: &str| folder.join(name).is_file();
    let adapter = has(ADAPTER_CONFIG) && !has_own_weights(folder);
    let mut lacking = Vec::new();
    let converted = has("model.bin") && !has_own_weights(folder);
    if !has("config.json") && !adapter && !converted {
        lacking.push("config.json".to_owned());
    }
    match weights_here(folder) {
        None => lacking.push(if adapter { WEIGHTS[2].0 } else { WEIGHTS[0].0 }.to_owned()),
        Some(Here { file, index }) => match index.map_or(Ok(Vec::new()), |own| shards(&own)) {
            Ok(shards) => lacking.extend(shards.into_iter().filter(|name| !has(name))),
            Err(_) => lacking.push(format!("a sound {file}")),
        },
    }
    let vocabularies = [
        "tokenizer.json",
        "vocab.json",
        "vocabulary.json",
        "vocabulary.txt",
    ];
    if !adapter && !vocabularies.into_iter().any(has) && !has_sentencepiece(folder) {
        lacking.push(vocabularies[0].to_owned());
    }
    lacking
}

fn has_sentencepiece(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.any(|path| path.extension().is_some_and(|ending| ending == "model") && path.is_file())
}

/// The weights of a folder.
pub(super) struct Here {
    /// The file that they are in or that names them.
    pub file: &'static str,
    /// What that says, if it is an index.
    pub index: Option<Vec<u8>>,
}

/// The weights that a folder has or names in an index.
pub(super) fn weights_here(folder: &Path) -> Option<Here> {
    WEIGHTS.into_iter().find_map(|(single, index)| {
        if folder.join(single).is_file() {
            return Some(Here {
                file: single,
                index: None,
            });
        }
        let bytes = std::fs::read(folder.join(index?)).ok()?;
        Some(Here {
            file: index?,
            index: Some(bytes),
        })
    })
}

/// The files that an index names.
///
/// # Errors
/// In words, if it is no index or names a file elsewhere.
pub(super) fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    let index: Value = serde_json::from_slice(index).map_err(|e| e.to_string())?;
    let map = index["weight_map"].as_object();
    let map = map.ok_or("has no weight_map from tensors to files")?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    if let Some(odd) = names.iter().find(|name| !name::is_safe(name)) {
        return Err(format!(
            "names a shard {odd:?}, which leads out of the folder"
        ));
    }
    Ok(names.into_iter().map(Into::into).collect())
}

/// What may be among a commit's files and is not here.
pub(super) fn unknown(repository: &Repository, commit: &str) -> Vec<&'static str> {
    let folder = repository.snapshot(commit);
    let known = |name: &str| folder.join(name).is_file() || repository.is_absent(commit, name);
    let settings = SETTINGS.into_iter();
    settings.filter(|name| !known(name)).collect()
}

/// Which files of a listing are wanted.
#[cfg(feature = "hub")]
pub(super) struct Wanted<'a> {
    /// All but the weights.
    pub settings: Vec<&'a str>,
    /// Weights, or the index that names them.
    pub weights: Option<&'a str>,
    /// An adapter that changes them, which a whole model's folder may have.
    pub adapter: Option<&'a str>,
    /// What the listing has not.
    pub absent: Vec<&'static str>,
}

#[cfg(feature = "hub")]
impl<'a> Wanted<'a> {
    pub fn of(listing: &'a [String]) -> Self {
        let find = |name: &str| listing.iter().map(|own| &**own).find(|own| *own == name);
        let models = listing.iter().map(|own| &**own);
        let models = models
            .filter(|name| name.ends_with(".model") && !name.contains('/') && name::is_safe(name));
        let mut weights = WEIGHTS
            .iter()
            .flat_map(|(single, index)| [Some(*single), *index]);
        Self {
            settings: SETTINGS
                .iter()
                .filter_map(|name| find(name))
                .chain(models)
                .collect(),
            weights: weights.find_map(|name| find(name?)),
            adapter: find(ADAPTER_CONFIG)
                .and_then(|_| WEIGHTS[ADAPTERS].iter().find_map(|(name, _)| find(name))),
            absent: SETTINGS
                .into_iter()
                .filter(|name| find(name).is_none())
                .collect(),
        }
    }

    /// What is said of a model that has no weights.
    pub fn no_weights() -> String {
        let names: Vec<&str> = WEIGHTS.iter().map(|(single, _)| *single).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "{}").unwrap();
        }
        folder
    }

    #[test]
    fn what_a_folder_lacks_is_named() {
        for (files, lacks) in [
            (
                &["config.json", "model.safetensors", "tokenizer.json"][..],
                &[][..],
            ),
            (&["config.json", "pytorch_model.bin", "spiece.model"], &[]),
            (&["config.json", "vocab.json"], &["model.safetensors"]),
            (&["model.safetensors"], &["config.json", "tokenizer.json"]),
            (&["model.bin", "vocabulary.txt"], &[]),
            (&["model.bin"], &["tokenizer.json"]),
            (&["adapter_config.json", "adapter_model.safetensors"], &[]),
            (&["adapter_config.json"], &["adapter_model.safetensors"]),
            (&[], &["config.json", "model.safetensors", "tokenizer.json"]),
        ] {
            assert_eq!(lacking(folder(files).path()), lacks, "{files:?}");
        }
        let index = "model.safetensors.index.json";
        let sharded = folder(&["config.json", "tokenizer.json", "a.safetensors"]);
        let write = |text: &str| std::fs::write(sharded.path().join(index), text).unwrap();
        write(r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#);
        assert_eq!(lacking(sharded.path()), ["b.safetensors"]);
        write(r#"{"weight_map": {"x": "../a.safetensors"}}"#);
        assert_eq!(lacking(sharded.path()), [format!("a sound {index}")]);
    }

    #[test]
    #[cfg(feature = "hub")]
    fn safetensors_come_before_other_forms() {
        let listing = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        for (names, weights) in [
            (
                &["pytorch_model.bin", "model.safetensors"][..],
                Some("model.safetensors"),
            ),
            (
                &[
                    "pytorch_model.bin",
                    "model.safetensors.index.json",
                    "flax_model.msgpack",
                ],
                Some("model.safetensors.index.json"),
            ),
            (
                &["pytorch_model.bin", "tf_model.h5"],
                Some("pytorch_model.bin"),
            ),
            (&["model.bin", "config.json"], Some("model.bin")),
            (
                &["adapter_model.safetensors"],
                Some("adapter_model.safetensors"),
            ),
            (&["tf_model.h5"], None),
        ] {
            let listing: Vec<String> = listing(names);
            assert_eq!(Wanted::of(&listing).weights, weights);
        }
        let listing: Vec<String> = listing(&[
            "README.md",
            "config.json",
            "spiece.model",
            "old/spiece.model",
            "..\\x.model",
        ]);
        assert_eq!(
            Wanted::of(&listing).settings,
            ["config.json", "spiece.model"]
        );
    }
}
