//! Everything that is asked of a whole model, on a GPU and natively in f64.

use std::sync::Arc;

use crate::random_model::{self, SMALL, Sizes, numbers};
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::{Device, open_for_tests};
use sonograd::engine::gpu::{GpuExecutor, GpuOptions, ShaderMode};
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::Site;
use sonograd::explain::passes::{
    AveragedGradients, MapSpec, Utterance, Variants, forward_and_gradients,
};
use sonograd::explain::profile::MAPS;
use sonograd::features::Features;
use sonograd::generate::{GenerationOptions, generate};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::{BaselineKind, Reduction};
use sonograd::validate::compare;

const MEMORY: usize = 1 << 24;

fn model(sizes: Sizes) -> Model {
    let folder = tempfile::tempdir().unwrap();
    random_model::write(folder.path(), sizes);
    Model::load(ModelFiles::folder(folder.path()).unwrap()).unwrap()
}

fn features(sizes: Sizes, frames: usize) -> Features {
    other_features(sizes, frames, 1000)
}

fn other_features(sizes: Sizes, frames: usize, seed: u32) -> Features {
    let data = numbers(seed, frames * sizes.mel_bins);
    Features::new(data, frames, sizes.mel_bins).unwrap()
}

/// A result's name, the largest relative error that it may have, its values.
type Named = (String, f64, Vec<f32>);

/// Every method of the gradient family, at both sites, read in one transfer.
fn explained(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    memory: usize,
) -> Vec<Named> {
    let ids = [2, 3, 8, 13];
    let labels = [3, 8, 13, 18];
    let utterance =
        Utterance::upload(executor, model, features, &ids, &[0, 1, 3], &labels[..3]).unwrap();
    let spec = |site, times_input, reduction| MapSpec {
        site,
        times_input,
        reduction,
    };
    let specs = [
        spec(Site::Input, false, Reduction::None),
        spec(Site::Input, true, Reduction::Sum),
        spec(Site::Encoder, false, Reduction::Max),
        spec(Site::Encoder, true, Reduction::L2),
    ];
    let pass = forward_and_gradients(executor, model, &utterance, &specs, memory).unwrap();
    let forward = &pass.forward;
    let mut results = vec![
        ("encoder output".into(), 5e-6, forward.encoder_output.sound),
        ("logits".into(), 5e-6, forward.logits),
        ("log-probabilities".into(), 5e-6, forward.log_probs),
    ];
    for (layer, &id) in forward.cross_attention.iter().enumerate() {
        results.push((format!("attention of layer {layer}"), 2e-5, id));
    }
    for (spec, map) in specs.iter().zip(&pass.maps) {
        results.push((format!("{spec:?}"), 2e-5, map.id));
    }
    let path = |baseline| Variants::Path {
        baseline,
        fractions: vec![0.1, 0.3, 0.5, 0.7, 0.9],
        weights: vec![0.2; 5],
    };
    let noise = Variants::Noise {
        level: 0.15,
        samples: 3,
        seed: 1 << 33,
    };
    for (site, variants, reduction) in [
        (Site::Input, path(BaselineKind::Mean), Reduction::None),
        (Site::Encoder, path(BaselineKind::Zero), Reduction::Sum),
        (Site::Input, noise.clone(), Reduction::L2),
        (Site::Encoder, noise, Reduction::None),
    ] {
        let averaged = AveragedGradients {
            model,
            utterance: &utterance,
            encoder_output: forward.encoder_output,
            site,
            variants: &variants,
            reduction,
            memory,
        };
        let averaged = averaged.run(executor, &mut |_| true).unwrap();
        let name = format!("{site:?} {variants:?} {reduction:?}");
        results.push((name, 2e-5, averaged.map.id));
        if let Some(id) = averaged.baseline_log_probs {
            results.push(("log-probabilities at the baseline".into(), 5e-6, id));
        }
    }
    let ids: Vec<_> = results.iter().map(|(.., id)| *id).collect();
    let before = executor.profile().transfers(MAPS).reads;
    let values = executor.read(&ids, MAPS).unwrap();
    assert_eq!(executor.profile().transfers(MAPS).reads - before, 1);
    let results = results.into_iter().zip(values);
    results
        .map(|((name, tolerance, _), values)| (name, tolerance, values))
        .collect()
}

