//! What a listener computes on: a device, opened when it is first needed.

use super::Warning;
use crate::Result;
use crate::engine::device::{self, DeviceChoice};
use crate::engine::executor::Executor;
use crate::engine::precision::Precision;
use crate::model::Model;

/// Which device computes, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Start {
    pub device: DeviceChoice,
    pub precision: Precision,
    pub profiling: bool,
}

pub(super) struct Machine {
    start: Start,
    /// Over the listener's weights.
    pub executor: Option<Box<dyn Executor>>,
    /// What was found when it was opened.
    pub warnings: Vec<Warning>,
}

impl Machine {
    pub fn new(start: Start) -> Self {
        Self {
            start,
            executor: None,
            warnings: Vec::new(),
        }
    }

    /// The executor over a model's weights; always the same model's.
    ///
    /// # Errors
    /// If there is no such device, it cannot compute in the precision, or has
    /// not the memory for the weights.
    pub fn open(&mut self, model: &Model) -> Result<&mut dyn Executor> {
        let executor = match self.executor.take() {
            Some(executor) => executor,
            None => {
                let (precision, profiling) = (self.start.precision, self.start.profiling);
                let (device, first) = device::open(&self.start.device)?;
                let (executor, second) =
                    device::executor(device, &model.weights, precision, profiling)?;
                let found = [first, second].into_iter().flatten();
                self.warnings.extend(found.map(Warning::Device));
                executor
            }
        };
        Ok(self.executor.insert(executor).as_mut())
    }
}
