//! The engine: one recording, two executors.

pub mod cost;
pub mod device;
pub mod executor;
pub mod gpu;
pub mod journal;
mod kept_plans;
pub mod native;
pub mod philox;
pub mod precision;
pub mod profile;
pub mod random;
pub mod recording;
pub mod reverse;
pub mod schedule;
pub mod tensor;
pub mod weights;
