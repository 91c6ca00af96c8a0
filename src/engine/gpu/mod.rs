//! The GPU executor: adapters and devices, and the shaders with their reflection.

pub mod adapter;
pub mod shaders;
