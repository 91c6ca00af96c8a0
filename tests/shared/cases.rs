//! What the tests of operators and kernels share: made-up numbers, small
//! recordings that run on any executor, and the comparison of results.

// Every test file uses its part of this.
#![allow(dead_code)]

use std::sync::Arc;

use sonograd::engine::executor::{Executor, PlanId};
use sonograd::engine::gpu::adapter::{Device, open_for_tests};
use sonograd::engine::gpu::{GpuExecutor, GpuOptions, ShaderMode, Tune};
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::philox::philox4x32;
use sonograd::engine::recording::{Recording, Source};
use sonograd::engine::tensor::{Kind, PersistentId, Scalar, Scalars, Shape, TensorId};
use sonograd::engine::weights::WeightTable;
use sonograd::explain::profile::MAPS;
use sonograd::ops::Operator;

/// Whether the driver checks what shaders do; kernels must do without.
pub const MODES: [ShaderMode; 2] = [ShaderMode::Checked, ShaderMode::Trusted];

thread_local! {
    /// Opened once for each test, which has a thread: every case makes an
    /// executor of its own on it. Never dropped, since that must not happen
    /// while a thread ends.
    static DEVICE: &'static Arc<Device> = Box::leak(Box::new(Arc::new(open_for_tests())));
}

/// `count` numbers between -1 and 1, multiples of 2^-20, other ones for every
/// seed.
pub fn values(count: usize, seed: u32) -> Vec<f32> {
    let blocks = (0..count.div_ceil(4)).flat_map(|i| philox4x32([i as u32, seed, 0, 0], [1, 2]));
    let number = |word: u32| ((word >> 11) as f32 - 1_048_576.0) / 1_048_576.0;
    blocks.map(number).take(count).collect()
}

/// Runtime scalars: one of them set, the others 0.
pub fn at(scalar: Scalar, value: usize) -> Scalars {
    Scalars::ZERO.with(scalar, value as u32)
}

/// The largest absolute value.
pub fn largest(values: &[f32]) -> f64 {
    values
        .iter()
        .fold(0.0, |most, &x| f64::max(most, f64::from(x).abs()))
}

/// How far a result in f32 may be from the exact one: k · eps · sqrt(n) · scale.
///
/// A sum of n terms of size `scale` gathers rounding errors like a random walk;
/// k counts the roundings that each term goes through, with room for their
/// distribution. It is derived where it is used, never fitted to a failure.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub k: f64,
    pub n: usize,
    pub scale: f64,
}

impl Tolerance {
    /// No error at all: copies, and choices among given numbers.
    pub const EXACT: Self = Self {
        k: 0.0,
        n: 1,
        scale: 0.0,
    };

    /// Largest error of one element.
    pub fn element(&self) -> f64 {
        self.k * f64::from(f32::EPSILON) * (self.n as f64).sqrt() * self.scale
    }

    /// Largest Euclidean norm of `count` errors. The bound of one element is
    /// about four standard deviations; the norm of independent errors exceeds
    /// (sqrt(count) + 3) standard deviations practically never.
    pub fn norm(&self, count: usize) -> f64 {
        self.element() * ((count as f64).sqrt() + 3.0) / 4.0
    }
}

/// Holds every element, and the norm of all errors, to the tolerance. The
/// worst error is in the text either way. Everything is compared with `<=`,
/// so that NaN fails.
pub fn check(
    name: &str,
    got: &[f32],
    want: &[f64],
    tolerance: Tolerance,
) -> Result<String, String> {
    if got.len() != want.len() {
        return Err(format!(
            "{name}: {} elements, not {}",
            got.len(),
            want.len()
        ));
    }
    let errors = || {
        got.iter()
            .zip(want)
            .map(|(&got, &want)| (f64::from(got) - want).abs())
    };
    let (element, norm_bound) = (tolerance.element(), tolerance.norm(got.len()));
    let mut worst = (0, 0.0);
    for (index, error) in errors().enumerate() {
        let within = error <= element;
        if !within {
            return Err(format!(
                "{name}: element {index} of {} is {:e}, not {:e}: off by {error:.2e}, {element:.2e} allowed",
                got.len(),
                got[index],
                want[index]
            ));
        }
        if error > worst.1 {
            worst = (index, error);
        }
    }
    let norm = errors().map(|error| error * error).sum::<f64>().sqrt();
    let line = format!(
        "{name}: worst error {:.2e} of {element:.2e} at {} of {}, norm {norm:.2e} of {norm_bound:.2e}",
        worst.1,
        worst.0,
        got.len()
    );
    if norm <= norm_bound {
        Ok(line)
    } else {
        Err(line)
    }
}

