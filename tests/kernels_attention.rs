//! `shaders/attention.wgsl` and `attention_terms.wgsl` against the native
//! executor in f64.

mod common;

use common::{Bench, Both, EPSILON, compare};
use sonograd::engine::tensor::{Columns, Shape};
use sonograd::engine::weights::WeightTable;
use sonograd::ops::{
    Attention, AttentionReverse, AttentionSpec, AttentionTerms, Mask, Operator, Relative,
};

/// Which operands are columns of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    All,
    KeyValue,
    Apart,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    /// B
    batch: usize,
    /// Lead rows of keys and values.
    key_batch: usize,
    /// K
    cotangents: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    depth: usize,
    mask: Mask,
    relative: bool,
    packing: Packing,
}

const PLAIN: Case = Case {
    batch: 1,
    key_batch: 1,
    cotangents: 1,
    queries: 1,
    keys: 1,
    heads: 1,
    depth: 1,
    mask: Mask::None,
    relative: false,
    packing: Packing::Apart,
};

/// Queries and keys have a root mean square of 1/sqrt(3); this makes scores
/// of about `SCORE` on average, so that the softmax is neither flat nor a
/// single peak.
const SCORE: f64 = 2.0;

impl Case {
    fn width(&self) -> usize {
        self.heads * self.depth
    }

    fn scale(&self) -> f32 {
        let addends = if self.relative { 4.0 } else { 1.0 };
        (SCORE * 3.0 / (addends * self.depth as f64).sqrt()) as f32
    }

    /// Queries, keys and values as inputs.
    fn operands(&self, bench: &mut Bench) -> [Columns; 3] {
        let width = self.width();
        let query = Shape::new(self.batch, self.queries, width);
        let key = Shape::new(self.key_batch, self.keys, width);
        let wide = |shape: Shape, parts| Shape::new(shape.lead, shape.rows, parts * width);
        let part = |tensor, part| Columns {
            tensor,
            offset: part * width,
        };
        match self.packing {
            Packing::All => {
                let all = bench.input(wide(query, 3), 1.0);
                // In no particular order.
                [part(all, 1), part(all, 2), part(all, 0)]
            }
            Packing::KeyValue => {
                let pair = bench.input(wide(key, 2), 1.0);
                [bench.input(query, 1.0).into(), part(pair, 0), part(pair, 1)]
            }
            Packing::Apart => [query, key, key].map(|shape| bench.input(shape, 1.0).into()),
        }
    }

    fn forward(&self, bench: &mut Bench) -> Attention {
        let [query, key, value] = self.operands(bench);
        let width = self.width();
        let relative = self.relative.then(|| Relative {
            positions: bench.input(Shape::new(1, self.keys, width), 1.0),
            biases: bench.input(Shape::new(1, 2, width), 1.0),
        });
        let spec = AttentionSpec {
            query,
            key,
            value,
            heads: self.heads,
            width,
            scale: self.scale(),
            mask: self.mask,
            relative,
        };
        bench.recording.attention(spec).unwrap();
        match bench.recording.operators().last() {
            Some(Operator::Attention(attention)) => attention.clone(),
            _ => unreachable!("it was just recorded"),
        }
    }

    /// Records the reverse for K·B made-up cotangents and keeps the results.
    fn reverse(&self, bench: &mut Bench, forward: Attention, query: bool, key_value: bool) {
        let lead = self.cotangents * self.batch;
        let statistics = bench.recording.shape(forward.statistics);
        let doutput = bench.input(Shape::new(lead, self.queries, self.width()), 1.0);
        let terms = bench.recording.computed(statistics.with_lead(lead));
        bench.recording.push(AttentionTerms {
            forward: forward.clone(),
            doutput,
            terms,
        });
        let mut made = Vec::new();
        let mut cotangent = |from: Columns| {
            let known = made.iter().find(|(forward, _)| *forward == from.tensor);
            let tensor = known.map(|(_, d)| *d).unwrap_or_else(|| {
                let shape = bench.recording.shape(from.tensor).with_lead(lead);
                let d = bench.recording.computed(shape);
                made.push((from.tensor, d));
                d
            });
            Columns { tensor, ..from }
        };
        let dquery = query.then(|| cotangent(forward.query));
        let dkey_value = key_value.then(|| (cotangent(forward.key), cotangent(forward.value)));
        bench.recording.push(AttentionReverse {
            forward,
            doutput,
            terms,
            dquery,
            dkey_value,
        });
        for (_, d) in made {
            bench.keep(d);
        }
    }

    /// What a probability may be off by, as a part of itself: its score is a
    /// sum over the depth (three where positions are relative) of which the
    /// rounding errors add up to eps/2 · root of the partial sums' squares
    /// (0.35 · eps · sqrt(depth) · size of the score); exp may be off by
    /// 3 + 2|x| units in the last place in WGSL, |x| being up to 4 · SCORE for
    /// keys that matter.
    fn probability_error(&self) -> f64 {
        let addends = if self.relative { 3.0 } else { 1.0 };
        let depth = self.depth as f64;
        let score = 0.35 * (addends * depth).sqrt() * SCORE;
        EPSILON * (score + (3.0 + 8.0 * SCORE) / 2.0)
    }

