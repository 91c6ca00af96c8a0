//! The shaders, embedded, and what naga reads from them.
//!
//! A launcher names what it binds: `shader.binding("x")`, `("rows", rows)`.
//! Names, slots, layouts and tile sizes live in the WGSL alone and are read
//! from there, so a launcher cannot disagree with its shader unnoticed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Handle, Module, Scalar, ScalarKind, StorageAccess, TypeInner};

use crate::engine::tensor;
use crate::{Error, Result};

macro_rules! embedded {
    ($($stem:literal),* $(,)?) => {
        &[$(($stem, include_str!(concat!("../../../shaders/", $stem, ".wgsl")))),*]
    };
}

/// Every shader: the stem of its file and its text. A test compares the table
/// with the folder.
pub const SOURCES: &[(&str, &str)] = embedded![
    "accumulate",
    "accumulate_scores",
    "activation",
    "add",
    "add_noise",
    "apply_mask",
    "attention",
    "attention_terms",
    "attention_x_gradient",
    "baseline",
    "blend",
    "cache_append",
    "cached_attention",
    "candidates",
    "correlate",
    "depthwise",
    "embedding",
    "expand_scores",
    "fold",
    "glu",
    "join_rows",
    "kl_divergence",
    "layer_norm",
    "log_softmax",
    "matmul",
    "matmul_units_16",
    "matmul_units_8",
    "pool_max",
    "reduce",
    "scatter_rows",
    "spread",
    "sum_batch",
    "take_rows",
    "token_log_prob",
    "token_seed",
];

static LOADED: [OnceLock<Shader>; SOURCES.len()] = [const { OnceLock::new() }; SOURCES.len()];

/// Most workgroups that WebGPU lets a dispatch have in one dimension.
pub const MAX_WORKGROUPS_PER_DIMENSION: u32 = 65_535;

/// How a shader sees a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    /// `Params`
    Uniform,
    /// `Scalars`
    Scalars,
    Read,
    ReadWrite,
}

/// A buffer variable of a shader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub name: String,
    pub group: u32,
    pub slot: u32,
    pub kind: BindingKind,
}

/// A compute entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub workgroup_size: [u32; 3],
    /// The bindings that this entry point uses, by slot. A pipeline's layout
    /// is made from these alone, not from all that the shader declares.
    pub bindings: Vec<Binding>,
    /// Bytes of workgroup memory that this entry point uses.
    pub workgroup_storage: u32,
    stem: &'static str,
}

impl Entry {
    /// The workgroups of a dispatch with one invocation for each of `count`
    /// elements. Those beyond one dimension's limit go into the second; the
    /// shader numbers them `group.x + group.y * groups.x` and guards the rest.
    ///
    /// # Errors
    /// [`Error::Shape`] when the workgroup is not one-dimensional or an
    /// invocation's number could leave u32.
    pub fn workgroups(&self, count: u64) -> Result<[u32; 3]> {
        let [size, 1, 1] = self.workgroup_size else {
            let problem = format!("{} has no one-dimensional workgroup", self.name);
            return Err(Error::shape(self.stem, problem));
        };
        let limit = u64::from(MAX_WORKGROUPS_PER_DIMENSION);
        let groups = count.div_ceil(size.into());
        let rows = groups.div_ceil(limit).max(1);
        let columns = groups.div_ceil(rows);
        // Invocations past the end count too: their number must not wrap
        // around to an element that is someone else's.
        if rows * columns * u64::from(size) > u64::from(u32::MAX) {
            let problem = format!(
                "{count} elements are too many for one dispatch of {}",
                self.name
            );
            return Err(Error::shape(self.stem, problem));
        }
        Ok([columns as u32, rows as u32, 1])
    }
}

/// The scalar types that Params members, overrides and constants have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarType {
    U32,
    I32,
    F32,
    Bool,
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
        })
    }
}

impl ScalarType {
    fn of(inner: &TypeInner) -> Option<Self> {
        let TypeInner::Scalar(Scalar { kind, width }) = *inner else {
            return None;
        };
        match (kind, width) {
            (ScalarKind::Uint, 4) => Some(Self::U32),
            (ScalarKind::Sint, 4) => Some(Self::I32),
            (ScalarKind::Float, 4) => Some(Self::F32),
            (ScalarKind::Bool, _) => Some(Self::Bool),
            _ => None,
        }
    }
}

