//! Product with a weight matrix, and what usually follows it.

use super::matmul_native;
use super::matmul_variants::{self, Part};
use super::{Activation, ActivationReverse, Fold, Operate, Windows};
use crate::engine::gpu::extras::Extras;
use crate::engine::gpu::launch::{Launch, row_blocks};
use crate::engine::gpu::variants::{Choice, Trial};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Shape, TensorId};
use crate::{Error, Result};

/// How the weight matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// (outputs, inputs): the forward pass of a linear layer, y = x · Wᵀ.
    OutIn,
    /// (inputs, outputs): its reverse, dx = dy · W.
    InOut,
}

/// y = residual + scale · activation(x · W + bias)
#[derive(Clone, Debug, PartialEq)]
pub struct Matmul {
    /// (N, R, inputs), or (N, T, C) where its windows are multiplied
    pub x: TensorId,
    /// Whose R there are over T frames, each of inputs = kernel · C numbers.
    pub windows: Option<Windows>,
    /// (1, outputs, inputs) or (1, inputs, outputs)
    pub weight: TensorId,
    pub layout: Layout,
    /// (1, 1, outputs)
    pub bias: Option<TensorId>,
    pub activation: Activation,
    pub scale: f32,
    /// (N or fewer, R, outputs)
    pub residual: Option<TensorId>,
    /// (N, R, outputs)
    pub y: TensorId,
    /// (N, R, outputs): what the activation was applied to; there is none
    /// without activation.
    pub pre: Option<TensorId>,
}

/// A product while it is put together.
pub struct MatmulBuilder<'a> {
    recording: &'a mut Recording,
    operator: Matmul,
}

impl Recording {
    /// Starts `x · Wᵀ` for a weight (outputs, inputs).
    pub fn matmul(&mut self, x: TensorId, weight: TensorId) -> MatmulBuilder<'_> {
        MatmulBuilder {
            operator: Matmul {
                x,
                windows: None,
                weight,
                layout: Layout::OutIn,
                bias: None,
                activation: Activation::None,
                scale: 1.0,
                residual: None,
                y: x,
                pre: None,
            },
            recording: self,
        }
    }
}

impl MatmulBuilder<'_> {
    /// Multiplies windows of x instead of its rows: a convolution.
    pub fn windows(mut self, windows: Windows) -> Self {
        self.operator.windows = Some(windows);
        self
    }

    pub fn layout(mut self, layout: Layout) -> Self {
        self.operator.layout = layout;
        self
    }

    pub fn bias(mut self, bias: impl Into<Option<TensorId>>) -> Self {
        self.operator.bias = bias.into();
        self
    }

    pub fn activation(mut self, activation: Activation) -> Self {
        self.operator.activation = activation;
        self
    }

    pub fn scale(mut self, scale: f32) -> Self {
        self.operator.scale = scale;
        self
    }

    pub fn residual(mut self, residual: impl Into<Option<TensorId>>) -> Self {
        self.operator.residual = residual.into();
        self
    }

    /// Records the product and returns y (N, R, outputs).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn record(self) -> Result<TensorId> {
        let (recording, mut operator) = (self.recording, self.operator);
        let (x, weight) = (recording.shape(operator.x), recording.shape(operator.weight));
        let (outputs, inputs) = match operator.layout {
            Layout::OutIn => (weight.rows, weight.cols),
            Layout::InOut => (weight.cols, weight.rows),
        };
        let problem = |what: String| Err(Error::shape(Matmul::NAME, what));
        let (rows, cols) = match operator.windows {
            None => (Some(x.rows), x.cols),
            Some(windows) => (windows.count(x.rows), windows.kernel * x.cols),
        };
        let Some(rows) = rows else {
            return problem(format!("{x} has no windows {:?}", operator.windows));
        };
        if cols != inputs {
            return problem(format!("x {x} has not the weight's {inputs} columns"));
        }
        let y = Shape::new(x.lead, rows, outputs);
        if let Some(bias) = operator.bias.map(|id| recording.shape(id))
            && bias != Shape::new(1, 1, outputs)
        {
            return problem(format!("a bias of {bias} does not fit {outputs} outputs"));
        }
        if let Some(residual) = operator.residual.map(|id| recording.shape(id))
            && (residual.with_lead(y.lead) != y || !y.lead.is_multiple_of(residual.lead))
        {
            return problem(format!("a residual of {residual} does not fit {y}"));
        }
        operator.y = recording.computed(y);
        if operator.activation != Activation::None {
            operator.pre = Some(recording.computed(y));
        }
        let y = operator.y;
        recording.push(operator);
        Ok(y)
    }
}

impl Operate for Matmul {
    const NAME: &'static str = "matmul";

    fn inputs(&self) -> Vec<TensorId> {
        let optional = [self.bias, self.residual].into_iter().flatten();
        [self.x, self.weight].into_iter().chain(optional).collect()
    }

