//! The GPU executor: recordings on any adapter that wgpu reaches.

pub mod adapter;
pub mod launch;
pub mod shaders;
