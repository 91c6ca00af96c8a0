//! Weighted sum of two tensors.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::TensorId;
use crate::{Error, Result};

/// y = scale_a · a + scale_b · b; a lead axis of fewer rows is repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// (A, R, C)
    pub a: TensorId,
    /// (B, R, C)
    pub b: TensorId,
    pub scale_a: f32,
    pub scale_b: f32,
    /// (N, R, C), N the larger of A and B and a multiple of both
    pub y: TensorId,
}

impl Recording {
    /// Records a + b (A, R, C) and (B, R, C).
    ///
    /// # Errors
    /// If their rows or columns differ, or neither lead is a multiple of the
    /// other.
    pub fn add(&mut self, a: TensorId, b: TensorId) -> Result<TensorId> {
        let (left, right) = (self.shape(a), self.shape(b));
        let lead = left.lead.max(right.lead);
        let fits = left.with_lead(lead) == right.with_lead(lead);
        if !fits || lead % left.lead != 0 || lead % right.lead != 0 {
            let problem = format!("{left} and {right} cannot be added");
            return Err(Error::shape(Add::NAME, problem));
        }
        let y = self.computed(left.with_lead(lead));
        self.push(Add {
            a,
            b,
            scale_a: 1.0,
            scale_b: 1.0,
            y,
        });
        Ok(y)
    }
}

impl Operate for Add {
    const NAME: &'static str = "add";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.a, self.b]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn reach(&self, reach: &dyn Fn(TensorId) -> usize) -> usize {
        reach(self.a).max(reach(self.b))
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        if self.scale_a != 1.0 || self.scale_b != 1.0 {
            return Err(Error::shape(Self::NAME, "a scaled sum has no reverse"));
        }
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        for operand in [self.a, self.b] {
            if walk.needs(operand) {
                walk.contribute(operand, dy);
            }
        }
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let (a, b) = (context.read(self.a), context.read(self.b));
        let (scale_a, scale_b) = (T::from_f32(self.scale_a), T::from_f32(self.scale_b));
        let cols = a.shape.cols;
        for (y, n) in y.chunks_mut(a.shape.inner()).zip(context.leads.clone()) {
            let (a, b) = (a.at(n), b.at(n));
            each_block(context.parallel, y, cols, |row, y| {
                let (a, b) = (&a[row * cols..], &b[row * cols..]);
                for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                    *y = scale_a * a + scale_b * b;
                }
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let y = recording.shape(self.y);
        vec![Launch {
            shader: "add",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count_n", y.lead.into()),
                ("inner", y.inner().into()),
                ("lead_a", recording.shape(self.a).lead.into()),
                ("lead_b", recording.shape(self.b).lead.into()),
                ("scale_a", self.scale_a.into()),
                ("scale_b", self.scale_b.into()),
            ],
            bindings: vec![
                ("a", self.a.into()),
                ("b", self.b.into()),
                ("y", self.y.into()),
            ],
            extent: Extent::Invocations(y.len()),
        }]
    }
}
