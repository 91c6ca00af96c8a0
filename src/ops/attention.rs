//! Multi-head attention: plain, causal, or with relative positions.
//!
//! Forward keeps only each row's maximum and the logarithm of its sum (and,
//! where asked, emits the probabilities); reverse computes the probabilities
//! again from them, once for all cotangents of a forward row.
//!
//! Relative positions follow Transformer-XL as the FBK conformer uses it: the
//! score of query i and key j is
//! `[(q_i + u)·k_j + R_shifted(i, j)] · scale`, where R(i, t) = (q_i + v)·p_t
//! and the row-major shift of R with one zero column in front gives
//! R(i, T-1-i+j) for j <= i, 0 for j = i+1, and R(i+1, j-i-2) beyond.

use rayon::prelude::*;

use super::Operate;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::gpu::shaders::{Param, Shader};
use crate::engine::native::context::{Context, View};
use crate::engine::native::linalg::{Matrix, MatrixMut, multiply};
use crate::engine::native::real::{Real, max};
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Columns, Shape, TensorId};
use crate::{Error, Result};

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    None,
    /// Those at its own position and before.
    Causal,
}

/// Operands of relative positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relative {
    /// (1, T, D): projected position encodings p
    pub positions: TensorId,
    /// (1, 2, D): u and v, added to queries before they meet keys and before
    /// they meet positions
    pub biases: TensorId,
}

/// output = softmax(scale · scores(query, key)) · value, head by head
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// (N or fewer, Tq, D) columns
    pub query: Columns,
    /// (N or fewer, Tk, D) columns
    pub key: Columns,
    /// (as key) columns
    pub value: Columns,
    pub heads: usize,
    /// D
    pub width: usize,
    pub scale: f32,
    pub mask: Mask,
    pub relative: Option<Relative>,
    /// (N, Tq, D)
    pub output: TensorId,
    /// (N, H·Tq, 2): maximum, logarithm of the sum
    pub statistics: TensorId,
    /// (N, H·Tq, Tk)
    pub probabilities: TensorId,
}

/// What the reverse of [`Attention`] needs to know of each query: the
/// logarithm of its sum of exp(score), and doutput · output, which is what
/// the cotangents of its probabilities come to on average.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionTerms {
    pub forward: Attention,
    /// (K·B, Tq, D)
    pub doutput: TensorId,
    /// (K·B, H·Tq, 2)
    pub terms: TensorId,
}

/// Reverse of [`Attention`].
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionReverse {
    pub forward: Attention,
    /// (K·B, Tq, D)
    pub doutput: TensorId,
    /// (K·B, H·Tq, 2), by [`AttentionTerms`]
    pub terms: TensorId,
    /// (K·B, Tq, ·) columns, where wanted
    pub dquery: Option<Columns>,
    /// (K·B, Tk, ·) columns of keys and of values, where wanted
    pub dkey_value: Option<(Columns, Columns)>,
}

/// What [`Recording::attention`] is to compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    pub query: Columns,
    pub key: Columns,
    pub value: Columns,
    pub heads: usize,
    pub width: usize,
    pub scale: f32,
    pub mask: Mask,
    pub relative: Option<Relative>,
}