/// A value for a member of a shader's `Params`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param {
    U32(u32),
    I32(i32),
    F32(f32),
}

impl From<usize> for Param {
    fn from(value: usize) -> Self {
        Self::U32(u32::try_from(value).expect("sizes are checked when recording"))
    }
}

impl From<u32> for Param {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for Param {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl Param {
    fn scalar(self) -> ScalarType {
        match self {
            Self::U32(_) => ScalarType::U32,
            Self::I32(_) => ScalarType::I32,
            Self::F32(_) => ScalarType::F32,
        }
    }

    fn bytes(self) -> [u8; 4] {
        match self {
            Self::U32(value) => value.to_le_bytes(),
            Self::I32(value) => value.to_le_bytes(),
            Self::F32(value) => value.to_le_bytes(),
        }
    }
}

/// A member of a shader's `Params`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// Bytes from the start of the struct.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    pub scalar: ScalarType,
}

/// An `override` declaration: a constant that a pipeline sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    pub name: String,
    pub scalar: ScalarType,
    /// Whether the shader gives a value for pipelines that set none.
    pub has_default: bool,
}

/// What is known of one shader.
#[derive(Debug, Clone)]
pub struct Shader {
    pub stem: &'static str,
    pub source: &'static str,
    pub entries: Vec<Entry>,
    /// All buffer variables, used or not, by slot.
    pub bindings: Vec<Binding>,
    /// The members of `Params`; empty in a shader without.
    pub params: Vec<Member>,
    /// Bytes of `Params` with its padding.
    params_size: u32,
    /// The members of `Scalars`, in order; empty in a shader without.
    pub scalars: Vec<String>,
    pub overrides: Vec<Override>,
    constants: BTreeMap<String, u32>,
    /// The features without which a device does not take this shader.
    pub features: wgpu::Features,
}

