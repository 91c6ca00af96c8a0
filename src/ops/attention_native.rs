//! Attention and its reverse on the processor.
//!
//! Where the scores of a head are more than a cache holds, they exist block by
//! block, and what all blocks read is a [`Factor`]. Relative positions shift
//! whole rows of scores, so there a head's scores exist at once.

use super::Activation;
use std::ops::Range;

use rayon::prelude::*;

use super::attention::{Attention, AttentionReverse, Mask};
use crate::engine::native::context::{Context, Output, View};
use crate::engine::native::linalg::{BAND, Factor, Matrix, MatrixMut, factor_len, multiply};
use crate::engine::native::real::Real;
use crate::engine::tensor::{Columns, Shape, TensorId};

/// Queries from which on the forward pass takes them by blocks.
const MANY_QUERIES: usize = 96;

/// Queries of a block of the forward pass, which takes them with all keys. With
/// tiles the scores of 1,500 keys stay in the cache; `gemm` copies the keys for
/// each block, and wants larger ones.
fn block_queries<T: Real>() -> usize {
    match T::tiles() {
        Some(_) => BAND,
        None => MANY_QUERIES,
    }
}

/// Blocks of the forward pass for each thread whose scores exist at once: of all
/// blocks together they would be those of all queries.
const BLOCKS_A_THREAD: usize = 8;

/// Bytes of keys and values of heads that are taken together where threads share a
/// sound: so they meet once for all heads of a short one, and a block's factors stay
/// in a core's cache.
const HEADS_TOGETHER: usize = 5 << 18;

/// Queries and keys of a block of the reverse: probabilities and their
/// cotangents take 139 kB each.
const BLOCK: [usize; 2] = [128, 256];

/// Queries from which on the reverse's factors are packed: below, that takes longer
/// than it saves.
const WORTH_PACKING: usize = 32;

/// Rows of a block of the reverse are so many numbers further apart than they are
/// long: by powers of two they would compete for a few places in the cache.
const GAP: usize = 16;

/// One head's operands for one lead row.
struct Head<'a, T> {
    query: Matrix<'a, T>,
    key: Matrix<'a, T>,
    value: Matrix<'a, T>,
    /// Positions, u and v of this head.
    relative: Option<(Matrix<'a, T>, &'a [T], &'a [T])>,
    scale: T,
    mask: Mask,
    /// Columns of all heads.
    width: usize,
}

/// Views of all operands, from which heads are cut.
struct Operands<'a, T> {
    query: View<'a, T>,
    key: View<'a, T>,
    value: View<'a, T>,
    relative: Option<(&'a [T], &'a [T], &'a [T])>,
}

/// Rows of `width` columns, cut out of rows of `cols`.
fn columns<T>(data: &[T], rows: usize, cols: usize, offset: usize, width: usize) -> Matrix<'_, T> {
    Matrix::new(&data[offset..], rows, width, cols)
}

impl<'a, T: Real> Operands<'a, T> {
    fn new(attention: &Attention, context: &'a Context<'_, T>) -> Self {
        let all = |id| context.read(id).all();
        Self {
            query: context.read(attention.query.tensor),
            key: context.read(attention.key.tensor),
            value: context.read(attention.value.tensor),
            relative: attention.relative.map(|relative| {
                let (u, v) = all(relative.biases).split_at(attention.width);
                (all(relative.positions), u, v)
            }),
        }
    }

    /// Head `h` for lead row `n`.
    fn head(&self, attention: &Attention, n: usize, h: usize) -> Head<'a, T> {
        let (width, depth) = (attention.width, attention.width / attention.heads);
        let cut = |view: &View<'a, T>, from: Columns| {
            let Shape { rows, cols, .. } = view.shape;
            columns(view.at(n), rows, cols, from.offset + h * depth, depth)
        };
        Head {
            query: cut(&self.query, attention.query),
            key: cut(&self.key, attention.key),
            value: cut(&self.value, attention.value),
            relative: self.relative.map(|(positions, u, v)| {
                let range = h * depth..(h + 1) * depth;
                (
                    columns(positions, positions.len() / width, width, h * depth, depth),
                    &u[range.clone()],
                    &v[range],
                )
            }),
            scale: T::from_f32(attention.scale),
            mask: attention.mask,
            width,
        }
    }
}

