//! LoRA adapters as peft saves them: a folder with `adapter_config.json` and
//! the few tensors that were trained, which change those of a base model.
//!
//! A weight W becomes W + s B A, where s is alpha over the rank, or over its
//! square root (rslora); with DoRA its rows then get the lengths that were
//! trained. Rank and alpha of a module may be its own, by patterns. Tensors
//! that were trained whole (`modules_to_save`, embeddings, biases) take the
//! place of the base's. All of it is done while a tensor is read, in 32 bits.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::stored::{Files, Stored};
use crate::error::Problem;
use crate::{Error, Result};

/// The entry that names the base model.
const BASE: &str = "base_model_name_or_path";

/// Entries with numbers of their own for some modules.
const RANKS: &str = "rank_pattern";
const ALPHAS: &str = "alpha_pattern";

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
    value: Value,
}

/// The entries of a map in the order of the file, which counts in patterns and
/// which [`Value`] does not keep. As in Python, one that stands there twice
/// has its first place and its last value.
#[derive(Default)]
struct Ordered(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from patterns to numbers")
            }

            fn visit_unit<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut entries: Vec<(String, Value)> = Vec::new();
                let mut places: HashMap<String, usize> = HashMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    match places.get(&key) {
                        Some(&place) => entries[place].1 = value,
                        None => {
                            places.insert(key.clone(), entries.len());
                            entries.push((key, value));
                        }
                    }
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// The entries of an `adapter_config.json` that have an order.
#[derive(Deserialize)]
struct Patterns {
    #[serde(default)]
    rank_pattern: Ordered,
    #[serde(default)]
    alpha_pattern: Ordered,
}

/// What is done to a tensor of the base.
#[derive(Clone, Debug)]
pub enum Change {
    /// A product is added: LoRA itself.
    Product(Box<Product>),
    /// scale · values is added.
    Sum { values: Stored, scale: f32 },
    /// The rows of some tokens are replaced.
    Rows { tokens: Vec<usize>, values: Stored },
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
    /// What an `adapter_config.json` of these bytes says; `path` stands in
    /// error messages.
    ///
    /// # Errors
    /// If it is not JSON, is of another kind than LoRA, or of one that is not
    /// merged here.
    pub fn new(path: &Path, bytes: &[u8]) -> Result<Self> {
        let broken = |problem| Error::file(path, Problem::json(problem));
        let value: Value = serde_json::from_slice(bytes).map_err(broken)?;
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
        let ordered: Patterns = serde_json::from_slice(bytes).map_err(|problem| {
            let text = format!("has an unusable rank_pattern or alpha_pattern: {problem}");
            Error::file(path, Problem::new(text, problem))
        })?;
        let patterns =
            |key: &str, entries| patterns(entries).map_err(|e| fail(format!("{key} {e}")));
        Ok(Self {
            ranks: patterns(RANKS, ordered.rank_pattern)?,
            alphas: patterns(ALPHAS, ordered.alpha_pattern)?,
            path: path.to_owned(),
            value,
        })
    }

    /// The base model's folder or name.
    ///
    /// # Errors
    /// If it is not there.
    pub fn base(&self) -> Result<&str> {
        let advice = "write the base model's folder or name there";
        match &self.value[BASE] {
            Value::String(base) if !base.is_empty() => Ok(base),
            Value::Null | Value::String(_) => Err(self.problem(format!("has no {BASE}; {advice}"))),
            other => Err(self.problem(format!("{BASE} is {other}, which is no text; {advice}"))),
        }
    }

    /// An error about the file.
    pub fn problem(&self, what: impl Into<Problem>) -> Error {
        Error::file(&self.path, what)
    }

    /// The rank of a module, which its tensors have to have, and what their
    /// product is multiplied by.
    ///
    /// # Errors
    /// If either number is missing or none, or an expression takes too long.
    fn rank_and_scale(&self, module: &str) -> Result<(usize, f32)> {
        let (rank, from) = self.number((RANKS, &self.ranks), "r", module)?;
        let wrong = |from, value, right| {
            self.problem(format!(
                "{from} is {value} for {module}, where {right} is wanted"
            ))
        };
        let whole = rank.as_u64().and_then(|rank| usize::try_from(rank).ok());
        let rank = whole
            .filter(|&rank| rank > 0)
            .ok_or_else(|| wrong(from, rank, "a whole number from 1 on"))?;
        let (alpha, from) = self.number((ALPHAS, &self.alphas), "lora_alpha", module)?;
        let root = self.value["use_rslora"] == true;
        let divisor = if root {
            (rank as f64).sqrt()
        } else {
            rank as f64
        };
        let scale = alpha.as_f64().map(|alpha| (alpha / divisor) as f32);
        let scale = scale.filter(|scale| scale.is_finite());
        let scale = scale.ok_or_else(|| wrong(from, alpha, "a number"))?;
        Ok((rank, scale))
    }

