//! LoRA adapters as peft saves them: a folder with `adapter_config.json` and
//! the few tensors that were trained, which change those of a base model.
//!
//! A weight W becomes W + s B A, where s is alpha over the rank, or over its
//! square root (rslora); with DoRA its rows then get the lengths that were
//! trained. Rank and alpha of a module may be its own, by patterns. Tensors
//! that were trained whole (`modules_to_save`, embeddings, biases) take the
//! place of the base's. All of it is done while a tensor is read, in 32 bits.

use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use serde_json::Value;

use super::stored::{Files, Stored};
use crate::error::Problem;
use crate::{Error, Result};

/// The file that makes a folder an adapter's.
pub const CONFIG: &str = "adapter_config.json";

/// Files that the tensors may be in; the first that is there is taken.
pub const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Kinds of LoRA that compute something else.
const OTHER_KINDS: [&str; 10] = [
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
    "velora_config",
];

/// Ways to begin a training that change the base model as well.
const BEGINNINGS: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// An `adapter_config.json`.
#[derive(Debug)]
pub struct AdapterConfig {
    path: PathBuf,
    value: Value,
    ranks: Vec<Pattern>,
    alphas: Vec<Pattern>,
}

/// A number for the modules whose names end as the expression says.
#[derive(Debug)]
struct Pattern {
    name: Regex,
    value: f64,
}

/// What is done to a tensor of the base.
#[derive(Clone, Debug)]
pub enum Change {
    /// A product is added: LoRA itself.
    Product(Box<Product>),
    /// scale · values is added.
    Sum { values: Stored, scale: f32 },
    /// Some rows are replaced.
    Rows { rows: Vec<usize>, values: Stored },
}

/// scale · up · down, which is added to a matrix.
#[derive(Clone, Debug)]
pub struct Product {
    /// A: (r, ...)
    down: Stored,
    /// B: (outputs, r, ...)
    up: Stored,
    scale: f32,
    /// Whether the product is turned: embeddings.
    turned: bool,
    /// The lengths that rows get (columns, where turned).
    magnitude: Option<Stored>,
}

/// An adapter's tensors, sorted by what they do.
#[derive(Debug, Default)]
pub struct Adapter {
    /// Tensors that take the place of the base's of that name.
    pub whole: Vec<Stored>,
    /// Names of the base's tensors, and what happens to them.
    pub changes: Vec<(String, Change)>,
}

