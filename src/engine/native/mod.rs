//! The processor as a backend: recordings in f32 or f64, region by region
//! (`plan`).

pub mod context;
pub mod linalg;
mod plan;
mod pool;
pub mod real;
mod tiles;

use std::sync::{Arc, Mutex};

use self::context::{Arena, PersistentValues};
use self::linalg::{Factor, Matrix, factor_len};
pub use self::plan::plan_bytes;
use self::plan::{Chunks, Plan, Weights};
use self::pool::{MOST_IDLE_BYTES, Pool};
use self::real::Real;
use super::Engine;
use super::backend::{Backend, Ledger, Run};
use super::executor::Values;
use super::precision::Precision;
use super::profile::Purpose;
use super::recording::{Recording, Source};
use super::tensor::{Kind, PersistentId, Scalars, Shape, WeightId};
use super::weights::WeightTable;
use crate::{Error, Result};

/// Bytes that weights as factors take at most; beyond it products read the
/// originals, which takes a little longer.
pub const MOST_FACTOR_BYTES: usize = 1 << 30;

/// Runs recordings on the processor.
pub type NativeExecutor<T> = Engine<Native<T>>;

/// The processor, and a model's weights.
pub struct Native<T> {
    /// Where T is f32, the model's own.
    weights: Vec<Arc<Vec<T>>>,
    /// By weight: its transpose as a factor, once a plan wants it.
    factors: Vec<Option<Box<[T]>>>,
    factor_bytes: usize,
    /// The workers' own memory, shared by all plans.
    arenas: Mutex<Vec<Arena<T>>>,
    pool: Pool<T>,
    profiling: bool,
}

impl<T: Real> Engine<Native<T>> {
    /// An executor over a model's weights; with `profiling`, times are taken
    /// for every operator.
    pub fn new(weights: &WeightTable, profiling: bool) -> Self {
        let weights = weights.iter().map(|weight| T::share(&weight.data));
        let weights: Vec<Arc<Vec<T>>> = weights.collect();
        let bytes = weights.iter().map(|own| size_of_val(own.as_slice())).sum();
        let backend = Native {
            factors: weights.iter().map(|_| None).collect(),
            factor_bytes: 0,
            weights,
            arenas: Mutex::default(),
            pool: Pool::default(),
            profiling,
        };
        Self::over(backend, bytes)
    }

    /// Sets a persistent tensor without rounding to f32.
    ///
    /// # Errors
    /// If the length differs from the tensor's.
    pub fn upload_real(&mut self, id: PersistentId, values: &[T]) -> Result<()> {
        self.with_tensors(&[id], |_, tensors, ledger| match &mut tensors[0] {
            PersistentValues::Real(own) if own.len() == values.len() => {
                own.copy_from_slice(values);
                let bytes = size_of_val(values);
                ledger.profile.count_upload(Purpose::OTHER, bytes);
                Ok(())
            }
            _ => Err(Error::Device(format!(
                "{} values do not fill persistent tensor {}",
                values.len(),
                id.0
            ))),
        })
    }

    /// A persistent tensor's values without rounding to f32.
    ///
    /// # Panics
    /// If nobody holds the tensor, or it holds indices.
    pub fn read_real(&self, id: PersistentId) -> &[T] {
        match self.tensor(id) {
            Ok(own) => own.reals(),
            Err(problem) => panic!("{problem}"),
        }
    }
}

impl<T: Real> Native<T> {
    /// Makes the factors that a recording wants of weights, as long as there is
    /// room for them.
    fn make_factors(&mut self, recording: &Recording, ledger: &mut Ledger<Plan<T>>) {
        for (id, shape) in weights_as_factors(recording) {
            let index = id.0 as usize;
            let len = factor_len::<T>(shape.cols, shape.rows);
            let bytes = len * size_of::<T>();
            if self.factors[index].is_none() && self.factor_bytes + bytes <= MOST_FACTOR_BYTES {
                let weight = &self.weights[index];
                let weight = Matrix::new(weight, shape.rows, shape.cols, shape.cols);
                let mut factor = vec![T::default(); len];
                Factor::pack(weight.transposed(), &mut factor, true);
                self.factors[index] = Some(factor.into());
                self.factor_bytes += bytes;
                ledger.grow(bytes);
            }
        }
    }

    /// Takes memory; where there is none, once more without what is only kept.
    fn make<R>(
        &mut self,
        ledger: &mut Ledger<Plan<T>>,
        make: impl Fn(&mut Pool<T>) -> Result<R>,
    ) -> Result<R> {
        make(&mut self.pool).or_else(|_| {
            ledger.kept.clear();
            self.pool = Pool::default();
            make(&mut self.pool)
        })
    }