    /// The number of a module, and where it stands: that of the first pattern
    /// that fits, or else the one for all.
    fn number<'a>(
        &'a self,
        (key, patterns): (&'static str, &'a [Pattern]),
        all: &'static str,
        module: &str,
    ) -> Result<(&'a Value, &'static str)> {
        for Pattern { name, value } in patterns {
            let fits = name.is_match(module).map_err(|problem| {
                let text = format!("{key} cannot be matched with {module}: {problem}");
                self.problem(Problem::new(text, problem))
            })?;
            if fits {
                return Ok((value, key));
            }
        }
        Ok((&self.value[all], all))
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
        let names = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
        let names: HashMap<&str, &Stored> = names.collect();
        let find = |name: String| names.get(name.as_str()).copied();
        for tensor in &tensors {
            let full = tensor.name.as_str();
            let name = full.strip_prefix("base_model.model.").unwrap_or(full);
            // The name of the module and what follows it, in the file's words.
            let part = |mark: &str| {
                let module = name.strip_suffix(mark)?;
                Some((module, full.strip_suffix(mark)?))
            };
            let wrong = |what: &str| self.problem(format!("{full} {what}"));
            let embedding = part(".lora_embedding_A");
            let turned = embedding.is_some();
            if let Some((module, prefix)) = embedding.or_else(|| part(".lora_A.weight")) {
                let up = if turned {
                    "lora_embedding_B"
                } else {
                    "lora_B.weight"
                };
                let up = find(format!("{prefix}.{up}"));
                let magnitude = find(format!("{prefix}.lora_magnitude_vector"))
                    .or_else(|| find(format!("{prefix}.lora_magnitude_vector.weight")));
                let change = self.product(module, tensor, up, magnitude, turned)?;
                adapter.changes.push((format!("{module}.weight"), change));
            } else if let Some((module, _)) = part(".lora_B.bias") {
                let (_, scale) = self.rank_and_scale(module)?;
                let values = tensor.clone();
                let change = Change::Sum { values, scale };
                adapter.changes.push((format!("{module}.bias"), change));
            } else if let Some((module, _)) = part(".token_adapter.trainable_tokens_delta") {
                let rows = self.token_rows(module);
                let rows = rows.filter(|rows| tensor.shape.first() == Some(&rows.len()));
                let rows =
                    rows.ok_or_else(|| wrong("has other rows than trainable_token_indices says"))?;
                let values = tensor.clone();
                let change = Change::Rows {
                    tokens: rows,
                    values,
                };
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
        let (rank, scale) = self.rank_and_scale(module)?;
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

/// Patterns of modules, of which the first that fits counts.
fn patterns(entries: Ordered) -> Result<Vec<Pattern>, String> {
    let entries = entries.0.into_iter();
    entries
        .map(|(key, value)| {
            // As peft matches them: whole components at the end of the name.
            let name = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$"));
            let name = name.map_err(|e| format!("has {key:?}, which is no expression: {e}"))?;
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
        let path_of = |own: &Stored| {
            let path = files.get(own.file).map(|(path, _)| path.clone());
            path.unwrap_or_default()
        };
        let misfit = |own: &Stored| {
            let problem = format!(
                "{} {:?} does not fit the base's {name}",
                own.name, own.shape
            );
            Error::file(path_of(own), problem)
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
            Self::Rows {
                tokens,
                values: own,
            } => {
                let new = own.read(files)?;
                if Some(new.len()) != tokens.len().checked_mul(columns) {
                    return Err(misfit(own));
                }
                for (&token, new) in tokens.iter().zip(new.chunks(columns.max(1))) {
                    let mut lines = values.chunks_mut(columns.max(1)).take(rows);
                    let line = lines.nth(token).ok_or_else(|| {
                        let problem = format!(
                            "{} is of token {token}, where the base's {name} has {rows} rows",
                            own.name
                        );
                        Error::file(path_of(own), problem)
                    })?;
                    line.copy_from_slice(new);
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
                if Some(left.len()) != rank.checked_mul(rows) {
                    return Err(misfit(if *turned { down } else { up }));
                }
                if Some(right.len()) != rank.checked_mul(columns) {
                    return Err(misfit(if *turned { up } else { down }));
                }
                let lines = values.chunks_mut(columns.max(1)).zip(left.chunks(rank));
                let mut sum = vec![0.0f32; columns];
                for (line, left) in lines {
                    sum.fill(0.0);
                    for (factor, right) in left.iter().zip(right.chunks(columns.max(1))) {
                        for (sum, right) in sum.iter_mut().zip(right) {
                            *sum += factor * right;
                        }
                    }
                    for (value, sum) in line.iter_mut().zip(&sum) {
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
