//! Token embedding plus positions.

use std::ops::Range;

use super::Operate;
use super::scalars::STEP;
use crate::engine::gpu::launch::{Binding, Extent, Launch, row_blocks};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, Scalar, Shape, TensorId};
use crate::{Error, Result};

/// y[n, i] = scale · table[ids[n, i]] + positions[start + i]
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// (N, I, 1) indices below V
    pub ids: TensorId,
    /// (1, V, D)
    pub table: TensorId,
    pub scale: f32,
    /// (1, P, D)
    pub positions: TensorId,
    /// Whether the first position is [`STEP`] instead of 0.
    pub from_step: bool,
    /// (N, I, D)
    pub y: TensorId,
}

impl Recording {
    /// Records the embedding of ids (N, I, 1) to (N, I, D).
    ///
    /// # Errors
    /// If the tables do not fit each other or there are too few positions.
    pub fn embedding(
        &mut self,
        ids: TensorId,
        table: TensorId,
        scale: f32,
        positions: TensorId,
        from_step: bool,
    ) -> Result<TensorId> {
        let (shape, own, places) = (self.shape(ids), self.shape(table), self.shape(positions));
        let problem = |what: String| Err(Error::shape(Embedding::NAME, what));
        if self.info(ids).kind != Kind::Index {
            return problem("token ids are indices".into());
        }
        if own.cols != places.cols {
            return problem(format!(
                "table {own} and positions {places} differ in width"
            ));
        }
        if shape.rows > places.rows {
            return problem(format!(
                "{} tokens exceed the model's {} positions",
                shape.rows, places.rows
            ));
        }
        let y = self.computed(Shape::new(shape.lead, shape.rows, own.cols));
        self.push(Embedding {
            ids,
            table,
            scale,
            positions,
            from_step,
            y,
        });
        Ok(y)
    }
}

impl Operate for Embedding {
    const NAME: &'static str = "embedding";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.ids, self.table, self.positions]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn scalars(&self) -> &'static [Scalar] {
        if self.from_step { &[STEP] } else { &[] }
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let table = context.read(self.table);
        let positions = context.read(self.positions);
        let ids = context.read_indices(self.ids);
        let shape = context.shape(self.ids);
        let (count, cols) = (shape.rows, table.shape.cols);
        let start = if self.from_step {
            context.scalar(STEP)
        } else {
            0
        };
        let first = context.leads.start * count;
        for (row, y) in y.chunks_mut(cols).enumerate() {
            let place = start + row % count;
            y.copy_from_slice(&positions.all()[place * cols..(place + 1) * cols]);
            let id = ids[first + row] as usize;
            let from = &table.all()[id * cols..(id + 1) * cols];
            T::axpy(T::from_f32(self.scale), from, y);
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (y, ids) = (recording.shape(self.y), recording.shape(self.ids));
        let scalars = if self.from_step {
            Binding::Scalars
        } else {
            Binding::Absent
        };
        let blocks = row_blocks(recording.shape(self.table)).into_iter();
        let launch = |rows: Range<usize>| Launch {
            shader: "embedding",
            entry: "forward",
            overrides: vec![("FROM_STEP", f64::from(self.from_step))],
            params: vec![
                ("count", y.len().into()),
                ("tokens", ids.rows.into()),
                ("cols", y.cols.into()),
                ("first", rows.start.into()),
                ("rows", rows.len().into()),
                ("places", recording.shape(self.positions).rows.into()),
                ("scale", self.scale.into()),
            ],
            bindings: vec![
                ("ids", self.ids.into()),
                ("table", Binding::rows(self.table, &rows)),
                ("positions", self.positions.into()),
                ("scalars", scalars),
                ("y", self.y.into()),
            ],
            extent: Extent::Invocations(y.len()),
        };
        // Each writes the tokens whose row its block has.
        blocks.map(launch).collect()
    }
}
