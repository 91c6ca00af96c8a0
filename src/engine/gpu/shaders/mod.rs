//! The shaders, embedded, and what naga reads from them.
//!
//! A launcher names what it binds: `shader.binding("x")`, `("rows", rows)`.
//! Names, slots, layouts and tile sizes live in the WGSL alone and are read
//! from there, so a launcher cannot disagree with its shader unnoticed.
//!
//! - `sources`: the texts of `shaders/` and `shaders/shared/`
//! - `expand`: `// #import NAME` replaced by the shared text
//! - `reflect`: what an expanded text declares, [`Shader`]
//! - `params`: values for a shader's uniform, packed by name

mod expand;
mod params;
mod reflect;
mod sources;

#[cfg(test)]
mod copies;
#[cfg(test)]
mod rules;

pub use expand::{Expanded, Origin, expand};
pub use params::{Member, Param};
pub use reflect::{Binding, BindingKind, Entry, Override, ScalarType, Shader};
pub use sources::{SHARED, SOURCES};

/// Most workgroups that WebGPU lets a dispatch have in one dimension.
pub const MAX_WORKGROUPS_PER_DIMENSION: u32 = 65_535;
