//! What a recording comes to on a GPU before anything is allocated: where
//! every tensor lies, and every dispatch with what it binds.
//!
//! Nothing here needs a device, so launches are checked against their shaders
//! wherever the tests run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::extras::Extras;
use super::launch::{Binding, Extent, Launch};
use super::shaders::{
    Binding as Variable, BindingKind, Entry, MAX_WORKGROUPS_PER_DIMENSION, Shader,
};
use super::tuning::Tuning;
use super::variants::Class;
use crate::engine::cost::{Cost, StageCost};
use crate::engine::recording::{Recording, Source};
use crate::engine::schedule::{Demand, Lifetime, Schedule, assign_blocks};
use crate::engine::tensor::{Shape, Slot, TensorId, WeightId, describe_persistent};
use crate::ops::Operator;
use crate::{Error, Result};

/// No buffer is smaller: an empty one cannot be bound.
pub const SMALLEST_BUFFER: usize = 16;

/// What an adapter allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest range that a shader can bind, in bytes.
    pub binding: usize,
    /// Largest buffer, in bytes.
    pub buffer: usize,
}

/// What a recording is laid out for.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the offset of a uniform in its buffer is a multiple of.
    pub uniform_alignment: usize,
    /// By weight: whether it is stored as f16.
    pub half_weights: Vec<bool>,
    /// What variants may use.
    pub extras: Extras,
}

/// The buffer that holds a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nobody reads the tensor, so it has none.
    Nowhere,
    Weight(WeightId),
    /// Index in [`Layout::constants`].
    Constant(usize),
    Persistent(Slot),
    /// Index in [`Layout::blocks`].
    Block(usize),
}

/// What one variable of a shader is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A range of [`Layout::params`].
    Params { offset: usize, bytes: usize },
    /// `bytes` of a tensor's buffer.
    Tensor {
        place: Place,
        offset: usize,
        bytes: usize,
    },
    /// The values of the shader's `Scalars`.
    Scalars,
    /// A buffer that stands in for an operand that is not there, different
    /// for every such operand of one dispatch.
    Absent(usize),
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Step {
    pub shader: &'static Shader,
    pub entry: &'static Entry,
    pub overrides: Vec<(&'static str, f64)>,
    pub workgroups: [u32; 3],
    /// By slot.
    pub bindings: Vec<(u32, Bound)>,
}

/// A recording laid out for a GPU.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// By tensor.
    places: Vec<Place>,
    /// By tensor: the most bytes of it that a dispatch binds.
    bound: Vec<usize>,
    /// Bytes of the buffers shared by computed tensors.
    pub blocks: Vec<usize>,
    pub constants: Vec<TensorId>,
    /// The `Params` of all dispatches.
    pub params: Vec<u8>,
    /// Dispatches that run when the plan is made.
    pub once: Vec<Step>,
    pub stages: Vec<Vec<Step>>,
    /// Of `once`.
    pub once_cost: Cost,
    /// By stage.
    pub costs: Vec<StageCost>,
    /// Classes, by key, that the device has choices for and nothing measured
    /// yet.
    pub unmeasured: BTreeMap<String, Arc<dyn Class>>,
}

impl Step {
    /// How many stand-ins it binds.
    pub fn absent(&self) -> usize {
        let bound = self.bindings.iter();
        bound
            .filter(|(_, bound)| matches!(bound, Bound::Absent(_)))
            .count()
    }
}

/// Bytes of the buffer of a tensor.
pub fn bytes_of(shape: Shape) -> usize {
    (shape.len() * 4).max(SMALLEST_BUFFER)
}

/// Bytes of the buffer of a tensor of f16, two to a word and whole quads of
/// words.
pub fn half_bytes_of(shape: Shape) -> usize {
    (2 * shape.len()).next_multiple_of(16).max(SMALLEST_BUFFER)
}