    fn weights(&self) -> Weights<'_, T> {
        Weights {
            own: &self.weights,
            factors: &self.factors,
        }
    }
}

impl<T: Real> Backend for Native<T> {
    type Tensor = PersistentValues<T>;
    type Plan = Plan<T>;

    const MOST_KEPT_BYTES: usize = 64 << 20;

    fn name(&self) -> String {
        format!("native, {} threads", rayon::current_num_threads())
    }

    fn kind(&self) -> &'static str {
        "native"
    }

    fn precision(&self) -> Precision {
        T::PRECISION
    }

    fn weight_bytes(&self) -> usize {
        let own = self.weights.iter().map(|own| size_of_val(own.as_slice()));
        own.sum::<usize>() + self.factor_bytes
    }

    fn real_bytes(&self) -> usize {
        size_of::<T>()
    }

    fn tensor_bytes(&self, kind: Kind, shape: Shape) -> usize {
        shape.len()
            * match kind {
                Kind::Real => size_of::<T>(),
                Kind::Index => size_of::<u32>(),
            }
    }

    fn estimate(&self, recording: &Recording) -> usize {
        plan_bytes::<T>(recording)
    }

    fn allocate(
        &mut self,
        kind: Kind,
        shape: Shape,
        ledger: &mut Ledger<Plan<T>>,
    ) -> Result<PersistentValues<T>> {
        Ok(match kind {
            Kind::Real => {
                let zeros = self.make(ledger, |pool| pool.zeros(shape.len()))?;
                PersistentValues::Real(zeros)
            }
            Kind::Index => PersistentValues::Index(vec![0; shape.len()]),
        })
    }

    fn free(&mut self, tensor: PersistentValues<T>, _ledger: &mut Ledger<Plan<T>>) {
        if let PersistentValues::Real(values) = tensor {
            self.pool.give(values);
        }
    }

    fn write(
        &mut self,
        tensors: &mut [PersistentValues<T>],
        values: &[&Values],
        _ledger: &mut Ledger<Plan<T>>,
    ) -> Result<()> {
        for (own, values) in tensors.iter_mut().zip(values) {
            match (own, values) {
                (PersistentValues::Real(own), Values::Real(values)) => {
                    for (own, &value) in own.iter_mut().zip(values.iter()) {
                        *own = T::from_f32(value);
                    }
                }
                (PersistentValues::Index(own), Values::Index(values)) => {
                    own.copy_from_slice(values);
                }
                _ => unreachable!("the engine checks kinds"),
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        tensors: &[&PersistentValues<T>],
        _lens: &[usize],
        _ledger: &mut Ledger<Plan<T>>,
    ) -> Result<Vec<Vec<f32>>> {
        let rounded = |own: &&PersistentValues<T>| {
            let values = own.reals().iter();
            values.map(|x| x.to_f64() as f32).collect()
        };
        Ok(tensors.iter().map(rounded).collect())
    }

    fn compile(
        &mut self,
        recording: Recording,
        tensors: &mut [PersistentValues<T>],
        ledger: &mut Ledger<Plan<T>>,
    ) -> Result<Plan<T>> {
        self.make_factors(&recording, ledger);
        let mut plan = self.make(ledger, |pool| Plan::new(&recording, pool))?;
        let once = std::mem::take(&mut plan.once);
        ledger.profile.count_cost(plan.once_cost);
        let chunks = Chunks {
            leads: usize::MAX,
            scalars: &Scalars::ZERO,
            times: None,
        };
        plan.run(&once, self.weights(), tensors, &self.arenas, chunks);
        Ok(plan)
    }

    fn run(
        &mut self,
        plan: &mut Plan<T>,
        tensors: &mut [PersistentValues<T>],
        run: Run,
        ledger: &mut Ledger<Plan<T>>,
    ) -> Result<()> {
        let regions = Arc::clone(&plan.stages[run.stage]);
        let times = self.profiling.then(Mutex::default);
        let chunks = Chunks {
            leads: run.leads,
            scalars: run.scalars,
            times: times.as_ref(),
        };
        plan.run(&regions, self.weights(), tensors, &self.arenas, chunks);
        let operators: usize = regions.iter().map(|region| region.operators.len()).sum();
        let profile = &mut ledger.profile;
        profile.dispatches += operators as u64;
        profile.count_cost(plan.costs[run.stage].of(run.leads));
        if let Some(times) = times {
            for (name, seconds) in times.into_inner().expect("no worker panicked") {
                *profile.kernel_seconds.entry(name).or_default() += seconds;
            }
        }
        Ok(())
    }

    fn released(&mut self, gone: Vec<Plan<T>>) {
        for block in gone.into_iter().flat_map(|plan| plan.blocks) {
            self.pool.give(block);
        }
        let arenas = self.arenas.get_mut().expect("no worker panicked");
        if arenas.iter().map(Arena::bytes).sum::<usize>() > MOST_IDLE_BYTES {
            arenas.clear();
        }
    }
}

/// The weights of which a recording wants the transpose as a factor, and their
/// shapes.
pub fn weights_as_factors(recording: &Recording) -> impl Iterator<Item = (WeightId, Shape)> {
    let tensors = recording.operators().iter();
    let tensors = tensors.filter_map(|operator| operator.transposed_factor());
    tensors.filter_map(|tensor| match recording.info(tensor).source {
        Source::Weight(id) => Some((id, recording.shape(tensor))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::executor::Executor;
    use crate::engine::weights::{Form, Role};

    /// A plan that is taken up again does all over but what runs once.
    #[test]
    fn an_equal_recording_takes_up_a_released_plan() {
        let mut table = WeightTable::default();
        let weight = table.add(
            Role::encoder(Form::Matrix),
            "weight",
            2,
            3,
            vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        );
        let table = Arc::new(table);
        let mut executor = NativeExecutor::<f64>::new(&table, false);
        let mut run = |values: &[f32; 3]| {
            let mark = executor.mark();
            let before = executor.profile().flops;
            let shape = Shape::new(1, 1, 3);
            let x = executor.allocate(Kind::Real, shape).unwrap();
            executor.upload(x, values).unwrap();
            let mut recording = Recording::new(Arc::clone(&table));
            let x = recording.persistent(x, Kind::Real, shape);
            let constant = recording.constant(shape, vec![1.0, 0.0, -1.0]);
            let weight = recording.weight(weight);
            let once = recording.matmul(constant, weight).record().unwrap();
            let y = recording.matmul(x, weight).residual(once).record().unwrap();
            let kept = executor.allocate(Kind::Real, Shape::new(1, 1, 2)).unwrap();
            recording.keep(y, kept);
            let plan = executor.prepare(recording).unwrap();
            executor.run(plan, 0, &Scalars::ZERO).unwrap();
            let y = executor.read(&[kept], Purpose::OTHER).unwrap().remove(0);
            executor.unwind(mark);
            (y, executor.profile().flops - before)
        };
        let (first, all) = run(&[1.0, 1.0, 1.0]);
        assert_eq!(first, [6.0 - 2.0, 15.0 - 2.0]);
        let (second, again) = run(&[1.0, 0.0, 2.0]);
        assert_eq!(second, [7.0 - 2.0, 16.0 - 2.0]);
        assert_eq!((all, again), (24, 12));
    }

    /// Few of a stage's lead rows give the numbers of all of them, and are
    /// counted as few.
    #[test]
    fn the_first_lead_rows_can_be_run_alone() {
        const LEADS: usize = 7;
        let mut table = WeightTable::default();
        let weight = table.add(
            Role::encoder(Form::Matrix),
            "weight",
            3,
            2,
            vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        );
        let table = Arc::new(table);
        let mut executor = NativeExecutor::<f32>::new(&table, false);
        let shape = Shape::new(LEADS, 4, 2);
        let x = executor.allocate(Kind::Real, shape).unwrap();
        let kept = Shape::new(LEADS, 4, 3);
        let kept = executor.allocate(Kind::Real, kept).unwrap();
        let mut recording = Recording::new(Arc::clone(&table));
        let own = recording.persistent(x, Kind::Real, shape);
        let weight = recording.weight(weight);
        // The second product's input stays with the worker.
        let y = recording.matmul(own, weight).record().unwrap();
        let back = recording
            .matmul(y, weight)
            .layout(crate::ops::Layout::InOut);
        let back = back.record().unwrap();
        let y = recording.matmul(back, weight).record().unwrap();
        recording.keep(y, kept);
        let plan = executor.prepare(recording).unwrap();
        let mut run = |leads: usize, factor: f32| {
            let values: Vec<f32> = (0..shape.len()).map(|i| factor * i as f32).collect();
            executor.upload(x, &values).unwrap();
            let before = executor.profile().flops;
            executor.run_first(plan, 0, leads, &Scalars::ZERO).unwrap();
            let y = executor.read(&[kept], Purpose::OTHER).unwrap().remove(0);
            (y, executor.profile().flops - before)
        };
        let (whole, all) = run(usize::MAX, 1.0);
        for leads in 1..=LEADS {
            let (_, again) = run(LEADS, 2.0);
            assert_eq!(again, all);
            let (first, cost) = run(leads, 1.0);
            assert_eq!(first[..leads * 12], whole[..leads * 12], "{leads}");
            assert_eq!(cost, all / LEADS as u64 * leads as u64);
        }
    }
}
