//! The books of an executor: which tensors and plans there are, whether what
//! is asked of them can be, and what it came to. They are the same whatever
//! computes.

use std::collections::HashMap;

use super::backend::{Backend, Ledger, Run};
use super::executor::{Executor, Mark, PlanId, Values};
use super::kept_plans::Compiled;
use super::precision::Precision;
use super::profile::{Profile, Purpose};
use super::recording::{Recording, Source};
use super::tensor::{Kind, PersistentId, Scalars, Shape, Slot, describe_persistent};
use crate::gauge::Gauge;
use crate::{Error, Result};

/// An executor over a [`Backend`].
pub struct Engine<B: Backend> {
    pub(super) backend: B,
    pub(super) ledger: Ledger<B::Plan>,
    tensors: Tensors<B::Tensor>,
    plans: HashMap<PlanId, Prepared<B::Plan>>,
    /// Number of the next tensor or plan: none is given twice.
    next: u32,
    /// Goes while a plan is compiled.
    compiling: Gauge,
}

/// A plan that somebody holds.
pub(super) struct Prepared<P> {
    pub(super) plan: P,
    /// By slot.
    tensors: Vec<PersistentId>,
    /// Whether an equal recording may take it up.
    reusable: bool,
}

/// The persistent tensors that somebody holds.
struct Tensors<T> {
    held: HashMap<PersistentId, Held<T>>,
}

struct Held<T> {
    kind: Kind,
    shape: Shape,
    /// Absent while a backend works on it.
    own: Option<T>,
}

impl<T> Held<T> {
    fn describe(&self) -> String {
        describe_persistent(self.kind, self.shape)
    }
}

/// What is asked of a tensor or plan that is not there.
fn stale(what: &str, number: u32, next: u32) -> Error {
    Error::Device(match number < next {
        true => format!("{what} {number} was given back"),
        false => format!("{what} {number} is none of this executor's"),
    })
}

impl<T> Tensors<T> {
    /// Takes tensors out for a backend to work on: all of them or none.
    fn take(&mut self, ids: &[PersistentId]) -> Vec<T> {
        let mut own = |id| self.held.get_mut(id)?.own.take();
        let taken = ids.iter().map(|id| own(id).expect("the ids were checked"));
        taken.collect()
    }

    fn put_back(&mut self, ids: &[PersistentId], tensors: Vec<T>) {
        for (id, tensor) in ids.iter().zip(tensors) {
            if let Some(held) = self.held.get_mut(id) {
                held.own = Some(tensor);
            }
        }
    }
}

impl<B: Backend> Engine<B> {
    /// An engine that holds nothing but `bytes` of the backend's own: weights.
    pub fn over(backend: B, bytes: usize) -> Self {
        let mut ledger = Ledger::new(B::MOST_KEPT_BYTES);
        ledger.grow(bytes);
        Self {
            backend,
            ledger,
            tensors: Tensors {
                held: HashMap::new(),
            },
            plans: HashMap::new(),
            next: 0,
            compiling: Gauge::default(),
        }
    }

    /// What computes.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Ends the books.
    pub fn into_backend(self) -> B {
        self.backend
    }

    /// A tensor's memory.
    ///
    /// # Errors
    /// If nobody holds that tensor.
    pub(super) fn tensor(&self, id: PersistentId) -> Result<&B::Tensor> {
        let held = self.held(id)?.own.as_ref();
        Ok(held.expect("nobody works on it now"))
    }

    /// A plan that somebody holds.
    ///
    /// # Errors
    /// If nobody does.
    pub(super) fn prepared(&self, id: PlanId) -> Result<&Prepared<B::Plan>> {
        let found = self.plans.get(&id);
        found.ok_or_else(|| stale("plan", id.0, self.next))
    }

    fn held(&self, id: PersistentId) -> Result<&Held<B::Tensor>> {
        let found = self.tensors.held.get(&id);
        found.ok_or_else(|| stale("persistent tensor", id.0, self.next))
    }