impl Recording {
    /// Records attention; returns the output (N, Tq, D) and the probabilities
    /// (N, H·Tq, Tk), which are computed only if something uses them.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attention(&mut self, spec: AttentionSpec) -> Result<(TensorId, TensorId)> {
        let problem = |what: String| Err(Error::shape(Attention::NAME, what));
        let (query, key) = (self.shape(spec.query.tensor), self.shape(spec.key.tensor));
        let value = self.shape(spec.value.tensor);
        if spec.heads == 0 || !spec.width.is_multiple_of(spec.heads) {
            return problem(format!("{} columns in {} heads", spec.width, spec.heads));
        }
        for (columns, shape) in [(spec.query, query), (spec.key, key), (spec.value, value)] {
            if columns.offset + spec.width > shape.cols {
                return problem(format!("{} columns are not in {shape}", spec.width));
            }
        }
        let lead = query.lead.max(key.lead);
        if (key.lead, key.rows) != (value.lead, value.rows)
            || lead % query.lead != 0
            || lead % key.lead != 0
        {
            return problem(format!("queries {query}, keys {key} and values {value}"));
        }
        if spec.mask == Mask::Causal && query.rows != key.rows {
            return problem(format!("causal with {} on {} rows", query.rows, key.rows));
        }
        if let Some(relative) = spec.relative
            && (query.rows != key.rows
                || spec.mask != Mask::None
                || self.shape(relative.positions) != Shape::new(1, key.rows, spec.width)
                || self.shape(relative.biases) != Shape::new(1, 2, spec.width))
        {
            return problem(format!(
                "relative positions {} with biases {} on {} rows",
                self.shape(relative.positions),
                self.shape(relative.biases),
                key.rows
            ));
        }
        let deepest = Shader::load(Attention::NAME).constant("MAX_DEPTH") as usize;
        if spec.width / spec.heads > deepest {
            return problem(format!(
                "heads of {} columns; there may be {deepest}",
                spec.width / spec.heads
            ));
        }
        let output = self.computed(Shape::new(lead, query.rows, spec.width));
        let rows = spec.heads * query.rows;
        let statistics = self.computed(Shape::new(lead, rows, 2));
        let probabilities = self.computed(Shape::new(lead, rows, key.rows));
        self.push(Attention {
            query: spec.query,
            key: spec.key,
            value: spec.value,
            heads: spec.heads,
            width: spec.width,
            scale: spec.scale,
            mask: spec.mask,
            relative: spec.relative,
            output,
            statistics,
            probabilities,
        });
        Ok((output, probabilities))
    }
}

impl Attention {
    /// Operations of one product of all heads for one lead row, such as that
    /// of queries and keys; masked pairs are not counted.
    fn product_flops(&self, recording: &Recording) -> u64 {
        let queries = recording.shape(self.query.tensor).rows as u64;
        let keys = recording.shape(self.key.tensor).rows as u64;
        let pairs = match self.mask {
            Mask::None => queries * keys,
            Mask::Causal => queries * (queries + 1) / 2,
        };
        2 * pairs * self.width as u64
    }
}

impl Attention {
    fn operands(&self) -> Vec<TensorId> {
        let mut all = vec![self.query.tensor, self.key.tensor, self.value.tensor];
        all.dedup();
        if let Some(relative) = self.relative {
            all.push(relative.positions);
            all.push(relative.biases);
        }
        all
    }
}

/// One head's operands for one lead row.
struct Head<'a, T> {
    query: Matrix<'a, T>,
    key: Matrix<'a, T>,
    value: Matrix<'a, T>,
    /// Positions, u and v of this head.
    relative: Option<(Matrix<'a, T>, &'a [T], &'a [T])>,
    scale: T,
    mask: Mask,
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
        let keys = self.key.shape.rows;
        Head {
            query: cut(&self.query, attention.query),
            key: cut(&self.key, attention.key),
            value: cut(&self.value, attention.value),
            relative: self.relative.map(|(positions, u, v)| {
                let range = h * depth..(h + 1) * depth;
                (
                    columns(positions, keys, width, h * depth, depth),
                    &u[range.clone()],
                    &v[range],
                )
            }),
            scale: T::from_f32(attention.scale),
            mask: attention.mask,
        }
    }
}

