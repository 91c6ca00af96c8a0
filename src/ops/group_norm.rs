//! Group normalisation with one group: over all rows and columns of a lead row.
//!
//! Three steps each way, since a lead row may be a million numbers: each row is
//! summed, the rows are put together, and each element is made.

use super::Operate;
use super::layer_norm::check_columns;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::{Context, each_block};
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Shape, TensorId};
use crate::Result;

/// Each row's mean, and its elements' squared distances from it, summed.
#[derive(Clone, Debug, PartialEq)]
pub struct RowMoments {
    /// (N, R, C)
    pub x: TensorId,
    /// (N, R, 2)
    pub moments: TensorId,
}

/// The moments of all rows put together: mean and s = 1 / sqrt(variance + eps).
#[derive(Clone, Debug, PartialEq)]
pub struct GroupStatistics {
    /// (N, R, 2)
    pub moments: TensorId,
    /// C: how many elements each row has.
    pub cols: usize,
    pub eps: f32,
    /// (N, 1, 2)
    pub statistics: TensorId,
}

/// y = (x - mean) · s · weight + bias
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNorm {
    /// (N, R, C)
    pub x: TensorId,
    /// (N, 1, 2): mean and s of x
    pub statistics: TensorId,
    /// (1, 1, C)
    pub weight: TensorId,
    /// (1, 1, C)
    pub bias: TensorId,
    /// (N, R, C)
    pub y: TensorId,
}

/// For the reverse: of each row the sums of g = dy · weight and of g · (x - mean).
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNormSums {
    /// (K·B, R, C)
    pub dy: TensorId,
    /// (B, R, C)
    pub x: TensorId,
    /// (B, 1, 2)
    pub statistics: TensorId,
    /// (1, 1, C)
    pub weight: TensorId,
    /// (K·B, R, 2)
    pub sums: TensorId,
}

/// The sums of all rows put together: means over all elements.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupMeans {
    /// (N, R, 2)
    pub sums: TensorId,
    /// C: how many elements each row has.
    pub cols: usize,
    /// (N, 1, 2)
    pub means: TensorId,
}

/// Reverse of [`GroupNorm`] and of the statistics' way: with n = (x - mean) · s,
/// dx = s · (g - mean(g) - n · mean(g · n)).
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNormReverse {
    /// (K·B, R, C)
    pub dy: TensorId,
    /// (B, R, C)
    pub x: TensorId,
    /// (B, 1, 2)
    pub statistics: TensorId,
    /// (1, 1, C)
    pub weight: TensorId,
    /// (K·B, 1, 2): of g and g · (x - mean)
    pub means: TensorId,
    /// (K·B, R, C)
    pub dx: TensorId,
}

impl Recording {
    /// Records a norm of each lead row of x (N, R, C) as a whole.
    ///
    /// # Errors
    /// If weight and bias are not (1, 1, C).
    pub fn group_norm(
        &mut self,
        x: TensorId,
        weight: TensorId,
        bias: TensorId,
        eps: f32,
    ) -> Result<TensorId> {
        let shape = self.shape(x);
        check_columns(GroupNorm::NAME, self, shape, [weight, bias])?;
        let moments = self.computed(Shape::new(shape.lead, shape.rows, 2));
        self.push(RowMoments { x, moments });
        let statistics = self.computed(Shape::new(shape.lead, 1, 2));
        self.push(GroupStatistics {
            moments,
            cols: shape.cols,
            eps,
            statistics,
        });
        let y = self.computed(shape);
        self.push(GroupNorm {
            x,
            statistics,
            weight,
            bias,
            y,
        });
        Ok(y)
    }
}

impl Operate for RowMoments {
    const NAME: &'static str = "row_moments";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.moments]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut moments = context.take(self.moments);
        let x = context.read(self.x);
        let Shape { rows, cols, .. } = x.shape;
        let leads = context.leads.clone();
        for (moments, n) in moments.chunks_mut(2 * rows).zip(leads) {
            let x = x.at(n);
            each_block(context.parallel, moments, 2, |row, out| {
                let row = || x[row * cols..(row + 1) * cols].iter().map(|x| x.to_f64());
                let mean = row().sum::<f64>() / cols as f64;
                let squares = row().map(|x| (x - mean).powi(2)).sum();
                out.copy_from_slice(&[mean, squares].map(T::from_f64));
            });
        }
        context.give(self.moments, moments);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let x = recording.shape(self.x);
        let bindings = vec![("x", self.x.into()), ("partial_out", self.moments.into())];
        let extent = Extent::rows(x.lead * x.rows);
        launch("moments_of_rows", x, sizes(x), bindings, extent)
    }
}

