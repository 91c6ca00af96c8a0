//! Compute pipelines, compiled once for each shader, entry point and set of
//! overrides.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::adapter::Device;
use super::layout::Step;
use super::shaders::Shader;
use crate::{Error, Result};

/// What a driver may rely on in our shaders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShaderMode {
    /// wgpu adds a check to every access, division and loop, and clears
    /// workgroup memory.
    Checked,
    /// The shaders are taken at their word, which is faster.
    #[default]
    Trusted,
}

/// A compiled pipeline and the layout of what it binds.
#[derive(Clone)]
pub struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// What tells pipelines apart; override values by their bits.
type Key = (&'static str, &'static str, Vec<(&'static str, u64)>);

/// All pipelines made so far.
#[derive(Default)]
pub struct Pipelines {
    mode: ShaderMode,
    modules: BTreeMap<&'static str, wgpu::ShaderModule>,
    made: BTreeMap<Key, Pipeline>,
}

fn key(step: &Step) -> Key {
    let overrides = step.overrides.iter();
    let mut overrides: Vec<_> = overrides.map(|(n, value)| (*n, value.to_bits())).collect();
    overrides.sort_unstable();
    (step.shader.stem, &step.entry.name, overrides)
}

impl Pipelines {
    pub fn new(mode: ShaderMode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    /// Compiles what `steps` need and is not there yet, on all threads.
    ///
    /// # Errors
    /// [`Error::Device`] naming the shader and entry point that the driver
    /// refused.
    pub fn compile<'a>(
        &mut self,
        device: &Device,
        steps: impl Iterator<Item = &'a Step>,
    ) -> Result<()> {
        let mut missing = BTreeSet::new();
        for step in steps {
            if missing.contains(&key(step)) || self.made.contains_key(&key(step)) {
                continue;
            }
            if !self.modules.contains_key(step.shader.stem) {
                let module = self.module(device, step.shader)?;
                self.modules.insert(step.shader.stem, module);
            }
            missing.insert(key(step));
        }
        let compiled: Vec<(Key, Result<Pipeline>)> = missing
            .into_par_iter()
            .map(|key| {
                let pipeline = self.pipeline(device, &key);
                (key, pipeline)
            })
            .collect();
        for (key, pipeline) in compiled {
            self.made.insert(key, pipeline?);
        }
        Ok(())
    }

    /// The pipeline of `step`.
    ///
    /// # Panics
    /// If it was not compiled before.
    pub fn get(&self, step: &Step) -> &Pipeline {
        &self.made[&key(step)]
    }

    fn module(&self, device: &Device, shader: &Shader) -> Result<wgpu::ShaderModule> {
        let missing = shader.features - device.raw.features();
        if !missing.is_empty() {
            return Err(Error::Device(format!(
                "{}: shaders/{}.wgsl needs {missing:?}",
                device.info.name, shader.stem
            )));
        }
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(shader.stem),
            source: wgpu::ShaderSource::Wgsl((&*shader.source).into()),
        };
        let mode = self.mode;
        device.guarded(&format!("shaders/{}.wgsl", shader.stem), |raw| match mode {
            ShaderMode::Checked => raw.create_shader_module(descriptor),
            // SAFETY: the shaders are those of this crate. Each guards its
            // loads and stores, indices that come from tensors or scalars
            // included, by the sizes in its Params, which operators take from
            // the bound tensors; it writes what it reads of workgroup memory;
            // no loop is without end and no divisor zero. The tests run every
            // kernel in both modes, and with indices that are out of range.
            ShaderMode::Trusted => unsafe {
                raw.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            },
        })
    }

    fn pipeline(&self, device: &Device, (stem, entry, overrides): &Key) -> Result<Pipeline> {
        let overrides = overrides.iter();
        let constants: Vec<_> = overrides
            .map(|&(name, bits)| (name, f64::from_bits(bits)))
            .collect();
        let label = format!("{stem}.{entry}");
        device.guarded(&label, |raw| {
            let pipeline = raw.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: None,
                module: &self.modules[stem],
                entry_point: Some(entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    zero_initialize_workgroup_memory: self.mode == ShaderMode::Checked,
                },
                cache: None,
            });
            Pipeline {
                layout: pipeline.get_bind_group_layout(0),
                raw: pipeline,
            }
        })
    }
}
