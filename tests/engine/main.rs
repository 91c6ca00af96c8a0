//! The executors' own work: memory, stages, transfers, counters, precision, tuning.

/// The GPU executor: equal bits with exact sums.
mod gpu_executor;
/// What is stored as f16, and what matrix units change.
mod precision;
/// Kernels chosen by measuring.
mod tuning;
