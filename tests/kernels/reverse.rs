//! The reverse of every operator against central differences, in f64.
//!
//! Each case appends a product with random weights to the operator under
//! test, explains tokens of the resulting logits, and compares the gradient of
//! every token's log-probability with (f(x + h) - f(x - h)) / 2h for every
//! element of every input. With h = 1e-5 and third derivatives of order 1 the
//! difference is off by h²/6 = 2e-11, and by the rounding of f, 1e-16 · 5 / h
//! = 5e-11; gradients are of order 0.1, so their relative error stays below
//! 1e-8 and 1e-7 has room for small gradients.

use crate::cases::{Case, at, values};
use crate::operators::plane;
use sonograd::Error;
use sonograd::engine::executor::Executor;
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::reverse::{Seed, reverse};
use sonograd::engine::tensor::{Columns, Scalars, Shape, TensorId};
use sonograd::engine::weights::WeightTable;
use sonograd::ops::scalars::FIRST_TOKEN;
use sonograd::ops::{
    Activation, Add, AttentionSpec, Gate, Layout, Mask, Operator, Plane, Relative, TokenLogProb,
    Windows,
};

const STEP: f64 = 1e-5;
const LARGEST_ERROR: f64 = 1e-7;

/// Adds `scale_a` · a + `scale_b` · b to the recording.
fn add(case: &mut Case, a: TensorId, b: TensorId, scale_a: f32, scale_b: f32) -> TensorId {
    let (own, other) = (case.recording.shape(a), case.recording.shape(b));
    let y = case
        .recording
        .computed(own.with_lead(own.lead.max(other.lead)));
    case.push(Add {
        a,
        b,
        scale_a,
        scale_b,
        y,
    });
    y
}

/// Which elements of a lead row are moved together, and which way: each alone,
/// or half of many at once.
fn ways(shape: Shape) -> Vec<Vec<(usize, f64)>> {
    const EACH: usize = 1000;
    if shape.len() <= EACH {
        return (0..shape.len())
            .map(|element| vec![(element, 1.0)])
            .collect();
    }
    let leads = (0..shape.lead).flat_map(|lead| (0..3).map(move |seed| (lead, seed)));
    let ways = leads.map(|(lead, seed)| {
        let signs = values(shape.inner(), 100 + seed).into_iter().enumerate();
        let moved = signs.filter(|(_, draw)| draw.abs() > 0.5);
        let begin = lead * shape.inner();
        moved
            .map(|(at, draw)| (begin + at, f64::from(draw.signum())))
            .collect()
    });
    ways.collect()
}

