//! `shaders/matmul.wgsl` on the GPU, by every entry point, and the native code in
//! f32 against the native code in f64.

use std::collections::BTreeSet;

use crate::cases::{Case, MODES, Tolerance, gpu, values};
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::extras::Extras;
use sonograd::engine::gpu::shaders::Shader;
use sonograd::engine::gpu::{GpuExecutor, Tune};
use sonograd::engine::tensor::{Scalars, Shape};
use sonograd::ops::{Activation, Layout, Operator, Windows};

/// A product and what follows it.
#[derive(Clone, Copy, Debug)]
struct Product {
    lead: usize,
    /// Of x.
    rows: usize,
    /// Numbers in a row of x, or in a window.
    inputs: usize,
    windows: Option<Windows>,
    outputs: usize,
    layout: Layout,
    bias: bool,
    activation: Activation,
    scale: f32,
    /// Lead rows of the residual; 0 for none.
    residual: usize,
}

const PLAIN: Product = Product {
    lead: 1,
    rows: 1,
    inputs: 1,
    windows: None,
    outputs: 1,
    layout: Layout::OutIn,
    bias: false,
    activation: Activation::None,
    scale: 1.0,
    residual: 0,
};

impl Product {
    /// Checks one entry point, if it can do the product.
    fn check(self, executor: &mut GpuExecutor, entry: &str) {
        if entries(&self.case().0).contains(&entry) {
            self.compare(executor, entry);
        }
    }

    /// Its recording, and the names of its results.
    fn case(self) -> (Case, &'static [&'static str]) {
        let Self {
            lead,
            rows,
            inputs,
            outputs,
            ..
        } = self;
        let mut case = Case::new();
        let kernel = self.windows.map_or(1, |windows| windows.kernel);
        let x = case.any(lead, rows, inputs / kernel);
        let rows = self.windows.map_or(rows, |w| w.count(rows).unwrap());
        let weight = match self.layout {
            Layout::OutIn => case.any(1, outputs, inputs),
            Layout::InOut => case.any(1, inputs, outputs),
        };
        let bias = self.bias.then(|| case.any(1, 1, outputs));
        let residual = (self.residual > 0).then(|| case.any(self.residual, rows, outputs));
        let mut product = case.recording.matmul(x, weight).layout(self.layout);
        if let Some(windows) = self.windows {
            product = product.windows(windows);
        }
        let product = product.bias(bias).activation(self.activation);
        let y = product.scale(self.scale).residual(residual);
        let y = y.record().unwrap();
        case.output(y);
        let pre = match case.recording.operators().last() {
            Some(Operator::Matmul(operator)) => operator.pre,
            _ => unreachable!("it was just recorded"),
        };
        if let Some(pre) = pre {
            case.output(pre);
        }
        (case, &["y", "pre"][..1 + usize::from(pre.is_some())])
    }

    /// Checks an executor.
    fn compare(self, executor: &mut dyn Executor, what: &str) {
        let (case, results) = self.case();
        let inputs = self.inputs;
        // A sum of n products whose rounding errors are independent is off by
        // about eps/2 times the root of the sum of the squares of its partial
        // sums: eps/2 · n/sqrt(2) · size of a product, or 0.35 · eps · sqrt(n)
        // · size of the sum. Bias, activation (slope up to 1.13), scale and
        // residual add four roundings of numbers of that size at half an eps
        // each. Five times both, for the worst of many elements. A product of
        // two numbers between -1 and 1 has a root mean square of 1/3.
        let sum = (inputs as f64 / 9.0).sqrt() + f64::from(u8::from(self.bias));
        let all = sum * f64::from(self.scale.abs()) + f64::from(u8::from(self.residual > 0));
        let name = format!("{what} of {self:?}");
        case.compare_reruns(executor, &name, results, |result, _| Tolerance {
            k: 5.0 * (0.35 + 2.0 / (inputs as f64).sqrt()),
            n: inputs,
            scale: if result == "y" { all } else { sum },
        });
    }
}