impl Shader {
    /// The shader in `shaders/<stem>.wgsl`, read once.
    ///
    /// # Panics
    /// When there is none of this name or naga refuses it. Both are mistakes
    /// in the crate, found by its tests.
    pub fn load(stem: &str) -> &'static Shader {
        let Some(index) = SOURCES.iter().position(|(name, _)| *name == stem) else {
            panic!("there is no shader shaders/{stem}.wgsl");
        };
        let (stem, source) = SOURCES[index];
        LOADED[index].get_or_init(|| match Shader::reflect(stem, source) {
            Ok(shader) => shader,
            Err(error) => panic!("shaders/{stem}.wgsl: {error}"),
        })
    }

    /// Reads a shader's text.
    ///
    /// # Errors
    /// [`Error::Shape`] when naga refuses it, or it holds what launchers
    /// cannot serve: a uniform other than `Params`, a member of `Params` that
    /// is not a 32-bit number, one of `Scalars` that is not u32, a workgroup size left to an override.
    pub fn reflect(stem: &'static str, source: &'static str) -> Result<Shader> {
        let features = features_of(source);
        let (module, info) = parse(stem, source, Capabilities::all())?;

        let mut handles = Vec::new();
        let mut params = Vec::new();
        let mut params_size = 0;
        let mut scalars = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            let own_type = module.types[variable.ty].name.as_deref();
            let kind = match variable.space {
                AddressSpace::Uniform => BindingKind::Uniform,
                AddressSpace::Storage { access }
                    if access == StorageAccess::LOAD && own_type == Some("Scalars") =>
                {
                    BindingKind::Scalars
                }
                AddressSpace::Storage { access } if access == StorageAccess::LOAD => {
                    BindingKind::Read
                }
                AddressSpace::Storage { .. } => BindingKind::ReadWrite,
                _ => continue,
            };
            let name = variable.name.clone().unwrap_or_default();
            let Some(at) = variable.binding else {
                return Err(Error::shape(stem, format!("{name} has no binding")));
            };
            if kind == BindingKind::Uniform {
                if !params.is_empty() {
                    return Err(Error::shape(stem, "there is more than one uniform"));
                }
                (params, params_size) = params_of(stem, &module, &name, variable.ty)?;
            }
            if kind == BindingKind::Scalars {
                if !scalars.is_empty() {
                    return Err(Error::shape(
                        stem,
                        "there are two variables of type Scalars",
                    ));
                }
                scalars = scalars_of(stem, &module, variable.ty)?;
            }
            let binding = Binding {
                name,
                group: at.group,
                slot: at.binding,
                kind,
            };
            handles.push((handle, binding));
        }
        handles.sort_by_key(|(_, binding)| (binding.group, binding.slot));

        let mut entries = Vec::new();
        for (index, entry) in module.entry_points.iter().enumerate() {
            if entry.workgroup_size_overrides.is_some() {
                let problem = format!("the workgroup size of {} is an override", entry.name);
                return Err(Error::shape(stem, problem));
            }
            let used = info.get_entry_point(index);
            let bindings = handles.iter().filter(|(at, _)| !used[*at].is_empty());
            let workgroup_storage = module
                .global_variables
                .iter()
                .filter(|(at, variable)| {
                    variable.space == AddressSpace::WorkGroup && !used[*at].is_empty()
                })
                .map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()))
                .sum();
            entries.push(Entry {
                name: entry.name.clone(),
                workgroup_size: entry.workgroup_size,
                bindings: bindings.map(|(_, binding)| binding.clone()).collect(),
                workgroup_storage,
                stem,
            });
        }

        Ok(Shader {
            stem,
            source,
            entries,
            bindings: handles.into_iter().map(|(_, binding)| binding).collect(),
            params,
            params_size,
            scalars,
            overrides: overrides_of(stem, &module)?,
            constants: constants_of(&module),
            features,
        })
    }

    /// The buffer variable of this name, used by some entry point or not.
    pub fn binding(&self, name: &str) -> Option<&Binding> {
        self.bindings.iter().find(|binding| binding.name == name)
    }

    /// The entry point of this name.
    ///
    /// # Errors
    /// [`Error::Shape`] naming those that there are.
    pub fn entry(&self, name: &str) -> Result<&Entry> {
        let found = self.entries.iter().find(|entry| entry.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = self.entries.iter().map(|entry| &*entry.name).collect();
            let problem = format!("no entry point {name}; there are {}", names.join(", "));
            Error::shape(self.stem, problem)
        })
    }

    /// A module-scope `const` of the shader, such as a tile size.
    ///
    /// # Panics
    /// When the shader has no such u32 (or i32 that fits): a mistake in its launcher.
    pub fn constant(&self, name: &str) -> u32 {
        match self.constants.get(name) {
            Some(value) => *value,
            // naga forgets constants without a concrete type: `const TILE = 4`.
            None => panic!("shaders/{}.wgsl: no const {name}: u32", self.stem),
        }
    }

    /// A scalar that the shader reads and that is not among those `declared`.
    pub fn undeclared(&self, declared: &[tensor::Scalar]) -> Option<&str> {
        let mut names = self.scalars.iter().map(String::as_str);
        names.find(|name| !declared.iter().any(|own| own.0 == *name))
    }

    /// The bytes of `Params` as the shader lays it out, up to a multiple of 16.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the shader and the member that is missing,
    /// unknown, given twice or of another type.
    pub fn pack_params(&self, values: &[(&str, Param)]) -> Result<Vec<u8>> {
        let fail = |problem: String| Err(Error::shape(self.stem, problem));
        let mut bytes = vec![0; (self.params_size as usize).next_multiple_of(16)];
        for (place, (name, value)) in values.iter().enumerate() {
            let Some(member) = self.params.iter().find(|member| member.name == *name) else {
                return fail(format!("Params has no member {name}"));
            };
            if values[..place].iter().any(|(earlier, _)| earlier == name) {
                return fail(format!("Params.{name} is given twice"));
            }
            if value.scalar() != member.scalar {
                let given = value.scalar();
                return fail(format!("Params.{name} is {}, not {given}", member.scalar));
            }
            let offset = member.offset as usize;
            bytes[offset..offset + 4].copy_from_slice(&value.bytes());
        }
        for member in &self.params {
            if !values.iter().any(|(name, _)| *name == member.name) {
                return fail(format!("Params.{} is missing", member.name));
            }
        }
        Ok(bytes)
    }
}

