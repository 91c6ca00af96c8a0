//! A kernel launch as plain data: what an operator asks of the GPU.
//!
//! Fields are named after the shader's own variables; the executor looks the
//! names up in the reflected shader, and a test that needs no GPU does so for
//! every operator.

use super::shaders::{MAX_WORKGROUPS_PER_DIMENSION, Param};
use crate::engine::tensor::TensorId;

/// One dispatch of a compute shader.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Stem of the file in `shaders/`.
    pub shader: &'static str,
    /// Entry point.
    pub entry: &'static str,
    /// Values of the shader's `override` constants.
    pub overrides: Vec<(&'static str, f64)>,
    /// Members of the shader's uniform `Params`, all of them.
    pub params: Vec<(&'static str, Param)>,
    /// Storage variables of the entry point, all of them.
    pub bindings: Vec<(&'static str, Binding)>,
    /// How often it runs: elements or workgroups along x, y and z.
    pub extent: Extent,
}

/// What a storage variable is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    Tensor(TensorId),
    /// The runtime scalars, indexed by [`Scalar`](crate::engine::tensor::Scalar).
    Scalars,
    /// An operand this launch does not have; the shader does not touch it.
    Absent,
}

impl From<TensorId> for Binding {
    fn from(tensor: TensorId) -> Self {
        Self::Tensor(tensor)
    }
}

impl From<Option<TensorId>> for Binding {
    fn from(tensor: Option<TensorId>) -> Self {
        tensor.map_or(Self::Absent, Self::Tensor)
    }
}

/// How many invocations or workgroups a launch wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// At least this many invocations of a one-dimensional entry point. More
    /// workgroups than one dimension allows continue along y; the shader
    /// numbers them x + y · num_workgroups.x.
    Invocations(usize),
    /// Exactly this many workgroups.
    Workgroups([usize; 3]),
}

impl Extent {
    /// One workgroup for each of `count` rows, numbered as invocations are;
    /// the shader leaves out those past the last row.
    pub fn rows(count: usize) -> Self {
        let along_y = count.div_ceil(MAX_WORKGROUPS_PER_DIMENSION as usize).max(1);
        Self::Workgroups([count.div_ceil(along_y), along_y, 1])
    }

    /// Workgroups (across, down); those down that one dimension does not hold
    /// continue along z: the shader numbers them y + z · num_workgroups.y and
    /// leaves out those past the end.
    pub fn grid(across: usize, down: usize) -> Self {
        let along_z = down.div_ceil(MAX_WORKGROUPS_PER_DIMENSION as usize).max(1);
        Self::Workgroups([across, down.div_ceil(along_z), along_z])
    }
}