    fn outputs(&self) -> Vec<TensorId> {
        [self.y].into_iter().chain(self.pre).collect()
    }

    fn flops(&self, recording: &Recording) -> u64 {
        2 * recording.shape(self.y).len() as u64 * self.inputs_of(recording) as u64
    }

    fn reach(&self, reach: &dyn Fn(TensorId) -> usize) -> usize {
        let own = match (reach(self.x), self.windows) {
            (0, _) => 0,
            (rows, None) => rows,
            (rows, Some(windows)) => (rows + windows.padding).div_ceil(windows.stride),
        };
        own.max(self.residual.map_or(0, reach))
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        // Rows are independent, so a cotangent of one row for each token
        // stays one, unless forward values are needed at that row.
        let (mut dy, mut sparse) = walk.cotangent_rows(self.y).expect("the walk reaches y");
        if sparse && (self.pre.is_some() || self.residual.is_some() || self.windows.is_some()) {
            dy = walk.cotangent(self.y).expect("the walk reaches y");
            sparse = false;
        }
        if let Some(residual) = self.residual.filter(|&id| walk.needs(id)) {
            walk.contribute(residual, dy);
        }
        if !walk.needs(self.x) {
            return Ok(());
        }
        if !sparse && self.windows.is_none() {
            // The residual's may go on for longer.
            let rows = walk.reach(self.x);
            dy = walk.first_rows(dy, rows);
        }
        let shape = walk.recording.shape(dy);
        let lead = shape.lead;
        let (dz, scale) = match self.pre {
            None => (dy, self.scale),
            Some(pre) => {
                let pre = walk.first_rows(pre, shape.rows);
                let dz = walk.recording.computed(shape);
                walk.recording.push(ActivationReverse {
                    dy,
                    pre,
                    activation: self.activation,
                    scale: self.scale,
                    dx: dz,
                });
                (dz, 1.0)
            }
        };
        let sum = if sparse || self.windows.is_some() {
            None
        } else {
            walk.take_sum(self.x, lead)
        };
        let layout = match self.layout {
            Layout::OutIn => Layout::InOut,
            Layout::InOut => Layout::OutIn,
        };
        let product = walk.recording.matmul(dz, self.weight).layout(layout);
        let dx = product.scale(scale).residual(sum).record()?;
        if let Some(windows) = self.windows {
            let (dy, dx) = (dx, walk.reached_cotangent(self.x, lead));
            walk.recording.push(Fold { dy, windows, dx });
            walk.contribute(self.x, dx);
        } else if sum.is_some() {
            walk.set(self.x, dx);
        } else {
            walk.contribute_rows(self.x, dx, sparse);
        }
        Ok(())
    }

    fn transposed_factor(&self) -> Option<TensorId> {
        (self.layout == Layout::OutIn).then_some(self.weight)
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        matmul_native::forward(self, context);
    }

    fn launches(&self, recording: &Recording, live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let choices = self.choices(recording, live, Extras::NONE).into_iter();
        choices
            .map(|mut choice| choice.variants.swap_remove(0).launch)
            .collect()
    }

    fn choices(
        &self,
        recording: &Recording,
        live: &dyn Fn(TensorId) -> bool,
        extras: Extras,
    ) -> Vec<Choice> {
        let y = recording.shape(self.y);
        let blocks = match row_blocks(recording.shape(self.weight)) {
            // Rows of such a weight are inputs, and an activation wants their
            // whole sum. No model has that: it is the reverse's layout.
            blocks if self.layout == Layout::InOut && self.activation != Activation::None => {
                let rows = blocks.last().map_or(0, |last| last.end);
                std::iter::once(0..rows).collect()
            }
            blocks => blocks,
        };
        let choices = blocks.into_iter().map(|block| {
            let (inputs, outputs) = match self.layout {
                Layout::OutIn => (0..self.inputs_of(recording), block.clone()),
                Layout::InOut => (block.clone(), 0..y.cols),
            };
            let part = Part {
                block,
                inputs,
                outputs,
            };
            self.choice(recording, live, &part, extras)
        });
        choices.collect()
    }

    fn trials() -> Vec<Trial> {
        matmul_variants::trials()
    }
}

impl Matmul {
    /// How many numbers a row of the product's input has.
    pub(super) fn inputs_of(&self, recording: &Recording) -> usize {
        let cols = recording.shape(self.x).cols;
        self.windows.map_or(cols, |windows| windows.kernel * cols)
    }

    /// Elements of one lead row of x with the zeros around it, for windows.
    pub(super) fn padded(&self, x: &Shape) -> usize {
        let windows = self.windows;
        windows.map_or(0, |windows| (x.rows + windows.padding + windows.behind) * x.cols)
    }
}
