//! Every operator, forward and reverse, as a recording of its own at the sizes
//! it has in the shipped model: T' 82, D 144, 4 heads, 24 explained tokens.

use std::sync::Arc;

use sonograd::engine::executor::Executor;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Columns, Kind, PersistentId, Shape, TensorId};
use sonograd::engine::weights::WeightTable;
use sonograd::ops::*;

const FRAMES: usize = 82;
const WIDTH: usize = 144;
const HEADS: usize = 4;
const TOKENS: usize = 24;
const VOCABULARY: usize = 256;

/// What a plane of 80 bins is halved to first, and the windows that halve it.
const PLANE: Plane = Plane {
    frames: 4 * FRAMES,
    bins: 40,
};
const HALVING: Windows = Windows::padded(3, 2, 1);

/// A recording of one operator, and the persistent tensors it works on.
pub struct Bench<'a> {
    pub executor: &'a mut dyn Executor,
    pub recording: Recording,
    pub owned: Vec<PersistentId>,
    /// Those of `owned` that the operator writes.
    pub results: Vec<PersistentId>,
    pub bytes: u64,
}

impl Bench<'_> {
    pub fn new(executor: &mut dyn Executor) -> Bench<'_> {
        Bench {
            executor,
            recording: Recording::new(Arc::new(WeightTable::default())),
            owned: Vec::new(),
            results: Vec::new(),
            bytes: 0,
        }
    }

    fn allocate(&mut self, kind: Kind, shape: Shape) -> PersistentId {
        let id = self.executor.allocate(kind, shape).unwrap();
        self.owned.push(id);
        self.bytes += 4 * shape.len() as u64;
        id
    }

    fn input(&mut self, lead: usize, rows: usize, cols: usize) -> TensorId {
        let shape = Shape::new(lead, rows, cols);
        let id = self.allocate(Kind::Real, shape);
        self.executor.upload(id, &numbers(shape.len())).unwrap();
        self.recording.persistent(id, Kind::Real, shape)
    }

    fn indices(&mut self, lead: usize, rows: usize, below: u32) -> TensorId {
        let shape = Shape::new(lead, rows, 1);
        let values: Vec<u32> = (0..shape.len() as u32).map(|i| i % below).collect();
        self.table(shape, &values)
    }

    fn table(&mut self, shape: Shape, values: &[u32]) -> TensorId {
        let id = self.allocate(Kind::Index, shape);
        self.executor.upload_indices(id, values).unwrap();
        self.recording.persistent(id, Kind::Index, shape)
    }

    /// A persistent tensor that the operator writes.
    fn target(&mut self, lead: usize, rows: usize, cols: usize) -> TensorId {
        let shape = Shape::new(lead, rows, cols);
        let id = self.allocate(Kind::Real, shape);
        self.results.push(id);
        self.recording.persistent(id, Kind::Real, shape)
    }

    /// Keeps a computed tensor, so that it is not left out.
    fn keep(&mut self, tensor: TensorId) {
        let shape = self.recording.shape(tensor);
        let id = self.allocate(Kind::Real, shape);
        self.results.push(id);
        self.recording.keep(tensor, id);
    }

    fn output(&mut self, lead: usize, rows: usize, cols: usize) -> TensorId {
        let tensor = self.recording.computed(Shape::new(lead, rows, cols));
        self.keep(tensor);
        tensor
    }
}

/// Numbers between -1 and 1 without a pattern that matters.
pub fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// How an operator is recorded; returns its floating-point operations, or 0
/// where bytes are what counts.
pub type Build = fn(&mut Bench) -> u64;

