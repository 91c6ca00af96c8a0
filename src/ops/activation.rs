//! Element-wise activation functions. They run inside the operator before
//! them; only their reverse stands alone.

use super::Operate;
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::gpu::shaders::Shader;
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::TensorId;

/// An element-wise function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    #[default]
    None,
    Relu,
    /// x · sigmoid(x)
    Silu,
    /// x · Φ(x), with the exact normal distribution function.
    Gelu,
    Tanh,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Relu, Self::Silu, Self::Gelu, Self::Tanh];

    /// The shaders' constant for it.
    pub fn constant(self) -> &'static str {
        match self {
            Self::None => "NO_ACTIVATION",
            Self::Relu => "RELU",
            Self::Silu => "SILU",
            Self::Gelu => "GELU",
            Self::Tanh => "TANH",
        }
    }

    /// The value of a shader's `ACTIVATION`, by the shader's own constants.
    pub fn number_in(self, shader: &Shader) -> f64 {
        shader.constant(self.constant()).into()
    }
}

/// dx = scale · dy · activation'(pre)
#[derive(Clone, Debug, PartialEq)]
pub struct ActivationReverse {
    /// (K·B, R, C)
    pub dy: TensorId,
    /// (B, R, C): what the activation was applied to.
    pub pre: TensorId,
    pub activation: Activation,
    pub scale: f32,
    /// (K·B, R, C)
    pub dx: TensorId,
}

impl Operate for ActivationReverse {
    const NAME: &'static str = "activation_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy, self.pre]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut dx = context.take(self.dx);
        let cols = context.shape(self.pre).cols;
        let mut scratch = context.take_scratch(cols);
        let (dy, pre) = (context.read(self.dy), context.read(self.pre));
        let (rows, inner, batch) = (dy.shape.rows, dy.shape.inner(), pre.shape.lead);
        let scale = T::from_f32(self.scale);
        let leads = context.leads.clone();
        if context.parallel {
            for (dx, n) in dx.chunks_mut(inner).zip(leads) {
                let (dy, pre) = (dy.at(n), pre.at(n));
                each_block(true, dx, cols, |row, dx| {
                    let row = row * cols..(row + 1) * cols;
                    T::activation_slope(self.activation, scale, &pre[row.clone()], dx);
                    T::multiply_by(&dy[row], dx);
                });
            }
        } else {
            // The slope of a forward row is the same for all its cotangents.
            let slope = &mut scratch[..cols];
            for (b, row) in (0..batch).flat_map(|b| (0..rows).map(move |row| (b, row))) {
                let mut own = leads.clone().filter(|n| n % batch == b).peekable();
                if own.peek().is_none() {
                    continue;
                }
                let row = row * cols..(row + 1) * cols;
                T::activation_slope(self.activation, scale, &pre.at(b)[row.clone()], slope);
                for n in own {
                    let dx = &mut dx[(n - leads.start) * inner..][row.clone()];
                    dx.copy_from_slice(slope);
                    T::multiply_by(&dy.at(n)[row.clone()], dx);
                }
            }
        }
        context.give_scratch(scratch);
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let count = recording.shape(self.dx).len();
        vec![Launch {
            shader: "activation",
            entry: "reverse",
            overrides: vec![(
                "ACTIVATION",
                self.activation.number_in(Shader::load("activation")),
            )],
            params: vec![
                ("count", count.into()),
                ("count_pre", recording.shape(self.pre).len().into()),
                ("scale", self.scale.into()),
            ],
            bindings: vec![
                ("dy", self.dy.into()),
                ("pre", self.pre.into()),
                ("dx", self.dx.into()),
            ],
            extent: Extent::Invocations(count),
        }]
    }
}
