//! Kernels chosen by measuring: what is measured, kept and read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::{Device, open_for_tests};
use sonograd::engine::gpu::extras::Extras;
use sonograd::engine::gpu::variants::Class;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions, ShaderMode, Tune};
use sonograd::engine::philox::philox4x32;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, Scalars, Shape};
use sonograd::engine::weights::WeightTable;
use sonograd::explain::profile::MAPS;
use sonograd::ops::{Layout, ProductClass};

/// Numbers between -1 and 1.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let blocks = (0..count.div_ceil(4)).flat_map(|i| philox4x32([i as u32, seed, 0, 0], [7, 8]));
    let number = |word: u32| word as f32 / 2.0_f32.powi(31) - 1.0;
    blocks.map(number).take(count).collect()
}

/// Two products, one after the other, of different classes.
const ROWS: usize = 37;
const INPUTS: usize = 90;
const HIDDEN: usize = 52;
const OUTPUTS: usize = 33;

fn classes() -> [ProductClass; 2] {
    [
        ProductClass::new(ROWS, INPUTS, HIDDEN, Layout::OutIn, false),
        ProductClass::new(ROWS, HIDDEN, OUTPUTS, Layout::OutIn, true),
    ]
}

fn executor(device: &Arc<Device>, tune: Tune, cache: Option<&Path>) -> GpuExecutor {
    let options = GpuOptions {
        tune,
        cache: cache.map(Path::to_owned),
        ..GpuOptions::default()
    };
    GpuExecutor::new(Arc::clone(device), &WeightTable::default(), &options).unwrap()
}

/// The bits of both products' result.
fn run(executor: &mut GpuExecutor) -> Vec<u32> {
    let mark = executor.mark();
    let mut recording = Recording::new(Arc::new(WeightTable::default()));
    let shapes = [(ROWS, INPUTS), (HIDDEN, INPUTS), (OUTPUTS, HIDDEN)];
    let mut tensors = Vec::new();
    for (seed, (rows, cols)) in (0..).zip(shapes) {
        let shape = Shape::new(1, rows, cols);
        let id = executor.allocate(Kind::Real, shape).unwrap();
        executor.upload(id, &values(shape.len(), seed)).unwrap();
        tensors.push(recording.persistent(id, Kind::Real, shape));
    }
    let hidden = recording.matmul(tensors[0], tensors[1]).record().unwrap();
    let y = recording.matmul(hidden, tensors[2]).record().unwrap();
    let kept = executor.allocate(Kind::Real, recording.shape(y)).unwrap();
    recording.keep(y, kept);
    let plan = executor.prepare(recording).unwrap();
    executor.run(plan, 0, &Scalars::ZERO).unwrap();
    let y = executor.read(&[kept], MAPS).unwrap();
    executor.unwind(mark);
    y[0].iter().map(|y| y.to_bits()).collect()
}

