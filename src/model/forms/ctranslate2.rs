//! CTranslate2's `model.bin`, as faster-whisper has it: format versions 2 to 6,
//! numbers in 32 and 16 bits, and whole ones with scales.
//!
//! The file is a list of variables with names, sizes and values, and aliases:
//! equal variables are stored once. Numbers are little-endian. It says nothing
//! of the model but its specification's name; sizes follow from the variables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::stored::{Number, Stored};
use super::whisper::Sizes;
use crate::error::Problem;
use crate::{Error, Result};

/// Newest format that is known.
const NEWEST: u32 = 6;

/// The specification that is read, and its newest revision that is known.
const WHISPER: &str = "WhisperSpec";
const NEWEST_REVISION: u32 = 3;

/// GELU in CTranslate2's list of activations.
const GELU: i64 = 3;

/// The variables of a `model.bin`.
#[derive(Debug)]
pub struct Variables {
    tensors: BTreeMap<String, Stored>,
    /// Whole numbers without sizes: settings.
    settings: BTreeMap<String, i64>,
    /// Names of the same variables.
    aliases: BTreeMap<String, String>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("is cut short, or is no model.bin of CTranslate2")?;
        self.at += count;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u32, Problem> {
        let taken = self.take(bytes)?.iter().rev();
        Ok(taken.fold(0, |sum, &byte| sum << 8 | u32::from(byte)))
    }

    fn size(&mut self) -> Result<usize, Problem> {
        Ok(self.number(4)? as usize)
    }

    /// A text with its length before it and a zero behind.
    fn text(&mut self) -> Result<&'a str, Problem> {
        let length = self.number(2)? as usize;
        match self.take(length)? {
            [text @ .., 0] => Ok(std::str::from_utf8(text)?),
            _ => Err("has a name without an end: it is no model.bin of CTranslate2".into()),
        }
    }
}

/// Whether these are the contents of such a file: a version that is known and,
/// behind it, the name of a specification.
pub fn is_model(bytes: &[u8]) -> bool {
    let mut reader = Reader { bytes, at: 0 };
    let version = reader.number(4);
    let name = reader.text();
    let name =
        name.is_ok_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
    version.is_ok_and(|version| (1..=255).contains(&version)) && name
}

/// Whether a `config.json` is CTranslate2's: it names no architecture, but
/// has entries that Whisper's converter writes.
pub fn is_config(config: &Value) -> bool {
    let has = |key: &&str| config.get(*key).is_some();
    let family = ["architectures", "model_type"];
    let own = ["suppress_ids", "suppress_ids_begin", "lang_ids"];
    !family.iter().any(has) && own.iter().any(has)
}

