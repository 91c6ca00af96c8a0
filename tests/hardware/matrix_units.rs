//! Matrix units: products of blocks of f16 with sums in f32.

use std::sync::Arc;

use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::Device;
use sonograd::engine::gpu::check;
use sonograd::engine::gpu::extras::Extras;
use sonograd::engine::gpu::units::MatrixUnits;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions, ShaderMode};
use sonograd::engine::precision::Precision;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, Scalars, Shape};
use sonograd::engine::weights::{Form, Role, WeightTable};
use sonograd::explain::profile::MAPS;
use sonograd::ops::Activation;

use crate::tiers::{executor, load, stay_within_bounds};

const LACKING: &str = "has no matrix units";

/// Whatever follows a product, at sizes that fill tiles and that do not, in
/// both modes: on matrix units and on ordinary kernels. All numbers are small
/// multiples of 1/8 where they are multiplied, so that both sums are exact.
pub fn they_compute_what_ordinary_kernels_do(device: &Arc<Device>) -> Result<(), &'static str> {
    let units = MatrixUnits::of(device).ok_or(LACKING)?;
    let on = Extras::with_units(units);
    assert_eq!(check::matrix_units(device), Ok(on));
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
            let device = Arc::clone(device);
            let mut executor = GpuExecutor::new(device, &table, &options).unwrap();
            let mut given = |lead: usize, cols: usize, step: usize| {
                let shape = Shape::new(lead, rows, cols);
                let id = executor.allocate(Kind::Real, shape).unwrap();
                executor.upload(id, &eighths(shape.len(), step)).unwrap();
                (id, shape)
            };
            let (x, shape) = given(lead, inputs, 17);
            let added = (residual > 0).then(|| given(residual, outputs, 29));
            let [on_units, ordinary] = [on, Extras::NONE].map(|extras| {
                executor.use_extras(extras);
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
    Ok(())
}

/// The tier that uses them stays within its bounds, f16 weights or not.
pub fn whole_models_stay_within_mixeds_bounds(device: &Arc<Device>) -> Result<(), &'static str> {
    MatrixUnits::of(device).ok_or(LACKING)?;
    stay_within_bounds(device, Precision::Mixed);
    let executor = executor(device, &load("conformer").weights, Precision::Mixed);
    assert_eq!(executor.warning(), None);
    Ok(())
}

/// A device without matrix units says so and goes on in f32.
pub fn a_device_without_them_says_so(device: &Arc<Device>) -> Result<(), &'static str> {
    if MatrixUnits::of(device).is_some() {
        return Err("has matrix units");
    }
    let executor = executor(device, &load("conformer").weights, Precision::Mixed);
    let warning = executor.warning().expect("there are no units");
    assert!(warning.contains("no matrix units"), "{warning}");
    assert_eq!(executor.precision(), Precision::F16Weights);
    Ok(())
}
