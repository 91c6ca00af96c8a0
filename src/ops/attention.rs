//! Multi-head attention: plain, causal, within a window, or with relative positions.
//!
//! Forward keeps only each row's maximum and the logarithm of its sum (and,
//! where asked, emits the probabilities); reverse computes the probabilities
//! again from them, once for all cotangents of a forward row.
//!
//! Relative positions follow Transformer-XL: the score of query i and key j is
//! `[(q_i + u)·k_j + R(i, T-1-i+j)] · scale`, where R(i, t) = (q_i + v)·p_t and
//! there is a p for each of the 2T-1 distances. With T positions alone it is what
//! the row-major shift of R with one zero column in front makes of that:
//! R(i, T-1-i+j) for j <= i, 0 for j = i+1, and R(i+1, j-i-2) beyond.

use std::ops::Range;

use super::{Operate, attention_native};
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::gpu::shaders::{Param, Shader};
use crate::engine::native::context::Context;
use crate::engine::native::real::Real;
use crate::engine::recording::Recording;
use crate::engine::reverse::Reverse;
use crate::engine::tensor::{Columns, Shape, TensorId};
use crate::{Error, Result};

/// With so many scores in a head, computing them again for every cotangent
/// costs more than what cotangents lose by leaving the cache.
const MANY_SCORES: usize = 1 << 18;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    None,
    /// Those at its own position and before.
    Causal,
    /// Those from so many before its own position to so many behind it.
    Near { before: usize, behind: usize },
}

impl Mask {
    /// The keys that query `i` sees of `keys`.
    pub fn seen(self, i: usize, keys: usize) -> Range<usize> {
        match self {
            Self::None => 0..keys,
            Self::Causal => 0..(i + 1).min(keys),
            Self::Near { before, behind } => {
                i.saturating_sub(before)..i.saturating_add(behind + 1).min(keys)
            }
        }
    }

    /// How far before and behind its own position a query sees, with numbers that a
    /// shader can add to positions.
    fn reach(self) -> [usize; 2] {
        const ALL: usize = 1 << 30;
        match self {
            Self::None => [ALL; 2],
            Self::Causal => [ALL, 0],
            Self::Near { before, behind } => [before.min(ALL), behind.min(ALL)],
        }
    }
}

