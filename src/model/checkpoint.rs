//! Weights as they come, in whichever [form](super::forms), checked against the
//! tensors a model needs before any is read; or random numbers for exactly
//! those tensors.

use std::collections::BTreeMap;

use super::config::Config;
use super::files::ModelFiles;
use super::forms::{self, Change, Files, Stored};
use super::random::values;
use crate::gauge::Gauge;
use crate::hub::layout::ADAPTER_CONFIG;
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
        self.scale(name, width);
        self.add(Content::Shift, format!("{name}.bias"), &[width]);
    }

    /// Adds the `{name}.weight` of a norm without bias.
    pub fn scale(&mut self, name: &str, width: usize) {
        self.add(Content::Scale, format!("{name}.weight"), &[width]);
    }

    /// Adds the `{name}.gamma` of a norm, to which 1 is added.
    pub fn offset_scale(&mut self, name: &str, width: usize) {
        self.add(Content::Shift, format!("{name}.gamma"), &[width]);
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

/// The embedding of tokens (V, D).
pub const EMBEDDING: &str = "decoder.embed_tokens.weight";

/// The output projection (V, D), by the name all families know it by.
pub const PROJECTION: &str = "decoder.output_projection.weight";

/// Its bias (V), where there is one.
pub const PROJECTION_BIAS: &str = "decoder.output_projection.bias";

/// A file's tensor name as the models know it: Hugging Face puts `model.` in
/// front, and each family names the output projection its own way.
pub fn standard_name(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    match name {
        "lm_head.weight" | "proj_out.weight" => PROJECTION.to_owned(),
        "proj_out.bias" => PROJECTION_BIAS.to_owned(),
        _ => name.to_owned(),
    }
}

/// The weights of a model.
pub struct Checkpoint {
    source: Source,
    /// Where the weights are left out: the shapes of what was asked for, by name.
    outline: Option<BTreeMap<String, Vec<usize>>>,
    /// Of the tensors that are read.
    loading: Gauge,
}

enum Source {
    Files(WeightFiles),
    Random(Random),
}

/// The weights of a model folder.
struct WeightFiles {
    /// Where each tensor is, by the name the model knows it by; the files'
    /// headers are parsed once.
    index: BTreeMap<String, Stored>,
    /// What an adapter does to tensors, by the same names.
    changes: BTreeMap<String, Vec<Change>>,
    files: Files,
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
    /// If a file is missing, broken or of a kind that is not read, or if two
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
            _ => {
                if let Some(quantised) = config.quantised() {
                    return Err(config.problem(quantised));
                }
                Source::Files(WeightFiles::open(files, config.tied()?, rename)?)
            }
        };
        let outline = config.is_outline().then(BTreeMap::new);
        Ok(Self {
            source,
            outline,
            loading: config.loading().clone(),
        })
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
        if let Some(outline) = &mut self.outline {
            let specs = needed.specs.iter();
            outline.extend(specs.map(|spec| (spec.name.clone(), spec.shape.clone())));
        }
        self.loading.begin(needed.specs.len());
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

    /// Whether weights are left out: their sizes are all that counts.
    pub fn is_outline(&self) -> bool {
        self.outline.is_some()
    }

    /// How many rows a tensor has that is left out; nothing where values are read.
    pub fn outlined_rows(&self, name: &str) -> Option<usize> {
        self.outline.as_ref()?.get(name)?.first().copied()
    }

    /// The values of a tensor that [`check`](Self::check) has found.
    ///
    /// Where weights are left out, all are 0.
    ///
    /// # Errors
    /// If there is none of that name, or a value is not finite.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let unknown = || {
            Error::Model(format!(
                "the model's code reads {name} but never asked for it"
            ))
        };
        if let Some(outline) = &self.outline {
            let shape = outline.get(name).ok_or_else(unknown)?;
            return Ok(vec![0.0; shape.iter().product()]);
        }
        self.loading.step();
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
    fn open(files: &ModelFiles, tied: bool, rename: impl Fn(&str) -> String) -> Result<Self> {
        let opened = forms::open(files)?;
        let mut all = Self {
            index: BTreeMap::new(),
            changes: BTreeMap::new(),
            files: opened.files,
        };
        for tensor in opened.tensors {
            let name = rename(&tensor.name);
            if let Some(other) = all.index.insert(name, tensor) {
                let problem = format!("has tensor {} twice", other.name);
                return Err(all.problem(&other, problem));
            }
        }
        // A tied projection is the embedding, also where the file has a copy.
        let mut instead: BTreeMap<String, Stored> = BTreeMap::new();
        for tensor in opened.instead {
            let name = rename(&tensor.name);
            if let Some(other) = instead.insert(name.clone(), tensor) {
                let problem = format!("has {name} twice, once as {}", other.name);
                return Err(all.problem(&other, problem));
            }
        }
        let has = |name: &str| instead.contains_key(name);
        if tied && has(EMBEDDING) && !has(PROJECTION) {
            match opened.copied {
                true => all.part_projection(),
                false => drop(all.index.remove(PROJECTION)),
            }
        }
        let changes = opened.changes.into_iter();
        let changes = changes.map(|(name, change)| (rename(&name), change));
        // Rows that were trained are what products are added to.
        let is_rows = |change: &Change| matches!(change, Change::Rows { .. });
        let (mut rows, others): (Vec<_>, Vec<_>) = changes.partition(|(_, change)| is_rows(change));
        // They are rows of both uses of a tied matrix, whoever has a copy of it.
        let of_tied = rows.iter().filter(|(name, _)| tied && name == EMBEDDING);
        let of_tied: Vec<Change> = of_tied.map(|(_, change)| change.clone()).collect();
        match (has(EMBEDDING), has(PROJECTION)) {
            (true, true) => rows.extend(of_tied.into_iter().map(|own| (PROJECTION.into(), own))),
            (false, false) if !of_tied.is_empty() => drop(all.index.remove(PROJECTION)),
            _ => {}
        }
        all.index.extend(instead);
        for (name, change) in rows.into_iter().chain(others) {
            if matches!(change, Change::Product(_))
                && [EMBEDDING, PROJECTION].contains(&name.as_str())
            {
                // LoRA changes one use of a tied matrix; the other keeps it as it is.
                all.part_projection();
            }
            if !all.index.contains_key(&name) {
                let path = files.path(ADAPTER_CONFIG);
                let problem =
                    format!("is of an adapter that changes {name}, which the base has not");
                return Err(Error::file(path, problem));
            }
            all.changes.entry(name).or_default().push(change);
        }
        Ok(all)
    }

    /// Makes the projection a tensor of its own, with the values of the
    /// embedding as it is, where it is none yet.
    fn part_projection(&mut self) {
        if !self.index.contains_key(PROJECTION)
            && let Some(embedding) = self.index.get(EMBEDDING)
        {
            self.index.insert(PROJECTION.to_owned(), embedding.clone());
            if let Some(changes) = self.changes.get(EMBEDDING).cloned() {
                self.changes.insert(PROJECTION.to_owned(), changes);
            }
        }
    }

    /// An error about a tensor's file.
    fn problem(&self, tensor: &Stored, problem: String) -> Error {
        let path = self.files.get(tensor.file).map(|(path, _)| path.clone());
        Error::file(path.unwrap_or_default(), problem)
    }

    fn check(&self, needed: &TensorList, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let mut problems = Vec::new();
        for spec in &needed.specs {
            match self.index.get(&spec.name) {
                None => problems.push(format!("missing {} {:?}", spec.name, spec.shape)),
                Some(Stored {
                    name,
                    number,
                    shape,
                    scale,
                    ..
                }) => {
                    if *shape != spec.shape {
                        problems.push(format!(
                            "{name} is {shape:?} where the config asks for {:?}",
                            spec.shape
                        ));
                    }
                    if let Some(problem) = number.refused(scale.is_some()) {
                        problems.push(format!("{name} {problem}"));
                    }
                }
            }
        }
        let known: std::collections::BTreeSet<&str> =
            needed.specs.iter().map(|spec| spec.name.as_str()).collect();
        for (known_as, Stored { name, .. }) in &self.index {
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

    fn read(&self, name: &str, entry: &Stored) -> Result<Vec<f32>> {
        // They are finite as they come.
        let mut values = entry.read(&self.files)?;
        let Some(changes) = self.changes.get(name) else {
            return Ok(values);
        };
        let rows = entry.shape.first().copied().unwrap_or(1);
        for change in changes {
            change.apply(name, rows, &mut values, &self.files)?;
        }
        match values.iter().position(|x| !x.is_finite()) {
            Some(at) => {
                let problem = format!("{} holds {} at element {at}", entry.name, values[at]);
                Err(self.problem(entry, problem))
            }
            None => Ok(values),
        }
    }
}
