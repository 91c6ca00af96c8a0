//! What a GPU may have beyond what every adapter has, and variants of kernels
//! may need.

use std::fmt;

use super::units::MatrixUnits;

/// One such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Products of blocks of f16 in hardware, with sums in f32.
    MatrixUnits,
    /// Arithmetic in f16.
    F16,
    /// Sums and votes within a subgroup.
    Subgroups,
}

/// What variants may use of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    pub units: Option<MatrixUnits>,
    pub f16: bool,
    pub subgroups: bool,
}

impl Extras {
    /// Nothing: variants that run everywhere.
    pub const NONE: Self = Self {
        units: None,
        f16: false,
        subgroups: false,
    };

    /// Matrix units and what goes with them.
    pub fn with_units(units: MatrixUnits) -> Self {
        Self {
            units: Some(units),
            f16: true,
            subgroups: true,
        }
    }

    pub fn has(&self, extra: Extra) -> bool {
        match extra {
            Extra::MatrixUnits => self.units.is_some(),
            Extra::F16 => self.f16,
            Extra::Subgroups => self.subgroups,
        }
    }

    pub fn has_all(&self, needs: &[Extra]) -> bool {
        needs.iter().all(|&extra| self.has(extra))
    }
}

/// `matrix units of 16, f16, subgroups`, or `none`.
impl fmt::Display for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self
            .units
            .map(|units| format!("matrix units of {}", units.side));
        let named = [
            units,
            self.f16.then(|| "f16".to_owned()),
            self.subgroups.then(|| "subgroups".to_owned()),
        ];
        let named: Vec<String> = named.into_iter().flatten().collect();
        match named.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&named.join(", ")),
        }
    }
}
