//! The texts of the shaders, as they stand in `shaders/`.

use std::sync::OnceLock;

use super::expand::expand;
use super::reflect::Shader;

macro_rules! embedded {
    ($folder:literal: $($stem:literal),* $(,)?) => {
        &[$(($stem, include_str!(concat!("../../../../", $folder, "/", $stem, ".wgsl")))),*]
    };
}

/// Every shader: the stem of its file and its text. A test compares the table
/// with the folder.
pub const SOURCES: &[(&str, &str)] = embedded![
    "shaders":
    "accumulate",
    "accumulate_scores",
    "activation",
    "add",
    "add_noise",
    "apply_mask",
    "asinh",
    "attention",
    "attention_terms",
    "attention_x_gradient",
    "baseline",
    "blend",
    "cache_append",
    "cached_attention",
    "candidates",
    "convolution_2d",
    "correlate",
    "depthwise",
    "depthwise_2d",
    "embedding",
    "expand_scores",
    "fold",
    "fold_2d",
    "glu",
    "group_norm",
    "join_rows",
    "kl_divergence",
    "layer_norm",
    "log_softmax",
    "matmul",
    "matmul_units_16",
    "matmul_units_8",
    "pool_max",
    "reduce",
    "rotary",
    "scatter_rows",
    "spread",
    "sum_batch",
    "take_rows",
    "token_log_prob",
    "token_seed",
    "unfold",
];

/// What shaders import: the stem of its file and its text.
pub const SHARED: &[(&str, &str)] = embedded![
    "shaders/shared":
    "activate",
    "activations",
    "domains",
    "lanes",
    "masks",
    "matmul_units",
    "numbers",
    "philox",
    "plane",
    "product",
    "sigmoid",
    "tiles",
];

static LOADED: [OnceLock<Shader>; SOURCES.len()] = [const { OnceLock::new() }; SOURCES.len()];

impl Shader {
    /// The shader in `shaders/<stem>.wgsl` with what it imports, read once.
    ///
    /// # Panics
    /// When there is none of this name, it imports what is not there or naga
    /// refuses it. All are mistakes in the crate, found by its tests.
    pub fn load(stem: &str) -> &'static Shader {
        let Some(index) = SOURCES.iter().position(|(name, _)| *name == stem) else {
            panic!("there is no shader shaders/{stem}.wgsl");
        };
        let (stem, source) = SOURCES[index];
        LOADED[index].get_or_init(|| {
            let expanded = expand(stem, source, SHARED);
            match expanded.and_then(Shader::reflect) {
                Ok(shader) => shader,
                Err(error) => panic!("shaders/{stem}.wgsl: {error}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Stems of the WGSL files in a folder of the repository, in order.
    fn stems(folder: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = std::fs::read_dir(folder).unwrap();
        let mut stems: Vec<_> = files
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| {
                assert_eq!(path.extension().unwrap(), "wgsl", "{}", path.display());
                path.file_stem().unwrap().to_str().unwrap().to_owned()
            })
            .collect();
        stems.sort();
        stems
    }

    #[test]
    fn the_tables_are_the_folders() {
        for (folder, table) in [("shaders", SOURCES), ("shaders/shared", SHARED)] {
            let table: Vec<_> = table.iter().map(|(stem, _)| *stem).collect();
            assert_eq!(table, stems(folder), "the files of {folder}, in order");
        }
    }

    #[test]
    fn everything_shared_is_imported() {
        for (name, _) in SHARED {
            let line = format!("// #import {name}");
            let mut texts = SOURCES.iter().chain(SHARED);
            let found = texts.any(|(_, text)| text.lines().any(|own| own == line));
            assert!(found, "nobody imports {name}");
        }
    }

    /// What measurements are kept under, and what a device compiles.
    #[test]
    fn a_loaded_text_holds_what_it_imports() {
        let matmul = Shader::load("matmul");
        for part in [
            "fn forward_thin(",
            "fn folded_row(",
            "fn write_at(",
            "fn erfc(",
        ] {
            assert_eq!(matmul.source.matches(part).count(), 1, "{part}");
        }
    }
}
