//! Depthwise convolution over time, 'same' padding, with batch norm folded
//! into its weights.

use super::{Activation, ActivationReverse, Operate};
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::gpu::shaders::Shader;
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Shape, TensorId};
use crate::{Error, Result};

/// `y[t, c] = activation(bias[c] + sum over j of x[t + j - k/2, c] · weight[j, c])`
#[derive(Clone, Debug, PartialEq)]
pub struct Depthwise {
    /// (N, T, C)
    pub x: TensorId,
    /// (1, k, C), k odd
    pub weight: TensorId,
    /// (1, 1, C)
    pub bias: TensorId,
    pub activation: Activation,
    /// (N, T, C)
    pub y: TensorId,
    /// (N, T, C): what the activation was applied to
    pub pre: TensorId,
}

/// `dx[t, c] = sum over j of dz[t - j + k/2, c] · weight[j, c]`
#[derive(Clone, Debug, PartialEq)]
pub struct DepthwiseReverse {
    /// (K·B, T, C)
    pub dz: TensorId,
    /// (1, k, C)
    pub weight: TensorId,
    /// (K·B, T, C)
    pub dx: TensorId,
}

impl Recording {
    /// Records a depthwise convolution of x (N, T, C).
    ///
    /// # Errors
    /// If the kernel is even or has other channels than x.
    pub fn depthwise(
        &mut self,
        x: TensorId,
        weight: TensorId,
        bias: TensorId,
        activation: Activation,
    ) -> Result<TensorId> {
        let (shape, kernel) = (self.shape(x), self.shape(weight));
        if kernel.rows % 2 == 0
            || kernel.cols != shape.cols
            || self.shape(bias) != Shape::new(1, 1, shape.cols)
        {
            return Err(Error::shape(
                Depthwise::NAME,
                format!("a kernel of {kernel} (odd rows wanted) does not fit {shape}"),
            ));
        }
        let (y, pre) = (self.computed(shape), self.computed(shape));
        self.push(Depthwise {
            x,
            weight,
            bias,
            activation,
            y,
            pre,
        });
        Ok(y)
    }
}

/// An invocation of either kernel makes several frames of one channel.
fn invocations(shape: Shape) -> Extent {
    let frames = Shader::load(Depthwise::NAME).constant("FRAMES") as usize;
    Extent::Invocations(shape.lead * shape.rows.div_ceil(frames) * shape.cols)
}

/// A multiplication and an addition for each tap of each element.
fn flops(recording: &Recording, weight: TensorId, result: TensorId) -> u64 {
    2 * recording.shape(result).len() as u64 * recording.shape(weight).rows as u64
}

impl Operate for Depthwise {
    const NAME: &'static str = "depthwise";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.weight, self.bias]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y, self.pre]
    }

    fn flops(&self, recording: &Recording) -> u64 {
        flops(recording, self.weight, self.y)
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        let lead = walk.recording.shape(dy).lead;
        let dz = walk.new_cotangent(self.pre, lead);
        walk.recording.push(ActivationReverse {
            dy,
            pre: self.pre,
            activation: self.activation,
            scale: 1.0,
            dx: dz,
        });
        let dx = walk.new_cotangent(self.x, lead);
        walk.recording.push(DepthwiseReverse {
            dz,
            weight: self.weight,
            dx,
        });
        walk.contribute(self.x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let mut pre = context.take(self.pre);
        let x = context.read(self.x);
        let weight = context.read(self.weight);
        let bias = context.read(self.bias).all();
        let (kernel, weight) = (weight.shape.rows, weight.all());
        let (frames, cols) = (x.shape.rows, x.shape.cols);
        // Without y the sums go to `pre` at once.
        let sums = if y.is_live() { &mut y } else { &mut pre };
        for (sums, n) in sums.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, sums, cols, |t, y| {
                y.copy_from_slice(bias);
                for j in 0..kernel {
                    if let Some(from) = (t + j).checked_sub(kernel / 2).filter(|&s| s < frames) {
                        let tap = &weight[j * cols..(j + 1) * cols];
                        T::multiply_add(tap, &x[from * cols..(from + 1) * cols], y);
                    }
                }
            });
        }
        if pre.is_live() && y.is_live() {
            pre.copy_from_slice(&y);
        }
        each_block(context.parallel, &mut y, cols, |_, y| {
            T::activate_in_place(self.activation, T::from_f32(1.0), y);
        });
        context.give(self.y, y);
        context.give(self.pre, pre);
    }

    fn launches(&self, recording: &Recording, live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (shape, kernel) = (recording.shape(self.y), recording.shape(self.weight).rows);
        let wanted = |id: TensorId| live(id).then_some(id);
        vec![Launch {
            shader: "depthwise",
            entry: "forward",
            overrides: vec![
                (
                    "ACTIVATION",
                    self.activation.number_in(Shader::load(Self::NAME)),
                ),
                ("WRITE_Y", f64::from(live(self.y))),
                ("WRITE_PRE", f64::from(live(self.pre))),
            ],
            params: vec![
                ("lead", shape.lead.into()),
                ("frames", shape.rows.into()),
                ("cols", shape.cols.into()),
                ("kernel", kernel.into()),
            ],
            bindings: vec![
                ("x", self.x.into()),
                ("weight", self.weight.into()),
                ("bias", self.bias.into()),
                ("y", wanted(self.y).into()),
                ("pre", wanted(self.pre).into()),
            ],
            extent: invocations(shape),
        }]
    }
}

impl Operate for DepthwiseReverse {
    const NAME: &'static str = "depthwise_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dz, self.weight]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn flops(&self, recording: &Recording) -> u64 {
        flops(recording, self.weight, self.dx)
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut dx = context.take(self.dx);
        let dz = context.read(self.dz);
        let weight = context.read(self.weight);
        let (kernel, weight) = (weight.shape.rows, weight.all());
        let (frames, cols) = (dz.shape.rows, dz.shape.cols);
        for (dx, n) in dx.chunks_mut(dz.shape.inner()).zip(context.leads.clone()) {
            let dz = dz.at(n);
            each_block(context.parallel, dx, cols, |t, dx| {
                dx.fill(T::default());
                for j in 0..kernel {
                    if let Some(from) = (t + kernel / 2).checked_sub(j).filter(|&s| s < frames) {
                        let tap = &weight[j * cols..(j + 1) * cols];
                        T::multiply_add(tap, &dz[from * cols..(from + 1) * cols], dx);
                    }
                }
            });
        }
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (shape, kernel) = (recording.shape(self.dx), recording.shape(self.weight).rows);
        vec![Launch {
            shader: "depthwise",
            entry: "reverse",
            overrides: vec![],
            params: vec![
                ("lead", shape.lead.into()),
                ("frames", shape.rows.into()),
                ("cols", shape.cols.into()),
                ("kernel", kernel.into()),
            ],
            bindings: vec![
                ("dz", self.dz.into()),
                ("weight", self.weight.into()),
                ("dx", self.dx.into()),
            ],
            extent: invocations(shape),
        }]
    }
}
