//! A kernel launch as plain data: what an operator asks of the GPU.
//!
//! Fields are named after the shader's own variables; the executor looks the
//! names up in the reflected shader, and a test that needs no GPU does so for
//! every operator.

use std::ops::Range;

use super::shaders::{MAX_WORKGROUPS_PER_DIMENSION, Param};
use crate::engine::tensor::{Shape, TensorId};

/// Bytes that every adapter binds, the least that WebGPU promises; larger
/// matrices are bound row block by row block, on all adapters alike.
pub const BINDING_BYTES: usize = 128 << 20;

/// Rows of such a block are a multiple of this, so that blocks begin at
/// multiples of 256 bytes, as every adapter's bindings may, in f16 too.
const BLOCK_ROWS: usize = 128;

/// The row blocks of a matrix: one, unless it is larger than a binding.
pub fn row_blocks(matrix: Shape) -> Vec<Range<usize>> {
    blocks(matrix, BINDING_BYTES)
}

fn blocks(matrix: Shape, most_bytes: usize) -> Vec<Range<usize>> {
    let rows = matrix.rows;
    let fitting = most_bytes / (4 * matrix.cols).max(1);
    // A single row that is too large is refused when the plan is made.
    let step = match fitting / BLOCK_ROWS * BLOCK_ROWS {
        step if rows > fitting && step > 0 => step,
        _ => rows.max(1),
    };
    let starts = (0..rows).step_by(step);
    starts
        .map(|start| start..(start + step).min(rows))
        .collect()
}

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
    /// Some rows of a matrix (1, rows, cols).
    Rows {
        tensor: TensorId,
        first: usize,
        count: usize,
    },
    /// The runtime scalars that the shader declares, by name.
    Scalars,
    /// An operand this launch does not have; the shader does not touch it.
    Absent,
}

impl Binding {
    /// Some rows of a matrix.
    pub fn rows(tensor: TensorId, rows: &Range<usize>) -> Self {
        Self::Rows {
            tensor,
            first: rows.start,
            count: rows.len(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_blocks_fit_and_cover() {
        for (rows, cols, most) in [(1, 1, 256), (1000, 3, 4096), (5000, 64, 1 << 17)] {
            let found = blocks(Shape::new(1, rows, cols), most);
            let mut next = 0;
            for block in &found {
                assert_eq!(block.start, next);
                assert_eq!(2 * cols * block.start % 256, 0);
                assert!(4 * cols * block.len() <= most);
                next = block.end;
            }
            assert_eq!(next, rows);
        }
        let whisper = row_blocks(Shape::new(1, 51_866, 1280));
        assert_eq!(whisper, [0..26_112, 26_112..51_866]);
        let single = blocks(Shape::new(1, 3, 500), 1024);
        assert_eq!((single.len(), single[0].clone()), (1, 0..3));
    }
}