/// Panics unless `got` agrees with `want`; prints the worst error.
pub fn compare(name: &str, got: &[f32], want: &[f64], tolerance: Tolerance) {
    match check(name, got, want, tolerance) {
        Ok(line) => println!("{line}"),
        Err(line) => panic!("{line}"),
    }
}

/// Both sides divided by the power of two at or above each element's scale,
/// which rounds nothing: where sizes differ, each element is then held to the
/// tolerance of its own.
pub fn evened(got: &[f32], want: &[f64], scales: &[f64]) -> (Vec<f32>, Vec<f64>) {
    assert_eq!(scales.len(), want.len(), "a scale for every element");
    let power = |scale: &f64| scale.log2().ceil().exp2();
    let got = got.iter().zip(scales);
    let want = want.iter().zip(scales);
    (
        got.map(|(x, scale)| x / power(scale) as f32).collect(),
        want.map(|(x, scale)| x / power(scale)).collect(),
    )
}

/// A new executor on the GPU that the tests run on.
pub fn gpu(mode: ShaderMode, tune: Tune) -> GpuExecutor {
    let device = DEVICE.with(|device| Arc::clone(device));
    let options = GpuOptions {
        shaders: mode,
        tune,
        ..GpuOptions::default()
    };
    GpuExecutor::new(device, &WeightTable::default(), &options).unwrap()
}

#[derive(Clone)]
enum Values {
    Real(Vec<f32>),
    Index(Vec<u32>),
}

/// A recording whose inputs are persistent tensors with known values, to be
/// run on new executors.
#[derive(Clone)]
pub struct Case {
    pub recording: Recording,
    persistent: Vec<(Shape, Values)>,
    /// Results to read.
    outputs: Vec<usize>,
}

/// What a case became on an executor.
pub struct Ran {
    pub plan: PlanId,
    pub results: Vec<PersistentId>,
    /// By number: the inputs and outputs.
    pub tensors: Vec<PersistentId>,
}

impl Default for Case {
    fn default() -> Self {
        Self::new()
    }
}

