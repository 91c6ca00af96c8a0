//! Rotary positions: pairs of columns of each head turned by an angle that grows
//! with the row.

use super::Operate;
use super::scalars::STEP;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Scalar, Shape, TensorId};
use crate::{Error, Result};

/// Column 2j of a head becomes `x[2j] · cos(j) - x[2j+1] · sin(j)`, its neighbour
/// `x[2j+1] · cos(j) + x[2j] · sin(j)`, for the first p pairs of every head within the
/// first `cols` columns; the others stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// (N, R, C)
    pub x: TensorId,
    /// (1, P, 2p): of each position the cosines of p pairs, then their sines
    pub angles: TensorId,
    /// Columns of a head, 2p at least.
    pub depth: usize,
    /// Whole heads.
    pub cols: usize,
    /// Whether the first row's position is [`STEP`] instead of 0.
    pub from_step: bool,
    /// Whether it turns back: the reverse.
    pub back: bool,
    /// (N, R, C)
    pub y: TensorId,
}

impl Recording {
    /// Records rotary positions of the first `cols` columns of x (N, R, C), in heads
    /// of `depth`, by `angles` (1, P, 2p).
    ///
    /// # Errors
    /// If these are not whole heads, or there are fewer positions than rows.
    pub fn rotary(
        &mut self,
        x: TensorId,
        angles: TensorId,
        [depth, cols]: [usize; 2],
        from_step: bool,
    ) -> Result<TensorId> {
        let (shape, table) = (self.shape(x), self.shape(angles));
        let problem = |what: String| Err(Error::shape(Rotary::NAME, what));
        if table.lead != 1 || !table.cols.is_multiple_of(2) || table.cols > depth {
            return problem(format!("angles {table} do not fit heads of {depth}"));
        }
        if depth == 0 || !cols.is_multiple_of(depth) || cols > shape.cols {
            return problem(format!("{cols} columns of {shape} are not heads of {depth}"));
        }
        if shape.rows > table.rows {
            return problem(format!("{shape} has more rows than {table} positions"));
        }
        let y = self.computed(shape);
        self.push(Rotary {
            x,
            angles,
            depth,
            cols,
            from_step,
            back: false,
            y,
        });
        Ok(y)
    }
}

impl Operate for Rotary {
    const NAME: &'static str = "rotary";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.angles]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn scalars(&self) -> &'static [Scalar] {
        if self.from_step { &[STEP] } else { &[] }
    }

    fn reach(&self, reach: &dyn Fn(TensorId) -> usize) -> usize {
        reach(self.x)
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        let shape = walk.recording.shape(dy);
        let dx = walk.recording.computed(shape);
        walk.recording.push(Rotary {
            x: dy,
            back: !self.back,
            y: dx,
            ..self.clone()
        });
        walk.contribute(self.x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let (x, angles) = (context.read(self.x), context.read(self.angles));
        let Shape { rows, cols, .. } = x.shape;
        let pairs = angles.shape.cols / 2;
        let start = if self.from_step {
            context.scalar(STEP)
        } else {
            0
        };
        for (y, n) in y.chunks_mut(rows * cols).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, y, cols, |row, y| {
                let place = (start + row) * 2 * pairs;
                let (cosines, sines) = angles.all()[place..place + 2 * pairs].split_at(pairs);
                y.copy_from_slice(&x[row * cols..(row + 1) * cols]);
                for head in y[..self.cols].chunks_exact_mut(self.depth) {
                    let (own, _) = head.as_chunks_mut::<2>();
                    for ([a, b], (&cos, &sin)) in own.iter_mut().zip(cosines.iter().zip(sines)) {
                        let sin = if self.back { -sin } else { sin };
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (y, angles) = (recording.shape(self.y), recording.shape(self.angles));
        let scalars = if self.from_step {
            Binding::Scalars
        } else {
            Binding::Absent
        };
        vec![Launch {
            shader: "rotary",
            entry: "forward",
            overrides: vec![
                ("FROM_STEP", f64::from(self.from_step)),
                ("BACK", f64::from(self.back)),
            ],
            params: vec![
                ("count", y.len().into()),
                ("rows", y.rows.into()),
                ("cols", y.cols.into()),
                ("turned", self.cols.into()),
                ("depth", self.depth.into()),
                ("pairs", (angles.cols / 2).into()),
                ("places", angles.rows.into()),
            ],
            bindings: vec![
                ("x", self.x.into()),
                ("angles", self.angles.into()),
                ("scalars", scalars),
                ("y", self.y.into()),
            ],
            extent: Extent::Invocations(y.len()),
        }]
    }
}
