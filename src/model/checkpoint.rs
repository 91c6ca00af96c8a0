//! Weights as they come: one safetensors file or several shards, in F64, F32,
//! F16 or BF16, checked against the tensors a model needs before any is read; or
//! random numbers for exactly those tensors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::config::Config;
use super::files::{ModelFiles, WeightBytes};
use super::random::values;
use crate::error::Problem;
use crate::{Error, Result};

/// What the numbers of a file's tensor are for: what random ones in their place
/// have to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Factors of what goes in: (outputs, inputs, ...).
    Weight,
    Bias,
    /// Factors of a norm.
    Scale,
    /// Summands of a norm, or the means that it takes off.
    Shift,
    /// Variances that a norm divides by.
    Variance,
}

/// A tensor that a model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub content: Content,
    pub shape: Vec<usize>,
}

/// A list of needed tensors while it grows.
#[derive(Default)]
pub struct TensorList {
    specs: Vec<TensorSpec>,
}

impl TensorList {
    fn add(&mut self, content: Content, name: String, shape: &[usize]) {
        self.specs.push(TensorSpec {
            name,
            content,
            shape: shape.to_vec(),
        });
    }

    /// Adds a tensor of weights.
    pub fn weight(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.add(Content::Weight, name.into(), shape);
    }

    /// Adds a tensor of biases.
    pub fn bias(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.add(Content::Bias, name.into(), shape);
    }

    /// Adds `{name}.weight` (outputs, inputs) and `{name}.bias`.
    pub fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.weight(format!("{name}.weight"), &[outputs, inputs]);
        self.bias(format!("{name}.bias"), &[outputs]);
    }

    /// Adds the `{name}.weight` and `{name}.bias` of a norm.
    pub fn norm(&mut self, name: &str, width: usize) {
        self.add(Content::Scale, format!("{name}.weight"), &[width]);
        self.add(Content::Shift, format!("{name}.bias"), &[width]);
    }

    /// Adds a batch norm: a norm with its `{name}.running_mean` and
    /// `{name}.running_var`.
    pub fn batch_norm(&mut self, name: &str, width: usize) {
        self.norm(name, width);
        self.add(Content::Shift, format!("{name}.running_mean"), &[width]);
        self.add(Content::Variance, format!("{name}.running_var"), &[width]);
    }

    /// Numbers in all tensors; the largest number where a config asks for more.
    pub fn parameters(&self) -> usize {
        let specs = self.specs.iter();
        let sizes = specs.map(|spec| {
            let sides = spec.shape.iter();
            sides.fold(1, |size: usize, &side| size.saturating_mul(side))
        });
        sizes.fold(0, usize::saturating_add)
    }
}

/// The output projection (V, D), by the name all families know it by.
pub const PROJECTION: &str = "decoder.output_projection.weight";

/// A file's tensor name as the models know it: Hugging Face puts `model.` in
/// front, and each family names the output projection its own way.
pub fn standard_name(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    match name {
        "lm_head.weight" | "proj_out.weight" => PROJECTION.to_owned(),
        _ => name.to_owned(),
    }
}

/// A tensor in its file.
struct Entry {
    /// As the file names it.
    name: String,
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes of the file.
    range: Range<usize>,
}

/// The weights of a model.
pub struct Checkpoint {
    source: Source,
}

enum Source {
    Files(WeightFiles),
    Random(Random),
}

/// The weights of a model folder.
struct WeightFiles {
    /// Where each tensor is, by the name the model knows it by; the files'
    /// headers are parsed once.
    index: BTreeMap<String, Entry>,
    files: Vec<(PathBuf, WeightBytes)>,
}

/// Random numbers for whatever the model asks for.
struct Random {
    seed: u64,
    /// Whether there is an output projection of its own.
    own_projection: bool,
    /// By name: what was asked for.
    specs: BTreeMap<String, TensorSpec>,
}

impl Checkpoint {
    /// Opens the weight files; `rename` turns a file's tensor names into the
    /// model's. Models without files get random weights.
    ///
    /// # Errors
    /// If a file is missing or is not a whole safetensors file, or if two
    /// tensors have one name.
    pub fn open(
        files: &ModelFiles,
        config: &Config,
        rename: impl Fn(&str) -> String,
    ) -> Result<Self> {
        let source = match *files {
            ModelFiles::Random { seed, .. } => Source::Random(Random {
                seed,
                own_projection: !config.tied()?,
                specs: BTreeMap::new(),
            }),
            _ => Source::Files(WeightFiles::open(files, rename)?),
        };
        Ok(Self { source })
    }