impl Case {
    pub fn new() -> Self {
        Self {
            recording: Recording::new(Arc::new(WeightTable::default())),
            persistent: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn add(&mut self, shape: Shape, values: Values) -> PersistentId {
        self.persistent.push((shape, values));
        PersistentId((self.persistent.len() - 1) as u32)
    }

    /// An input of real numbers.
    pub fn real(&mut self, shape: Shape, values: &[f32]) -> TensorId {
        assert_eq!(values.len(), shape.len(), "{shape}");
        let id = self.add(shape, Values::Real(values.to_vec()));
        self.recording.persistent(id, Kind::Real, shape)
    }

    /// An input of numbers between -1 and 1.
    pub fn any(&mut self, lead: usize, rows: usize, cols: usize) -> TensorId {
        let shape = Shape::new(lead, rows, cols);
        let seed = self.persistent.len() as u32;
        self.real(shape, &values(shape.len(), seed))
    }

    /// An input of indices (lead, rows, 1).
    pub fn indices(&mut self, lead: usize, rows: usize, values: &[u32]) -> TensorId {
        let shape = Shape::new(lead, rows, 1);
        assert_eq!(values.len(), shape.len(), "{shape}");
        let id = self.add(shape, Values::Index(values.to_vec()));
        self.recording.persistent(id, Kind::Index, shape)
    }

    /// An input of indices of any shape.
    pub fn table(&mut self, shape: Shape, values: &[u32]) -> TensorId {
        assert_eq!(values.len(), shape.len(), "{shape}");
        let id = self.add(shape, Values::Index(values.to_vec()));
        self.recording.persistent(id, Kind::Index, shape)
    }

    pub fn computed(&mut self, lead: usize, rows: usize, cols: usize) -> TensorId {
        self.recording.computed(Shape::new(lead, rows, cols))
    }

    pub fn push(&mut self, operator: impl Into<Operator>) {
        self.recording.push(operator);
    }

    /// Reads a computed tensor after the run.
    pub fn output(&mut self, tensor: TensorId) {
        let shape = self.recording.shape(tensor);
        let id = self.add(shape, Values::Real(vec![0.0; shape.len()]));
        self.recording.keep(tensor, id);
        self.outputs.push(id.0 as usize);
    }

    /// Reads an input that an operator updates in place after the run.
    pub fn updated(&mut self, input: usize) {
        self.outputs.push(input);
    }

    /// How many inputs and outputs there are: the number of the next one.
    pub fn next(&self) -> usize {
        self.persistent.len()
    }

    /// An input's values as they are uploaded.
    pub fn input(&self, index: usize) -> &[f32] {
        match &self.persistent[index].1 {
            Values::Real(values) => values,
            Values::Index(_) => panic!("input {index} holds indices"),
        }
    }

    /// The number of an input.
    pub fn input_of(&self, tensor: TensorId) -> usize {
        match self.recording.info(tensor).source {
            Source::Persistent(slot) => self.recording.bound()[slot.0 as usize].0 as usize,
            _ => panic!("tensor {} is no input", tensor.0),
        }
    }

    /// Uploads the inputs and runs the recording once for each of `runs`.
    pub fn run(&self, executor: &mut dyn Executor, runs: &[Scalars]) -> Ran {
        let mut tensors = Vec::new();
        for (shape, values) in &self.persistent {
            let kind = match values {
                Values::Real(_) => Kind::Real,
                Values::Index(_) => Kind::Index,
            };
            let id = executor.allocate(kind, *shape).unwrap();
            tensors.push(id);
            match values {
                Values::Real(values) => executor.upload(id, values).unwrap(),
                Values::Index(values) => executor.upload_indices(id, values).unwrap(),
            }
        }
        let numbers = self.recording.bound().iter();
        let bound = numbers.map(|own| tensors[own.0 as usize]).collect();
        let plan = executor.prepare(self.recording.clone().rebound(bound));
        let plan = plan.unwrap();
        for scalars in runs {
            executor.run(plan, 0, scalars).unwrap();
        }
        Ran {
            plan,
            results: self.outputs.iter().map(|&index| tensors[index]).collect(),
            tensors,
        }
    }

    /// The results of the native executor in f64.
    pub fn native(&self, runs: &[Scalars]) -> Vec<Vec<f64>> {
        let mut executor = NativeExecutor::<f64>::new(&WeightTable::default(), false);
        let ran = self.run(&mut executor, runs);
        ran.results
            .iter()
            .map(|&id| executor.read_real(id).to_vec())
            .collect()
    }

    /// A native executor in f32.
    pub fn native_f32() -> NativeExecutor<f32> {
        NativeExecutor::new(&WeightTable::default(), false)
    }

    /// The results of the GPU that the tests run on.
    pub fn gpu(&self, runs: &[Scalars], mode: ShaderMode) -> Vec<Vec<f32>> {
        let mut executor = gpu(mode, Tune::Never);
        let ran = self.run(&mut executor, runs);
        executor.read(&ran.results, MAPS).unwrap()
    }

    /// Runs the recording natively in f64 and twice on `executor`, which must
    /// give the same bits, and compares each result under the tolerance that
    /// its name and its exact values come to. The executor holds nothing and
    /// then holds nothing again: its pipelines serve other cases.
    pub fn compare_reruns(
        &self,
        executor: &mut dyn Executor,
        name: &str,
        results: &[&str],
        tolerance: impl Fn(&str, &[f64]) -> Tolerance,
    ) {
        let want = self.native(&[Scalars::ZERO]);
        assert_eq!(want.len(), results.len(), "{name}: a name for every result");
        let mark = executor.mark();
        let ran = self.run(executor, &[Scalars::ZERO]);
        let got = executor.read(&ran.results, MAPS).unwrap();
        executor.run(ran.plan, 0, &Scalars::ZERO).unwrap();
        let again = executor.read(&ran.results, MAPS).unwrap();
        executor.unwind(mark);
        for (index, result) in results.iter().enumerate() {
            let name = format!("{result} of {name}");
            let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(
                bits(&got[index]) == bits(&again[index]),
                "{name}: a rerun gives other bits"
            );
            let tolerance = tolerance(result, &want[index]);
            compare(&name, &got[index], &want[index], tolerance);
        }
    }

    /// Runs the recording natively in f64 and on the GPU, with and without the
    /// driver's own checks, and compares each result under its tolerance.
    pub fn compare(&self, name: &str, runs: &[Scalars], tolerances: &[Tolerance]) {
        let want = self.native(runs);
        assert_eq!(
            want.len(),
            tolerances.len(),
            "{name}: a tolerance for every result"
        );
        for mode in MODES {
            let got = self.gpu(runs, mode);
            for (index, tolerance) in tolerances.iter().enumerate() {
                let name = format!("{name}, result {index}, {mode:?}");
                compare(&name, &got[index], &want[index], *tolerance);
            }
        }
    }

    /// Like [`compare`](Self::compare), with a scale for every element: errors
    /// may be k · eps times that.
    pub fn compare_each(&self, name: &str, runs: &[Scalars], k: f64, scales: &[Vec<f64>]) {
        let want = self.native(runs);
        assert_eq!(want.len(), scales.len(), "{name}: scales for every result");
        let tolerance = Tolerance {
            k,
            n: 1,
            scale: 1.0,
        };
        for mode in MODES {
            let got = self.gpu(runs, mode);
            for (index, scales) in scales.iter().enumerate() {
                let name = format!("{name}, result {index}, {mode:?}");
                let (got, want) = evened(&got[index], &want[index], scales);
                compare(&name, &got, &want, tolerance);
            }
        }
    }
}
