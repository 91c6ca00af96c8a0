//! Precision tiers: what is stored as f16, and what that changes. What needs
//! matrix units is in `tests/hardware`.

use std::sync::Arc;

use half::f16;
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::precision::Precision;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, Scalars, Shape, WeightId};
use sonograd::engine::weights::{Form, Role, WeightTable};
use sonograd::explain::profile::MAPS;
use sonograd::validate::validate;

use crate::tiers::{executor, load, reference, stay_within_bounds};

/// The table with every matrix rounded to f16.
fn rounded(weights: &WeightTable) -> WeightTable {
    let mut table = WeightTable::default();
    for weight in weights.iter() {
        let (name, rows, cols) = (weight.name.clone(), weight.rows, weight.cols);
        let data = if weight.role.form.is_matrix() {
            let data = weight.data.iter().map(|&x| f16::from_f32(x).to_f32());
            Arc::new(data.collect())
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

/// f16 weights stay within their bounds on whole models, f16 or not.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn whole_models_stay_within_f16s_bounds() {
    let device = Arc::new(open_for_tests());
    stay_within_bounds(&device, Precision::F16Weights);
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