/// Elements of scratch memory that [`Head::scores`] wants.
fn scores_scratch<T: Real>(
    attention: &Attention,
    context: &Context<T>,
    queries: usize,
    depth: usize,
) -> usize {
    let relative = attention.relative.map(|own| context.shape(own.positions));
    relative.map_or(0, |positions| queries * (depth + positions.rows))
}

impl<T: Real> Head<'_, T> {
    /// Writes the queries plus `bias`.
    fn biased_queries(&self, bias: &[T], out: &mut [T]) {
        for (row, out) in out.chunks_mut(self.query.cols).enumerate() {
            for ((out, &q), &b) in out.iter_mut().zip(self.query.row(row)).zip(bias) {
                *out = q + b;
            }
        }
    }

    /// Scaled scores (Tq, Tk); masked ones are left unspecified.
    fn scores(&self, scores: &mut [T], scratch: &mut [T], parallel: bool) {
        let (queries, keys, depth) = (self.query.rows, self.key.rows, self.query.cols);
        let Some((positions, u, v)) = self.relative else {
            let out = MatrixMut::new(scores, queries, keys, keys);
            multiply(
                self.query,
                self.key.transposed(),
                self.scale,
                false,
                out,
                parallel,
            );
            return;
        };
        let (biased, rest) = scratch.split_at_mut(queries * depth);
        self.biased_queries(u, biased);
        let out = MatrixMut::new(scores, queries, keys, keys);
        let with_u = Matrix::new(biased, queries, depth, depth);
        multiply(
            with_u,
            self.key.transposed(),
            self.scale,
            false,
            out,
            parallel,
        );

        self.biased_queries(v, biased);
        let reach = positions.rows;
        let shifted = &mut rest[..queries * reach];
        let out = MatrixMut::new(shifted, queries, reach, reach);
        let with_v = Matrix::new(biased, queries, depth, depth);
        multiply(
            with_v,
            positions.transposed(),
            self.scale,
            false,
            out,
            parallel,
        );
        for (i, row) in scores.chunks_mut(keys).enumerate() {
            let one = T::from_f32(1.0);
            let own = &shifted[i * reach + keys - 1 - i..];
            if reach == 2 * keys - 1 {
                T::axpy(one, &own[..keys], row);
                continue;
            }
            let (past, future) = row.split_at_mut(i + 1);
            T::axpy(one, &own[..i + 1], past);
            if future.len() > 1 {
                let next = &shifted[(i + 1) * keys..][..future.len() - 1];
                T::axpy(one, next, &mut future[1..]);
            }
        }
    }

    /// The keys that query `i` sees.
    fn seen(&self, i: usize) -> Range<usize> {
        self.mask.seen(i, self.key.rows)
    }

    /// The keys that any of these queries sees.
    fn seen_by(&self, queries: &Range<usize>) -> Range<usize> {
        self.seen(queries.start).start..self.seen(queries.end - 1).end
    }

    /// A factor of the reverse.
    fn factor<'b>(&self, matrix: Matrix<'b, T>, to: &'b mut [T], parallel: bool) -> Factor<'b, T> {
        if self.query.rows < WORTH_PACKING {
            return matrix.into();
        }
        Factor::pack(matrix, to, parallel)
    }

    /// Softmax of the scores in place; writes (maximum, log of sum) per row.
    fn softmax(&self, scores: &mut [T], mut statistics: Option<&mut [T]>) {
        for (i, row) in scores.chunks_mut(self.key.rows).enumerate() {
            let seen = only(row, self.seen(i));
            let most = T::largest(seen);
            let sum = T::exp_sum(seen, most);
            T::activate_in_place(Activation::None, T::from_f32(1.0) / sum, seen);
            if let Some(statistics) = statistics.as_deref_mut() {
                statistics[2 * i] = most;
                statistics[2 * i + 1] = sum.ln();
            }
        }
    }

    /// Probabilities from scores of `rows` of the queries with `keys` of the
    /// keys, and saved terms, in place; rows are `apart`.
    fn probabilities(
        &self,
        [rows, keys]: [&Range<usize>; 2],
        scores: &mut [T],
        apart: usize,
        terms: &[T],
    ) {
        for (i, row) in rows.clone().zip(scores.chunks_mut(apart)) {
            let seen = self.seen(i);
            let within = |key: usize| key.clamp(keys.start, keys.end) - keys.start;
            let seen = within(seen.start)..within(seen.end);
            T::exp_sum(only(&mut row[..keys.len()], seen), terms[2 * i]);
        }
    }
}