/// Elements of scratch memory that [`Head::scores`] wants.
fn scores_scratch(relative: bool, queries: usize, keys: usize, depth: usize) -> usize {
    if relative {
        queries * depth + queries * keys
    } else {
        0
    }
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
            multiply(self.query, self.key.transposed(), self.scale, false, out, parallel);
            return;
        };
        let (biased, rest) = scratch.split_at_mut(queries * depth);
        self.biased_queries(u, biased);
        let out = MatrixMut::new(scores, queries, keys, keys);
        let with_u = Matrix::new(biased, queries, depth, depth);
        multiply(with_u, self.key.transposed(), self.scale, false, out, parallel);

        self.biased_queries(v, biased);
        let shifted = &mut rest[..queries * keys];
        let out = MatrixMut::new(shifted, queries, keys, keys);
        let with_v = Matrix::new(biased, queries, depth, depth);
        multiply(with_v, positions.transposed(), self.scale, false, out, parallel);
        for (i, row) in scores.chunks_mut(keys).enumerate() {
            let one = T::from_f32(1.0);
            let (past, future) = row.split_at_mut(i + 1);
            T::axpy(one, &shifted[i * keys + keys - 1 - i..][..i + 1], past);
            if future.len() > 1 {
                let next = &shifted[(i + 1) * keys..][..future.len() - 1];
                T::axpy(one, next, &mut future[1..]);
            }
        }
    }

    /// How many keys query `i` sees.
    fn seen(&self, i: usize) -> usize {
        match self.mask {
            Mask::None => self.key.rows,
            Mask::Causal => i + 1,
        }
    }

    /// Softmax of the scores in place; writes (maximum, log of sum) per row.
    fn softmax(&self, scores: &mut [T], mut statistics: Option<&mut [T]>) {
        for (i, row) in scores.chunks_mut(self.key.rows).enumerate() {
            let (seen, hidden) = row.split_at_mut(self.seen(i));
            let most = seen.iter().copied().reduce(max).unwrap_or_default();
            let sum = T::exp_sum(seen, most);
            let inverse = T::from_f32(1.0) / sum;
            seen.iter_mut().for_each(|p| *p = *p * inverse);
            hidden.fill(T::default());
            if let Some(statistics) = statistics.as_deref_mut() {
                statistics[2 * i] = most;
                statistics[2 * i + 1] = sum.ln();
            }
        }
    }

    /// Probabilities from scores and saved terms, in place.
    fn probabilities(&self, scores: &mut [T], terms: &[T]) {
        for (i, row) in scores.chunks_mut(self.key.rows).enumerate() {
            let (seen, hidden) = row.split_at_mut(self.seen(i));
            T::exp_sum(seen, terms[2 * i]);
            hidden.fill(T::default());
        }
    }
}

impl Operate for Attention {
    const NAME: &'static str = "attention";