/// Names of all entry points.
const ENTRIES: [&str; 5] = [
    "forward",
    "forward_large",
    "forward_quads",
    "forward_small",
    "forward_thin",
];

/// The entry points that can do a recording of one product.
fn entries(case: &Case) -> Vec<&'static str> {
    let operator = &case.recording.operators()[0];
    let choices = operator.choices(&case.recording, &|_| true, Extras::NONE);
    assert_eq!(choices.len(), 1);
    let variants = choices[0].variants.iter();
    variants.map(|variant| variant.launch.entry).collect()
}

/// Which entry points there are depends on the columns.
#[test]
fn fours_are_seen() {
    let shader = Shader::load("matmul");
    let names = shader.entries.iter().map(|entry| &*entry.name);
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(ENTRIES));
    use Layout::{InOut, OutIn};
    for (inputs, outputs, layout, fours) in [
        (8, 5, OutIn, true),
        (8, 5, InOut, false),
        (8, 12, InOut, true),
        (6, 12, OutIn, false),
        (6, 12, InOut, false),
    ] {
        let mut case = Case::new();
        let x = case.any(1, 3, inputs);
        let weight = match layout {
            OutIn => case.any(1, outputs, inputs),
            InOut => case.any(1, inputs, outputs),
        };
        let product = case.recording.matmul(x, weight).layout(layout);
        product.record().unwrap();
        let entries = entries(&case);
        assert_eq!(entries.contains(&"forward_quads"), fours, "{entries:?}");
        assert_eq!(entries.len(), 4 + usize::from(fours));
        assert_eq!(entries[0], "forward_small", "few workgroups");
    }
}