/// What is `seen` of a row; the rest becomes 0.
fn only<T: Real>(row: &mut [T], seen: Range<usize>) -> &mut [T] {
    row[..seen.start].fill(T::default());
    row[seen.end..].fill(T::default());
    &mut row[seen]
}

/// Writes the outputs of `attention`.
pub(super) fn forward<T: Real>(attention: &Attention, context: &mut Context<T>) {
    let queries = context.shape(attention.query.tensor).rows;
    let mut is_live = |id: TensorId| {
        let output = context.take(id);
        let live = output.is_live();
        context.give(id, output);
        live
    };
    let whole = attention.relative.is_some()
        || is_live(attention.probabilities)
        || !is_live(attention.output);
    if whole || queries <= MANY_QUERIES {
        forward_whole(attention, context);
    } else {
        forward_blocks(attention, context);
    }
}

/// [`forward`] by blocks of queries, where the output alone is wanted, or its statistics with it.
fn forward_blocks<T: Real>(attention: &Attention, context: &mut Context<T>) {
    let mut output = context.take(attention.output);
    let mut statistics = context.take(attention.statistics);
    let queries = context.shape(attention.query.tensor).rows;
    let keys = context.shape(attention.key.tensor).rows;
    let (width, depth) = (attention.width, attention.depth());
    let rows = attention.heads * queries;
    let height = block_queries::<T>();
    let blocks = queries.div_ceil(height);
    let parallel = context.parallel;
    let at_once = match parallel {
        true => blocks.min(BLOCKS_A_THREAD * rayon::current_num_threads()),
        false => 1,
    };
    let (key_len, value_len) = (factor_len::<T>(depth, keys), factor_len::<T>(keys, depth));
    let factor = key_len + value_len;
    let together = match parallel {
        true => (HEADS_TOGETHER / (factor * size_of::<T>())).clamp(1, attention.heads),
        false => 1,
    };
    // A block's scores of one head, and the statistics of all.
    let area = height * (keys + 2 * together);
    let mut scratch = context.take_scratch(factor * together + area * at_once);
    let (packed, areas) = scratch.split_at_mut(factor * together);
    let areas = &mut areas[..area * at_once];
    let operands = Operands::new(attention, context);
    for (index, n) in context.leads.clone().enumerate() {
        for first_head in (0..attention.heads).step_by(together) {
            let heads = first_head..attention.heads.min(first_head + together);
            // Every block reads all of them, and in rows of all heads each is on
            // pages of its own.
            let pack = |number: usize, to: &mut [T], parallel: bool| {
                let head = operands.head(attention, n, first_head + number);
                let (key, value) = to.split_at_mut(key_len);
                Factor::pack(head.key.transposed(), key, parallel);
                Factor::pack(head.value, value, parallel);
            };
            let packed = &mut packed[..factor * heads.len()];
            match heads.len() {
                1 => pack(0, packed, parallel),
                _ => packed
                    .par_chunks_mut(factor)
                    .enumerate()
                    .for_each(|(number, to)| pack(number, to, false)),
            }
            let packed = &*packed;
            let work = |block: usize, output: &mut [T], area: &mut [T]| {
                let first = block * height;
                let own = first..queries.min(first + height);
                let (scores, statistics) = area.split_at_mut(height * keys);
                for ((h, packed), statistics) in heads
                    .clone()
                    .zip(packed.chunks(factor))
                    .zip(statistics.chunks_mut(2 * height))
                {
                    let (key, value) = packed.split_at(key_len);
                    let factors = [
                        Factor::new(key, depth, keys),
                        Factor::new(value, keys, depth),
                    ];
                    let head = operands.head(attention, n, h);
                    let output = &mut output[h * depth..];
                    head.weigh_block(factors, &own, scores, statistics, output);
                }
            };
            let keep = |block: usize, area: &[T], statistics: &mut [T]| {
                let count = 2 * height.min(queries - block * height);
                let own = area[height * keys..].chunks(2 * height);
                for (h, own) in heads.clone().zip(own) {
                    let first = (index * rows + h * queries + block * height) * 2;
                    statistics[first..first + count].copy_from_slice(&own[..count]);
                }
            };
            let own = index * queries * width;
            let parts = &mut output[own..own + queries * width];
            for (turn, output) in parts.chunks_mut(at_once * height * width).enumerate() {
                let (first, blocks) = (turn * at_once, output.len().div_ceil(height * width));
                if parallel {
                    output
                        .par_chunks_mut(height * width)
                        .zip(areas.par_chunks_mut(area))
                        .enumerate()
                        .for_each(|(n, (output, area))| work(first + n, output, area));
                } else {
                    work(first, output, areas);
                }
                if statistics.is_live() {
                    for (n, area) in areas.chunks(area).take(blocks).enumerate() {
                        keep(first + n, area, &mut statistics);
                    }
                }
            }
        }
    }
    context.give_scratch(scratch);
    context.give(attention.output, output);
    context.give(attention.statistics, statistics);
}

