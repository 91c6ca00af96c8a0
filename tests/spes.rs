//! SPES on whole models: exact properties, convergence, stopping.

mod random_model;

use random_model::{SMALL, numbers};
use sonograd::engine::executor::Executor;
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::passes::{Utterance, forward_and_gradients};
use sonograd::explain::spes::{
    GivenMasks, MOST_MASKS, Occluded, Segmentation, SpesOptions, SpesPass, Stop, spearman_brown,
    spes,
};
use sonograd::features::Features;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;

const FRAMES: usize = 37;
const TOKENS: usize = 5;

struct Setting {
    model: Model,
    features: Features,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        random_model::write(folder.path(), SMALL);
        let model = Model::load(ModelFiles::folder(folder.path()).unwrap()).unwrap();
        let bins = SMALL.mel_bins;
        let features = Features::new(numbers(2000, FRAMES * bins), FRAMES, bins).unwrap();
        Self { model, features }
    }

    fn segmentation(&self, occluded: Occluded) -> Segmentation {
        let frames = self.model.encoder.encoder_frames(FRAMES);
        match occluded {
            // Blocks of 3 x 3, the same three times: what masks take turns with.
            Occluded::Input => {
                let bins = SMALL.mel_bins;
                let block = |e: usize| (e / bins / 3 * bins.div_ceil(3) + e % bins / 3) as u32;
                let one: Vec<u32> = (0..FRAMES * bins).map(block).collect();
                let mut all = Segmentation::elements(FRAMES, bins);
                all.segments = *one.iter().max().unwrap() as usize + 1;
                all.labels = [one.clone(), one.clone(), one].concat();
                all.shape.lead = 3;
                all
            }
            Occluded::Encoder => Segmentation::elements(frames, 1),
            Occluded::Tokens => Segmentation::elements(TOKENS, 1),
        }
    }

    fn run<E: Executor>(
        &self,
        executor: &mut E,
        occluded: Occluded,
        given: Option<&GivenMasks>,
        options: &SpesOptions,
        stop_after: usize,
    ) -> SpesPass {
        let ids = [2, 4, 9, 14, 5];
        let labels = [4, 9, 14, 5, 2];
        let positions = [0, 1, 2, 3, 4];
        let utterance = Utterance::upload(
            executor,
            &self.model,
            &self.features,
            &ids,
            &positions,
            &labels,
        )
        .unwrap();
        let pass = forward_and_gradients(executor, &self.model, &utterance, &[], 1 << 30).unwrap();
        spes(
            executor,
            &self.model,
            &utterance,
            pass.forward.encoder_output,
            occluded,
            &self.segmentation(occluded),
            given,
            options,
            &mut |progress| progress.masks < stop_after,
        )
        .unwrap()
    }

    fn map(&self, occluded: Occluded, masks: usize, seed: u64, batch: usize) -> Vec<f64> {
        let mut executor = NativeExecutor::<f64>::new(&self.model.weights, false);
        let options = SpesOptions {
            stop: Stop::Masks(masks),
            seed,
            batch: Some(batch),
            ..SpesOptions::default()
        };
        let pass = self.run(&mut executor, occluded, None, &options, usize::MAX);
        assert_eq!((pass.masks, pass.interrupted), (masks, false));
        executor.read_real(pass.map.id).to_vec()
    }
}

const SITES: [Occluded; 3] = [Occluded::Input, Occluded::Encoder, Occluded::Tokens];

fn relative(a: &[f64], b: &[f64]) -> f64 {
    let square: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = b.iter().map(|b| b * b).sum();
    (square / norm).sqrt()
}

#[test]
fn a_mask_that_keeps_everything_scores_exactly_zero() {
    let setting = Setting::new();
    for occluded in SITES {
        let segments = setting.segmentation(occluded).segments;
        let count = 5;
        // The middle mask hides everything, the others nothing.
        let hidden: Vec<bool> = (0..count * segments).map(|i| i / segments == 2).collect();
        let given = GivenMasks {
            hidden: &hidden,
            count,
        };
        let mut executor = NativeExecutor::<f32>::new(&setting.model.weights, false);
        let options = SpesOptions::default();
        let pass = setting.run(&mut executor, occluded, Some(&given), &options, usize::MAX);
        let scores = executor.read_real(pass.scores.unwrap());
        for (m, row) in scores.chunks(TOKENS).enumerate() {
            // The first token sees no earlier one than the start token.
            assert!(
                row.iter().all(|&score| (score == 0.0) == (m != 2)),
                "{row:?}"
            );
        }
    }
}