/// Operands of relative positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relative {
    /// (1, 2T-1, D) or, to be shifted, (1, T, D): projected position encodings p.
    /// For T = 1 both are the same.
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
    /// (K·B, Tq or fewer, ·) columns, where wanted
    pub dquery: Option<Columns>,
    /// (K·B, Tk or fewer, ·) columns of keys and of values, where wanted; fewer
    /// rows are the first, and with relative positions there are all
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
        if spec.mask != Mask::None && query.rows != key.rows {
            return problem(format!("masked with {} on {} rows", query.rows, key.rows));
        }
        let all_positions = |rows| Shape::new(1, rows, spec.width);
        if let Some(relative) = spec.relative
            && (query.rows != key.rows
                || spec.mask != Mask::None
                || ![key.rows, 2 * key.rows - 1]
                    .map(all_positions)
                    .contains(&self.shape(relative.positions))
                || self.shape(relative.biases) != Shape::new(1, 2, spec.width))
        {
            return problem(format!(
                "relative positions {} with biases {} on {} rows",
                self.shape(relative.positions),
                self.shape(relative.biases),
                key.rows
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
        let pairs: u64 = match self.mask {
            Mask::None => queries * keys,
            mask => {
                let seen = (0..queries).map(|i| mask.seen(i as usize, keys as usize).len() as u64);
                seen.sum()
            }
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
                let d = match self.relative {
                    None => walk.reached_cotangent(from.tensor, lead),
                    Some(_) => walk.new_cotangent(from.tensor, lead),
                };
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
        attention_native::forward(self, context);
    }

    fn launches(&self, recording: &Recording, live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let shape = recording.shape(self.output);
        let wanted = |id: TensorId| live(id).then_some(id);
        let (output, statistics) = (wanted(self.output), wanted(self.statistics));
        let [query, key, value, positions, biases] = self.bindings();
        let extent = self.extent("TILE", shape.rows, shape.lead);
        let mut launches = Vec::new();
        for first in self.passes() {
            let statistics = statistics.filter(|_| first == 0);
            if output.is_none() && statistics.is_none() {
                continue;
            }
            let mut overrides = self.overrides(recording, first);
            overrides.push(("WRITE_OUTPUT", flag(output.is_some())));
            overrides.push(("WRITE_STATISTICS", flag(statistics.is_some())));
            launches.push(Launch {
                shader: Self::NAME,
                entry: "forward",
                overrides,
                params: self.params(recording, shape.lead, &[("first_column", first)]),
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
                overrides: self.mask_overrides(recording),
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
    pub(super) fn depth(&self) -> usize {
        self.width / self.heads
    }

    /// Whether there are no positions for keys after their query.
    fn shifted(&self, recording: &Recording) -> bool {
        let keys = recording.shape(self.key.tensor).rows;
        let positions = self.relative.map(|own| recording.shape(own.positions).rows);
        positions.is_some_and(|positions| positions < 2 * keys - 1)
    }

    fn mask_overrides(&self, recording: &Recording) -> Vec<(&'static str, f64)> {
        vec![
            ("BOUNDED", flag(self.mask != Mask::None)),
            ("RELATIVE", flag(self.relative.is_some())),
            ("SHIFTED", flag(self.shifted(recording))),
        ]
    }

    /// The first columns of each head of the launches that sum over rows: a launch
    /// has memory for so many columns, and deeper heads take several.
    fn passes(&self) -> impl Iterator<Item = usize> + use<> {
        let most = Shader::load(Self::NAME).constant("MOST_COLUMNS") as usize;
        (0..self.depth()).step_by(most.max(1))
    }

    /// Those of a launch that sums over rows from column `first` on.
    fn overrides(&self, recording: &Recording, first: usize) -> Vec<(&'static str, f64)> {
        let narrow = Shader::load(Self::NAME).constant("NARROW") as usize;
        let mut overrides = self.mask_overrides(recording);
        overrides.push(("WIDE", flag(self.depth() - first > narrow)));
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
        let [before, behind] = self.mask.reach();
        let mut params: Vec<(&'static str, Param)> = vec![
            ("before", before.into()),
            ("behind", behind.into()),
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
        for name in [
            "first_column",
            "d_rows",
            "d_columns",
            "dquery_offset",
            "dkey_offset",
            "dvalue_offset",
        ] {
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
    pub(super) fn results(&self) -> Vec<TensorId> {
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
    /// every cotangent; as far as the cotangents of queries and keys go.
    fn flops(&self, recording: &Recording) -> u64 {
        let forward = recording.shape(self.forward.output).lead as u64;
        let cotangents = recording.shape(self.doutput).lead as u64;
        let scores = 1 + u64::from(self.forward.relative.is_some());
        let rows = |to: Option<Columns>| to.map_or(0, |to| recording.shape(to.tensor).rows as u64);
        let to_queries = rows(self.dquery);
        let to_keys = rows(self.dkey_value.map(|(key, _)| key));
        let queries = recording.shape(self.forward.query.tensor).rows as u64;
        let keys = recording.shape(self.forward.key.tensor).rows as u64;
        // Pairs of queries and keys.
        let all = queries * keys;
        let own = all - (queries - to_queries) * (keys - to_keys);
        let each = own + scores * to_queries * keys + 2 * queries * to_keys;
        let pairs = forward * scores * own + cotangents * each;
        let product = u128::from(self.forward.product_flops(recording));
        (product * u128::from(pairs) / u128::from(all.max(1))) as u64
    }

    /// Scores and probabilities of a forward row serve all its cotangents.
    fn shares_work(&self, recording: &Recording) -> bool {
        let forward = recording.shape(self.forward.output);
        let keys = recording.shape(self.forward.key.tensor).rows;
        forward.lead < recording.shape(self.doutput).lead
            && forward.rows * keys >= MANY_SCORES
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        attention_native::reverse(self, context);
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
            let tile = match forward.shifted(recording) {
                false => "TILE",
                true => "SHIFTED_TILE",
            };
            let rows = recording.shape(to.tensor).rows;
            for first in forward.passes() {
                let own = [
                    ("first_column", first),
                    ("d_rows", rows),
                    ("d_columns", columns(to)),
                    ("dquery_offset", to.offset),
                ];
                launches.push(Launch {
                    shader: Attention::NAME,
                    entry: "reverse_query",
                    overrides: forward.overrides(recording, first),
                    params: forward.params(recording, lead, &own),
                    bindings: bindings.clone(),
                    extent: forward.extent(tile, rows, lead),
                });
            }
        }
        let mut key_value = |to: TensorId, key: Option<usize>, value: Option<usize>| {
            let mut bindings = operands();
            bindings.push(("dkey_value", to.into()));
            let shape = recording.shape(to);
            for first in forward.passes() {
                let mut overrides = forward.overrides(recording, first);
                overrides.push(("WRITE_DKEY", flag(key.is_some())));
                overrides.push(("WRITE_DVALUE", flag(value.is_some())));
                let own = [
                    ("first_column", first),
                    ("d_rows", shape.rows),
                    ("d_columns", shape.cols),
                    ("dkey_offset", key.unwrap_or(0)),
                    ("dvalue_offset", value.unwrap_or(0)),
                ];
                launches.push(Launch {
                    shader: Attention::NAME,
                    entry: "reverse_key_value",
                    overrides,
                    params: forward.params(recording, lead, &own),
                    bindings: bindings.clone(),
                    extent: forward.extent("TILE", shape.rows, lead),
                });
            }
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