impl<T: Real> Head<'_, T> {
    /// Values weighed by the probabilities of `rows` of the queries, into rows
    /// of `output` that lie as far apart as queries of all heads; the factors are
    /// keys (d, Tk) and values (Tk, d).
    fn weigh_block(
        &self,
        [keys, values]: [Factor<T>; 2],
        rows: &Range<usize>,
        scores: &mut [T],
        statistics: &mut [T],
        output: &mut [T],
    ) {
        let (count, depth, width) = (self.key.rows, self.value.cols, self.width);
        let scores = &mut scores[..rows.len() * count];
        let query = self.query.some_rows(rows.clone());
        let out = MatrixMut::new(scores, rows.len(), count, count);
        multiply(query, keys, self.scale, false, out, false);
        let own = scores.chunks_mut(count).zip(statistics.chunks_mut(2));
        for (i, (row, statistics)) in rows.clone().zip(own) {
            let seen = only(row, self.seen(i));
            statistics[0] = T::largest(seen);
            statistics[1] = T::exp_sum(seen, statistics[0]);
        }
        let out = MatrixMut::new(output, rows.len(), depth, width);
        let weights = Matrix::new(scores, rows.len(), count, count);
        let one = T::from_f32(1.0);
        multiply(weights, values, one, false, out, false);
        // Fewer numbers than probabilities.
        for (row, statistics) in output
            .chunks_mut(width)
            .zip(statistics.chunks_mut(2))
            .take(rows.len())
        {
            T::activate_in_place(Activation::None, one / statistics[1], &mut row[..depth]);
            statistics[1] = statistics[1].ln();
        }
    }
}