pub const OPERATORS: &[(&str, Build)] = &[
    ("matmul/forward", |b| matmul(b, Layout::OutIn)),
    ("matmul/reverse", |b| matmul(b, Layout::InOut)),
    ("attention/plain", |b| {
        attention(b, Mask::None, false, false)
    }),
    ("attention/causal", |b| {
        attention(b, Mask::Causal, false, false)
    }),
    ("attention/near", |b| {
        let near = Mask::Near {
            before: 15,
            behind: 3,
        };
        attention(b, near, false, false)
    }),
    ("attention/relative", |b| {
        attention(b, Mask::None, true, false)
    }),
    ("attention/relative/reverse", |b| {
        attention(b, Mask::None, true, true)
    }),
    ("attention_x_gradient", |b| {
        let (probabilities, memory) = (
            b.input(1, HEADS * TOKENS, FRAMES),
            b.input(1, FRAMES, 2 * WIDTH),
        );
        let doutput = b.input(TOKENS, TOKENS, WIDTH);
        let positions = b.indices(1, TOKENS, TOKENS as u32);
        let map = b.target(HEADS, TOKENS, FRAMES);
        b.recording.push(AttentionXGradient {
            probabilities,
            value: Columns {
                tensor: memory,
                offset: WIDTH,
            },
            doutput,
            positions,
            map,
        });
        (2 * TOKENS * FRAMES * WIDTH) as u64
    }),
    ("activation_reverse", |b| {
        let dy = b.input(TOKENS, FRAMES, 4 * WIDTH);
        let pre = b.input(1, FRAMES, 4 * WIDTH);
        let dx = b.output(TOKENS, FRAMES, 4 * WIDTH);
        let activation = Activation::Silu;
        let scale = 0.5;
        b.recording.push(ActivationReverse {
            dy,
            pre,
            activation,
            scale,
            dx,
        });
        0
    }),
    ("glu/forward", |b| {
        let x = b.input(TOKENS, FRAMES, 2 * WIDTH);
        let y = b.recording.glu(x, Gate::Sigmoid, 1.0).unwrap();
        b.keep(y);
        0
    }),
    ("glu/reverse", |b| {
        let dy = b.input(TOKENS, FRAMES, WIDTH);
        let x = b.input(1, FRAMES, 2 * WIDTH);
        let dx = b.output(TOKENS, FRAMES, 2 * WIDTH);
        b.recording.push(GluReverse {
            dy,
            x,
            gate: Gate::Sigmoid,
            scale: 1.0,
            dx,
        });
        0
    }),
    ("layer_norm/forward", |b| {
        let x = b.input(TOKENS, FRAMES, WIDTH);
        let (weight, bias) = (b.input(1, 1, WIDTH), b.input(1, 1, WIDTH));
        let y = b.recording.layer_norm(x, weight, bias, 1e-5).unwrap();
        b.keep(y);
        0
    }),
    ("layer_norm/reverse", |b| {
        let dy = b.input(TOKENS, FRAMES, WIDTH);
        let x = b.input(1, FRAMES, WIDTH);
        let weight = b.input(1, 1, WIDTH);
        let plus = Some(b.input(TOKENS, FRAMES, WIDTH));
        let dx = b.output(TOKENS, FRAMES, WIDTH);
        b.recording.push(LayerNormReverse {
            dy,
            x,
            weight,
            eps: 1e-5,
            plus,
            dx,
        });
        0
    }),
    ("group_norm/forward", |b| {
        let x = b.input(TOKENS, FRAMES, WIDTH);
        let (weight, bias) = (b.input(1, 1, WIDTH), b.input(1, 1, WIDTH));
        let y = b.recording.group_norm(x, weight, bias, 1e-5).unwrap();
        b.keep(y);
        0
    }),
    ("group_norm/reverse", |b| {
        let dy = b.input(TOKENS, FRAMES, WIDTH);
        let x = b.input(1, FRAMES, WIDTH);
        let weight = b.input(1, 1, WIDTH);
        let statistics = b.input(1, 1, 2);
        let dx = b.output(TOKENS, FRAMES, WIDTH);
        let sums = b.recording.computed(Shape::new(TOKENS, FRAMES, 2));
        b.recording.push(GroupNormSums {
            dy,
            x,
            statistics,
            weight,
            sums,
        });
        let means = b.recording.computed(Shape::new(TOKENS, 1, 2));
        let cols = WIDTH;
        b.recording.push(GroupMeans { sums, cols, means });
        b.recording.push(GroupNormReverse {
            dy,
            x,
            statistics,
            weight,
            means,
            dx,
        });
        0
    }),
    ("asinh", |b| {
        let x = b.input(TOKENS, FRAMES, 80);
        let y = b.recording.asinh(x, 0.75);
        b.keep(y);
        0
    }),
    ("unfold", |b| {
        let x = b.input(TOKENS, 80 * FRAMES, 1);
        let windows = Windows::padded(80, 80, 0);
        let y = b.recording.unfold(x, windows).unwrap();
        b.keep(y);
        0
    }),
    ("rotary", |b| {
        let x = b.input(TOKENS, FRAMES, 3 * WIDTH);
        let depth = WIDTH / HEADS;
        let angles = b.input(1, FRAMES, depth - 4);
        let sizes = [depth, 2 * WIDTH];
        let y = b.recording.rotary(x, angles, sizes, false).unwrap();
        b.keep(y);
        0
    }),
    ("depthwise/forward", |b| {
        let x = b.input(TOKENS, FRAMES, WIDTH);
        let (weight, bias) = (b.input(1, 15, WIDTH), b.input(1, 1, WIDTH));
        let y = b
            .recording
            .depthwise(x, weight, bias, Activation::Silu)
            .unwrap();
        b.keep(y);
        0
    }),
    ("depthwise/reverse", |b| {
        let dz = b.input(TOKENS, FRAMES, WIDTH);
        let weight = b.input(1, 15, WIDTH);
        let dx = b.output(TOKENS, FRAMES, WIDTH);
        b.recording.push(DepthwiseReverse { dz, weight, dx });
        0
    }),
    ("convolution_2d/forward", |b| {
        let x = b.input(TOKENS, 8 * FRAMES, 80);
        let (weight, bias) = (b.input(1, 9, WIDTH), b.input(1, 1, WIDTH));
        let relu = Activation::Relu;
        let y = b
            .recording
            .convolution_2d(x, weight, bias, HALVING, relu)
            .unwrap();
        b.keep(y.0);
        (TOKENS * 4 * FRAMES * 40 * WIDTH * 18) as u64
    }),
    ("depthwise_2d/forward", |b| {
        let x = b.input(TOKENS, PLANE.rows(), WIDTH);
        let (weight, bias) = (b.input(1, 9, WIDTH), b.input(1, 1, WIDTH));
        let y = b
            .recording
            .depthwise_2d((x, PLANE), weight, bias, HALVING)
            .unwrap();
        b.keep(y.0);
        (TOKENS * 2 * FRAMES * 20 * WIDTH * 18) as u64
    }),
    ("depthwise_2d/reverse", |b| {
        let dy = b.input(TOKENS, 2 * FRAMES * 20, WIDTH);
        let weight = b.input(1, 9, WIDTH);
        let dx = b.output(TOKENS, PLANE.rows(), WIDTH);
        b.recording.push(Depthwise2dReverse {
            dy,
            weight,
            windows: HALVING,
            plane: PLANE,
            dx,
        });
        (TOKENS * 2 * FRAMES * 20 * WIDTH * 18) as u64
    }),
    ("fold_2d", |b| {
        let dy = b.input(TOKENS, PLANE.rows(), 9);
        let dx = b.output(TOKENS, 8 * FRAMES, 80);
        let windows = HALVING;
        b.recording.push(Fold2d { dy, windows, dx });
        0
    }),
    ("fold", |b| {
        let dy = b.input(TOKENS, 2 * FRAMES, 5 * 80);
        let dx = b.output(TOKENS, 4 * FRAMES, 80);
        let windows = Windows::padded(5, 2, 2);
        b.recording.push(Fold { dy, windows, dx });
        0
    }),
    ("embedding", |b| {
        let ids = b.indices(TOKENS, TOKENS, VOCABULARY as u32);
        let table = b.input(1, VOCABULARY, WIDTH);
        let positions = b.input(1, TOKENS, WIDTH);
        let y = b
            .recording
            .embedding(ids, table, 12.0, positions, false)
            .unwrap();
        b.keep(y);
        0
    }),
    ("log_softmax", |b| {
        let x = b.input(TOKENS, TOKENS, VOCABULARY);
        let y = b.recording.log_softmax(x);
        b.keep(y);
        0
    }),
    ("token_log_prob", |b| {
        let logits = b.input(TOKENS, TOKENS, VOCABULARY);
        let positions = b.indices(1, TOKENS, TOKENS as u32);
        let labels = b.indices(1, TOKENS, VOCABULARY as u32);
        let y = b.output(TOKENS, TOKENS, 1);
        b.recording.push(TokenLogProb {
            logits,
            positions,
            labels,
            y,
        });
        0
    }),
    ("token_seed", |b| {
        let logits = b.input(1, TOKENS, VOCABULARY);
        let positions = b.indices(1, TOKENS, TOKENS as u32);
        let labels = b.indices(1, TOKENS, VOCABULARY as u32);
        let dlogits = b.output(TOKENS, 1, VOCABULARY);
        b.recording.push(TokenSeed {
            logits,
            positions,
            labels,
            dlogits,
        });
        0
    }),
    ("scatter_rows", |b| {
        let x = b.input(TOKENS, 1, WIDTH);
        let positions = b.indices(1, TOKENS, TOKENS as u32);
        let y = b.output(TOKENS, TOKENS, WIDTH);
        b.recording.push(ScatterRows {
            x,
            positions,
            batch: 1,
            y,
        });
        0
    }),
    ("take_rows", |b| {
        let x = b.input(TOKENS, FRAMES, WIDTH);
        let y = b.output(TOKENS, FRAMES / 2, WIDTH);
        b.recording.push(TakeRows { x, first: 3, y });
        0
    }),
    ("join_rows", |b| {
        let (top, bottom) = (b.input(TOKENS, FRAMES, WIDTH), b.input(1, FRAMES, WIDTH));
        let y = b.output(TOKENS, 2 * FRAMES, WIDTH);
        b.recording.push(JoinRows { top, bottom, y });
        0
    }),
    ("sum_batch", |b| {
        let x = b.input(TOKENS * 4, FRAMES, WIDTH);
        let y = b.output(TOKENS, FRAMES, WIDTH);
        b.recording.push(SumBatch { x, batch: 4, y });
        0
    }),
    ("add", |b| {
        let x = b.input(TOKENS, FRAMES, WIDTH);
        let z = b.input(1, FRAMES, WIDTH);
        let y = b.output(TOKENS, FRAMES, WIDTH);
        b.recording.push(Add {
            a: x,
            b: z,
            scale_a: 1.0,
            scale_b: 0.5,
            y,
        });
        0
    }),
    ("baseline", |b| {
        let x = b.input(1, 4 * FRAMES, 80);
        let y = b.output(1, 4 * FRAMES, 80);
        b.recording.push(Baseline {
            x,
            kind: BaselineKind::Mean,
            y,
        });
        0
    }),
    ("blend", |b| {
        let (x, baseline) = (b.input(1, 4 * FRAMES, 80), b.input(1, 4 * FRAMES, 80));
        let fractions = b.input(1, 32, 1);
        let y = b.output(32, 4 * FRAMES, 80);
        b.recording.push(Blend {
            x,
            baseline,
            fractions,
            y,
        });
        0
    }),
    ("add_noise", |b| {
        let (x, spread) = (b.input(1, 4 * FRAMES, 80), b.input(1, 1, 1));
        let y = b.output(32, 4 * FRAMES, 80);
        b.recording.push(AddNoise {
            x,
            spread,
            seed: 1,
            stream: 0,
            y,
        });
        0
    }),
    ("spread", |b| {
        let x = b.input(1, 4 * FRAMES, 80);
        let y = b.output(1, 1, 1);
        b.recording.push(Spread {
            x,
            fraction: 0.1,
            y,
        });
        0
    }),
    ("accumulate", |b| {
        let x = b.input(TOKENS * 4, 4 * FRAMES, 80);
        let weights = b.input(1, 32, 1);
        let sum = b.target(TOKENS, 4 * FRAMES, 80);
        b.recording.push(Accumulate {
            x,
            batch: 4,
            weights,
            sum,
        });
        0
    }),
    ("reduce", |b| {
        let gradient = b.input(TOKENS, FRAMES, WIDTH);
        let map = b.target(TOKENS, FRAMES, 1);
        let reduction = Reduction::L2;
        b.recording.push(Reduce {
            gradient,
            contrast: None,
            reduction,
            map,
        });
        0
    }),
    ("cache_append", |b| {
        let x = b.input(5, 1, 3 * WIDTH);
        let cache = b.target(5, 64, 2 * WIDTH);
        let x = Columns {
            tensor: x,
            offset: WIDTH,
        };
        b.recording.push(CacheAppend { x, cache });
        0
    }),
    ("cached_attention", |b| {
        let query = b.input(5, 1, 3 * WIDTH).into();
        let cache = b.input(5, 64, 2 * WIDTH);
        let ancestry = b.indices(5, 64, 5);
        let output = b.output(5, 1, WIDTH);
        let (heads, width, scale) = (HEADS, WIDTH, 1.0 / 6.0);
        b.recording.push(CachedAttention {
            query,
            cache,
            ancestry,
            heads,
            width,
            scale,
            output,
        });
        0
    }),
    ("candidates", |b| {
        let log_probabilities = b.input(5, 1, VOCABULARY);
        let allowed = b.input(1, 1, VOCABULARY);
        let banned = b.indices(5, 64, u32::MAX);
        let none = [0, NO_TOKEN, 0, NO_TOKEN, NO_TOKEN];
        let ranges = b.table(Shape::new(5, 1, 5), &none.repeat(5));
        let chosen = b.target(5, 10, 3);
        b.recording.push(Candidates {
            log_probabilities,
            allowed,
            banned,
            ranges,
            times: false,
            count: 10,
            with_left: false,
            draw: None,
            chosen,
        });
        0
    }),
];