    /// Whether there is a tensor of that name. Random weights hold what
    /// [`check`](Self::check) was asked for; of the output projection they
    /// know before.
    pub fn contains(&self, name: &str) -> bool {
        match &self.source {
            Source::Files(files) => files.index.contains_key(name),
            Source::Random(random) if name == PROJECTION => random.own_projection,
            Source::Random(random) => random.specs.contains_key(name),
        }
    }

    /// Checks that the files hold exactly what is needed.
    ///
    /// # Errors
    /// If a needed tensor is missing or has another shape, or a tensor is
    /// neither needed nor `ignored`; the message lists them all.
    pub fn check(&mut self, needed: &TensorList, ignored: impl Fn(&str) -> bool) -> Result<()> {
        match &mut self.source {
            Source::Files(files) => files.check(needed, ignored),
            Source::Random(random) => {
                let specs = needed.specs.iter();
                random.specs = specs
                    .map(|spec| (spec.name.clone(), spec.clone()))
                    .collect();
                Ok(())
            }
        }
    }

    /// The values of a tensor that [`check`](Self::check) has found.
    ///
    /// # Errors
    /// If there is none of that name, or a value is not finite.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let unknown = || {
            Error::Model(format!(
                "the model's code reads {name} but never asked for it"
            ))
        };
        match &self.source {
            Source::Files(files) => {
                let entry = files.index.get(name).ok_or_else(unknown)?;
                files.read(name, entry)
            }
            Source::Random(random) => {
                let spec = random.specs.get(name).ok_or_else(unknown)?;
                Ok(values(spec, random.seed))
            }
        }
    }
}

impl WeightFiles {
    fn open(files: &ModelFiles, rename: impl Fn(&str) -> String) -> Result<Self> {
        let files = files.weights()?;
        let mut index = BTreeMap::new();
        for (number, (path, bytes)) in files.iter().enumerate() {
            let tensors = SafeTensors::deserialize(bytes)
                .map_err(|problem| Error::file(path, Problem::safetensors(problem)))?;
            for (name, view) in tensors.iter() {
                let begin = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
                let entry = Entry {
                    name: name.to_owned(),
                    file: number,
                    dtype: view.dtype(),
                    shape: view.shape().to_vec(),
                    range: begin..begin + view.data().len(),
                };
                if index.insert(rename(name), entry).is_some() {
                    return Err(Error::file(path, format!("has tensor {name} twice")));
                }
            }
        }
        Ok(Self { index, files })
    }

    fn check(&self, needed: &TensorList, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let mut problems = Vec::new();
        for spec in &needed.specs {
            match self.index.get(&spec.name) {
                None => problems.push(format!("missing {} {:?}", spec.name, spec.shape)),
                Some(Entry {
                    name, dtype, shape, ..
                }) => {
                    if *shape != spec.shape {
                        problems.push(format!(
                            "{name} is {shape:?} where the config asks for {:?}",
                            spec.shape
                        ));
                    }
                    if !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                        problems.push(format!(
                            "{name} is {dtype:?} where F64, F32, F16 or BF16 is read"
                        ));
                    }
                }
            }
        }
        let known: std::collections::BTreeSet<&str> =
            needed.specs.iter().map(|spec| spec.name.as_str()).collect();
        for (known_as, Entry { name, .. }) in &self.index {
            if !known.contains(known_as.as_str()) && !ignored(known_as) {
                problems.push(format!("{name} belongs to no part of the model"));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let shown = problems.iter().take(8).cloned().collect::<Vec<_>>();
        let rest = problems.len() - shown.len();
        let rest = if rest > 0 {
            format!("; and {rest} more")
        } else {
            String::new()
        };
        let path = self.files.first().map(|(path, _)| path.clone());
        Err(Error::file(
            path.unwrap_or_default(),
            format!("does not fit config.json: {}{rest}", shown.join("; ")),
        ))
    }

    fn read(&self, name: &str, entry: &Entry) -> Result<Vec<f32>> {
        let (path, bytes) = &self.files[entry.file];
        let data = &bytes[entry.range.clone()];
        let values: Vec<f32> = match entry.dtype {
            Dtype::F32 => data
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect(),
            // Rounded as transformers does, which computes in 32 bits too.
            Dtype::F64 => data
                .as_chunks::<8>()
                .0
                .iter()
                .map(|&bytes| f64::from_le_bytes(bytes) as f32)
                .collect(),
            Dtype::F16 => data
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&bytes| f16::from_le_bytes(bytes).to_f32())
                .collect(),
            _ => data
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&bytes| bf16::from_le_bytes(bytes).to_f32())
                .collect(),
        };
        match values.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(Error::file(
                path,
                format!("{name} holds {} at element {at}", values[at]),
            )),
            None => Ok(values),
        }
    }
}
