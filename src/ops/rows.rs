//! Parts of a tensor's rows: taken out, and put one after the other.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::TensorId;
use crate::{Error, Result};

/// `y[n, r] = x[n, first + r]`
#[derive(Clone, Debug, PartialEq)]
pub struct TakeRows {
    /// (N, R, C)
    pub x: TensorId,
    pub first: usize,
    /// (N, R', C), first + R' <= R
    pub y: TensorId,
}

/// `y[n]` = the rows of `top[n]`, then those of `bottom[n]`; a lead axis of
/// fewer rows is repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinRows {
    /// (A, R, C)
    pub top: TensorId,
    /// (B, R', C)
    pub bottom: TensorId,
    /// (N, R + R', C), N the larger of A and B and a multiple of both
    pub y: TensorId,
}

impl Recording {
    /// Records `count` rows of x (N, R, C) from `first` on; x itself if that
    /// is all of them.
    ///
    /// # Errors
    /// If x has fewer rows.
    pub fn take_rows(&mut self, x: TensorId, first: usize, count: usize) -> Result<TensorId> {
        let mut shape = self.shape(x);
        if first + count > shape.rows {
            let problem = format!("rows {first} to {} are not in {shape}", first + count);
            return Err(Error::shape(TakeRows::NAME, problem));
        }
        if count == shape.rows {
            return Ok(x);
        }
        shape.rows = count;
        let y = self.computed(shape);
        self.push(TakeRows { x, first, y });
        Ok(y)
    }

    /// Records the rows of `top` (A, R, C), then those of `bottom` (B, R', C).
    ///
    /// # Errors
    /// If their columns differ or neither lead is a multiple of the other.
    pub fn join_rows(&mut self, top: TensorId, bottom: TensorId) -> Result<TensorId> {
        let (mut shape, other) = (self.shape(top), self.shape(bottom));
        let lead = shape.lead.max(other.lead);
        if shape.cols != other.cols || lead % shape.lead != 0 || lead % other.lead != 0 {
            let problem = format!("{shape} and {other} cannot follow each other");
            return Err(Error::shape(JoinRows::NAME, problem));
        }
        shape.lead = lead;
        shape.rows += other.rows;
        let y = self.computed(shape);
        self.push(JoinRows { top, bottom, y });
        Ok(y)
    }
}

impl Operate for TakeRows {
    const NAME: &'static str = "take_rows";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let inner = context.shape(self.y).inner();
        let begin = self.first * x.shape.cols;
        for (y, n) in y.chunks_mut(inner).zip(context.leads.clone()) {
            y.copy_from_slice(&x.at(n)[begin..begin + inner]);
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (x, y) = (recording.shape(self.x), recording.shape(self.y));
        vec![Launch {
            shader: "take_rows",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", y.len().into()),
                ("inner_x", x.inner().into()),
                ("inner_y", y.inner().into()),
                ("begin", (self.first * x.cols).into()),
            ],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::Invocations(y.len()),
        }]
    }
}

impl Operate for JoinRows {
    const NAME: &'static str = "join_rows";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.top, self.bottom]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn reach(&self, reach: &dyn Fn(TensorId) -> usize) -> usize {
        match reach(self.bottom) {
            0 => reach(self.top),
            _ => usize::MAX,
        }
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        let top = walk.recording.shape(self.top).rows;
        for (operand, first) in [(self.top, 0), (self.bottom, top)] {
            if walk.needs(operand) {
                let count = walk.reach(operand);
                let part = walk.recording.take_rows(dy, first, count)?;
                walk.contribute(operand, part);
            }
        }
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let (top, bottom) = (context.read(self.top), context.read(self.bottom));
        let inner = context.shape(self.y).inner();
        let split = top.shape.inner();
        for (y, n) in y.chunks_mut(inner).zip(context.leads.clone()) {
            let (first, last) = y.split_at_mut(split);
            first.copy_from_slice(top.at(n));
            last.copy_from_slice(bottom.at(n));
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (top, bottom) = (recording.shape(self.top), recording.shape(self.bottom));
        let y = recording.shape(self.y);
        vec![Launch {
            shader: "join_rows",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", y.len().into()),
                ("inner_top", top.inner().into()),
                ("inner_bottom", bottom.inner().into()),
                ("lead_top", top.lead.into()),
                ("lead_bottom", bottom.lead.into()),
            ],
            bindings: vec![
                ("top", self.top.into()),
                ("bottom", self.bottom.into()),
                ("y", self.y.into()),
            ],
            extent: Extent::Invocations(y.len()),
        }]
    }
}