impl Layout {
    /// Lays `recording` out with the launches that `tuning` picks.
    ///
    /// # Errors
    /// If an operator's launch does not fit its shader.
    pub fn new(recording: &Recording, target: &Target, tuning: &Tuning) -> Result<Self> {
        let schedule = Schedule::new(recording);
        let mut layout = Self::default();
        layout.place(recording, &schedule);
        layout.once_cost = Cost::of(recording, &schedule, &schedule.once);
        layout.costs = StageCost::of_stages(recording, &schedule);
        layout.once = layout.steps(recording, &schedule, &schedule.once, target, tuning)?;
        for stage in &schedule.stages {
            let steps = layout.steps(recording, &schedule, stage, target, tuning)?;
            layout.stages.push(steps);
        }
        Ok(layout)
    }

    /// Lays out one stage for its first `leads` lead rows alone: the tensors
    /// lie where [`new`](Self::new) puts them, and every number comes from the
    /// same kernel as there, since another one may add up in another order.
    /// What cannot be cut runs as a whole.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn of_first(
        recording: &Recording,
        stage: usize,
        leads: usize,
        target: &Target,
        tuning: &Tuning,
    ) -> Result<Self> {
        let schedule = Schedule::new(recording);
        let mut layout = Self::default();
        layout.place(recording, &schedule);
        let list = &schedule.stages[stage];
        let cost = StageCost::of_stages(recording, &schedule)[stage];
        let (few, cut) = first_leads(recording, list, cost.lead, leads);
        let live = |id: TensorId| schedule.live[id.0 as usize];
        let mut steps = Vec::new();
        for (&index, cut) in list.iter().zip(cut) {
            let operator = &recording.operators()[index];
            let whole = layout.launches(recording, operator, &live, target, tuning)?;
            let choices = match cut {
                true => operator.choices(&few, &live, target.extras),
                false => Vec::new(),
            };
            let mut parts = choices.iter().zip(&whole).map(|(choice, whole)| {
                let launches = choice.variants_on(target.extras);
                let mut launches = launches.map(|variant| &variant.launch);
                launches.find(|own| (own.shader, own.entry) == (whole.shader, whole.entry))
            });
            for whole in &whole {
                let part = parts.next().flatten();
                let (of, launch) = match part {
                    Some(part) => (&few, part),
                    None => (recording, whole),
                };
                steps.extend(layout.step(of, operator, launch, target)?);
            }
        }
        layout.stages.push(steps);
        layout.costs = vec![cost];
        Ok(layout)
    }

    /// Bytes of all buffers that a plan adds: blocks, constants and `Params`.
    pub fn bytes(&self, recording: &Recording) -> usize {
        let constants = self.constants.iter();
        let constants = constants.map(|&id| bytes_of(recording.shape(id)));
        self.blocks.iter().sum::<usize>() + constants.sum::<usize>() + self.params.len()
    }

    /// Compares the sizes of all buffers with what the adapter allows.
    ///
    /// # Errors
    /// [`Error::Memory`] naming the tensor, its size and the limit.
    pub fn check(&self, recording: &Recording, limits: Limits) -> Result<()> {
        for (tensor, place) in self.places.iter().enumerate() {
            if *place != Place::Nowhere {
                let id = TensorId(tensor as u32);
                let name = || describe(recording, id);
                // Weights' buffers were checked when they were made.
                if !matches!(place, Place::Weight(_)) {
                    limits.check_buffer(bytes_of(recording.shape(id)), name)?;
                }
                limits.check(self.bound[tensor], name)?;
            }
        }
        if self.params.len() > limits.buffer {
            return Err(Error::Memory(format!(
                "the parameters of {} dispatches take {} bytes where a buffer has at most {}",
                self.stages.iter().map(Vec::len).sum::<usize>(),
                self.params.len(),
                limits.buffer
            )));
        }
        Ok(())
    }

    fn place(&mut self, recording: &Recording, schedule: &Schedule) {
        self.places = vec![Place::Nowhere; recording.tensors().len()];
        self.bound = vec![0; recording.tensors().len()];
        // Stages run one at a time, so their blocks are the same ones.
        let lengths = schedule.stages.iter().map(Vec::len);
        let starts: Vec<usize> = lengths
            .scan(0, |end, length| {
                let start = *end;
                *end += length;
                Some(start)
            })
            .collect();
        let (mut shared, mut shared_tensors, mut always) = (Vec::new(), Vec::new(), Vec::new());
        for (tensor, info) in recording.tensors().iter().enumerate() {
            let place = &mut self.places[tensor];
            if !schedule.live[tensor] {
                continue;
            }
            match (&info.source, schedule.lifetimes[tensor]) {
                (Source::Weight(id), _) => *place = Place::Weight(*id),
                (Source::Constant(_), _) => {
                    *place = Place::Constant(self.constants.len());
                    self.constants.push(TensorId(tensor as u32));
                }
                (Source::Persistent(slot), _) => *place = Place::Persistent(*slot),
                (Source::Computed, None) => {}
                (Source::Computed, Some(Lifetime::Always)) => always.push(tensor),
                (Source::Computed, Some(Lifetime::Within { stage, first, last })) => {
                    shared.push(Demand {
                        size: bytes_of(info.shape),
                        first: starts[stage] + first,
                        last: starts[stage] + last,
                    });
                    shared_tensors.push(tensor);
                }
            }
        }
        let blocks = assign_blocks(&shared);
        for (tensor, block) in shared_tensors.into_iter().zip(blocks.block_of) {
            self.places[tensor] = Place::Block(block);
        }
        self.blocks = blocks.sizes;
        for tensor in always {
            self.places[tensor] = Place::Block(self.blocks.len());
            self.blocks
                .push(bytes_of(recording.tensors()[tensor].shape));
        }
    }

    fn steps(
        &mut self,
        recording: &Recording,
        schedule: &Schedule,
        list: &[usize],
        target: &Target,
        tuning: &Tuning,
    ) -> Result<Vec<Step>> {
        let live = |id: TensorId| schedule.live[id.0 as usize];
        let mut steps = Vec::new();
        for &index in list {
            let operator = &recording.operators()[index];
            for launch in self.launches(recording, operator, &live, target, tuning)? {
                steps.extend(self.step(recording, operator, &launch, target)?);
            }
        }
        Ok(steps)
    }

    /// What the device launches for an operator.
    fn launches(
        &mut self,
        recording: &Recording,
        operator: &Operator,
        live: &dyn Fn(TensorId) -> bool,
        target: &Target,
        tuning: &Tuning,
    ) -> Result<Vec<Launch>> {
        let choices = operator.choices(recording, live, target.extras);
        if choices.is_empty() {
            let name = operator.name();
            return Err(Error::Device(format!("{name} has no kernel for GPUs")));
        }
        let launches = choices.iter().map(|choice| {
            let variant = choice.rounding_on(target.extras).unwrap_or_else(|| {
                let unmeasured = tuning.unmeasured(choice, target.extras);
                let unmeasured = unmeasured.map(|class| (class.key(), Arc::clone(class)));
                self.unmeasured.extend(unmeasured);
                tuning.pick(choice, target.extras)
            });
            variant.launch.clone()
        });
        Ok(launches.collect())
    }

    /// The dispatch of a launch; none where there is nothing to do, which is
    /// not an error.
    fn step(
        &mut self,
        recording: &Recording,
        operator: &Operator,
        launch: &Launch,
        target: &Target,
    ) -> Result<Option<Step>> {
        let shader = Shader::load(launch.shader);
        let entry = shader.entry(launch.entry)?;
        let fail = |problem: String| {
            let at = format!("{}.{}", launch.shader, launch.entry);
            Error::shape(operator.name(), format!("{at}: {problem}"))
        };
        check_names(launch, shader, entry).map_err(fail)?;
        let mut overrides = launch.overrides.clone();
        let mut bindings: Vec<(u32, Bound)> = Vec::new();
        let mut seen: Vec<(&str, BindingKind, Place)> = Vec::new();
        let mut absent = 0;
        for variable in &entry.bindings {
            let name = &*variable.name;
            if variable.kind == BindingKind::Uniform {
                let bytes = shader.pack_params(&launch.params)?;
                let offset = self.params.len().next_multiple_of(target.uniform_alignment);
                self.params.resize(offset, 0);
                self.params.extend(&bytes);
                let bytes = bytes.len();
                bindings.push((variable.slot, Bound::Params { offset, bytes }));
                continue;
            }
            let mut given = launch.bindings.iter();
            let binding = given.find(|(own, _)| *own == name).map(|(_, own)| *own);
            let bound = match binding {
                None => return Err(fail(format!("{name} is not bound"))),
                Some(Binding::Absent) => {
                    absent += 1;
                    Bound::Absent(absent - 1)
                }
                Some(Binding::Scalars) => {
                    check_scalars(variable, shader, operator).map_err(fail)?;
                    Bound::Scalars
                }
                Some(Binding::Tensor(id) | Binding::Rows { tensor: id, .. }) => {
                    let place = self.place_of(variable, id, &seen).map_err(fail)?;
                    seen.push((name, variable.kind, place));
                    let half = match place {
                        Place::Weight(weight) => target.half_weights[weight.0 as usize],
                        _ => false,
                    };
                    if half {
                        overrides.push((decodes_f16(variable, shader).map_err(fail)?, 1.0));
                    }
                    let (offset, bytes) = range(recording.shape(id), binding, half);
                    let most = &mut self.bound[id.0 as usize];
                    *most = bytes.max(*most);
                    Bound::Tensor {
                        place,
                        offset,
                        bytes,
                    }
                }
            };
            bindings.push((variable.slot, bound));
        }
        let workgroups = match launch.extent {
            Extent::Invocations(count) => entry.workgroups(count as u64)?,
            Extent::Workgroups(counts) => dispatched(counts).map_err(fail)?,
        };
        let something = !workgroups.contains(&0);
        Ok(something.then_some(Step {
            shader,
            entry,
            overrides,
            workgroups,
            bindings,
        }))
    }

    /// Where a tensor lies that a shader's variable is bound to, beside those
    /// `seen` before.
    fn place_of(
        &self,
        variable: &Variable,
        id: TensorId,
        seen: &[(&str, BindingKind, Place)],
    ) -> Checked<Place> {
        let name = &variable.name;
        if variable.kind == BindingKind::Scalars {
            return Err(format!("{name} would read a tensor as scalars"));
        }
        let place = self.places[id.0 as usize];
        if place == Place::Nowhere {
            return Err(format!("{name} is bound to a tensor that nobody uses"));
        }
        let writes = variable.kind == BindingKind::ReadWrite;
        if writes && matches!(place, Place::Weight(_) | Place::Constant(_)) {
            return Err(format!("{name} would write what is constant"));
        }
        let clash = seen.iter().find(|(_, kind, other)| {
            *other == place && (writes || *kind == BindingKind::ReadWrite)
        });
        match clash {
            Some((other, ..)) => Err(format!("{name} and {other} lie in one buffer")),
            None => Ok(place),
        }
    }
}

