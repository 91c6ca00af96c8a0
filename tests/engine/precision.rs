//! Precision tiers: what is stored as f16, and what that changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::{Device, open_for_tests};
use sonograd::engine::gpu::units::MatrixUnits;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions, ShaderMode};
use sonograd::engine::precision::Precision;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, Scalars, Shape, WeightId};
use sonograd::engine::weights::{Form, Role, WeightTable};
use sonograd::explain::profile::MAPS;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::Activation;
use sonograd::validate::validate;

fn folder(fixture: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(fixture)
}

fn load(fixture: &str) -> Model {
    Model::load(ModelFiles::folder(folder(fixture)).unwrap()).unwrap()
}

fn reference(fixture: &str) -> PathBuf {
    folder(fixture).join("reference.safetensors")
}

fn executor(device: &Arc<Device>, weights: &WeightTable, precision: Precision) -> GpuExecutor {
    let options = GpuOptions {
        precision,
        ..GpuOptions::default()
    };
    GpuExecutor::new(Arc::clone(device), weights, &options).unwrap()
}

/// The table with every matrix rounded to f16.
fn rounded(weights: &WeightTable) -> WeightTable {
    let mut table = WeightTable::default();
    for weight in weights.iter() {
        let (name, rows, cols) = (weight.name.clone(), weight.rows, weight.cols);
        let data = if weight.role.form.is_matrix() {
            let data = weight.data.iter().map(|&x| f16::from_f32(x).to_f32());
            data.collect()
        } else {
            Arc::clone(&weight.data)
        };
        table.add(weight.role, name, rows, cols, data);
    }
    table
}

/// Decoding an f16 is exact, so a model whose matrices are f16 already gives
/// the same bits in half the memory.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn weights_that_are_f16_lose_nothing() {
    let device = Arc::new(open_for_tests());
    for fixture in ["conformer", "whisper_odd", "speech_to_text"] {
        let mut model = load(fixture);
        model.weights = Arc::new(rounded(&model.weights));
        let front_end = model.front_end().unwrap();
        let [full, half] = [Precision::F32, Precision::F16Weights].map(|precision| {
            let mut executor = executor(&device, &model.weights, precision);
            assert_eq!(executor.precision(), precision);
            let bytes = executor.weight_bytes();
            let found = validate(&mut executor, &model, &front_end, &reference(fixture)).unwrap();
            // Errors against a reference tell results apart: equal bits, equal errors.
            let errors = found
                .checks
                .iter()
                .map(|check| (check.relative_l2_error, check.max_abs_error));
            (bytes, errors.collect::<Vec<_>>())
        });
        assert_eq!(full.1, half.1, "{fixture}");
        assert!(full.1.iter().any(|(relative, _)| *relative > 0.0));
        println!("{fixture}: {} bytes of weights, {}", full.0, half.0);
        assert!((half.0 as f64) < 0.65 * full.0 as f64, "{fixture}");
    }
}

/// A product and an embedding of a table, read back.
fn product_and_rows(executor: &mut GpuExecutor, weights: &Arc<WeightTable>) -> Vec<Vec<f32>> {
    let ids = weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| weight.role.form.is_matrix());
    let ids: Vec<usize> = ids.map(|(index, _)| index).collect();
    let mut results = Vec::new();
    for index in ids {
        let mut recording = Recording::new(Arc::clone(weights));
        let id = WeightId(index as u32);
        let shape = weights.shape(id);
        let table = recording.weight(id);
        let x = executor
            .allocate(Kind::Real, Shape::new(1, 2, shape.cols))
            .unwrap();
        let values: Vec<f32> = (0..2 * shape.cols).map(|i| (i % 7) as f32 - 3.0).collect();
        executor.upload(x, &values).unwrap();
        let x = recording.persistent(x, Kind::Real, Shape::new(1, 2, shape.cols));
        let y = recording.matmul(x, table).record().unwrap();
        let kept = executor.allocate(Kind::Real, recording.shape(y)).unwrap();
        recording.keep(y, kept);
        let plan = executor.prepare(recording).unwrap();
        executor.run(plan, 0, &Scalars::ZERO).unwrap();
        results.extend(executor.read(&[kept], MAPS).unwrap());
    }
    results
}

/// What f16 cannot hold stays f32; odd sizes fill their last word.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn weights_beyond_f16_and_of_odd_size() {
    let mut table = WeightTable::default();
    let matrix = Role::decoder(Form::Matrix);
    table.add(matrix, "large", 2, 3, vec![1.0, -2.0, 0.5, 1e6, 3.0, 0.25]);
    table.add(
        matrix,
        "odd",
        3,
        3,
        (0..9).map(|i| i as f32 / 8.0).collect::<Vec<_>>(),
    );
    table.add(matrix, "one", 1, 1, vec![65_504.0]);
    table.add(matrix, "small", 1, 5, vec![6.104e-5, -2.0, 0.0, -0.0, 1.0]);
    let table = Arc::new(rounded_but(&table, "large"));
    let device = Arc::new(open_for_tests());
    let [full, half] = [Precision::F32, Precision::F16Weights].map(|precision| {
        let mut executor = executor(&device, &table, precision);
        let results = product_and_rows(&mut executor, &table);
        (executor.weight_bytes(), results)
    });
    assert_eq!(full.1, half.1);
    // 6, 9, 1 and 5 numbers; f16 in whole quads of words.
    assert_eq!((full.0, half.0), (24 + 36 + 16 + 20, 24 + 32 + 16 + 16));
}