fn parse(stem: &'static str, source: &str, allowed: Capabilities) -> Result<(Module, ModuleInfo)> {
    let at_line = |line: Option<u32>, problem: &dyn fmt::Display| {
        let line = line.map_or(String::new(), |line| format!("line {line}: "));
        Error::shape(stem, format!("{line}{problem}"))
    };
    let module = naga::front::wgsl::parse_str(source).map_err(|error| {
        let line = error.location(source).map(|location| location.line_number);
        at_line(line, &error.message())
    })?;
    let info = Validator::new(ValidationFlags::all(), allowed)
        .validate(&module)
        .map_err(|error| {
            let line = error.location(source).map(|location| location.line_number);
            // naga's own text stops at the outermost of nested causes.
            let mut problem = error.as_inner().to_string();
            let mut cause = std::error::Error::source(error.as_inner());
            while let Some(inner) = cause {
                problem = format!("{problem}: {inner}");
                cause = inner.source();
            }
            at_line(line, &problem)
        })?;
    Ok((module, info))
}

/// The text of each line without its comment, and the comment.
fn split_comments(source: &str) -> impl Iterator<Item = (&str, &str)> {
    source.lines().map(|line| match line.split_once("//") {
        Some((code, comment)) => (code.trim(), comment.trim()),
        None => (line.trim(), ""),
    })
}

fn features_of(source: &str) -> wgpu::Features {
    let mut features = wgpu::Features::empty();
    for (code, _) in split_comments(source) {
        if code.starts_with("enable ") {
            let enables = |extension| {
                code["enable ".len()..]
                    .split([',', ';'])
                    .any(|name| name.trim() == extension)
            };
            if enables("f16") {
                features |= wgpu::Features::SHADER_F16;
            }
            if enables("wgpu_cooperative_matrix") {
                features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            }
        }
        if code.contains("subgroup") {
            features |= wgpu::Features::SUBGROUP;
        }
        if code.contains("subgroupBarrier") {
            features |= wgpu::Features::SUBGROUP_BARRIER;
        }
    }
    features
}

fn params_of(
    stem: &'static str,
    module: &Module,
    variable: &str,
    ty: Handle<naga::Type>,
) -> Result<(Vec<Member>, u32)> {
    let ty = &module.types[ty];
    let TypeInner::Struct { members, span } = &ty.inner else {
        let problem = format!("the uniform {variable} is not a struct");
        return Err(Error::shape(stem, problem));
    };
    if ty.name.as_deref() != Some("Params") {
        let problem = format!("the uniform {variable} is not of type Params");
        return Err(Error::shape(stem, problem));
    }
    let members = members.iter().map(|member| {
        let name = member.name.clone().unwrap_or_default();
        let inner = &module.types[member.ty].inner;
        match ScalarType::of(inner) {
            None | Some(ScalarType::Bool) => {
                let problem = format!("Params.{name} is not a u32, i32 or f32");
                Err(Error::shape(stem, problem))
            }
            Some(scalar) => Ok(Member {
                name,
                offset: member.offset,
                size: inner.size(module.to_ctx()),
                scalar,
            }),
        }
    });
    Ok((members.collect::<Result<_>>()?, *span))
}

/// Names of the members of `Scalars`; u32s lie one behind the other.
fn scalars_of(stem: &'static str, module: &Module, ty: Handle<naga::Type>) -> Result<Vec<String>> {
    let TypeInner::Struct { members, .. } = &module.types[ty].inner else {
        return Err(Error::shape(stem, "Scalars is not a struct"));
    };
    let names = members.iter().map(|member| {
        let name = member.name.clone().unwrap_or_default();
        match ScalarType::of(&module.types[member.ty].inner) {
            Some(ScalarType::U32) => Ok(name),
            _ => Err(Error::shape(stem, format!("Scalars.{name} is not a u32"))),
        }
    });
    names.collect()
}

fn overrides_of(stem: &'static str, module: &Module) -> Result<Vec<Override>> {
    let overrides = module.overrides.iter().map(|(_, value)| {
        let name = value.name.clone().unwrap_or_default();
        let Some(scalar) = ScalarType::of(&module.types[value.ty].inner) else {
            let problem = format!("the override {name} is not bool, u32, i32 or f32");
            return Err(Error::shape(stem, problem));
        };
        Ok(Override {
            name,
            scalar,
            has_default: value.init.is_some(),
        })
    });
    overrides.collect()
}

