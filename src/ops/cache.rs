//! Keys and values of the tokens generated so far.
//!
//! Beams are not copied when hypotheses move between them: every row knows,
//! for each position, in which row of the cache its ancestor wrote.

use super::Operate;
use super::scalars::STEP;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::{Real, max};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Columns, Scalar, TensorId};

/// `cache[n, step] = x[n]`, `width` columns of it
#[derive(Clone, Debug, PartialEq)]
pub struct CacheAppend {
    /// (N, 1, at least offset + width)
    pub x: Columns,
    /// (N, capacity, width), persistent
    pub cache: TensorId,
}

/// Attention of one new position over a cache of keys and values.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedAttention {
    /// (N, 1, D) columns
    pub query: Columns,
    /// (N, capacity, 2D): keys, then values
    pub cache: TensorId,
    /// (N, capacity, 1): cache row in which position j of row n was written
    pub ancestry: TensorId,
    pub heads: usize,
    /// D
    pub width: usize,
    pub scale: f32,
    /// (N, 1, D)
    pub output: TensorId,
}

impl Operate for CacheAppend {
    const NAME: &'static str = "cache_append";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x.tensor]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.cache]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[STEP]
    }

    fn needs_all_leads(&self) -> bool {
        true
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut cache = context.take(self.cache);
        let shape = context.shape(self.cache);
        let x = context.read(self.x.tensor);
        let step = context.scalar(STEP);
        for (n, cache) in cache.chunks_mut(shape.inner()).enumerate() {
            let begin = step * shape.cols;
            cache[begin..begin + shape.cols]
                .copy_from_slice(&x.at(n)[self.x.offset..self.x.offset + shape.cols]);
        }
        context.give(self.cache, cache);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let cache = recording.shape(self.cache);
        let count = cache.lead * cache.cols;
        vec![Launch {
            shader: "cache_append",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", count.into()),
                ("width", cache.cols.into()),
                ("capacity", cache.rows.into()),
                ("x_cols", recording.shape(self.x.tensor).cols.into()),
                ("x_offset", self.x.offset.into()),
            ],
            bindings: vec![
                ("x", self.x.tensor.into()),
                ("scalars", Binding::Scalars),
                ("cache", self.cache.into()),
            ],
            extent: Extent::Invocations(count),
        }]
    }
}

impl Operate for CachedAttention {
    const NAME: &'static str = "cached_attention";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.query.tensor, self.cache, self.ancestry]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.output]
    }

    /// For a cache that is full: how many positions it has is known only
    /// when it runs.
    fn flops(&self, recording: &Recording) -> u64 {
        let capacity = recording.shape(self.cache).rows as u64;
        4 * recording.shape(self.output).len() as u64 * capacity
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[STEP]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut output = context.take(self.output);
        let seen = context.scalar(STEP) + 1;
        let mut scores = context.take_scratch(seen);
        let query = context.read(self.query.tensor);
        let cache = context.read(self.cache);
        let capacity = cache.shape.rows;
        let ancestry = context.read_indices(self.ancestry);
        let depth = self.width / self.heads;
        let scale = T::from_f32(self.scale);
        for (output, n) in output.chunks_mut(self.width).zip(context.leads.clone()) {
            let row = |j: usize| {
                let at = ancestry[n * capacity + j] as usize;
                &cache.at(at)[j * cache.shape.cols..(j + 1) * cache.shape.cols]
            };
            for h in 0..self.heads {
                let own = h * depth..(h + 1) * depth;
                let q = &query.at(n)[self.query.offset..][own.clone()];
                let scores = &mut scores[..seen];
                for (j, score) in scores.iter_mut().enumerate() {
                    *score = scale * T::dot(q, &row(j)[own.clone()]);
                }
                let most = scores.iter().copied().reduce(max).unwrap_or_default();
                let inverse = T::from_f32(1.0) / T::exp_sum(scores, most);
                let output = &mut output[own.clone()];
                output.fill(T::default());
                for (j, &score) in scores.iter().enumerate() {
                    T::axpy(score * inverse, &row(j)[self.width..][own.clone()], output);
                }
            }
        }
        context.give_scratch(scores);
        context.give(self.output, output);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let rows = recording.shape(self.output).lead;
        vec![Launch {
            shader: "cached_attention",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("rows", rows.into()),
                ("capacity", recording.shape(self.cache).rows.into()),
                ("heads", self.heads.into()),
                ("width", self.width.into()),
                ("query_cols", recording.shape(self.query.tensor).cols.into()),
                ("query_offset", self.query.offset.into()),
                ("scale", self.scale.into()),
            ],
            bindings: vec![
                ("query", self.query.tensor.into()),
                ("cache", self.cache.into()),
                ("ancestry", self.ancestry.into()),
                ("scalars", Binding::Scalars),
                ("output", self.output.into()),
            ],
            extent: Extent::rows(rows * self.heads),
        }]
    }
}