/// [`forward`] with all scores of a head at once.
fn forward_whole<T: Real>(attention: &Attention, context: &mut Context<T>) {
    let mut output = context.take(attention.output);
    let mut statistics = context.take(attention.statistics);
    let mut probabilities = context.take(attention.probabilities);
    let shape = context.shape(attention.query.tensor);
    let (queries, keys) = (shape.rows, context.shape(attention.key.tensor).rows);
    let depth = attention.depth();
    let extra = scores_scratch(attention, context, queries, depth);
    let per_head = queries * keys + extra;
    let spread = context.parallel && attention.heads > 1;
    let mut scratch = context.take_scratch(per_head * if spread { attention.heads } else { 1 });
    let operands = Operands::new(attention, context);
    for (index, n) in context.leads.clone().enumerate() {
        let one = |h: usize, scratch: &mut [T], statistics: Option<&mut [T]>, nested: bool| {
            let head = operands.head(attention, n, h);
            let (scores, rest) = scratch.split_at_mut(queries * keys);
            head.scores(scores, rest, nested);
            head.softmax(scores, statistics);
        };
        let weigh = |h: usize, scores: &[T], output: &mut [T], nested: bool| {
            let head = operands.head(attention, n, h);
            let out = &mut output[h * depth..];
            let out = MatrixMut::new(out, queries, depth, attention.width);
            let weights = Matrix::new(scores, queries, keys, keys);
            multiply(weights, head.value, T::from_f32(1.0), false, out, nested);
        };
        let own = index * queries * attention.width;
        // Who wants probabilities need not want what they weigh.
        let own = own..own + queries * attention.width;
        let mut output = output.is_live().then(|| &mut output[own]);
        let rows = attention.heads * queries;
        let mut all_statistics = statistics
            .is_live()
            .then(|| &mut statistics[index * rows * 2..(index + 1) * rows * 2]);
        if spread {
            let parts = scratch[..per_head * attention.heads].par_chunks_mut(per_head);
            match all_statistics.as_deref_mut() {
                Some(all) => parts
                    .zip(all.par_chunks_mut(queries * 2))
                    .enumerate()
                    .for_each(|(h, (scratch, own))| one(h, scratch, Some(own), false)),
                None => parts
                    .enumerate()
                    .for_each(|(h, scratch)| one(h, scratch, None, false)),
            }
        }
        for h in 0..attention.heads {
            let begin = if spread { h * per_head } else { 0 };
            let scratch = &mut scratch[begin..begin + per_head];
            if !spread {
                let own = all_statistics
                    .as_deref_mut()
                    .map(|all| &mut all[h * queries * 2..(h + 1) * queries * 2]);
                one(h, scratch, own, context.parallel);
            }
            let scores = &scratch[..queries * keys];
            if let Some(output) = output.as_deref_mut() {
                weigh(h, scores, output, context.parallel);
            }
            if probabilities.is_live() {
                let begin = (index * attention.heads + h) * queries * keys;
                probabilities[begin..begin + queries * keys].copy_from_slice(scores);
            }
        }
    }
    context.give_scratch(scratch);
    context.give(attention.output, output);
    context.give(attention.statistics, statistics);
    context.give(attention.probabilities, probabilities);
}

/// Where a call of the reverse writes.
struct Results<'a, T> {
    parts: Vec<(TensorId, Shape, Output<'a, T>)>,
    /// The first lead row that it computes.
    first: usize,
    parallel: bool,
}

impl<'a, T: Real> Results<'a, T> {
    /// Takes them, filled with zeros.
    fn take(reverse: &AttentionReverse, context: &mut Context<'a, T>) -> Self {
        let parts = reverse.results().into_iter().map(|id| {
            let mut result = context.take(id);
            result.fill(T::default());
            (id, context.shape(id), result)
        });
        Self {
            parts: parts.collect(),
            first: context.leads.start,
            parallel: context.parallel,
        }
    }

    fn give(self, context: &mut Context<'a, T>) {
        for (id, _, result) in self.parts {
            context.give(id, result);
        }
    }

    /// Rows of a part; cotangents may be of the first rows only.
    fn rows(&self, to: Columns) -> usize {
        let part = self.parts.iter().find(|(id, ..)| *id == to.tensor);
        part.map_or(0, |(_, shape, _)| shape.rows)
    }

    /// Adds `scale · a · b` to `rows` of some columns of lead row `n`.
    fn add<'b>(
        &mut self,
        (to, n): (Columns, usize),
        rows: &Range<usize>,
        a: Matrix<T>,
        b: impl Into<Factor<'b, T>>,
        scale: T,
    ) {
        let part = self.parts.iter_mut().find(|(id, ..)| *id == to.tensor);
        let Some((_, shape, result)) = part.filter(|(.., result)| result.is_live()) else {
            return;
        };
        let b = b.into();
        let begin = (n - self.first) * shape.inner() + rows.start * shape.cols + to.offset;
        let own = &mut result[begin..];
        let out = MatrixMut::new(own, rows.len(), b.cols(), shape.cols);
        multiply(a, b, scale, true, out, self.parallel);
    }
}