/// Compares all gradients of y, which `build` makes of the inputs that it
/// returns with it.
fn check(name: &str, build: impl FnOnce(&mut Case) -> (Vec<TensorId>, TensorId)) {
    let mut case = Case::new();
    let (sources, y) = build(&mut case);
    let (count, vocabulary) = (3, 5);
    let shape = case.recording.shape(y);
    let weight = case.any(1, vocabulary, shape.cols);
    let logits = case.recording.matmul(y, weight).record().unwrap();
    let rows = shape.rows as u32;
    let positions = case.indices(1, count, &[rows - 1, 0, rows / 2]);
    let labels = case.indices(1, count, &[2, 0, 4]);
    // Gradients of a run that begins at the second token, so that its last
    // row repeats the third.
    let seed = Seed {
        logits,
        positions,
        labels,
        count,
    };
    let first = 1;
    let gradients = reverse(&mut case.recording, seed, &sources).unwrap();
    let log_probs = case.computed(shape.lead, count, 1);
    case.push(TokenLogProb {
        logits,
        positions,
        labels,
        y: log_probs,
    });
    case.output(log_probs);
    for gradient in gradients {
        // One tensor may be the gradient of several sources.
        let copy = add(&mut case, gradient, gradient, 1.0, 0.0);
        case.output(copy);
    }

    let mut executor = NativeExecutor::<f64>::new(&WeightTable::default(), false);
    let scalars = at(FIRST_TOKEN, first);
    let ran = case.run(&mut executor, std::slice::from_ref(&scalars));
    let results = &ran.results;
    let batch = shape.lead;
    let gradients = results[1..]
        .iter()
        .map(|&id| executor.read_real(id).to_vec());
    let gradients: Vec<Vec<f64>> = gradients.collect();
    for (&source, want) in sources.iter().zip(&gradients) {
        let index = case.input_of(source);
        let own = case.recording.shape(source);
        let id = ran.tensors[index];
        let x: Vec<f64> = case.input(index).iter().map(|&x| x.into()).collect();
        assert_eq!(want.len(), count * own.len(), "{name}");
        let (mut off, mut norm) = (0.0f64, 0.0f64);
        for way in ways(own) {
            let [low, high] = [-STEP, STEP].map(|step| {
                let mut x = x.clone();
                way.iter()
                    .for_each(|(element, sign)| x[*element] += step * sign);
                executor.upload_real(id, &x).unwrap();
                executor.run(ran.plan, 0, &scalars).unwrap();
                executor.read_real(results[0]).to_vec()
            });
            for k in 0..count {
                let token = (first + k).min(count - 1);
                // A source that is broadcast reaches the rows of all variants.
                let lead = way[0].0 / own.inner();
                let variants = (0..batch).filter(|b| b % own.lead == lead);
                let slope: f64 = variants
                    .map(|b| high[b * count + token] - low[b * count + token])
                    .sum::<f64>()
                    / (2.0 * STEP);
                let parts = way.iter();
                let got: f64 = parts
                    .map(|(at, sign)| want[k * own.len() + at] * sign)
                    .sum();
                off += (got - slope).powi(2);
                norm += got.powi(2);
            }
        }
        executor.upload_real(id, &x).unwrap();
        // Where weights cannot move at all, as those of a single key, both
        // sides are 0 but for rounding.
        let error = if norm <= 1e-30 {
            off.sqrt()
        } else {
            (off / norm).sqrt()
        };
        println!("{name}, input {index} {own}: relative error {error:.1e}");
        assert!(
            error <= LARGEST_ERROR,
            "{name}, input {index} {own}: {error:e}"
        );
    }
}

/// Whether all elements of what the activation of operator `index` is applied
/// to stay ten steps away from 0, where ReLU has its kink. A step of an input
/// moves them by up to `weight` steps.
fn keep_from_kink(case: &mut Case, index: usize, weight: f64) {
    let mut probe = case.clone();
    let pre = probe.recording.operators()[index].outputs()[1];
    probe.output(pre);
    let all = probe.native(&[Scalars::ZERO]);
    let nearest = all[0]
        .iter()
        .fold(f64::INFINITY, |least, x| least.min(x.abs()));
    assert!(
        nearest >= 10.0 * weight * STEP,
        "{nearest:e} from the kink: other values"
    );
}

#[test]
fn matmul() {
    for activation in Activation::ALL {
        for (batch, rows, inputs, outputs) in [(1, 1, 3, 7), (3, 2, 7, 5), (2, 7, 1, 3)] {
            for layout in [Layout::OutIn, Layout::InOut] {
                let name = format!("matmul {activation:?} {layout:?} {batch}x{rows}");
                check(&name, |case| {
                    let x = case.any(batch, rows, inputs);
                    let residual = case.any(batch, rows, outputs);
                    let weight = match layout {
                        Layout::OutIn => case.any(1, outputs, inputs),
                        Layout::InOut => case.any(1, inputs, outputs),
                    };
                    let bias = case.any(1, 1, outputs);
                    let product = case.recording.matmul(x, weight).layout(layout);
                    let product = product.bias(bias).activation(activation);
                    let product = product.scale(-1.5).residual(residual);
                    let y = product.record().unwrap();
                    if activation == Activation::Relu {
                        keep_from_kink(case, 0, 1.0);
                    }
                    (vec![x, residual], y)
                });
            }
        }
    }
}