#[test]
fn neither_batch_size_nor_executor_changes_the_masks() {
    let setting = Setting::new();
    for occluded in SITES {
        let one = setting.map(occluded, 100, 3, 1);
        for batch in [7, 64, 100] {
            let error = relative(&setting.map(occluded, 100, 3, batch), &one);
            println!("{occluded:?} batch {batch}: {error:.1e}");
            // f64 sums in another order.
            assert!(error <= 1e-12);
        }
        assert!(relative(&setting.map(occluded, 100, 4, 64), &one) > 1e-3);
    }
}

#[test]
fn later_tokens_do_not_matter_and_scores_are_not_negative() {
    let setting = Setting::new();
    let map = setting.map(Occluded::Tokens, 300, 1, 64);
    for (k, row) in map.chunks(TOKENS).enumerate() {
        assert!(row[..=k].iter().all(|&x| x > 0.0), "{row:?}");
        assert!(row[k + 1..].iter().all(|&x| x == 0.0), "{row:?}");
    }
    for occluded in SITES {
        assert!(setting.map(occluded, 300, 1, 64).iter().all(|&x| x >= 0.0));
    }
}

#[test]
fn the_error_falls_with_the_root_of_the_masks() {
    // All masks of five tokens, weighted by how likely they are, give the
    // exact map that random masks estimate.
    let setting = Setting::new();
    let count = 1 << TOKENS;
    let hidden: Vec<bool> = (0..count * TOKENS)
        .map(|i| (i / TOKENS) >> (i % TOKENS) & 1 == 1)
        .collect();
    let given = GivenMasks {
        hidden: &hidden,
        count,
    };
    let mut executor = NativeExecutor::<f64>::new(&setting.model.weights, false);
    let options = SpesOptions::default();
    let pass = setting.run(
        &mut executor,
        Occluded::Tokens,
        Some(&given),
        &options,
        usize::MAX,
    );
    let scores = executor.read_real(pass.scores.unwrap());
    let mut exact = vec![0.0; TOKENS * TOKENS];
    for k in 0..TOKENS {
        for j in 0..=k {
            let (mut sum, mut weight) = (0.0, 0.0);
            for m in (0..count).filter(|m| m >> j & 1 == 1) {
                let share = (0..TOKENS).map(|t| if m >> t & 1 == 1 { 0.4 } else { 0.6 });
                let share: f64 = share.product();
                sum += share * scores[m * TOKENS + k];
                weight += share;
            }
            exact[k * TOKENS + j] = sum / weight;
        }
    }
    let seeds = 8;
    let error = |masks: usize| {
        let square: f64 = (0..seeds)
            .map(|seed| relative(&setting.map(Occluded::Tokens, masks, seed, 64), &exact).powi(2))
            .sum();
        (square / seeds as f64).sqrt()
    };
    let errors = [128, 512, 2048, 8192].map(error);
    println!("{errors:?}");
    for pair in errors.windows(2) {
        // Four times the masks, half the error; eight seeds leave a standard
        // deviation of about a quarter of each error.
        let ratio = pair[0] / pair[1];
        assert!((1.2..=3.4).contains(&ratio), "{ratio}");
    }
    let whole = errors[0] / errors[3];
    assert!((4.0..=16.0).contains(&whole), "{whole}");
}

#[test]
fn reliability_grows_and_stops_the_run() {
    let setting = Setting::new();
    let mut executor = NativeExecutor::<f32>::new(&setting.model.weights, false);
    let options = SpesOptions {
        stop: Stop::Masks(4000),
        ..SpesOptions::default()
    };
    let pass = setting.run(&mut executor, Occluded::Encoder, None, &options, usize::MAX);
    let masks: Vec<usize> = pass.checkpoints.iter().map(|c| c.masks).collect();
    assert_eq!(masks, [960, 1920, 3840, 4000]);
    let medians: Vec<f64> = pass
        .checkpoints
        .iter()
        .filter_map(|c| c.pooled_median())
        .collect();
    println!("{medians:?}");
    assert_eq!(medians.len(), 4);
    assert!(medians[3] > medians[0]);

    let options = SpesOptions {
        stop: Stop::Reliability(medians[1] - 1e-6),
        ..SpesOptions::default()
    };
    let pass = setting.run(&mut executor, Occluded::Encoder, None, &options, usize::MAX);
    assert!(pass.masks <= 1920 && !pass.interrupted);
    assert!(pass.checkpoints.last().unwrap().pooled_median().unwrap() >= medians[1] - 1e-6);

    // Interrupted after the third batch.
    let options = SpesOptions {
        batch: Some(10),
        ..SpesOptions::default()
    };
    let pass = setting.run(&mut executor, Occluded::Tokens, None, &options, 30);
    assert!(pass.interrupted);
    assert_eq!((pass.masks, pass.checkpoints.len()), (30, 1));
    const { assert!(MOST_MASKS == 20_000) };
    assert_eq!(spearman_brown(0.5), 2.0 / 3.0);
}
