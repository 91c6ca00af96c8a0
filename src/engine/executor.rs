//! What every executor can do.

use super::profile::{Profile, ReadPurpose};
use super::recording::Recording;
use super::tensor::{Kind, PersistentId, Scalars, Shape};
use crate::Result;

/// Index of a plan in the executor that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanId(pub u32);

/// Runs recordings over one model's weights.
///
/// Persistent tensors carry values between plans and are the only way in and
/// out; a plan is prepared once per shape and may run thousands of times.
pub trait Executor {
    /// Name of the processor or adapter.
    fn name(&self) -> String;

    /// `native` or `gpu`.
    fn kind(&self) -> &'static str;

    /// `f32` or `f64`.
    fn precision(&self) -> &'static str;

    /// Reserves a persistent tensor, filled with zeros.
    ///
    /// # Errors
    /// If the memory cannot be had.
    fn allocate(&mut self, kind: Kind, shape: Shape) -> Result<PersistentId>;

    /// Gives a persistent tensor's memory back.
    fn free(&mut self, id: PersistentId);

    /// Sets a persistent tensor of real numbers.
    ///
    /// # Errors
    /// If the length differs from the tensor's, or the device fails.
    fn upload(&mut self, id: PersistentId, values: &[f32]) -> Result<()>;

    /// Sets a persistent tensor of indices.
    ///
    /// # Errors
    /// As for [`upload`](Self::upload).
    fn upload_indices(&mut self, id: PersistentId, values: &[u32]) -> Result<()>;

    /// Makes a plan: memory, pipelines, and everything that depends on
    /// weights alone computed.
    ///
    /// # Errors
    /// If it needs more memory than there is or a size the device lacks.
    fn prepare(&mut self, recording: Recording) -> Result<PlanId>;

    /// Bytes the tensors of a plan for this recording would take, without
    /// making it.
    fn estimate(&self, recording: &Recording) -> usize;

    /// Bytes of the largest tensor that it can take.
    fn largest_tensor(&self) -> usize {
        usize::MAX
    }

    /// Runs one stage of a plan.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self, plan: PlanId, stage: usize, scalars: Scalars) -> Result<()>;

    /// Gives a plan's memory back.
    fn release(&mut self, plan: PlanId);

    /// Reads persistent tensors back, all of them in one transfer.
    ///
    /// # Errors
    /// If the device fails.
    fn read(&mut self, ids: &[PersistentId], purpose: ReadPurpose) -> Result<Vec<Vec<f32>>>;

    /// Counters and times since the executor was made.
    fn profile(&self) -> Profile;
}