/// Without activation and residual the cotangent stays one row for each token.
#[test]
fn matmul_of_one_row_for_each_token() {
    check("two matmuls", |case| {
        let x = case.any(2, 5, 3);
        let (first, second) = (case.any(1, 7, 3), case.any(1, 4, 7));
        let y = case.recording.matmul(x, first).scale(0.5).record().unwrap();
        let y = case.recording.matmul(y, second).record().unwrap();
        (vec![x], y)
    });
}

/// A residual of batch 1 is broadcast, and its reverse sums over the batch.
#[test]
fn residual_broadcast_over_the_batch() {
    for activation in [Activation::None, Activation::Silu] {
        check(&format!("broadcast residual, {activation:?}"), |case| {
            let (x, residual) = (case.any(3, 4, 5), case.any(1, 4, 7));
            let weight = case.any(1, 7, 5);
            let product = case.recording.matmul(x, weight).activation(activation);
            let y = product.residual(residual).record().unwrap();
            (vec![x, residual], y)
        });
    }
}

#[test]
fn sums() {
    for (lead_a, lead_b) in [(1, 1), (3, 1), (1, 3), (4, 2)] {
        check(&format!("add {lead_a}+{lead_b}"), |case| {
            let (a, b) = (case.any(lead_a, 3, 5), case.any(lead_b, 3, 5));
            let y = add(case, a, b, 1.0, 1.0);
            (vec![a, b], y)
        });
    }
    check("x + x", |case| {
        let x = case.any(2, 3, 5);
        let y = add(case, x, x, 1.0, 1.0);
        (vec![x], y)
    });
}

/// Cotangents of one row for each token and of all rows meet at one tensor,
/// in both orders.
#[test]
fn several_consumers() {
    for dense_first in [false, true] {
        check(&format!("several consumers, {dense_first}"), |case| {
            let x = case.any(2, 4, 6);
            let (weight, gates) = (case.any(1, 5, 6), case.any(1, 10, 6));
            let branches = [dense_first, !dense_first].map(|dense| {
                if dense {
                    let gates = case.recording.matmul(x, gates).record().unwrap();
                    case.recording.glu(gates, Gate::Sigmoid, 1.0).unwrap()
                } else {
                    case.recording.matmul(x, weight).record().unwrap()
                }
            });
            let y = add(case, branches[0], branches[1], 1.0, 1.0);
            (vec![x], y)
        });
    }
}

#[test]
fn glu() {
    for (batch, rows, cols) in [(1, 1, 1), (3, 3, 7), (1, 7, 3)] {
        for gate in [Gate::Sigmoid, Gate::Silu] {
            check(&format!("glu {gate:?} {batch}x{rows}x{cols}"), |case| {
                let x = case.any(batch, rows, 2 * cols);
                let y = case.recording.glu(x, gate, 1.5).unwrap();
                (vec![x], y)
            });
        }
    }
}

#[test]
fn group_norm() {
    for (batch, rows, cols) in [(1, 1, 3), (3, 3, 7), (2, 7, 1), (1, 9, 33)] {
        check(&format!("group_norm {batch}x{rows}x{cols}"), |case| {
            let x = case.any(batch, rows, cols);
            let (weight, bias) = (case.any(1, 1, cols), case.any(1, 1, cols));
            let y = case.recording.group_norm(x, weight, bias, 1e-5).unwrap();
            (vec![x], y)
        });
    }
}

#[test]
fn asinh() {
    for (batch, rows, cols) in [(1, 1, 1), (3, 3, 7), (2, 7, 1)] {
        check(&format!("asinh {batch}x{rows}x{cols}"), |case| {
            let x = case.any(batch, rows, cols);
            (vec![x], case.recording.asinh(x, 1.7))
        });
    }
}

