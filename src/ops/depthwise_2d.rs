//! Depthwise convolution over a plane of frames and bins: each channel with a
//! kernel of its own.

use super::windows_2d::{invocations, params};
use super::{Operate, Plane, Windows};
use crate::engine::gpu::launch::{Binding, Launch};
use crate::engine::gpu::shaders::Shader;
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Shape, TensorId};
use crate::{Error, Result};

/// `y[(t, g), c] = bias[c] + sum over i, j of
/// x[(t·stride + i - padding, g·stride + j - padding), c] · weight[(i, j), c]`
#[derive(Clone, Debug, PartialEq)]
pub struct Depthwise2d {
    /// (N, T·G, C)
    pub x: TensorId,
    /// How the rows of x lie.
    pub plane: Plane,
    /// (1, k·k, C)
    pub weight: TensorId,
    /// (1, 1, C)
    pub bias: TensorId,
    /// Along both sides.
    pub windows: Windows,
    /// (N, T2·G2, C)
    pub y: TensorId,
}

/// Reverse of [`Depthwise2d`].
#[derive(Clone, Debug, PartialEq)]
pub struct Depthwise2dReverse {
    /// (K·B, T2·G2, C)
    pub dy: TensorId,
    /// (1, k·k, C)
    pub weight: TensorId,
    pub windows: Windows,
    /// How the rows of dx lie.
    pub plane: Plane,
    /// (K·B, T·G, C)
    pub dx: TensorId,
}

impl Recording {
    /// Records a depthwise convolution of x (N, T·G, C), whose rows lie on
    /// `plane`; those of the result lie on the plane that comes with it.
    ///
    /// # Errors
    /// If the kernel or the plane does not fit, or x is too small for it.
    pub fn depthwise_2d(
        &mut self,
        (x, plane): (TensorId, Plane),
        weight: TensorId,
        bias: TensorId,
        windows: Windows,
    ) -> Result<(TensorId, Plane)> {
        let (shape, kernel) = (self.shape(x), self.shape(weight));
        let problem = |what: String| Err(Error::shape(Depthwise2d::NAME, what));
        let over = windows.over(plane).filter(|_| shape.rows == plane.rows());
        let Some(over) = over else {
            return problem(format!("{shape} on {plane:?} has no windows {windows:?}"));
        };
        if kernel != Shape::new(1, windows.kernel * windows.kernel, shape.cols)
            || self.shape(bias) != Shape::new(1, 1, shape.cols)
        {
            return problem(format!("a kernel of {kernel} does not fit {windows:?} of {shape}"));
        }
        let y = self.computed(Shape::new(shape.lead, over.rows(), shape.cols));
        self.push(Depthwise2d {
            x,
            plane,
            weight,
            bias,
            windows,
            y,
        });
        Ok((y, over))
    }
}

/// A launch of so many lead rows of channels, whose result is on `to`.
fn launch(
    entry: &'static str,
    (plane, windows): (Plane, Windows),
    (result, to): (Shape, Plane),
    bindings: Vec<(&'static str, Binding)>,
) -> Vec<Launch> {
    let mut params = params(plane, windows);
    params.extend([("lead", result.lead.into()), ("channels", result.cols.into())]);
    vec![Launch {
        shader: Depthwise2d::NAME,
        entry,
        overrides: vec![],
        params,
        bindings,
        extent: invocations(Shader::load(Depthwise2d::NAME), result, to),
    }]
}

impl Operate for Depthwise2d {
    const NAME: &'static str = "depthwise_2d";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.weight, self.bias]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn flops(&self, recording: &Recording) -> u64 {
        2 * recording.shape(self.y).len() as u64 * recording.shape(self.weight).rows as u64
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        let lead = walk.recording.shape(dy).lead;
        let dx = walk.new_cotangent(self.x, lead);
        walk.recording.push(Depthwise2dReverse {
            dy,
            weight: self.weight,
            windows: self.windows,
            plane: self.plane,
            dx,
        });
        walk.contribute(self.x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let (windows, Plane { frames, bins }) = (self.windows, self.plane);
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let weight = context.read(self.weight).all();
        let bias = context.read(self.bias).all();
        let channels = x.shape.cols;
        let across = windows.count(bins).unwrap_or(1);
        let inner = context.shape(self.y).inner();
        for (y, n) in y.chunks_mut(inner).zip(context.leads.clone()) {
            let x = x.at(n);
            each_block(context.parallel, y, channels, |row, y| {
                y.copy_from_slice(bias);
                for (i, frame) in windows.inside(row / across, frames) {
                    for (j, bin) in windows.inside(row % across, bins) {
                        let tap = (i * windows.kernel + j) * channels;
                        let from = (frame * bins + bin) * channels;
                        let tap = &weight[tap..tap + channels];
                        T::multiply_add(tap, &x[from..from + channels], y);
                    }
                }
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let over = self.windows.over(self.plane).unwrap_or(self.plane);
        let bindings = vec![
            ("x", self.x.into()),
            ("weight", self.weight.into()),
            ("bias", self.bias.into()),
            ("y", self.y.into()),
        ];
        let y = recording.shape(self.y);
        launch("forward", (self.plane, self.windows), (y, over), bindings)
    }
}

impl Operate for Depthwise2dReverse {
    const NAME: &'static str = "depthwise_2d_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy, self.weight]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn flops(&self, recording: &Recording) -> u64 {
        2 * recording.shape(self.dy).len() as u64 * recording.shape(self.weight).rows as u64
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let (windows, Plane { bins, .. }) = (self.windows, self.plane);
        let mut dx = context.take(self.dx);
        let dy = context.read(self.dy);
        let weight = context.read(self.weight).all();
        let channels = dy.shape.cols;
        let across = windows.count(bins).unwrap_or(1);
        let down = dy.shape.rows / across;
        let inner = context.shape(self.dx).inner();
        for (dx, n) in dx.chunks_mut(inner).zip(context.leads.clone()) {
            let dy = dy.at(n);
            each_block(context.parallel, dx, channels, |row, dx| {
                dx.fill(T::default());
                for (t, i) in windows.holding(row / bins, down) {
                    for (g, j) in windows.holding(row % bins, across) {
                        let tap = (i * windows.kernel + j) * channels;
                        let from = (t * across + g) * channels;
                        let tap = &weight[tap..tap + channels];
                        T::multiply_add(tap, &dy[from..from + channels], dx);
                    }
                }
            });
        }
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let bindings = vec![
            ("dy", self.dy.into()),
            ("weight", self.weight.into()),
            ("dx", self.dx.into()),
        ];
        let (plane, dx) = (self.plane, recording.shape(self.dx));
        launch("reverse", (plane, self.windows), (dx, plane), bindings)
    }
}