impl AdapterConfig {
    /// What an `adapter_config.json` says; `path` stands in error messages.
    ///
    /// # Errors
    /// If it is of another kind than LoRA, or of one that is not merged here.
    pub fn new(path: &Path, value: Value) -> Result<Self> {
        let fail = |problem: String| Error::file(path, problem);
        let advice = "merge it in Python (PeftModel.merge_and_unload, then save_pretrained)";
        match value["peft_type"].as_str() {
            Some("LORA") => {}
            Some(other) => {
                return Err(fail(format!(
                    "is an adapter of type {other}, where LORA is merged; {advice}"
                )));
            }
            None => return Err(fail("has no peft_type: it is no adapter's config".into())),
        }
        let used = |key: &&&str| match &value[**key] {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        if let Some(key) = OTHER_KINDS.iter().find(used) {
            return Err(fail(format!(
                "uses {key}, which is not merged here; {advice}"
            )));
        }
        if let Some(begun) = value["init_lora_weights"].as_str()
            && BEGINNINGS.iter().any(|kind| begun.starts_with(kind))
        {
            return Err(fail(format!(
                "has init_lora_weights {begun:?}, which changes the base model too; {advice}"
            )));
        }
        let patterns = |key: &str| patterns(&value[key]).map_err(|e| fail(format!("{key} {e}")));
        Ok(Self {
            ranks: patterns("rank_pattern")?,
            alphas: patterns("alpha_pattern")?,
            path: path.to_owned(),
            value,
        })
    }

    /// The base model's folder or name.
    ///
    /// # Errors
    /// If it is not there.
    pub fn base(&self) -> Result<&str> {
        let base = self.value["base_model_name_or_path"].as_str();
        base.filter(|base| !base.is_empty()).ok_or_else(|| {
            let problem = "has no base_model_name_or_path; write the base model's folder there";
            Error::file(&self.path, problem)
        })
    }

    /// An error about the file.
    pub fn problem(&self, what: impl Into<Problem>) -> Error {
        Error::file(&self.path, what)
    }

    /// The rank of a module, which its tensors have to have, and what their
    /// product is multiplied by.
    fn rank_and_scale(&self, module: &str) -> Option<(usize, f32)> {
        let number = |patterns: &[Pattern], key: &str| {
            let mut found = patterns.iter();
            let found = found.find(|pattern| pattern.name.is_match(module).unwrap_or(false));
            found
                .map(|pattern| pattern.value)
                .or_else(|| self.value[key].as_f64())
        };
        let rank = number(&self.ranks, "r")?;
        let alpha = number(&self.alphas, "lora_alpha")?;
        let root = self.value["use_rslora"] == true;
        let scale = alpha / if root { rank.sqrt() } else { rank };
        (rank >= 1.0 && scale.is_finite()).then_some((rank as usize, scale as f32))
    }

    /// Token ids whose rows were trained, of one module.
    fn token_rows(&self, module: &str) -> Option<Vec<usize>> {
        let rows = match &self.value["trainable_token_indices"] {
            Value::Object(modules) => modules.iter().find_map(|(name, rows)| {
                let own = module.strip_suffix(name.as_str())?;
                (own.is_empty() || own.ends_with('.')).then_some(rows)
            })?,
            rows => rows,
        };
        let rows = rows.as_array()?.iter();
        rows.map(|row| usize::try_from(row.as_u64()?).ok())
            .collect()
    }

    /// Whether a copy of the embedding was trained: a projection that was tied
    /// to it is as before then.
    pub fn copies_embedding(&self) -> bool {
        let saved = self.value["modules_to_save"]
            .as_array()
            .into_iter()
            .flatten();
        let mut saved = saved.filter_map(Value::as_str);
        saved.any(|module| "model.decoder.embed_tokens".ends_with(module))
    }

    /// Sorts the adapter's tensors by what they do.
    ///
    /// # Errors
    /// If one has no partner, another rank than the config says, or does
    /// something that is not known here.
    pub fn sort(&self, tensors: Vec<Stored>) -> Result<Adapter> {
        let mut adapter = Adapter::default();
        let find = |name: String| tensors.iter().find(|tensor| tensor.name == name);
        for tensor in &tensors {
            let full = tensor.name.as_str();
            let name = full.strip_prefix("base_model.model.").unwrap_or(full);
            // The name of the module and what follows it, in the file's words.
            let part = |mark: &str| {
                let module = name.strip_suffix(mark)?;
                Some((module, full.strip_suffix(mark)?))
            };
            let wrong = |what: &str| self.problem(format!("{full} {what}"));
            if let Some((module, prefix)) = part(".lora_A.weight") {
                let up = find(format!("{prefix}.lora_B.weight"));
                let magnitude = find(format!("{prefix}.lora_magnitude_vector"))
                    .or_else(|| find(format!("{prefix}.lora_magnitude_vector.weight")));
                let change = self.product(module, tensor, up, magnitude, false)?;
                adapter.changes.push((format!("{module}.weight"), change));
            } else if let Some((module, prefix)) = part(".lora_embedding_A") {
                let up = find(format!("{prefix}.lora_embedding_B"));
                let magnitude = find(format!("{prefix}.lora_magnitude_vector"))
                    .or_else(|| find(format!("{prefix}.lora_magnitude_vector.weight")));
                let change = self.product(module, tensor, up, magnitude, true)?;
                adapter.changes.push((format!("{module}.weight"), change));
            } else if let Some((module, _)) = part(".lora_B.bias") {
                let (_, scale) = self
                    .rank_and_scale(module)
                    .ok_or_else(|| wrong("has no rank or alpha in the config"))?;
                let values = tensor.clone();
                let change = Change::Sum { values, scale };
                adapter.changes.push((format!("{module}.bias"), change));
            } else if let Some((module, _)) = part(".token_adapter.trainable_tokens_delta") {
                let rows = self.token_rows(module);
                let rows = rows.filter(|rows| tensor.shape.first() == Some(&rows.len()));
                let rows =
                    rows.ok_or_else(|| wrong("has other rows than trainable_token_indices says"))?;
                let values = tensor.clone();
                let change = Change::Rows { rows, values };
                adapter.changes.push((format!("{module}.weight"), change));
            } else if [".lora_B.weight", ".lora_embedding_B"]
                .iter()
                .any(|end| name.ends_with(end))
                || name.contains(".lora_magnitude_vector")
            {
                let module = name
                    .rsplit_once(".lora_")
                    .map_or(name, |(module, _)| module);
                let prefix = &full[..full.len() - name.len()];
                let partners = ["lora_A.weight", "lora_embedding_A"];
                let mut partners = partners.iter().map(|end| format!("{prefix}{module}.{end}"));
                if !partners.any(|partner| find(partner).is_some()) {
                    return Err(wrong("has no lora_A beside it"));
                }
            } else if name.contains("lora_") {
                return Err(wrong("is of a kind of LoRA that is not merged here"));
            } else {
                let name = name
                    .replace(".base_layer.", ".")
                    .replace(".modules_to_save.", ".");
                adapter.whole.push(Stored {
                    name,
                    ..tensor.clone()
                });
            }
        }
        if adapter.changes.is_empty() && adapter.whole.is_empty() {
            return Err(self.problem("stands beside weights that hold no tensors"));
        }
        Ok(adapter)
    }

    fn product(
        &self,
        module: &str,
        down: &Stored,
        up: Option<&Stored>,
        magnitude: Option<&Stored>,
        turned: bool,
    ) -> Result<Change> {
        let wrong = |what: &str| self.problem(format!("{} {what}", down.name));
        let up = up.ok_or_else(|| wrong("has no lora_B beside it"))?;
        let (rank, scale) = self
            .rank_and_scale(module)
            .ok_or_else(|| wrong("has no rank or alpha in the config"))?;
        if down.shape.first() != Some(&rank) || up.shape.get(1) != Some(&rank) {
            return Err(self.problem(format!(
                "gives {module} rank {rank}, but its tensors are {:?} and {:?}",
                down.shape, up.shape
            )));
        }
        if magnitude.is_none() && self.value["use_dora"] == true {
            return Err(wrong(
                "has no lora_magnitude_vector beside it, which use_dora asks for",
            ));
        }
        Ok(Change::Product(Box::new(Product {
            down: down.clone(),
            up: up.clone(),
            scale,
            turned,
            magnitude: magnitude.cloned(),
        })))
    }
}

/// Patterns of modules in the order of the file, the first that fits counts.
fn patterns(value: &Value) -> Result<Vec<Pattern>, String> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(key, number)| {
            // As peft matches them: whole components at the end of the name.
            let name = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$"));
            let name = name.map_err(|e| format!("has {key:?}, which is no expression: {e}"))?;
            let value = number
                .as_f64()
                .ok_or_else(|| format!("has no number for {key:?}"))?;
            Ok(Pattern { name, value })
        })
        .collect()
}

