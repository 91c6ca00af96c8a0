//! The GPU executor's own work: memory, stages, transfers, counters. Sums of
//! quarters are exact in f32, so every comparison is for equal bits.

use std::sync::Arc;

use sonograd::engine::executor::{Executor, PlanId};
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions, ShaderMode, Tune};
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::profile::{Purpose, Transfers};
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, PersistentId, Scalars, Shape, TensorId};
use sonograd::engine::weights::{Form, Role, WeightTable};
use sonograd::explain::profile::{MAPS, STATUS};
use sonograd::generate::GENERATION;
use sonograd::ops::scalars::FIRST_VARIANT;
use sonograd::ops::{Accumulate, Add, Layout, SumBatch};

const MODES: [ShaderMode; 2] = [ShaderMode::Checked, ShaderMode::Trusted];

fn values(count: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7 + seed * 13) % 61) as f32 * 0.25 - 7.0;
    (0..count).map(value).collect()
}

fn weights() -> Arc<WeightTable> {
    let mut table = WeightTable::default();
    let role = Role::encoder(Form::Bias);
    table.add(role, "first", 3, 5, values(15, 3));
    table.add(role, "second", 3, 5, values(15, 4));
    Arc::new(table)
}

fn gpu(weights: &WeightTable, profiling: bool) -> GpuExecutor {
    GpuExecutor::new(
        Arc::new(open_for_tests()),
        weights,
        &GpuOptions {
            profiling,
            ..GpuOptions::default()
        },
    )
    .unwrap()
}

fn add(recording: &mut Recording, a: TensorId, b: TensorId) -> TensorId {
    let (own, other) = (recording.shape(a), recording.shape(b));
    let y = recording.computed(own.with_lead(own.lead.max(other.lead)));
    let (scale_a, scale_b) = (0.5, -1.0);
    recording.push(Add {
        a,
        b,
        scale_a,
        scale_b,
        y,
    });
    y
}

/// Real tensor x, real tensor y and the plan between them, of two stages:
/// the first adds `steps` times, over what the weights alone give, the second
/// adds the first's result to its input.
struct Chain {
    x: PersistentId,
    y: PersistentId,
    z: PersistentId,
    recording: Recording,
}

impl Chain {
    const LEAD: usize = 4;
    const SHAPE: Shape = Shape::new(Self::LEAD, 3, 5);

    fn new(executor: &mut dyn Executor, weights: &Arc<WeightTable>, steps: usize) -> Self {
        let x = executor.allocate(Kind::Real, Self::SHAPE).unwrap();
        let y = executor.allocate(Kind::Real, Self::SHAPE).unwrap();
        let z = executor.allocate(Kind::Real, Self::SHAPE).unwrap();
        let mut recording = Recording::new(weights.clone());
        let own = &mut recording;
        let ids: Vec<TensorId> = (0..2)
            .map(|index| own.weight(sonograd::engine::tensor::WeightId(index)))
            .collect();
        let constant = own.constant(Shape::new(2, 3, 5), values(30, 5));
        let folded = add(own, ids[0], ids[1]);
        let mut sum = own.persistent(x, Kind::Real, Self::SHAPE);
        let mut earlier = sum;
        for step in 0..steps {
            let other = [folded, constant, earlier][step % 3];
            earlier = sum;
            sum = add(own, sum, other);
        }
        own.keep(sum, y);
        own.next_stage();
        let last = add(own, sum, earlier);
        let last = add(own, last, folded);
        own.keep(last, z);
        Self { x, y, z, recording }
    }

