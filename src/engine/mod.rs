//! The engine: one recording, run by whatever [`Backend`](backend::Backend)
//! there is: the processor, a GPU, or a count of what either would take.

pub mod backend;
mod books;
pub mod cost;
pub mod device;
pub mod executor;
pub mod gpu;
pub mod kept_plans;
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

pub use books::Engine;