/// Or what is wrong with a launch.
type Checked<T> = std::result::Result<T, String>;

/// Compares the names of a launch with those of its shader.
fn check_names(launch: &Launch, shader: &Shader, entry: &Entry) -> Checked<()> {
    for (place, (name, _)) in launch.bindings.iter().enumerate() {
        if !entry.bindings.iter().any(|known| known.name == *name) {
            return Err(format!("there is no variable {name}"));
        }
        if launch.bindings[..place].iter().any(|(own, _)| own == name) {
            return Err(format!("{name} is bound twice"));
        }
    }
    if let Some(other) = entry.bindings.iter().find(|own| own.group != 0) {
        return Err(format!("{} is not in group 0", other.name));
    }
    for (name, _) in &launch.overrides {
        if !shader.overrides.iter().any(|known| known.name == *name) {
            return Err(format!("there is no override {name}"));
        }
    }
    for known in shader.overrides.iter().filter(|known| !known.has_default) {
        if !launch.overrides.iter().any(|(name, _)| *name == known.name) {
            return Err(format!("override {} is missing", known.name));
        }
    }
    Ok(())
}

/// Compares the scalars that a shader reads with those that its operator
/// declares.
fn check_scalars(variable: &Variable, shader: &Shader, operator: &Operator) -> Checked<()> {
    if variable.kind != BindingKind::Scalars {
        return Err(format!("{} is not of type Scalars", variable.name));
    }
    match shader.undeclared(operator.scalars()) {
        Some(other) => Err(format!("the operator does not declare the scalar {other}")),
        None => Ok(()),
    }
}

