//! Names and shapes of the tensors in a recording.

use std::collections::BTreeMap;
use std::fmt;

/// Index of a tensor in its recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

/// Index of a prepared weight in the model's [`WeightTable`](super::weights::WeightTable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub u32);

/// A tensor that an executor keeps between runs: inputs, caches, maps. An
/// executor gives each number once; after the tensor is given back it is an
/// error, never another tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentId(pub u32);

impl PersistentId {
    /// No tensor: for recordings that are only estimated.
    pub const NOWHERE: Self = Self(u32::MAX);
}

/// Place of a persistent tensor in a recording: they are counted in the order
/// in which the recording asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub u32);

/// A number that changes from run to run of one plan, under the name that its
/// readers give it: operators declare which they read, and a shader that reads
/// one has a member of this name in its `Scalars`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scalar(pub &'static str);

/// Values of [`Scalar`]s for one run; what is not set is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scalars {
    /// Never 0, so that equal values are equal.
    values: BTreeMap<&'static str, u32>,
}

impl Scalars {
    /// All of them 0.
    pub const ZERO: Self = Self {
        values: BTreeMap::new(),
    };

    /// The same values but for one.
    #[must_use]
    pub fn with(mut self, scalar: Scalar, value: u32) -> Self {
        self.set(scalar, value);
        self
    }

    pub fn set(&mut self, scalar: Scalar, value: u32) {
        if value == 0 {
            self.values.remove(scalar.0);
        } else {
            self.values.insert(scalar.0, value);
        }
    }

    /// The value of the scalar of this name.
    pub fn get(&self, name: &str) -> u32 {
        self.values.get(name).copied().unwrap_or(0)
    }
}

/// What a tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// f32 on the GPU, f32 or f64 natively.
    Real,
    /// u32: token ids, positions.
    Index,
}

/// Shape of a tensor: `lead` independent (rows, cols) matrices, row-major.
///
/// The lead axis carries the batch of variants B, for cotangents K·B with the
/// variant running fastest, so that row n of a cotangent belongs to row
/// `n % B` of the forward tensor. An operand of fewer lead rows than its
/// operator is read at `n % lead`: that is how a batch of 1 broadcasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub lead: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Shape {
    pub const fn new(lead: usize, rows: usize, cols: usize) -> Self {
        Self { lead, rows, cols }
    }

    /// Elements in one row of the lead axis.
    pub const fn inner(&self) -> usize {
        self.rows * self.cols
    }

    /// Elements in all.
    pub const fn len(&self) -> usize {
        self.lead * self.rows * self.cols
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same matrices, `lead` of them.
    pub const fn with_lead(self, lead: usize) -> Self {
        Self { lead, ..self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}, {})", self.lead, self.rows, self.cols)
    }
}

/// A persistent tensor as messages name it.
pub fn describe_persistent(kind: Kind, shape: Shape) -> String {
    match kind {
        Kind::Real => format!("the persistent tensor {shape}"),
        Kind::Index => format!("the persistent indices {shape}"),
    }
}

/// `width` columns of a wider tensor, from `offset` on: one of several
/// projections that were computed as one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    pub tensor: TensorId,
    pub offset: usize,
}

impl From<TensorId> for Columns {
    fn from(tensor: TensorId) -> Self {
        Self { tensor, offset: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_zero_until_they_are_set() {
        let [a, b] = [Scalar("a"), Scalar("b")];
        let mut scalars = Scalars::ZERO.with(a, 3);
        assert_eq!((scalars.get("a"), scalars.get("b")), (3, 0));
        assert_eq!(scalars, Scalars::default().with(b, 0).with(a, 3));
        scalars.set(a, 0);
        assert_eq!(scalars, Scalars::ZERO);
    }
}
