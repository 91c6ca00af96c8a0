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
}

impl Activation {
    /// The value of a shader's `ACTIVATION`, by the shader's own constants.
    pub fn number_in(self, shader: &Shader) -> f64 {
        let name = match self {
            Self::None => "NO_ACTIVATION",
            Self::Relu => "RELU",
            Self::Silu => "SILU",
            Self::Gelu => "GELU",
        };
        shader.constant(name).into()
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
        let (dy, pre) = (context.read(self.dy), context.read(self.pre));
        let cols = dy.shape.cols;
        let scale = T::from_f32(self.scale);
        let inner = dy.shape.inner();
        for (dx, n) in dx.chunks_mut(inner).zip(context.leads.clone()) {
            let (dy, pre) = (dy.at(n), pre.at(n));
            each_block(context.parallel, dx, cols, |row, dx| {
                let row = row * cols..(row + 1) * cols;
                T::activate_reverse(self.activation, scale, &pre[row.clone()], &dy[row], dx);
            });
        }
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
