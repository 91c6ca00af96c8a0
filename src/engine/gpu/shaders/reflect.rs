//! What an expanded shader declares, read by naga.

use std::collections::BTreeMap;
use std::fmt;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Handle, Module, Scalar, ScalarKind, StorageAccess, TypeInner};

use super::MAX_WORKGROUPS_PER_DIMENSION;
use super::expand::Expanded;
use super::params::{Member, params_of};
use crate::engine::tensor;
use crate::{Error, Result};

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
    pub(super) fn of(inner: &TypeInner) -> Option<Self> {
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
    /// The whole text, with all that the file imports.
    pub source: String,
    pub entries: Vec<Entry>,
    /// All buffer variables, used or not, by slot.
    pub bindings: Vec<Binding>,
    /// The members of `Params`; empty in a shader without.
    pub params: Vec<Member>,
    /// Bytes of `Params` with its padding.
    pub(super) params_size: u32,
    /// The members of `Scalars`, in order; empty in a shader without.
    pub scalars: Vec<String>,
    pub overrides: Vec<Override>,
    constants: BTreeMap<String, u32>,
    /// The features without which a device does not take this shader.
    pub features: wgpu::Features,
}

impl Shader {
    /// Reads a shader's text.
    ///
    /// # Errors
    /// [`Error::Shape`] when naga refuses it, with the file and the line, or it
    /// holds what launchers cannot serve: a uniform other than `Params`, a member
    /// of `Params` that is not a 32-bit number, one of `Scalars` that is not u32,
    /// a workgroup size left to an override.
    pub fn reflect(expanded: Expanded) -> Result<Shader> {
        let stem = expanded.stem;
        let (module, info) = parse(&expanded, Capabilities::all())?;
        let buffers = buffers_of(stem, &module)?;
        let (params, params_size) = params_of(stem, &module)?;
        let entries = entries_of(stem, &module, &info, &buffers)?;
        let scalars = scalars_of(stem, &module, &buffers)?;
        Ok(Shader {
            stem,
            features: features_of(&expanded.text),
            source: expanded.text,
            entries,
            bindings: buffers.into_iter().map(|(_, binding)| binding).collect(),
            params,
            params_size,
            scalars,
            overrides: overrides_of(stem, &module)?,
            constants: constants_of(&module),
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

    /// A scalar that the shader reads and that is not among those `declared`.
    pub fn undeclared(&self, declared: &[tensor::Scalar]) -> Option<&str> {
        let mut names = self.scalars.iter().map(String::as_str);
        names.find(|name| !declared.iter().any(|own| own.0 == *name))
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
}

/// A text as naga reads it with these capabilities.
pub(super) fn parse(expanded: &Expanded, allowed: Capabilities) -> Result<(Module, ModuleInfo)> {
    let text = &*expanded.text;
    let at_line = |location: Option<naga::SourceLocation>, problem: &dyn fmt::Display| {
        let origin = location.and_then(|at| expanded.origin(at.line_number));
        let place = origin.map_or(String::new(), |origin| format!("{origin}: "));
        Error::shape(expanded.stem, format!("{place}{problem}"))
    };
    let module = naga::front::wgsl::parse_str(text)
        .map_err(|error| at_line(error.location(text), &error.message()))?;
    let info = Validator::new(ValidationFlags::all(), allowed)
        .validate(&module)
        .map_err(|error| {
            // naga's own text stops at the outermost of nested causes.
            let mut problem = error.as_inner().to_string();
            let mut cause = std::error::Error::source(error.as_inner());
            while let Some(inner) = cause {
                problem = format!("{problem}: {inner}");
                cause = inner.source();
            }
            at_line(error.location(text), &problem)
        })?;
    Ok((module, info))
}

type Buffers = Vec<(Handle<naga::GlobalVariable>, Binding)>;

/// The buffer variables, by slot.
fn buffers_of(stem: &'static str, module: &Module) -> Result<Buffers> {
    let mut buffers = Vec::new();
    for (handle, variable) in module.global_variables.iter() {
        let kind = match variable.space {
            AddressSpace::Uniform => BindingKind::Uniform,
            AddressSpace::Storage { access } if access == StorageAccess::LOAD => {
                match module.types[variable.ty].name.as_deref() {
                    Some("Scalars") => BindingKind::Scalars,
                    _ => BindingKind::Read,
                }
            }
            AddressSpace::Storage { .. } => BindingKind::ReadWrite,
            _ => continue,
        };
        let name = variable.name.clone().unwrap_or_default();
        let Some(at) = variable.binding else {
            return Err(Error::shape(stem, format!("{name} has no binding")));
        };
        let binding = Binding {
            name,
            group: at.group,
            slot: at.binding,
            kind,
        };
        buffers.push((handle, binding));
    }
    buffers.sort_by_key(|(_, binding)| (binding.group, binding.slot));
    Ok(buffers)
}

fn entries_of(
    stem: &'static str,
    module: &Module,
    info: &ModuleInfo,
    buffers: &Buffers,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (index, entry) in module.entry_points.iter().enumerate() {
        if entry.workgroup_size_overrides.is_some() {
            let problem = format!("the workgroup size of {} is an override", entry.name);
            return Err(Error::shape(stem, problem));
        }
        let used = info.get_entry_point(index);
        let bindings = buffers.iter().filter(|(at, _)| !used[*at].is_empty());
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
    Ok(entries)
}

/// The text of each line without its comment, and the comment.
pub(super) fn split_comments(source: &str) -> impl Iterator<Item = (&str, &str)> {
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

/// Names of the members of `Scalars`; u32s lie one behind the other.
fn scalars_of(stem: &'static str, module: &Module, buffers: &Buffers) -> Result<Vec<String>> {
    let mut of_scalars = buffers
        .iter()
        .filter(|(_, binding)| binding.kind == BindingKind::Scalars);
    let Some((variable, _)) = of_scalars.next() else {
        return Ok(Vec::new());
    };
    if of_scalars.next().is_some() {
        return Err(Error::shape(
            stem,
            "there are two variables of type Scalars",
        ));
    }
    let ty = module.global_variables[*variable].ty;
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
    use super::super::expand::expand;
    use super::super::rules::{SMALL, alone};
    use super::*;

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
    fn an_entry_has_the_bindings_that_it_uses() {
        let small = Shader::reflect(alone(SMALL)).unwrap();
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
        Shader::reflect(alone(SMALL)).unwrap().constant("RATIO");
    }

    #[test]
    fn features_are_seen_in_the_text() {
        let source = "// subgroupAdd would do\nenable f16;\nfn f() {}\n";
        assert_eq!(features_of(source), wgpu::Features::SHADER_F16);
        let source = "fn f(x: f32) -> f32 { return subgroupAdd(x); }\n";
        assert_eq!(features_of(source), wgpu::Features::SUBGROUP);
    }

    /// Messages name the file and the line that stand in the folder, not the
    /// line of the expanded text.
    #[test]
    fn errors_name_the_file_and_its_line() {
        let shared = [
            ("first", "fn one() -> f32 {\n    return 1.0;\n}\n"),
            (
                "second",
                "// #import first\n\nfn two() -> f32 {\n    return 2u;\n}\n",
            ),
            ("third", "fn three() {\n    let x = ;\n}\n"),
        ];
        let problem = |source: &str| {
            let expanded = expand("small", source, &shared).unwrap();
            Shader::reflect(expanded).unwrap_err().to_string()
        };
        for (source, expected) in [
            // The validator's, naga's parser's and those of names.
            ("// #import second\n", "small: shared/second.wgsl line 3: "),
            (
                "// #import first\n// #import third\n",
                "small: shared/third.wgsl line 2: ",
            ),
            (
                "// #import first\nfn two() { three(); }\n",
                "small: line 2: no definition",
            ),
            (
                "fn two() {}\n// #import first\nfn two() {}\n",
                "small: line 3: redefinition",
            ),
        ] {
            let found = problem(source);
            assert!(found.starts_with(expected), "{expected}: {found}");
        }
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
        let small = Shader::reflect(alone(SMALL)).unwrap();
        small.entry("forward").unwrap().workgroups(1).unwrap_err();
    }
}
