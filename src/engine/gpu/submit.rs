//! Submissions that are neither too long nor too many.
//!
//! A driver resets a GPU whose submission takes some seconds, so a stage's
//! dispatches are cut into submissions of a fraction of a second, by what its
//! earlier ones took. The first are short, the next at most twice as long.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::adapter::Device;
use crate::Result;

/// Seconds that a submission should take at most; half of what is still safe.
const TARGET_SECONDS: f64 = 0.4;

/// Dispatches in a stage's first submission.
const FIRST_DISPATCHES: usize = 8;

/// Submissions that the device may have waiting.
const MOST_IN_FLIGHT: usize = 3;

/// One dispatch with all that it binds.
#[derive(Clone)]
pub struct Dispatch {
    /// Index of its name among the executor's kernels.
    pub kernel: usize,
    pub pipeline: wgpu::ComputePipeline,
    pub group: wgpu::BindGroup,
    pub workgroups: [u32; 3],
}

impl Dispatch {
    pub fn record(&self, pass: &mut wgpu::ComputePass) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// How many dispatches of a stage go into one submission.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Mutex<usize>>);

impl Default for Pace {
    fn default() -> Self {
        Self::of(FIRST_DISPATCHES)
    }
}

impl Pace {
    /// That many to begin with.
    pub fn of(dispatches: usize) -> Self {
        Self(Arc::new(Mutex::new(dispatches.max(1))))
    }

    pub fn dispatches(&self) -> usize {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from a submission. Where it was done before anyone looked,
    /// `seconds` is only the most that it can have taken.
    pub fn learn(&self, dispatches: usize, seconds: f64, exact: bool) {
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = (TARGET_SECONDS / seconds.max(1e-9) * dispatches as f64) as usize;
        if exact || fitting > *pace {
            *pace = fitting.clamp(1, (2 * dispatches).max(*pace));
        }
    }
}

struct InFlight {
    index: wgpu::SubmissionIndex,
    since: Instant,
    dispatches: usize,
    pace: Pace,
}

/// The submissions that may not be done yet, oldest first.
#[derive(Default)]
pub struct Submitter {
    in_flight: VecDeque<InFlight>,
    /// When the last submission known to be done was found so.
    last_done: Option<Instant>,
}

impl Submitter {
    /// Submits `dispatches` in order and returns the number of submissions.
    /// It waits only while too many are in flight.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(&mut self, device: &Device, dispatches: &[Dispatch], pace: &Pace) -> Result<u64> {
        let mut submissions = 0;
        let mut rest = dispatches;
        while !rest.is_empty() {
            while let Some(oldest) = self.in_flight.front() {
                let done = device.wait_for(&oldest.index, Some(Duration::ZERO))?;
                if !done && self.in_flight.len() < MOST_IN_FLIGHT {
                    break;
                }
                self.retire(device, done)?;
            }
            let (now, later) = rest.split_at(pace.dispatches().min(rest.len()));
            rest = later;
            let mut encoder = device.raw.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for dispatch in now {
                dispatch.record(&mut pass);
            }
            drop(pass);
            let since = Instant::now();
            let index = device.queue.submit([encoder.finish()]);
            submissions += 1;
            self.in_flight.push_back(InFlight {
                index,
                since,
                dispatches: now.len(),
                pace: pace.clone(),
            });
        }
        device.check()?;
        Ok(submissions)
    }

    /// Waits for all submissions.
    ///
    /// # Errors
    /// If the device fails.
    pub fn drain(&mut self, device: &Device) -> Result<()> {
        while let Some(oldest) = self.in_flight.front() {
            let done = device.wait_for(&oldest.index, Some(Duration::ZERO))?;
            self.retire(device, done)?;
        }
        Ok(())
    }

    /// Waits for the oldest submission unless it is already `done`.
    fn retire(&mut self, device: &Device, done: bool) -> Result<()> {
        let Some(oldest) = self.in_flight.pop_front() else {
            return Ok(());
        };
        if !done {
            device.wait_for(&oldest.index, None)?;
        }
        let now = Instant::now();
        let begin = self
            .last_done
            .map_or(oldest.since, |last| last.max(oldest.since));
        let seconds = (now - begin).as_secs_f64();
        oldest.pace.learn(oldest.dispatches, seconds, !done);
        self.last_done = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_follows_the_device() {
        let pace = Pace::default();
        // A fast device: doubled each time, no more.
        pace.learn(8, 1e-6, true);
        assert_eq!(pace.dispatches(), 16);
        pace.learn(16, 1e-6, true);
        assert_eq!(pace.dispatches(), 32);
        // A stage's short last submission does not slow the next ones.
        pace.learn(1, 1e-6, true);
        assert_eq!(pace.dispatches(), 32);
        // A slow one: as many as fit the target, but at least one.
        pace.learn(32, 0.8, true);
        assert_eq!(pace.dispatches(), 16);
        pace.learn(16, 1e3, true);
        assert_eq!(pace.dispatches(), 1);
        // A late look says nothing against a pace.
        pace.learn(1, 1e-3, true);
        assert_eq!(pace.dispatches(), 2);
        pace.learn(2, 1e3, false);
        assert_eq!(pace.dispatches(), 2);
    }
}
