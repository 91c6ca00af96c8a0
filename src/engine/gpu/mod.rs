//! The GPU executor: recordings on any adapter that wgpu reaches.

pub mod adapter;
mod backend;
pub mod check;
pub mod extras;
pub mod launch;
pub mod layout;
pub mod options;
mod parked;
mod pipelines;
mod plan;
mod scalars;
mod search;
pub mod shaders;
mod submit;
mod timing;
pub mod tuning;
pub mod units;
pub mod variants;

pub use backend::{Gpu, GpuExecutor};
pub use options::{GpuOptions, Tune};
pub use pipelines::ShaderMode;