/// The one file of a cache.
fn file(cache: &Path) -> PathBuf {
    let files = std::fs::read_dir(cache).unwrap();
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn each_class_is_measured_once_for_all_runs() {
    let device = Arc::new(open_for_tests());
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("made").join("when needed");
    let mut first = executor(&device, Tune::Always, Some(&cache));
    let y = run(&mut first);
    assert_eq!(first.measured(), 2);
    let entries = first.tuning().entries().clone();
    println!("{entries:?}");
    for class in classes() {
        let entry = &*entries[&class.key()];
        assert!(class.candidates().contains(&entry), "{entry}");
    }
    assert_eq!(run(&mut first), y);
    assert_eq!(first.measured(), 2, "known by now");

    let text = std::fs::read_to_string(file(&cache)).unwrap();
    for part in [
        &*device.info.name,
        &*device.info.driver,
        "matmul 64x128x64 out-in",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut second = executor(&device, Tune::Always, Some(&cache));
    assert_eq!(run(&mut second), y);
    assert_eq!(second.measured(), 0);
    assert_eq!(*second.tuning().entries(), entries);

    // Two that begin together do not measure twice either.
    let apart = folder.path().join("apart");
    let [mut one, mut other] = [(); 2].map(|()| executor(&device, Tune::Always, Some(&apart)));
    let y = run(&mut one);
    assert_eq!(run(&mut other), y);
    assert_eq!((one.measured(), other.measured()), (2, 0));

    // Without a cache the executor has only its own.
    let mut alone = executor(&device, Tune::Always, None);
    run(&mut alone);
    run(&mut alone);
    assert_eq!(alone.measured(), 2);
}

/// What the file says is done: each entry point adds up in its own order.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn the_cache_decides() {
    let device = Arc::new(open_for_tests());
    let cache = tempfile::tempdir().unwrap();
    run(&mut executor(&device, Tune::Always, Some(cache.path())));
    let path = file(cache.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut results = Vec::new();
    for entry in ["forward_thin", "forward_small", "forward"] {
        for chosen in record["entries"].as_object_mut().unwrap().values_mut() {
            *chosen = entry.into();
        }
        std::fs::write(&path, record.to_string()).unwrap();
        let mut reading = executor(&device, Tune::Always, Some(cache.path()));
        let y = run(&mut reading);
        assert_eq!(reading.measured(), 0, "{entry}");
        assert_eq!(y, run(&mut executor(&device, Tune::Only(entry), None)));
        results.push(y);
    }
    assert_ne!(results[0], results[1]);
    assert_ne!(results[1], results[2]);
}

/// A file that cannot be used is as good as none, and is replaced; a place
/// that cannot be written does no harm.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_broken_cache_is_ignored() {
    let device = Arc::new(open_for_tests());
    let cache = tempfile::tempdir().unwrap();
    run(&mut executor(&device, Tune::Always, Some(cache.path())));
    let path = file(cache.path());
    let whole = std::fs::read_to_string(&path).unwrap();
    for (what, text) in [
        ("cut short", whole[..whole.len() / 2].to_owned()),
        ("empty", String::new()),
        (
            "another driver's",
            whole.replace("\"driver\": \"", "\"driver\": \"x"),
        ),
        (
            "of entry points that there are not",
            whole.replace("forward", "backward"),
        ),
    ] {
        assert_ne!(text, whole);
        std::fs::write(&path, text).unwrap();
        let mut measuring = executor(&device, Tune::Always, Some(cache.path()));
        run(&mut measuring);
        assert_eq!(measuring.measured(), 2, "{what}");
        let mut reading = executor(&device, Tune::Always, Some(cache.path()));
        run(&mut reading);
        assert_eq!(reading.measured(), 0, "{what}");
    }

    let mut nowhere = executor(&device, Tune::Always, Some(&path));
    let y = run(&mut nowhere);
    assert_eq!((nowhere.measured(), run(&mut nowhere)), (2, y));
}

/// What is measured checked does not hold for trusted shaders.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn modes_are_measured_apart() {
    let device = Arc::new(open_for_tests());
    let cache = tempfile::tempdir().unwrap();
    for shaders in [ShaderMode::Checked, ShaderMode::Trusted] {
        let options = GpuOptions {
            shaders,
            tune: Tune::Always,
            cache: Some(cache.path().to_owned()),
            ..GpuOptions::default()
        };
        let weights = WeightTable::default();
        let made = GpuExecutor::new(Arc::clone(&device), &weights, &options);
        let mut executor = made.unwrap();
        run(&mut executor);
        assert_eq!(executor.measured(), 2, "{shaders:?}");
    }
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 2);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn nothing_is_measured_unasked() {
    let device = Arc::new(open_for_tests());
    let cache = tempfile::tempdir().unwrap();
    let mut tunes = vec![Tune::Never, Tune::Only("forward")];
    if device.info.is_software() {
        tunes.push(Tune::Hardware);
    }
    for tune in tunes {
        let mut executor = executor(&device, tune, Some(cache.path()));
        run(&mut executor);
        assert_eq!(executor.measured(), 0, "{tune:?}");
        assert!(executor.tuning().entries().is_empty());
    }
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
}

/// Candidates are few, and never without what the rule of thumb says.
#[test]
fn candidates_fit_their_class() {
    for rows in [1, 4, 16, 128, 5000] {
        for outputs in [1, 60, 5000] {
            for quads in [false, true] {
                let class = ProductClass::new(rows, 512, outputs, Layout::OutIn, quads);
                let candidates = class.candidates();
                let named = |name| candidates.contains(&name);
                assert!(named("forward_small"), "{class:?}: {candidates:?}");
                assert_eq!(named("forward_thin"), rows <= 16, "{class:?}");
                assert_eq!(named("forward_large"), rows >= 64 && outputs >= 60);
                assert_eq!(named("forward_quads"), quads && named("forward"));
            }
        }
    }
    // The rule's own comes first.
    let mut recording = Recording::new(Arc::new(WeightTable::default()));
    let shape = |rows, cols| Shape::new(1, rows, cols);
    let x = recording.computed(shape(2048, 512));
    let weight = recording.computed(shape(512, 1024));
    let product = recording.matmul(x, weight).layout(Layout::InOut);
    product.record().unwrap();
    let choices = recording.operators()[0].choices(&recording, &|_| true, Extras::NONE);
    let class = choices[0].class.as_ref().unwrap();
    let expected = ProductClass::new(2048, 512, 1024, Layout::InOut, true);
    assert_eq!(class.key(), expected.key());
    assert_eq!(class.candidates()[0], choices[0].variants[0].launch.entry);
}
