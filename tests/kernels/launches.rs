//! What operators ask of the GPU, held against the shaders' own declarations.
//! Needs no GPU.

use std::collections::BTreeSet;
use std::sync::Arc;

use sonograd::engine::gpu::extras::Extras;
use sonograd::engine::gpu::launch::{Binding, Extent, Launch};
use sonograd::engine::gpu::shaders::{
    BindingKind, MAX_WORKGROUPS_PER_DIMENSION, SOURCES, ScalarType, Shader,
};
use sonograd::engine::gpu::units::MatrixUnits;
use sonograd::engine::gpu::variants::{Choice, Variant};
use sonograd::engine::recording::Recording;
use sonograd::engine::reverse::{Seed, reverse};
use sonograd::engine::schedule::Schedule;
use sonograd::engine::tensor::{Columns, Kind, PersistentId, Shape, TensorId};
use sonograd::engine::weights::WeightTable;
use sonograd::ops::{
    Accumulate, AccumulateScores, Activation, Add, AddNoise, AttentionSpec, AttentionXGradient,
    Baseline, BaselineKind, Blend, CacheAppend, CachedAttention, Candidates, Contrast, Correlate,
    ExpandScores, Gate, Half, KlDivergence, Mask, MaskSource, Operator, PoolMax, Reduce, Reduction,
    Relative, Spread, TokenLogProb, Windows,
};

/// A recording whose tensors are persistent, numbered as they are asked for.
struct Draft {
    recording: Recording,
    next: u32,
}

impl Draft {
    fn new() -> Self {
        Self {
            recording: Recording::new(Arc::new(WeightTable::default())),
            next: 0,
        }
    }

    fn persistent(&mut self, kind: Kind, shape: Shape) -> TensorId {
        self.next += 1;
        let id = PersistentId(self.next);
        self.recording.persistent(id, kind, shape)
    }

    fn real(&mut self, lead: usize, rows: usize, cols: usize) -> TensorId {
        self.persistent(Kind::Real, Shape::new(lead, rows, cols))
    }

    fn indices(&mut self, lead: usize, rows: usize) -> TensorId {
        self.persistent(Kind::Index, Shape::new(lead, rows, 1))
    }

    fn keep(&mut self, tensor: TensorId) {
        self.next += 1;
        self.recording.keep(tensor, PersistentId(self.next));
    }

    fn computed(&mut self, lead: usize, rows: usize, cols: usize) -> TensorId {
        self.recording.computed(Shape::new(lead, rows, cols))
    }
}