/// Memory of a block of the reverse.
struct BlockScratch<'a, T> {
    /// Probabilities and their cotangents, rows [`GAP`] apart.
    squares: [&'a mut [T]; 2],
    /// Transposed keys and values, keys, queries, and what comes back.
    factors: [&'a mut [T]; 5],
}

impl<'a, T: Real> BlockScratch<'a, T> {
    /// For blocks of so many queries and keys.
    fn lens([queries, keys]: [usize; 2], gap: usize, depth: usize) -> [usize; 7] {
        let square = queries * (keys + gap);
        let turned = factor_len::<T>(depth, keys);
        let own = |rows| factor_len::<T>(rows, depth);
        let (keys, queries) = (own(keys), own(queries));
        [square, square, turned, turned, keys, queries, queries]
    }

    /// Cuts it off some memory; also returns the rest.
    fn cut(mut memory: &'a mut [T], lens: [usize; 7]) -> (Self, &'a mut [T]) {
        let [p, ds, factors @ ..] = lens.map(|len| {
            let (own, rest) = std::mem::take(&mut memory).split_at_mut(len);
            memory = rest;
            own
        });
        let squares = [p, ds];
        (Self { squares, factors }, memory)
    }
}

/// A head in the reverse: its own columns of the results, and what comes back
/// for it.
struct Back<'a, T> {
    head: Head<'a, T>,
    dquery: Option<Columns>,
    dkey_value: Option<(Columns, Columns)>,
    doutput: View<'a, T>,
    /// The head's first column.
    column: usize,
    terms: View<'a, T>,
    /// Which of the terms are its own.
    own_terms: Range<usize>,
}

