//! The GPU executor: recordings on any adapter that wgpu reaches.

pub mod launch;
