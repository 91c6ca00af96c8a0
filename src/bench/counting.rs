//! A backend that computes nothing and counts what computing would take.

use crate::Result;
use crate::engine::Engine;
use crate::engine::backend::{Backend, Ledger, Run};
use crate::engine::cost::{Cost, StageCost};
use crate::engine::executor::{Executor, Values};
use crate::engine::kept_plans::Compiled;
use crate::engine::native;
use crate::engine::precision::Precision;
use crate::engine::recording::Recording;
use crate::engine::schedule::Schedule;
use crate::engine::tensor::{Kind, Shape, WeightId};
use crate::engine::weights::WeightTable;

/// Stands in for the native executor in f32: the same memory and operations,
/// but nothing is allocated or run, and all that is read is zero.
pub type CountingExecutor<'a> = Engine<Counting<'a>>;

/// What is counted beside the engine's books.
pub struct Counting<'a> {
    weight_bytes: usize,
    /// Weights that the native executor would have as factors, too.
    factors: Vec<WeightId>,
    factor_bytes: usize,
    capture: Option<Capture<'a>>,
}

/// Keeps the recordings of what is counted. What is run at once is as much as
/// another executor would take.
struct Capture<'a> {
    sizing: &'a mut dyn Executor,
    plans: Vec<Captured>,
}

/// A recording that was prepared.
pub struct Captured {
    pub recording: Recording,
    /// How often each stage of it was run with all lead rows.
    pub runs: Vec<u64>,
    /// By slot: what was uploaded there, if it holds indices.
    pub indices: Vec<Option<Vec<u32>>>,
}

/// A recording and what its stages come to.
pub struct CountedPlan {
    recording: Recording,
    bytes: usize,
    /// By stage.
    costs: Vec<StageCost>,
    /// Its number among those that were captured, if they are.
    number: usize,
}

impl Compiled for CountedPlan {
    fn recording(&self) -> &Recording {
        &self.recording
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<'a> Engine<Counting<'a>> {
    /// One that holds these weights.
    pub fn new(weights: &WeightTable) -> Self {
        Self::capturing(weights, None)
    }

    /// One that keeps what it counts, with work in such shares as `sizing`
    /// would take.
    pub fn keeping(weights: &WeightTable, sizing: &'a mut dyn Executor) -> Self {
        let plans = Vec::new();
        Self::capturing(weights, Some(Capture { sizing, plans }))
    }

    fn capturing(weights: &WeightTable, capture: Option<Capture<'a>>) -> Self {
        let backend = Counting {
            weight_bytes: weights.bytes(),
            factors: Vec::new(),
            factor_bytes: 0,
            capture,
        };
        Self::over(backend, weights.bytes())
    }
}

impl Counting<'_> {
    /// What was kept so far.
    pub fn captured(&self) -> &[Captured] {
        let capture = self.capture.as_ref();
        capture.map_or(&[], |capture| &capture.plans)
    }

    /// What was kept.
    pub fn into_captured(self) -> Vec<Captured> {
        self.capture
            .map(|capture| capture.plans)
            .unwrap_or_default()
    }

    fn sizing(&self) -> Option<&dyn Executor> {
        self.capture.as_ref().map(|capture| &*capture.sizing)
    }
}

impl Backend for Counting<'_> {
    /// The indices that were uploaded.
    type Tensor = Option<Vec<u32>>;
    type Plan = CountedPlan;

    /// Every preparation is counted.
    const MOST_KEPT_BYTES: usize = 0;

    fn name(&self) -> String {
        let nobody = || "none, nothing was computed".into();
        self.sizing().map_or_else(nobody, Executor::name)
    }

    fn kind(&self) -> &'static str {
        self.sizing().map_or("native", Executor::kind)
    }

    fn precision(&self) -> Precision {
        self.sizing().map_or(Precision::F32, Executor::precision)
    }

    fn weight_bytes(&self) -> usize {
        let own = self.weight_bytes + self.factor_bytes;
        self.sizing().map_or(own, Executor::weight_bytes)
    }

    fn tensor_bytes(&self, _kind: Kind, shape: Shape) -> usize {
        4 * shape.len()
    }

    fn largest_tensor(&self) -> usize {
        self.sizing().map_or(usize::MAX, Executor::largest_tensor)
    }

    fn estimate(&self, recording: &Recording) -> usize {
        match self.sizing() {
            Some(sizing) => sizing.estimate(recording),
            None => native::plan_bytes::<f32>(recording),
        }
    }

    fn allocate(
        &mut self,
        _kind: Kind,
        _shape: Shape,
        _ledger: &mut Ledger<CountedPlan>,
    ) -> Result<Option<Vec<u32>>> {
        Ok(None)
    }

    fn free(&mut self, _tensor: Option<Vec<u32>>, _ledger: &mut Ledger<CountedPlan>) {}

    fn write(
        &mut self,
        tensors: &mut [Option<Vec<u32>>],
        values: &[&Values],
        _ledger: &mut Ledger<CountedPlan>,
    ) -> Result<()> {
        for (own, values) in tensors.iter_mut().zip(values) {
            if let Values::Index(values) = values {
                *own = Some(values.to_vec());
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        _tensors: &[&Option<Vec<u32>>],
        lens: &[usize],
        _ledger: &mut Ledger<CountedPlan>,
    ) -> Result<Vec<Vec<f32>>> {
        Ok(lens.iter().map(|&len| vec![0.0; len]).collect())
    }

    fn compile(
        &mut self,
        recording: Recording,
        tensors: &mut [Option<Vec<u32>>],
        ledger: &mut Ledger<CountedPlan>,
    ) -> Result<CountedPlan> {
        for (id, shape) in native::weights_as_factors(&recording) {
            let bytes = 4 * native::linalg::factor_len::<f32>(shape.cols, shape.rows);
            let fits = self.factor_bytes + bytes <= native::MOST_FACTOR_BYTES;
            if !self.factors.contains(&id) && fits {
                self.factors.push(id);
                self.factor_bytes += bytes;
                ledger.grow(bytes);
            }
        }
        let schedule = Schedule::new(&recording);
        let once = Cost::of(&recording, &schedule, &schedule.once);
        ledger.profile.count_cost(once);
        let mut number = 0;
        if let Some(capture) = &mut self.capture {
            number = capture.plans.len();
            capture.plans.push(Captured {
                recording: recording.clone(),
                runs: vec![0; schedule.stages.len()],
                indices: tensors.to_vec(),
            });
        }
        Ok(CountedPlan {
            bytes: native::plan_bytes::<f32>(&recording),
            costs: StageCost::of_stages(&recording, &schedule),
            recording,
            number,
        })
    }

    /// What is kept leaves runs of a part out, as SPES' unmasked pass: an
    /// operator is timed at one size only.
    fn run(
        &mut self,
        plan: &mut CountedPlan,
        tensors: &mut [Option<Vec<u32>>],
        run: Run,
        ledger: &mut Ledger<CountedPlan>,
    ) -> Result<()> {
        let cost = &plan.costs[run.stage];
        if let Some(capture) = &mut self.capture {
            if run.leads < cost.lead {
                return Ok(());
            }
            let captured = &mut capture.plans[plan.number];
            captured.runs[run.stage] += 1;
            captured.indices = tensors.to_vec();
        }
        ledger.profile.count_cost(cost.of(run.leads));
        Ok(())
    }
}
