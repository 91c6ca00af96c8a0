//! Which files of a model are wanted, and which of them a folder lacks.

use std::path::Path;

use super::cache::Repository;
use super::layout::{self, ADAPTER_CONFIG, ADAPTERS, Kind, WEIGHTS, shards};
#[cfg(feature = "hub")]
use super::name;

/// What is read beside the weights, where a model has it, and files `*.model`.
const SETTINGS: [&str; 16] = [
    "config.json",
    ADAPTER_CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
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

/// What a folder lacks to be a model; of things that may have several names
/// the usual one. `absent` says of which files it is known that the model has
/// them not.
pub(super) fn lacking(folder: &Path, absent: &dyn Fn(&str) -> bool) -> Vec<String> {
    let has = |name: &str| folder.join(name).is_file();
    let kind = layout::kind(folder);
    let mut lacking = Vec::new();
    if matches!(kind, None | Some(Kind::Whole)) && !has("config.json") {
        lacking.push("config.json".to_owned());
    }
    match kind {
        None => lacking.push(WEIGHTS[0][0].to_owned()),
        Some(Kind::Whole) => lacking.extend(lacking_shards(folder)),
        Some(Kind::Adapter | Kind::CTranslate2) => {}
    }
    // What an adapter changes may be here while the adapter is not: without it
    // that would be another model.
    if has(ADAPTER_CONFIG) && !layout::has_adapter(folder) {
        let known = kind != Some(Kind::Adapter) && ADAPTERS.into_iter().all(absent);
        if !known {
            lacking.push(ADAPTERS[0].to_owned());
        }
    }
    let vocabularies = [
        "tokenizer.json",
        "vocab.json",
        "vocabulary.json",
        "vocabulary.txt",
    ];
    let adapter = kind == Some(Kind::Adapter);
    if !adapter && !vocabularies.into_iter().any(has) && !has_sentencepiece(folder) {
        lacking.push(vocabularies[0].to_owned());
    }
    lacking
}

/// Shards that a folder's index names and it has not.
fn lacking_shards(folder: &Path) -> Vec<String> {
    match index_here(folder) {
        None => Vec::new(),
        Some((file, index)) => match shards(&index) {
            Ok(shards) => {
                let shards = shards.into_iter();
                let gone = |name: &String| !folder.join(name).is_file();
                shards.filter(gone).collect()
            }
            Err(_) => vec![format!("a sound {file}")],
        },
    }
}

/// The index of the shards that a folder's weights are in, and its bytes;
/// nothing where they are one file or none.
pub(super) fn index_here(folder: &Path) -> Option<(&'static str, Vec<u8>)> {
    let here = |name: &str| folder.join(name).is_file();
    let [single, index] = WEIGHTS
        .into_iter()
        .find(|names| names.iter().any(|name| here(name)))?;
    let bytes = crate::plain::read(&folder.join(index));
    bytes
        .ok()
        .filter(|_| !here(single))
        .map(|bytes| (index, bytes))
}

fn has_sentencepiece(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.any(|path| path.extension().is_some_and(|ending| ending == "model") && path.is_file())
}

/// What may be among a commit's files and is not here.
pub(super) fn unknown(repository: &Repository, commit: &str) -> Vec<&'static str> {
    let folder = repository.snapshot(commit);
    let absent = repository.absent(commit);
    let known = |name: &str| folder.join(name).is_file() || absent.has_not(name);
    // A model beside an adapter that is here would be what that changes.
    let adapter = layout::kind(&folder) == Some(Kind::Adapter);
    let weights = WEIGHTS.into_iter().flatten().filter(|_| adapter);
    let all = SETTINGS.into_iter().chain(weights);
    all.filter(|name| !known(name)).collect()
}

/// Which files of a listing are wanted.
#[cfg(feature = "hub")]
pub(super) struct Wanted<'a> {
    /// All but the weights.
    pub settings: Vec<&'a str>,
    /// Weights of a model, or the index that names them.
    pub weights: Option<&'a str>,
    /// Weights of an adapter, which a whole model's folder may have, too.
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
        // Which weights there are not counts where there may be two kinds.
        let weights = WEIGHTS.into_iter().flatten().chain(ADAPTERS);
        let weights = weights.filter(|_| find(ADAPTER_CONFIG).is_some());
        let absent = SETTINGS.into_iter().chain(weights);
        let first = |names: &[&str]| names.iter().find_map(|name| find(name));
        let settings = SETTINGS.iter().filter_map(|name| find(name));
        let whole = first(WEIGHTS.as_flattened());
        let adapter = find(ADAPTER_CONFIG).and_then(|_| first(&ADAPTERS));
        Self {
            settings: settings.chain(models).collect(),
            weights: match (whole, adapter) {
                (None, None) => find(layout::CTRANSLATE2),
                _ => whole,
            },
            adapter,
            absent: absent.filter(|name| find(name).is_none()).collect(),
        }
    }

    /// What is said of a model that has no weights.
    pub fn no_weights() -> String {
        let whole = WEIGHTS.iter().map(|[single, _]| *single);
        let names: Vec<&str> = whole.chain([layout::CTRANSLATE2]).collect();
        let adapters = ADAPTERS.join(" or ");
        format!("{}, {ADAPTER_CONFIG} with {adapters}", names.join(", "))
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
            let own = folder(files);
            assert_eq!(lacking(own.path(), &|_| false), lacks, "{files:?}");
        }
        // Of a whole model with an adapter neither part is enough.
        let both = [
            "config.json",
            "model.safetensors",
            "vocab.json",
            ADAPTER_CONFIG,
        ];
        let own = folder(&both);
        assert_eq!(lacking(own.path(), &|_| false), [ADAPTERS[0]]);
        let one_is_not = |name: &str| name == ADAPTERS[0];
        assert_eq!(lacking(own.path(), &one_is_not), [ADAPTERS[0]]);
        assert!(lacking(own.path(), &|_| true).is_empty());
        std::fs::write(own.path().join(ADAPTERS[1]), "").unwrap();
        assert!(lacking(own.path(), &|_| false).is_empty());
        // CTranslate2's weights are not the adapter's.
        let other = folder(&["model.bin", "vocabulary.txt", ADAPTER_CONFIG]);
        assert_eq!(lacking(other.path(), &|_| false), [ADAPTERS[0]]);
        let index = "model.safetensors.index.json";
        let sharded = folder(&["config.json", "tokenizer.json", "a.safetensors"]);
        let write = |text: &str| std::fs::write(sharded.path().join(index), text).unwrap();
        write(r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#);
        assert_eq!(lacking(sharded.path(), &|_| false), ["b.safetensors"]);
        write(r#"{"weight_map": {"x": "../a.safetensors"}}"#);
        let sound = format!("a sound {index}");
        assert_eq!(lacking(sharded.path(), &|_| false), [sound]);
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
                &[
                    "adapter_config.json",
                    "adapter_model.safetensors",
                    "model.bin",
                ],
                Some("adapter_model.safetensors"),
            ),
            (&["adapter_model.safetensors"], None),
            (&["tf_model.h5"], None),
        ] {
            let listing: Vec<String> = listing(names);
            let wanted = Wanted::of(&listing);
            assert_eq!(wanted.weights.or(wanted.adapter), weights);
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
