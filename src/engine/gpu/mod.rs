//! The GPU executor: recordings on any adapter that wgpu reaches.

pub mod adapter;
mod executor;
pub mod launch;
pub mod layout;
pub mod options;
mod persistent;
mod pipelines;
mod scalars;
mod search;
pub mod shaders;
mod submit;
mod timing;
pub mod tuning;
pub mod units;

pub use executor::GpuExecutor;
pub use options::{GpuOptions, Tune};
pub use pipelines::ShaderMode;