/// Padded, causal, apart, and with a rest that is in no window.
#[test]
fn unfold() {
    for (windows, rows) in [
        (HALVING, 6),
        (Windows::causal(5, 2, 0), 7),
        (Windows::causal(3, 1, 2), 1),
        (Windows::padded(4, 4, 0), 11),
        (Windows::padded(2, 5, 1), 9),
    ] {
        check(&format!("unfold {windows:?}"), |case| {
            let x = case.any(2, rows, 3);
            let y = case.recording.unfold(x, windows).unwrap();
            (vec![x], y)
        });
    }
}

/// Whole heads, odd ones too, beside columns that stay.
#[test]
fn rotary() {
    for (batch, rows, heads, depth, others) in [(1, 1, 1, 2, 0), (3, 3, 2, 5, 4), (2, 7, 3, 4, 1)] {
        check(
            &format!("rotary {batch}x{rows}, {heads} of {depth}"),
            |case| {
                let x = case.any(batch, rows, heads * depth + others);
                let angles = case.any(1, rows + 2, 2 * (depth / 2));
                let sizes = [depth, heads * depth];
                let y = case.recording.rotary(x, angles, sizes, false).unwrap();
                (vec![x], y)
            },
        );
    }
}

#[test]
fn layer_norm() {
    for (batch, rows, cols) in [(1, 1, 3), (3, 3, 7), (1, 7, 33)] {
        for with_residual in [false, true] {
            let name = format!("layer_norm {batch}x{rows}x{cols}, residual {with_residual}");
            check(&name, |case| {
                let x = case.any(batch, rows, cols);
                let (weight, bias) = (case.any(1, 1, cols), case.any(1, 1, cols));
                let mut y = case.recording.layer_norm(x, weight, bias, 1e-5).unwrap();
                if with_residual {
                    // What reaches x past the norm is added by its reverse.
                    let weight = case.any(1, cols, cols);
                    let product = case.recording.matmul(y, weight);
                    y = product.residual(x).record().unwrap();
                }
                (vec![x], y)
            });
        }
    }
}

/// A row of one column is all mean: its gradient is 0, exactly.
#[test]
fn layer_norm_of_one_column() {
    let mut case = Case::new();
    let x = case.any(2, 3, 1);
    let (weight, bias) = (case.any(1, 1, 1), case.any(1, 1, 1));
    let y = case.recording.layer_norm(x, weight, bias, 1e-5).unwrap();
    let projection = case.any(1, 5, 1);
    let logits = case.recording.matmul(y, projection).record().unwrap();
    let (positions, labels) = (case.indices(1, 1, &[1]), case.indices(1, 1, &[4]));
    let seed = Seed {
        logits,
        positions,
        labels,
        count: 1,
    };
    let gradients = reverse(&mut case.recording, seed, &[x]).unwrap();
    case.output(gradients[0]);
    assert_eq!(case.native(&[Scalars::ZERO])[0], [0.0; 6]);
}

#[test]
fn depthwise() {
    for activation in Activation::ALL {
        for (batch, frames, cols, kernel) in
            [(1, 1, 3, 3), (3, 4, 3, 7), (2, 7, 5, 3), (1, 5, 2, 31)]
        {
            let name = format!("depthwise {activation:?} {batch}x{frames}x{cols}, {kernel}");
            check(&name, |case| {
                let x = case.any(batch, frames, cols);
                let (weight, bias) = (case.any(1, kernel, cols), case.any(1, 1, cols));
                let y = case
                    .recording
                    .depthwise(x, weight, bias, activation)
                    .unwrap();
                if activation == Activation::Relu {
                    keep_from_kink(case, 0, 1.0);
                }
                (vec![x], y)
            });
        }
    }
}

/// Windows over planes: as the models' convolutions have them, and with what
/// they leave out at the end.
const OVER_PLANES: [(usize, Plane, usize, Windows); 4] = [
    (1, plane(1, 1), 2, HALVING),
    (2, plane(5, 4), 3, HALVING),
    (1, plane(4, 7), 2, Windows::padded(2, 3, 0)),
    (2, plane(3, 4), 3, Windows::padded(5, 1, 2)),
];