    fn inputs(&self) -> Vec<TensorId> {
        self.operands()
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.output, self.statistics, self.probabilities]
    }

    fn flops(&self, recording: &Recording) -> u64 {
        let lead = recording.shape(self.output).lead as u64;
        let scores = 1 + u64::from(self.relative.is_some());
        lead * (scores + 1) * self.product_flops(recording)
    }

    fn reverse(&self, walk: &mut Reverse) -> Result<()> {
        let Some(doutput) = walk.cotangent(self.output) else {
            return Err(Error::shape(
                Self::NAME,
                "attention weights themselves have no reverse",
            ));
        };
        let lead = walk.recording.shape(doutput).lead;
        // One cotangent for every distinct forward tensor: projections that
        // were computed together are reversed together.
        let mut made: Vec<(TensorId, TensorId)> = Vec::new();
        let mut cotangent = |walk: &mut Reverse, from: Columns| {
            let known = made.iter().find(|(forward, _)| *forward == from.tensor);
            let tensor = known.map(|(_, d)| *d).unwrap_or_else(|| {
                let d = walk.new_cotangent(from.tensor, lead);
                made.push((from.tensor, d));
                d
            });
            Columns {
                tensor,
                offset: from.offset,
            }
        };
        let dquery = walk
            .needs(self.query.tensor)
            .then(|| cotangent(walk, self.query));
        if walk.needs(self.key.tensor) != walk.needs(self.value.tensor) {
            return Err(Error::shape(
                Self::NAME,
                "either keys or values alone depend on the explained sound",
            ));
        }
        let dkey_value = walk
            .needs(self.key.tensor)
            .then(|| (cotangent(walk, self.key), cotangent(walk, self.value)));
        for (forward, _) in &made {
            let all = [self.query, self.key, self.value];
            let parts = all.iter().filter(|part| part.tensor == *forward).count();
            let cols = walk.recording.shape(*forward).cols;
            if parts * self.width != cols {
                return Err(Error::shape(
                    Self::NAME,
                    format!("only {parts} parts of {} columns are used of {cols}", self.width),
                ));
            }
        }
        let statistics = walk.recording.shape(self.statistics);
        let terms = walk.recording.computed(statistics.with_lead(lead));
        walk.recording.push(AttentionTerms {
            forward: self.clone(),
            doutput,
            terms,
        });
        walk.recording.push(AttentionReverse {
            forward: self.clone(),
            doutput,
            terms,
            dquery,
            dkey_value,
        });
        for (forward, d) in made {
            walk.contribute(forward, d);
        }
        Ok(())
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut output = context.take(self.output);
        let mut statistics = context.take(self.statistics);
        let mut probabilities = context.take(self.probabilities);
        let shape = context.shape(self.query.tensor);
        let (queries, keys) = (shape.rows, context.shape(self.key.tensor).rows);
        let depth = self.width / self.heads;
        let extra = scores_scratch(self.relative.is_some(), queries, keys, depth);
        let per_head = queries * keys + extra;
        let spread = context.parallel && self.heads > 1;
        let mut scratch = context.take_scratch(per_head * if spread { self.heads } else { 1 });
        let operands = Operands::new(self, context);
        for (index, n) in context.leads.clone().enumerate() {
            let one = |h: usize, scratch: &mut [T], statistics: Option<&mut [T]>, nested: bool| {
                let head = operands.head(self, n, h);
                let (scores, rest) = scratch.split_at_mut(queries * keys);
                head.scores(scores, rest, nested);
                head.softmax(scores, statistics);
            };
            let weigh = |h: usize, scores: &[T], output: &mut [T], nested: bool| {
                let head = operands.head(self, n, h);
                let out = &mut output[h * depth..];
                let out = MatrixMut::new(out, queries, depth, self.width);
                let weights = Matrix::new(scores, queries, keys, keys);
                multiply(weights, head.value, T::from_f32(1.0), false, out, nested);
            };
            let own = index * queries * self.width;
            let output = &mut output[own..own + queries * self.width];
            let rows = self.heads * queries;
            let mut all_statistics = statistics
                .is_live()
                .then(|| &mut statistics[index * rows * 2..(index + 1) * rows * 2]);
            if spread {
                let parts = scratch[..per_head * self.heads].par_chunks_mut(per_head);
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
            for h in 0..self.heads {
                let begin = if spread { h * per_head } else { 0 };
                let scratch = &mut scratch[begin..begin + per_head];
                if !spread {
                    let own = all_statistics
                        .as_deref_mut()
                        .map(|all| &mut all[h * queries * 2..(h + 1) * queries * 2]);
                    one(h, scratch, own, context.parallel);
                }
                let scores = &scratch[..queries * keys];
                weigh(h, scores, output, context.parallel);
                if probabilities.is_live() {
                    let begin = (index * self.heads + h) * queries * keys;
                    probabilities[begin..begin + queries * keys].copy_from_slice(scores);
                }
            }
        }
        context.give_scratch(scratch);
        context.give(self.output, output);
        context.give(self.statistics, statistics);
        context.give(self.probabilities, probabilities);
    }

    fn launches(&self, recording: &Recording, live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let shape = recording.shape(self.output);
        let wanted = |id: TensorId| live(id).then_some(id);
        let (output, statistics) = (wanted(self.output), wanted(self.statistics));
        let [query, key, value, positions, biases] = self.bindings();
        let extent = self.extent("TILE", shape.rows, shape.lead);
        let mut launches = Vec::new();
        if output.is_some() || statistics.is_some() {
            let mut overrides = self.overrides();
            overrides.push(("WRITE_OUTPUT", flag(output.is_some())));
            overrides.push(("WRITE_STATISTICS", flag(statistics.is_some())));
            launches.push(Launch {
                shader: Self::NAME,
                entry: "forward",
                overrides,
                params: self.params(recording, shape.lead, &[]),
                bindings: vec![
                    query,
                    key,
                    value,
                    positions,
                    biases,
                    ("doutput", Binding::Absent),
                    ("output", output.into()),
                    ("statistics", statistics.into()),
                ],
                extent,
            });
        }
        if live(self.probabilities) {
            launches.push(Launch {
                shader: Self::NAME,
                entry: "emit_probabilities",
                // However wide the heads: it sums over no rows.
                overrides: self.mask_overrides(),
                params: self.params(recording, shape.lead, &[]),
                bindings: vec![
                    query,
                    key,
                    value,
                    positions,
                    biases,
                    ("doutput", Binding::Absent),
                    ("probabilities", self.probabilities.into()),
                ],
                extent,
            });
        }
        launches
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// What the launches of attention and of its reverse have in common.
impl Attention {
    fn depth(&self) -> usize {
        self.width / self.heads
    }

    fn mask_overrides(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("CAUSAL", flag(self.mask == Mask::Causal)),
            ("RELATIVE", flag(self.relative.is_some())),
        ]
    }

    fn overrides(&self) -> Vec<(&'static str, f64)> {
        let narrow = Shader::load(Self::NAME).constant("NARROW_DEPTH") as usize;
        let mut overrides = self.mask_overrides();
        overrides.push(("WIDE", flag(self.depth() > narrow)));
        overrides
    }

    /// All members of the shader's `Params`; those of results in columns of a
    /// wider tensor are zero where `columns` does not give them.
    fn params(
        &self,
        recording: &Recording,
        lead: usize,
        columns: &[(&'static str, usize)],
    ) -> Vec<(&'static str, Param)> {
        let query = recording.shape(self.query.tensor);
        let key = recording.shape(self.key.tensor);
        let value = recording.shape(self.value.tensor);
        let mut params: Vec<(&'static str, Param)> = vec![
            ("lead", lead.into()),
            ("lead_query", query.lead.into()),
            ("lead_key", key.lead.into()),
            ("queries", query.rows.into()),
            ("keys", key.rows.into()),
            ("heads", self.heads.into()),
            ("depth", self.depth().into()),
            ("scale", self.scale.into()),
            ("query_columns", query.cols.into()),
            ("query_offset", self.query.offset.into()),
            ("key_columns", key.cols.into()),
            ("key_offset", self.key.offset.into()),
            ("value_columns", value.cols.into()),
            ("value_offset", self.value.offset.into()),
        ];
        for name in ["d_columns", "dquery_offset", "dkey_offset", "dvalue_offset"] {
            let given = columns.iter().find(|(known, _)| *known == name);
            params.push((name, given.map_or(0, |(_, value)| *value).into()));
        }
        params
    }

    fn bindings(&self) -> [(&'static str, Binding); 5] {
        [
            ("query", self.query.tensor.into()),
            ("key", self.key.tensor.into()),
            ("value", self.value.tensor.into()),
            ("positions", self.relative.map(|r| r.positions).into()),
            ("biases", self.relative.map(|r| r.biases).into()),
        ]
    }

    /// A workgroup for each tile of `rows`, head and lead row.
    fn extent(&self, tile: &str, rows: usize, lead: usize) -> Extent {
        let tile = Shader::load(Self::NAME).constant(tile) as usize;
        Extent::grid(rows.div_ceil(tile) * self.heads, lead)
    }
}

impl Operate for AttentionTerms {
    const NAME: &'static str = "attention_terms";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.forward.output, self.forward.statistics, self.doutput]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.terms]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut terms = context.take(self.terms);
        let output = context.read(self.forward.output);
        let statistics = context.read(self.forward.statistics);
        let doutput = context.read(self.doutput);
        let (queries, width) = (output.shape.rows, output.shape.cols);
        let depth = width / self.forward.heads;
        for (index, n) in context.leads.clone().enumerate() {
            let (output, doutput) = (output.at(n), doutput.at(n));
            let statistics = statistics.at(n).chunks(2);
            let own = &mut terms[index * statistics.len() * 2..][..statistics.len() * 2];
            for (row, (terms, known)) in own.chunks_mut(2).zip(statistics).enumerate() {
                let begin = row % queries * width + row / queries * depth;
                let own = begin..begin + depth;
                terms[0] = known[0] + known[1];
                terms[1] = T::dot(&output[own.clone()], &doutput[own]);
            }
        }
        context.give(self.terms, terms);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let (output, terms) = (
            recording.shape(self.forward.output),
            recording.shape(self.terms),
        );
        let shader = Shader::load(Self::NAME);
        let rows = terms.lead * terms.rows;
        vec![Launch {
            shader: Self::NAME,
            entry: "forward",
            overrides: Vec::new(),
            params: vec![
                ("lead", terms.lead.into()),
                ("batch", output.lead.into()),
                ("queries", output.rows.into()),
                ("heads", self.forward.heads.into()),
                ("depth", (self.forward.width / self.forward.heads).into()),
            ],
            bindings: vec![
                ("output", self.forward.output.into()),
                ("statistics", self.forward.statistics.into()),
                ("doutput", self.doutput.into()),
                ("terms", self.terms.into()),
            ],
            extent: Extent::rows(rows.div_ceil(shader.constant("LANES") as usize)),
        }]
    }
}

impl AttentionReverse {
    /// Distinct tensors that receive cotangents.
    fn results(&self) -> Vec<TensorId> {
        let parts = self
            .dquery
            .into_iter()
            .chain(self.dkey_value.into_iter().flat_map(|(key, value)| [key, value]));
        let mut all: Vec<TensorId> = Vec::new();
        for part in parts {
            if !all.contains(&part.tensor) {
                all.push(part.tensor);
            }
        }
        all
    }
}

/// Cotangent of the unshifted position scores: dR from dS, both (T, T).
fn unshift<T: Real>(ds: &[T], dr: &mut [T], keys: usize) {
    dr.fill(T::default());
    for (i, row) in ds.chunks(keys).enumerate() {
        let (past, future) = row.split_at(i + 1);
        dr[i * keys + keys - 1 - i..][..i + 1].copy_from_slice(past);
        if future.len() > 1 {
            // The shift reads these of the next row.
            dr[(i + 1) * keys..][..future.len() - 1].copy_from_slice(&future[1..]);
        }
    }
}

impl Operate for AttentionReverse {
    const NAME: &'static str = "attention_reverse";

    fn inputs(&self) -> Vec<TensorId> {
        let mut all = self.forward.operands();
        all.extend([self.doutput, self.terms]);
        all
    }

    fn outputs(&self) -> Vec<TensorId> {
        self.results()
    }

    /// Scores once for every forward row; dP, and what it is wanted for, for
    /// every cotangent.
    fn flops(&self, recording: &Recording) -> u64 {
        let forward = recording.shape(self.forward.output).lead as u64;
        let cotangents = recording.shape(self.doutput).lead as u64;
        let scores = 1 + u64::from(self.forward.relative.is_some());
        let mut products = 1;
        if self.dquery.is_some() {
            products += scores;
        }
        if self.dkey_value.is_some() {
            products += 2;
        }
        (forward * scores + cotangents * products) * self.forward.product_flops(recording)
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let forward = &self.forward;
        let ids = self.results();
        let mut results: Vec<_> = ids.iter().map(|&id| (id, context.take(id))).collect();
        let shapes: Vec<Shape> = ids.iter().map(|&id| context.shape(id)).collect();
        let queries = context.shape(forward.query.tensor).rows;
        let keys = context.shape(forward.key.tensor).rows;
        let depth = forward.width / forward.heads;
        let relative = forward.relative.is_some();
        let square = queries * keys;
        let extra = scores_scratch(relative, queries, keys, depth);
        let mut scratch = context.take_scratch(2 * square + extra.max(queries * depth));
        let operands = Operands::new(forward, context);
        let terms = context.read(self.terms);
        let doutput = context.read(self.doutput);
        let batch = context.shape(forward.output).lead;
        let leads = context.leads.clone();
        let parallel = context.parallel;
        let one = T::from_f32(1.0);
        for (b, h) in (0..batch).flat_map(|b| (0..forward.heads).map(move |h| (b, h))) {
            // All cotangents of forward row b that this call has.
            let mut own = leads.clone().filter(|n| n % batch == b).peekable();
            if own.peek().is_none() {
                continue;
            }
            let head = operands.head(forward, b, h);
            let (p, rest) = scratch.split_at_mut(square);
            let (ds, rest) = rest.split_at_mut(square);
            head.scores(p, rest, parallel);
            let rows = h * queries * 2..(h + 1) * queries * 2;
            // The logarithms are those of the forward row, the same for all.
            let first = own.peek().map_or(0, |&n| n);
            head.probabilities(p, &terms.at(first)[rows.clone()]);
            let p = &*p;
            let p_matrix = Matrix::new(p, queries, keys, keys);
            for n in own {
                let d = columns(doutput.at(n), queries, forward.width, h * depth, depth);
                let mut write = |to: Columns, a: Matrix<T>, b: Matrix<T>, add: bool, scale: T| {
                    let result = ids.iter().position(|&id| id == to.tensor);
                    let result = result.expect("every part has its tensor");
                    if !results[result].1.is_live() {
                        return;
                    }
                    let shape = shapes[result];
                    let begin = (n - leads.start) * shape.inner();
                    let own = &mut results[result].1[begin..begin + shape.inner()];
                    let out = MatrixMut::new(
                        &mut own[to.offset + h * depth..],
                        shape.rows,
                        depth,
                        shape.cols,
                    );
                    multiply(a, b, scale, add, out, parallel);
                };
                // dV = Pᵀ dO; dS = P · (dO Vᵀ - delta).
                if let Some((_, to)) = self.dkey_value {
                    write(to, p_matrix.transposed(), d, false, one);
                }
                let out = MatrixMut::new(ds, queries, keys, keys);
                multiply(d, head.value.transposed(), one, false, out, parallel);
                let own_terms = terms.at(n)[rows.clone()].chunks(2);
                for ((p, ds), terms) in p.chunks(keys).zip(ds.chunks_mut(keys)).zip(own_terms) {
                    let delta = terms[1];
                    for (ds, &p) in ds.iter_mut().zip(p) {
                        *ds = p * (*ds - delta);
                    }
                }
                let ds_matrix = Matrix::new(ds, queries, keys, keys);
                if let Some((to, _)) = self.dkey_value {
                    match head.relative {
                        None => write(to, ds_matrix.transposed(), head.query, false, head.scale),
                        Some((_, u, _)) => {
                            let biased = &mut rest[..queries * depth];
                            head.biased_queries(u, biased);
                            let with_u = Matrix::new(biased, queries, depth, depth);
                            write(to, ds_matrix.transposed(), with_u, false, head.scale);
                        }
                    }
                }
                if let Some(to) = self.dquery {
                    write(to, ds_matrix, head.key, false, head.scale);
                    if let Some((positions, ..)) = head.relative {
                        let dr = &mut rest[..square];
                        unshift(ds, dr, keys);
                        let dr = Matrix::new(dr, queries, keys, keys);
                        write(to, dr, positions, true, head.scale);
                    }
                }
            }
        }
        context.give_scratch(scratch);
        for (id, result) in results {
            context.give(id, result);
        }
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let forward = &self.forward;
        let lead = recording.shape(self.doutput).lead;
        let columns = |to: Columns| recording.shape(to.tensor).cols;
        let operands = || -> Vec<(&'static str, Binding)> {
            let own = [("terms", self.terms.into()), ("doutput", self.doutput.into())];
            forward.bindings().into_iter().chain(own).collect()
        };
        let mut launches = Vec::new();
        if let Some(to) = self.dquery {
            let mut bindings = operands();
            bindings.push(("dquery", to.tensor.into()));
            let tile = match forward.relative {
                None => "TILE",
                Some(_) => "RELATIVE_TILE",
            };
            let queries = recording.shape(forward.query.tensor).rows;
            let own = [("d_columns", columns(to)), ("dquery_offset", to.offset)];
            launches.push(Launch {
                shader: Attention::NAME,
                entry: "reverse_query",
                overrides: forward.overrides(),
                params: forward.params(recording, lead, &own),
                bindings,
                extent: forward.extent(tile, queries, lead),
            });
        }
        let keys = recording.shape(forward.key.tensor).rows;
        let mut key_value = |to: TensorId, key: Option<usize>, value: Option<usize>| {
            let mut bindings = operands();
            bindings.push(("dkey_value", to.into()));
            let mut overrides = forward.overrides();
            overrides.push(("WRITE_DKEY", flag(key.is_some())));
            overrides.push(("WRITE_DVALUE", flag(value.is_some())));
            let own = [
                ("d_columns", recording.shape(to).cols),
                ("dkey_offset", key.unwrap_or(0)),
                ("dvalue_offset", value.unwrap_or(0)),
            ];
            launches.push(Launch {
                shader: Attention::NAME,
                entry: "reverse_key_value",
                overrides,
                params: forward.params(recording, lead, &own),
                bindings,
                extent: forward.extent("TILE", keys, lead),
            });
        };
        match self.dkey_value {
            Some((key, value)) if key.tensor == value.tensor => {
                key_value(key.tensor, Some(key.offset), Some(value.offset));
            }
            // No launch may bind two tensors that could share memory for writing.
            Some((key, value)) => {
                key_value(key.tensor, Some(key.offset), None);
                key_value(value.tensor, None, Some(value.offset));
            }
            None => {}
        }
        launches
    }
}
