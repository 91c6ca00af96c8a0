//! The native executor's steady state: running a plan again takes no new
//! memory but small change. One test, since the allocator counts for all.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sonograd::engine::executor::Executor;
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::recording::Recording;
use sonograd::engine::reverse::{Seed, reverse};
use sonograd::engine::tensor::{Kind, PersistentId, Scalars, Shape};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;

/// Counts what is asked of the system's allocator.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    BYTES.fetch_add(bytes, Ordering::Relaxed);
    LARGEST.fetch_max(bytes, Ordering::Relaxed);
}

// SAFETY: every call is the system's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What one more run takes: bytes in all, and of the largest allocation.
fn taken(executor: &mut NativeExecutor<f32>, run: impl Fn(&mut NativeExecutor<f32>)) -> [usize; 2] {
    for _ in 0..3 {
        run(executor);
    }
    BYTES.store(0, Ordering::Relaxed);
    LARGEST.store(0, Ordering::Relaxed);
    run(executor);
    [&BYTES, &LARGEST].map(|counter| counter.load(Ordering::Relaxed))
}

const FRAMES: usize = 160;
const BATCH: usize = 6;
const TOKENS: usize = 9;

/// A persistent tensor on the executor and in the recording.
fn real(executor: &mut NativeExecutor<f32>, shape: Shape) -> PersistentId {
    executor.allocate(Kind::Real, shape).unwrap()
}

#[test]
fn running_a_plan_again_takes_no_memory_for_tensors() {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/base-en");
    let model = Model::load(ModelFiles::folder(weights).unwrap()).unwrap();
    let mut executor = NativeExecutor::<f32>::new(&model.weights, false);

    // A batch of variants to logits, and every token's gradient.
    let shape = Shape::new(BATCH, FRAMES, model.encoder.mel_bins());
    let sound = real(&mut executor, shape);
    let values: Vec<f32> = (0..shape.len())
        .map(|i| (i % 17) as f32 / 8.0 - 1.0)
        .collect();
    executor.upload(sound, &values).unwrap();
    let indices = |executor: &mut NativeExecutor<f32>, values: &[u32]| {
        let id = executor
            .allocate(Kind::Index, Shape::new(1, values.len(), 1))
            .unwrap();
        executor.upload_indices(id, values).unwrap();
        id
    };
    let tokens: Vec<u32> = (0..TOKENS as u32).collect();
    let (ids, positions) = (
        indices(&mut executor, &tokens),
        indices(&mut executor, &tokens),
    );
    let mut recording = Recording::new(Arc::clone(&model.weights));
    let list = |recording: &mut Recording, id| {
        recording.persistent(id, Kind::Index, Shape::new(1, TOKENS, 1))
    };
    let x = recording.persistent(sound, Kind::Real, shape);
    let output = model.encoder.record(&mut recording, x).unwrap();
    let memories = model
        .decoder
        .record_memories(&mut recording, output)
        .unwrap();
    let own_ids = list(&mut recording, ids);
    let input = model.decoder.record_input(&mut recording, own_ids).unwrap();
    let begun = model.decoder.record_begin(&mut recording, input).unwrap();
    let decoded = model
        .decoder
        .record(&mut recording, begun, &memories)
        .unwrap();
    let logits = real(&mut executor, recording.shape(decoded.logits));
    recording.keep(decoded.logits, logits);
    recording.next_stage();
    let seed = Seed {
        logits: decoded.logits,
        positions: list(&mut recording, positions),
        labels: own_ids,
        count: TOKENS,
    };
    let gradient = reverse(&mut recording, seed, &[x]).unwrap()[0];
    let kept = real(&mut executor, recording.shape(gradient));
    recording.keep(gradient, kept);
    let plan = executor.prepare(recording).unwrap();

    let smallest = 4 * FRAMES / 4 * model.decoder.config.width;
    for stage in 0..2 {
        let run = |executor: &mut NativeExecutor<f32>| {
            executor.run(plan, stage, &Scalars::ZERO).unwrap();
        };
        let [bytes, largest] = taken(&mut executor, run);
        println!("stage {stage}: {bytes} bytes, {largest} at most at once");
        // Lists of workers' parts and the like; not one tensor's worth.
        assert!(
            largest < smallest / 2,
            "stage {stage}: {largest} bytes at once"
        );
    }
}
