//! Cross-attention times its gradient: the operator against finite
//! differences, its kernel against its native code, whole models against
//! PyTorch's autograd.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::cases::{Case, Tolerance, at};
use safetensors::SafeTensors;
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{
    GpuExecutor, GpuOptions,
    ShaderMode::{Checked, Trusted},
};
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::reverse::{Seed, reverse};
use sonograd::engine::tensor::{Columns, PersistentId, Shape, TensorId};
use sonograd::engine::weights::WeightTable;
use sonograd::explain::Site;
use sonograd::explain::passes::{Gradients, MapSpec, Utterance, forward_and_reverse};
use sonograd::explain::profile::MAPS;
use sonograd::features::Features;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::scalars::FIRST_TOKEN;
use sonograd::ops::{
    Add, AttentionSpec, AttentionXGradient, Layout, Mask, Reduction, TokenLogProb,
};

/// Sizes of attention that is put together from products, so that its
/// probabilities are an input.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    queries: usize,
    keys: usize,
    frames: usize,
    heads: usize,
    depth: usize,
    tokens: usize,
}

const SMALL: Sizes = Sizes {
    queries: 4,
    keys: 6,
    frames: 5,
    heads: 3,
    depth: 2,
    tokens: 3,
};

/// What [`Sizes::build`] makes.
struct Built {
    case: Case,
    /// (1, I, H·W'): the probabilities that the model works with, heads side
    /// by side
    weights: TensorId,
    output: TensorId,
    doutput: TensorId,
    positions: Vec<u32>,
}

impl Sizes {
    /// Attention, and behind it something that lets positions mix: results
    /// are the log-probabilities of all tokens and, updated by runs of
    /// `count` tokens, the map.
    fn build(&self, count: usize) -> Built {
        let Sizes {
            queries,
            keys,
            heads,
            depth,
            tokens,
            ..
        } = *self;
        let width = heads * depth;
        let mut case = Case::new();
        let weights = case.any(1, queries, heads * keys);
        let row = |h: usize, i: usize| i * heads * keys + h * keys;
        let rows = (0..heads).flat_map(|h| (0..queries).map(move |i| row(h, i)));
        let all = case.input(case.input_of(weights));
        let apart: Vec<f32> = rows.flat_map(|at| all[at..at + keys].to_vec()).collect();
        let probabilities = case.real(Shape::new(1, heads * queries, keys), &apart);
        // Keys before the values, as in a decoder's memory.
        let memory = case.any(1, keys, 2 * width);
        let values = case.input(case.input_of(memory));
        let mut blocks = vec![0.0; heads * keys * width];
        for (j, row) in values.chunks(2 * width).enumerate() {
            for (column, &value) in row[width..].iter().enumerate() {
                blocks[(column / depth * keys + j) * width + column] = value;
            }
        }
        let blocks = case.real(Shape::new(1, heads * keys, width), &blocks);
        let product = case.recording.matmul(weights, blocks);
        let output = product.layout(Layout::InOut).record().unwrap();

        let stacked = case.any(1, 3 * width, width);
        let stacked = case.recording.matmul(output, stacked).record().unwrap();
        let part = |part| Columns {
            tensor: stacked,
            offset: part * width,
        };
        let (mixed, _) = case
            .recording
            .attention(AttentionSpec {
                query: part(0),
                key: part(1),
                value: part(2),
                heads: 1,
                width,
                scale: 0.7,
                mask: Mask::Causal,
                relative: None,
            })
            .unwrap();
        let vocabulary = case.any(1, 7, width);
        let logits = case.recording.matmul(mixed, vocabulary).record().unwrap();
        let positions: Vec<u32> = (0..tokens).map(|k| (k * 5 % queries) as u32).collect();
        let labels: Vec<u32> = (0..tokens).map(|k| (k * 3 % 7) as u32).collect();
        let list = case.indices(1, tokens, &positions);
        let labels = case.indices(1, tokens, &labels);
        let seed = Seed {
            logits,
            positions: list,
            labels,
            count,
        };
        let doutput = reverse(&mut case.recording, seed, &[output]).unwrap()[0];
        let map = case.any(heads, tokens, self.frames);
        case.push(AttentionXGradient {
            probabilities,
            value: Columns {
                tensor: memory,
                offset: width,
            },
            doutput,
            positions: list,
            map,
        });
        let log_probs = case.computed(1, tokens, 1);
        case.push(TokenLogProb {
            logits,
            positions: list,
            labels,
            y: log_probs,
        });
        case.output(log_probs);
        case.updated(case.input_of(map));
        Built {
            case,
            weights,
            output,
            doutput,
            positions,
        }
    }
}