fn constants_of(module: &Module) -> BTreeMap<String, u32> {
    let mut constants = BTreeMap::new();
    for (_, constant) in module.constants.iter() {
        let naga::Expression::Literal(literal) = module.global_expressions[constant.init] else {
            continue;
        };
        let value = match literal {
            naga::Literal::U32(value) => Some(value),
            naga::Literal::I32(value) => value.try_into().ok(),
            _ => None,
        };
        if let (Some(name), Some(value)) = (&constant.name, value) {
            constants.insert(name.clone(), value);
        }
    }
    constants
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Storage buffers that every WebGPU device lets a shader bind.
    const MAX_STORAGE_BUFFERS: usize = 8;

    /// What the house's rules find wrong with a shader.
    fn problems(stem: &'static str, source: &'static str) -> Vec<String> {
        let shader = match Shader::reflect(stem, source) {
            Ok(shader) => shader,
            Err(error) => return vec![error.to_string()],
        };
        let mut problems = Vec::new();

        // A device without the features must take it, so nothing else is allowed.
        // Reading f16 from words is part of WebGPU.
        let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        for (feature, capability) in [
            (wgpu::Features::SHADER_F16, Capabilities::SHADER_FLOAT16),
            (wgpu::Features::SUBGROUP, Capabilities::SUBGROUP),
            (
                wgpu::Features::SUBGROUP_BARRIER,
                Capabilities::SUBGROUP_BARRIER,
            ),
            (
                wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
                Capabilities::COOPERATIVE_MATRIX,
            ),
        ] {
            if shader.features.contains(feature) {
                allowed |= capability;
            }
        }
        if let Err(error) = parse(stem, source, allowed) {
            problems.push(error.to_string());
        }

        for pair in shader.bindings.windows(2) {
            if (pair[0].group, pair[0].slot) == (pair[1].group, pair[1].slot) {
                let (one, other) = (&pair[0].name, &pair[1].name);
                problems.push(format!("{one} and {other} share a slot"));
            }
        }
        if shader.entries.is_empty() {
            problems.push("no entry point".into());
        }
        let limits = wgpu::Limits::default();
        for entry in &shader.entries {
            let name = &entry.name;
            let storage = entry.bindings.iter();
            let storage = storage.filter(|binding| binding.kind != BindingKind::Uniform);
            let count = storage.count();
            if count > MAX_STORAGE_BUFFERS {
                problems.push(format!("{name} binds {count} storage buffers"));
            }
            let invocations: u32 = entry.workgroup_size.iter().product();
            if invocations > limits.max_compute_invocations_per_workgroup {
                problems.push(format!("{name} has a workgroup of {invocations}"));
            }
            if entry.workgroup_storage > limits.max_compute_workgroup_storage_size {
                let bytes = entry.workgroup_storage;
                problems.push(format!("{name} shares {bytes} bytes in a workgroup"));
            }
        }

        for binding in &shader.bindings {
            if binding.kind == BindingKind::Uniform {
                continue;
            }
            let declaration = format!("> {}:", binding.name);
            let commented = split_comments(source).any(|(code, comment)| {
                code.contains("var<storage")
                    && code.contains(&declaration)
                    && comment.contains('(')
                    && comment.contains(')')
            });
            if !commented {
                let name = &binding.name;
                problems.push(format!("{name} has no comment with its shape on its line"));
            }
        }
        let params = shader.params.iter().map(|member| ("Params", &member.name));
        let scalars = shader.scalars.iter().map(|name| ("Scalars", name));
        for (owner, name) in params.chain(scalars) {
            let declaration = format!("{name}:");
            let commented = split_comments(source)
                .any(|(code, comment)| code.starts_with(&declaration) && !comment.is_empty());
            if !commented {
                problems.push(format!("{owner}.{name} has no comment on its line"));
            }
        }
        problems
    }

    #[test]
    fn the_table_is_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let table: Vec<_> = SOURCES
            .iter()
            .map(|(stem, _)| format!("{stem}.wgsl"))
            .collect();
        assert_eq!(table, files, "SOURCES lists the folder's files in order");
    }

    #[test]
    fn every_shader_keeps_the_rules() {
        for (stem, source) in SOURCES {
            let found = problems(stem, source);
            assert!(found.is_empty(), "shaders/{stem}.wgsl: {found:#?}");
            assert_eq!(Shader::load(stem).stem, *stem);
        }
    }

    #[test]
    fn add_is_reflected() {
        let add = Shader::load("add");
        assert_eq!(add.constant("WORKGROUP"), 64);
        let forward = add.entry("forward").unwrap();
        assert_eq!(forward.workgroup_size, [64, 1, 1]);
        assert_eq!(forward.bindings, add.bindings);
        let kinds: Vec<_> = add
            .bindings
            .iter()
            .map(|binding| (&*binding.name, binding.slot, binding.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                ("params", 0, BindingKind::Uniform),
                ("a", 1, BindingKind::Read),
                ("b", 2, BindingKind::Read),
                ("y", 3, BindingKind::ReadWrite),
            ]
        );
        let scale = add.params.last().unwrap();
        assert_eq!((&*scale.name, scale.offset, scale.size), ("scale_b", 20, 4));
        assert_eq!(scale.scalar, ScalarType::F32);
        assert_eq!(add.binding("a").unwrap().slot, 1);
        assert!(add.binding("c").is_none());
        let error = add.entry("reverse").unwrap_err().to_string();
        assert_eq!(error, "add: no entry point reverse; there are forward");
    }

    #[test]
    fn params_are_packed_by_name() {
        let add = Shader::load("add");
        let values = [
            ("scale_a", Param::F32(0.5)),
            ("count_n", Param::U32(7)),
            ("lead_b", Param::U32(1)),
            ("inner", Param::U32(3)),
            ("lead_a", Param::U32(2)),
            ("scale_b", Param::F32(-1.5)),
        ];
        let bytes = add.pack_params(&values).unwrap();
        assert_eq!(bytes.len(), 32);
        let words: Vec<_> = bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let scales = [0.5f32.to_bits(), (-1.5f32).to_bits()];
        assert_eq!(words, [7, 3, 2, 1, scales[0], scales[1], 0, 0]);

        let fail = |values: &[_]| add.pack_params(values).unwrap_err().to_string();
        assert_eq!(fail(&values[1..]), "add: Params.scale_a is missing");
        let mut wrong = values.to_vec();
        wrong[0].1 = Param::U32(1);
        assert_eq!(fail(&wrong), "add: Params.scale_a is f32, not u32");
        wrong[0] = ("scale", Param::F32(1.0));
        assert_eq!(fail(&wrong), "add: Params has no member scale");
        wrong[0] = values[1];
        assert_eq!(fail(&wrong), "add: Params.count_n is given twice");
    }

    const SMALL: &str = "
        struct Params {
            rows: u32, // R: rows
        }
        struct Scalars {
            first: u32, // of this run
            row: u32, // to add
        }
        override SCALE: f32 = 2.0;
        override FLAG: bool;
        const TILE: u32 = 4u;
        const UNUSED = 9i;
        const AREA: u32 = TILE * TILE;
        const RATIO: f32 = 0.5;
        var<workgroup> shared_x: array<f32, AREA>;
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (R)
        @group(0) @binding(1) var<storage, read> x: array<f32>; // x: (R)
        @group(0) @binding(3) var<storage, read> scalars: Scalars; // scalars: (2)
        fn put(value: f32) { y[0] = value; }
        @compute @workgroup_size(AREA, 2)
        fn forward() { shared_x[0] = x[params.rows]; put(shared_x[0] * SCALE); }
        @compute @workgroup_size(1)
        fn clear() { if FLAG { put(x[scalars.row + scalars.first]); } }
    ";

    #[test]
    fn an_entry_has_the_bindings_that_it_uses() {
        let small = Shader::reflect("small", SMALL).unwrap();
        assert_eq!(problems("small", SMALL), Vec::<String>::new());
        let names = |entry: &str| {
            let entry = small.entry(entry).unwrap();
            let names = entry.bindings.iter().map(|binding| &*binding.name);
            (names.collect::<Vec<_>>(), entry.workgroup_storage)
        };
        assert_eq!(names("forward"), (vec!["params", "x", "y"], 64));
        assert_eq!(names("clear"), (vec!["x", "y", "scalars"], 0));
        assert_eq!(small.scalars, ["first", "row"]);
        let [row, first] = ["row", "first"].map(tensor::Scalar);
        assert_eq!(small.undeclared(&[row, first]), None);
        assert_eq!(small.undeclared(&[first]), Some("row"));
        let scalars = small.binding("scalars").unwrap();
        assert_eq!(scalars.kind, BindingKind::Scalars);
        assert_eq!(small.entry("forward").unwrap().workgroup_size, [16, 2, 1]);
        assert_eq!(small.constant("TILE"), 4);
        assert_eq!(small.constant("UNUSED"), 9);
        assert_eq!(small.constant("AREA"), 16);
        let overrides: Vec<_> = small
            .overrides
            .iter()
            .map(|value| (&*value.name, value.scalar, value.has_default))
            .collect();
        assert_eq!(
            overrides,
            [
                ("SCALE", ScalarType::F32, true),
                ("FLAG", ScalarType::Bool, false)
            ]
        );
        assert!(small.features.is_empty());
    }

    #[test]
    #[should_panic(expected = "no const RATIO: u32")]
    fn a_constant_of_another_type_is_refused() {
        Shader::reflect("small", SMALL).unwrap().constant("RATIO");
    }

    #[test]
    fn features_are_seen_in_the_text() {
        let source = "// subgroupAdd would do\nenable f16;\nfn f() {}\n";
        assert_eq!(features_of(source), wgpu::Features::SHADER_F16);
        let source = "fn f(x: f32) -> f32 { return subgroupAdd(x); }\n";
        assert_eq!(features_of(source), wgpu::Features::SUBGROUP);
    }

    /// `SMALL` with one thing replaced.
    fn spoilt(from: &str, to: &str) -> Vec<String> {
        assert!(SMALL.contains(from));
        problems("small", SMALL.replace(from, to).leak())
    }

    #[test]
    fn broken_rules_are_found() {
        for (from, to, expected) in [
            ("// R: rows", "", "Params.rows has no comment"),
            ("// x: (R)", "", "x has no comment with its shape"),
            ("// x: (R)", "// input", "x has no comment with its shape"),
            ("@binding(1)", "@binding(2)", "conflict with other"),
            (
                "// R: rows",
                "// R: rows\n pair: vec2<u32>, // two",
                "Params.pair is not a u32",
            ),
            ("// to add", "", "Scalars.row has no comment"),
            (
                "// to add",
                "// to add\n half: f32, // more",
                "Scalars.half is not a u32",
            ),
            ("Params", "Settings", "not of type Params"),
            (
                "workgroup_size(AREA, 2)",
                "workgroup_size(AREA, 32)",
                "workgroup of 512",
            ),
            ("u32 = 4u", "u32 = 15u", "workgroup of 450"),
            ("array<f32, AREA>", "array<f32, 5000>", "shares 20000 bytes"),
            ("array<f32, AREA>", "array<f32, AREA> oops", "line 15: "),
            ("y[0] = value", "y[0] = value + 1u", "line 20: "),
        ] {
            let found = spoilt(from, to);
            let hit = |problem: &String| problem.contains(expected);
            assert!(found.iter().any(hit), "{from} -> {to}: {found:?}");
        }
        // Two entry points may not give one slot to different variables either.
        let found = spoilt(
            "fn put",
            "@group(0) @binding(1) var<storage, read_write> z: array<f32>; // z: (R)\nfn put",
        );
        assert!(found[0].contains("share a slot"), "{found:?}");
    }

    #[test]
    fn dispatches_fold_into_two_dimensions() {
        let entry = Shader::load("add").entry("forward").unwrap();
        assert_eq!(entry.workgroups(0).unwrap(), [0, 1, 1]);
        assert_eq!(entry.workgroups(1).unwrap(), [1, 1, 1]);
        assert_eq!(entry.workgroups(64 * 65_535).unwrap(), [65_535, 1, 1]);
        assert_eq!(entry.workgroups(64 * 65_535 + 1).unwrap(), [32_768, 2, 1]);
        for count in [1u64, 1 << 22, (1 << 29) + 7, (1 << 32) - (1 << 20)] {
            let [x, y, _] = entry.workgroups(count).unwrap();
            assert!(x <= 65_535 && y <= 65_535);
            assert!(u64::from(x) * u64::from(y) * 64 >= count);
        }
        let error = entry.workgroups(1 << 32).unwrap_err().to_string();
        assert!(error.contains("too many for one dispatch"), "{error}");
        let small = Shader::reflect("small", SMALL).unwrap();
        small.entry("forward").unwrap().workgroups(1).unwrap_err();
    }
}