#[test]
fn convolution_2d() {
    for activation in Activation::ALL {
        for (batch, own, channels, windows) in OVER_PLANES {
            let name = format!("convolution_2d {activation:?} {batch} {own:?} {windows:?}");
            check(&name, |case| {
                let x = case.any(batch, own.frames, own.bins);
                let taps = windows.kernel * windows.kernel;
                let (weight, bias) = (case.any(1, taps, channels), case.any(1, 1, channels));
                let y = case
                    .recording
                    .convolution_2d(x, weight, bias, windows, activation);
                if activation == Activation::Relu {
                    keep_from_kink(case, 0, 1.0);
                }
                (vec![x], y.unwrap().0)
            });
        }
    }
}

#[test]
fn depthwise_2d() {
    for (batch, own, channels, windows) in OVER_PLANES {
        check(
            &format!("depthwise_2d {batch} {own:?} {windows:?}"),
            |case| {
                let x = case.any(batch, own.rows(), channels);
                let taps = windows.kernel * windows.kernel;
                let (weight, bias) = (case.any(1, taps, channels), case.any(1, 1, channels));
                let y = case.recording.depthwise_2d((x, own), weight, bias, windows);
                (vec![x], y.unwrap().0)
            },
        );
    }
}

/// Of a plane of ones each window counts its elements that are inside, and the
/// bins of a frame are one window of its rows.
#[test]
fn planes_are_bins_within_frames() {
    let mut case = Case::new();
    let x = case.real(Shape::new(1, 3, 4), &[1.0; 12]);
    let (weight, bias) = (
        case.real(Shape::new(1, 9, 2), &[1.0, 10.0].repeat(9)),
        case.real(Shape::new(1, 1, 2), &[0.0, 0.5]),
    );
    let y = case
        .recording
        .convolution_2d(x, weight, bias, HALVING, Activation::None);
    let (y, over) = y.unwrap();
    assert_eq!(over, plane(2, 2));
    case.output(y);
    let unit: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
    let unit = case.real(Shape::new(1, 4, 4), &unit);
    let frames = case
        .recording
        .matmul(y, unit)
        .windows(Windows::padded(2, 2, 0));
    let frames = frames.record().unwrap();
    case.output(frames);
    let all = case.native(&[Scalars::ZERO]);
    let expected = [4.0, 40.5, 6.0, 60.5, 4.0, 40.5, 6.0, 60.5];
    assert_eq!(all, [expected, expected]);
}

#[test]
fn planes_that_do_not_fit_are_refused() {
    let mut case = Case::new();
    let x = case.any(1, 4, 6);
    let (bias, other) = (case.any(1, 1, 2), case.any(1, 1, 3));
    for (taps, bias, windows, good) in [
        (9, bias, HALVING, true),
        (9, other, HALVING, false),
        (8, bias, HALVING, false),
        (9, bias, Windows::padded(3, 0, 1), false),
        (49, bias, Windows::padded(7, 1, 0), false),
    ] {
        let weight = case.any(1, taps, 2);
        let y = case
            .recording
            .convolution_2d(x, weight, bias, windows, Activation::None);
        assert_eq!(y.is_ok(), good, "{windows:?}");
    }
    let (x, weight) = (case.any(1, 24, 2), case.any(1, 9, 2));
    for (own, good) in [(plane(4, 6), true), (plane(4, 5), false)] {
        let y = case.recording.depthwise_2d((x, own), weight, bias, HALVING);
        assert_eq!(y.is_ok(), good, "{own:?}");
    }
}

/// Two frames to one, as the models' convolutions do.
const HALVING: Windows = Windows::padded(3, 2, 1);

