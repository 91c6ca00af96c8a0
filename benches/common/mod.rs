//! Executors to measure, and operators to measure them with.

// Every program uses its part of this.
#![allow(dead_code)]

pub mod operators;

use std::sync::Arc;

use sonograd::engine::device::{self, DeviceChoice};
use sonograd::engine::executor::Executor;
use sonograd::engine::precision::Precision;
use sonograd::engine::weights::WeightTable;

/// The native executor, and the device that `SONOGRAD_BENCH_DEVICE` names (a
/// value of `--device`), if it is set and there is one.
pub fn executors(weights: &Arc<WeightTable>) -> Vec<Box<dyn Executor>> {
    let mut choices = vec![DeviceChoice::Cpu];
    if let Ok(name) = std::env::var("SONOGRAD_BENCH_DEVICE") {
        match name.parse() {
            Ok(choice) => choices.push(choice),
            Err(problem) => eprintln!("SONOGRAD_BENCH_DEVICE={name}: {problem:?}"),
        }
    }
    let mut executors = Vec::new();
    for choice in choices {
        let opened = device::open(&choice)
            .and_then(|(opened, _)| device::executor(opened, weights, Precision::F32, false))
            .map(|(executor, _)| executor);
        match opened {
            Ok(executor) => executors.push(executor),
            Err(problem) => eprintln!("{choice}: {problem}"),
        }
    }
    executors
}
