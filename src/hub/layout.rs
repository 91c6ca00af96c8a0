//! Which files make a folder a model's, by their names: what is looked for in
//! the cache, downloaded, and read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::name;
use crate::error::Problem;

/// Weight files of a whole model in Hugging Face's forms, each with the index of
/// its shards, in the order in which transformers looks for them.
pub const WEIGHTS: [[&str; 2]; 2] = [
    ["model.safetensors", "model.safetensors.index.json"],
    ["pytorch_model.bin", "pytorch_model.bin.index.json"],
];

/// A folder for a peft adapter, not for a model, has this file.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Files that an adapter's tensors may be in; the first that is there is taken.
pub const ADAPTERS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// CTranslate2's file of weights.
pub const CTRANSLATE2: &str = "model.bin";

/// What is said of a path that is none.
pub const NO_FOLDER: &str = "no such folder; a model is a folder with config.json and \
                             model.safetensors, as Hugging Face saves it, or a name on the hub: \
                             OWNER/NAME";

/// What the weights of a folder are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole model's, in one of Hugging Face's forms.
    Whole,
    /// An adapter's, for a model that is elsewhere.
    Adapter,
    /// CTranslate2's.
    CTranslate2,
}

/// Whether a folder has weights of a whole model in Hugging Face's forms.
pub fn is_whole(folder: &Path) -> bool {
    has_any(folder, WEIGHTS.as_flattened())
}

/// Whether a folder has an adapter: its config and its weights.
pub fn has_adapter(folder: &Path) -> bool {
    has_any(folder, &[ADAPTER_CONFIG]) && has_any(folder, &ADAPTERS)
}

/// What the weights of a folder are, which goes for the model; an adapter beside
/// a whole model's changes that one. Nothing where it has none.
pub fn kind(folder: &Path) -> Option<Kind> {
    let kinds = [
        (is_whole(folder), Kind::Whole),
        (has_adapter(folder), Kind::Adapter),
        (has_any(folder, &[CTRANSLATE2]), Kind::CTranslate2),
        // Its weights are lacking.
        (has_any(folder, &[ADAPTER_CONFIG]), Kind::Adapter),
    ];
    let mut kinds = kinds.into_iter();
    kinds.find_map(|(is_it, kind)| is_it.then_some(kind))
}

fn has_any(folder: &Path, names: &[&str]) -> bool {
    names.iter().any(|name| folder.join(name).is_file())
}

/// The files that an index of shards names.
///
/// # Errors
/// If it is no index, or names a file outside of the folder.
pub fn shards(index: &[u8]) -> Result<Vec<String>, Problem> {
    let index: Value = serde_json::from_slice(index).map_err(Problem::json)?;
    let map = index["weight_map"].as_object();
    let map = map.ok_or("has no weight_map from tensors to files")?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    if let Some(odd) = names.iter().find(|name| !name::is_safe(name)) {
        let text = format!("names a shard {odd:?}, which leads out of the folder");
        return Err(text.into());
    }
    Ok(names.into_iter().map(Into::into).collect())
}

/// The folder of the model that an adapter's folder is for, where it is a path:
/// from the folder where the program runs, as peft has it, or else from the
/// adapter's or from that beside it.
///
/// # Errors
/// With the folders that were looked into, if it is in none.
pub fn base_folder(adapter: &Path, base: &str) -> Result<PathBuf, [PathBuf; 2]> {
    let beside = std::path::absolute(adapter).ok();
    let beside = beside.as_deref().and_then(Path::parent).unwrap_or(adapter);
    let mut places = [PathBuf::from(base), adapter.join(base), beside.join(base)].into_iter();
    let is_other = |place: &PathBuf| place.is_dir() && !place.join(ADAPTER_CONFIG).is_file();
    let found = places.find(is_other);
    found.ok_or_else(|| [adapter.to_owned(), beside.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_for_the_model() {
        use Kind::{Adapter, CTranslate2, Whole};
        for (files, right) in [
            (&[][..], None),
            (&["config.json"], None),
            (&["pytorch_model.bin.index.json"], Some(Whole)),
            (
                &["model.safetensors", ADAPTER_CONFIG, ADAPTERS[0]],
                Some(Whole),
            ),
            (&[CTRANSLATE2, ADAPTER_CONFIG, ADAPTERS[1]], Some(Adapter)),
            (&[CTRANSLATE2, ADAPTER_CONFIG], Some(CTranslate2)),
            (&[CTRANSLATE2, ADAPTERS[0]], Some(CTranslate2)),
            (&[ADAPTER_CONFIG], Some(Adapter)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for file in files {
                std::fs::write(folder.path().join(file), "").unwrap();
            }
            assert_eq!(kind(folder.path()), right, "{files:?}");
        }
    }

    #[test]
    fn a_base_is_no_adapter() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for name in ["adapter", "base", "adapter/inner"] {
            std::fs::create_dir(place(name)).unwrap();
        }
        let found = |base: &str| base_folder(&place("adapter"), base).ok();
        assert_eq!(found("base"), Some(place("base")));
        assert_eq!(found("inner"), Some(place("adapter/inner")));
        assert_eq!(found("gone"), None);
        std::fs::write(place("base").join(ADAPTER_CONFIG), "").unwrap();
        assert_eq!(found("base"), None);
    }
}
