//! Names and shapes of the tensors in a recording.

use std::fmt;

/// Index of a tensor in its recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

/// Index of a prepared weight in the model's [`WeightTable`](super::weights::WeightTable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub u32);

/// A tensor that an executor keeps between runs: inputs, caches, maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentId(pub u32);

/// A number that changes from run to run of one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// First of this run's variants (interpolation steps, noise samples).
    FirstVariant = 0,
    /// First of this run's explained tokens.
    FirstToken = 1,
    /// Decoding step: the position that is written now.
    Step = 2,
    /// Whether masks are applied: 0 keeps everything.
    Masking = 3,
    /// First mask that no longer counts.
    MaskEnd = 4,
}

/// Values of the [`Scalar`]s for one run, indexed by them.
pub type Scalars = [u32; 8];

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
