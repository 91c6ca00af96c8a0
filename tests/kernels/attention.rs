//! `shaders/attention.wgsl` and `shaders/attention_terms.wgsl` on the GPU, and
//! the native code in f32, against the native code in f64.

use crate::cases::{Case, MODES, Tolerance, gpu};
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::{GpuExecutor, Tune};
use sonograd::engine::tensor::{Columns, Scalars, Shape, TensorId};
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

/// Which distances have positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Positions {
    None,
    /// Half of them, which a shift of rows makes do.
    Shifted,
    All,
}

#[derive(Clone, Copy, Debug)]
struct Heads {
    /// Lead rows of queries and of keys and values.
    leads: (usize, usize),
    /// K: cotangents of each lead row of the output.
    cotangents: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    depth: usize,
    mask: Mask,
    positions: Positions,
    packing: Packing,
    /// Rows that have cotangents, at most.
    reached: usize,
}

const PLAIN: Heads = Heads {
    leads: (1, 1),
    cotangents: 3,
    queries: 1,
    keys: 1,
    heads: 1,
    depth: 1,
    mask: Mask::None,
    positions: Positions::None,
    packing: Packing::Apart,
    reached: usize::MAX,
};

/// Root mean square of the scores: with this the softmax is neither flat nor
/// a single peak.
const SCORE: f64 = 2.0;

impl Heads {
    fn width(&self) -> usize {
        self.heads * self.depth
    }

    /// Products that make a score, times what is summed before them.
    fn addends(&self) -> f64 {
        match self.positions {
            Positions::None => 1.0,
            _ => 4.0,
        }
    }

    /// Lead rows of the output.
    fn lead(&self) -> usize {
        self.leads.0.max(self.leads.1)
    }

    /// What makes scores of size `SCORE` of queries and keys whose root mean
    /// square is 1/sqrt(3), or of two products of sums of such where positions
    /// are relative.
    fn scale(&self) -> f32 {
        (SCORE * 3.0 / (self.addends() * self.depth as f64).sqrt()) as f32
    }

    /// Queries, keys and values.
    fn operands(&self, case: &mut Case) -> [Columns; 3] {
        let width = self.width();
        let (queries, keys) = self.leads;
        let part = |tensor, part| Columns {
            tensor,
            offset: part * width,
        };
        match self.packing {
            Packing::All => {
                let all = case.any(queries, self.queries, 3 * width);
                // In no particular order.
                [part(all, 1), part(all, 2), part(all, 0)]
            }
            Packing::KeyValue => {
                let pair = case.any(keys, self.keys, 2 * width);
                let query = case.any(queries, self.queries, width);
                [query.into(), part(pair, 0), part(pair, 1)]
            }
            Packing::Apart => [
                case.any(queries, self.queries, width).into(),
                case.any(keys, self.keys, width).into(),
                case.any(keys, self.keys, width).into(),
            ],
        }
    }