/// Every operator between a sound and its maps, forward and reverse.
fn explaining() -> Recording {
    let mut draft = Draft::new();
    let (batch, frames, bins, width, vocabulary, count) = (3, 9, 4, 8, 11, 2);
    let sound = draft.real(1, frames, bins);

    // Variants of the sound.
    let baselines = [BaselineKind::Zero, BaselineKind::Mean, BaselineKind::Min].map(|kind| {
        let y = draft.computed(1, frames, bins);
        draft.recording.push(Baseline { x: sound, kind, y });
        y
    });
    let fractions = draft.real(1, 5, 1);
    let path = draft.computed(batch, frames, bins);
    draft.recording.push(Blend {
        x: sound,
        baseline: baselines[1],
        fractions,
        y: path,
    });
    let spread = draft.computed(1, 1, 1);
    draft.recording.push(Spread {
        x: sound,
        fraction: 0.15,
        y: spread,
    });
    let noisy = draft.computed(batch, frames, bins);
    draft.recording.push(AddNoise {
        x: sound,
        spread,
        seed: 1 << 40,
        stream: 1,
        y: noisy,
    });
    let source = draft.computed(batch, frames, bins);
    draft.recording.push(Add {
        a: path,
        b: noisy,
        scale_a: 0.5,
        scale_b: 0.5,
        y: source,
    });

    // An encoder, which looks at the sound's plane first.
    let windows = Windows::padded(3, 2, 1);
    let (weight, bias) = (draft.real(1, 9, width), draft.real(1, 1, width));
    let activation = Activation::Relu;
    let looked = draft
        .recording
        .convolution_2d(source, weight, bias, windows, activation)
        .unwrap();
    let (weight, bias) = (draft.real(1, 9, width), draft.real(1, 1, width));
    let looked = draft
        .recording
        .depthwise_2d(looked, weight, bias, windows)
        .unwrap();
    let weight = draft.real(1, 2 * width, 3 * width);
    let gates = draft.recording.matmul(looked.0, weight);
    let gates = gates.windows(windows).record().unwrap();
    let x = draft.recording.glu(gates, Gate::Sigmoid, 1.5).unwrap();
    let (weight, bias) = (draft.real(1, 5, width), draft.real(1, 1, width));
    let x = draft
        .recording
        .depthwise(x, weight, bias, Activation::Silu)
        .unwrap();
    let (gain, bias) = (draft.real(1, 1, width), draft.real(1, 1, width));
    let normed = draft.recording.layer_norm(x, gain, bias, 1e-5).unwrap();
    let weight = draft.real(1, 3 * width, width);
    let packed = draft.recording.matmul(normed, weight).record().unwrap();
    let part = |offset| Columns {
        tensor: packed,
        offset,
    };
    let encoder_frames = draft.recording.shape(x).rows;
    let positions = draft.real(1, encoder_frames, width);
    let biases = draft.real(1, 2, width);
    let spec = AttentionSpec {
        query: part(0),
        key: part(width),
        value: part(2 * width),
        heads: 2,
        width,
        scale: 0.5,
        mask: Mask::None,
        relative: Some(Relative { positions, biases }),
    };
    let (mixed, weights) = draft.recording.attention(spec).unwrap();
    draft.keep(weights);
    let weight = draft.real(1, width, width);
    let product = draft.recording.matmul(mixed, weight);
    let memory = product.residual(x).record().unwrap();

    // A decoder: only its memory depends on the variant.
    let (ids, table) = (draft.indices(1, 3), draft.real(1, vocabulary, width));
    let places = draft.real(1, 6, width);
    let tokens = draft.recording.embedding(ids, table, 2.0, places, false);
    let query = draft.real(batch, 3, width);
    let weight = draft.real(1, 2 * width, width);
    let memories = draft.recording.matmul(memory, weight).record().unwrap();
    let spec = AttentionSpec {
        query: query.into(),
        key: memories.into(),
        value: Columns {
            tensor: memories,
            offset: width,
        },
        relative: None,
        ..spec
    };
    let (mixed, _) = draft.recording.attention(spec).unwrap();
    let (weight, bias) = (draft.real(1, width, width), draft.real(1, 1, width));
    let product = draft.recording.matmul(mixed, weight).bias(bias);
    let product = product.activation(Activation::Gelu);
    let hidden = product.residual(tokens.unwrap()).record().unwrap();
    let weight = draft.real(1, vocabulary, width);
    let logits = draft.recording.matmul(hidden, weight).record().unwrap();

    // What is read of it.
    let all = draft.recording.log_softmax(logits);
    draft.keep(all);
    let (positions, labels) = (draft.indices(1, 5), draft.indices(1, 5));
    let chosen = draft.computed(batch, 5, 1);
    draft.recording.push(TokenLogProb {
        logits,
        positions,
        labels,
        y: chosen,
    });
    draft.keep(chosen);
    let seed = Seed {
        logits,
        positions,
        labels,
        count,
    };
    let gradients = reverse(&mut draft.recording, seed, &[source]).unwrap();
    // Attention without variants, in a window behind whose sound is more.
    let operator = AttentionXGradient {
        probabilities: draft.real(1, 2 * 3, encoder_frames + 2),
        value: Columns {
            tensor: draft.real(1, encoder_frames + 2, 2 * width),
            offset: width,
        },
        doutput: draft.real(count, 3, width),
        positions,
        map: draft.real(2, 5, encoder_frames),
    };
    draft.recording.push(operator);
    let (variants, sum) = (draft.real(1, 5, 1), draft.real(count, frames, bins));
    draft.recording.push(Accumulate {
        x: gradients[0],
        batch,
        weights: variants,
        sum,
    });
    let contrast = Contrast {
        x: sound,
        baseline: baselines[2],
    };
    for (reduction, contrast, cols) in [
        (Reduction::L2, None, 1),
        (Reduction::Sum, Some(contrast), 1),
        (Reduction::Max, None, 1),
        (Reduction::None, Some(contrast), bins),
    ] {
        let map = draft.real(5, frames, cols);
        draft.recording.push(Reduce {
            gradient: sum,
            contrast,
            reduction,
            map,
        });
    }
    // The baseline of zeros is used by nobody above.
    draft.keep(baselines[0]);
    draft.recording
}