/// Multiplied with the unit matrix, windows are there to be seen.
#[test]
fn windows_are_frames_side_by_side() {
    let mut case = Case::new();
    let x = case.real(
        Shape::new(2, 4, 1),
        &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
    );
    let unit = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let unit = case.real(Shape::new(1, 3, 3), &unit);
    let y = case.recording.matmul(x, unit).windows(HALVING);
    let y = y.record().unwrap();
    case.output(y);
    let expected = [0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 0.0, 5.0, 6.0, 6.0, 7.0, 8.0];
    assert_eq!(case.native(&[Scalars::ZERO])[0], expected);
}

/// Too short for one window, or no windows at all.
#[test]
fn impossible_windows_are_refused() {
    let mut case = Case::new();
    let x = case.any(1, 2, 1);
    for (kernel, stride, padding, good) in [
        (2, 1, 0, true),
        (4, 2, 1, true),
        (3, 1, 0, false),
        (5, 2, 1, false),
        (2, 0, 0, false),
        (0, 1, 0, false),
    ] {
        let weight = case.any(1, 1, kernel);
        let windows = Windows::padded(kernel, stride, padding);
        let product = case.recording.matmul(x, weight).windows(windows);
        assert_eq!(product.record().is_ok(), good, "{windows:?}");
    }
}

#[test]
fn products_with_windows() {
    for (frames, kernel, stride, padding) in [
        (1, 3, 1, 1),
        (1, 3, 2, 1),
        (7, 3, 1, 1),
        (7, 3, 2, 1),
        (8, 5, 1, 2),
        (8, 5, 2, 2),
        (9, 3, 2, 0),
        (9, 2, 4, 0),
    ] {
        let windows = Windows::padded(kernel, stride, padding);
        check(&format!("{frames} frames, {windows:?}"), |case| {
            let x = case.any(2, frames, 3);
            let (weight, bias) = (case.any(1, 4, kernel * 3), case.any(1, 1, 4));
            let y = case.recording.matmul(x, weight).windows(windows);
            let y = y.bias(bias).activation(Activation::Silu).record().unwrap();
            (vec![x], y)
        });
    }
}

/// An attention of `heads` heads of `depth` columns, apart from its operands.
fn attention(parts: [Columns; 3], heads: usize, depth: usize) -> AttentionSpec {
    let [query, key, value] = parts;
    AttentionSpec {
        query,
        key,
        value,
        heads,
        width: heads * depth,
        scale: 0.7,
        mask: Mask::None,
        relative: None,
    }
}

/// Query, key and value as parts of one tensor, in this order.
fn packed(tensor: TensorId, width: usize) -> [Columns; 3] {
    [0, 1, 2].map(|part| Columns {
        tensor,
        offset: part * width,
    })
}

fn relative(case: &mut Case, positions: usize, width: usize) -> Relative {
    Relative {
        positions: case.any(1, positions, width),
        biases: case.any(1, 2, width),
    }
}

#[test]
fn attention_to_itself() {
    for (batch, frames, heads, depth) in [(1, 1, 1, 3), (3, 3, 2, 3), (1, 7, 3, 1), (2, 6, 1, 5)] {
        for kind in ["plain", "causal", "near", "shifted", "relative"] {
            let width = heads * depth;
            let spec = |case: &mut Case, parts| {
                let mut spec = attention(parts, heads, depth);
                match kind {
                    "causal" => spec.mask = Mask::Causal,
                    "near" => {
                        spec.mask = Mask::Near {
                            before: 2,
                            behind: 1,
                        }
                    }
                    "shifted" => spec.relative = Some(relative(case, frames, width)),
                    "relative" => spec.relative = Some(relative(case, 2 * frames - 1, width)),
                    _ => {}
                }
                spec
            };
            let name = format!("{kind} attention {batch}x{frames} of {heads}x{depth}");
            check(&format!("{name}, packed"), |case| {
                let x = case.any(batch, frames, 3 * width);
                let spec = spec(case, packed(x, width));
                let (y, _) = case.recording.attention(spec).unwrap();
                (vec![x], y)
            });
            check(&format!("{name}, separate"), |case| {
                let parts = [0; 3].map(|_| case.any(batch, frames, width));
                let spec = spec(case, parts.map(Columns::from));
                let (y, _) = case.recording.attention(spec).unwrap();
                (parts.to_vec(), y)
            });
        }
    }
}