impl Variables {
    /// Reads the list of variables of the file at `path`, whose contents are
    /// `bytes`.
    ///
    /// # Errors
    /// If it is cut short, newer than what is known, or of another
    /// specification than Whisper's.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).map_err(|problem| Error::file(path, problem))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let mut reader = Reader { bytes, at: 0 };
        let version = reader.number(4)?;
        if !(2..=NEWEST).contains(&version) {
            return Err(format!(
                "is of version {version} of CTranslate2's format, where 2 to {NEWEST} are read"
            )
            .into());
        }
        let specification = reader.text()?;
        if specification != WHISPER {
            return Err(format!(
                "is a CTranslate2 model of {specification}, where {WHISPER} is read: {}",
                match specification {
                    "Wav2Vec2Spec" | "Wav2Vec2BertSpec" | "WavLMSpec" =>
                        "a CTC model, which has no decoder and so no cross-attention",
                    _ => "take the model that it was converted from, as Hugging Face saves it",
                }
            )
            .into());
        }
        let revision = reader.number(4)?;
        if revision > NEWEST_REVISION {
            return Err(format!(
                "is of revision {revision} of {WHISPER}, where those to {NEWEST_REVISION} are read"
            )
            .into());
        }
        let mut variables = Self {
            tensors: BTreeMap::new(),
            settings: BTreeMap::new(),
            aliases: BTreeMap::new(),
        };
        for _ in 0..reader.number(4)? {
            variables.variable(&mut reader, version)?;
        }
        if version >= 3 {
            for _ in 0..reader.number(4)? {
                let alias = reader.text()?.to_owned();
                let name = reader.text()?.to_owned();
                variables.aliases.insert(alias, name);
            }
        }
        if reader.at != bytes.len() {
            let rest = bytes.len() - reader.at;
            return Err(format!("has {rest} bytes behind its last variable").into());
        }
        variables.check_scales()?;
        Ok(variables)
    }

    /// Checks that scales are floats: one for a tensor, or one for each row.
    fn check_scales(&self) -> Result<(), Problem> {
        let names = self.tensors.keys().chain(self.aliases.keys());
        for stored in names.filter_map(|name| self.get(name)) {
            let Some(scale) = &stored.scale else {
                continue;
            };
            let rows = stored.shape.first();
            let right = match scale.shape[..] {
                [] | [1] => true,
                [scales] => rows == Some(&scales),
                _ => false,
            };
            if !right || !matches!(scale.number, Number::F32 | Number::F16 | Number::BF16) {
                return Err(format!(
                    "has {} {:?} in {} for {} {:?}, where one float is wanted, or one for each row",
                    scale.name, scale.shape, scale.number, stored.name, stored.shape
                )
                .into());
            }
        }
        Ok(())
    }

    fn variable(&mut self, reader: &mut Reader, version: u32) -> Result<(), Problem> {
        let name = reader.text()?;
        let rank = reader.number(1)?;
        let shape = (0..rank)
            .map(|_| reader.size())
            .collect::<Result<Vec<_>, _>>()?;
        let (number, bytes) = if version >= 4 {
            let number = match reader.number(1)? {
                0 => Number::F32,
                1 => Number::I8,
                2 => Number::I16,
                3 => Number::Other("I32".into()),
                4 => Number::F16,
                5 => Number::BF16,
                other => return Err(format!("has {name} of unknown numbers ({other})").into()),
            };
            (number, reader.size()?)
        } else {
            // Of old the width alone was written.
            let width = reader.number(1)? as usize;
            let number = match width {
                4 => Number::F32,
                2 => Number::I16,
                1 => Number::I8,
                _ => return Err(format!("has {name} of {width} bytes a number").into()),
            };
            (number, width.saturating_mul(reader.size()?))
        };
        let start = reader.at;
        let value = reader.take(bytes)?;
        if let Number::Other(_) = number {
            return Err(format!(
                "has {name} in {number}, as AWQ packs weights; convert the model with int8, \
                 float16 or float32"
            )
            .into());
        }
        if shape.is_empty() {
            match (&number, value) {
                (Number::I8, &[value]) => {
                    self.settings
                        .insert(name.to_owned(), i64::from(value as i8));
                }
                (Number::I16, &[low, high]) if !name.ends_with("_scale") => {
                    let value = i16::from_le_bytes([low, high]);
                    self.settings.insert(name.to_owned(), i64::from(value));
                }
                _ => {}
            }
        }
        let stored = Stored::dense(name, (0, reader.bytes.len()), number, shape, start)?;
        if stored.range.len() != bytes {
            return Err(format!("has {name} {:?} with {bytes} bytes", stored.shape).into());
        }
        if self.tensors.insert(name.to_owned(), stored).is_some() {
            return Err(format!("has {name} twice").into());
        }
        Ok(())
    }

    /// A variable by one of its names, with its scale.
    fn get(&self, name: &str) -> Option<Stored> {
        let own = self.aliases.get(name).map_or(name, String::as_str);
        let mut stored = self.tensors.get(own)?.clone();
        if matches!(stored.number, Number::I8 | Number::I16) {
            let scale = format!("{own}_scale");
            let scale = self.aliases.get(&scale).unwrap_or(&scale);
            stored.scale = self.tensors.get(scale).cloned().map(Box::new);
        }
        Some(stored)
    }

    /// All names of tensors that are weights.
    fn names(&self) -> BTreeSet<&str> {
        let aliases = self.aliases.keys().map(String::as_str);
        let names = self
            .tensors
            .iter()
            .filter(|(_, stored)| !stored.shape.is_empty());
        let names = names.map(|(name, _)| name.as_str()).chain(aliases);
        names
            .filter(|name| !name.ends_with("_scale"))
            .filter(|name| {
                self.get(name)
                    .is_some_and(|stored| !stored.shape.is_empty())
            })
            .collect()
    }

    /// The model's sizes.
    ///
    /// # Errors
    /// If a variable is missing, has other sizes, or a setting is not
    /// Whisper's.
    pub fn sizes(&self, path: &Path) -> Result<Sizes> {
        self.find_sizes()
            .map_err(|problem| Error::file(path, problem))
    }

    fn find_sizes(&self) -> Result<Sizes, Problem> {
        let side = |name: &str, axis: usize| -> Result<usize, Problem> {
            let stored = self.get(name).ok_or_else(|| format!("has no {name}"))?;
            let side = stored.shape.get(axis).copied();
            Ok(side.ok_or_else(|| format!("has {name} {:?}", stored.shape))?)
        };
        let width = side("encoder/conv1/weight", 0)?;
        let names = self.names();
        let layers = |part: &str| {
            let has = |layer: &usize| {
                let prefix = format!("{part}/layer_{layer}/");
                let next = names.range(prefix.as_str()..).next();
                next.is_some_and(|name| name.starts_with(&prefix))
            };
            (0..).take_while(has).count()
        };
        let heads = |part: &str| -> Result<usize, Problem> {
            let given = self.settings.get(&format!("{part}/num_heads")).copied();
            // Whisper's heads have 64 columns.
            let heads = given.map_or(Some(width / 64), |heads| usize::try_from(heads).ok());
            let fits = |heads: &usize| *heads > 0 && width.is_multiple_of(*heads);
            let heads = heads.filter(fits);
            Ok(heads.ok_or_else(|| format!("has {part}/num_heads {given:?} for width {width}"))?)
        };
        for (name, right) in [
            ("decoder/activation", GELU),
            ("decoder/pre_norm", 1),
            ("decoder/scale_embeddings", 0),
            ("decoder/start_from_zero_embedding", 0),
            ("decoder/alibi", 0),
        ] {
            if let Some(&given) = self.settings.get(name)
                && given != right
            {
                return Err(format!("has {name} {given}, where Whisper has {right}").into());
            }
        }
        Ok(Sizes {
            mel_bins: side("encoder/conv1/weight", 1)?,
            width,
            layers: [layers("encoder"), layers("decoder")],
            heads: [heads("encoder")?, heads("decoder")?],
            feed_forward: [
                side("encoder/layer_0/ffn/linear_0/weight", 0)?,
                side("decoder/layer_0/ffn/linear_0/weight", 0)?,
            ],
            positions: [
                side("encoder/position_encodings/encodings", 0)?,
                side("decoder/position_encodings/encodings", 0)?,
            ],
            vocabulary: side("decoder/embeddings/weight", 0)?,
        })
    }

    /// The tensors by Hugging Face's names: what is stacked is taken apart,
    /// and the zeros that stand for the key projections' biases are left out.
    ///
    /// # Errors
    /// If a variable is not Whisper's.
    pub fn tensors(&self, path: &Path, bytes: &[u8]) -> Result<Vec<Stored>> {
        let mut tensors = Vec::new();
        for name in self.names() {
            let Some(stored) = self.get(name) else {
                continue;
            };
            let fail = |problem: String| Error::file(path, problem);
            let parts = renamed(name);
            let parts = parts.ok_or_else(|| fail(format!("has {name}, which Whisper has not")))?;
            if name == "decoder/projection/weight" && self.is_embedding(name) {
                continue;
            }
            let count = stored.shape.first().copied().unwrap_or(0);
            let step = count / parts.len();
            if step * parts.len() != count {
                return Err(fail(format!("has {name} {:?}", stored.shape)));
            }
            for (place, part) in parts.iter().enumerate() {
                let rows = step * place..step * (place + 1);
                let rows = stored.rows(part.clone(), rows);
                let rows = rows.ok_or_else(|| fail(format!("has {name} {:?}", stored.shape)))?;
                let zero = part.ends_with(".k_proj.bias") || part == "proj_out.bias";
                if !zero {
                    tensors.push(rows);
                } else if !is_zero(&bytes[rows.range.clone()], &rows.number) {
                    return Err(fail(format!("has a bias {part}, which Whisper has not")));
                }
            }
        }
        Ok(tensors)
    }

    /// Whether a name is another of the embedding's.
    fn is_embedding(&self, name: &str) -> bool {
        let own = |name: &str| {
            self.aliases
                .get(name)
                .cloned()
                .unwrap_or_else(|| name.into())
        };
        own(name) == own("decoder/embeddings/weight")
    }
}

