//! What computes: the few things that an [`Engine`](super::Engine) needs of a
//! processor, a GPU, or whatever else runs recordings.
//!
//! A backend has memory and kernels and keeps no books: ids, checks, transfers
//! and kept plans are the engine's. It counts in the engine's [`Ledger`] what
//! only it sees: memory of its own, dispatches, submissions, times.

use super::executor::Values;
use super::kept_plans::{Compiled, KeptPlans};
use super::precision::Precision;
use super::profile::Profile;
use super::recording::Recording;
use super::tensor::{Kind, Scalars, Shape};
use crate::Result;

/// Memory and plans of one device, over one model's weights.
///
/// Tensors come as slices by slot of the recording. A plan is of the slots:
/// which tensors are in them may differ from run to run, their kinds and sizes
/// do not. The engine sees to both.
pub trait Backend: Send {
    /// Memory of a persistent tensor.
    type Tensor: Send;
    /// A recording with its memory, ready to run.
    type Plan: Compiled + Send;

    /// Bytes of plans that are kept while nobody runs them.
    const MOST_KEPT_BYTES: usize;

    /// Name of the processor or adapter.
    fn name(&self) -> String;

    /// `native` or `gpu`.
    fn kind(&self) -> &'static str;

    /// In which numbers it computes.
    fn precision(&self) -> Precision;

    /// Bytes of the weights as it stores them, second forms of them included.
    fn weight_bytes(&self) -> usize;

    /// Bytes of a real number.
    fn real_bytes(&self) -> usize {
        size_of::<f32>()
    }

    /// Bytes that a persistent tensor takes.
    fn tensor_bytes(&self, kind: Kind, shape: Shape) -> usize;

    /// Bytes of the largest tensor that it can take.
    fn largest_tensor(&self) -> usize {
        usize::MAX
    }

    /// Most bytes that one transfer brings to it or back, unless a single
    /// tensor is larger.
    fn largest_transfer(&self) -> usize {
        usize::MAX
    }

    /// Bytes the tensors of a plan for this recording would take.
    fn estimate(&self, recording: &Recording) -> usize;

    /// Memory for a persistent tensor, filled with zeros.
    ///
    /// # Errors
    /// If it cannot be had.
    fn allocate(
        &mut self,
        kind: Kind,
        shape: Shape,
        ledger: &mut Ledger<Self::Plan>,
    ) -> Result<Self::Tensor>;

    /// Takes that memory back. Kept plans that cannot do without it go.
    fn free(&mut self, tensor: Self::Tensor, ledger: &mut Ledger<Self::Plan>);

    /// Sets tensors to as many values of their kind, in one transfer.
    ///
    /// # Errors
    /// If the device fails.
    fn write(
        &mut self,
        tensors: &mut [Self::Tensor],
        values: &[&Values],
        ledger: &mut Ledger<Self::Plan>,
    ) -> Result<()>;

    /// The values of tensors of real numbers, of so many elements each, in one
    /// transfer.
    ///
    /// # Errors
    /// If the device fails.
    fn read(
        &mut self,
        tensors: &[&Self::Tensor],
        lens: &[usize],
        ledger: &mut Ledger<Self::Plan>,
    ) -> Result<Vec<Vec<f32>>>;

    /// Makes a plan: memory, kernels, and everything that depends on weights
    /// alone computed. The tensors are those of the first runs.
    ///
    /// # Errors
    /// If it needs more memory than there is or a size the device lacks.
    fn compile(
        &mut self,
        recording: Recording,
        tensors: &mut [Self::Tensor],
        ledger: &mut Ledger<Self::Plan>,
    ) -> Result<Self::Plan>;

    /// Whether a plan is bound to these tensors as it is: of several that are
    /// kept, such a one is taken.
    fn is_bound(&self, _plan: &Self::Plan, _tensors: &[Self::Tensor]) -> bool {
        true
    }

    /// Binds a kept plan to these tensors, those of its next runs.
    ///
    /// # Errors
    /// If the device fails.
    fn bind(&mut self, _plan: &mut Self::Plan, _tensors: &[Self::Tensor]) -> Result<()> {
        Ok(())
    }

    /// Runs one stage of a plan, on the tensors that it was made or bound for.
    ///
    /// # Errors
    /// If the device fails.
    fn run(
        &mut self,
        plan: &mut Self::Plan,
        tensors: &mut [Self::Tensor],
        run: Run,
        ledger: &mut Ledger<Self::Plan>,
    ) -> Result<()>;

    /// A plan was released; `gone` are those that are kept no longer.
    fn released(&mut self, _gone: Vec<Self::Plan>) {}
}

/// What of a plan is run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub stage: usize,
    /// How many of its lead rows, one at least; all if there are not so many.
    pub leads: usize,
    pub scalars: &'a Scalars,
}

/// Bytes of kept plans that are worth less than making them again.
const ALWAYS_KEPT: usize = 8 << 20;

/// What an engine has done and what it holds.
pub struct Ledger<P> {
    pub profile: Profile,
    /// Plans that nobody runs at the moment.
    pub kept: KeptPlans<P>,
    bytes: usize,
    /// The most that was ever held at once.
    most_bytes: usize,
}

impl<P: Compiled> Ledger<P> {
    /// Nothing yet; kept plans may take `most_kept` bytes.
    pub fn new(most_kept: usize) -> Self {
        Self {
            profile: Profile::default(),
            kept: KeptPlans::new(most_kept),
            bytes: 0,
            most_bytes: 0,
        }
    }

    /// Gives up kept plans so that, with `more` bytes held, all together is no
    /// more than once was held at the same time, or a little is kept
    /// (`ALWAYS_KEPT`): but for that, what only waits never makes a process
    /// larger than its largest work.
    pub fn make_room(&mut self, more: usize) -> Vec<P> {
        let held = self.bytes.saturating_add(more);
        let room = self.most_bytes.saturating_sub(held);
        self.kept.trim(room.max(ALWAYS_KEPT))
    }

    /// Bytes held now. Kept plans are not among them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts memory that was taken.
    pub fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.most_bytes = self.most_bytes.max(self.bytes);
        let peak = &mut self.profile.peak_memory_bytes;
        *peak = (*peak).max(self.bytes as u64);
    }

    /// Counts memory that was given back.
    pub fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Lets the peak begin anew with what is held now.
    pub fn forget_peak(&mut self) {
        self.profile.peak_memory_bytes = self.bytes as u64;
    }
}