    /// What a sum of `terms` products with probabilities may be off by, as a
    /// part of the largest.
    fn error(&self, terms: usize) -> f64 {
        self.probability_error() + 0.35 * EPSILON * (terms as f64).sqrt() + EPSILON
    }
}

/// Errors are parts of the numbers that they are made with: the tolerance is
/// a part of the largest number, twice what is expected, as the worst of many
/// errors meets it.
fn tolerance(error: f64, want: &[f64]) -> f64 {
    2.0 * error * want.iter().fold(0.0, |most: f64, x| most.max(x.abs()))
}

fn check_forward(case: Case, probabilities: bool) {
    let results = Both::new(WeightTable::default()).run(|bench| {
        let forward = case.forward(bench);
        bench.keep(forward.output);
        bench.keep(forward.statistics);
        if probabilities {
            bench.keep(forward.probabilities);
        }
    });
    let names = ["output", "statistics", "probabilities"];
    for ((got, want), name) in results.iter().zip(names) {
        let tolerance = tolerance(case.error(case.keys), want);
        compare(&format!("{name} of {case:?}"), got, want, tolerance);
    }
}

fn check_reverse(case: Case, query: bool, key_value: bool) {
    let results = Both::new(WeightTable::default()).run(|bench| {
        let forward = case.forward(bench);
        case.reverse(bench, forward, query, key_value);
    });
    // dS = P · (dP - delta): dP and delta are sums over the depth, and their
    // difference is as large as either.
    let difference = 2.0 * 0.35 * EPSILON * (case.depth as f64).sqrt();
    let error = case.error(2 * case.keys.max(case.queries)) + difference;
    for (index, (got, want)) in results.iter().enumerate() {
        let tolerance = tolerance(error, want);
        compare(
            &format!("cotangent {index} of {case:?}"),
            got,
            want,
            tolerance,
        );
    }
}

/// Sizes around the tiles' 64 rows and the heads' 16, 64 and 128 columns.
const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (3, 7, 1),
    (17, 5, 3),
    (1, 130, 12),
    (7, 65, 36),
    (64, 64, 64),
    (65, 129, 64),
    (127, 3, 65),
    (130, 70, 128),
];

/// How many of them, the first, have heads of 64 columns or less.
const NARROW: usize = 7;

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn plain() {
    for (index, (queries, keys, depth)) in SIZES.into_iter().enumerate() {
        let case = Case {
            batch: 2,
            key_batch: 1 + index % 2,
            queries,
            keys,
            heads: 3,
            depth,
            packing: [Packing::Apart, Packing::KeyValue][index / 2 % 2],
            ..PLAIN
        };
        check_forward(case, true);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn causal() {
    for (queries, _, depth) in SIZES.into_iter().take(NARROW) {
        let case = Case {
            batch: 2,
            key_batch: 2,
            queries,
            keys: queries,
            heads: 2,
            depth,
            mask: Mask::Causal,
            packing: Packing::All,
            ..PLAIN
        };
        check_forward(case, true);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn relative() {
    for (queries, _, depth) in SIZES {
        let case = Case {
            batch: 2,
            key_batch: 2,
            queries,
            keys: queries,
            heads: 2,
            depth,
            relative: true,
            packing: Packing::All,
            ..PLAIN
        };
        check_forward(case, queries % 2 == 1);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_long_row() {
    let case = Case {
        queries: 1023,
        keys: 1023,
        heads: 1,
        depth: 36,
        relative: true,
        packing: Packing::All,
        ..PLAIN
    };
    check_forward(case, false);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_plain() {
    for (index, (queries, keys, depth)) in SIZES.into_iter().enumerate() {
        let case = Case {
            batch: 2,
            key_batch: 1 + index % 2,
            cotangents: 3,
            queries,
            keys,
            heads: 3,
            depth,
            packing: [Packing::Apart, Packing::KeyValue][index / 2 % 2],
            ..PLAIN
        };
        check_reverse(case, true, true);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_causal() {
    for (queries, _, depth) in SIZES.into_iter().take(NARROW) {
        let case = Case {
            batch: 2,
            key_batch: 2,
            cotangents: 2,
            queries,
            keys: queries,
            heads: 2,
            depth,
            mask: Mask::Causal,
            packing: Packing::All,
            ..PLAIN
        };
        check_reverse(case, true, true);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_relative() {
    for (queries, _, depth) in SIZES {
        let case = Case {
            batch: 2,
            key_batch: 2,
            cotangents: 3,
            queries,
            keys: queries,
            heads: 2,
            depth,
            relative: true,
            packing: Packing::All,
            ..PLAIN
        };
        check_reverse(case, true, true);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_of_one_side() {
    let case = Case {
        batch: 1,
        cotangents: 2,
        queries: 20,
        keys: 75,
        heads: 2,
        depth: 16,
        packing: Packing::Apart,
        ..PLAIN
    };
    check_reverse(case, true, false);
    check_reverse(case, false, true);
}
