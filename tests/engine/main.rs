//! The executors' own work: memory, stages, transfers, counters, precision, tuning.

/// Model fixtures on a GPU, in the tiers of precision.
#[path = "../shared/tiers.rs"]
mod tiers;

/// Ids, kept plans and refusals: the same on every executor.
mod books;
/// The GPU executor: equal bits with exact sums.
mod gpu_executor;
/// What is stored as f16, and what matrix units change.
mod precision;
/// Kernels chosen by measuring.
mod tuning;