    fn run(&self, executor: &mut dyn Executor, plan: PlanId, seed: usize) -> Vec<Vec<f32>> {
        executor
            .upload(self.x, &values(Self::SHAPE.len(), seed))
            .unwrap();
        executor.run(plan, 0, &Scalars::ZERO).unwrap();
        executor.run(plan, 1, &Scalars::ZERO).unwrap();
        executor.read(&[self.y, self.z], MAPS).unwrap()
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn long_chains_share_memory_and_agree() {
    let weights = weights();
    let device = Arc::new(open_for_tests());
    for mode in MODES {
        let mut gpu = GpuExecutor::new(
            device.clone(),
            &weights,
            &GpuOptions {
                shaders: mode,
                ..GpuOptions::default()
            },
        )
        .unwrap();
        let mut native = NativeExecutor::<f32>::new(&weights, false);
        // Ten steps keep few enough bits for the sums to be exact.
        for steps in [1, 2, 10] {
            let mut results = Vec::new();
            for executor in [&mut gpu as &mut dyn Executor, &mut native] {
                let chain = Chain::new(executor, &weights, steps);
                let plan = executor.prepare(chain.recording.clone()).unwrap();
                let first = chain.run(executor, plan, 1);
                let other = chain.run(executor, plan, 2);
                assert_ne!(first, other);
                assert_eq!(first, chain.run(executor, plan, 1), "run again");
                executor.release(plan);
                results.push((first, other));
            }
            assert_eq!(results[0], results[1], "{steps} steps, {mode:?}");
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn memory_is_estimated_taken_and_given_back() {
    let weights = weights();
    let mut gpu = gpu(&weights, false);
    let empty = gpu.memory_bytes();
    assert!(empty >= weights.bytes());
    let steps = 300;
    let chain = Chain::new(&mut gpu, &weights, steps);
    let before = gpu.memory_bytes();
    assert_eq!(before - empty, 3 * Chain::SHAPE.len() * 4);

    let estimate = gpu.estimate(&chain.recording);
    assert_eq!(gpu.memory_bytes(), before);
    let plan = gpu.prepare(chain.recording.clone()).unwrap();
    assert_eq!(gpu.memory_bytes() - before, estimate);
    // All but some hundred bytes are the Params; the sums share a few blocks.
    let alignment = open_for_tests()
        .raw
        .limits()
        .min_uniform_buffer_offset_alignment;
    let params = (steps + 3) * alignment.max(32) as usize;
    assert!(estimate - params < 8 * Chain::SHAPE.len() * 4, "{estimate}");

    // More dispatches than the first submissions hold, in one piece or in many.
    let result = chain.run(&mut gpu, plan, 1);
    for _ in 0..5 {
        assert_eq!(result, chain.run(&mut gpu, plan, 1));
    }
    let peak = gpu.profile().peak_memory_bytes as usize;
    assert!(peak >= before + estimate);

    gpu.release(plan);
    gpu.free(chain.x);
    let other = gpu.allocate(Kind::Real, Shape::new(1, 2, 4)).unwrap();
    assert_ne!(other, chain.x, "no number is given twice");
    gpu.free(other);
    gpu.free(chain.y);
    gpu.free(chain.z);
    let left = gpu.memory_bytes() - empty;
    assert!(left <= 4096, "{left} bytes are left, a read's buffer aside");
    assert_eq!(gpu.profile().peak_memory_bytes as usize, peak);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn counters_count() {
    let weights = weights();
    let mut gpu = gpu(&weights, false);
    let chain = Chain::new(&mut gpu, &weights, 3);
    let plan = gpu.prepare(chain.recording.clone()).unwrap();
    let prepared = gpu.profile();
    assert_eq!(prepared.dispatches, 1, "what depends on weights alone");
    assert_eq!(prepared.submissions, 1);
    assert_eq!(prepared.all_transfers(), Transfers::default());

    chain.run(&mut gpu, plan, 1);
    let ran = gpu.profile();
    let bytes = Chain::SHAPE.len() as u64 * 4;
    assert_eq!(ran.dispatches - prepared.dispatches, 3 + 2);
    // The input, two stages, and one transfer for both tensors.
    assert_eq!(ran.submissions - prepared.submissions, 1 + 2 + 1);
    let maps = ran.transfers(MAPS);
    assert_eq!((maps.reads, maps.read_bytes), (1, 2 * bytes));
    // The input, and the scalars once: the second stage has the same.
    let other = ran.transfers(Purpose::OTHER);
    assert_eq!((other.uploads, other.upload_bytes), (1, bytes));
    assert_eq!(ran.all_transfers().uploads, 1);
    assert_eq!(ran.all_transfers().reads, 1);
    assert_eq!(ran.scalar_writes, 1);
    assert!(ran.kernel_seconds.is_empty());

    gpu.read(&[chain.y], GENERATION).unwrap();
    gpu.read(&[chain.y], STATUS).unwrap();
    let read = gpu.profile();
    for purpose in [MAPS, GENERATION, STATUS] {
        assert_eq!(read.transfers(purpose).reads, 1, "{purpose:?}");
    }
    assert_eq!(read.all_transfers().read_bytes, 4 * bytes);
    assert!(gpu.read(&[], MAPS).unwrap().is_empty());
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn scalars_reach_the_shaders() {
    let weights = weights();
    let (batch, variants) = (2, 5);
    let (x_shape, sum_shape) = (Shape::new(6, 3, 5), Shape::new(3, 3, 5));
    let shares: Vec<f32> = (0..variants).map(|v| 0.5 - v as f32 * 0.25).collect();
    let mut results = Vec::new();
    let mut gpu = gpu(&weights, false);
    let mut native = NativeExecutor::<f32>::new(&weights, false);
    for executor in [&mut gpu as &mut dyn Executor, &mut native] {
        let input = executor.allocate(Kind::Real, x_shape).unwrap();
        let kept = executor.allocate(Kind::Real, sum_shape).unwrap();
        let mut recording = Recording::new(weights.clone());
        let x = recording.persistent(input, Kind::Real, x_shape);
        let weights = recording.constant(Shape::new(1, variants, 1), shares.clone());
        let sum = recording.persistent(kept, Kind::Real, sum_shape);
        recording.push(Accumulate {
            x,
            batch,
            weights,
            sum,
        });
        let plan = executor.prepare(recording).unwrap();
        // Twice, since the first variant begins a new sum.
        for round in 0..2 {
            for first in (0..variants).step_by(batch) {
                executor
                    .upload(input, &values(x_shape.len(), first + round))
                    .unwrap();
                let mut scalars = Scalars::ZERO;
                scalars.set(FIRST_VARIANT, first as u32);
                executor.run(plan, 0, &scalars).unwrap();
            }
        }
        results.push(executor.read(&[kept], MAPS).unwrap());
    }
    assert_eq!(results[0], results[1]);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn profiling_times_kernels() {
    let weights = weights();
    let mut gpu = gpu(&weights, true);
    let chain = Chain::new(&mut gpu, &weights, 20);
    let plan = gpu.prepare(chain.recording.clone()).unwrap();
    let timed = chain.run(&mut gpu, plan, 1);
    let profile = gpu.profile();
    let names: Vec<&str> = profile.kernel_seconds.keys().map(String::as_str).collect();
    if open_for_tests().info.timestamp_query {
        assert_eq!(names, ["add.forward"]);
    } else {
        assert_eq!(names, ["once", "stage 0", "stage 1"]);
    }
    let seconds: f64 = profile.kernel_seconds.values().sum();
    assert!(seconds > 0.0 && seconds < 10.0, "{seconds} s");

    let mut plain = self::gpu(&weights, false);
    let chain = Chain::new(&mut plain, &weights, 20);
    let plan = plain.prepare(chain.recording.clone()).unwrap();
    assert_eq!(timed, chain.run(&mut plain, plan, 1));
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let weights = weights();
    let mut gpu = gpu(&weights, false);
    let limit = open_for_tests().info.max_storage_buffer_binding_size as usize;
    let cols = limit / 4 / 1024 + 1;
    let too_large = Shape::new(1, 1024, cols);
    let small = Shape::new(1, 1, cols);
    let bytes = (too_large.len() * 4).to_string();

    let error = gpu.allocate(Kind::Real, too_large).unwrap_err().to_string();
    for part in ["persistent tensor (1, 1024, ", &bytes, &limit.to_string()] {
        assert!(error.contains(part), "{error}");
    }

    let x = gpu.allocate(Kind::Real, small).unwrap();
    let y = gpu.allocate(Kind::Real, small).unwrap();
    let before = gpu.memory_bytes();

    // A computed tensor that is too large, on the way to one that is not.
    let mut recording = Recording::new(weights.clone());
    let own = recording.persistent(x, Kind::Real, small);
    let wide = recording.computed(small.with_lead(1024));
    let (scale_a, scale_b) = (1.0, 1.0);
    let broadcast = |y| Add {
        a: own,
        b: own,
        scale_a,
        scale_b,
        y,
    };
    recording.push(broadcast(wide));
    let sum = recording.computed(small);
    recording.push(SumBatch {
        x: wide,
        batch: 1024,
        y: sum,
    });
    recording.keep(sum, y);
    assert!(gpu.estimate(&recording) > limit);
    let error = gpu.prepare(recording).unwrap_err().to_string();
    for part in ["of add takes ", &bytes, &limit.to_string()] {
        assert!(error.contains(part), "{error}");
    }

    // One buffer as input and output.
    let mut recording = Recording::new(weights.clone());
    let own = recording.persistent(x, Kind::Real, small);
    let sum = recording.computed(small);
    recording.push(Add {
        a: own,
        b: own,
        scale_a,
        scale_b,
        y: sum,
    });
    recording.keep(sum, x);
    let error = gpu.prepare(recording).unwrap_err().to_string();
    assert!(error.contains("y and a lie in one buffer"), "{error}");

    // A tensor that is gone, and one of another size.
    let mut recording = Recording::new(weights.clone());
    let own = recording.persistent(x, Kind::Real, small);
    let sum = recording.computed(small);
    recording.push(Add {
        a: own,
        b: own,
        scale_a,
        scale_b,
        y: sum,
    });
    recording.keep(sum, y);
    gpu.free(y);
    let error = gpu.prepare(recording.clone()).unwrap_err().to_string();
    assert!(error.ends_with("was given back"), "{error}");
    let again = gpu.allocate(Kind::Real, Shape::new(1, 1, 3)).unwrap();
    let recording = recording.rebound(vec![x, again]);
    let error = gpu.prepare(recording).unwrap_err().to_string();
    assert!(error.contains("(1, 1, 3)"), "{error}");

    let error = gpu.upload(again, &[1.0]).unwrap_err().to_string();
    assert!(error.contains("1 values do not fill"), "{error}");
    gpu.upload_indices(again, &[1, 2, 3]).unwrap_err();
    gpu.read(&[PersistentId(77)], MAPS).unwrap_err();
    assert!(gpu.memory_bytes() <= before);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_weight_that_cannot_be_bound_is_named() {
    let device = Arc::new(open_for_tests());
    let limit = device.info.max_storage_buffer_binding_size as usize;
    if limit > 1 << 28 {
        return; // Half a gigabyte of weights is too much for a test.
    }
    let rows = limit / 256 + 1;
    let mut table = WeightTable::default();
    let role = Role::decoder(Form::Matrix);
    let id = table.add(role, "decoder.output", rows, 64, vec![0.0; rows * 64]);
    let table = Arc::new(table);
    let mut gpu = GpuExecutor::new(device, &table, &GpuOptions::default()).unwrap();
    // This operator takes its operand whole.
    let mut recording = Recording::new(table);
    let x = recording.weight(id);
    let y = recording.take_rows(x, 1, 1).unwrap();
    let kept = gpu.allocate(Kind::Real, Shape::new(1, 1, 64)).unwrap();
    recording.keep(y, kept);
    let error = gpu.prepare(recording).unwrap_err();
    assert!(
        error.to_string().contains("weight decoder.output"),
        "{error}"
    );
}

/// A vocabulary's table of more than 128 MiB, which is what lavapipe binds:
/// looked up, as output projection, and as its reverse.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn tables_larger_than_a_binding() {
    const VOCABULARY: usize = 600_000;
    const WIDTH: usize = 64;
    const TOKENS: usize = 3;
    let mut table = WeightTable::default();
    // Sparse, so that sums of quarters stay exact: 61 does not divide 64.
    let sparse = |(i, x)| if i % 9 == 0 { x } else { 0.0 };
    let numbers = values(VOCABULARY * WIDTH, 1).into_iter().enumerate();
    let numbers: Vec<f32> = numbers.map(sparse).collect();
    let [tokens, places] = [Form::Embedding, Form::Positions].map(Role::decoder);
    let id = table.add(tokens, "table", VOCABULARY, WIDTH, numbers);
    let positions = table.add(
        places,
        "positions",
        TOKENS,
        WIDTH,
        values(TOKENS * WIDTH, 2),
    );
    assert!(table.get(id).data.len() * 4 > 1 << 27);
    let weights = Arc::new(table);

    let gradient: Vec<f32> = (0..2 * VOCABULARY)
        .map(|i| if i % 4999 == 0 { 0.25 } else { 0.0 })
        .collect();
    let mut results = Vec::new();
    let mut native = NativeExecutor::<f32>::new(&weights, false);
    let device = Arc::new(open_for_tests());
    // The rule's kernels, and those that read the blocks in other ways.
    let tunes = [
        Tune::Never,
        Tune::Only("forward_quads"),
        Tune::Only("forward_thin"),
    ];
    for tune in tunes.map(Some).into_iter().chain([None]) {
        let mut gpu = None;
        let executor = match tune {
            None => &mut native as &mut dyn Executor,
            Some(tune) => {
                let options = GpuOptions {
                    tune,
                    ..GpuOptions::default()
                };
                let made = GpuExecutor::new(device.clone(), &weights, &options);
                gpu.insert(made.unwrap()) as &mut dyn Executor
            }
        };
        let list = Shape::new(1, TOKENS, 1);
        let ids = executor.allocate(Kind::Index, list).unwrap();
        executor
            .upload_indices(ids, &[5, VOCABULARY as u32 - 1, 524_288])
            .unwrap();
        let rows = Shape::new(2, 1, VOCABULARY);
        let dy = executor.allocate(Kind::Real, rows).unwrap();
        executor.upload(dy, &gradient).unwrap();

        let mut recording = Recording::new(weights.clone());
        let r = &mut recording;
        let (ids, dy) = (
            r.persistent(ids, Kind::Index, list),
            r.persistent(dy, Kind::Real, rows),
        );
        let (table, positions) = (r.weight(id), r.weight(positions));
        let x = r.embedding(ids, table, 2.0, positions, false).unwrap();
        let logits = r.matmul(x, table).record().unwrap();
        let one = r.take_rows(x, 1, 1).unwrap();
        let product = r.matmul(dy, table).layout(Layout::InOut);
        let dx = product.scale(0.5).residual(one).record().unwrap();
        let kept = [x, logits, dx].map(|tensor| {
            let id = executor.allocate(Kind::Real, r.shape(tensor)).unwrap();
            r.keep(tensor, id);
            id
        });
        let plan = executor.prepare(recording).unwrap();
        executor.run(plan, 0, &Scalars::ZERO).unwrap();
        results.push(executor.read(&kept, MAPS).unwrap());
    }
    let want = results.pop().unwrap();
    for (got, tune) in results.iter().zip(tunes) {
        for (name, (got, want)) in ["x", "logits", "dx"].iter().zip(got.iter().zip(&want)) {
            assert!(want.iter().any(|x| *x != 0.0), "{name}");
            let differ = got.iter().zip(want).position(|(got, want)| got != want);
            assert_eq!(differ, None, "{name} of {}, {tune:?}", want.len());
        }
    }
}