fn matmul(b: &mut Bench, layout: Layout) -> u64 {
    let (inputs, outputs) = (WIDTH, 4 * WIDTH);
    let x = b.input(TOKENS, FRAMES, inputs);
    let weight = match layout {
        Layout::OutIn => b.input(1, outputs, inputs),
        Layout::InOut => b.input(1, inputs, outputs),
    };
    let y = b
        .recording
        .matmul(x, weight)
        .layout(layout)
        .record()
        .unwrap();
    b.keep(y);
    (2 * TOKENS * FRAMES * inputs * outputs) as u64
}

fn attention(b: &mut Bench, mask: Mask, relative: bool, reverse: bool) -> u64 {
    let lead = if reverse { 1 } else { TOKENS };
    let projections = b.input(lead, FRAMES, 3 * WIDTH);
    let part = |offset| Columns {
        tensor: projections,
        offset,
    };
    let relative = relative.then(|| Relative {
        positions: b.input(1, FRAMES, WIDTH),
        biases: b.input(1, 2, WIDTH),
    });
    let forward = Attention {
        query: part(0),
        key: part(WIDTH),
        value: part(2 * WIDTH),
        heads: HEADS,
        width: WIDTH,
        scale: 1.0 / 6.0,
        mask,
        relative,
        output: b.output(lead, FRAMES, WIDTH),
        statistics: if reverse {
            b.input(lead, HEADS * FRAMES, 2)
        } else {
            b.recording.computed(Shape::new(lead, HEADS * FRAMES, 2))
        },
        probabilities: b
            .recording
            .computed(Shape::new(lead, HEADS * FRAMES, FRAMES)),
    };
    let product = (2 * TOKENS * FRAMES * FRAMES * WIDTH) as u64;
    if !reverse {
        b.recording.push(forward);
        return product * if relative.is_some() { 3 } else { 2 };
    }
    let doutput = b.input(TOKENS, FRAMES, WIDTH);
    let result = b.output(TOKENS, FRAMES, 3 * WIDTH);
    let part = |offset| Columns {
        tensor: result,
        offset,
    };
    let terms = b.recording.computed(Shape::new(TOKENS, HEADS * FRAMES, 2));
    b.recording.push(AttentionTerms {
        forward: forward.clone(),
        doutput,
        terms,
    });
    b.recording.push(AttentionReverse {
        forward,
        doutput,
        terms,
        dquery: Some(part(0)),
        dkey_value: Some((part(WIDTH), part(2 * WIDTH))),
    });
    // dV, dP, dK, dQ and the positions' share of dQ.
    product * 5
}