/// The same network with a source that is broadcast over the batch.
fn broadcast() -> Recording {
    let mut draft = Draft::new();
    let (batch, rows, width) = (3, 4, 6);
    let source = draft.real(1, rows, width);
    let other = draft.real(batch, rows, width);
    let weight = draft.real(1, width, width);
    let product = draft.recording.matmul(other, weight).residual(source);
    let logits = product.record().unwrap();
    let (positions, labels) = (draft.indices(1, 2), draft.indices(1, 2));
    let seed = Seed {
        logits,
        positions,
        labels,
        count: 2,
    };
    let gradients = reverse(&mut draft.recording, seed, &[source]).unwrap();
    draft.keep(gradients[0]);
    draft.recording
}

/// An encoder of waveforms and its reverse: a norm of all frames, positions that turn
/// queries and keys, a gate by SiLU.
fn hearing_samples() -> Recording {
    let mut draft = Draft::new();
    let (batch, samples, width, heads) = (2, 23, 6, 2);
    let source = draft.real(batch, samples, 1);
    let weight = draft.real(1, width, 5);
    let windows = Windows::padded(5, 3, 0);
    let x = draft.recording.matmul(source, weight).windows(windows);
    let x = x.activation(Activation::Tanh).record().unwrap();
    let (gain, bias) = (draft.real(1, 1, width), draft.real(1, 1, width));
    let x = draft.recording.group_norm(x, gain, bias, 1e-5).unwrap();
    let weight = draft.real(1, 3 * width, width);
    let packed = draft.recording.matmul(x, weight).record().unwrap();
    let frames = draft.recording.shape(x).rows;
    let angles = draft.real(1, frames, 2);
    let sizes = [width / heads, 2 * width];
    let turned = draft.recording.rotary(packed, angles, sizes, false);
    let turned = turned.unwrap();
    let part = |offset| Columns {
        tensor: turned,
        offset,
    };
    let (mixed, _) = draft
        .recording
        .attention(AttentionSpec {
            query: part(0),
            key: part(width),
            value: part(2 * width),
            heads,
            width,
            scale: 0.5,
            mask: Mask::None,
            relative: None,
        })
        .unwrap();
    let weight = draft.real(1, 2 * width, width);
    let gates = draft.recording.matmul(mixed, weight).record().unwrap();
    let logits = draft.recording.glu(gates, Gate::Silu, 1.0).unwrap();
    let (positions, labels) = (draft.indices(1, 2), draft.indices(1, 2));
    let seed = Seed {
        logits,
        positions,
        labels,
        count: 2,
    };
    let gradients = reverse(&mut draft.recording, seed, &[source]).unwrap();
    draft.keep(gradients[0]);
    draft.recording
}

/// The same in frames that are compressed, whose queries hear what is near.
fn hearing_frames() -> Recording {
    let mut draft = Draft::new();
    let (batch, samples, frame, width) = (2, 93, 4, 6);
    let source = draft.real(batch, samples, 1);
    let frames = Windows::padded(frame, frame, 0);
    let x = draft.recording.unfold(source, frames).unwrap();
    let x = draft.recording.asinh(x, 0.75);
    let weight = draft.real(1, 3 * width, 5 * frame);
    let packed = draft.recording.matmul(x, weight);
    let packed = packed.windows(Windows::causal(5, 2, 1)).record().unwrap();
    let part = |offset| Columns {
        tensor: packed,
        offset,
    };
    let spec = AttentionSpec {
        query: part(0),
        key: part(width),
        value: part(2 * width),
        heads: 2,
        width,
        scale: 0.5,
        mask: Mask::Near {
            before: 3,
            behind: 1,
        },
        relative: None,
    };
    let (logits, _) = draft.recording.attention(spec).unwrap();
    let (positions, labels) = (draft.indices(1, 2), draft.indices(1, 2));
    let seed = Seed {
        logits,
        positions,
        labels,
        count: 2,
    };
    let gradients = reverse(&mut draft.recording, seed, &[source]).unwrap();
    draft.keep(gradients[0]);
    draft.recording
}

