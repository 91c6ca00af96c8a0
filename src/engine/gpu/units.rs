//! Matrix units: which products of blocks a GPU multiplies in hardware, and
//! whether it does so correctly.

use std::sync::Arc;

use super::adapter::Device;
use super::backend::GpuExecutor;
use super::options::{GpuOptions, Tune};
use super::shaders::Shader;
use crate::Result;
use crate::engine::executor::Executor;
use crate::engine::precision::Precision;
use crate::engine::profile::Purpose;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, Scalars, Shape};
use crate::engine::weights::{Form, Role, WeightTable};

/// Features of a device that its matrix units need.
pub const FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Units that multiply square blocks of f16 and sum in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixUnits {
    /// Rows and columns of a block: 8 or 16.
    pub side: usize,
    /// Subgroups that a workgroup has at least.
    pub subgroups: usize,
}

impl MatrixUnits {
    /// Those that the device says it has, the largest blocks first.
    pub fn of(device: &Device) -> Option<Self> {
        if !device.raw.features().contains(FEATURES) {
            return None;
        }
        let info = &device.info;
        let fits = |side: u32| {
            let mut shapes = info.cooperative_matrices.iter();
            shapes.any(|own| {
                [own.m, own.n, own.k] == [side; 3] && own.factors == "f16" && own.sum == "f32"
            })
        };
        let side = [16, 8].into_iter().find(|&side| fits(side))?;
        let mut units = Self {
            side: side as usize,
            subgroups: 1,
        };
        let threads = units.shader().constant("THREADS");
        units.subgroups = (threads / info.subgroup_max_size.max(1)).max(1) as usize;
        Some(units)
    }

    /// The kernel for blocks of this size.
    pub fn shader(self) -> &'static Shader {
        Shader::load(match self.side {
            8 => "matmul_units_8",
            _ => "matmul_units_16",
        })
    }

    /// The device's units, if they compute what ordinary kernels do. Drivers
    /// have been seen to lose sums; whoever does is not used.
    ///
    /// # Errors
    /// What is wrong, where there are no units or they cannot be relied on.
    pub fn verified(device: &Arc<Device>) -> std::result::Result<Self, String> {
        let units = Self::of(device).ok_or("it has no matrix units for f16 with sums in f32")?;
        units.verify(device).map(|()| units)
    }

    /// Compares trial products with those of ordinary kernels.
    ///
    /// # Errors
    /// If they differ in a single bit, or do not run.
    pub fn verify(self, device: &Arc<Device>) -> std::result::Result<(), String> {
        let ordinary = products(device, None).map_err(|problem| problem.to_string())?;
        match products(device, Some(self)) {
            Ok(own) if own == ordinary => Ok(()),
            Ok(_) => Err("its matrix units compute something else".into()),
            Err(problem) => Err(format!("its matrix units do not run: {problem}")),
        }
    }
}

/// Rows of x, inputs and outputs of the trials: one chunk, many, and parts of
/// tiles and chunks in every direction.
const TRIALS: [[usize; 3]; 4] = [[64, 32, 64], [65, 33, 130], [200, 100, 97], [40, 1000, 70]];

/// Products whose factors are small multiples of 1/8. Any order of summing is
/// exact then, so that the least difference is a mistake.
fn products(device: &Arc<Device>, units: Option<MatrixUnits>) -> Result<Vec<Vec<f32>>> {
    let eighths = |count: usize, step: usize| -> Vec<f32> {
        (0..count)
            .map(|i| ((i * step) % 61) as f32 / 8.0 - 3.5)
            .collect()
    };
    let role = Role::encoder(Form::Matrix);
    let mut table = WeightTable::default();
    let weights = TRIALS.map(|[_, inputs, outputs]| {
        table.add(
            role,
            "trial",
            outputs,
            inputs,
            eighths(inputs * outputs, 23),
        )
    });
    let table = Arc::new(table);
    let options = GpuOptions {
        precision: Precision::F16Weights,
        tune: Tune::Never,
        ..GpuOptions::default()
    };
    let mut executor = GpuExecutor::new(Arc::clone(device), &table, &options)?;
    executor.use_units(units);
    let mut kept = Vec::new();
    for (weight, [rows, inputs, _]) in weights.into_iter().zip(TRIALS) {
        let mut recording = Recording::new(Arc::clone(&table));
        let shape = Shape::new(1, rows, inputs);
        let x = executor.allocate(Kind::Real, shape)?;
        executor.upload(x, &eighths(shape.len(), 17))?;
        let x = recording.persistent(x, Kind::Real, shape);
        let weight = recording.weight(weight);
        let y = recording.matmul(x, weight).record()?;
        let id = executor.allocate(Kind::Real, recording.shape(y))?;
        recording.keep(y, id);
        let plan = executor.prepare(recording)?;
        executor.run(plan, 0, &Scalars::ZERO)?;
        kept.push(id);
    }
    executor.read(&kept, Purpose::OTHER)
}
