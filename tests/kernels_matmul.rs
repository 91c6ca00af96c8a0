//! `shaders/matmul.wgsl` against the native executor in f64.

mod common;

use common::{Both, EPSILON, compare, deviation, values};
use sonograd::engine::tensor::{Shape, WeightId};
use sonograd::engine::weights::WeightTable;
use sonograd::ops::{Activation, Layout};

/// Size of a product and what follows it.
#[derive(Clone, Copy, Debug)]
struct Case {
    lead: usize,
    rows: usize,
    inputs: usize,
    outputs: usize,
    layout: Layout,
    bias: bool,
    activation: Activation,
    scale: f32,
    /// Lead rows of the residual; 0 for none.
    residual: usize,
}

const PLAIN: Case = Case {
    lead: 1,
    rows: 1,
    inputs: 1,
    outputs: 1,
    layout: Layout::OutIn,
    bias: false,
    activation: Activation::None,
    scale: 1.0,
    residual: 0,
};

fn check(case: Case) {
    let Case {
        inputs, outputs, ..
    } = case;
    let mut weights = WeightTable::default();
    let (rows, cols) = match case.layout {
        Layout::OutIn => (outputs, inputs),
        Layout::InOut => (inputs, outputs),
    };
    weights.add("W", rows, cols, values(inputs * outputs, 101));
    weights.add("b", 1, outputs, values(outputs, 102));
    let mut both = Both::new(weights);
    let results = both.run(|bench| {
        let x = bench.input(Shape::new(case.lead, case.rows, inputs), 1.0);
        let residual = (case.residual > 0)
            .then(|| bench.input(Shape::new(case.residual, case.rows, outputs), 1.0));
        let weight = bench.recording.weight(WeightId(0));
        let bias = case.bias.then(|| bench.recording.weight(WeightId(1)));
        let product = bench.recording.matmul(x, weight).layout(case.layout);
        let product = product.bias(bias).activation(case.activation);
        let y = product.scale(case.scale).residual(residual);
        let y = y.record().unwrap();
        bench.keep(y);
        if let Some(sonograd::ops::Operator::Matmul(operator)) = bench.recording.operators().last()
            && let Some(pre) = operator.pre
        {
            bench.keep(pre);
        }
    });
    // A sum of n products whose rounding errors are independent is off by
    // about eps/2 times the root of the sum of the squares of its partial
    // sums, eps/2 · n/sqrt(2) · size of a product = 0.35 · eps · sqrt(n) · size
    // of the sum. Bias, activation, scale and residual are a dozen roundings
    // of numbers of that size. The tolerance is five times both, for the
    // worst of many elements.
    let n = inputs as f64;
    let product = (n / 9.0).sqrt() + f64::from(u8::from(case.bias));
    let y = product * f64::from(case.scale.abs()) + f64::from(u8::from(case.residual > 0));
    for ((got, want), (name, scale)) in results.iter().zip([("y", y), ("pre", product)]) {
        let tolerance = 5.0 * EPSILON * (0.35 * n.sqrt() + 2.0) * scale;
        compare(&format!("{name} of {case:?}"), got, want, tolerance);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn awkward_sizes_in_both_layouts() {
    for layout in [Layout::OutIn, Layout::InOut] {
        for (lead, rows, inputs, outputs) in [
            (1, 1, 1, 1),
            (1, 3, 7, 5),
            (3, 7, 17, 33),
            (1, 1, 1023, 129),
            (5, 1, 64, 1000),
            (1, 100, 63, 65),
            (7, 73, 65, 515),
            (3, 341, 31, 257),
            (1, 1030, 9, 1023),
        ] {
            check(Case {
                lead,
                rows,
                inputs,
                outputs,
                layout,
                ..PLAIN
            });
        }
    }
}

/// Rows of each of 5 lead rows, and outputs, that take each of the three
/// sizes of tiles.
const TILES: [(usize, usize); 3] = [(1, 48), (103, 519), (205, 1027)];

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn everything_that_follows_a_product() {
    use Activation::{Gelu, None, Relu, Silu};
    let [small, medium, large] = TILES;
    for ((rows, outputs), activation, bias, residual, scale) in [
        (small, None, true, 0, 1.0),
        (small, None, false, 1, -0.5),
        (small, None, true, 5, 0.5),
        (small, Relu, true, 0, 1.0),
        (small, Silu, false, 5, 1.0),
        (small, Gelu, true, 1, 2.0),
        (medium, Silu, true, 1, 0.25),
        (medium, Relu, false, 5, -2.0),
        (large, Gelu, true, 5, 0.5),
        (large, None, false, 1, 0.5),
    ] {
        check(Case {
            lead: 5,
            rows,
            inputs: 24,
            outputs,
            bias,
            activation,
            scale,
            residual,
            ..PLAIN
        });
    }
}

/// Far out, where the functions are flat or could overflow.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn activations_far_from_zero() {
    let x = [
        -3e38, -1e4, -100.0, -40.0, -13.0, -6.0, -1e-3, 0.0, 1e-30, 5.0, 90.0, 3e38,
    ];
    for activation in [Activation::Relu, Activation::Silu, Activation::Gelu] {
        let mut weights = WeightTable::default();
        weights.add("W", x.len(), 1, x);
        let results = Both::new(weights).run(|bench| {
            let one = bench.recording.constant(Shape::new(1, 1, 1), [1.0]);
            let weight = bench.recording.weight(WeightId(0));
            let product = bench.recording.matmul(one, weight).activation(activation);
            let y = product.record().unwrap();
            bench.keep(y);
        });
        let (got, want) = &results[0];
        for ((x, got), want) in x.iter().zip(got).zip(want) {
            // A few roundings of the argument and of the result, and 1e-7 of
            // the argument for the approximation of erf.
            let tolerance = 4.0 * EPSILON * f64::from(x.abs());
            compare(
                &format!("{activation:?} of {x}"),
                &[*got],
                &[*want],
                tolerance * 4.0,
            );
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn nan_stays_nan() {
    for activation in [
        Activation::None,
        Activation::Relu,
        Activation::Silu,
        Activation::Gelu,
    ] {
        let mut weights = WeightTable::default();
        weights.add("W", 3, 1, [1.0, f32::NAN, -1.0]);
        let results = Both::new(weights).run(|bench| {
            let one = bench.recording.constant(Shape::new(1, 1, 1), [1.0]);
            let weight = bench.recording.weight(WeightId(0));
            let product = bench.recording.matmul(one, weight).activation(activation);
            let y = product.record().unwrap();
            bench.keep(y);
        });
        let nan: Vec<bool> = results[0].0.iter().map(|y| y.is_nan()).collect();
        assert_eq!(nan, [false, true, false], "{activation:?}");
    }
}

/// The comparison itself: a small mistake must not pass.
#[test]
fn mistakes_are_noticed() {
    let want: Vec<f64> = values(300, 1).into_iter().map(f64::from).collect();
    let tolerance = 5.0 * EPSILON;
    let spoilt = |change: &dyn Fn(&mut Vec<f32>)| {
        let mut got = values(300, 1);
        change(&mut got);
        deviation(&got, &want, tolerance)
    };
    assert_eq!(spoilt(&|_| ()), Ok(0.0));
    assert!(spoilt(&|got| got[299] *= 1.01).is_err());
    assert!(spoilt(&|got| got[7] = f32::NAN).is_err());
    assert!(spoilt(&|got| got.swap(0, 1)).is_err());
    assert!(spoilt(&|got| *got = values(300, 2)).is_err());
    assert!(spoilt(&|got| got.truncate(299)).is_err());
    let shifted = spoilt(&|got| got.iter_mut().for_each(|x| *x += 2.0 * f32::EPSILON));
    assert!(shifted.unwrap_err().contains("root mean square"));
}