impl<'a, T: Real> Back<'a, T> {
    fn terms(&self, n: usize) -> &'a [T] {
        &self.terms.at(n)[self.own_terms.clone()]
    }

    /// The cotangent of the head's output.
    fn doutput(&self, n: usize) -> Matrix<'a, T> {
        let Shape { rows, cols, .. } = self.doutput.shape;
        columns(
            self.doutput.at(n),
            rows,
            cols,
            self.column,
            self.head.query.cols,
        )
    }

    /// dS = P · (dO Vᵀ - delta) of `rows` and so many keys, from the product in
    /// `ds`; rows are `apart`.
    fn slopes(
        &self,
        n: usize,
        (rows, keys): (&Range<usize>, usize),
        p: &[T],
        ds: &mut [T],
        apart: usize,
    ) {
        let terms = self.terms(n)[2 * rows.start..].chunks(2);
        let own = p.chunks(apart).zip(ds.chunks_mut(apart));
        for ((p, ds), terms) in own.zip(terms).take(rows.len()) {
            T::weigh_shifted(&p[..keys], terms[1], &mut ds[..keys]);
        }
    }

    /// The cotangents of lead rows `own`, block by block.
    fn blocks(&self, own: &[usize], scratch: BlockScratch<T>, results: &mut Results<T>) {
        let head = &self.head;
        let one = T::from_f32(1.0);
        let rows_of = |to: Option<Columns>| to.map_or(0, |to| results.rows(to));
        let wanted_rows = rows_of(self.dquery);
        let wanted_keys = rows_of(self.dkey_value.map(|(key, _)| key));
        let parallel = results.parallel;
        let [p, ds] = scratch.squares;
        let [
            keys_turned,
            values_turned,
            keys_own,
            queries_own,
            doutput_own,
        ] = scratch.factors;
        for keys in blocks(head.key.rows, wanted_keys, BLOCK[1]) {
            let to_keys = self.dkey_value.filter(|_| keys.start < wanted_keys);
            let key = head.key.some_rows(keys.clone());
            let value = head.value.some_rows(keys.clone());
            let keys_turned = head.factor(key.transposed(), keys_turned, parallel);
            let values_turned = head.factor(value.transposed(), values_turned, parallel);
            let keys_own = self.dquery.map(|_| head.factor(key, keys_own, parallel));
            let apart = keys.len() + GAP;
            for rows in blocks(head.query.rows, wanted_rows, BLOCK[0]) {
                let to_query = self.dquery.filter(|_| rows.start < wanted_rows);
                let seen = head.seen_by(&rows);
                let hidden = seen.end <= keys.start || seen.start >= keys.end;
                if hidden || (to_query.is_none() && to_keys.is_none()) {
                    continue;
                }
                let (height, width) = (rows.len(), keys.len());
                let query = head.query.some_rows(rows.clone());
                let out = MatrixMut::new(p, height, width, apart);
                multiply(query, keys_turned, head.scale, false, out, parallel);
                // The logarithms are those of the forward row, the same for all.
                head.probabilities([&rows, &keys], p, apart, self.terms(own[0]));
                let queries_own = to_keys.map(|_| head.factor(query, queries_own, parallel));
                for &n in own {
                    let doutput = self.doutput(n).some_rows(rows.clone());
                    let out = MatrixMut::new(ds, height, width, apart);
                    multiply(doutput, values_turned, one, false, out, parallel);
                    self.slopes(n, (&rows, width), p, ds, apart);
                    let p = Matrix::new(p, height, width, apart);
                    let ds = Matrix::new(ds, height, width, apart);
                    if let (Some((to_key, to_value)), Some(queries_own)) = (to_keys, queries_own) {
                        let doutput = head.factor(doutput, doutput_own, parallel);
                        let (to_key, to_value) = ((to_key, n), (to_value, n));
                        let (p, turned) = (p.transposed(), ds.transposed());
                        results.add(to_value, &keys, p, doutput, one);
                        results.add(to_key, &keys, turned, queries_own, head.scale);
                    }
                    if let (Some(to), Some(keys_own)) = (to_query, keys_own) {
                        results.add((to, n), &rows, ds, keys_own, head.scale);
                    }
                }
            }
        }
    }

    /// The same where queries and keys have relative positions, all rows and keys
    /// at once; `rest` is for what the shift moves.
    fn relative(
        &self,
        (positions, u): (Matrix<T>, &[T]),
        own: &[usize],
        (scratch, rest): (BlockScratch<T>, &mut [T]),
        results: &mut Results<T>,
    ) {
        let head = &self.head;
        let (queries, keys, depth) = (head.query.rows, head.key.rows, head.query.cols);
        let (all_rows, all_keys) = (0..queries, 0..keys);
        let (one, parallel) = (T::from_f32(1.0), results.parallel);
        let [p, ds] = scratch.squares;
        let [_, values_turned, keys_own, queries_own, doutput_own] = scratch.factors;
        let reach = positions.rows;
        let (positions_own, rest) = rest.split_at_mut(factor_len::<T>(reach, depth));
        head.scores(p, rest, parallel);
        head.probabilities([&all_rows, &all_keys], p, keys, self.terms(own[0]));
        let values_turned = head.factor(head.value.transposed(), values_turned, parallel);
        let keys_own = head.factor(head.key, keys_own, parallel);
        let positions = head.factor(positions, positions_own, parallel);
        let (biased, rest) = rest.split_at_mut(queries * depth);
        head.biased_queries(u, biased);
        let biased = Matrix::new(biased, queries, depth, depth);
        let queries_own = head.factor(biased, queries_own, parallel);
        for &n in own {
            let doutput = self.doutput(n);
            let out = MatrixMut::new(ds, queries, keys, keys);
            multiply(doutput, values_turned, one, false, out, parallel);
            self.slopes(n, (&all_rows, keys), p, ds, keys);
            let p = Matrix::new(p, queries, keys, keys);
            let slopes = Matrix::new(ds, queries, keys, keys);
            if let Some((to_key, to_value)) = self.dkey_value {
                let doutput = head.factor(doutput, doutput_own, parallel);
                let turned = slopes.transposed();
                results.add((to_value, n), &all_keys, p.transposed(), doutput, one);
                results.add((to_key, n), &all_keys, turned, queries_own, head.scale);
            }
            if let Some(to) = self.dquery {
                results.add((to, n), &all_rows, slopes, keys_own, head.scale);
                let dr = &mut rest[..queries * reach];
                unshift(ds, dr, keys, reach);
                let dr = Matrix::new(dr, queries, reach, reach);
                results.add((to, n), &all_rows, dr, positions, head.scale);
            }
        }
    }
}