fn awkward() -> impl Iterator<Item = Product> {
    let sizes = [
        (1, 1, 1, 1),
        (1, 3, 7, 5),
        (3, 7, 17, 33),
        (1, 1, 1023, 129),
        (5, 1, 64, 1000),
        (1, 100, 63, 65),
        (7, 73, 65, 515),
        (3, 341, 31, 257),
        (1, 1030, 9, 1023),
        (1, 65, 4, 64),
        (2, 5, 1028, 20),
        (3, 43, 68, 132),
        (1, 5, 64, 4),
    ];
    sizes.into_iter().flat_map(|(lead, rows, inputs, outputs)| {
        [Layout::OutIn, Layout::InOut].map(|layout| Product {
            lead,
            rows,
            inputs,
            outputs,
            layout,
            ..PLAIN
        })
    })
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn awkward_sizes_in_both_layouts() {
    for (mode, entry) in MODES
        .into_iter()
        .flat_map(|mode| ENTRIES.map(|entry| (mode, entry)))
    {
        let mut executor = gpu(mode, Tune::Only(entry));
        awkward().for_each(|product| product.check(&mut executor, entry));
    }
}

fn windowed() -> impl Iterator<Item = Product> {
    let sizes = [
        (1, 1, 1, 1, [1, 1, 0]),
        (1, 1, 3, 5, [3, 2, 1]),
        (3, 7, 3, 33, [5, 2, 2]),
        (2, 40, 4, 20, [5, 2, 2]),
        (5, 33, 8, 130, [3, 1, 1]),
        (3, 9, 2, 7, [2, 4, 0]),
        (2, 75, 20, 68, [5, 3, 4]),
    ];
    let product = |(lead, rows, cols, outputs, windows): (_, _, _, _, [usize; 3])| Product {
        lead,
        rows,
        inputs: windows[0] * cols,
        windows: Some(Windows::padded(windows[0], windows[1], windows[2])),
        outputs,
        bias: true,
        activation: Activation::Silu,
        residual: lead,
        ..PLAIN
    };
    sizes.into_iter().map(product)
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn windows_instead_of_rows() {
    for (mode, entry) in MODES
        .into_iter()
        .flat_map(|mode| ENTRIES.map(|entry| (mode, entry)))
    {
        let mut executor = gpu(mode, Tune::Only(entry));
        windowed().for_each(|product| product.check(&mut executor, entry));
    }
}

/// Rows of each of 5 lead rows, and outputs: within a tile, and more than one
/// of each size.
const FEW: (usize, usize) = (1, 48);
const MANY: (usize, usize) = (53, 259);

fn followed() -> impl Iterator<Item = Product> {
    use Activation::{Gelu, None, Relu, Silu};
    let cases = [
        (FEW, None, true, 0, 1.0),
        (FEW, None, false, 1, -0.5),
        (FEW, None, true, 5, 0.5),
        (FEW, Relu, true, 0, 1.0),
        (FEW, Silu, false, 5, 1.0),
        (FEW, Gelu, true, 1, 2.0),
        (MANY, Silu, true, 1, 0.25),
        (MANY, Relu, false, 5, -2.0),
        (MANY, Gelu, true, 5, 0.5),
        (MANY, None, false, 1, 0.5),
    ];
    let product = |((rows, outputs), activation, bias, residual, scale)| Product {
        lead: 5,
        rows,
        inputs: 24,
        outputs,
        bias,
        activation,
        scale,
        residual,
        ..PLAIN
    };
    cases.into_iter().map(product)
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn everything_that_follows_a_product() {
    for (index, product) in followed().enumerate() {
        // All entry points write in the same way: each case takes one for each
        // mode, and all have their turns.
        for (turn, mode) in MODES.into_iter().enumerate() {
            let entry = ENTRIES[(index + 3 * turn) % ENTRIES.len()];
            product.check(&mut gpu(mode, Tune::Only(entry)), entry);
        }
    }
}

/// Rows of several blocks as well, each way of getting at a weight.
#[test]
fn native_f32() {
    let mut executor = Case::native_f32();
    let long = |product: Product| Product {
        rows: 130 + product.rows,
        ..product
    };
    let all = awkward().chain(windowed()).chain(followed());
    for product in all.flat_map(|product| [product, long(product)]) {
        product.compare(&mut executor, "native f32");
    }
}

/// Activations of given numbers: products of one term, 1.
fn activated(activation: Activation, x: &[f32]) -> Case {
    let mut case = Case::new();
    let one = case.real(Shape::new(1, 1, 1), &[1.0]);
    let weight = case.real(Shape::new(1, x.len(), 1), x);
    let product = case.recording.matmul(one, weight).activation(activation);
    let y = product.record().unwrap();
    case.output(y);
    case
}

/// Where the functions are flat, or could overflow.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn activations_far_from_zero() {
    let mut x = values(50, 7);
    x.iter_mut().for_each(|x| *x *= 8.0);
    x.extend([
        -1e37, -1e4, -100.0, -40.0, -13.0, 0.0, 1e-30, 13.0, 90.0, 1e37,
    ]);
    let sizes: Vec<f64> = x.iter().map(|&x| f64::from(x).abs().max(1e-37)).collect();
    for activation in Activation::ALL {
        // Silu: a division, 2.5 eps, and exp, (3 + 2·|x|) eps of which
        // x · (1 - sigmoid) / 2 reach the result, 2 eps at most; Gelu: five
        // eps for erfc, half of them in the result, and two roundings; Tanh: the same
        // as Silu, of a result below 1 and below |x|.
        let name = format!("{activation:?}");
        let case = activated(activation, &x);
        case.compare_each(&name, &[Scalars::ZERO], 6.0, std::slice::from_ref(&sizes));
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn nan_stays_nan() {
    for activation in Activation::ALL {
        let case = activated(activation, &[1.0, f32::NAN, -1.0]);
        for mode in MODES {
            let y = case.gpu(&[Scalars::ZERO], mode);
            let nan: Vec<bool> = y[0].iter().map(|y| y.is_nan()).collect();
            assert_eq!(nan, [false, true, false], "{activation:?}, {mode:?}");
        }
    }
}
