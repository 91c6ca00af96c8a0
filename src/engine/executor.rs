//! What every executor can do.

use std::borrow::Cow;

use super::precision::Precision;
use super::profile::{Profile, Purpose};
use super::recording::Recording;
use super::tensor::{Kind, PersistentId, Scalars, Shape};
use crate::Result;
use crate::gauge::Gauge;

/// A plan of the executor that made it. Each number is given once; after the
/// plan is released it is an error, never another plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanId(pub u32);

/// A moment in an executor's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub(super) u32);

/// Values for a persistent tensor.
#[derive(Clone, Debug)]
pub enum Values<'a> {
    Real(Cow<'a, [f32]>),
    Index(Cow<'a, [u32]>),
}

impl Values<'_> {
    /// What they are.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Real(_) => Kind::Real,
            Self::Index(_) => Kind::Index,
        }
    }

    /// How many there are, of four bytes each.
    pub fn len(&self) -> usize {
        match self {
            Self::Real(values) => values.len(),
            Self::Index(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Persistent tensors and their values, gathered to go to the device in one
/// transfer.
#[derive(Default)]
pub struct Inputs<'a> {
    parts: Vec<(PersistentId, Values<'a>)>,
}

impl<'a> Inputs<'a> {
    /// Reserves a tensor of real numbers for these values.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn real(
        &mut self,
        executor: &mut dyn Executor,
        shape: Shape,
        values: impl Into<Cow<'a, [f32]>>,
    ) -> Result<PersistentId> {
        let id = executor.allocate(Kind::Real, shape)?;
        self.parts.push((id, Values::Real(values.into())));
        Ok(id)
    }

    /// Reserves a tensor of indices for these values.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn indices(
        &mut self,
        executor: &mut dyn Executor,
        shape: Shape,
        values: impl Into<Cow<'a, [u32]>>,
    ) -> Result<PersistentId> {
        let id = executor.allocate(Kind::Index, shape)?;
        self.parts.push((id, Values::Index(values.into())));
        Ok(id)
    }

    /// Uploads all of it.
    ///
    /// # Errors
    /// If the number of values is not the tensor's, or the device fails.
    pub fn send(self, executor: &mut dyn Executor, purpose: Purpose) -> Result<()> {
        executor.upload_all(&self.parts, purpose)
    }
}

/// Runs recordings over one model's weights; whatever runs them is an
/// [`Engine`](super::Engine).
///
/// Persistent tensors carry values between plans and are the only way in and
/// out; a plan is prepared once per shape and may run thousands of times. A
/// tensor or plan that was given back is an error, never another one.
pub trait Executor: Send {
    /// Name of the processor or adapter.
    fn name(&self) -> String;

    /// `native` or `gpu`.
    fn kind(&self) -> &'static str;

    /// In which numbers it computes.
    fn precision(&self) -> Precision;

    /// Bytes of the weights as it stores them, second forms of them included.
    fn weight_bytes(&self) -> usize;

    /// Reserves a persistent tensor, filled with zeros.
    ///
    /// # Errors
    /// If the memory cannot be had.
    fn allocate(&mut self, kind: Kind, shape: Shape) -> Result<PersistentId>;

    /// Gives a persistent tensor's memory back, unless that was done before.
    fn free(&mut self, id: PersistentId);

    /// Sets persistent tensors, all of them in one transfer.
    ///
    /// # Errors
    /// If the kind or number of values is not the tensor's, one is given
    /// twice, or the device fails.
    fn upload_all(&mut self, parts: &[(PersistentId, Values)], purpose: Purpose) -> Result<()>;

    /// Sets one persistent tensor of real numbers, for no special purpose.
    ///
    /// # Errors
    /// As for [`upload_all`](Self::upload_all).
    fn upload(&mut self, id: PersistentId, values: &[f32]) -> Result<()> {
        self.upload_all(&[(id, Values::Real(values.into()))], Purpose::OTHER)
    }

    /// Sets one persistent tensor of indices, for no special purpose.
    ///
    /// # Errors
    /// As for [`upload_all`](Self::upload_all).
    fn upload_indices(&mut self, id: PersistentId, values: &[u32]) -> Result<()> {
        self.upload_all(&[(id, Values::Index(values.into()))], Purpose::OTHER)
    }

    /// Makes a plan: memory, pipelines, and everything that depends on
    /// weights alone computed.
    ///
    /// # Errors
    /// If it needs more memory than there is or a size the device lacks.
    fn prepare(&mut self, recording: Recording) -> Result<PlanId>;

    /// Goes while [`prepare`](Self::prepare) compiles, which takes seconds on
    /// GPUs.
    fn compiling(&self) -> Gauge {
        Gauge::default()
    }

    /// Bytes the tensors of a plan for this recording would take, without
    /// making it.
    fn estimate(&self, recording: &Recording) -> usize;

    /// Bytes of the largest tensor that it can take.
    fn largest_tensor(&self) -> usize;

    /// Runs one stage of a plan.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self, plan: PlanId, stage: usize, scalars: &Scalars) -> Result<()> {
        self.run_first(plan, stage, usize::MAX, scalars)
    }

    /// Runs one stage for its first `leads` lead rows, one at least. What
    /// belongs to later rows is undefined afterwards: an executor may save
    /// itself their work.
    ///
    /// # Errors
    /// If the device fails.
    fn run_first(
        &mut self,
        plan: PlanId,
        stage: usize,
        leads: usize,
        scalars: &Scalars,
    ) -> Result<()>;

    /// Gives a plan's memory back, unless that was done before.
    fn release(&mut self, plan: PlanId);

    /// Reads persistent tensors back, all of them in one transfer.
    ///
    /// # Errors
    /// If the device fails.
    fn read(&mut self, ids: &[PersistentId], purpose: Purpose) -> Result<Vec<Vec<f32>>>;

    /// Now, for [`unwind`](Self::unwind).
    fn mark(&self) -> Mark;

    /// Gives back every persistent tensor and plan made since `mark`, the
    /// newest first.
    fn unwind(&mut self, mark: Mark);

    /// Bytes of all tensors held now, weights included.
    fn memory_bytes(&self) -> usize;

    /// Lets `peak_memory_bytes` begin anew with what is held now.
    fn forget_peak(&mut self);

    /// Counters and times since the executor was made.
    fn profile(&self) -> Profile;
}
