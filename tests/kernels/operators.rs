//! Every operator's kernels on the GPU against its native code in f64, at
//! awkward sizes. Products with weights and attention have files of their own.
//!
//! Tolerances are k · eps · sqrt(n) · scale with eps = 2^-23; a rounding is at
//! most half an eps of the result. WGSL promises less for some functions, in
//! units of eps: division 2.5, exp(x) 3 + 2·|x|, log 3 (but 4 absolute between
//! 1/2 and 2), sqrt 5.

use crate::cases::{Case, MODES, Tolerance, at, largest, values};
use sonograd::engine::tensor::{Columns, Scalars, Shape, TensorId};
use sonograd::ops::scalars::{FIRST_TOKEN, FIRST_VARIANT, MASKING, STEP};
use sonograd::ops::{
    Accumulate, Activation, ActivationReverse, Add, AddNoise, AsinhReverse, AttentionXGradient,
    Baseline, BaselineKind, Blend, CacheAppend, CachedAttention, Candidates, Contrast, Correlate,
    Depthwise2dReverse, DepthwiseReverse, Draw, ExpandScores, Fold, Fold2d, Gate, GluReverse,
    GroupMeans, GroupNormReverse, GroupNormSums, Half, KlDivergence, LayerNorm, LayerNormReverse,
    MaskSource, NO_TOKEN, Operator, Plane, Reduce, Reduction, Rotary, ScatterRows, Spread,
    SumBatch, TokenLogProb, TokenSeed, Windows,
};

/// One run, all scalars 0.
const ONCE: &[Scalars] = &[Scalars::ZERO];

fn within(k: f64, n: usize, scale: f64) -> Tolerance {
    Tolerance { k, n, scale }
}