/// 0..count in blocks of at most `size`, one of which ends at `wanted`.
fn blocks(count: usize, wanted: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let wanted = wanted.min(count);
    let cut = |all: Range<usize>| {
        let end = all.end;
        all.step_by(size)
            .map(move |first| first..(first + size).min(end))
    };
    cut(0..wanted).chain(cut(wanted..count))
}

/// Writes the cotangents of `reverse`.
pub(super) fn reverse<T: Real>(reverse: &AttentionReverse, context: &mut Context<T>) {
    let forward = &reverse.forward;
    let mut results = Results::take(reverse, context);
    let queries = context.shape(forward.query.tensor).rows;
    let keys = context.shape(forward.key.tensor).rows;
    let depth = forward.depth();
    let (lens, extra) = match forward.relative {
        None => {
            let block = [queries.min(BLOCK[0]), keys.min(BLOCK[1])];
            (BlockScratch::<T>::lens(block, GAP, depth), 0)
        }
        // Positions, biased queries, and scores while they are shifted.
        Some(relative) => {
            let reach = context.shape(relative.positions).rows;
            let positions = factor_len::<T>(reach, depth);
            (
                BlockScratch::<T>::lens([queries, keys], 0, depth),
                positions + scores_scratch(forward, context, queries, depth),
            )
        }
    };
    let mut scratch = context.take_scratch(lens.iter().sum::<usize>() + extra);
    let operands = Operands::new(forward, context);
    let batch = context.shape(forward.output).lead;
    for b in 0..batch {
        // All cotangents of forward row b that this call has.
        let own = context.leads.clone().filter(|n| n % batch == b);
        let own: Vec<usize> = own.collect();
        if own.is_empty() {
            continue;
        }
        for h in 0..forward.heads {
            let column = h * depth;
            let part = |to: Columns| Columns {
                offset: to.offset + column,
                ..to
            };
            let back = Back {
                head: operands.head(forward, b, h),
                dquery: reverse.dquery.map(part),
                dkey_value: reverse
                    .dkey_value
                    .map(|(key, value)| (part(key), part(value))),
                doutput: context.read(reverse.doutput),
                column,
                terms: context.read(reverse.terms),
                own_terms: h * queries * 2..(h + 1) * queries * 2,
            };
            let (block, rest) = BlockScratch::cut(&mut scratch, lens);
            match back.head.relative {
                None => back.blocks(&own, block, &mut results),
                Some((positions, u, _)) => {
                    back.relative((positions, u), &own, (block, rest), &mut results);
                }
            }
        }
    }
    context.give_scratch(scratch);
    results.give(context);
}

/// Cotangent of the unshifted position scores: dR (T, positions) from dS (T, T).
fn unshift<T: Real>(ds: &[T], dr: &mut [T], keys: usize, reach: usize) {
    dr.fill(T::default());
    for (i, row) in ds.chunks(keys).enumerate() {
        let own = &mut dr[i * reach + keys - 1 - i..];
        if reach == 2 * keys - 1 {
            own[..keys].copy_from_slice(row);
            continue;
        }
        let (past, future) = row.split_at(i + 1);
        own[..i + 1].copy_from_slice(past);
        if future.len() > 1 {
            // The shift reads these of the next row.
            dr[(i + 1) * keys..][..future.len() - 1].copy_from_slice(&future[1..]);
        }
    }
}
