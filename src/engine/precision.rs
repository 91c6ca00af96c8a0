//! In which numbers an executor stores weights and computes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A tier of accuracy and speed. Whatever it is, activations are stored, and
/// sums kept, in at least f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Weight matrices are stored as f16, which halves their memory, and
    /// turned into f32 where they are used; GPUs only.
    F16Weights,
    /// As [`F16Weights`](Self::F16Weights), and products of the forward pass
    /// round their other factor to f16 as well and run on the GPU's matrix
    /// units. Reverse passes do not: gradients leave the range of f16.
    Mixed,
    /// f64 throughout; the native executor only.
    F64,
}

impl Precision {
    pub const ALL: [Self; 4] = [Self::F32, Self::F16Weights, Self::Mixed, Self::F64];

    /// Its name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16Weights => "f16-weights",
            Self::Mixed => "mixed",
            Self::F64 => "f64",
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|own| own.name() == text);
        found.ok_or_else(|| Error::unknown("precision", text, &Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