/// A decoding step.
fn generating() -> Recording {
    let mut draft = Draft::new();
    let (beams, capacity, width, vocabulary) = (4, 64, 8, 11);
    let (ids, table) = (draft.indices(beams, 1), draft.real(1, vocabulary, width));
    let places = draft.real(1, capacity, width);
    let x = draft.recording.embedding(ids, table, 1.0, places, true);
    let x = x.unwrap();
    let weight = draft.real(1, 3 * width, width);
    let packed = draft.recording.matmul(x, weight).record().unwrap();
    let cache = draft.real(beams, capacity, 2 * width);
    let ancestry = draft.indices(beams, capacity);
    draft.recording.push(CacheAppend {
        x: Columns {
            tensor: packed,
            offset: width,
        },
        cache,
    });
    let output = draft.computed(beams, 1, width);
    draft.recording.push(CachedAttention {
        query: packed.into(),
        cache,
        ancestry,
        heads: 2,
        width,
        scale: 0.5,
        output,
    });
    let weight = draft.real(1, vocabulary, width);
    let logits = draft.recording.matmul(output, weight).record().unwrap();
    let log_probabilities = draft.recording.log_softmax(logits);
    let (allowed, banned) = (draft.real(1, 1, vocabulary), draft.indices(beams, 2));
    let ranges = draft.persistent(Kind::Index, Shape::new(beams, 1, 5));
    let chosen = draft.real(beams, 5, 3);
    draft.recording.push(Candidates {
        log_probabilities,
        allowed,
        banned,
        ranges,
        times: true,
        count: 5,
        with_left: true,
        draw: None,
        chosen,
    });
    draft.recording
}

/// Products of all sizes that have tiles of their own.
fn products() -> Recording {
    let mut draft = Draft::new();
    for (rows, outputs) in [(1, 48), (600, 600), (1200, 1200)] {
        let (x, weight) = (draft.real(1, rows, 8), draft.real(1, outputs, 8));
        let product = draft.recording.matmul(x, weight);
        let y = product.activation(Activation::Gelu).record().unwrap();
        draft.keep(y);
    }
    draft.recording
}

/// Masks, drawn and given, and what is made of their scores.
fn occluding() -> Recording {
    let mut draft = Draft::new();
    let (batch, groups, segments, tokens, frames, bins) = (6, 3, 70, 5, 9, 4);
    let (sound, one_row) = (draft.real(1, frames, bins), draft.real(1, 1, bins));
    let elements = draft.persistent(Kind::Index, Shape::new(groups, frames, bins));
    let rows = draft.indices(groups, frames);
    let bits = draft.persistent(Kind::Index, Shape::new(1, 40, 3));
    let positions = draft.indices(1, tokens);
    for (source, labels, fill) in [
        (MaskSource::random(1 << 40, 2, 0.4), elements, sound),
        (MaskSource::Given { bits }, rows, one_row),
    ] {
        let recording = &mut draft.recording;
        let masked = recording.apply_mask(sound, labels, segments, source, fill, batch);
        // A window of a fixed length is filled up and cut again.
        let filled = recording.join_rows(masked, one_row).unwrap();
        let masked = recording.take_rows(filled, 0, frames).unwrap();
        let weight = draft.real(1, 11, bins);
        let logits = draft.recording.matmul(masked, weight).record().unwrap();
        let reference = draft.recording.log_softmax(logits);
        draft.recording.next_stage();
        let scores = draft.computed(batch, tokens, 1);
        draft.recording.push(KlDivergence {
            reference,
            logits,
            positions,
            y: scores,
        });
        let sums = draft.real(2 * groups, segments, tokens + 1);
        let clamped = draft.real(1, tokens, 1);
        draft.recording.push(AccumulateScores {
            scores,
            source,
            groups,
            sums,
            clamped,
        });
        for causal in [None, Some(positions)] {
            let halves = [Half::First, Half::Second, Half::Both].map(|half| {
                let map = draft.computed(tokens, frames, bins);
                draft.recording.push(ExpandScores {
                    sums,
                    labels: elements,
                    half,
                    causal,
                    map,
                });
                map
            });
            let pooled = draft.real(tokens, 4, 1);
            draft.recording.push(PoolMax {
                x: halves[2],
                y: pooled,
            });
            let [a, b, _] = halves;
            let y = draft.real(tokens, 1, 2);
            draft.recording.push(Correlate { a, b, causal, y });
        }
    }
    draft.recording
}

