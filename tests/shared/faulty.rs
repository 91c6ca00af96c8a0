//! A backend that fails when it is told to, for want of a device that does.

use std::sync::{Arc, Mutex};

use sonograd::engine::Engine;
use sonograd::engine::backend::{Backend, Ledger, Run};
use sonograd::engine::executor::Values;
use sonograd::engine::precision::Precision;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, Shape};
use sonograd::{Error, ErrorKind, Result};

/// What may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Allocate,
    Write,
    Read,
    Compile,
    Bind,
    Run,
}

pub const CALLS: [Call; 6] = [
    Call::Allocate,
    Call::Write,
    Call::Read,
    Call::Compile,
    Call::Bind,
    Call::Run,
];

/// What fails, and what was called so far.
#[derive(Debug, Default)]
pub struct Faults {
    /// The call of a kind that fails, counted from 0, and how.
    pub at: Option<(Call, usize, ErrorKind)>,
    /// Whether everything fails from then on, as where a device is lost.
    pub lost: bool,
    /// Plans that take more bytes find no memory.
    pub largest_plan: Option<usize>,
    pub calls: Vec<Call>,
    failed: bool,
}

impl Faults {
    pub fn count(&self, call: Call) -> usize {
        self.calls.iter().filter(|own| **own == call).count()
    }

    /// Forgets what was called, and lets fail what is said.
    pub fn arm(&mut self, at: Option<(Call, usize, ErrorKind)>, lost: bool) {
        *self = Self {
            at,
            lost,
            ..Self::default()
        };
    }

    fn meet(&mut self, call: Call) -> Result<()> {
        let number = self.count(call);
        self.calls.push(call);
        let Some((own, at, kind)) = self.at else {
            return Ok(());
        };
        let now = own == call && number == at;
        self.failed |= now;
        if !(now || self.lost && self.failed) {
            return Ok(());
        }
        Err(match kind {
            ErrorKind::Memory => Error::Memory("no memory: planted".into()),
            _ => Error::Device("the device failed: planted".into()),
        })
    }
}

/// Another backend, and when it fails.
pub struct Faulty<B> {
    inner: B,
    faults: Arc<Mutex<Faults>>,
}

impl<B: Backend> Faulty<B> {
    /// An engine over it, and what tells it to fail.
    pub fn engine(inner: B) -> (Engine<Self>, Arc<Mutex<Faults>>) {
        let faults = Arc::new(Mutex::new(Faults::default()));
        let bytes = inner.weight_bytes();
        let own = Self {
            inner,
            faults: Arc::clone(&faults),
        };
        (Engine::over(own, bytes), faults)
    }

    fn meet(&self, call: Call) -> Result<()> {
        self.faults.lock().unwrap().meet(call)
    }
}

impl<B: Backend> Backend for Faulty<B> {
    type Tensor = B::Tensor;
    type Plan = B::Plan;

    const MOST_KEPT_BYTES: usize = B::MOST_KEPT_BYTES;

    fn name(&self) -> String {
        self.inner.name()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn precision(&self) -> Precision {
        self.inner.precision()
    }

    fn weight_bytes(&self) -> usize {
        self.inner.weight_bytes()
    }

    fn real_bytes(&self) -> usize {
        self.inner.real_bytes()
    }

    fn tensor_bytes(&self, kind: Kind, shape: Shape) -> usize {
        self.inner.tensor_bytes(kind, shape)
    }

    fn largest_tensor(&self) -> usize {
        self.inner.largest_tensor()
    }

    fn largest_transfer(&self) -> usize {
        self.inner.largest_transfer()
    }

    fn estimate(&self, recording: &Recording) -> usize {
        self.inner.estimate(recording)
    }

    fn allocate(
        &mut self,
        kind: Kind,
        shape: Shape,
        ledger: &mut Ledger<B::Plan>,
    ) -> Result<B::Tensor> {
        self.meet(Call::Allocate)?;
        self.inner.allocate(kind, shape, ledger)
    }

    fn free(&mut self, tensor: B::Tensor, ledger: &mut Ledger<B::Plan>) {
        self.inner.free(tensor, ledger);
    }

    fn write(
        &mut self,
        tensors: &mut [B::Tensor],
        values: &[&Values],
        ledger: &mut Ledger<B::Plan>,
    ) -> Result<()> {
        self.meet(Call::Write)?;
        self.inner.write(tensors, values, ledger)
    }

    fn read(
        &mut self,
        tensors: &[&B::Tensor],
        lens: &[usize],
        ledger: &mut Ledger<B::Plan>,
    ) -> Result<Vec<Vec<f32>>> {
        self.meet(Call::Read)?;
        self.inner.read(tensors, lens, ledger)
    }

    fn compile(
        &mut self,
        recording: Recording,
        tensors: &mut [B::Tensor],
        ledger: &mut Ledger<B::Plan>,
    ) -> Result<B::Plan> {
        self.meet(Call::Compile)?;
        let most = self.faults.lock().unwrap().largest_plan;
        let bytes = self.inner.estimate(&recording);
        if most.is_some_and(|most| bytes > most) {
            return Err(Error::Memory(format!(
                "no memory for {bytes} bytes: planted"
            )));
        }
        self.inner.compile(recording, tensors, ledger)
    }

    fn is_bound(&self, plan: &B::Plan, tensors: &[B::Tensor]) -> bool {
        self.inner.is_bound(plan, tensors)
    }

    fn bind(&mut self, plan: &mut B::Plan, tensors: &[B::Tensor]) -> Result<()> {
        self.meet(Call::Bind)?;
        self.inner.bind(plan, tensors)
    }

    fn run(
        &mut self,
        plan: &mut B::Plan,
        tensors: &mut [B::Tensor],
        run: Run,
        ledger: &mut Ledger<B::Plan>,
    ) -> Result<()> {
        self.meet(Call::Run)?;
        self.inner.run(plan, tensors, run, ledger)
    }

    fn released(&mut self, gone: Vec<B::Plan>) {
        self.inner.released(gone);
    }
}
