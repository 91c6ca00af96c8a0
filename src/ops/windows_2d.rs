//! Windows over planes of frames and bins.
//!
//! A plane lies in the rows of a tensor (N, T·G, C), bins faster than frames,
//! with a column for each channel. So channels are mixed by a product of the
//! rows as they are, a kernel reads and writes neighbouring channels side by
//! side, and all of a frame, bins and channels, is one window of G rows: no
//! tensor is ever turned.

use super::{Operate, Windows};
use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::gpu::shaders::{Param, Shader};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};

/// How the rows of a tensor lie on a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// T
    pub frames: usize,
    /// G, the faster ones
    pub bins: usize,
}

impl Plane {
    /// That of a tensor (N, T, G) of one channel.
    pub fn of(shape: Shape) -> Self {
        Self {
            frames: shape.rows,
            bins: shape.cols,
        }
    }

    /// T·G
    pub fn rows(self) -> usize {
        self.frames * self.bins
    }
}

impl Windows {
    /// How many there are over a plane, along frames and along bins, if there is
    /// one.
    pub fn over(&self, plane: Plane) -> Option<Plane> {
        Some(Plane {
            frames: self.count(plane.frames)?,
            bins: self.count(plane.bins)?,
        })
    }

    /// The numbers of the windows that hold element `at`, of `count` there are,
    /// each with the element's place in it.
    pub(super) fn holding(
        self,
        at: usize,
        count: usize,
    ) -> impl Iterator<Item = (usize, usize)> + Clone {
        // Element `at` is in window t at place j where t·stride + j = at + padding.
        let end = at + self.padding;
        let first = (end + 1).saturating_sub(self.kernel).div_ceil(self.stride);
        let past = count.min(end / self.stride + 1);
        (first..past).map(move |t| (t, end - t * self.stride))
    }

    /// The places of window number `t` that are inside of `count` elements, each
    /// with the element there.
    pub(super) fn inside(
        self,
        t: usize,
        count: usize,
    ) -> impl Iterator<Item = (usize, usize)> + Clone {
        (0..self.kernel).filter_map(move |j| {
            let at = (t * self.stride + j).checked_sub(self.padding)?;
            (at < count).then_some((j, at))
        })
    }
}

/// Members of a shader's `Params` about windows over a plane.
pub(super) fn params(plane: Plane, windows: Windows) -> Vec<(&'static str, Param)> {
    // Whoever recorded it has checked that there are any.
    let over = windows.over(plane).unwrap_or(plane);
    vec![
        ("frames", plane.frames.into()),
        ("bins", plane.bins.into()),
        ("frames_y", over.frames.into()),
        ("bins_y", over.bins.into()),
        ("kernel", windows.kernel.into()),
        ("stride", windows.stride.into()),
        ("padding", windows.padding.into()),
    ]
}

/// The invocations of a kernel that makes a result on `plane`, each several bins of one
/// channel.
pub(super) fn invocations(shader: &Shader, result: Shape, plane: Plane) -> Extent {
    let parts = plane.bins.div_ceil(shader.constant("BINS") as usize);
    Extent::Invocations(result.lead * plane.frames * parts * result.cols)
}

/// Sums windows over a plane of one channel back into it: the reverse of reading
/// them.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold2d {
    /// (K·B, T2·G2, k·k)
    pub dy: TensorId,
    /// Along both sides.
    pub windows: Windows,
    /// (K·B, T, G)
    pub dx: TensorId,
}

impl Operate for Fold2d {
    const NAME: &'static str = "fold_2d";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let windows = self.windows;
        let mut dx = context.take(self.dx);
        let dy = context.read(self.dy);
        let (rows, taps) = (dy.shape.rows, dy.shape.cols);
        let out = context.shape(self.dx);
        let across = windows.count(out.cols).unwrap_or(1);
        for (dx, n) in dx.chunks_mut(out.inner()).zip(context.leads.clone()) {
            let dy = dy.at(n);
            each_block(context.parallel, dx, out.cols, |frame, dx| {
                let down = windows.holding(frame, rows / across);
                for (bin, dx) in dx.iter_mut().enumerate() {
                    *dx = T::default();
                    for (t, i) in down.clone() {
                        for (g, j) in windows.holding(bin, across) {
                            let row = t * across + g;
                            *dx += dy[row * taps + i * windows.kernel + j];
                        }
                    }
                }
            });
        }
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let dx = recording.shape(self.dx);
        let mut params = params(Plane::of(dx), self.windows);
        params.push(("count", dx.len().into()));
        vec![Launch {
            shader: Self::NAME,
            entry: "forward",
            overrides: vec![],
            params,
            bindings: vec![("dy", self.dy.into()), ("dx", self.dx.into())],
            extent: Extent::Invocations(dx.len()),
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of going through windows and elements meet the same pairs.
    #[test]
    fn an_element_is_in_the_windows_that_hold_it() {
        for (kernel, stride, padding) in [(3, 2, 1), (1, 1, 0), (5, 1, 2), (2, 4, 0), (4, 3, 2)] {
            let windows = Windows::padded(kernel, stride, padding);
            for elements in 1..12 {
                let Some(count) = windows.count(elements) else {
                    continue;
                };
                let mut held: Vec<_> = (0..elements)
                    .flat_map(|at| windows.holding(at, count).map(move |(t, j)| (t, j, at)))
                    .collect();
                held.sort_unstable();
                let read: Vec<_> = (0..count)
                    .flat_map(|t| windows.inside(t, elements).map(move |(j, at)| (t, j, at)))
                    .collect();
                assert_eq!(held, read, "{windows:?} over {elements}");
            }
        }
    }
}