#[test]
fn attention_to_something_else() {
    for (batch, lead_keys, queries, keys, heads, depth) in [
        (1, 1, 1, 3, 1, 3),
        (3, 3, 3, 7, 2, 3),
        (2, 2, 7, 2, 1, 5),
        (3, 1, 2, 5, 2, 3),
    ] {
        let width = heads * depth;
        let name = format!("cross attention {batch}:{lead_keys} x {queries}:{keys}");
        check(&format!("{name}, packed"), |case| {
            let query = case.any(batch, queries, width);
            let memory = case.any(lead_keys, keys, 2 * width);
            let [key, value, _] = packed(memory, width);
            let spec = attention([query.into(), key, value], heads, depth);
            let (y, _) = case.recording.attention(spec).unwrap();
            (vec![query, memory], y)
        });
        check(&format!("{name}, separate"), |case| {
            let query = case.any(batch, queries, width);
            let (key, value) = (
                case.any(lead_keys, keys, width),
                case.any(lead_keys, keys, width),
            );
            let parts = [query, key, value].map(Columns::from);
            let spec = attention(parts, heads, depth);
            let (y, _) = case.recording.attention(spec).unwrap();
            (vec![query, key, value], y)
        });
        // The memory alone, as the encoder's output is explained.
        check(&format!("{name}, memory alone"), |case| {
            let query = case.any(batch, queries, width);
            let memory = case.any(lead_keys, keys, 2 * width);
            let [key, value, _] = packed(memory, width);
            let spec = attention([query.into(), key, value], heads, depth);
            let (y, _) = case.recording.attention(spec).unwrap();
            (vec![memory], y)
        });
    }
}

/// More queries and keys than a block of the native executor has.
#[test]
fn attention_in_blocks() {
    let (rows, heads, depth) = (530, 2, 3);
    let width = heads * depth;
    check("attention in blocks, causal", |case| {
        let x = case.any(1, rows, 3 * width);
        let spec = AttentionSpec {
            mask: Mask::Causal,
            ..attention(packed(x, width), heads, depth)
        };
        let (y, _) = case.recording.attention(spec).unwrap();
        (vec![x], y)
    });
    check("attention in blocks, cross", |case| {
        let query = case.any(1, 300, width);
        let memory = case.any(1, rows, 2 * width);
        let [key, value, _] = packed(memory, width);
        let spec = attention([query.into(), key, value], heads, depth);
        let (y, _) = case.recording.attention(spec).unwrap();
        (vec![query, memory], y)
    });
    // The first layer of a model that hears windows: the sound's rows alone
    // have cotangents there.
    for sound in [20, 300] {
        check(&format!("a window with {sound} rows of sound"), |case| {
            let top = case.any(1, sound, 4);
            let filling = case.any(1, rows - sound, 4);
            let x = case.recording.join_rows(top, filling).unwrap();
            let [weight, bias] = [4, 1].map(|rows| case.any(1, rows, 4));
            let x = case.recording.matmul(x, weight);
            let x = x.bias(bias).activation(Activation::Gelu).record().unwrap();
            let normed = case.recording.layer_norm(x, bias, bias, 1e-5).unwrap();
            let weight = case.any(1, 3 * width, 4);
            let parts = case.recording.matmul(normed, weight).record().unwrap();
            let spec = attention(packed(parts, width), heads, depth);
            let (mixed, _) = case.recording.attention(spec).unwrap();
            let weight = case.any(1, 4, width);
            let y = case.recording.matmul(mixed, weight).residual(x);
            let y = y.record().unwrap();
            (vec![top], y)
        });
    }
}

#[test]
fn join_rows() {
    for (above, below) in [(1, 1), (2, 1), (1, 3)] {
        check(&format!("join_rows, lead {above} on {below}"), |case| {
            let (top, bottom) = (case.any(above, 3, 4), case.any(below, 2, 4));
            let y = case.recording.join_rows(top, bottom).unwrap();
            (vec![top, bottom], y)
        });
    }
}

