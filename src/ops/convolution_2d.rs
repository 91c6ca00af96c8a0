//! Convolution over a plane of one channel: what an encoder makes of a
//! spectrogram first. Each of its windows is a few numbers and each number is in
//! a few windows, so neither is ever laid out as a matrix.

use super::windows_2d::{invocations, params};
use super::{Activation, ActivationReverse, Fold2d, Operate, Plane, Windows};
use crate::engine::gpu::launch::Launch;
use crate::engine::gpu::shaders::Shader;
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Shape, TensorId};
use crate::{Error, Result};

/// `y[(t, g), c] = activation(bias[c] + sum over i, j of
/// x[t·stride + i - padding, g·stride + j - padding] · weight[(i, j), c])`
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution2d {
    /// (N, T, G)
    pub x: TensorId,
    /// (1, k·k, C)
    pub weight: TensorId,
    /// (1, 1, C)
    pub bias: TensorId,
    /// Along both sides.
    pub windows: Windows,
    pub activation: Activation,
    /// (N, T2·G2, C)
    pub y: TensorId,
    /// (N, T2·G2, C): what the activation was applied to
    pub pre: TensorId,
}

impl Recording {
    /// Records a convolution of x (N, T, G); the result's rows lie on the plane.
    ///
    /// # Errors
    /// If the kernel does not fit, or x is too small for it.
    pub fn convolution_2d(
        &mut self,
        x: TensorId,
        weight: TensorId,
        bias: TensorId,
        windows: Windows,
        activation: Activation,
    ) -> Result<(TensorId, Plane)> {
        let (shape, kernel) = (self.shape(x), self.shape(weight));
        let problem = |what: String| Err(Error::shape(Convolution2d::NAME, what));
        let Some(over) = windows.over(Plane::of(shape)) else {
            return problem(format!("{shape} has no windows {windows:?}"));
        };
        if kernel.rows != windows.kernel * windows.kernel
            || self.shape(bias) != Shape::new(1, 1, kernel.cols)
        {
            return problem(format!("a kernel of {kernel} does not fit {windows:?}"));
        }
        let own = Shape::new(shape.lead, over.rows(), kernel.cols);
        let (y, pre) = (self.computed(own), self.computed(own));
        self.push(Convolution2d {
            x,
            weight,
            bias,
            windows,
            activation,
            y,
            pre,
        });
        Ok((y, over))
    }
}

impl Operate for Convolution2d {
    const NAME: &'static str = "convolution_2d";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.weight, self.bias]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y, self.pre]
    }

    fn flops(&self, recording: &Recording) -> u64 {
        2 * recording.shape(self.y).len() as u64 * recording.shape(self.weight).rows as u64
    }

    /// The cotangent of a window's numbers is a product over the channels; there
    /// are few of them, and they are summed where they came from.
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
        let dy = walk.recording.matmul(dz, self.weight).record()?;
        let dx = walk.new_cotangent(self.x, lead);
        walk.recording.push(Fold2d {
            dy,
            windows: self.windows,
            dx,
        });
        walk.contribute(self.x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let windows = self.windows;
        let mut y = context.take(self.y);
        let mut pre = context.take(self.pre);
        let x = context.read(self.x);
        let weight = context.read(self.weight);
        let bias = context.read(self.bias).all();
        let (channels, weight) = (weight.shape.cols, weight.all());
        let (frames, bins) = (x.shape.rows, x.shape.cols);
        let across = windows.count(bins).unwrap_or(1);
        let inner = context.shape(self.y).inner();
        // Without y the sums go to `pre` at once.
        let sums = if y.is_live() { &mut y } else { &mut pre };
        for (sums, n) in sums.chunks_mut(inner).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, sums, channels, |row, y| {
                y.copy_from_slice(bias);
                for (i, frame) in windows.inside(row / across, frames) {
                    for (j, bin) in windows.inside(row % across, bins) {
                        let tap = (i * windows.kernel + j) * channels;
                        T::axpy(x[frame * bins + bin], &weight[tap..tap + channels], y);
                    }
                }
            });
        }
        if pre.is_live() && y.is_live() {
            pre.copy_from_slice(&y);
        }
        each_block(context.parallel, &mut y, channels, |_, y| {
            T::activate_in_place(self.activation, T::from_f32(1.0), y);
        });
        context.give(self.y, y);
        context.give(self.pre, pre);
    }

    fn launches(&self, recording: &Recording, live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (plane, y) = (Plane::of(recording.shape(self.x)), recording.shape(self.y));
        let over = self.windows.over(plane).unwrap_or(plane);
        let wanted = |id: TensorId| live(id).then_some(id);
        let shader = Shader::load(Self::NAME);
        let mut params = params(plane, self.windows);
        params.extend([("lead", y.lead.into()), ("channels", y.cols.into())]);
        vec![Launch {
            shader: Self::NAME,
            entry: "forward",
            overrides: vec![
                ("ACTIVATION", self.activation.number_in(shader)),
                ("WRITE_Y", f64::from(live(self.y))),
                ("WRITE_PRE", f64::from(live(self.pre))),
            ],
            params,
            bindings: vec![
                ("x", self.x.into()),
                ("weight", self.weight.into()),
                ("bias", self.bias.into()),
                ("y", wanted(self.y).into()),
                ("pre", wanted(self.pre).into()),
            ],
            extent: invocations(shader, y, over),
        }]
    }
}