    /// A number that was never given.
    fn number(&mut self) -> Result<u32> {
        if self.next == PersistentId::NOWHERE.0 {
            return Err(Error::Device("the executor has run out of numbers".into()));
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Lets the backend work on some tensors, each given once.
    pub(super) fn with_tensors<R>(
        &mut self,
        ids: &[PersistentId],
        work: impl FnOnce(&mut B, &mut Vec<B::Tensor>, &mut Ledger<B::Plan>) -> Result<R>,
    ) -> Result<R> {
        for &id in ids {
            self.held(id)?;
        }
        let mut tensors = self.tensors.take(ids);
        let done = work(&mut self.backend, &mut tensors, &mut self.ledger);
        self.tensors.put_back(ids, tensors);
        done
    }

    /// Compares the tensors in a recording's slots with what it takes them for.
    fn check(&self, recording: &Recording) -> Result<()> {
        let bound = recording.bound();
        for (slot, id) in bound.iter().enumerate() {
            if bound[..slot].contains(id) {
                let problem = format!("persistent tensor {} is in two slots", id.0);
                return Err(Error::Device(problem));
            }
        }
        for info in recording.tensors() {
            let Source::Persistent(Slot(slot)) = info.source else {
                continue;
            };
            let own = self.held(recording.bound()[slot as usize])?;
            if own.kind != info.kind || own.shape.len() != info.shape.len() {
                return Err(Error::Device(format!(
                    "the recording takes {} for {}",
                    own.describe(),
                    describe_persistent(info.kind, info.shape)
                )));
            }
        }
        Ok(())
    }

    /// Makes a plan that nobody else gets when it is released.
    ///
    /// # Errors
    /// As for [`prepare`](Executor::prepare).
    pub(super) fn prepare_anew(&mut self, recording: Recording) -> Result<PlanId> {
        self.check(&recording)?;
        let ids = recording.bound().to_vec();
        self.compiling.begin(1);
        let plan = self.with_tensors(&ids, |backend, tensors, ledger| {
            backend.compile(recording, tensors, ledger)
        });
        self.compiling.end();
        self.hold(plan?, ids, false)
    }

    fn hold(
        &mut self,
        plan: B::Plan,
        tensors: Vec<PersistentId>,
        reusable: bool,
    ) -> Result<PlanId> {
        let id = PlanId(self.number()?);
        self.ledger.grow(plan.bytes());
        let prepared = Prepared {
            plan,
            tensors,
            reusable,
        };
        self.plans.insert(id, prepared);
        Ok(id)
    }
}

/// Groups of neighbours whose sizes come to `most` together, or that are alone.
fn transfers(sizes: &[usize], most: usize) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let mut first = 0;
    while first < sizes.len() {
        let mut total = 0usize;
        let fitting = sizes[first..].iter().take_while(|&&size| {
            total = total.saturating_add(size);
            total <= most
        });
        let group = first..first + fitting.count().max(1);
        first = group.end;
        groups.push(group);
    }
    groups
}

impl<B: Backend> Executor for Engine<B> {
    fn name(&self) -> String {
        self.backend.name()
    }

    fn kind(&self) -> &'static str {
        self.backend.kind()
    }

    fn precision(&self) -> Precision {
        self.backend.precision()
    }

    fn weight_bytes(&self) -> usize {
        self.backend.weight_bytes()
    }

    fn allocate(&mut self, kind: Kind, shape: Shape) -> Result<PersistentId> {
        let id = PersistentId(self.number()?);
        let own = self.backend.allocate(kind, shape, &mut self.ledger)?;
        self.ledger.grow(self.backend.tensor_bytes(kind, shape));
        let own = Some(own);
        self.tensors.held.insert(id, Held { kind, shape, own });
        Ok(id)
    }

    fn free(&mut self, id: PersistentId) {
        if let Some(held) = self.tensors.held.remove(&id) {
            let bytes = self.backend.tensor_bytes(held.kind, held.shape);
            self.ledger.shrink(bytes);
            let own = held.own.expect("nobody works on it now");
            self.backend.free(own, &mut self.ledger);
        }
    }

    fn upload_all(&mut self, parts: &[(PersistentId, Values)], purpose: Purpose) -> Result<()> {
        for (place, (id, values)) in parts.iter().enumerate() {
            let own = self.held(*id)?;
            if own.kind != values.kind() || own.shape.len() != values.len() {
                let (len, own) = (values.len(), own.describe());
                return Err(Error::Device(format!("{len} values do not fill {own}")));
            }
            if parts[..place].iter().any(|(other, _)| other == id) {
                let own = own.describe();
                return Err(Error::Device(format!("{own} is set twice at once")));
            }
        }
        let sizes = parts
            .iter()
            .map(|(_, values)| size_of::<u32>() * values.len());
        let sizes: Vec<usize> = sizes.collect();
        for group in transfers(&sizes, self.backend.largest_transfer()) {
            let ids: Vec<_> = parts[group.clone()].iter().map(|(id, _)| *id).collect();
            let values = parts[group.clone()].iter().map(|(_, values)| values);
            let values: Vec<_> = values.collect();
            self.with_tensors(&ids, |backend, tensors, ledger| {
                backend.write(tensors, &values, ledger)
            })?;
            let bytes = sizes[group].iter().sum();
            self.ledger.profile.count_upload(purpose, bytes);
        }
        Ok(())
    }