fn agree(device: &Arc<Device>, mode: ShaderMode, sizes: Sizes, frames: usize, memory: usize) {
    let (model, features) = (model(sizes), features(sizes, frames));
    let mut native = NativeExecutor::<f64>::new(&model.weights, false);
    let expected = explained(&mut native, &model, &features, MEMORY);
    let mut gpu = GpuExecutor::new(
        device.clone(),
        &model.weights,
        &GpuOptions {
            shaders: mode,
            ..GpuOptions::default()
        },
    )
    .unwrap();
    let got = explained(&mut gpu, &model, &features, memory);
    let mut failed = 0;
    for ((name, tolerance, got), (.., expected)) in got.iter().zip(&expected) {
        let check = compare(name, &[got.len()], got, expected, *tolerance);
        println!(
            "{} {}: relative {:.1e} of {tolerance:.0e}, worst {:.1e}",
            if check.pass { "ok  " } else { "FAIL" },
            name,
            check.relative_l2_error,
            check.max_abs_error
        );
        failed += usize::from(!check.pass);
    }
    assert_eq!(failed, 0, "{sizes:?}, {mode:?}");
    let again = explained(&mut gpu, &model, &features, memory);
    assert!(got == again, "a second run gives other bits");
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn explanations_agree() {
    let device = Arc::new(open_for_tests());
    agree(&device, ShaderMode::Checked, SMALL, 37, MEMORY);
    agree(&device, ShaderMode::Trusted, SMALL, 37, MEMORY);
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn explanations_in_pieces_agree() {
    let sizes = Sizes {
        width: 14,
        heads: 7,
        kernel: 31,
        tied: true,
        subsampling: [3, 5],
        ..SMALL
    };
    // No memory at all: one token, one variant at a time.
    let device = Arc::new(open_for_tests());
    agree(&device, ShaderMode::Checked, sizes, 23, 1);
}

fn search(model: &Model, beams: usize) -> GenerationOptions {
    let mut options = GenerationOptions::plain(model);
    options.beams = beams;
    options.max_new_tokens = Some(19);
    options.no_repeat_ngram_size = 3;
    options.start = 2;
    options.forced = vec![5];
    options.suppressed = vec![7, 9];
    options.suppressed_first = vec![3];
    options
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn generation_agrees() {
    let (model, features) = (model(SMALL), features(SMALL, 37));
    let device = Arc::new(open_for_tests());
    let mut native = NativeExecutor::<f64>::new(&model.weights, false);
    let mut gpu = GpuExecutor::new(device, &model.weights, &GpuOptions::default()).unwrap();
    for beams in [1, 3] {
        let options = search(&model, beams);
        let expected = generate(&mut native, &model, &features, &options).unwrap();
        let before = gpu.memory_bytes();
        let got = generate(&mut gpu, &model, &features, &options).unwrap();
        println!("{got:?}");
        assert_eq!(got.tokens, expected.tokens, "{beams} beams");
        assert_eq!(got.truncated, expected.truncated);
        let error = (got.score - expected.score).abs();
        assert!(error <= 1e-5, "{error:e}");
        let left = gpu.memory_bytes() - before;
        assert!(left <= 4096, "{left} bytes are left");
    }
}

/// An utterance as long as an earlier one takes up its plans and buffers, and
/// none of its values; one of another length makes new ones.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn utterances_follow_each_other() {
    let model = model(SMALL);
    let device = Arc::new(open_for_tests());
    let fresh = || {
        let options = GpuOptions::default();
        GpuExecutor::new(device.clone(), &model.weights, &options).unwrap()
    };
    // Results, and the operations that they took.
    let one = |executor: &mut GpuExecutor, features: &Features| {
        let mark = executor.mark();
        let before = executor.profile().flops;
        let found = generate(executor, &model, features, &search(&model, 2)).unwrap();
        let values = explained(executor, &model, features, MEMORY);
        executor.unwind(mark);
        let flops = executor.profile().flops - before;
        ((found.tokens, found.score.to_bits(), values), flops)
    };
    let mut executor = fresh();
    let mut held = None;
    for (frames, seed, kept) in [
        (37, 1000, false),
        (37, 1001, true),
        (41, 1002, false),
        (41, 1003, true),
        (37, 1004, true),
    ] {
        let features = other_features(SMALL, frames, seed);
        let (expected, all) = one(&mut fresh(), &features);
        let (got, flops) = one(&mut executor, &features);
        assert!(got == expected, "{frames} frames, {seed}");
        // What depends on weights alone is not computed again.
        println!("{frames} frames: {flops} operations of {all}");
        assert_eq!(flops < all, kept);
        let bytes = executor.memory_bytes();
        assert!(bytes <= held.unwrap_or(bytes) + 4096, "{bytes}");
        held = Some(bytes);
    }
}
