//! Matrix units: which products of blocks a GPU multiplies in hardware.

use super::adapter::Device;
use super::shaders::Shader;

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
}
