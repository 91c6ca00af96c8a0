//! Attention probabilities times their gradients, at the positions of the
//! explained tokens.

use super::Operate;
use super::scalars::FIRST_TOKEN;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::linalg::{Matrix, MatrixMut, multiply};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Columns, Scalar, TensorId};

/// `map[h, first + k, j] = P[h, i, j] · dP[k, h, i, j]` with
/// `i = positions[first + k]`, the query that the token comes out of, and
/// `dP[k, h, i, j] = doutput[k, i, h] · value[j, h]`, the product of a head's
/// columns: the cotangent of a probability, by whose value attention adds to
/// its output.
///
/// Tokens count from [`FIRST_TOKEN`]; those past the map's end are left
/// out. Keys past the map's columns, what fills a window behind the sound,
/// are left out too.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionXGradient {
    /// (1, H·I, W'): P
    pub probabilities: TensorId,
    /// (1, W', ·) columns
    pub value: Columns,
    /// (K, I, D): cotangents of attention's output
    pub doutput: TensorId,
    /// (1, all tokens, 1) indices below I
    pub positions: TensorId,
    /// (H, all tokens, T'), T' at most W'; persistent
    pub map: TensorId,
}

impl Operate for AttentionXGradient {
    const NAME: &'static str = "attention_x_gradient";

    fn inputs(&self) -> Vec<TensorId> {
        vec![
            self.probabilities,
            self.value.tensor,
            self.doutput,
            self.positions,
        ]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.map]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_TOKEN]
    }

    fn needs_all_leads(&self) -> bool {
        true
    }

    /// A product over a head's columns for every probability.
    fn flops(&self, recording: &Recording) -> u64 {
        let doutput = recording.shape(self.doutput);
        let frames = recording.shape(self.map).cols;
        2 * (doutput.lead * frames * doutput.cols) as u64
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut map = context.take(self.map);
        let shape = context.shape(self.map);
        let (heads, tokens, frames) = (shape.lead, shape.rows, shape.cols);
        let first = context.scalar(FIRST_TOKEN);
        let own = context.shape(self.doutput);
        let count = own.lead.min(tokens.saturating_sub(first));
        let (queries, width) = (own.rows, own.cols);
        let depth = width / heads;
        let mut scratch = context.take_scratch(count * width);
        let positions = context.read_indices(self.positions);
        let positions = &positions[tokens.min(first)..tokens.min(first) + count];
        let doutput = context.read(self.doutput);
        let value = context.read(self.value.tensor);
        let probabilities = context.read(self.probabilities);
        // The rows of the tokens' own positions, one below the other.
        let rows = scratch.chunks_mut(width).zip(positions);
        for (k, (row, &position)) in rows.enumerate() {
            row.copy_from_slice(&doutput.at(k)[position as usize * width..][..width]);
        }
        let heads = map.chunks_mut(tokens * frames).enumerate();
        for (h, map) in heads.filter(|_| count > 0) {
            let map = &mut map[first * frames..][..count * frames];
            let cotangents = Matrix::new(&scratch[h * depth..], count, depth, width);
            let begin = self.value.offset + h * depth;
            let values = &value.all()[begin..];
            let values = Matrix::new(values, frames, depth, value.shape.cols);
            let out = MatrixMut::new(map, count, frames, frames);
            let one = T::from_f32(1.0);
            let values = values.transposed();
            multiply(cotangents, values, one, false, out, context.parallel);
            for (map, &position) in map.chunks_mut(frames).zip(positions) {
                let begin = (h * queries + position as usize) * probabilities.shape.cols;
                for (map, &p) in map.iter_mut().zip(&probabilities.all()[begin..]) {
                    *map = *map * p;
                }
            }
        }
        context.give_scratch(scratch);
        context.give(self.map, map);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let map = recording.shape(self.map);
        let doutput = recording.shape(self.doutput);
        vec![Launch {
            shader: "attention_x_gradient",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", doutput.lead.into()),
                ("tokens", map.rows.into()),
                ("queries", doutput.rows.into()),
                ("keys", recording.shape(self.probabilities).cols.into()),
                ("frames", map.cols.into()),
                ("heads", map.lead.into()),
                ("depth", (doutput.cols / map.lead).into()),
                (
                    "value_columns",
                    recording.shape(self.value.tensor).cols.into(),
                ),
                ("value_offset", self.value.offset.into()),
            ],
            bindings: vec![
                ("probabilities", self.probabilities.into()),
                ("value", self.value.tensor.into()),
                ("doutput", self.doutput.into()),
                ("positions", self.positions.into()),
                ("scalars", Binding::Scalars),
                ("map", self.map.into()),
            ],
            extent: Extent::Invocations(map.lead * doutput.lead * map.cols),
        }]
    }
}
