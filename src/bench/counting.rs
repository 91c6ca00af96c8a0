//! An executor that computes nothing and counts what computing would take.

use crate::Result;
use crate::engine::cost::{Cost, StageCost};
use crate::engine::executor::{Executor, PlanId, Values};
use crate::engine::journal::{Held, Journal};
use crate::engine::native;
use crate::engine::precision::Precision;
use crate::engine::profile::{Profile, Purpose};
use crate::engine::recording::Recording;
use crate::engine::schedule::Schedule;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape, WeightId};
use crate::engine::weights::WeightTable;

/// Stands in for the native executor in f32: the same memory and operations,
/// but nothing is allocated or run, and all that is read is zero.
pub struct CountingExecutor {
    /// Elements.
    persistent: Vec<usize>,
    plans: Vec<CountedPlan>,
    journal: Journal,
    profile: Profile,
    bytes: usize,
    weight_bytes: usize,
    /// Weights of which the native executor would have a transposed copy.
    turned: Vec<WeightId>,
    turned_bytes: usize,
}

struct CountedPlan {
    bytes: usize,
    /// By stage.
    costs: Vec<StageCost>,
}

impl CountingExecutor {
    /// One that holds these weights.
    pub fn new(weights: &WeightTable) -> Self {
        let mut executor = Self {
            persistent: Vec::new(),
            plans: Vec::new(),
            journal: Journal::default(),
            profile: Profile::default(),
            bytes: 0,
            weight_bytes: weights.bytes(),
            turned: Vec::new(),
            turned_bytes: 0,
        };
        executor.grow(weights.bytes());
        executor
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        let peak = &mut self.profile.peak_memory_bytes;
        *peak = (*peak).max(self.bytes as u64);
    }
}

impl Executor for CountingExecutor {
    fn name(&self) -> String {
        "none, nothing was computed".into()
    }

    fn kind(&self) -> &'static str {
        "native"
    }

    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn weight_bytes(&self) -> usize {
        self.weight_bytes + self.turned_bytes
    }

    fn allocate(&mut self, _kind: Kind, shape: Shape) -> Result<PersistentId> {
        self.grow(4 * shape.len());
        self.persistent.push(shape.len());
        let id = PersistentId((self.persistent.len() - 1) as u32);
        self.journal.made(Held::Persistent(id));
        Ok(id)
    }

    fn free(&mut self, id: PersistentId) {
        self.journal.gone(Held::Persistent(id));
        self.bytes -= 4 * std::mem::take(&mut self.persistent[id.0 as usize]);
    }

    fn upload_all(&mut self, parts: &[(PersistentId, Values)], purpose: Purpose) -> Result<()> {
        let bytes = parts.iter().map(|(_, values)| 4 * values.len()).sum();
        self.profile.count_upload(purpose, bytes);
        Ok(())
    }

    fn prepare(&mut self, recording: Recording) -> Result<PlanId> {
        for (id, shape) in native::weights_to_turn(&recording) {
            let bytes = 4 * shape.len();
            if !self.turned.contains(&id) && self.turned_bytes + bytes <= native::MOST_TURNED_BYTES
            {
                self.turned.push(id);
                self.turned_bytes += bytes;
                self.grow(bytes);
            }
        }
        let schedule = Schedule::new(&recording);
        let once = Cost::of(&recording, &schedule, &schedule.once);
        self.profile.count_cost(once);
        let bytes = self.estimate(&recording);
        self.grow(bytes);
        self.plans.push(CountedPlan {
            bytes,
            costs: StageCost::of_stages(&recording, &schedule),
        });
        let id = PlanId((self.plans.len() - 1) as u32);
        self.journal.made(Held::Plan(id));
        Ok(id)
    }

    fn estimate(&self, recording: &Recording) -> usize {
        native::plan_bytes::<f32>(recording)
    }

    fn run(&mut self, plan: PlanId, stage: usize, scalars: &Scalars) -> Result<()> {
        self.run_first(plan, stage, usize::MAX, scalars)
    }

    fn run_first(
        &mut self,
        plan: PlanId,
        stage: usize,
        leads: usize,
        _scalars: &Scalars,
    ) -> Result<()> {
        let cost = self.plans[plan.0 as usize].costs[stage].of(leads);
        self.profile.count_cost(cost);
        Ok(())
    }

    fn release(&mut self, plan: PlanId) {
        self.journal.gone(Held::Plan(plan));
        self.bytes -= std::mem::take(&mut self.plans[plan.0 as usize].bytes);
    }

    fn read(&mut self, ids: &[PersistentId], purpose: Purpose) -> Result<Vec<Vec<f32>>> {
        let sizes = ids.iter().map(|id| self.persistent[id.0 as usize]);
        let values: Vec<Vec<f32>> = sizes.map(|size| vec![0.0; size]).collect();
        let bytes = values.iter().map(|values| 4 * values.len()).sum();
        self.profile.count_read(purpose, bytes);
        Ok(values)
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn forget_peak(&mut self) {
        self.profile.peak_memory_bytes = self.bytes as u64;
    }

    fn profile(&self) -> Profile {
        self.profile.clone()
    }
}