/// The map is P · dP with dP the slope of a token's log-probability, by
/// central differences in f64. With h = 1e-5 they are off by h²/6 times a
/// third derivative of order 1, 2e-11, and by f's rounding, 1e-16 · 5 / h =
/// 5e-11.
#[test]
fn the_map_is_attention_times_its_slope() {
    let step = 1e-5;
    for (sizes, count) in [
        (SMALL, 3),
        // The second run has one token and a row that is left out.
        (SMALL, 2),
        (SMALL, 1),
        (
            Sizes {
                queries: 1,
                keys: 1,
                frames: 1,
                heads: 1,
                depth: 5,
                tokens: 1,
            },
            1,
        ),
    ] {
        let built = sizes.build(count);
        let runs: Vec<_> = (0..sizes.tokens).step_by(count).collect();
        let scalars: Vec<_> = runs.iter().map(|&first| at(FIRST_TOKEN, first)).collect();
        let mut executor = NativeExecutor::<f64>::new(&WeightTable::default(), false);
        let ran = built.case.run(&mut executor, &scalars);
        let results = &ran.results;
        let map = executor.read_real(results[1]).to_vec();
        let index = built.case.input_of(built.weights);
        let mut weights: Vec<f64> = built.case.input(index).iter().map(|&x| x.into()).collect();
        let (mut worst, mut largest) = (0.0f64, 0.0f64);
        for (k, &position) in built.positions.iter().enumerate() {
            for h in 0..sizes.heads {
                for j in 0..sizes.frames {
                    let element = (position as usize * sizes.heads + h) * sizes.keys + j;
                    let p = weights[element];
                    let [low, high] = [p - step, p + step].map(|moved| {
                        weights[element] = moved;
                        let id = ran.tensors[index];
                        executor.upload_real(id, &weights).unwrap();
                        executor.run(ran.plan, 0, &scalars[0]).unwrap();
                        executor.read_real(results[0])[k]
                    });
                    weights[element] = p;
                    let want = p * (high - low) / (2.0 * step);
                    let got = map[(h * sizes.tokens + k) * sizes.frames + j];
                    worst = worst.max((got - want).abs());
                    largest = largest.max(want.abs());
                }
            }
        }
        println!("{sizes:?}, {count} at a time: worst {worst:.1e}, largest {largest:.1e}");
        assert!(largest > 1e-2, "the test sees nothing");
        assert!(worst <= 5e-10, "{worst:e}");
    }
}