    fn prepare(&mut self, recording: Recording) -> Result<PlanId> {
        self.check(&recording)?;
        let ids = recording.bound().to_vec();
        let compiling = self.compiling.clone();
        let plan = self.with_tensors(&ids, |backend, tensors, ledger| {
            let is_bound = |plan: &B::Plan| backend.is_bound(plan, tensors);
            match ledger.kept.take(&recording, is_bound) {
                Some(mut plan) => backend.bind(&mut plan, tensors).map(|()| plan),
                None => {
                    compiling.begin(1);
                    // Whose size is asked for is laid out twice.
                    if !ledger.kept.is_empty() {
                        let gone = ledger.make_room(backend.estimate(&recording));
                        backend.released(gone);
                    }
                    backend.compile(recording, tensors, ledger)
                }
            }
        });
        compiling.end();
        self.hold(plan?, ids, true)
    }

    fn compiling(&self) -> Gauge {
        self.compiling.clone()
    }

    fn estimate(&self, recording: &Recording) -> usize {
        self.backend.estimate(recording)
    }

    fn largest_tensor(&self) -> usize {
        self.backend.largest_tensor()
    }

    fn run_first(
        &mut self,
        plan: PlanId,
        stage: usize,
        leads: usize,
        scalars: &Scalars,
    ) -> Result<()> {
        let Some(mut prepared) = self.plans.remove(&plan) else {
            return Err(stale("plan", plan.0, self.next));
        };
        let stages = prepared.plan.recording().stage_count();
        if stage >= stages {
            self.plans.insert(plan, prepared);
            let problem = format!("a plan of {stages} stages has no stage {stage}");
            return Err(Error::Device(problem));
        }
        let run = Run {
            stage,
            leads,
            scalars,
        };
        let before = prepared.plan.bytes();
        let own = &mut prepared.plan;
        let done = self.with_tensors(&prepared.tensors, |backend, tensors, ledger| {
            backend.run(own, tensors, run, ledger)
        });
        self.ledger.grow(prepared.plan.bytes() - before);
        self.plans.insert(plan, prepared);
        done
    }

    fn release(&mut self, plan: PlanId) {
        let Some(prepared) = self.plans.remove(&plan) else {
            return;
        };
        self.ledger.shrink(prepared.plan.bytes());
        // A backend lets go of kept plans when it lets go of a tensor's memory;
        // where a tensor is gone already it cannot know of this one.
        let mut tensors = prepared.tensors.iter();
        let whole = tensors.all(|id| self.tensors.held.contains_key(id));
        let mut gone = match prepared.reusable && whole {
            true => self.ledger.kept.keep(prepared.plan),
            false => vec![prepared.plan],
        };
        gone.extend(self.ledger.make_room(0));
        self.backend.released(gone);
    }

    fn read(&mut self, ids: &[PersistentId], purpose: Purpose) -> Result<Vec<Vec<f32>>> {
        let (mut lens, mut tensors) = (Vec::new(), Vec::new());
        for &id in ids {
            let Some(own) = self.tensors.held.get(&id) else {
                return Err(stale("persistent tensor", id.0, self.next));
            };
            if own.kind != Kind::Real {
                let own = own.describe();
                return Err(Error::Device(format!("{own} do not hold real numbers")));
            }
            lens.push(own.shape.len());
            tensors.push(own.own.as_ref().expect("nobody works on it now"));
        }
        let sizes = lens.iter().map(|len| self.backend.real_bytes() * len);
        let sizes: Vec<usize> = sizes.collect();
        let mut values = Vec::with_capacity(ids.len());
        for group in transfers(&sizes, self.backend.largest_transfer()) {
            let (tensors, lens) = (&tensors[group.clone()], &lens[group.clone()]);
            values.extend(self.backend.read(tensors, lens, &mut self.ledger)?);
            let bytes = sizes[group].iter().sum();
            self.ledger.profile.count_read(purpose, bytes);
        }
        Ok(values)
    }

    fn mark(&self) -> Mark {
        Mark(self.next)
    }

    fn unwind(&mut self, mark: Mark) {
        // What has no tensor or plan any more is passed over.
        let tensors = self.tensors.held.keys().map(|id| id.0);
        let plans = self.plans.keys().map(|id| id.0);
        let newer = tensors.chain(plans).filter(|number| *number >= mark.0);
        let mut newer: Vec<u32> = newer.collect();
        newer.sort_unstable_by(|a, b| b.cmp(a));
        for number in newer {
            self.release(PlanId(number));
            self.free(PersistentId(number));
        }
    }

    fn memory_bytes(&self) -> usize {
        self.ledger.bytes()
    }

    fn forget_peak(&mut self) {
        self.ledger.forget_peak();
    }

    fn profile(&self) -> Profile {
        self.ledger.profile.clone()
    }
}
