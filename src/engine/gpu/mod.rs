//! The GPU executor: adapters and devices.

pub mod adapter;