/// Over all keys, P · dP of a head comes to doutput · output.
#[test]
fn a_heads_sum_is_the_product_of_output_and_cotangent() {
    let sizes = Sizes {
        frames: SMALL.keys,
        ..SMALL
    };
    let mut built = sizes.build(sizes.tokens);
    for tensor in [built.output, built.doutput] {
        let shape = built.case.recording.shape(tensor);
        let copy = built.case.recording.computed(shape);
        built.case.push(Add {
            a: tensor,
            b: tensor,
            scale_a: 1.0,
            scale_b: 0.0,
            y: copy,
        });
        built.case.output(copy);
    }
    let results = built.case.native(&[at(FIRST_TOKEN, 0)]);
    let [_, map, output, doutput] = &results[..] else {
        panic!("four results")
    };
    let width = sizes.heads * sizes.depth;
    for (k, &position) in built.positions.iter().enumerate() {
        for h in 0..sizes.heads {
            let row = position as usize * width + h * sizes.depth;
            let cotangents = &doutput[k * sizes.queries * width + row..][..sizes.depth];
            let pairs = output[row..row + sizes.depth].iter().zip(cotangents);
            let want: f64 = pairs.map(|(output, cotangent)| output * cotangent).sum();
            let row = (h * sizes.tokens + k) * sizes.keys;
            let got: f64 = map[row..row + sizes.keys].iter().sum();
            assert!((got - want).abs() <= 1e-14, "{got:e}, not {want:e}");
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn the_kernel_agrees_with_native_f64() {
    // (tokens at once, in all, positions, keys, frames, heads, depth)
    for (count, tokens, queries, keys, frames, heads, depth) in [
        (1, 1, 1, 1, 1, 1, 1),
        (2, 3, 7, 5, 3, 2, 3),
        (3, 5, 2, 65, 65, 3, 36),
        (2, 2, 3, 1023, 769, 1, 64),
        (5, 7, 9, 64, 63, 7, 5),
        (2, 5, 4, 129, 128, 5, 129),
    ] {
        let width = heads * depth;
        let mut case = Case::new();
        let probabilities = case.any(1, heads * queries, keys);
        let memory = case.any(1, keys, 2 * width);
        let doutput = case.any(count, queries, width);
        let positions: Vec<u32> = (0..tokens).map(|k| (k * 5 % queries) as u32).collect();
        let positions = case.indices(1, tokens, &positions);
        // What the runs do not reach stays as it is.
        let map = case.any(heads, tokens, frames);
        case.push(AttentionXGradient {
            probabilities,
            value: Columns {
                tensor: memory,
                offset: width,
            },
            doutput,
            positions,
            map,
        });
        case.updated(case.input_of(map));
        // The additions round partial sums of up to sqrt(n)/3 by half an eps
        // at most, a random walk of 0.07 · n eps: a fourfold of it stays below
        // 4 · sqrt(n) eps up to n = 200. Products and the last one add 1.
        let tolerance = Tolerance {
            k: 5.0,
            n: depth,
            scale: 1.0,
        };
        let name = format!("attention_x_gradient {count} of {tokens}, {heads}x{depth}, {frames}");
        let all: Vec<_> = (0..tokens)
            .step_by(count)
            .map(|first| at(FIRST_TOKEN, first))
            .collect();
        case.compare(&name, &all, &[tolerance]);
        case.compare(&name, &all[all.len() - 1..], &[tolerance]);
    }
}

/// Model folders whose values `tools/attention_x_gradient_fixture.py` stored,
/// and how far f64 may be from them. The engine keeps a model's constants
/// (position tables, sqrt(D), 1/sqrt(D/H), folded norms) in f32, which is
/// 1e-6 as in `tests/models/validate.rs`; `whisper` has none that f32 rounds.
const FOLDERS: [(&str, f64); 6] = [
    ("conformer", 1e-6),
    ("conformer_fama", 1e-6),
    ("speech_to_text", 1e-6),
    ("speech_to_text_odd", 1e-6),
    ("whisper", 1e-10),
    ("whisper_odd", 1e-6),
];

fn fixtures(path: &str) -> Vec<u8> {
    fs::read(Path::new("tests/fixtures").join(path)).unwrap()
}

/// The model of a folder, with what its reference explains.
struct Subject {
    model: Model,
    features: Features,
    ids: Vec<u32>,
    labels: Vec<u32>,
}

impl Subject {
    fn new(folder: &str) -> Self {
        let path = Path::new("tests/fixtures").join(folder);
        let model = Model::load(ModelFiles::folder(path).unwrap()).unwrap();
        let bytes = fixtures(&format!("{folder}/reference.safetensors"));
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let view = tensors.tensor("features").unwrap();
        let (values, _) = view.data().as_chunks::<4>();
        let data = values.iter().map(|&x| f32::from_le_bytes(x)).collect();
        let features = Features::new(data, view.shape()[0], view.shape()[1]).unwrap();
        let list = |name: &str| -> Vec<u32> {
            let view = tensors.tensor(name).unwrap();
            let (values, _) = view.data().as_chunks::<8>();
            values
                .iter()
                .map(|&x| i64::from_le_bytes(x) as u32)
                .collect()
        };
        Self {
            ids: list("decoder_input_ids"),
            labels: list("labels"),
            model,
            features,
        }
    }

    /// The map of all layers, and those of `specs` from the same pass.
    fn maps(
        &self,
        executor: &mut dyn Executor,
        features: &Features,
        specs: &[MapSpec],
        memory: usize,
    ) -> Vec<PersistentId> {
        let positions: Vec<u32> = (0..self.ids.len() as u32).collect();
        let utterance = Utterance::upload(
            executor,
            &self.model,
            features,
            &self.ids,
            &positions,
            &self.labels,
        )
        .unwrap();
        let wanted = Gradients {
            maps: specs.to_vec(),
            attention: true,
        };
        let pass = forward_and_reverse(
            executor,
            &self.model,
            &utterance,
            &wanted,
            None,
            memory,
            &mut |_| true,
        )
        .unwrap();
        assert_eq!(
            pass.attention_x_gradient.len(),
            self.model.decoder.config.layers
        );
        let maps = pass.maps.iter().map(|map| map.id);
        pass.attention_x_gradient.into_iter().chain(maps).collect()
    }

    /// The map of all layers, and those of `specs`, natively in f64.
    fn exact(&self, features: &Features, specs: &[MapSpec], memory: usize) -> Vec<f64> {
        let mut executor = NativeExecutor::<f64>::new(&self.model.weights, false);
        let ids = self.maps(&mut executor, features, specs, memory);
        ids.iter()
            .flat_map(|&id| executor.read_real(id).to_vec())
            .collect()
    }
}

/// By autograd, (L, H, K, T').
fn reference(folder: &str) -> Vec<f64> {
    let bytes = fixtures("attention_x_gradient.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(folder).unwrap();
    let (values, _) = view.data().as_chunks::<8>();
    values.iter().map(|&x| f64::from_le_bytes(x)).collect()
}

/// ||got - want|| / ||want||
fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let off = square(&mut got.iter().zip(want).map(|(got, want)| got - want));
    (off / square(&mut want.iter().copied())).sqrt()
}

#[test]
fn autograd_gives_the_same() {
    for (folder, bound) in FOLDERS {
        let (subject, want) = (Subject::new(folder), reference(folder));
        let features = &subject.features;
        let exact = relative_error(&subject.exact(features, &[], 1 << 30), &want);
        let mut fast = NativeExecutor::<f32>::new(&subject.model.weights, false);
        let ids = subject.maps(&mut fast, features, &[], 1 << 30);
        let got: Vec<f64> = ids
            .iter()
            .flat_map(|&id| {
                fast.read_real(id)
                    .iter()
                    .map(|&x| x.into())
                    .collect::<Vec<_>>()
            })
            .collect();
        let fast = relative_error(&got, &want);
        println!("{folder}: f64 {exact:.1e}, f32 {fast:.1e}");
        assert!(exact <= bound, "{folder}: {exact:e}");
        assert!(fast <= 2e-5, "{folder}: {fast:e}");
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn autograd_and_a_gpu_give_the_same() {
    let device = Arc::new(open_for_tests());
    for (folder, _) in FOLDERS {
        let (subject, want) = (Subject::new(folder), reference(folder));
        let weights = &subject.model.weights;
        // All tokens at once, then one at a time.
        for (memory, shaders) in [(1 << 30, Checked), (1 << 30, Trusted), (1, Trusted)] {
            let options = GpuOptions {
                shaders,
                ..GpuOptions::default()
            };
            let mut executor = GpuExecutor::new(Arc::clone(&device), weights, &options).unwrap();
            let ids = subject.maps(&mut executor, &subject.features, &[], memory);
            let got = executor.read(&ids, MAPS).unwrap().concat();
            let got: Vec<f64> = got.iter().map(|&x| x.into()).collect();
            let error = relative_error(&got, &want);
            println!("{folder}, {shaders:?}, {memory} bytes: {error:.1e}");
            assert!(error <= 2e-5, "{folder}: {error:e}");
        }
    }
}

/// Few tokens at a time, and other maps from the same pass, change nothing.
#[test]
fn it_shares_the_pass_and_the_memory() {
    let specs = [Site::Input, Site::Encoder].map(|site| MapSpec {
        site,
        times_input: site == Site::Input,
        reduction: Reduction::Sum,
    });
    for folder in ["conformer", "whisper_odd"] {
        let subject = Subject::new(folder);
        let features = &subject.features;
        let want = subject.exact(features, &[], 1 << 30);
        let plain = {
            let mut executor = NativeExecutor::<f64>::new(&subject.model.weights, false);
            let ids = subject.maps(&mut executor, features, &specs, 1 << 30);
            let maps = &ids[ids.len() - specs.len()..];
            let maps = maps.iter().flat_map(|&id| executor.read_real(id).to_vec());
            maps.collect::<Vec<f64>>()
        };
        for (specs, memory) in [(&[][..], 1), (&specs[..], 1 << 30), (&specs[..], 1)] {
            let got = subject.exact(features, specs, memory);
            let (own, maps) = got.split_at(want.len());
            let error = relative_error(own, &want);
            println!(
                "{folder}, {} maps, {memory} bytes: {error:.1e}",
                specs.len()
            );
            assert!(error <= 1e-13, "{error:e}");
            if !specs.is_empty() {
                assert!(relative_error(maps, &plain) <= 1e-13);
            }
        }
    }
}

/// What fills a window behind the sound is attended to, but no part of the
/// map.
#[test]
fn the_map_of_a_sound_is_its_part_of_the_whole_windows() {
    let subject = Subject::new("whisper_odd");
    let (sound, frames) = (49, 25);
    let window = subject
        .model
        .encoder
        .encoder_frames(subject.features.frames);
    let whole = subject.exact(&subject.features, &[], 1 << 30);
    let want = whole.chunks(window).flat_map(|row| row[..frames].to_vec());
    let part = subject.features.clone().with_sound_frames(sound);
    for memory in [1 << 30, 1] {
        let got = subject.exact(&part, &[], memory);
        let error = relative_error(&got, &want.clone().collect::<Vec<_>>());
        println!("{memory} bytes: {error:.1e}");
        assert!(error <= 1e-13, "{error:e}");
    }
}
