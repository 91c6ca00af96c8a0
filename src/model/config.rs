//! Reading numbers out of `config.json`, with messages that name the field.

use std::path::PathBuf;

use serde_json::Value;

use super::files::ModelFiles;
use crate::error::Problem;
use crate::gauge::Gauge;
use crate::ops::Activation;
use crate::{Error, Result};

/// The file's name in a model's folder.
pub const FILE: &str = "config.json";

/// Sizes beyond this are taken for mistakes: larger than any model's, small
/// enough that products of a few of them fit 64 bits.
const LARGEST_SIZE: u64 = 1 << 20;

/// A parsed `config.json`.
pub struct Config {
    value: Value,
    path: PathBuf,
    /// What stands before the names of fields in messages: where they are nested.
    within: String,
    /// Whether the output projection is the embedding where no field says it.
    tied: bool,
    /// Whether the model's weights are to be left out.
    outline: bool,
    /// Tells of the weights that are read.
    loading: Gauge,
}

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If it is missing or not a JSON object.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let value = files.json(FILE)?;
        let path = files.path(FILE);
        if !value.is_object() {
            return Err(Error::file(path, "is not a JSON object"));
        }
        Ok(Self {
            value,
            path,
            within: String::new(),
            tied: true,
            outline: false,
            loading: Gauge::default(),
        })
    }

    /// The same for a model whose loading somebody looks at.
    pub(super) fn seen_by(self, loading: &Gauge) -> Self {
        Self {
            loading: loading.clone(),
            ..self
        }
    }

    pub(super) fn loading(&self) -> &Gauge {
        &self.loading
    }

    /// The same of a model whose weights are known by their sizes alone.
    pub(super) fn without_weights(self) -> Self {
        let outline = true;
        Self { outline, ..self }
    }

    /// The fields of an object that is nested in the file.
    ///
    /// # Errors
    /// If it is missing or no object.
    pub(super) fn nested(&self, field: &str) -> Result<Self> {
        let value = self.value[field].clone();
        if !value.is_object() {
            return Err(self.wrong(field, "an object of settings"));
        }
        Ok(Self {
            value,
            path: self.path.clone(),
            within: format!("{}{field}.", self.within),
            tied: self.tied,
            outline: self.outline,
            loading: self.loading.clone(),
        })
    }

    /// Whether the model's weights are to be left out.
    pub(super) fn is_outline(&self) -> bool {
        self.outline
    }

    /// An error about the file.
    pub fn problem(&self, what: impl Into<Problem>) -> Error {
        Error::file(&self.path, what)
    }

    /// All of it.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// `architectures[0]`, if there is one.
    ///
    /// # Errors
    /// If it is no text.
    pub fn architecture(&self) -> Result<Option<&str>> {
        match &self.value["architectures"] {
            Value::Null => Ok(None),
            Value::Array(list) if list.is_empty() => Ok(None),
            list => match list.get(0).and_then(Value::as_str) {
                Some(name) => Ok(Some(name)),
                None => Err(self.wrong("architectures", "a list of names")),
            },
        }
    }

    /// `model_type`, if there is one.
    ///
    /// # Errors
    /// If it is no text.
    pub fn model_type(&self) -> Result<Option<&str>> {
        match &self.value["model_type"] {
            Value::Null => Ok(None),
            Value::String(name) => Ok(Some(name)),
            _ => Err(self.wrong("model_type", "a name")),
        }
    }

    /// An error that names a field and says what would be right.
    pub fn wrong(&self, field: &str, right: &str) -> Error {
        let value = &self.value[field];
        let within = &self.within;
        self.problem(format!(
            "{within}{field} is {value}, where {right} would be right"
        ))
    }

    /// Checks a field that has one value alone here; it may be missing.
    ///
    /// # Errors
    /// If it has another.
    pub(super) fn only(&self, field: &str, right: impl Into<Value>) -> Result<()> {
        let (own, right) = (&self.value[field], right.into());
        match own.is_null() || *own == right {
            true => Ok(()),
            false => Err(self.wrong(field, &right.to_string())),
        }
    }

    /// Checks that each of the `heads` has keys of its own: one key for several
    /// queries is not done. The field may be missing.
    ///
    /// # Errors
    /// If there are fewer, or more.
    pub(super) fn own_keys(&self, field: &str, heads: usize) -> Result<()> {
        let own = &self.value[field];
        match own.is_null() || *own == heads {
            true => Ok(()),
            false => Err(self.wrong(field, &format!("{heads}, one for each attention head,"))),
        }
    }

    /// A size: a whole number from 1 to 2^20.
    ///
    /// # Errors
    /// If the field is missing or out of range.
    pub fn size(&self, field: &str) -> Result<usize> {
        match self.value[field].as_u64() {
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(size as usize),
            _ => Err(self.wrong(field, "a whole number from 1 to 1048576")),
        }
    }

    /// A number of layers, from 1 to 1,024.
    ///
    /// # Errors
    /// If the field is missing or out of range.
    pub fn layers(&self, field: &str) -> Result<usize> {
        match self.value[field].as_u64() {
            Some(layers) if (1..=1024).contains(&layers) => Ok(layers as usize),
            _ => Err(self.wrong(field, "a whole number from 1 to 1024")),
        }
    }

    /// As [`size`](Self::size), with a default for a missing field.
    ///
    /// # Errors
    /// If the field is there and out of range.
    pub fn size_or(&self, field: &str, default: usize) -> Result<usize> {
        if self.value[field].is_null() {
            Ok(default)
        } else {
            self.size(field)
        }
    }

    /// A list of sizes.
    ///
    /// # Errors
    /// If the field is missing or holds something else.
    pub fn sizes(&self, field: &str) -> Result<Vec<usize>> {
        let wrong = || self.wrong(field, "a list of whole numbers from 1 to 1048576");
        let list = self.value[field].as_array().ok_or_else(wrong)?;
        list.iter()
            .map(|value| match value.as_u64() {
                Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(size as usize),
                _ => Err(wrong()),
            })
            .collect()
    }

    /// A token id below `vocabulary`.
    ///
    /// # Errors
    /// If the field is missing or out of range.
    pub fn token(&self, field: &str, vocabulary: usize) -> Result<u32> {
        match self.value[field].as_u64() {
            Some(id) if id < vocabulary as u64 => Ok(id as u32),
            _ => Err(self.wrong(field, &format!("a token id below {vocabulary}"))),
        }
    }

    /// As [`token`](Self::token), absent where the field is.
    ///
    /// # Errors
    /// If the field is out of range.
    pub fn token_if_given(&self, field: &str, vocabulary: usize) -> Result<Option<u32>> {
        match self.value[field].is_null() {
            true => Ok(None),
            false => self.token(field, vocabulary).map(Some),
        }
    }

    /// Token ids below `vocabulary`, or a single one; at least one.
    ///
    /// # Errors
    /// If the field is missing, empty or out of range.
    pub fn tokens(&self, field: &str, vocabulary: usize) -> Result<Vec<u32>> {
        let Value::Array(list) = &self.value[field] else {
            return Ok(vec![self.token(field, vocabulary)?]);
        };
        let id = |value: &Value| value.as_u64().filter(|&id| id < vocabulary as u64);
        let ids: Option<Vec<u32>> = list.iter().map(|own| id(own).map(|id| id as u32)).collect();
        ids.filter(|ids| !ids.is_empty())
            .ok_or_else(|| self.wrong(field, &format!("token ids below {vocabulary}")))
    }

    /// A truth value, with a default for a missing field.
    ///
    /// # Errors
    /// If the field is something else.
    pub fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match &self.value[field] {
            Value::Null => Ok(default),
            Value::Bool(flag) => Ok(*flag),
            _ => Err(self.wrong(field, "true or false")),
        }
    }

    /// The same of a family whose output projection usually is the embedding, or not.
    pub(super) fn usually_tied(self, tied: bool) -> Self {
        Self { tied, ..self }
    }

    /// Whether the output projection is the embedding; Hugging Face leaves the
    /// field out where it is what the family has usually.
    ///
    /// # Errors
    /// If the field is something else than a truth value.
    pub fn tied(&self) -> Result<bool> {
        self.flag("tie_word_embeddings", self.tied)
    }

    /// Checks that there is an output projection: one of its own in the weights, or
    /// the embedding.
    ///
    /// # Errors
    /// If not.
    pub(super) fn check_projection(&self, own: bool) -> Result<()> {
        match own || self.tied()? {
            true => Ok(()),
            false => Err(self.wrong(
                "tie_word_embeddings",
                "true, since the weights have no output projection,",
            )),
        }
    }

    /// What is wrong where the weights are packed with scales (8-bit floats,
    /// GPTQ, bitsandbytes); nothing where they are plain.
    pub fn quantised(&self) -> Option<String> {
        let how = self.value["quantization_config"].as_object()?;
        let method = how.get("quant_method").and_then(Value::as_str);
        let method = method.unwrap_or("an unnamed method");
        Some(format!(
            "has a quantization_config: its weights are packed by {method}, which is not read; \
             take the model before that, or in transformers model.dequantize() and save_pretrained"
        ))
    }

    /// An activation function.
    ///
    /// # Errors
    /// If it is one the engine does not have.
    pub fn activation(&self, field: &str, default: Activation) -> Result<Activation> {
        match self.value[field].as_str() {
            None if self.value[field].is_null() => Ok(default),
            Some("relu") => Ok(Activation::Relu),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            _ => Err(self.wrong(field, "relu, silu or gelu")),
        }
    }

    /// Checks that `width` columns divide into `heads`.
    ///
    /// # Errors
    /// If they do not.
    pub fn heads(&self, field: &str, width: usize) -> Result<usize> {
        let heads = self.size(field)?;
        if !width.is_multiple_of(heads) {
            return Err(self.wrong(field, &format!("a divisor of the width {width}")));
        }
        Ok(heads)
    }
}