/// The override that lets a shader read a variable as f16.
fn decodes_f16(variable: &Variable, shader: &'static Shader) -> Checked<&'static str> {
    let name = &variable.name;
    let decodes = format!("F16_{}", name.to_uppercase());
    let known = shader.overrides.iter().find(|own| *own.name == decodes);
    known.map_or_else(
        || Err(format!("{name} would read f16 as f32")),
        |known| Ok(&*known.name),
    )
}

/// Where what is bound of a tensor begins and how long it is, in bytes.
fn range(shape: Shape, binding: Option<Binding>, half: bool) -> (usize, usize) {
    let bytes = if half { half_bytes_of } else { bytes_of };
    match binding {
        // Blocks begin at even numbers.
        Some(Binding::Rows { first, count, .. }) => {
            let before = first * shape.cols * if half { 2 } else { 4 };
            (before, bytes(Shape::new(1, count, shape.cols)))
        }
        _ => (0, bytes(shape)),
    }
}

/// So many workgroups, if one dispatch can have them.
fn dispatched(counts: [usize; 3]) -> Checked<[u32; 3]> {
    let most = MAX_WORKGROUPS_PER_DIMENSION;
    match counts.iter().find(|count| **count > most as usize) {
        Some(count) => Err(format!(
            "{count} workgroups in one dimension, {most} are the most"
        )),
        None => Ok(counts.map(|count| count as u32)),
    }
}

/// The recording with nothing but the first `leads` lead rows of what the
/// operators `list` compute of the stage's `all` lead rows; and of each of
/// them whether it may be launched that way.
fn first_leads(
    recording: &Recording,
    list: &[usize],
    all: usize,
    leads: usize,
) -> (Recording, Vec<bool>) {
    let operators = || list.iter().map(|&index| &recording.operators()[index]);
    let of_stage = |id: &TensorId| recording.shape(*id).lead == all;
    let computed = operators().flat_map(|operator| operator.outputs());
    let computed: BTreeSet<TensorId> = computed.filter(of_stage).collect();
    let cut = operators().map(|operator| {
        // What has as many lead rows without being computed here may have
        // them for another reason.
        let mut others = operator.inputs().into_iter().filter(of_stage);
        !operator.needs_all_leads()
            && operator.outputs().iter().all(of_stage)
            && others.all(|id| computed.contains(&id))
    });
    let cut = cut.collect();
    (recording.with_leads(&computed, leads), cut)
}

impl Limits {
    /// Compares the bytes of a tensor that is bound in parts with what the
    /// adapter allows.
    ///
    /// # Errors
    /// [`Error::Memory`] naming the tensor, its size and the limit.
    pub fn check_buffer(self, bytes: usize, name: impl FnOnce() -> String) -> Result<()> {
        if bytes <= self.buffer {
            return Ok(());
        }
        Err(Error::Memory(format!(
            "{} takes {bytes} bytes where this adapter's buffers have at most {}; --device cpu has \
             no such limit",
            name(),
            self.buffer
        )))
    }

    /// Compares the bytes of one tensor with what the adapter allows.
    ///
    /// # Errors
    /// [`Error::Memory`] naming the tensor, its size and the limit.
    pub fn check(self, bytes: usize, name: impl FnOnce() -> String) -> Result<()> {
        let most = self.binding.min(self.buffer);
        if bytes <= most {
            return Ok(());
        }
        Err(Error::Memory(format!(
            "{} takes {bytes} bytes where this adapter binds at most {most}; --device cpu has no \
             such limit",
            name()
        )))
    }
}

fn describe(recording: &Recording, id: TensorId) -> String {
    let info = recording.info(id);
    let shape = info.shape;
    match &info.source {
        Source::Weight(weight) => format!("weight {}", recording.weights().get(*weight).name),
        Source::Constant(_) => format!("a constant {shape}"),
        Source::Persistent(_) => describe_persistent(info.kind, shape),
        Source::Computed => {
            let mut operators = recording.operators().iter();
            let maker = operators.find(|operator| operator.outputs().contains(&id));
            let name = maker.map_or("no operator", |operator| operator.name());
            format!("the output {shape} of {name}")
        }
    }
}
