//! The kernels of occlusion on the GPU against their native code in f64 at
//! awkward sizes, and whole runs of SPES on the model fixture.
//!
//! Tolerances are k · eps · sqrt(n) · scale with eps = 2^-23; a rounding is at
//! most half an eps of the result. WGSL promises less for some functions, in
//! units of eps: division 2.5, exp(x) 3 + 2·|x|, log 3 (but 4 absolute between
//! 1/2 and 2), sqrt 5.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cases::{Case, MODES, Tolerance, compare, values};
use safetensors::SafeTensors;
use sonograd::engine::executor::{Executor, Inputs};
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::philox::philox4x32;
use sonograd::engine::profile::Profile;
use sonograd::engine::tensor::{Scalars, Shape, TensorId};
use sonograd::explain::passes::{Utterance, forward_and_gradients};
use sonograd::explain::profile::{MAPS, STATUS};
use sonograd::explain::spes::{
    GivenMasks, Masks, Occluded, Occlusion, Segmentation, SpesOptions, Stop,
};
use sonograd::features::Features;
use sonograd::generate::GENERATION;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::scalars::{FIRST_VARIANT, MASK_END, MASKING};
use sonograd::ops::{
    AccumulateScores, Correlate, ExpandScores, Half, KlDivergence, MaskSource, PoolMax,
};

/// One run, all scalars 0.
const ONCE: &[Scalars] = &[Scalars::ZERO];

/// Both of its halves are used.
const SEED: u64 = 0xfedc_ba98_7654_3210;

fn within(k: f64, n: usize, scale: f64) -> Tolerance {
    Tolerance { k, n, scale }
}

/// A run of the masks from `first` to `end`.
fn masks(first: usize, end: usize) -> Scalars {
    let mut scalars = Scalars::ZERO;
    scalars.set(FIRST_VARIANT, first as u32);
    scalars.set(MASK_END, end as u32);
    scalars.set(MASKING, 1);
    scalars
}

/// Any `count` indices below `end`.
fn below(end: usize, count: usize, seed: u32) -> Vec<u32> {
    let words = (0..count.div_ceil(4)).flat_map(|i| philox4x32([i as u32, seed, 1, 1], [3, 4]));
    let all = words.map(|word| word % end as u32);
    all.take(count).collect()
}

/// A drawn source, or bits for `count` masks.
fn source(case: &mut Case, given: Option<usize>, segments: usize, probability: f64) -> MaskSource {
    let Some(count) = given else {
        return MaskSource::random(SEED, 2, probability);
    };
    let shape = Shape::new(1, count, segments.div_ceil(32));
    let words = (0..shape.len().div_ceil(4)).flat_map(|i| philox4x32([i as u32, 9, 9, 9], [5, 6]));
    let bits: Vec<u32> = words.take(shape.len()).collect();
    MaskSource::Given {
        bits: case.table(shape, &bits),
    }
}

