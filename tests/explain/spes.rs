//! SPES on whole models: exact properties, convergence, stopping.

use crate::random_model::{self, SMALL, numbers};
use std::sync::Arc;

use sonograd::engine::executor::{Executor, Inputs, Mark, PlanId, Values};
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::extras::Extras;
use sonograd::engine::gpu::layout::{Layout, Step, Target};
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::profile::{Profile, Purpose};
use sonograd::engine::recording::Recording;
use sonograd::engine::schedule::Schedule;
use sonograd::engine::tensor::{Kind, PersistentId, Scalars, Shape, TensorId, WeightId};
use sonograd::engine::weights::{Form, Role, WeightTable};
use sonograd::explain::passes::{Utterance, forward_and_gradients};
use sonograd::explain::profile::MAPS;
use sonograd::explain::spes::{
    GivenMasks, MOST_MASKS, Masks, Occluded, Occlusion, Segmentation, SpesOptions, SpesPass, Stop,
    spearman_brown,
};
use sonograd::features::Features;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::scalars::{FIRST_VARIANT, MASK_END, MASKING};
use sonograd::ops::{AccumulateScores, ExpandScores, Half, MaskSource};
use sonograd::{Error, Result};

const FRAMES: usize = 37;
const TOKENS: usize = 5;
/// How likely SPES hides a token.
const HIDDEN: f64 = 0.4;

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
        given: Option<&[bool]>,
        options: &SpesOptions,
        stop_after: usize,
    ) -> SpesPass {
        let pass = self.try_run(executor, occluded, given, options, stop_after, 0);
        pass.unwrap()
    }

    fn try_run<E: Executor>(
        &self,
        executor: &mut E,
        occluded: Occluded,
        given: Option<&[bool]>,
        options: &SpesOptions,
        stop_after: usize,
        seed: u64,
    ) -> Result<SpesPass> {
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
        let mut inputs = Inputs::default();
        let segmentation = self.segmentation(occluded);
        let count = segmentation.segments;
        let given =
            given.map(|hidden| GivenMasks::place(executor, &mut inputs, hidden, count).unwrap());
        let segments = segmentation.place(executor, &mut inputs).unwrap();
        inputs.send(executor, MAPS).unwrap();
        let pass = forward_and_gradients(executor, &self.model, &utterance, &[], 1 << 30).unwrap();
        let occlusion = Occlusion {
            model: &self.model,
            utterance: &utterance,
            encoder_output: Some(pass.forward.encoder_output),
            occluded,
            segments,
            masks: given.map_or(Masks::Random { seed }, Masks::Given),
            options,
            memory: 1 << 30,
        };
        occlusion.run(executor, &mut |progress| progress.done < stop_after)
    }

    fn map(&self, occluded: Occluded, masks: usize, seed: u64, batch: usize) -> Vec<f64> {
        let mut executor = NativeExecutor::<f64>::new(&self.model.weights, false);
        let options = {
            let mut options = SpesOptions::default();
            options.stop = Stop::Masks(masks);
            options.batch = Some(batch);
            options
        };
        let pass = self.try_run(&mut executor, occluded, None, &options, usize::MAX, seed);
        let pass = pass.unwrap();
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
        let mut executor = NativeExecutor::<f32>::new(&setting.model.weights, false);
        let options = SpesOptions::default();
        let pass = setting.run(&mut executor, occluded, Some(&hidden), &options, usize::MAX);
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

/// What the mean over seeds of the squared relative error of a map must be.
struct Law {
    /// Of one mask; N masks have an N-th of it.
    square: f64,
    /// Standard deviation of that over seeds, as a share of it.
    spread: f64,
}

impl Law {
    /// Of estimates around `exact` whose errors are normal with `covariance`/N.
    fn new(exact: &[f64], covariance: impl Fn(usize, usize) -> f64) -> Self {
        let elements = || 0..exact.len();
        let trace: f64 = elements().map(|a| covariance(a, a)).sum();
        let pairs = elements().flat_map(|a| elements().map(move |b| (a, b)));
        // A squared norm of normal numbers has the variance 2 tr(C²).
        let squares: f64 = pairs.map(|(a, b)| covariance(a, b).powi(2)).sum();
        Self {
            square: trace / exact.iter().map(|x| x * x).sum::<f64>(),
            spread: (2.0 * squares).sqrt() / trace,
        }
    }

    /// Holds the errors of some seeds with `masks` masks to three standard
    /// deviations: their size, so the law of its fall too.
    fn check(&self, masks: usize, errors: &[f64]) {
        let square = errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64;
        let ratio = square / (self.square / masks as f64);
        let allowed = 3.0 * self.spread / (errors.len() as f64).sqrt();
        println!("{masks} masks: {ratio:.3} of the square, {allowed:.3} off allowed");
        assert!(allowed <= 0.75, "too few seeds to tell");
        assert!((ratio - 1.0).abs() <= allowed, "{masks} masks: {ratio}");
    }
}

#[test]
fn the_error_falls_with_the_root_of_the_masks() {
    // All masks of five tokens, weighted by how likely they are, give the
    // exact map that random masks estimate.
    let setting = Setting::new();
    let count = 1 << TOKENS;
    let hides = |m: usize, t: usize| m >> t & 1 == 1;
    let hidden: Vec<bool> = (0..count * TOKENS)
        .map(|i| hides(i / TOKENS, i % TOKENS))
        .collect();
    let mut executor = NativeExecutor::<f64>::new(&setting.model.weights, false);
    let options = SpesOptions::default();
    let pass = setting.run(
        &mut executor,
        Occluded::Tokens,
        Some(&hidden),
        &options,
        usize::MAX,
    );
    let scores = executor.read_real(pass.scores.unwrap());
    let probability = |m: usize| -> f64 {
        let share = |t| if hides(m, t) { HIDDEN } else { 1.0 - HIDDEN };
        (0..TOKENS).map(share).product()
    };
    // Means over the masks that hide token j, for token k.
    let masks = |j: usize| (0..count).filter(move |&m| hides(m, j));
    let mut exact = vec![0.0; TOKENS * TOKENS];
    for k in 0..TOKENS {
        for j in 0..=k {
            let weighted = masks(j).map(|m| probability(m) * scores[m * TOKENS + k]);
            exact[k * TOKENS + j] = weighted.sum::<f64>() / HIDDEN;
        }
    }
    // A mean over the masks that hide something is a ratio of two sums; to
    // first order its error is the mean of what scores differ from it by.
    let covariance = |a: usize, b: usize| -> f64 {
        let differs = |at: usize, m: usize| {
            let (k, j) = (at / TOKENS, at % TOKENS);
            let counts = j <= k && hides(m, j);
            f64::from(u8::from(counts)) * (scores[m * TOKENS + k] - exact[at]) / HIDDEN
        };
        let products = (0..count).map(|m| probability(m) * differs(a, m) * differs(b, m));
        products.sum()
    };
    let law = Law::new(&exact, covariance);
    for (masks, seeds) in [(128, 64), (512, 64), (2048, 48)] {
        let error = |seed| relative(&setting.map(Occluded::Tokens, masks, seed, 64), &exact);
        let errors: Vec<f64> = (0..seeds).map(error).collect();
        law.check(masks, &errors);
    }
}

#[test]
fn reliability_grows_and_stops_the_run() {
    let setting = Setting::new();
    let mut executor = NativeExecutor::<f32>::new(&setting.model.weights, false);
    let options = {
        let mut options = SpesOptions::default();
        options.stop = Stop::Masks(4000);
        options
    };
    let pass = setting.run(&mut executor, Occluded::Encoder, None, &options, usize::MAX);
    let masks: Vec<usize> = pass.checkpoints.iter().map(|c| c.masks).collect();
    assert_eq!(masks, [240, 480, 960, 1920, 3840, 4000]);
    let medians: Vec<f64> = pass
        .checkpoints
        .iter()
        .filter_map(|c| c.pooled_median())
        .collect();
    println!("{medians:?}");
    assert_eq!(medians.len(), 6);
    assert!(medians[5] > medians[2] && medians[2] > medians[0]);

    let options = {
        let mut options = SpesOptions::default();
        options.stop = Stop::Reliability(medians[3] - 1e-6);
        options
    };
    let pass = setting.run(&mut executor, Occluded::Encoder, None, &options, usize::MAX);
    assert!(pass.masks <= 1920 && !pass.interrupted);
    assert!(pass.checkpoints.last().unwrap().pooled_median().unwrap() >= medians[3] - 1e-6);

    // What a few hundred masks say of themselves stops nothing.
    let options = {
        let mut options = SpesOptions::default();
        options.stop = Stop::Reliability(1e-3);
        options
    };
    let pass = setting.run(&mut executor, Occluded::Encoder, None, &options, usize::MAX);
    assert_eq!((pass.masks, pass.checkpoints.len()), (960, 3));

    // Interrupted after the third batch.
    let options = {
        let mut options = SpesOptions::default();
        options.batch = Some(10);
        options
    };
    let pass = setting.run(&mut executor, Occluded::Tokens, None, &options, 30);
    assert!(pass.interrupted);
    assert_eq!((pass.masks, pass.checkpoints.len()), (30, 1));
    const { assert!(MOST_MASKS == 20_000) };
    assert_eq!(spearman_brown(0.5), 2.0 / 3.0);
    assert_eq!(spearman_brown(1.0), 1.0);
    // Halves that contradict each other are as unreliable as can be, no more.
    for half in [-1.0, -0.9999, -0.5] {
        assert_eq!(spearman_brown(half), -1.0, "{half}");
    }
}

/// A model whose score is linear: a weight for every element, summed over the
/// elements that a mask hides.
struct LinearModel {
    /// (K, R·C), none negative
    weights: Vec<f32>,
    weight_table: Arc<WeightTable>,
    /// Of weight and bias.
    ids: [WeightId; 2],
    segmentation: Segmentation,
}

impl LinearModel {
    const ROWS: usize = 5;
    const COLS: usize = 6;
    const TOKENS: usize = 3;
    const PROBABILITY: f64 = 0.5;

    fn new() -> Self {
        let elements = Self::ROWS * Self::COLS;
        let weights = numbers(77, Self::TOKENS * elements);
        let weights: Vec<f32> = weights.iter().map(|x| x.abs()).collect();
        // Three segmentations: pairs of columns, rows, single elements.
        let labels = |of: fn(usize, usize) -> usize| {
            (0..elements).map(move |e| of(e / Self::COLS, e % Self::COLS) as u32)
        };
        let all = labels(|_, c| c / 2).chain(labels(|r, _| r));
        let segmentation = Segmentation {
            labels: all.chain(labels(|r, c| r * Self::COLS + c)).collect(),
            shape: Shape::new(3, Self::ROWS, Self::COLS),
            segments: elements,
        };
        // Hidden elements are 0: the score is all weights less the kept ones.
        let mut weight_table = WeightTable::default();
        let negative: Vec<f32> = weights.iter().map(|x| -x).collect();
        let [matrix, row] = [Form::Matrix, Form::Bias].map(Role::decoder);
        let weight = weight_table.add(matrix, "weight", Self::TOKENS, elements, negative);
        let sums = weights.chunks(elements).map(|row| row.iter().sum());
        let bias = weight_table.add(row, "bias", 1, Self::TOKENS, sums.collect::<Vec<f32>>());
        Self {
            weights,
            weight_table: Arc::new(weight_table),
            ids: [weight, bias],
            segmentation,
        }
    }

    /// The map that infinitely many masks would give: for every segmentation
    /// the whole segment of the element, and of the rest what is hidden on
    /// average.
    fn exact(&self) -> Vec<f64> {
        let elements = Self::ROWS * Self::COLS;
        let mut map = vec![0.0; Self::TOKENS * elements];
        for (at, value) in map.iter_mut().enumerate() {
            let (k, e) = (at / elements, at % elements);
            for labels in self.segmentation.labels.chunks(elements) {
                for other in 0..elements {
                    let weight = f64::from(self.weights[k * elements + other]);
                    let together = labels[e] == labels[other];
                    let share = if together { 1.0 } else { Self::PROBABILITY };
                    *value += weight * share / 3.0;
                }
            }
        }
        map
    }

    /// Covariances of the map's elements under one mask, to first order.
    ///
    /// An element of a map is the mean over segmentations, which have a third
    /// of the masks each, of a mean over masks that hide its segment. Such a
    /// mean varies with what is hidden of the other segments, each alone.
    fn covariance(&self) -> impl Fn(usize, usize) -> f64 {
        let elements = Self::ROWS * Self::COLS;
        let (p, tokens) = (Self::PROBABILITY, Self::TOKENS);
        let one = |labels: &[u32], a: usize, b: usize| -> f64 {
            let mut weight = vec![[0.0f64; 2]; elements];
            for (e, &segment) in labels.iter().enumerate() {
                for (own, at) in weight[segment as usize].iter_mut().zip([a, b]) {
                    *own += f64::from(self.weights[at / elements * elements + e]);
                }
            }
            let segments = [a, b].map(|at| labels[at % elements] as usize);
            let others = weight.iter().enumerate();
            let others = others.filter(|(segment, _)| !segments.contains(segment));
            let varies = others.map(|(_, [a, b])| a * b * p * (1.0 - p)).sum::<f64>();
            match segments[0] == segments[1] {
                true => varies / p,
                // Both are hidden: each adds what it has more than on average.
                false => {
                    let [of_other, of_own] = [weight[segments[1]][0], weight[segments[0]][1]];
                    varies + of_other * of_own * (1.0 - p).powi(2)
                }
            }
        };
        let count = tokens * elements;
        let groups: Vec<&[u32]> = self.segmentation.labels.chunks(elements).collect();
        let share = groups.len() as f64;
        let at = |(a, b)| -> f64 {
            let each = groups.iter().map(|labels| one(labels, a, b));
            // A group has an N/3 of the masks and a third of the map.
            each.sum::<f64>() * share / share.powi(2)
        };
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        let all: Vec<f64> = pairs.map(at).collect();
        move |a, b| all[a * count + b]
    }

    /// The estimate of so many masks, through the operators that SPES uses.
    fn estimate(&self, masks: usize, seed: u64) -> Vec<f64> {
        const BATCH: usize = 64;
        let tokens = Self::TOKENS;
        let elements = Self::ROWS * Self::COLS;
        let mut executor = NativeExecutor::<f64>::new(&self.weight_table, false);
        let mut inputs = Inputs::default();
        let shape = self.segmentation.shape;
        let own = &mut executor;
        let labels = inputs
            .indices(own, shape, &self.segmentation.labels)
            .unwrap();
        inputs.send(own, MAPS).unwrap();
        let scores = own
            .allocate(Kind::Real, Shape::new(BATCH, 1, tokens))
            .unwrap();
        let sums_shape = Shape::new(6, elements, tokens + 1);
        let sums = own.allocate(Kind::Real, sums_shape).unwrap();
        let clamped = own.allocate(Kind::Real, Shape::new(1, tokens, 1)).unwrap();
        let map_shape = shape.with_lead(tokens);
        let map = own.allocate(Kind::Real, map_shape).unwrap();

        let mut recording = Recording::new(self.weight_table.clone());
        let r = &mut recording;
        let (weight, bias) = (r.weight(self.ids[0]), r.weight(self.ids[1]));
        let source = MaskSource::random(seed, 9, Self::PROBABILITY);
        let flat = Shape::new(3, 1, elements);
        let ones = r.constant(Shape::new(1, 1, elements), vec![1.0; elements]);
        let nothing = r.constant(Shape::new(1, 1, elements), vec![0.0; elements]);
        let flat = r.persistent(labels, Kind::Index, flat);
        let kept = r.apply_mask(ones, flat, elements, source, nothing, BATCH);
        let score = r.matmul(kept, weight).bias(bias).record().unwrap();
        r.keep(score, scores);
        r.next_stage();
        let sums = r.persistent(sums, Kind::Real, sums_shape);
        let operator = AccumulateScores {
            scores: r.persistent(scores, Kind::Real, Shape::new(BATCH, tokens, 1)),
            source,
            groups: 3,
            sums,
            clamped: r.persistent(clamped, Kind::Real, Shape::new(1, tokens, 1)),
        };
        r.push(operator);
        r.next_stage();
        let operator = ExpandScores {
            sums,
            labels: r.persistent(labels, Kind::Index, shape),
            half: Half::Both,
            causal: None,
            map: r.persistent(map, Kind::Real, map_shape),
        };
        r.push(operator);
        let plan = executor.prepare(recording).unwrap();
        let mut scalars = Scalars::ZERO;
        scalars.set(MASKING, 1);
        for first in (0..masks).step_by(BATCH) {
            scalars.set(FIRST_VARIANT, first as u32);
            scalars.set(MASK_END, masks.min(first + BATCH) as u32);
            executor.run(plan, 0, &scalars).unwrap();
            executor.run(plan, 1, &scalars).unwrap();
        }
        executor.run(plan, 2, &scalars).unwrap();
        executor.read_real(map).to_vec()
    }
}

#[test]
fn a_linear_model_meets_its_closed_form() {
    let model = LinearModel::new();
    let exact = model.exact();
    let law = Law::new(&exact, model.covariance());
    let errors = |masks: usize, seeds: u64| -> Vec<f64> {
        let error = |seed| relative(&model.estimate(masks, seed), &exact);
        (0..seeds).map(error).collect()
    };
    for (masks, seeds) in [(384, 96), (1536, 96), (6144, 48), (24_576, 24)] {
        law.check(masks, &errors(masks, seeds));
    }
    // No bias: the mean over seeds has the error of as many masks more.
    let seeds = 12;
    let mut mean = vec![0.0; exact.len()];
    for seed in 0..seeds {
        for (mean, x) in mean.iter_mut().zip(model.estimate(6144, 100 + seed)) {
            *mean += x / seeds as f64;
        }
    }
    let error = relative(&mean, &exact);
    let expected = law.square / (6144 * seeds) as f64;
    assert!(
        error * error <= (1.0 + 3.0 * law.spread) * expected,
        "{error}"
    );
}

/// An executor with little memory, which runs all lead rows of a stage
/// whenever some are asked for.
struct Small<E> {
    inner: E,
    /// Bytes that a plan may take.
    most: usize,
    refused: usize,
    /// What plans were made of.
    prepared: Vec<Recording>,
}

impl<E> Small<E> {
    fn new(inner: E, most: usize) -> Self {
        Self {
            inner,
            most,
            refused: 0,
            prepared: Vec::new(),
        }
    }
}

impl<E: Executor> Executor for Small<E> {
    fn name(&self) -> String {
        self.inner.name()
    }
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    fn precision(&self) -> sonograd::engine::precision::Precision {
        self.inner.precision()
    }

    fn weight_bytes(&self) -> usize {
        self.inner.weight_bytes()
    }
    fn allocate(&mut self, kind: Kind, shape: Shape) -> Result<PersistentId> {
        self.inner.allocate(kind, shape)
    }
    fn free(&mut self, id: PersistentId) {
        self.inner.free(id);
    }
    fn upload_all(&mut self, parts: &[(PersistentId, Values)], purpose: Purpose) -> Result<()> {
        self.inner.upload_all(parts, purpose)
    }
    fn prepare(&mut self, recording: Recording) -> Result<PlanId> {
        if self.inner.estimate(&recording) > self.most {
            self.refused += 1;
            return Err(Error::Memory("no memory left".into()));
        }
        self.prepared.push(recording.clone());
        self.inner.prepare(recording)
    }
    fn estimate(&self, recording: &Recording) -> usize {
        self.inner.estimate(recording)
    }
    fn largest_tensor(&self) -> usize {
        self.inner.largest_tensor()
    }
    /// All rows, always.
    fn run_first(
        &mut self,
        plan: PlanId,
        stage: usize,
        _leads: usize,
        scalars: &Scalars,
    ) -> Result<()> {
        self.inner.run(plan, stage, scalars)
    }
    fn release(&mut self, plan: PlanId) {
        self.inner.release(plan);
    }
    fn read(&mut self, ids: &[PersistentId], purpose: Purpose) -> Result<Vec<Vec<f32>>> {
        self.inner.read(ids, purpose)
    }
    fn mark(&self) -> Mark {
        self.inner.mark()
    }
    fn unwind(&mut self, mark: Mark) {
        self.inner.unwind(mark);
    }
    fn forget_peak(&mut self) {
        self.inner.forget_peak();
    }
    fn memory_bytes(&self) -> usize {
        self.inner.memory_bytes()
    }
    fn profile(&self) -> Profile {
        self.inner.profile()
    }
}

#[test]
fn where_memory_fails_the_batch_is_halved_and_the_map_is_the_same() {
    let setting = Setting::new();
    let options = {
        let mut options = SpesOptions::default();
        options.stop = Stop::Masks(200);
        options.batch = Some(64);
        options
    };
    let run = |most: usize| {
        let native = NativeExecutor::<f64>::new(&setting.model.weights, false);
        let mut executor = Small::new(native, most);
        let mark = executor.mark();
        let besides = |executor: &Small<NativeExecutor<f64>>| {
            executor.memory_bytes() - executor.weight_bytes()
        };
        let empty = besides(&executor);
        let pass = setting.try_run(
            &mut executor,
            Occluded::Input,
            None,
            &options,
            usize::MAX,
            0,
        );
        let pass = pass.map(|pass| (pass.batch, executor.inner.read_real(pass.map.id).to_vec()));
        executor.unwind(mark);
        assert_eq!(besides(&executor), empty, "everything is given back");
        (pass, executor.refused)
    };
    let (whole, refused) = run(usize::MAX);
    let whole = whole.unwrap();
    assert_eq!((whole.0, refused), (64, 0));
    // Less and less memory: smaller batches, until not even one mask fits.
    let mut batches = Vec::new();
    let failed = (10..30).rev().find_map(|exponent| {
        let (pass, refused) = run(1 << exponent);
        match pass {
            Ok((batch, map)) => {
                assert_eq!(batch, 64 >> refused);
                assert!(relative(&map, &whole.1) <= 1e-12);
                batches.push(batch);
                None
            }
            Err(error) => Some(error),
        }
    });
    batches.dedup();
    println!("{batches:?}");
    assert!(batches.len() >= 3, "{batches:?}");
    assert!(matches!(failed, Some(Error::Memory(_))), "{failed:?}");
}

/// SPES on a GPU with a reference of one row and batches that are not full,
/// beside all rows of everything: the same bits for less work.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_gpu_runs_only_the_rows_that_are_wanted() {
    const BATCH: usize = 60;
    let setting = Setting::new();
    let device = Arc::new(open_for_tests());
    let gpu = || {
        let options = GpuOptions::default();
        GpuExecutor::new(device.clone(), &setting.model.weights, &options).unwrap()
    };
    let options = {
        let mut options = SpesOptions::default();
        // 60, 60, 7.
        options.stop = Stop::Masks(2 * BATCH + 7);
        options.batch = Some(BATCH);
        options
    };
    for occluded in SITES {
        let mut whole = Small::new(gpu(), usize::MAX);
        let pass = setting.run(&mut whole, occluded, None, &options, usize::MAX);
        let expected = whole.read(&[pass.map.id], MAPS).unwrap();
        let mut few = gpu();
        // A plan that is taken up again has its parts already.
        for _ in 0..2 {
            let mark = few.mark();
            let pass = setting.run(&mut few, occluded, None, &options, usize::MAX);
            let map = few.read(&[pass.map.id], MAPS).unwrap();
            let bits = |map: &[Vec<f32>]| -> Vec<u32> {
                map.iter().flatten().map(|x| x.to_bits()).collect()
            };
            assert_eq!(bits(&map), bits(&expected), "{occluded:?}");
            few.unwind(mark);
        }

        // All that depends on the masks is cut, the rest is not.
        let recording = whole.prepared.last().unwrap();
        let target = Target {
            uniform_alignment: 256,
            half_weights: vec![false; recording.weights().iter().count()],
            extras: Extras::NONE,
        };
        let tuning = whole.inner.tuning();
        let all = Layout::new(recording, &target, tuning).unwrap();
        let schedule = Schedule::new(recording);
        let live = |id: TensorId| schedule.live[id.0 as usize];
        let workgroups =
            |step: &Step| -> u64 { step.workgroups.iter().map(|&n| u64::from(n)).product() };
        const FORWARD: usize = 1;
        for leads in [1, 7, BATCH / 2] {
            let part = Layout::of_first(recording, FORWARD, leads, &target, tuning).unwrap();
            let mut steps = part.stages[0].iter().zip(&all.stages[FORWARD]);
            for &index in &schedule.stages[FORWARD] {
                let operator = &recording.operators()[index];
                let count = operator.launches(recording, &live).len();
                for (part, all) in steps.by_ref().take(count) {
                    let name = [all.shader.stem, &all.entry.name].join(".");
                    assert_eq!([part.shader.stem, &part.entry.name].join("."), name);
                    let (few, many) = (workgroups(part), workgroups(all));
                    let cut = operator.lead(recording) == BATCH && many > 1;
                    assert!(
                        if cut { few < many } else { few == many },
                        "{name}: {few} of {many}"
                    );
                }
            }
            assert_eq!(
                (part.stages[0].len(), steps.len()),
                (all.stages[FORWARD].len(), 0)
            );
        }
    }
}