/// Devices that have everything, with matrix units of either size.
fn equipped() -> [Extras; 2] {
    [8, 16].map(|side| Extras::with_units(MatrixUnits { side, subgroups: 4 }))
}

/// Operators whose variants are compared before those that need extras are
/// used.
fn tried() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for trial in Operator::trials() {
        let mut recording = Recording::new(Arc::new(WeightTable::default()));
        let mut new = |shapes: &[Shape]| -> Vec<TensorId> {
            let shapes = shapes.iter();
            shapes.map(|&shape| recording.computed(shape)).collect()
        };
        let (inputs, matrices) = (new(&trial.inputs), new(&trial.matrices));
        let results = (trial.record)(&mut recording, &inputs, &matrices).unwrap();
        assert!(!results.is_empty());
        names.extend(recording.operators().iter().map(Operator::name));
    }
    names
}

/// What is wrong with the launches of one operator.
fn problems(
    recording: &Recording,
    operator: &Operator,
    live: &dyn Fn(TensorId) -> bool,
) -> Vec<String> {
    let choices: Vec<Choice> = equipped()
        .into_iter()
        .flat_map(|extras| operator.choices(recording, live, extras))
        .collect();
    let tried = tried();
    let mut problems = Vec::new();
    if choices.is_empty() {
        problems.push("nothing is launched".to_owned());
    }
    let first = choices.iter().map(|choice| choice.variants[0].launch.entry);
    let launches = operator.launches(recording, live);
    // Once for each set of extras.
    let launches = equipped().into_iter().flat_map(|_| &launches);
    if !first.eq(launches.map(|launch| launch.entry)) {
        problems.push("launches are not the first choices".to_owned());
    }
    let launches = choices.iter().flat_map(|choice| {
        if choice.class.is_none() && choice.variants.len() > 1 {
            problems.push("there is a choice without a class".to_owned());
        }
        let (first, others) = choice.variants.split_first().unwrap();
        if first.rounds || !first.needs.is_empty() {
            problems.push("the first choice does not run everywhere".to_owned());
        }
        let unproved = |variant: &Variant| !variant.needs.is_empty();
        if others.iter().any(unproved) && !tried.contains(operator.name()) {
            problems.push("variants that need extras have no trial".to_owned());
        }
        choice.variants.iter().map(|variant| &variant.launch)
    });
    let launches: Vec<&Launch> = launches.collect();
    let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
    let mut scalars = BTreeSet::new();
    for launch in launches {
        let mut tell = |problem: String| {
            problems.push(format!("{}.{}: {problem}", launch.shader, launch.entry));
        };
        let shader = Shader::load(launch.shader);
        let entry = match shader.entry(launch.entry) {
            Ok(entry) => entry,
            Err(error) => {
                tell(error.to_string());
                continue;
            }
        };
        if let Err(error) = shader.pack_params(&launch.params) {
            tell(error.to_string());
        }
        overrides(shader, launch, &mut tell);

        let declared: Vec<_> = entry
            .bindings
            .iter()
            .filter(|binding| binding.kind != BindingKind::Uniform)
            .collect();
        let names: BTreeSet<_> = declared.iter().map(|binding| &*binding.name).collect();
        let given: BTreeSet<_> = launch.bindings.iter().map(|(name, _)| *name).collect();
        if given.len() != launch.bindings.len() {
            tell("a name is bound twice".into());
        }
        for name in names.difference(&given) {
            tell(format!("{name} is not bound"));
        }
        for name in given.difference(&names) {
            tell(format!("{name} is bound but not declared"));
        }
        let (mut own_read, mut own_written) = (BTreeSet::new(), BTreeSet::new());
        for (name, binding) in &launch.bindings {
            let Some(declared) = declared.iter().find(|binding| binding.name == *name) else {
                continue;
            };
            let line = shader.source.lines();
            let line = line.map(|line| line.split("//").next().unwrap_or(line));
            let line = line.filter(|line| line.contains("var<storage"));
            let mut line = line.filter(|line| line.contains(&format!("> {name}:")));
            // Bits of real numbers, f32 or f16, are words too.
            let decoded = format!("F16_{}", name.to_uppercase());
            let decoded = shader.overrides.iter().any(|known| known.name == decoded);
            let indices = line.next().unwrap().contains("u32") && !decoded;
            match binding {
                Binding::Scalars => {
                    if declared.kind != BindingKind::Scalars {
                        tell(format!("{name} is no place for the scalars"));
                    }
                    if let Some(name) = shader.undeclared(operator.scalars()) {
                        tell(format!("the scalar {name} is read but not declared"));
                    }
                    scalars.extend(shader.scalars.iter().map(String::as_str));
                }
                Binding::Absent => {}
                Binding::Tensor(id) | Binding::Rows { tensor: id, .. } => {
                    if indices != (recording.info(*id).kind == Kind::Index) {
                        tell(format!("{name} has elements of another kind"));
                    }
                    if declared.kind == BindingKind::ReadWrite {
                        own_written.insert(*id);
                    } else {
                        own_read.insert(*id);
                    }
                }
            }
        }
        for id in own_read.intersection(&own_written) {
            tell(format!("tensor {} is bound for reading and writing", id.0));
        }
        extent(launch, &mut tell);
        read.extend(own_read);
        written.extend(own_written);
    }
    let outputs: BTreeSet<_> = operator
        .outputs()
        .into_iter()
        .filter(|&id| live(id))
        .collect();
    if written != outputs {
        problems.push(format!("{written:?} are written, live are {outputs:?}"));
    }
    for scalar in operator.scalars() {
        if !scalars.contains(&scalar.0) {
            problems.push(format!("no shader reads the scalar {}", scalar.0));
        }
    }
    for id in read {
        if !operator.inputs().contains(&id) && !operator.outputs().contains(&id) {
            problems.push(format!("{id:?} is read but no operand"));
        }
    }
    problems
}