fn rounded_but(weights: &WeightTable, kept: &str) -> WeightTable {
    let mut table = WeightTable::default();
    let all = rounded(weights);
    for (own, rounded) in weights.iter().zip(all.iter()) {
        let from = if own.name == kept { own } else { rounded };
        let data = Arc::clone(&from.data);
        table.add(own.role, own.name.clone(), own.rows, own.cols, data);
    }
    table
}

/// Whatever follows a product, at sizes that fill tiles and that do not, in
/// both modes: on matrix units and on ordinary kernels. All numbers are small
/// multiples of 1/8 where they are multiplied, so that both sums are exact.
/// An adapter without units has nothing to compare.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn matrix_units_compute_what_ordinary_kernels_do() {
    let device = Arc::new(open_for_tests());
    let Some(units) = MatrixUnits::of(&device) else {
        println!("{} has no matrix units", device.info);
        return;
    };
    assert_eq!(MatrixUnits::verified(&device), Ok(units));
    let eighths = |count: usize, step: usize| -> Vec<f32> {
        let values = (0..count).map(|i| ((i * step) % 61) as f32 / 8.0 - 3.5);
        values.collect()
    };
    // (lead, rows, inputs, outputs), and what follows.
    let cases = [
        ((1, 64, 32, 64), Activation::None, false, 0),
        ((3, 37, 17, 130), Activation::Silu, true, 0),
        ((2, 100, 1000, 65), Activation::Gelu, true, 1),
        ((5, 33, 31, 97), Activation::None, true, 5),
        ((1, 129, 64, 1023), Activation::Relu, false, 1),
    ];
    for mode in [ShaderMode::Checked, ShaderMode::Trusted] {
        for ((lead, rows, inputs, outputs), activation, bias, residual) in cases {
            let mut table = WeightTable::default();
            let weight = eighths(inputs * outputs, 23);
            let [matrix, row] = [Form::Matrix, Form::Bias].map(Role::decoder);
            let weight = table.add(matrix, "weight", outputs, inputs, weight);
            let own_bias = table.add(row, "bias", 1, outputs, eighths(outputs, 7));
            let table = Arc::new(table);
            let options = GpuOptions {
                precision: Precision::F16Weights,
                shaders: mode,
                ..GpuOptions::default()
            };
            let device = Arc::clone(&device);
            let mut executor = GpuExecutor::new(device, &table, &options).unwrap();
            let mut given = |lead: usize, cols: usize, step: usize| {
                let shape = Shape::new(lead, rows, cols);
                let id = executor.allocate(Kind::Real, shape).unwrap();
                executor.upload(id, &eighths(shape.len(), step)).unwrap();
                (id, shape)
            };
            let (x, shape) = given(lead, inputs, 17);
            let added = (residual > 0).then(|| given(residual, outputs, 29));
            let [on_units, ordinary] = [Some(units), None].map(|units| {
                executor.use_units(units);
                let mut recording = Recording::new(Arc::clone(&table));
                let x = recording.persistent(x, Kind::Real, shape);
                let weight = recording.weight(weight);
                let own_bias = bias.then(|| recording.weight(own_bias));
                let added = added.map(|(id, shape)| recording.persistent(id, Kind::Real, shape));
                let product = recording.matmul(x, weight).bias(own_bias).residual(added);
                let product = product.activation(activation).scale(0.5);
                let y = product.record().unwrap();
                let kept = executor.allocate(Kind::Real, recording.shape(y)).unwrap();
                recording.keep(y, kept);
                let plan = executor.prepare(recording).unwrap();
                executor.run(plan, 0, &Scalars::ZERO).unwrap();
                executor.read(&[kept], MAPS).unwrap().remove(0)
            });
            assert!(on_units.iter().any(|y| *y != 0.0));
            assert_eq!(
                on_units, ordinary,
                "{lead} x {rows} x {inputs} x {outputs}, {mode:?}"
            );
        }
    }
}

/// A device without matrix units says so and goes on in f32.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn mixed_is_for_devices_with_matrix_units() {
    let device = Arc::new(open_for_tests());
    let model = load("conformer");
    let executor = executor(&device, &model.weights, Precision::Mixed);
    if MatrixUnits::of(&device).is_none() {
        let warning = executor.warning().expect("there are no units");
        assert!(warning.contains("no matrix units"), "{warning}");
        assert_eq!(executor.precision(), Precision::F16Weights);
        return;
    }
    assert_eq!(executor.warning(), None);
    assert_eq!(executor.precision(), Precision::Mixed);
}

/// Each tier stays within its bounds on whole models, f16 or not.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn whole_models_stay_within_their_tiers_bounds() {
    let device = Arc::new(open_for_tests());
    let mut tiers = vec![Precision::F16Weights];
    tiers.extend(MatrixUnits::of(&device).map(|_| Precision::Mixed));
    for fixture in ["conformer", "whisper_odd"] {
        let model = load(fixture);
        let front_end = model.front_end().unwrap();
        for &precision in &tiers {
            let mut executor = executor(&device, &model.weights, precision);
            let found = validate(&mut executor, &model, &front_end, &reference(fixture)).unwrap();
            for check in &found.checks {
                println!("{fixture} {precision}: {check:?}");
            }
            assert!(found.pass(), "{fixture} {precision}");
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn f64_is_refused_on_a_gpu() {
    let options = GpuOptions {
        precision: Precision::F64,
        ..GpuOptions::default()
    };
    let device = Arc::new(open_for_tests());
    let refused = GpuExecutor::new(device, &WeightTable::default(), &options);
    let problem = refused.err().expect("f64 is not for GPUs").to_string();
    assert!(problem.ends_with("f64 runs on --device cpu"), "{problem}");
}