/// Whether all numbers are zero, of either sign.
fn is_zero(bytes: &[u8], number: &Number) -> bool {
    let width = number.bytes().unwrap_or(1);
    let signed = !matches!(number, Number::I8 | Number::I16);
    bytes.chunks(width).all(|number| match number {
        [rest @ .., last] => {
            let last = if signed { last & 0x7f } else { *last };
            last == 0 && rest.iter().all(|&byte| byte == 0)
        }
        [] => true,
    })
}

/// Hugging Face's names for a variable, several where it is stacked; nothing
/// for one that Whisper has not.
fn renamed(name: &str) -> Option<Vec<String>> {
    let one = |name: String| Some(vec![name]);
    let (part, rest) = name.split_once('/')?;
    if !matches!(part, "encoder" | "decoder") {
        return None;
    }
    let norm = |field: &str| match field {
        "gamma" => Some("weight"),
        "beta" => Some("bias"),
        _ => None,
    };
    let linear = |field: &str| matches!(field, "weight" | "bias").then(|| field.to_owned());
    let fields: Vec<&str> = rest.split('/').collect();
    match (part, fields.as_slice()) {
        ("encoder", [convolution @ ("conv1" | "conv2"), field]) => {
            one(format!("model.encoder.{convolution}.{}", linear(field)?))
        }
        (_, ["position_encodings", "encodings"]) => {
            one(format!("model.{part}.embed_positions.weight"))
        }
        ("decoder", ["embeddings", "weight"]) => one("model.decoder.embed_tokens.weight".into()),
        ("decoder", ["projection", field]) => one(format!("proj_out.{}", linear(field)?)),
        (_, ["layer_norm", field]) => one(format!("model.{part}.layer_norm.{}", norm(field)?)),
        (_, [layer, block, inner, field]) => {
            let layer: usize = layer.strip_prefix("layer_")?.parse().ok()?;
            let layer = format!("model.{part}.layers.{layer}");
            let attention = match *block {
                "self_attention" => "self_attn",
                "attention" if part == "decoder" => "encoder_attn",
                "ffn" => "",
                _ => return None,
            };
            let names: &[&str] = match (*block, *inner) {
                ("ffn", "layer_norm") => {
                    return one(format!("{layer}.final_layer_norm.{}", norm(field)?));
                }
                (_, "layer_norm") => {
                    return one(format!("{layer}.{attention}_layer_norm.{}", norm(field)?));
                }
                ("ffn", "linear_0") => return one(format!("{layer}.fc1.{}", linear(field)?)),
                ("ffn", "linear_1") => return one(format!("{layer}.fc2.{}", linear(field)?)),
                ("self_attention", "linear_0") => &["q_proj", "k_proj", "v_proj"],
                ("attention", "linear_0") => &["q_proj"],
                ("attention", "linear_1") => &["k_proj", "v_proj"],
                ("self_attention", "linear_1") | ("attention", "linear_2") => &["out_proj"],
                _ => return None,
            };
            let field = linear(field)?;
            let names = names.iter();
            Some(
                names
                    .map(|name| format!("{layer}.{attention}.{name}.{field}"))
                    .collect(),
            )
        }
        _ => None,
    }
}