fn overrides(shader: &Shader, launch: &Launch, tell: &mut dyn FnMut(String)) {
    for (index, (name, value)) in launch.overrides.iter().enumerate() {
        if launch.overrides[..index]
            .iter()
            .any(|(other, _)| other == name)
        {
            tell(format!("{name} is set twice"));
        }
        let Some(declared) = shader.overrides.iter().find(|known| known.name == *name) else {
            tell(format!("there is no override {name}"));
            continue;
        };
        let fits = match declared.scalar {
            ScalarType::Bool => *value == 0.0 || *value == 1.0,
            ScalarType::U32 => *value >= 0.0 && value.fract() == 0.0,
            ScalarType::I32 => value.fract() == 0.0,
            ScalarType::F32 => true,
        };
        if !fits {
            tell(format!("{name} cannot be {value}"));
        }
    }
    for declared in shader.overrides.iter().filter(|known| !known.has_default) {
        if !launch
            .overrides
            .iter()
            .any(|(name, _)| declared.name == *name)
        {
            tell(format!("the override {} is not set", declared.name));
        }
    }
}

fn extent(launch: &Launch, tell: &mut dyn FnMut(String)) {
    let shader = Shader::load(launch.shader);
    let Ok(entry) = shader.entry(launch.entry) else {
        return;
    };
    match launch.extent {
        Extent::Invocations(_) if !shader.source.contains("group.x + group.y * groups.x") => {
            tell("workgroups along y are not counted".into());
        }
        Extent::Invocations(count) => match entry.workgroups(count as u64) {
            Ok([x, y, z]) if x * y * z > 0 => {}
            Ok(_) => tell("no workgroup is launched".into()),
            Err(error) => tell(error.to_string()),
        },
        Extent::Workgroups(groups) => {
            let limit = MAX_WORKGROUPS_PER_DIMENSION as usize;
            if groups.iter().any(|&count| count == 0 || count > limit) {
                tell(format!("{groups:?} workgroups cannot be launched"));
            }
        }
    }
}

