//! What a device reaches at most: the measure for everything else.

use std::sync::Arc;
use std::time::Instant;

use crate::Result;
use crate::engine::executor::{Executor, PlanId};
use crate::engine::profile::Purpose;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape, TensorId};
use crate::engine::weights::WeightTable;

/// Sides of the square matrices that are multiplied, tried in this order. Rows a
/// power of two apart compete for the same places in a processor's cache, and to
/// GPUs' tiles nothing is better: one side is no power of two.
const SIDES: [usize; 4] = [1024, 1040, 2048, 4096];

/// A larger product is not tried after one that took so many seconds.
const LONG_ENOUGH: f64 = 0.2;

/// Seconds that each timing takes at least, so that starting and waiting do
/// not count.
const SHORTEST: f64 = 0.2;

/// What is copied: 97 MiB, more than caches hold and less than the 128 MiB
/// that every adapter binds. A lead axis, since the native executor spreads
/// over it.
const COPIED: Shape = Shape::new(64, 258, 1536);

/// The most that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Of a large f32 product, operations a second.
    pub flops_per_second: f64,
    /// Of a large copy, bytes read and written a second.
    pub bytes_per_second: f64,
}

impl Peak {
    /// Measures it through the executor itself.
    ///
    /// # Errors
    /// If the device has not the memory or fails.
    pub fn measure(executor: &mut dyn Executor) -> Result<Self> {
        let mark = executor.mark();
        let measured = measure(executor);
        executor.unwind(mark);
        measured
    }
}

fn measure(executor: &mut dyn Executor) -> Result<Peak> {
    let mut peak = Peak {
        flops_per_second: 0.0,
        bytes_per_second: 0.0,
    };
    for side in SIDES {
        let shape = Shape::new(1, side, side);
        let mut stage = Stage::new(executor)?;
        let (x, weight) = (stage.input(shape)?, stage.input(shape)?);
        let y = stage.recording.matmul(x, weight).record()?;
        let seconds = stage.fastest(y)?;
        let flops = 2.0 * (side as f64).powi(3);
        peak.flops_per_second = peak.flops_per_second.max(flops / seconds);
        if seconds > LONG_ENOUGH {
            break;
        }
    }
    let mut stage = Stage::new(executor)?;
    let x = stage.input(COPIED)?;
    // All rows but the first: all of them would be no copy but x itself.
    let y = stage.recording.take_rows(x, 1, COPIED.rows - 1)?;
    let bytes = 2 * 4 * stage.recording.shape(y).len();
    let seconds = stage.fastest(y)?;
    peak.bytes_per_second = bytes as f64 / seconds;
    Ok(peak)
}

/// One operator and the memory it works on.
struct Stage<'a> {
    executor: &'a mut dyn Executor,
    recording: Recording,
    owned: Vec<PersistentId>,
    /// Read to wait for the device.
    probe: PersistentId,
}

impl<'a> Stage<'a> {
    fn new(executor: &'a mut dyn Executor) -> Result<Self> {
        let probe = executor.allocate(Kind::Real, Shape::new(1, 1, 1))?;
        Ok(Self {
            executor,
            recording: Recording::new(Arc::new(WeightTable::default())),
            owned: vec![probe],
            probe,
        })
    }

    /// An operand of ordinary numbers: zeros would take less power.
    fn input(&mut self, shape: Shape) -> Result<TensorId> {
        let id = self.executor.allocate(Kind::Real, shape)?;
        let values = (0..shape.len()).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5);
        self.executor.upload(id, &values.collect::<Vec<f32>>())?;
        self.owned.push(id);
        Ok(self.recording.persistent(id, Kind::Real, shape))
    }

    /// Seconds of the fastest of a few runs that write `y`.
    fn fastest(mut self, y: TensorId) -> Result<f64> {
        let shape = self.recording.shape(y);
        let id = self.executor.allocate(Kind::Real, shape)?;
        self.owned.push(id);
        self.recording.keep(y, id);
        let plan = self.executor.prepare(self.recording)?;
        let mut run = |count: usize| timed(self.executor, plan, self.probe, count);
        run(1)?;
        let mut fastest = run(1)?;
        for _ in 0..3 {
            let count = (SHORTEST / fastest).ceil().clamp(1.0, 200.0) as usize;
            fastest = fastest.min(run(count)? / count as f64);
        }
        self.executor.release(plan);
        for id in self.owned {
            self.executor.free(id);
        }
        Ok(fastest)
    }
}

fn timed(
    executor: &mut dyn Executor,
    plan: PlanId,
    probe: PersistentId,
    count: usize,
) -> Result<f64> {
    let begin = Instant::now();
    for _ in 0..count {
        executor.run(plan, 0, &Scalars::ZERO)?;
    }
    executor.read(&[probe], Purpose::OTHER)?;
    Ok(begin.elapsed().as_secs_f64().max(1e-9))
}
