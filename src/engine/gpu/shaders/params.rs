//! A shader's uniform `Params`: its members, and values for them by name.

use naga::{AddressSpace, Module, TypeInner};

use super::reflect::{ScalarType, Shader};
use crate::{Error, Result};

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

impl Shader {
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

/// The members of the shader's uniform and the bytes of its struct; none where
/// it has no uniform.
pub(super) fn params_of(stem: &'static str, module: &Module) -> Result<(Vec<Member>, u32)> {
    let variables = module.global_variables.iter();
    let mut uniforms = variables.filter(|(_, variable)| variable.space == AddressSpace::Uniform);
    let Some((_, uniform)) = uniforms.next() else {
        return Ok((Vec::new(), 0));
    };
    if uniforms.next().is_some() {
        return Err(Error::shape(stem, "there is more than one uniform"));
    }
    let variable = uniform.name.as_deref().unwrap_or_default();
    let ty = &module.types[uniform.ty];
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