impl Operate for GroupStatistics {
    const NAME: &'static str = "group_statistics";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.moments]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.statistics]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut statistics = context.take(self.statistics);
        let moments = context.read(self.moments);
        let (rows, cols) = (moments.shape.rows as f64, self.cols as f64);
        for (out, n) in statistics.chunks_mut(2).zip(context.leads.clone()) {
            let (rows_of, _) = moments.at(n).as_chunks::<2>();
            let mean = rows_of.iter().map(|[mean, _]| mean.to_f64()).sum::<f64>() / rows;
            // Rows are equally long.
            let squares = rows_of.iter().map(|[own, squares]| {
                squares.to_f64() + cols * (own.to_f64() - mean).powi(2)
            });
            let variance = squares.sum::<f64>() / rows / cols;
            let s = 1.0 / (variance + f64::from(self.eps)).sqrt();
            out.copy_from_slice(&[mean, s].map(T::from_f64));
        }
        context.give(self.statistics, statistics);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let rows = recording.shape(self.moments);
        let sizes = (rows.rows, self.cols, rows.lead, self.eps);
        let bindings = vec![
            ("partial", self.moments.into()),
            ("whole_out", self.statistics.into()),
        ];
        launch("merge_moments", rows, sizes, bindings, Extent::rows(rows.lead))
    }
}

impl Operate for GroupNorm {
    const NAME: &'static str = "group_norm";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.statistics, self.weight, self.bias]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let dy = walk.cotangent(self.y).expect("the walk reaches y");
        let Shape { lead, rows, cols } = walk.recording.shape(dy);
        let sums = walk.recording.computed(Shape::new(lead, rows, 2));
        let (x, statistics, weight) = (self.x, self.statistics, self.weight);
        walk.recording.push(GroupNormSums {
            dy,
            x,
            statistics,
            weight,
            sums,
        });
        let means = walk.recording.computed(Shape::new(lead, 1, 2));
        walk.recording.push(GroupMeans { sums, cols, means });
        let dx = walk.new_cotangent(x, lead);
        walk.recording.push(GroupNormReverse {
            dy,
            x,
            statistics,
            weight,
            means,
            dx,
        });
        walk.contribute(x, dx);
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let (x, statistics) = (context.read(self.x), context.read(self.statistics));
        let weight = context.read(self.weight).all();
        let bias = context.read(self.bias).all();
        let cols = x.shape.cols;
        for (y, n) in y.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            let (x, mean, s) = (x.at(n), statistics.at(n)[0], statistics.at(n)[1]);
            each_block(context.parallel, y, cols, |row, y| {
                let own = x[row * cols..(row + 1) * cols].iter().zip(weight).zip(bias);
                for (y, ((&x, &w), &b)) in y.iter_mut().zip(own) {
                    *y = (x - mean) * s * w + b;
                }
            });
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let x = recording.shape(self.x);
        let bindings = vec![
            ("x", self.x.into()),
            ("weight", self.weight.into()),
            ("bias", self.bias.into()),
            ("statistics", self.statistics.into()),
            ("y", self.y.into()),
        ];
        launch("forward", x, sizes(x), bindings, Extent::Invocations(x.len()))
    }
}

/// g = dy · weight and x - mean of one row.
fn weighed<'a, T: Real>(
    dy: &'a [T],
    x: &'a [T],
    weight: &'a [T],
    mean: T,
) -> impl Iterator<Item = (T, T)> + 'a {
    let all = dy.iter().zip(x).zip(weight);
    all.map(move |((&dy, &x), &w)| (dy * w, x - mean))
}