    fn record(&self, case: &mut Case) -> Attention {
        let [query, key, value] = self.operands(case);
        let width = self.width();
        let positions = match self.positions {
            Positions::None => None,
            Positions::Shifted => Some(self.keys),
            Positions::All => Some(2 * self.keys - 1),
        };
        let relative = positions.map(|positions| Relative {
            positions: case.any(1, positions, width),
            biases: case.any(1, 2, width),
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
        case.recording.attention(spec).unwrap();
        match case.recording.operators().last() {
            Some(Operator::Attention(attention)) => attention.clone(),
            _ => unreachable!("it was just recorded"),
        }
    }

    /// Records the reverse for made-up cotangents; returns how many results
    /// it has.
    fn record_reverse(&self, case: &mut Case, forward: Attention, sides: Sides) -> usize {
        let lead = self.cotangents * self.lead();
        let doutput = case.any(lead, self.queries, self.width());
        let terms = case.computed(lead, self.heads * self.queries, 2);
        case.push(AttentionTerms {
            forward: forward.clone(),
            doutput,
            terms,
        });
        let mut made: Vec<(TensorId, TensorId)> = Vec::new();
        let mut cotangent = |from: Columns| {
            let known = made.iter().find(|(forward, _)| *forward == from.tensor);
            let tensor = known.map(|(_, d)| *d).unwrap_or_else(|| {
                let shape = case.recording.shape(from.tensor);
                let d = case.computed(lead, shape.rows.min(self.reached), shape.cols);
                made.push((from.tensor, d));
                d
            });
            Columns { tensor, ..from }
        };
        let dquery = sides.query.then(|| cotangent(forward.query));
        let dkey_value = sides
            .key_value
            .then(|| (cotangent(forward.key), cotangent(forward.value)));
        case.push(AttentionReverse {
            forward,
            doutput,
            terms,
            dquery,
            dkey_value,
        });
        made.iter().for_each(|(_, d)| case.output(*d));
        made.len()
    }

    /// What a probability may be off by, as a part of itself, in eps. Its
    /// score is a sum over the depth (of two products where positions are
    /// relative, of sums) and off by 0.35 · sqrt(terms) of its size, see
    /// `kernels_matmul`; exp(x) may be off by 3 + 2·|x|, |x| being 2 · SCORE on
    /// average where it matters; the logarithm of the sum by 4.
    fn probability(&self) -> f64 {
        0.35 * (self.addends() * self.depth as f64).sqrt() * SCORE + 3.0 + 4.0 * SCORE + 4.0
    }

    /// Twice (for the worst of many elements) what a sum of `terms` products
    /// with probabilities may be off by, as a part of the largest one, besides
    /// `more` eps.
    fn tolerance(&self, terms: usize, more: f64, want: &[f64]) -> Tolerance {
        Tolerance {
            k: 2.0 * (self.probability() + 0.35 * (terms as f64).sqrt() + more),
            n: 1,
            scale: want.iter().fold(0.0, |most, x| f64::max(most, x.abs())),
        }
    }

    fn check(&self, executor: &mut dyn Executor, probabilities: bool) {
        let mut case = Case::new();
        let forward = self.record(&mut case);
        case.output(forward.output);
        case.output(forward.statistics);
        let mut results = vec!["output", "statistics"];
        if probabilities {
            case.output(forward.probabilities);
            results.push("probabilities");
        }
        case.compare_reruns(executor, &format!("{self:?}"), &results, |_, want| {
            self.tolerance(self.keys, 1.0, want)
        });
    }

    fn check_reverse(&self, executor: &mut dyn Executor, sides: Sides) {
        let mut case = Case::new();
        let forward = self.record(&mut case);
        let count = self.record_reverse(&mut case, forward, sides);
        let results = &["first cotangent", "second cotangent", "third cotangent"][..count];
        case.compare_reruns(executor, &format!("{self:?}"), results, |_, want| {
            // dS = P · (dP - delta): two sums over the depth, of which the
            // difference is as large as either.
            let difference = 2.0 * 0.35 * (self.depth as f64).sqrt();
            self.tolerance(2 * self.keys.max(self.queries), difference, want)
        });
    }
}

/// Which cotangents are wanted.
#[derive(Clone, Copy, Debug)]
struct Sides {
    query: bool,
    key_value: bool,
}

const BOTH: Sides = Sides {
    query: true,
    key_value: true,
};

/// Queries, keys and depth, around the tiles' 64 rows and the heads' 16, 64
/// and 128 columns, and heads that take two launches and three.
const SIZES: [(usize, usize, usize); 15] = [
    (1, 1, 1),
    (3, 7, 1),
    (17, 5, 3),
    (1, 130, 12),
    (70, 66, 16),
    (33, 20, 32),
    (7, 65, 36),
    (64, 64, 64),
    (65, 129, 64),
    (127, 3, 65),
    (66, 35, 80),
    (35, 67, 96),
    (130, 70, 128),
    (67, 33, 160),
    (5, 66, 321),
];

/// Checks all of `cases` with and without the driver's own checks; those of a
/// mode share an executor and so their pipelines.
fn in_both_modes<I: Iterator<Item = Heads>>(
    cases: impl Fn() -> I,
    check: impl Fn(Heads, &mut GpuExecutor),
) {
    for mode in MODES {
        println!("{mode:?}");
        let mut executor = gpu(mode, Tune::Never);
        cases().for_each(|heads| check(heads, &mut executor));
    }
}

fn attending_to_others() -> impl Iterator<Item = Heads> {
    let packings = [Packing::Apart, Packing::KeyValue];
    let leads = [(2, 1), (2, 2), (1, 2)];
    let cases = SIZES.into_iter().enumerate();
    cases.map(move |(index, (queries, keys, depth))| Heads {
        leads: leads[index % 3],
        queries,
        keys,
        heads: 3,
        depth,
        packing: packings[index % 2],
        ..PLAIN
    })
}

fn causal_ones() -> impl Iterator<Item = Heads> {
    SIZES.into_iter().map(|(queries, _, depth)| Heads {
        leads: (2, 2),
        queries,
        keys: queries,
        heads: 2,
        depth,
        mask: Mask::Causal,
        packing: Packing::All,
        ..PLAIN
    })
}

/// Windows of one key, of some, and of more than a tile, on one side and on both.
fn near_ones() -> impl Iterator<Item = Heads> {
    let reaches = [[0, 0], [15, 3], [2, 0], [0, 5], [70, 9], [7, 130]];
    let cases = SIZES.into_iter().enumerate();
    cases.map(move |(index, (queries, _, depth))| {
        let [before, behind] = reaches[index % reaches.len()];
        Heads {
            leads: (2, 2),
            queries,
            keys: queries,
            heads: 2,
            depth,
            mask: Mask::Near { before, behind },
            packing: Packing::All,
            ..PLAIN
        }
    })
}

fn relative_ones() -> impl Iterator<Item = Heads> {
    let kinds = [Positions::Shifted, Positions::All].into_iter();
    kinds.flat_map(|positions| {
        SIZES.into_iter().map(move |(queries, _, depth)| Heads {
            leads: (2, 2),
            queries,
            keys: queries,
            heads: 3,
            depth,
            positions,
            packing: Packing::All,
            ..PLAIN
        })
    })
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn plain() {
    in_both_modes(attending_to_others, |heads, executor| {
        heads.check(executor, true)
    });
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn causal() {
    in_both_modes(causal_ones, |heads, executor| heads.check(executor, true));
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn near() {
    in_both_modes(near_ones, |heads, executor| heads.check(executor, true));
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn relative() {
    in_both_modes(relative_ones, |heads, executor| heads.check(executor, true));
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_long_row() {
    let long = |positions| Heads {
        queries: 1023,
        keys: 1023,
        depth: 36,
        positions,
        packing: Packing::All,
        ..PLAIN
    };
    in_both_modes(
        || [Positions::Shifted, Positions::All].map(long).into_iter(),
        |heads, executor| heads.check(executor, false),
    );
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_plain() {
    in_both_modes(attending_to_others, |heads, executor| {
        heads.check_reverse(executor, BOTH)
    });
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_causal() {
    in_both_modes(causal_ones, |heads, executor| {
        heads.check_reverse(executor, BOTH)
    });
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_near() {
    in_both_modes(near_ones, |heads, executor| {
        heads.check_reverse(executor, BOTH)
    });
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_relative() {
    in_both_modes(relative_ones, |heads, executor| {
        heads.check_reverse(executor, BOTH)
    });
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_of_one_side() {
    let heads = Heads {
        queries: 20,
        keys: 75,
        heads: 2,
        depth: 16,
        ..PLAIN
    };
    for query in [true, false] {
        let sides = Sides {
            query,
            key_value: !query,
        };
        in_both_modes(
            || [heads].into_iter(),
            |heads, executor| heads.check_reverse(executor, sides),
        );
    }
}

/// Cotangents of the first queries and keys alone, around the tiles' 64 rows.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reverse_of_the_first_rows() {
    let cases = || {
        let sizes = [1, 63, 64, 65, 130].into_iter();
        sizes.map(|reached| Heads {
            queries: 150,
            keys: 150,
            heads: 2,
            depth: 20,
            packing: Packing::All,
            reached,
            ..PLAIN
        })
    };
    in_both_modes(cases, |heads, executor| heads.check_reverse(executor, BOTH));
}

/// The native executor takes many queries block by block, unless somebody
/// wants the probabilities.
#[test]
fn blocks_of_queries_give_what_all_of_them_give() {
    let near = Mask::Near {
        before: 20,
        behind: 4,
    };
    let cases = [
        (Mask::None, 201, 130),
        (Mask::Causal, 193, 193),
        (near, 193, 193),
    ];
    for (mask, queries, keys) in cases {
        let heads = Heads {
            queries,
            keys,
            heads: 2,
            depth: 8,
            mask,
            ..PLAIN
        };
        let run = |probabilities: bool| {
            let mut case = Case::new();
            let forward = heads.record(&mut case);
            case.output(forward.output);
            case.output(forward.statistics);
            if probabilities {
                case.output(forward.probabilities);
            }
            case.native(&[Scalars::ZERO])
        };
        let (blocks, whole) = (run(false), run(true));
        for (got, want) in blocks.iter().zip(&whole) {
            let off = got.iter().zip(want).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) <= 1e-14);
            assert!(got.iter().any(|x| x.abs() > 0.1));
        }
    }
}

/// Of keys that are all alike a query sees each that its mask lets it see by the same
/// share.
#[test]
fn a_query_sees_what_its_mask_says() {
    let near = Mask::Near {
        before: 2,
        behind: 1,
    };
    let share = |count: usize| 1.0 / count as f64;
    for (mask, row, seen) in [
        (Mask::Causal, 2, 0..3),
        (near, 0, 0..2),
        (near, 1, 0..3),
        (near, 3, 1..5),
        (near, 5, 3..6),
    ] {
        let mut case = Case::new();
        let query = case.any(1, 6, 3);
        let key = case.real(Shape::new(1, 6, 3), &[0.5; 18]);
        let spec = AttentionSpec {
            query: query.into(),
            key: key.into(),
            value: key.into(),
            heads: 1,
            width: 3,
            scale: 1.0,
            mask,
            relative: None,
        };
        let (_, probabilities) = case.recording.attention(spec).unwrap();
        case.output(probabilities);
        let all = case.native(&[Scalars::ZERO]);
        for (key, p) in all[0][6 * row..6 * row + 6].iter().enumerate() {
            let right = match seen.contains(&key) {
                true => share(seen.len()),
                false => 0.0,
            };
            assert!((p - right).abs() < 1e-12, "{mask:?} {row} {key}: {p}");
        }
    }
}

/// What is not larger than a block.
fn few() -> impl Iterator<Item = Heads> {
    attending_to_others()
        .chain(causal_ones())
        .chain(near_ones())
        .chain(relative_ones())
}

/// Sizes beside those of tiles, panels and blocks: several of each, some begun.
fn many() -> impl Iterator<Item = Heads> {
    let sizes = [(300, 290, 20), (129, 257, 64), (97, 33, 17), (513, 40, 80)];
    sizes.into_iter().flat_map(|(queries, keys, depth)| {
        let plain = Heads {
            leads: (2, 1),
            queries,
            keys,
            heads: 2,
            depth,
            packing: Packing::KeyValue,
            ..PLAIN
        };
        let causal = Heads {
            leads: (2, 2),
            keys: queries,
            mask: Mask::Causal,
            packing: Packing::All,
            ..plain
        };
        let mask = Mask::Near {
            before: 40,
            behind: 3,
        };
        [plain, causal, Heads { mask, ..causal }]
    })
}

#[test]
fn native_f32() {
    let mut executor = Case::native_f32();
    for heads in few() {
        heads.check(&mut executor, true);
    }
    for heads in many() {
        heads.check(&mut executor, false);
    }
}

#[test]
fn native_f32_reverse() {
    let mut executor = Case::native_f32();
    for heads in few().chain(many()) {
        let heads = Heads {
            cotangents: 3,
            ..heads
        };
        heads.check_reverse(&mut executor, BOTH);
    }
    // Cotangents of the first rows alone, within a block and beyond one.
    for reached in [1, 50, 140, 280] {
        let heads = Heads {
            cotangents: 2,
            queries: 300,
            keys: 300,
            heads: 2,
            depth: 20,
            packing: Packing::All,
            reached,
            ..PLAIN
        };
        heads.check_reverse(&mut executor, BOTH);
    }
}
