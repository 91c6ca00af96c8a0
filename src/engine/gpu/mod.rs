//! The GPU executor: recordings on any adapter that wgpu reaches.

pub mod adapter;
mod executor;
pub mod launch;
pub mod layout;
mod pipelines;
pub mod shaders;
mod submit;
mod timing;
pub mod units;

pub use executor::{GpuExecutor, Settings};
pub use pipelines::ShaderMode;