/// An input with values of its own for every seed.
fn real(case: &mut Case, shape: Shape, seed: u32, change: impl Fn(f32) -> f32) -> TensorId {
    let all: Vec<f32> = values(shape.len(), seed).into_iter().map(change).collect();
    case.real(shape, &all)
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn apply_mask_hides_the_same_on_both_executors() {
    // (masks, rows, columns, segmentations, segments)
    for (lead, rows, cols, groups, segments) in [
        (1, 1, 1, 1, 1),
        (3, 7, 3, 2, 5),
        (7, 61, 80, 3, 257),
        (5, 1, 1023, 1, 66),
        // More workgroups than one dimension holds.
        (60, 1000, 71, 3, 1001),
    ] {
        let name = format!("apply_mask {lead} of {rows}x{cols}");
        for (given, probability, by_row, one_fill) in [
            (None, 0.5, false, false),
            (None, 0.4, true, true),
            (None, 0.0, true, false),
            (None, 1.0, false, true),
            (Some(lead + 4), 0.5, false, true),
        ] {
            let mut case = Case::new();
            let x = case.any(1, rows, cols);
            let fill = case.any(1, if one_fill { 1 } else { rows }, cols);
            let shape = Shape::new(groups, rows, if by_row { 1 } else { cols });
            let labels = case.table(shape, &below(segments, shape.len(), 7));
            let source = source(&mut case, given, segments, probability);
            let recording = &mut case.recording;
            let y = recording.apply_mask(x, labels, segments, source, fill, lead);
            case.output(y);
            // The last of the given masks stands for those after it.
            for first in [0, 6] {
                case.compare(&name, &[masks(first, 0)], &[Tolerance::EXACT]);
            }
            // Without masking, everything is kept.
            case.compare(&name, ONCE, &[Tolerance::EXACT]);
            let kept = case.input(case.input_of(x)).to_vec();
            assert_eq!(case.gpu(ONCE, MODES[0])[0], kept.repeat(lead));
            if rows * cols * lead > 1 << 20 {
                // The large one is only for its size.
                break;
            }
        }
    }
}

/// The share of segments that is hidden, and that masks differ.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn masks_hide_their_share() {
    let (lead, segments) = (64, 1000);
    for probability in [0.4, 0.5] {
        let mut case = Case::new();
        let (x, fill) = (
            case.real(Shape::new(1, 1, segments), &[0.0; 1000]),
            case.real(Shape::new(1, 1, segments), &[1.0; 1000]),
        );
        let all: Vec<u32> = (0..segments as u32).collect();
        let labels = case.table(Shape::new(1, 1, segments), &all);
        let source = source(&mut case, None, segments, probability);
        let recording = &mut case.recording;
        let y = recording.apply_mask(x, labels, segments, source, fill, lead);
        case.output(y);
        let hidden = case.gpu(&[masks(1000, 0)], MODES[0]).swap_remove(0);
        let share = hidden.iter().sum::<f32>() as f64 / hidden.len() as f64;
        // Four standard deviations of a binomial share.
        let bound = 4.0 * (probability * (1.0 - probability) / hidden.len() as f64).sqrt();
        assert!((share - probability).abs() <= bound, "{share}");
        let distinct: BTreeSet<Vec<bool>> = hidden
            .chunks(segments)
            .map(|mask| mask.iter().map(|&x| x == 1.0).collect())
            .collect();
        assert_eq!(distinct.len(), lead);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn kl_divergence() {
    // (masks, positions, columns, tokens, lead rows of the reference)
    for (lead, rows, cols, tokens, lead_reference) in [
        (1, 1, 1, 1, 1),
        (3, 5, 7, 4, 3),
        (3, 4, 255, 4, 1),
        (2, 3, 257, 5, 2),
        (5, 2, 1023, 3, 5),
        (2, 1, 51_865, 1, 1),
    ] {
        for spread in [1.0, 4.0] {
            let mut case = Case::new();
            let shape = Shape::new(lead_reference, rows, cols);
            let other = real(&mut case, shape, 50, |x| x * spread);
            let logits = real(&mut case, Shape::new(lead, rows, cols), 51, |x| x * spread);
            let reference = case.recording.log_softmax(other);
            let positions = case.indices(1, tokens, &below(rows, tokens, 8));
            let y = case.computed(lead, tokens, 1);
            case.push(KlDivergence {
                reference,
                logits,
                positions,
                y,
            });
            case.output(y);
            // Logits are at most 2s apart, so a log-probability is between 0
            // and -(2s + ln V) and off by the log of a sum whose terms are
            // off by 3 + 4s eps relatively, by the log's own 4 + 3 ln V, and
            // by two roundings. Averaged with p: two log-probabilities, and
            // their difference of s on average times what p is off by.
            let (s, v) = (f64::from(spread), (cols as f64).ln());
            let log = (3.0 + 4.0 * s) + (4.0 + 3.0 * v) + (2.0 * s + v);
            let p = 3.0 + 2.0 * (2.0 * s + v) + log;
            let name = format!("kl_divergence {lead}x{tokens} of {rows}x{cols}, spread {spread}");
            case.compare(&name, ONCE, &[within(2.0 * log + s * p, 1, 1.0)]);
        }
    }
}

/// Where a mask hardly changes a prediction, nothing cancels: log-probabilities
/// are off by roundings of up to 2s + ln V each, independently in V columns that
/// are about as probable as each other, times a difference of `moved` at most.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_prediction_that_hardly_moves_keeps_its_digits() {
    let (lead, cols, spread) = (3, 51_865, 1.0);
    for moved in [1e-3f32, 0.03] {
        let mut case = Case::new();
        let first = values(cols, 70);
        let shift = values(lead * cols, 71);
        let other = case.real(Shape::new(1, 1, cols), &first);
        let all: Vec<f32> = (0..lead * cols)
            .map(|i| first[i % cols] + moved * shift[i])
            .collect();
        let logits = case.real(Shape::new(lead, 1, cols), &all);
        let reference = case.recording.log_softmax(other);
        let positions = case.indices(1, 1, &[0]);
        let y = case.computed(lead, 1, 1);
        case.push(KlDivergence {
            reference,
            logits,
            positions,
            y,
        });
        case.output(y);
        let columns = cols as f64;
        let roundings = 4.0 * spread + 2.0 * columns.ln();
        let scale = f64::from(moved) / columns.sqrt();
        let name = format!("kl_divergence where logits move by {moved}");
        case.compare(&name, ONCE, &[within(4.0 * roundings, 1, scale)]);
    }
}

/// The reference itself gives exactly 0, whichever row of the batch it is in.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn equal_logits_do_not_diverge() {
    for (lead, rows, cols) in [
        (1, 1, 1),
        (3, 2, 97),
        (2, 3, 256),
        (2, 1, 257),
        (3, 4, 1023),
        (1, 2, 51_865),
    ] {
        for spread in [0.1, 3.7, 55.0] {
            let mut case = Case::new();
            let one = values(rows * cols, 60).into_iter().map(|x| x * spread);
            let all = one.collect::<Vec<_>>().repeat(lead);
            let logits = case.real(Shape::new(lead, rows, cols), &all);
            let reference = case.recording.log_softmax(logits);
            let tokens: Vec<u32> = (0..rows as u32).collect();
            let positions = case.indices(1, rows, &tokens);
            let y = case.computed(lead, rows, 1);
            case.push(KlDivergence {
                reference,
                logits,
                positions,
                y,
            });
            case.output(y);
            for mode in MODES {
                for y in &case.gpu(ONCE, mode)[0] {
                    assert_eq!(*y, 0.0, "{rows}x{cols}, spread {spread}");
                }
            }
            assert!(case.native(ONCE)[0].iter().all(|y| *y == 0.0));
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn accumulate_scores() {
    // (masks of a run, tokens, segmentations, segments)
    for (lead, tokens, groups, segments) in [
        (1, 1, 1, 1),
        (2, 3, 3, 5),
        (7, 5, 3, 70),
        // More masks of one segmentation than are drawn at a time.
        (150, 2, 1, 67),
        (131, 3, 2, 64),
        (64, 24, 3, 301),
    ] {
        for given in [None, Some(2 * lead - 1)] {
            let mut case = Case::new();
            let scores = case.any(lead, tokens, 1);
            let source = source(&mut case, given, segments, 0.4);
            let sums = case.any(2 * groups, segments, tokens + 1);
            let clamped = case.real(Shape::new(1, tokens, 1), &vec![5.0; tokens]);
            case.push(AccumulateScores {
                scores,
                source,
                groups,
                sums,
                clamped,
            });
            case.updated(case.input_of(sums));
            case.updated(case.input_of(clamped));
            let whole = [
                masks(0, lead),
                masks(lead, 2 * lead),
                masks(2 * lead, 3 * lead - 1),
            ];
            // What was there before is kept unless the first mask is 0. Fewer
            // masks than a run scores; and none.
            let late = [
                masks(lead, lead + 1),
                masks(lead + 1, 2 * lead),
                masks(5, 5),
            ];
            for (runs, anew) in [(&whole[..], true), (&late[..], false), (&ONCE[..1], true)] {
                let want = case.native(runs);
                let name = format!("accumulate_scores {lead}x{tokens} in {groups}x{segments}");
                for mode in MODES {
                    let got = case.gpu(runs, mode);
                    assert_eq!(got, case.gpu(runs, mode), "{name} again");
                    // A segmentation's half of the scores, of at most 1, is
                    // added one by one: n roundings of at most n/2 eps, a
                    // random walk of standard deviation 0.3 · n · sqrt(n) eps
                    // at most.
                    let n = (3 * lead).div_ceil(2 * groups) + 1;
                    compare(&name, &got[0], &want[0], within(1.2, n, n as f64));
                    compare(&name, &got[1], &want[1], Tolerance::EXACT);
                    let columns = got[0].iter().zip(&want[0]).skip(tokens);
                    for (count, want) in columns.step_by(tokens + 1).filter(|_| anew) {
                        assert_eq!(f64::from(*count), *want, "{name}: masks");
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn expand_scores() {
    // (tokens, rows, columns, segmentations, segments)
    for (tokens, rows, cols, groups, segments) in [
        (1, 1, 1, 1, 1),
        (3, 7, 3, 2, 5),
        (5, 61, 80, 3, 257),
        (2, 1, 1023, 1, 1023),
        (9, 9, 1, 1, 9),
    ] {
        for (half, causal) in [
            (Half::First, false),
            (Half::Second, true),
            (Half::Both, false),
            (Half::Both, true),
        ] {
            let mut case = Case::new();
            // A third of the segments is hidden by no mask; the others have
            // scores of at most 1 on average.
            let shape = Shape::new(2 * groups, segments, tokens + 1);
            let mut all = values(shape.len(), 70);
            for (row, sums) in all.chunks_mut(tokens + 1).enumerate() {
                let count = (row % 3 * (row % 50 + 1)) as f32;
                sums.iter_mut().for_each(|sum| *sum *= count);
                sums[tokens] = count;
            }
            let sums = case.real(shape, &all);
            let shape = Shape::new(groups, rows, cols);
            let labels = case.table(shape, &below(segments, shape.len(), 71));
            let positions = case.indices(1, tokens, &below(rows, tokens, 72));
            let map = case.computed(tokens, rows, cols);
            case.push(ExpandScores {
                sums,
                labels,
                half,
                causal: causal.then_some(positions),
                map,
            });
            case.output(map);
            // Up to 2G sums, together at most the number of masks: that many
            // roundings of half an eps, and the division.
            let name = format!("expand_scores {half:?} {tokens}x{rows}x{cols}");
            case.compare(&name, ONCE, &[within(groups as f64 + 2.5, 1, 1.0)]);
            let want = &case.native(ONCE)[0];
            let got = &case.gpu(ONCE, MODES[0])[0];
            let zeros = got.iter().zip(want).filter(|(_, want)| **want == 0.0);
            assert!(zeros.into_iter().all(|(got, _)| *got == 0.0), "{name}");
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn pool_max() {
    // (tokens, frames, bins, pooled frames)
    for (tokens, frames, bins, pooled) in [
        (1, 1, 1, 1),
        (3, 7, 3, 7),
        (2, 61, 80, 16),
        (3, 83, 80, 21),
        (1, 5, 3, 9),
        (2, 1000, 3, 250),
    ] {
        let mut case = Case::new();
        // Negative throughout, so that no 0 may slip in.
        let x = real(&mut case, Shape::new(tokens, frames, bins), 80, |x| x - 2.0);
        let y = case.computed(tokens, pooled, 1);
        case.push(PoolMax { x, y });
        case.output(y);
        let name = format!("pool_max {tokens}x{frames}x{bins} to {pooled}");
        case.compare(&name, ONCE, &[Tolerance::EXACT]);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn correlate() {
    for (tokens, rows, cols) in [
        (1, 2, 1),
        (3, 7, 3),
        (2, 255, 1),
        (2, 257, 1),
        (4, 61, 80),
        (2, 1000, 80),
    ] {
        for causal in [false, true] {
            let mut case = Case::new();
            let shape = Shape::new(tokens, rows, cols);
            // From all but equal, by token, to all but unrelated; far from 0.
            let (first, second) = (values(shape.len(), 90), values(shape.len(), 91));
            let share = |i: usize| (i / shape.inner()) as f32 / tokens as f32;
            let mixed = first.iter().zip(&second).enumerate();
            let mixed: Vec<f32> = mixed
                .map(|(i, (x, y))| 3.0 + (x + share(i) * (y - x)))
                .collect();
            let (a, b) = (case.real(shape, &first), case.real(shape, &mixed));
            let positions: Vec<u32> = (0..tokens).map(|k| (rows - 1 - k % 2) as u32).collect();
            let positions = case.indices(1, tokens, &positions);
            let y = case.computed(tokens, 1, 2);
            let causal = causal.then_some(positions);
            case.push(Correlate { a, b, causal, y });
            case.output(y);
            // Sums of squares of n/256 terms in a lane and over 8 steps of
            // pairs, relatively off by sqrt of that many roundings times 2
            // and each term's three; the sum of products as much, in units of
            // the root of both. b, up to 4, is off by 2 eps before its mean,
            // which is 7 eps of its spread and, over positions, without sign.
            // Two roots of 5 eps and a division.
            let sum = 2.0 * ((shape.inner() / 256) as f64 + 8.0).sqrt() + 3.0;
            let name = format!("correlate {tokens}x{rows}x{cols}");
            case.compare(&name, ONCE, &[within(2.0 * sum + 7.0 + 12.5, 1, 1.0)]);
            let got = &case.gpu(ONCE, MODES[0])[0];
            let want = &case.native(ONCE)[0];
            // Two points always lie on a line, which says nothing.
            assert_eq!(want[1] != 0.0, shape.inner() >= 3, "{name}");
            let flags = got.iter().zip(want).skip(1).step_by(2);
            assert!(
                flags
                    .into_iter()
                    .all(|(got, want)| f64::from(*got) == *want)
            );
        }
    }
}

/// A constant has no correlation, whatever rounding makes of its variance.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn constants_do_not_correlate() {
    let (rows, cols) = (61, 80);
    let mut case = Case::new();
    let inner = rows * cols;
    let (mut a, mut b) = (values(4 * inner, 95), values(4 * inner, 96));
    a[..inner].fill(0.1);
    b[inner..2 * inner].fill(-1e-3);
    a[2 * inner..3 * inner].fill(0.0);
    b[2 * inner..3 * inner].fill(0.0);
    // Constant up to the last row that counts.
    a[3 * inner..3 * inner + 10 * cols].fill(0.7);
    let shape = Shape::new(4, rows, cols);
    let (a, b) = (case.real(shape, &a), case.real(shape, &b));
    let positions = case.indices(1, 4, &[60, 60, 60, 9]);
    let causal = Some(positions);
    let y = case.computed(4, 1, 2);
    case.push(Correlate { a, b, causal, y });
    case.output(y);
    for mode in MODES {
        assert_eq!(case.gpu(ONCE, mode)[0], [0.0; 8]);
    }
    assert_eq!(case.native(ONCE)[0], [0.0; 8]);
}

/// The model fixture with what its reference explains.
struct Fixture {
    model: Model,
    features: Features,
    ids: Vec<u32>,
    labels: Vec<u32>,
}

impl Fixture {
    fn load() -> Self {
        let folder = "tests/fixtures/conformer";
        let model = Model::load(ModelFiles::folder(folder).unwrap()).unwrap();
        let bytes = std::fs::read(format!("{folder}/reference.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let ids = |name: &str| -> Vec<u32> {
            let (words, _) = file.tensor(name).unwrap().data().as_chunks::<8>();
            let ids = words.iter().map(|&word| i64::from_le_bytes(word));
            ids.map(|id| u32::try_from(id).unwrap()).collect()
        };
        let features = file.tensor("features").unwrap();
        let (words, _) = features.data().as_chunks::<4>();
        let data = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        let [frames, bins] = *features.shape() else {
            panic!("features have two dimensions");
        };
        Self {
            model,
            ids: ids("decoder_input_ids"),
            labels: ids("labels"),
            features: Features::new(data, frames, bins).unwrap(),
        }
    }

    fn segmentation(&self, occluded: Occluded, options: &SpesOptions) -> Segmentation {
        match occluded {
            Occluded::Input => Segmentation::superpixels(&self.features, options).unwrap(),
            Occluded::Encoder => {
                let frames = self.model.encoder.encoder_frames(self.features.frames);
                Segmentation::elements(frames, 1)
            }
            Occluded::Tokens => Segmentation::elements(self.ids.len(), 1),
        }
    }

    /// Maps of 192 masks at all sites, read at once, and the reliabilities of
    /// the last checkpoint.
    fn maps(&self, executor: &mut dyn Executor, batch: usize) -> Whole {
        let positions: Vec<u32> = (0..self.ids.len() as u32).collect();
        let (model, features) = (&self.model, &self.features);
        let utterance = Utterance::upload(
            executor,
            model,
            features,
            &self.ids,
            &positions,
            &self.labels,
        )
        .unwrap();
        let pass = forward_and_gradients(executor, model, &utterance, &[], 1 << 28).unwrap();
        let options = {
            let mut options = SpesOptions::default();
            options.stop = Stop::Masks(192);
            options.batch = Some(batch);
            options
        };
        let mut ids = Vec::new();
        let mut reliabilities = Vec::new();
        for occluded in SITES {
            let mut inputs = Inputs::default();
            let segmentation = self.segmentation(occluded, &options);
            let segments = segmentation.place(executor, &mut inputs).unwrap();
            inputs.send(executor, MAPS).unwrap();
            let occlusion = Occlusion {
                model,
                utterance: &utterance,
                encoder_output: Some(pass.forward.encoder_output),
                occluded,
                segments,
                masks: Masks::Random { seed: SEED },
                options: &options,
                memory: 1 << 28,
            };
            let pass = occlusion.run(executor, &mut |_| true).unwrap();
            assert_eq!((pass.masks, pass.batch), (192, batch));
            assert_eq!(pass.checkpoints.len(), 1);
            let checkpoint = &pass.checkpoints[0];
            let both = checkpoint.pooled.iter().chain(&checkpoint.full);
            reliabilities.push(both.copied().collect());
            ids.push(pass.map.id);
        }
        let maps = executor.read(&ids, MAPS).unwrap();
        Whole {
            maps,
            reliabilities,
            profile: executor.profile(),
        }
    }

    /// Scores of masks that hide nothing.
    fn untouched(&self, executor: &mut dyn Executor) {
        let positions: Vec<u32> = (0..self.ids.len() as u32).collect();
        let (model, features) = (&self.model, &self.features);
        let utterance = Utterance::upload(
            executor,
            model,
            features,
            &self.ids,
            &positions,
            &self.labels,
        )
        .unwrap();
        let pass = forward_and_gradients(executor, model, &utterance, &[], 1 << 28).unwrap();
        let options = SpesOptions::default();
        for occluded in SITES {
            let segmentation = self.segmentation(occluded, &options);
            let hidden = vec![false; 3 * segmentation.segments];
            let mut inputs = Inputs::default();
            let count = segmentation.segments;
            let given = GivenMasks::place(executor, &mut inputs, &hidden, count).unwrap();
            let segments = segmentation.place(executor, &mut inputs).unwrap();
            inputs.send(executor, MAPS).unwrap();
            let occlusion = Occlusion {
                model,
                utterance: &utterance,
                encoder_output: Some(pass.forward.encoder_output),
                occluded,
                segments,
                masks: Masks::Given(given),
                options: &options,
                memory: 1 << 28,
            };
            let pass = occlusion.run(executor, &mut |_| true).unwrap();
            let ids = [pass.scores.unwrap(), pass.map.id, pass.clamped];
            for values in executor.read(&ids, MAPS).unwrap() {
                assert!(values.iter().all(|x| *x == 0.0), "{occluded:?}: {values:?}");
            }
        }
    }
}

const SITES: [Occluded; 3] = [Occluded::Input, Occluded::Encoder, Occluded::Tokens];

/// What a run at all sites gave.
struct Whole {
    maps: Vec<Vec<f32>>,
    /// By site, pooled and in full of every token.
    reliabilities: Vec<Vec<Option<f64>>>,
    profile: Profile,
}

impl Whole {
    /// Holds the maps to a relative L2 error, and the reliabilities to as much
    /// for values up to 1.
    fn agrees(&self, name: &str, other: &Whole, tolerance: f64) {
        for (index, occluded) in SITES.iter().enumerate() {
            let (got, want) = (&self.maps[index], &other.maps[index]);
            let name = format!("{name}, {occluded:?}");
            let check = sonograd::validate::compare(&name, &[], got, want, tolerance);
            println!("{check:?}");
            assert!(check.pass, "{check:?}");
            let pairs = self.reliabilities[index].iter();
            for (got, want) in pairs.zip(&other.reliabilities[index]) {
                let (Some(got), Some(want)) = (got, want) else {
                    assert_eq!(got, want, "{name}: one of them is undefined");
                    continue;
                };
                // The correction grows with the slope 2/(1 + r)^2.
                let slope = 2.0 * ((2.0 - want) / 2.0).powi(2).max(1.0);
                let bound = 10.0 * slope * tolerance;
                assert!((got - want).abs() <= bound, "{name}: {got}, not {want}");
            }
        }
    }
}

#[test]
fn whole_runs_natively() {
    let fixture = Fixture::load();
    let weights = &fixture.model.weights;
    let run = |batch| fixture.maps(&mut NativeExecutor::<f64>::new(weights, false), batch);
    let (small, large) = (run(7), run(64));
    for map in &large.maps {
        assert!(map.iter().all(|x| *x >= 0.0) && map.iter().any(|x| *x > 0.0));
    }
    // Maps are read in f32.
    small.agrees("batches of 7 and 64", &large, 1e-7);
    let mut single = NativeExecutor::<f32>::new(weights, false);
    let single = fixture.maps(&mut single, 64);
    single.agrees("f32 and f64", &large, 5e-5);
    fixture.untouched(&mut NativeExecutor::<f64>::new(weights, false));
    fixture.untouched(&mut NativeExecutor::<f32>::new(weights, false));
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn whole_runs_on_the_gpu() {
    let fixture = Fixture::load();
    let weights = &fixture.model.weights;
    let exact = fixture.maps(&mut NativeExecutor::<f64>::new(weights, false), 64);
    let device = Arc::new(open_for_tests());
    let gpu = || GpuExecutor::new(device.clone(), weights, &GpuOptions::default()).unwrap();
    let runs = [7, 64].map(|batch| {
        let whole = fixture.maps(&mut gpu(), batch);
        whole.agrees(&format!("GPU, batches of {batch}"), &exact, 5e-5);
        let profile = &whole.profile;
        assert_eq!(profile.transfers(MAPS).reads, 1);
        assert_eq!(profile.transfers(STATUS).reads, SITES.len() as u64);
        assert_eq!(profile.transfers(GENERATION).reads, 0);
        // Checkpoints read two correlations and two flags of every token.
        let map_bytes: usize = whole.maps.iter().map(|map| 4 * map.len()).sum();
        let status_bytes = SITES.len() * fixture.ids.len() * 4 * 4;
        assert_eq!(
            profile.all_transfers().read_bytes,
            (map_bytes + status_bytes) as u64
        );
        whole
    });
    runs[0].agrees("GPU, batches of 7 and 64", &runs[1], 5e-6);
    fixture.untouched(&mut gpu());
}