impl Change {
    /// Changes the values (first axis: `rows`) of a base's tensor.
    ///
    /// # Errors
    /// If the shapes do not fit, or the adapter's values cannot be read.
    pub fn apply(&self, name: &str, rows: usize, values: &mut [f32], files: &Files) -> Result<()> {
        let misfit = |own: &Stored| {
            let path = files.get(own.file).map(|(path, _)| path.clone());
            let problem = format!(
                "{} {:?} does not fit the base's {name}",
                own.name, own.shape
            );
            Error::file(path.unwrap_or_default(), problem)
        };
        let columns = values.len().checked_div(rows).unwrap_or(0);
        match self {
            Self::Sum { values: own, scale } => {
                let sum = own.read(files)?;
                if sum.len() != values.len() {
                    return Err(misfit(own));
                }
                for (value, sum) in values.iter_mut().zip(sum) {
                    *value += scale * sum;
                }
            }
            Self::Rows { rows, values: own } => {
                let new = own.read(files)?;
                if new.len() != rows.len() * columns {
                    return Err(misfit(own));
                }
                for (&row, new) in rows.iter().zip(new.chunks(columns.max(1))) {
                    let place = row * columns..(row + 1) * columns;
                    let place = values.get_mut(place).ok_or_else(|| misfit(own))?;
                    place.copy_from_slice(new);
                }
            }
            Self::Product(product) => {
                let Product {
                    down,
                    up,
                    scale,
                    turned,
                    magnitude,
                } = &**product;
                let rank = down.shape.first().copied().unwrap_or(0).max(1);
                let (mut left, mut right) = (up.read(files)?, down.read(files)?);
                if *turned {
                    (left, right) = (
                        transposed(&right, rank),
                        transposed(&left, left.len() / rank),
                    );
                }
                if left.len() != rows * rank {
                    return Err(misfit(if *turned { down } else { up }));
                }
                if right.len() != rank * columns {
                    return Err(misfit(if *turned { up } else { down }));
                }
                let lines = values.chunks_mut(columns.max(1)).zip(left.chunks(rank));
                for (line, left) in lines {
                    let mut sum = vec![0.0f32; line.len()];
                    for (factor, right) in left.iter().zip(right.chunks(columns.max(1))) {
                        for (sum, right) in sum.iter_mut().zip(right) {
                            *sum += factor * right;
                        }
                    }
                    for (value, sum) in line.iter_mut().zip(sum) {
                        *value += scale * sum;
                    }
                }
                if let Some(own) = magnitude {
                    let lengths = own.read(files)?;
                    if lengths.len() != if *turned { columns } else { rows } {
                        return Err(misfit(own));
                    }
                    set_lengths(values, columns, &lengths, *turned);
                }
            }
        }
        Ok(())
    }
}

/// A matrix of so many rows, turned.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    let places = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
    places.map(|place| values[place]).collect()
}

/// Gives rows, or columns, the lengths.
fn set_lengths(values: &mut [f32], columns: usize, lengths: &[f32], of_columns: bool) {
    let which = |at: usize| {
        if of_columns {
            at % columns
        } else {
            at / columns
        }
    };
    let mut squares = vec![0.0f64; lengths.len()];
    for (at, &value) in values.iter().enumerate() {
        squares[which(at)] += f64::from(value) * f64::from(value);
    }
    for (at, value) in values.iter_mut().enumerate() {
        let line = which(at);
        *value *= (f64::from(lengths[line]) / squares[line].sqrt()) as f32;
    }
}