/// All problems of a recording's scheduled operators, and the operators and
/// entry points that it uses.
fn inspect(recording: &Recording, seen: &mut BTreeSet<String>) -> Vec<String> {
    let schedule = Schedule::new(recording);
    let live = |id: TensorId| schedule.live[id.0 as usize];
    let mut all = Vec::new();
    for &index in schedule.once.iter().chain(schedule.stages.iter().flatten()) {
        let operator = &recording.operators()[index];
        seen.insert(operator.name().to_owned());
        for extras in equipped() {
            let choices = operator.choices(recording, &live, extras).into_iter();
            for variant in choices.flat_map(|choice| choice.variants) {
                let launch = &variant.launch;
                seen.insert(format!("{}.{}", launch.shader, launch.entry));
            }
        }
        let found = problems(recording, operator, &live);
        all.extend(
            found
                .into_iter()
                .map(|problem| format!("{}: {problem}", operator.name())),
        );
    }
    all
}

/// Recordings that together have every operator.
fn all() -> [Recording; 7] {
    [
        explaining(),
        broadcast(),
        hearing_samples(),
        hearing_frames(),
        generating(),
        products(),
        occluding(),
    ]
}

/// The launches of all operators, those alone that run on every device.
pub fn launches_for_every_device() -> Vec<Launch> {
    let mut launches = Vec::new();
    for recording in all() {
        for operator in recording.operators() {
            for extras in equipped() {
                let choices = operator.choices(&recording, &|_| true, extras);
                let variants = choices.into_iter().flat_map(|choice| choice.variants);
                let plain = variants.filter(|variant| variant.needs.is_empty());
                launches.extend(plain.map(|variant| variant.launch));
            }
        }
    }
    launches
}

#[test]
fn launches_are_what_the_shaders_declare() {
    let mut seen = BTreeSet::new();
    for recording in all() {
        let found = inspect(&recording, &mut seen);
        assert!(found.is_empty(), "{found:#?}");
    }
    for name in Operator::NAMES {
        assert!(seen.contains(*name), "no recording here has {name}");
    }
    for (stem, _) in SOURCES {
        for entry in &Shader::load(stem).entries {
            let name = format!("{stem}.{}", entry.name);
            assert!(seen.contains(&name), "nobody launches {name}");
        }
    }
}

/// An output that nobody reads is not bound, whichever it is.
#[test]
fn dead_outputs_are_left_out() {
    for recording in [
        explaining(),
        hearing_samples(),
        hearing_frames(),
        occluding(),
    ] {
        for operator in recording.operators() {
            let outputs = operator.outputs();
            for kept in outputs.iter().filter(|_| outputs.len() > 1) {
                let live = |id: TensorId| id == *kept || !outputs.contains(&id);
                let found = problems(&recording, operator, &live);
                assert!(found.is_empty(), "{}: {found:#?}", operator.name());
            }
        }
    }
}

#[test]
fn more_rows_than_one_dimension_holds_are_folded() {
    assert_eq!(Extent::rows(1), Extent::Workgroups([1, 1, 1]));
    assert_eq!(Extent::rows(65_535), Extent::Workgroups([65_535, 1, 1]));
    assert_eq!(Extent::rows(65_536), Extent::Workgroups([32_768, 2, 1]));
    for count in [65_537, 1_000_003] {
        let Extent::Workgroups([x, y, 1]) = Extent::rows(count) else {
            panic!("rows are workgroups");
        };
        assert!(x <= 65_535 && x * y >= count && x * y < count + y);
    }
}

/// The inspection itself: one thing wrong at a time is found.
#[test]
fn mistakes_are_found() {
    let mut draft = Draft::new();
    let (a, b, y) = (
        draft.real(2, 3, 4),
        draft.real(1, 3, 4),
        draft.computed(2, 3, 4),
    );
    let add = Operator::from(Add {
        a,
        b,
        scale_a: 1.0,
        scale_b: 1.0,
        y,
    });
    let good = |_: TensorId| true;
    assert!(problems(&draft.recording, &add, &good).is_empty());
    let dead = |id: TensorId| id != y;
    assert!(!problems(&draft.recording, &add, &dead).is_empty());

    let indices = draft.indices(1, 12);
    for (a, b, y, expected) in [
        (indices, b, y, "another kind"),
        (y, b, y, "reading and writing"),
    ] {
        let add = Operator::from(Add {
            a,
            b,
            scale_a: 1.0,
            scale_b: 1.0,
            y,
        });
        let found = problems(&draft.recording, &add, &good);
        assert!(
            found.iter().any(|text| text.contains(expected)),
            "{found:?}"
        );
    }
}