/// Operators after one another, as in the models.
#[test]
fn a_small_conformer_block() {
    check("conformer block", |case| {
        let (batch, frames, width) = (2, 6, 4);
        let sound = case.any(batch, 11, 3);
        let weight = case.any(1, 2 * width, 9);
        let x = case.recording.matmul(sound, weight);
        let x = x.windows(HALVING).record().unwrap();
        let x = case.recording.glu(x, Gate::Sigmoid, 1.0).unwrap();
        let (gain, bias) = (case.any(1, 1, width), case.any(1, 1, width));
        let normed = case.recording.layer_norm(x, gain, bias, 1e-5).unwrap();
        let weight = case.any(1, 3 * width, width);
        let projected = case.recording.matmul(normed, weight).record().unwrap();
        let mut spec = attention(packed(projected, width), 2, width / 2);
        spec.relative = Some(relative(case, frames, width));
        let (mixed, _) = case.recording.attention(spec).unwrap();
        let weight = case.any(1, width, width);
        let product = case.recording.matmul(mixed, weight).scale(0.5);
        let x = product.residual(x).record().unwrap();
        let (weight, bias) = (case.any(1, 3, width), case.any(1, 1, width));
        let y = case
            .recording
            .depthwise(x, weight, bias, Activation::Silu)
            .unwrap();
        let y = add(case, x, y, 1.0, 1.0);
        (vec![sound], y)
    });
}

#[test]
fn what_has_no_reverse_says_so() {
    let gradients = |build: &dyn Fn(&mut Case) -> (TensorId, TensorId)| {
        let mut case = Case::new();
        let (source, logits) = build(&mut case);
        let (positions, labels) = (case.indices(1, 1, &[0]), case.indices(1, 1, &[0]));
        let seed = Seed {
            logits,
            positions,
            labels,
            count: 1,
        };
        reverse(&mut case.recording, seed, &[source]).unwrap_err()
    };
    let error = gradients(&|case| {
        let x = case.any(1, 2, 3);
        (x, add(case, x, x, 0.5, 0.5))
    });
    assert!(
        matches!(
            &error,
            Error::Shape {
                operator: "add",
                ..
            }
        ),
        "{error}"
    );
    let error = gradients(&|case| {
        let x = case.any(1, 2, 3);
        (x, case.recording.log_softmax(x))
    });
    assert!(error.to_string().contains("has no reverse"), "{error}");
    let error = gradients(&|case| {
        let (x, key) = (case.any(1, 2, 3), case.any(1, 2, 3));
        let spec = attention([x, key, x].map(Columns::from), 1, 3);
        (x, case.recording.attention(spec).unwrap().0)
    });
    assert!(error.to_string().contains("keys or values"), "{error}");
    let error = gradients(&|case| (case.any(1, 2, 3), case.any(1, 2, 3)));
    assert!(error.to_string().contains("does not depend"), "{error}");
}

/// Only operators between a source and the output are reversed.
#[test]
fn nothing_else_is_reversed() {
    let mut case = Case::new();
    let (x, other) = (case.any(1, 2, 3), case.any(1, 2, 6));
    let gated = case.recording.glu(other, Gate::Sigmoid, 1.0).unwrap();
    let y = add(&mut case, x, gated, 1.0, 1.0);
    let (positions, labels) = (case.indices(1, 1, &[0]), case.indices(1, 1, &[0]));
    let seed = Seed {
        logits: y,
        positions,
        labels,
        count: 1,
    };
    let before = case.recording.operators().len();
    reverse(&mut case.recording, seed, &[x]).unwrap();
    let names: Vec<_> = case.recording.operators()[before..]
        .iter()
        .map(Operator::name)
        .collect();
    assert_eq!(names, ["token_seed", "scatter_rows"]);
}