impl Operate for GroupNormSums {
    const NAME: &'static str = "group_norm_sums";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy, self.x, self.statistics, self.weight]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.sums]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut sums = context.take(self.sums);
        let (dy, x) = (context.read(self.dy), context.read(self.x));
        let statistics = context.read(self.statistics);
        let weight = context.read(self.weight).all();
        let Shape { rows, cols, .. } = x.shape;
        for (sums, n) in sums.chunks_mut(2 * rows).zip(context.leads.clone()) {
            let (dy, x, mean) = (dy.at(n), x.at(n), statistics.at(n)[0]);
            each_block(context.parallel, sums, 2, |row, out| {
                let row = row * cols..(row + 1) * cols;
                let mut own = [0.0; 2];
                for (g, centred) in weighed(&dy[row.clone()], &x[row], weight, mean) {
                    own[0] += g.to_f64();
                    own[1] += g.to_f64() * centred.to_f64();
                }
                out.copy_from_slice(&own.map(T::from_f64));
            });
        }
        context.give(self.sums, sums);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (dy, x) = (recording.shape(self.dy), recording.shape(self.x));
        let bindings = vec![
            ("x", self.x.into()),
            ("weight", self.weight.into()),
            ("dy", self.dy.into()),
            ("statistics", self.statistics.into()),
            ("partial_out", self.sums.into()),
        ];
        let extent = Extent::rows(dy.lead * dy.rows);
        launch("sums_of_rows", dy, sizes(x), bindings, extent)
    }
}

impl Operate for GroupMeans {
    const NAME: &'static str = "group_means";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.sums]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.means]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut means = context.take(self.means);
        let sums = context.read(self.sums);
        let count = (sums.shape.rows * self.cols) as f64;
        for (out, n) in means.chunks_mut(2).zip(context.leads.clone()) {
            let (rows, _) = sums.at(n).as_chunks::<2>();
            let total = rows.iter().fold([0.0; 2], |[a, b], [x, y]| {
                [a + x.to_f64(), b + y.to_f64()]
            });
            out.copy_from_slice(&total.map(|total| T::from_f64(total / count)));
        }
        context.give(self.means, means);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let rows = recording.shape(self.sums);
        let sizes = (rows.rows, self.cols, rows.lead, 0.0);
        let bindings = vec![
            ("partial", self.sums.into()),
            ("whole_out", self.means.into()),
        ];
        launch("merge_sums", rows, sizes, bindings, Extent::rows(rows.lead))
    }
}

impl Operate for GroupNormReverse {
    const NAME: &'static str = "group_norm_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.dy, self.x, self.statistics, self.weight, self.means]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.dx]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut dx = context.take(self.dx);
        let (dy, x) = (context.read(self.dy), context.read(self.x));
        let (statistics, means) = (context.read(self.statistics), context.read(self.means));
        let weight = context.read(self.weight).all();
        let cols = x.shape.cols;
        for (dx, n) in dx.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            let (dy, x) = (dy.at(n), x.at(n));
            let (mean, s) = (statistics.at(n)[0], statistics.at(n)[1]);
            let (g_mean, slope) = (means.at(n)[0], means.at(n)[1] * s * s);
            each_block(context.parallel, dx, cols, |row, dx| {
                let row = row * cols..(row + 1) * cols;
                let own = weighed(&dy[row.clone()], &x[row], weight, mean);
                for (dx, (g, centred)) in dx.iter_mut().zip(own) {
                    *dx = s * (g - g_mean - centred * slope);
                }
            });
        }
        context.give(self.dx, dx);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (dy, x) = (recording.shape(self.dy), recording.shape(self.x));
        let bindings = vec![
            ("x", self.x.into()),
            ("weight", self.weight.into()),
            ("dy", self.dy.into()),
            ("statistics", self.statistics.into()),
            ("means", self.means.into()),
            ("dx", self.dx.into()),
        ];
        launch("reverse", dy, sizes(x), bindings, Extent::Invocations(dy.len()))
    }
}

/// A launch of the norm's shader whose uniform tells of `own`, its result or what has its
/// rows, and of an x of R rows and C columns.
fn launch(
    entry: &'static str,
    own: Shape,
    (rows, cols, lead_x, eps): (usize, usize, usize, f32),
    bindings: Vec<(&'static str, Binding)>,
    extent: Extent,
) -> Vec<Launch> {
    vec![Launch {
        shader: GroupNorm::NAME,
        entry,
        overrides: vec![],
        params: vec![
            ("count", own.len().into()),
            ("lead", own.lead.into()),
            ("rows", rows.into()),
            ("cols", cols.into()),
            ("lead_x", lead_x.into()),
            ("eps", eps.into()),
        ],
        bindings,
        extent,
    }]
}

/// The sizes of x that a launch tells.
fn sizes(x: Shape) -> (usize, usize, usize, f32) {
    (x.rows, x.cols, x.lead, 0.0)
}