/// Inputs `by` times as large as [`Case::any`] gives.
fn scaled(case: &mut Case, lead: usize, rows: usize, cols: usize, by: f32) -> TensorId {
    let shape = Shape::new(lead, rows, cols);
    let seed = 1000 + case.next() as u32;
    let all: Vec<f32> = values(shape.len(), seed).iter().map(|x| by * x).collect();
    case.real(shape, &all)
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn accumulate() {
    // Two products of three terms and their sum, all of size 1: six additions
    // of partial sums up to 6 round by at most 6/2 · eps each time they are at
    // their largest, 10 eps in all; 4 · sqrt(7) is more.
    for (count, batch, rows, cols) in [(1, 1, 1, 1), (2, 3, 7, 3), (2, 3, 1, 1023), (3, 1, 3, 5)] {
        let mut case = Case::new();
        let x = case.any(count * batch, rows, cols);
        // One variant fewer than two batches.
        let weights = case.any(1, 2 * batch - 1, 1);
        let updated = case.next();
        let sum = case.any(count, rows, cols);
        case.push(Accumulate {
            x,
            batch,
            weights,
            sum,
        });
        case.updated(updated);
        let runs = [0, batch].map(|first| at(FIRST_VARIANT, first));
        let name = format!("accumulate {count}x{batch} of {rows}x{cols}");
        case.compare(&name, &runs, &[within(4.0, 2 * batch + 1, 1.0)]);
        // A run that begins past all weights leaves the sum alone.
        let late = [0, 2 * batch].map(|first| at(FIRST_VARIANT, first));
        case.compare(&name, &late, &[within(4.0, 2 * batch + 1, 1.0)]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn activation_reverse() {
    for (count, batch, rows, cols) in [(1, 1, 1, 1), (2, 3, 7, 3), (2, 1, 3, 1023)] {
        for activation in Activation::ALL {
            let mut case = Case::new();
            let dy = case.any(count * batch, rows, cols);
            let pre = scaled(&mut case, batch, rows, cols, 6.0);
            let dx = case.computed(count * batch, rows, cols);
            let scale = -1.5;
            case.push(ActivationReverse {
                dy,
                pre,
                activation,
                scale,
                dx,
            });
            case.output(dx);
            // The slope is at most 1.13. Its parts: exp, weighted with the
            // slope of the sigmoid, comes to 1.5 eps at most, a division and
            // four roundings to 5; erfc to 4, x · density to 2.
            let name = format!("activation_reverse {activation:?} {rows}x{cols}");
            case.compare(&name, ONCE, &[within(8.0, 1, 1.5 * 1.13)]);
        }
    }
}

/// Where the sigmoid and the normal distribution are all but 0 and 1, and
/// exp would leave f32.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn activations_at_their_ends() {
    let far = [
        -1e4, -200.0, -90.0, -30.0, -13.0, -0.0, 0.0, 13.0, 30.0, 90.0, 200.0, 1e4,
    ];
    for activation in &Activation::ALL[1..] {
        let activation = *activation;
        let mut case = Case::new();
        let shape = Shape::new(1, 1, far.len());
        let (dy, pre) = (case.real(shape, &[1.0; 12]), case.real(shape, &far));
        let dx = case.computed(1, 1, far.len());
        let scale = 1.0;
        case.push(ActivationReverse {
            dy,
            pre,
            activation,
            scale,
            dx,
        });
        case.output(dx);
        let (weight, bias) = (case.real(shape, &[1.0; 12]), case.real(shape, &[0.0; 12]));
        let y = case
            .recording
            .depthwise(pre, weight, bias, activation)
            .unwrap();
        case.output(y);
        let name = format!("{activation:?} far out");
        // What is far from 0 is off relative to itself; at -30 and beyond the
        // largest error is that of exp, 3 + 2 · 30 eps of 1e-12.
        let ends = |size: fn(f32) -> f32| far.iter().map(|&x| f64::from(size(x))).collect();
        let scales = [ends(|_| 1.13), ends(|x| 1.0 + x.abs())];
        case.compare_each(&name, ONCE, 8.0, &scales);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn add() {
    for (lead_a, lead_b, rows, cols) in [(1, 1, 1, 1), (6, 3, 7, 3), (1, 3, 1, 1023), (2, 2, 3, 7)]
    {
        let mut case = Case::new();
        let (a, b) = (case.any(lead_a, rows, cols), case.any(lead_b, rows, cols));
        let y = case.computed(lead_a.max(lead_b), rows, cols);
        let (scale_a, scale_b) = (0.3, -1.7);
        case.push(Add {
            a,
            b,
            scale_a,
            scale_b,
            y,
        });
        case.output(y);
        // Two products and their sum: half an eps of each.
        let name = format!("add {lead_a}+{lead_b} of {rows}x{cols}");
        case.compare(&name, ONCE, &[within(1.0, 1, 0.3 + 1.7)]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn add_noise() {
    for (batch, rows, cols) in [(1, 1, 1), (3, 7, 3), (3, 1, 1023), (2, 25, 80)] {
        let mut case = Case::new();
        let x = case.any(1, rows, cols);
        let spread = case.real(Shape::new(1, 1, 1), &[0.25]);
        let y = case.computed(batch, rows, cols);
        let (seed, stream) = (0x0123_4567_89ab_cdef, 3);
        case.push(AddNoise {
            x,
            spread,
            seed,
            stream,
            y,
        });
        case.output(y);
        // Both sides evaluate one formula in f32: two polynomials with up to
        // seven roundings, a division, and in the tails a log and a sqrt whose
        // 7 eps of a root up to 4 count one and a half times: 60 eps of z at
        // most. Then z · spread and the sum, up to 5.3 spreads and 1.
        let scale = 60.0 * 0.25 + 5.3 * 0.25 + 1.0;
        let name = format!("add_noise {batch} of {rows}x{cols}");
        case.compare(&name, &[at(FIRST_VARIANT, 5)], &[within(1.0, 1, scale)]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn baseline() {
    for (rows, cols) in [(1, 1), (3, 7), (64, 3), (65, 5), (1023, 3), (7, 1023)] {
        for kind in [BaselineKind::Zero, BaselineKind::Mean, BaselineKind::Min] {
            let mut case = Case::new();
            let x = case.any(1, rows, cols);
            let y = case.computed(1, rows, cols);
            case.push(Baseline { x, kind, y });
            case.output(y);
            // A lane adds up to 16 numbers, whose partial sums are at most 16
            // and the final one 1023: (16·16/2 · 64 + 1023 · 6)/2 eps, divided
            // by 1023, is 7 eps; the division 2.5.
            let tolerance = match kind {
                BaselineKind::Mean => within(10.0, 1, 1.0),
                _ => Tolerance::EXACT,
            };
            case.compare(
                &format!("baseline {kind:?} {rows}x{cols}"),
                ONCE,
                &[tolerance],
            );
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn blend() {
    for (batch, rows, cols) in [(1, 1, 1), (3, 7, 3), (3, 1, 1023)] {
        let mut case = Case::new();
        let (x, baseline) = (case.any(1, rows, cols), case.any(1, rows, cols));
        let fractions = case.any(1, 5, 1);
        let y = case.computed(batch, rows, cols);
        case.push(Blend {
            x,
            baseline,
            fractions,
            y,
        });
        case.output(y);
        // The difference is up to 2 and rounded, so is its product, and the
        // sum, up to 3: 3.5 eps.
        for first in [0, 4] {
            let name = format!("blend {batch} of {rows}x{cols} from {first}");
            case.compare(&name, &[at(FIRST_VARIANT, first)], &[within(3.5, 1, 1.0)]);
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn cache_append() {
    for (rows, capacity, width, offset) in [(1, 1, 1, 0), (3, 7, 6, 3), (2, 3, 1023, 1)] {
        let mut case = Case::new();
        let tensor = case.any(rows, 1, offset + width + 2);
        let updated = case.next();
        let cache = case.any(rows, capacity, width);
        case.push(CacheAppend {
            x: Columns { tensor, offset },
            cache,
        });
        case.updated(updated);
        let runs: Vec<Scalars> = (0..capacity)
            .step_by(2)
            .map(|step| at(STEP, step))
            .collect();
        let name = format!("cache_append {rows} of {capacity}x{width}");
        case.compare(&name, &runs, &[Tolerance::EXACT]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn cached_attention() {
    // (beams, capacity, heads, depth, step)
    for (rows, capacity, heads, depth, step) in [
        (1, 1, 1, 1, 0),
        (3, 7, 2, 3, 6),
        (3, 70, 2, 64, 63),
        (2, 70, 3, 7, 64),
        (5, 200, 1, 130, 150),
    ] {
        let mut case = Case::new();
        let (width, offset) = (heads * depth, 2);
        let tensor = case.any(rows, 1, offset + width + 1);
        let cache = scaled(&mut case, rows, capacity, 2 * width, 2.0);
        let ancestors: Vec<u32> = (0..rows * capacity)
            .map(|i| (i * 7 % rows) as u32)
            .collect();
        let ancestry = case.indices(rows, capacity, &ancestors);
        let output = case.computed(rows, 1, width);
        let scale = 1.0 / (depth as f32).sqrt();
        case.push(CachedAttention {
            query: Columns { tensor, offset },
            cache,
            ancestry,
            heads,
            width,
            scale,
            output,
        });
        case.output(output);
        // Scores are sums of `depth` products of standard deviation
        // 2/3 · scale: they stay below 3 and are off by half an eps of that
        // for every partial sum, in all about 3 eps. A weight is off by that
        // and by 3 + 2 · 6 eps of exp, as is their sum: relative errors of up
        // to 2 · 18 eps in an average of values up to 2. The average's own
        // rounding is a random walk over the positions, below eps.
        let name = format!("cached_attention {rows} of {heads}x{depth} at {step}");
        case.compare(&name, &[at(STEP, step)], &[within(36.0, 1, 2.0)]);
    }
}

/// The tolerance for the logarithm of what up to `cols` tokens have together,
/// where log-probabilities lie between -2 and 0.
///
/// The difference from the largest is off by half an eps of 2 and exp by
/// 3 + 2 · 2 eps: 8 eps of every term, so of their sum too. Each of 256 lanes
/// sums up to 203 terms, a random walk of 2.4 eps that the other lanes do not
/// share: below 1 eps of the whole. The tree above them has 8 levels of half an
/// eps. All that is the logarithm's error too, to which it adds 4 eps near 1 and
/// else 3 eps of up to ln(cols); half an eps of the result is its last rounding.
fn all_left(cols: usize) -> Tolerance {
    let most = (cols as f64).ln();
    within(
        8.0 + 1.0 + 4.0 + f64::max(4.0, 3.0 * most) + (2.0 + most) / 2.0,
        1,
        1.0,
    )
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn candidates() {
    for (rows, cols, count, limit) in [
        (1, 1, 1, 1),
        (2, 3, 5, 1),
        (3, 7, 3, 2),
        (4, 1023, 32, 5),
        (2, 51_865, 16, 3),
    ] {
        let mut case = Case::new();
        // Few distinct values, so that there are many ties.
        let shape = Shape::new(rows, 1, cols);
        let rounded = |x: &f32| (x * 40.0).round() / 40.0 - 1.0;
        let all: Vec<f32> = values(shape.len(), 5).iter().map(rounded).collect();
        let log_probabilities = case.real(shape, &all);
        let allowed: Vec<f32> = (0..cols)
            .map(|id| f32::from(u8::from(id % 5 != 1)))
            .collect();
        let allowed = case.real(Shape::new(1, 1, cols), &allowed);
        // The best of each row among the banned, and unused places; what
        // comes behind those does not count.
        let banned: Vec<u32> = (0..rows * limit)
            .map(|i| {
                let row = &all[i / limit * cols..(i / limit + 1) * cols];
                let best = (0..cols).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
                [best.unwrap() as u32, 2, NO_TOKEN][i % limit % 3]
            })
            .collect();
        let banned = case.indices(rows, limit, &banned);
        // No ranges; text from the middle on, times whose sum wins; times
        // between bounds that exclude most; times with text behind them.
        let (third, end) = (cols as u32 / 3, cols as u32);
        let ranges: Vec<u32> = (0..rows)
            .flat_map(|row| match row {
                0 => [0, NO_TOKEN, 0, NO_TOKEN, NO_TOKEN],
                1 => [third / 2, third, third, NO_TOKEN, NO_TOKEN],
                2 => [0, 2 * third, end - 2, end, NO_TOKEN],
                _ => [0, third, third + 1, NO_TOKEN, 2 * third],
            })
            .collect();
        let ranges = case.table(Shape::new(rows, 1, 5), &ranges);
        let draw = Draw {
            temperature: 0.6,
            seed: 1 << 40 | 7,
        };
        for (with_left, draw) in [(false, None), (true, None), (true, Some(draw))] {
            let one = case.computed(rows, count, 3);
            case.push(Candidates {
                log_probabilities,
                allowed,
                banned,
                ranges,
                times: true,
                count,
                with_left,
                draw,
                chosen: one,
            });
            case.output(one);
        }
        let mut scalars = at(STEP, 9);
        scalars.set(FIRST_VARIANT, 3);
        let runs = &[scalars];
        let want = case.native(runs);
        for mode in MODES {
            let got = case.gpu(runs, mode);
            // -1e30 as an f32 is off by its rounding.
            let exact: Vec<f32> = want[0].iter().map(|&x| x as f32).collect();
            assert_eq!(got[0], exact, "candidates {count} of {cols}, {mode:?}");
            for (got, want) in got[1..].iter().zip(&want[1..]) {
                for (got, want) in got.chunks(3).zip(want.chunks(3)) {
                    let exact = want[..2].iter().map(|&x| x as f32);
                    assert!(
                        exact.eq(got[..2].iter().copied()),
                        "{got:?} {want:?}, {mode:?}"
                    );
                    let error = (f64::from(got[2]) - want[2]).abs();
                    let bound = all_left(cols).element();
                    assert!(error <= bound, "{got:?} {want:?}: {bound:.1e} allowed");
                }
            }
        }
        println!("candidates {count} of {cols}: equal");
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn depthwise() {
    for (lead, frames, cols, kernel) in [
        (1, 1, 1, 1),
        (1, 1, 3, 5),
        (3, 7, 3, 3),
        (2, 7, 5, 31),
        (1, 1023, 3, 31),
        (3, 4, 130, 7),
    ] {
        for activation in Activation::ALL {
            let mut case = Case::new();
            let x = case.any(lead, frames, cols);
            let (weight, bias) = (case.any(1, kernel, cols), case.any(1, 1, cols));
            let y = case
                .recording
                .depthwise(x, weight, bias, activation)
                .unwrap();
            case.output(y);
            // The output before the activation is wanted in every other case.
            let keeps_pre = frames == 7;
            // Random terms below 1: partial sums up to 2 · sqrt(n), and half
            // an eps of them for every term, 2 · sqrt(n) · sqrt(n)/3 for
            // independent errors; times the slope of the activation, and 5
            // eps of its own. n is at most 32.
            let tolerance = within(4.0, kernel + 1, 1.13);
            let mut tolerances = vec![tolerance];
            if keeps_pre {
                let pre = case.recording.operators()[0].outputs()[1];
                case.output(pre);
                tolerances.push(tolerance);
            }
            let name = format!("depthwise {activation:?} {lead}x{frames}x{cols}, {kernel}");
            case.compare(&name, ONCE, &tolerances);
        }
        let mut case = Case::new();
        let (dz, weight) = (case.any(2 * lead, frames, cols), case.any(1, kernel, cols));
        let dx = case.computed(2 * lead, frames, cols);
        case.push(DepthwiseReverse { dz, weight, dx });
        case.output(dx);
        let name = format!("depthwise_reverse {lead}x{frames}x{cols}, {kernel}");
        case.compare(&name, ONCE, &[within(4.0, kernel, 1.0)]);
    }
}

/// Planes and the windows over them: one element, kernels longer than the plane,
/// bins that are not a multiple of what an invocation computes, strides that leave
/// elements out.
const PLANES: [(usize, Plane, usize, Windows); 7] = [
    (1, plane(1, 1), 1, Windows::padded(3, 2, 1)),
    (2, plane(5, 4), 3, Windows::padded(3, 2, 1)),
    (3, plane(7, 9), 5, Windows::padded(3, 2, 1)),
    (1, plane(2, 3), 7, Windows::padded(5, 1, 2)),
    (2, plane(6, 11), 2, Windows::padded(2, 3, 0)),
    (1, plane(4, 6), 130, Windows::padded(4, 3, 2)),
    (1, plane(129, 33), 3, Windows::padded(3, 2, 1)),
];

pub const fn plane(frames: usize, bins: usize) -> Plane {
    Plane { frames, bins }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn convolution_2d() {
    for (lead, own, channels, windows) in PLANES {
        for activation in [Activation::None, Activation::Relu, Activation::Gelu] {
            let taps = windows.kernel * windows.kernel;
            let mut case = Case::new();
            let x = case.any(lead, own.frames, own.bins);
            let (weight, bias) = (case.any(1, taps, channels), case.any(1, 1, channels));
            let (y, over) = case
                .recording
                .convolution_2d(x, weight, bias, windows, activation)
                .unwrap();
            assert_eq!(Some(over), windows.over(own));
            case.output(y);
            // As for depthwise convolutions; n is at most 26.
            let tolerance = within(4.0, taps + 1, 1.13);
            let mut tolerances = vec![tolerance];
            if own.frames % 2 == 1 {
                let pre = case.recording.operators()[0].outputs()[1];
                case.output(pre);
                tolerances.push(tolerance);
            }
            let name = format!("convolution_2d {activation:?} {lead} {own:?} {windows:?}");
            case.compare(&name, ONCE, &tolerances);
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn depthwise_2d() {
    for (lead, own, channels, windows) in PLANES {
        let taps = windows.kernel * windows.kernel;
        let mut case = Case::new();
        let x = case.any(lead, own.rows(), channels);
        let (weight, bias) = (case.any(1, taps, channels), case.any(1, 1, channels));
        let (y, over) = case
            .recording
            .depthwise_2d((x, own), weight, bias, windows)
            .unwrap();
        case.output(y);
        let name = format!("depthwise_2d {lead} {own:?} {windows:?}");
        case.compare(&name, ONCE, &[within(4.0, taps + 1, 1.0)]);

        let mut case = Case::new();
        let (dy, weight) = (
            case.any(2 * lead, over.rows(), channels),
            case.any(1, taps, channels),
        );
        let dx = case.computed(2 * lead, own.rows(), channels);
        case.push(Depthwise2dReverse {
            dy,
            weight,
            windows,
            plane: own,
            dx,
        });
        case.output(dx);
        let name = format!("depthwise_2d_reverse {lead} {own:?} {windows:?}");
        case.compare(&name, ONCE, &[within(4.0, taps, 1.0)]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn fold_2d() {
    for (lead, own, _, windows) in PLANES {
        let taps = windows.kernel * windows.kernel;
        let mut case = Case::new();
        let dy = case.any(lead, windows.over(own).unwrap().rows(), taps);
        let dx = case.computed(lead, own.frames, own.bins);
        case.push(Fold2d { dy, windows, dx });
        case.output(dx);
        // Sums of at most 25 terms: partial sums like a random walk, half an eps
        // of them each.
        let name = format!("fold_2d {lead} {own:?} {windows:?}");
        case.compare(&name, ONCE, &[within(4.0, taps, 1.0)]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn embedding() {
    for (lead, tokens, vocabulary, cols) in [(1, 1, 1, 1), (3, 7, 11, 3), (2, 3, 1023, 129)] {
        for from_step in [false, true] {
            let mut case = Case::new();
            let ids: Vec<u32> = (0..lead * tokens)
                .map(|i| (i * 5 % vocabulary) as u32)
                .collect();
            let ids = case.indices(lead, tokens, &ids);
            let (table, positions) = (case.any(1, vocabulary, cols), case.any(1, tokens + 4, cols));
            let y = case
                .recording
                .embedding(ids, table, 1.7, positions, from_step)
                .unwrap();
            case.output(y);
            // A product and a sum: half an eps of each.
            let name = format!("embedding {lead}x{tokens}x{cols}");
            case.compare(&name, &[at(STEP, 4)], &[within(1.0, 1, 1.7 + 2.7)]);
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn glu() {
    for (count, batch, rows, cols) in [(1, 1, 1, 1), (2, 3, 7, 3), (2, 1, 3, 1023)] {
        for gate in [Gate::Sigmoid, Gate::Silu] {
            let mut case = Case::new();
            let x = scaled(&mut case, batch, rows, 2 * cols, 5.0);
            let y = case.recording.glu(x, gate, 1.5).unwrap();
            case.output(y);
            let dy = case.any(count * batch, rows, cols);
            let dx = case.computed(count * batch, rows, 2 * cols);
            case.push(GluReverse {
                dy,
                x,
                gate,
                scale: 1.5,
                dx,
            });
            case.output(dx);
            // The sigmoid is off by 0.8 eps through its exp, a division and a sum:
            // 4 eps; two more products. a, the slope's factor, is up to 5 and the
            // second sigmoid adds its own 4 eps. SiLU is b, up to 5, times that.
            let size = match gate {
                Gate::Sigmoid => 1.0,
                Gate::Silu => 5.0,
            };
            let [forward, reverse] = [5.0, 10.0].map(|k| within(k, 1, 1.5 * 5.0 * size));
            let name = format!("glu {gate:?} {batch}x{rows}x{cols}");
            case.compare(&name, ONCE, &[forward, reverse]);
        }
    }
}

/// One row, fewer rows and columns than lanes, and several of each; a mean far from 0.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn group_norm() {
    for (count, batch, rows, cols) in [
        (1, 1, 1, 1),
        (2, 3, 1, 7),
        (2, 3, 7, 3),
        (2, 2, 70, 5),
        (1, 2, 131, 129),
    ] {
        for shift in [0.0, 10.0] {
            let mut case = Case::new();
            let shape = Shape::new(batch, rows, cols);
            let own: Vec<f32> = values(shape.len(), 77).iter().map(|x| x + shift).collect();
            let x = case.real(shape, &own);
            let (weight, bias) = (case.any(1, 1, cols), case.any(1, 1, cols));
            let eps = 1e-5;
            let y = case.recording.group_norm(x, weight, bias, eps).unwrap();
            case.output(y);
            let statistics = match case.recording.operators().last() {
                Some(Operator::GroupNorm(norm)) => norm.statistics,
                other => panic!("{other:?}"),
            };
            let lead = count * batch;
            let dy = case.any(lead, rows, cols);
            let sums = case.computed(lead, rows, 2);
            case.push(GroupNormSums {
                dy,
                x,
                statistics,
                weight,
                sums,
            });
            let means = case.computed(lead, 1, 2);
            case.push(GroupMeans { sums, cols, means });
            let dx = case.computed(lead, rows, cols);
            case.push(GroupNormReverse {
                dy,
                x,
                statistics,
                weight,
                means,
                dx,
            });
            case.output(dx);

            // As a layer norm's, of rows R · C long.
            let lead_rows = own.chunks(rows * cols).map(|row| {
                let (s, r) = spread_of_row(row, eps);
                let n = f64::min(2.0 * r, ((rows * cols) as f64).sqrt());
                let off = 6.0 * r + 8.0 * n;
                let reverse = (4.0 + off + n * off + 6.0 * (2.0 + n)) / s;
                (off + 2.0, reverse + 1.0)
            });
            let (forward, reverse): (Vec<f64>, Vec<f64>) = lead_rows.unzip();
            let wide = |of: &[f64]| -> Vec<f64> {
                of.iter().flat_map(|&x| vec![x; rows * cols]).collect()
            };
            let scales = [wide(&forward), wide(&reverse).repeat(count)];
            let name = format!("group_norm {count}x{batch}x{rows}x{cols} around {shift}");
            case.compare_each(&name, ONCE, 1.0, &scales);
        }
    }
}

/// Odd heads, pairs and columns that stay, from the first row and from a decoding step
/// on, and turned back.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn rotary() {
    let sizes = [
        (1, 1, 1, 2, 1, 0),
        (2, 3, 1, 3, 1, 0),
        (3, 7, 2, 5, 2, 3),
        (2, 33, 3, 36, 16, 108),
    ];
    for (lead, rows, heads, depth, pairs, others) in sizes {
        for from_step in [false, true] {
            let mut case = Case::new();
            let x = case.any(lead, rows, heads * depth + others);
            let angles = case.any(1, rows + 4, 2 * pairs);
            let cols = heads * depth;
            let y = case.recording.rotary(x, angles, [depth, cols], from_step);
            let y = y.unwrap();
            case.output(y);
            let back = case.computed(lead, rows, heads * depth + others);
            case.push(Rotary {
                x,
                angles,
                depth,
                cols,
                from_step,
                back: true,
                y: back,
            });
            case.output(back);
            // Two products and a sum: an eps and a half of 2.
            let name = format!("rotary {lead}x{rows}, {heads} of {depth}");
            case.compare(&name, &[at(STEP, 4)], &[within(1.5, 1, 2.0); 2]);
        }
    }
}

/// Turned and turned back is what it was; the first row and what is no pair's stay.
#[test]
fn rotary_turns() {
    let mut case = Case::new();
    let (rows, depth, pairs) = (5, 6, 2);
    let x = case.any(1, rows, 2 * depth);
    let angle = |row: usize, pair: usize| 0.7 * (row * (pair + 1)) as f32;
    let table = (0..rows).flat_map(|row| {
        let own = [angle(row, 0), angle(row, 1)];
        own.map(f32::cos).into_iter().chain(own.map(f32::sin))
    });
    let table: Vec<f32> = table.collect();
    let angles = case.real(Shape::new(1, rows, 2 * pairs), &table);
    let y = case.recording.rotary(x, angles, [depth, depth], false);
    let y = y.unwrap();
    case.output(y);
    let back = case.computed(1, rows, 2 * depth);
    case.push(Rotary {
        x: y,
        angles,
        depth,
        cols: depth,
        from_step: false,
        back: true,
        y: back,
    });
    case.output(back);
    let results = case.native(ONCE);
    let (turned, back) = (&results[0], &results[1]);
    let x = case.input(case.input_of(x)).iter();
    let x: Vec<f64> = x.map(|&x| x.into()).collect();
    for row in 0..rows {
        for c in 0..2 * depth {
            let i = row * 2 * depth + c;
            assert!((back[i] - x[i]).abs() < 1e-6);
            let stays = row == 0 || c >= 2 * pairs;
            assert_eq!(turned[i] == x[i], stays, "row {row}, column {c}");
        }
        for pair in 0..pairs {
            let at = row * 2 * depth + 2 * pair;
            let (sin, cos) = f64::from(angle(row, pair)).sin_cos();
            assert!((turned[at] - (x[at] * cos - x[at + 1] * sin)).abs() < 1e-6);
            assert!((turned[at + 1] - (x[at + 1] * cos + x[at] * sin)).abs() < 1e-6);
        }
    }
}

/// For a row of layer norm's input: its standard deviation with `eps`, and the
/// largest element divided by it.
fn spread_of_row(x: &[f32], eps: f32) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let squares = x
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>();
    let deviation = (squares / n + f64::from(eps)).sqrt();
    (deviation, largest(x) / deviation)
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn layer_norm() {
    for (count, batch, rows, cols) in [
        (1, 1, 1, 1),
        (2, 3, 3, 1),
        (2, 3, 7, 3),
        (1, 3, 3, 7),
        (2, 1, 5, 64),
        (2, 3, 2, 144),
        (1, 2, 3, 1023),
    ] {
        for with_plus in [false, true] {
            let mut case = Case::new();
            let at = case.next();
            let x = case.any(batch, rows, cols);
            let (weight, bias) = (case.any(1, 1, cols), case.any(1, 1, cols));
            let eps = 1e-5;
            let y = case.computed(batch, rows, cols);
            case.push(LayerNorm {
                x,
                weight,
                bias,
                eps,
                y,
            });
            case.output(y);
            let dy = case.any(count * batch, rows, cols);
            let plus = case.any(count * batch, rows, cols);
            let plus = with_plus.then_some(plus);
            let dx = case.computed(count * batch, rows, cols);
            case.push(LayerNormReverse {
                dy,
                x,
                weight,
                eps,
                plus,
                dx,
            });
            case.output(dx);

            // With r the largest |x| over its row's standard deviation s, the
            // normalised n is below 2r and below sqrt(C). The mean is off by 2
            // eps of |x| (a sum of at most 16 by 64 and a division), so n by
            // 3r eps; 1/s by 2 eps through the variance's sum, by 4 through
            // sqrt and division, and by the mean, once more 3r eps of n. Two
            // products and the sum with the bias remain: 6r + 8n + 2 eps.
            // dx = (g - mean(g) - n · mean(g·n)) / s with g below 1: the first
            // two are off by 4 eps; n and mean(g·n), which is below 1 as the
            // mean of n² is, by 6r + 8n each, times the other; then 1/s
            // again, and the sum with `plus`.
            let rows_of_x = case.input(at).chunks(cols).map(|row| {
                let (s, r) = spread_of_row(row, eps);
                let n = f64::min(2.0 * r, (cols as f64).sqrt());
                let off = 6.0 * r + 8.0 * n;
                let reverse = (4.0 + off + n * off + 6.0 * (2.0 + n)) / s;
                (off + 2.0, reverse + 1.0)
            });
            let (forward, reverse): (Vec<f64>, Vec<f64>) = rows_of_x.unzip();
            let wide = |of: &[f64]| of.iter().flat_map(|&x| vec![x; cols]).collect::<Vec<_>>();
            let scales = [wide(&forward), wide(&reverse).repeat(count)];
            let name = format!("layer_norm {count}x{batch}x{rows}x{cols}");
            case.compare_each(&name, ONCE, 1.0, &scales);
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn more_rows_than_one_dimension_holds() {
    let (rows, cols) = (70_001, 3);
    let mut case = Case::new();
    let x = case.any(1, rows, cols);
    let y = case.recording.log_softmax(x);
    case.output(y);
    case.compare(
        "log_softmax of many rows",
        ONCE,
        &[log_probabilities(cols, 2.0)],
    );
}

/// The tolerance of log-probabilities of logits within `range` of each other:
/// x - max is rounded, the sum's terms are off by 3 + 2 · |x - max| eps each,
/// weighted with their share, the sum by a random walk over a lane's terms,
/// and its logarithm by 4 eps or 3 of up to 11.
fn log_probabilities(cols: usize, range: f64) -> Tolerance {
    let lane = (cols as f64 / 256.0).sqrt();
    within(1.0, 1, 0.5 * range + 3.0 + 2.0 * range + lane + 33.0)
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn log_softmax() {
    for (lead, rows, cols) in [
        (1, 1, 1),
        (3, 7, 3),
        (2, 3, 256),
        (2, 3, 1023),
        (1, 2, 51_865),
    ] {
        let mut case = Case::new();
        let x = scaled(&mut case, lead, rows, cols, 4.0);
        let y = case.recording.log_softmax(x);
        case.output(y);
        let name = format!("log_softmax {lead}x{rows}x{cols}");
        case.compare(&name, ONCE, &[log_probabilities(cols, 8.0)]);
    }
}

/// Logits as a decoder with suppressed tokens has them: -1e30 among them.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn log_softmax_of_masked_logits() {
    let mut case = Case::new();
    let logits = [-1e30, 2.0, -1e30, -50.0, 3.0];
    let x = case.real(Shape::new(1, 1, 5), &logits);
    let y = case.recording.log_softmax(x);
    case.output(y);
    // As for log-probabilities within 53 of each other, and the rounding of
    // those that are far larger.
    let scales = logits.iter().map(|x| 80.0 + f64::from(x.abs())).collect();
    case.compare_each("masked logits", ONCE, 1.0, &[scales]);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn reduce() {
    for (count, rows, cols) in [(1, 1, 1), (2, 3, 7), (2, 7, 3), (3, 1, 1023), (2, 5, 64)] {
        for reduction in [
            Reduction::L2,
            Reduction::Sum,
            Reduction::Max,
            Reduction::None,
        ] {
            for with_contrast in [false, true] {
                let mut case = Case::new();
                let gradient = case.any(count, rows, cols);
                let (x, baseline) = (case.any(1, rows, cols), case.any(1, rows, cols));
                let contrast = with_contrast.then_some(Contrast { x, baseline });
                let out = if reduction == Reduction::None {
                    cols
                } else {
                    1
                };
                let updated = case.next();
                // One token fewer than two runs have.
                let map = case.any(2 * count - 1, rows, out);
                case.push(Reduce {
                    gradient,
                    contrast,
                    reduction,
                    map,
                });
                case.updated(updated);
                // Products are up to 2 and rounded twice. Sums of n of them:
                // half an eps of partial sums up to sqrt(n) for each of a
                // lane's 16 and of the six additions of lanes, below 2 eps of
                // sqrt(n) · 2. A norm is as large and has 5 eps of sqrt.
                let size = if with_contrast { 2.0 } else { 1.0 };
                let tolerance = match reduction {
                    Reduction::None | Reduction::Max if !with_contrast => Tolerance::EXACT,
                    Reduction::None | Reduction::Max => within(1.0, 1, size),
                    Reduction::Sum => within(4.0, cols, size),
                    Reduction::L2 => within(8.0, cols, size),
                };
                let runs = [0, count].map(|first| at(FIRST_TOKEN, first));
                let name = format!("reduce {reduction:?} {count}x{rows}x{cols}");
                case.compare(&name, &runs, &[tolerance]);
            }
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn scatter_rows() {
    for (count, batch, rows, cols) in [(1, 1, 1, 1), (2, 3, 7, 3), (2, 1, 3, 1023)] {
        let mut case = Case::new();
        let x = case.any(count * batch, 1, cols);
        let positions: Vec<u32> = (0..3).map(|token| (token * 5 % rows) as u32).collect();
        let positions = case.indices(1, 3, &positions);
        let y = case.computed(count * batch, rows, cols);
        case.push(ScatterRows {
            x,
            positions,
            batch,
            y,
        });
        case.output(y);
        // From the third token on the last is repeated.
        for first in [0, 2] {
            let name = format!("scatter_rows {count}x{batch}x{rows}x{cols} from {first}");
            case.compare(&name, &[at(FIRST_TOKEN, first)], &[Tolerance::EXACT]);
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn take_rows() {
    for (lead, rows, cols, first, count) in [(1, 2, 1, 1, 1), (3, 7, 5, 2, 3), (2, 5, 1023, 0, 4)] {
        let mut case = Case::new();
        let x = case.any(lead, rows, cols);
        let y = case.recording.take_rows(x, first, count).unwrap();
        case.output(y);
        let name = format!("take_rows {lead}x{rows}x{cols} from {first}, {count}");
        case.compare(&name, ONCE, &[Tolerance::EXACT]);
    }
    let mut case = Case::new();
    let x = case.any(1, 4, 3);
    assert_eq!(case.recording.take_rows(x, 0, 4).unwrap(), x);
    let error = case.recording.take_rows(x, 2, 3).unwrap_err().to_string();
    assert!(error.contains("(1, 4, 3)"), "{error}");
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn join_rows() {
    for (above, below, rows, others, cols) in [
        (1, 1, 1, 1, 1),
        (3, 1, 7, 2, 5),
        (1, 4, 3, 5, 1),
        (2, 2, 1, 3, 1023),
    ] {
        let mut case = Case::new();
        let (top, bottom) = (case.any(above, rows, cols), case.any(below, others, cols));
        let y = case.recording.join_rows(top, bottom).unwrap();
        case.output(y);
        let name = format!("join_rows {above}x{rows}x{cols} on {below}x{others}");
        case.compare(&name, ONCE, &[Tolerance::EXACT]);
    }
    let mut case = Case::new();
    let (top, bottom) = (case.any(1, 2, 3), case.any(1, 2, 4));
    let error = case
        .recording
        .join_rows(top, bottom)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("(1, 2, 3)") && error.contains("(1, 2, 4)"),
        "{error}"
    );
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn spread() {
    for (rows, cols) in [(1, 1), (3, 7), (1, 1023), (257, 80)] {
        let mut case = Case::new();
        let x = case.any(1, rows, cols);
        let y = case.computed(1, 1, 1);
        case.push(Spread {
            x,
            fraction: 0.15,
            y,
        });
        case.output(y);
        // A sum and a product, each rounded.
        let tolerance = within(1.0, 1, 0.15 * 2.0);
        case.compare(&format!("spread {rows}x{cols}"), ONCE, &[tolerance]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn sum_batch() {
    for (count, batch, lead, rows, cols) in [
        (1, 1, 1, 1, 1),
        (2, 3, 1, 7, 3),
        (2, 7, 1, 1, 1023),
        (3, 6, 2, 3, 1),
    ] {
        let mut case = Case::new();
        let x = case.any(count * batch, rows, cols);
        let y = case.computed(count * lead, rows, cols);
        case.push(SumBatch { x, batch, y });
        case.output(y);
        // Partial sums up to n, half an eps of each: 1.5 · n · sqrt(n)/7 at
        // n = 7, less below.
        let name = format!("sum_batch {count}x{batch}x{rows}x{cols} to {lead}");
        case.compare(&name, ONCE, &[within(4.0, batch / lead, 1.0)]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn tokens() {
    for (count, batch, rows, cols) in [
        (1, 1, 1, 1),
        (2, 3, 7, 3),
        (2, 1, 3, 1023),
        (1, 3, 2, 257),
        (2, 1, 2, 51_865),
    ] {
        let mut case = Case::new();
        let logits = scaled(&mut case, batch, rows, cols, 4.0);
        let positions: Vec<u32> = (0..3).map(|token| (token * 5 % rows) as u32).collect();
        let labels: Vec<u32> = (0..3).map(|token| (token * 977 % cols) as u32).collect();
        let positions = case.indices(1, 3, &positions);
        let labels = case.indices(1, 3, &labels);
        let dlogits = case.computed(count * batch, 1, cols);
        case.push(TokenSeed {
            logits,
            positions,
            labels,
            dlogits,
        });
        case.output(dlogits);
        let y = case.computed(batch, 3, 1);
        case.push(TokenLogProb {
            logits,
            positions,
            labels,
            y,
        });
        case.output(y);
        // A probability is off by exp's 3 + 2 · 8 eps twice, by its sum and a
        // division, all relative to itself and so to 1.
        let log_probability = log_probabilities(cols, 8.0);
        let seed = within(1.0, 1, 2.0 * 19.0 + (cols as f64 / 256.0).sqrt() + 3.0);
        for first in [0, 2] {
            let name = format!("token_seed, token_log_prob {count}x{batch}x{rows}x{cols}");
            let tolerances = [seed, log_probability];
            case.compare(&name, &[at(FIRST_TOKEN, first)], &tolerances);
        }
    }
}

/// What is taken is what is there, and zeros around it.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn unfold() {
    for (lead, rows, cols, windows) in [
        (1, 1, 1, Windows::padded(1, 1, 0)),
        (3, 7, 3, Windows::padded(5, 2, 2)),
        (2, 8, 5, Windows::causal(5, 2, 1)),
        (2, 1023, 1, Windows::padded(80, 80, 0)),
        (1, 9, 2, Windows::padded(2, 4, 0)),
    ] {
        let mut case = Case::new();
        let x = case.any(lead, rows, cols);
        let y = case.recording.unfold(x, windows).unwrap();
        case.output(y);
        let name = format!("unfold {lead}x{rows}x{cols}, {windows:?}");
        case.compare(&name, ONCE, &[within(0.0, 1, 1.0)]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn asinh() {
    for (count, batch, rows, cols) in [(1, 1, 1, 1), (2, 3, 7, 3), (2, 1, 3, 1023)] {
        for size in [0.01, 0.3, 40.0] {
            let mut case = Case::new();
            let x = scaled(&mut case, batch, rows, cols, size);
            let y = case.recording.asinh(x, 0.75);
            case.output(y);
            let dy = case.any(count * batch, rows, cols);
            let dx = case.computed(count * batch, rows, cols);
            case.push(AsinhReverse {
                dy,
                x,
                factor: 0.75,
                dx,
            });
            case.output(dx);
            // Small numbers keep their digits: a product, five terms of a series. Of
            // large ones the logarithm is off by 3 eps of its argument's share. The
            // slope is a square root and a division, of 3 eps each in the worst case.
            let most = f64::from(0.75 * size).asinh();
            let bounds = [
                within(4.0, 1, most.max(f64::from(0.75 * size).min(0.25))),
                within(6.0, 1, 0.75),
            ];
            let name = format!("asinh {size} {batch}x{rows}x{cols}");
            case.compare(&name, ONCE, &bounds);
        }
    }
}

#[test]
fn asinh_is_that_of_the_library() {
    let mut case = Case::new();
    let values: Vec<f32> = vec![0.0, 1e-20, -1e-4, 0.3, -0.33, 1.0, -30.0, 1e10];
    let x = case.real(Shape::new(1, 1, values.len()), &values);
    let y = case.recording.asinh(x, 2.0);
    case.output(y);
    for (&x, y) in values.iter().zip(&case.native(ONCE)[0]) {
        let right = (2.0 * f64::from(x)).asinh();
        assert!((y - right).abs() <= 1e-15 * right.abs(), "{x}: {y}");
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn fold() {
    for (lead, rows, cols, kernel, stride, padding) in [
        (1, 1, 1, 1, 1, 0),
        (1, 1, 3, 3, 2, 1),
        (3, 7, 3, 3, 1, 1),
        (3, 7, 3, 5, 2, 2),
        (2, 8, 5, 3, 2, 0),
        (1, 1023, 3, 5, 2, 2),
        (1, 9, 2, 2, 4, 0),
    ] {
        let windows = Windows::padded(kernel, stride, padding);
        let mut case = Case::new();
        let dy = case.any(lead, windows.count(rows).unwrap(), kernel * cols);
        let dx = case.computed(lead, rows, cols);
        case.push(Fold { dy, windows, dx });
        case.output(dx);
        // Sums of at most five terms: partial sums up to 5, half an eps each.
        let name = format!("fold {lead}x{rows}x{cols}, {windows:?}");
        case.compare(&name, ONCE, &[within(4.0, kernel, 1.0)]);
    }
}

/// Rows, positions and columns that the cases below index.
const FEW: usize = 3;

/// An operator that reads one element by `index`, where FEW are right.
fn reading_by_index(what: &str, index: u32) -> Case {
    let mut case = Case::new();
    let first = case.indices(1, 1, &[0]);
    let own = case.indices(1, 1, &[index]);
    let cols = 5;
    match what {
        "token_seed" => {
            let dlogits = case.computed(2, 1, cols);
            let operator = TokenSeed {
                logits: case.any(2, FEW, cols),
                positions: own,
                labels: first,
                dlogits,
            };
            case.push(operator);
            case.output(dlogits);
        }
        "token_log_prob, position" | "token_log_prob, label" => {
            let by_label = what.ends_with("label");
            let y = case.computed(2, 1, 1);
            let operator = TokenLogProb {
                logits: case.any(2, FEW, FEW),
                positions: if by_label { first } else { own },
                labels: if by_label { own } else { first },
                y,
            };
            case.push(operator);
            case.output(y);
        }
        "kl_divergence" => {
            let y = case.computed(2, 1, 1);
            let operator = KlDivergence {
                reference: case.any(1, FEW, cols),
                logits: case.any(2, FEW, cols),
                positions: own,
                y,
            };
            case.push(operator);
            case.output(y);
        }
        "attention_x_gradient" => {
            let updated = case.next();
            let map = case.any(2, 1, cols);
            let operator = AttentionXGradient {
                probabilities: case.any(1, 2 * FEW, cols),
                value: case.any(1, cols, 4).into(),
                doutput: case.any(1, FEW, 4),
                positions: own,
                map,
            };
            case.push(operator);
            case.updated(updated);
        }
        "correlate" => {
            let y = case.computed(1, 1, 2);
            let operator = Correlate {
                a: case.any(1, FEW, cols),
                b: case.any(1, FEW, cols),
                causal: Some(own),
                y,
            };
            case.push(operator);
            case.output(y);
        }
        "expand_scores" => {
            let map = case.computed(2, 1, 1);
            let operator = ExpandScores {
                sums: case.any(2, FEW, 3),
                labels: own,
                half: Half::First,
                causal: None,
                map,
            };
            case.push(operator);
            case.output(map);
        }
        "cached_attention" => {
            let output = case.computed(FEW, 1, 4);
            let operator = CachedAttention {
                query: case.any(FEW, 1, 4).into(),
                cache: case.any(FEW, 1, 8),
                ancestry: case.indices(FEW, 1, &[0, index, 1]),
                heads: 2,
                width: 4,
                scale: 1.0,
                output,
            };
            case.push(operator);
            case.output(output);
        }
        // The segment's bit of the last word, whichever segment it is.
        "apply_mask" => {
            let bits = case.table(Shape::new(1, 1, 1), &[0b100]);
            let (x, fill) = (case.any(1, 1, 1), case.any(1, 1, 1));
            let source = MaskSource::Given { bits };
            let label = case.indices(1, 1, &[index % 4 + index / 4 * 32]);
            let y = case.recording.apply_mask(x, label, 32, source, fill, 1);
            case.output(y);
        }
        _ => unreachable!("{what} has no case"),
    }
    case
}

/// An index that no host should send reads the last element in its place and
/// nothing beyond a buffer, also where the driver does not check.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn indices_past_the_end_read_the_last() {
    let last = FEW as u32 - 1;
    let scalars = [at(MASKING, 1)];
    for what in [
        "token_seed",
        "token_log_prob, position",
        "token_log_prob, label",
        "kl_divergence",
        "attention_x_gradient",
        "correlate",
        "expand_scores",
        "cached_attention",
        "apply_mask",
    ] {
        let read = |index, mode| reading_by_index(what, index).gpu(&scalars, mode);
        let want = read(last, MODES[0]);
        assert_ne!(want, read(0, MODES[0]), "{what}: the index counts");
        // The same bit of a word of a mask.
        for index in [last + 4, 4002, 0x00ff_fffe] {
            for mode in MODES {
                assert_eq!(want, read(index, mode), "{what} of {index}, {mode:?}");
            }
        }
    }
}

/// A step past the last position takes the last.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn steps_past_the_end_take_the_last_position() {
    let mut case = Case::new();
    let ids = case.indices(2, 1, &[0, 1]);
    let (table, positions) = (case.any(1, 2, 7), case.any(1, FEW, 7));
    let y = case.recording.embedding(ids, table, 1.0, positions, true);
    case.output(y.unwrap());
    let want = case.gpu(&[at(STEP, FEW - 1)], MODES[0]);
    assert_ne!(want, case.gpu(ONCE, MODES[0]));
    for step in [FEW, 4000, 1 << 26] {
        for mode in MODES {
            let got = case.gpu(&[at(STEP, step)], mode);
            assert_eq!(want, got, "{step}, {mode:?}");
        }
    }
}
