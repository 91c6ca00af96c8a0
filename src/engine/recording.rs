//! A plain list of operators over virtual tensors.
//!
//! Model code writes recordings and does nothing else. Assignment is single:
//! an operator writes new tensors. A recording holds no closures and no
//! pointers into the model; executors turn it into plans.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::tensor::{Kind, PersistentId, Shape, Slot, TensorId, WeightId};
use super::weights::WeightTable;
use crate::ops::Operator;

/// Where a tensor's values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Written by an operator of the recording.
    Computed,
    /// A prepared weight of the model.
    Weight(WeightId),
    /// Real numbers known while recording, such as position tables.
    Constant(Arc<Vec<f32>>),
    /// Kept by the executor between runs, in this slot of the recording.
    /// Unless an operator of this recording writes it, it is an input.
    Persistent(Slot),
}

/// Shape, kind and origin of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub shape: Shape,
    pub kind: Kind,
    pub source: Source,
}

/// What an operator makes: its place in the recording, and which of its outputs
/// it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    operator: usize,
    output: usize,
}

/// Operators in order, cut into stages that run one at a time.
#[derive(Clone, Debug)]
pub struct Recording {
    tensors: Vec<TensorInfo>,
    operators: Vec<Operator>,
    /// Index of the first operator of every stage after the first.
    stage_starts: Vec<usize>,
    /// How many operators, from the first on, another plan has run.
    done: usize,
    weights: Arc<WeightTable>,
    /// By slot: the persistent tensor in it.
    bound: Vec<PersistentId>,
}

/// Equal recordings make equal plans: they do the same with the same weights
/// and with whatever tensors are in their slots. Which those are makes no
/// difference.
impl PartialEq for Recording {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.weights, &other.weights)
            && self.stage_starts == other.stage_starts
            && self.done == other.done
            && self.tensors == other.tensors
            && self.operators == other.operators
    }
}

impl Recording {
    /// An empty recording over a model's weights.
    pub fn new(weights: Arc<WeightTable>) -> Self {
        Self {
            tensors: Vec::new(),
            operators: Vec::new(),
            stage_starts: Vec::new(),
            done: 0,
            weights,
            bound: Vec::new(),
        }
    }

    pub fn weights(&self) -> &WeightTable {
        &self.weights
    }

    fn add_tensor(&mut self, shape: Shape, kind: Kind, source: Source) -> TensorId {
        self.tensors.push(TensorInfo {
            shape,
            kind,
            source,
        });
        TensorId((self.tensors.len() - 1) as u32)
    }

    /// A tensor that an operator recorded next will write.
    pub fn computed(&mut self, shape: Shape) -> TensorId {
        self.add_tensor(shape, Kind::Real, Source::Computed)
    }

    /// A weight as a tensor (1, rows, cols).
    pub fn weight(&mut self, id: WeightId) -> TensorId {
        let shape = self.weights.shape(id);
        self.add_tensor(shape, Kind::Real, Source::Weight(id))
    }

    /// A table of numbers as a tensor.
    ///
    /// # Panics
    /// If `data` does not fill `shape`.
    pub fn constant(&mut self, shape: Shape, data: impl Into<Arc<Vec<f32>>>) -> TensorId {
        let data = data.into();
        assert_eq!(data.len(), shape.len(), "constant of shape {shape}");
        self.add_tensor(shape, Kind::Real, Source::Constant(data))
    }

    /// A persistent tensor as an operand; the same one is one tensor, however
    /// often it is asked for.
    pub fn persistent(&mut self, id: PersistentId, kind: Kind, shape: Shape) -> TensorId {
        let source = Source::Persistent(self.slot(id));
        let known = self.tensors.iter().position(|info| info.source == source);
        if let Some(index) = known {
            return TensorId(index as u32);
        }
        self.add_tensor(shape, kind, source)
    }

    /// The slot of a persistent tensor, a new one unless it has one.
    fn slot(&mut self, id: PersistentId) -> Slot {
        let known = self.bound.iter().position(|own| *own == id);
        let slot = known.unwrap_or_else(|| {
            self.bound.push(id);
            self.bound.len() - 1
        });
        Slot(slot as u32)
    }

    /// By slot: the persistent tensor in it.
    pub fn bound(&self) -> &[PersistentId] {
        &self.bound
    }

    /// The same recording with other persistent tensors in its slots.
    ///
    /// # Panics
    /// If there is not one for each slot.
    #[must_use]
    pub fn rebound(self, bound: Vec<PersistentId>) -> Self {
        assert_eq!(bound.len(), self.bound.len(), "a tensor for every slot");
        Self { bound, ..self }
    }

    /// Lets `tensor` live in persistent storage, so that it can be read back
    /// or used by other plans.
    ///
    /// # Panics
    /// If no operator of this recording writes `tensor`.
    pub fn keep(&mut self, tensor: TensorId, id: PersistentId) {
        let source = Source::Persistent(self.slot(id));
        let info = &mut self.tensors[tensor.0 as usize];
        assert!(matches!(info.source, Source::Computed), "already placed");
        info.source = source;
    }

    /// Declares all that was recorded so far to be done by another plan, which
    /// has left in persistent tensors what later operators read of it. It
    /// stays for the reverse pass, which is recorded from it, and is not run.
    pub fn already_done(&mut self) {
        self.done = self.operators.len();
    }

    /// How many operators, from the first on, are not run.
    pub fn done(&self) -> usize {
        self.done
    }

    /// What of the first `count` operators' results later ones read.
    pub fn read_behind(&self, count: usize) -> Vec<Made> {
        let later = self.operators[count..].iter();
        let read: BTreeSet<TensorId> = later.flat_map(|operator| operator.inputs()).collect();
        let places = self.operators[..count].iter().enumerate();
        let all = places.flat_map(|(operator, own)| {
            let outputs = own.outputs().into_iter().enumerate();
            outputs.map(move |(output, id)| (Made { operator, output }, id))
        });
        let all = all.filter(|(_, id)| read.contains(id));
        all.map(|(made, _)| made).collect()
    }

    /// The tensor that an operator makes, of this recording or of one that
    /// begins alike.
    pub fn made(&self, made: Made) -> TensorId {
        self.operators[made.operator].outputs()[made.output]
    }

    pub fn push(&mut self, operator: impl Into<Operator>) {
        self.operators.push(operator.into());
    }

    /// Ends the current stage; what is recorded next runs separately, and may
    /// run several times for one run of the stages before it.
    pub fn next_stage(&mut self) {
        self.stage_starts.push(self.operators.len());
    }

    pub fn info(&self, id: TensorId) -> &TensorInfo {
        &self.tensors[id.0 as usize]
    }

    pub fn shape(&self, id: TensorId) -> Shape {
        self.info(id).shape
    }

    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// The same operators where `tensors` have their first `leads` lead rows
    /// only.
    pub fn with_leads(&self, tensors: &BTreeSet<TensorId>, leads: usize) -> Self {
        let mut recording = self.clone();
        for id in tensors {
            let shape = &mut recording.tensors[id.0 as usize].shape;
            *shape = shape.with_lead(leads);
        }
        recording
    }

    /// How many stages there are.
    pub fn stage_count(&self) -> usize {
        self.stage_starts.len() + 1
    }

    /// Operator index ranges of the stages.
    pub fn stages(&self) -> Vec<std::ops::Range<usize>> {
        let mut starts = vec![0];
        starts.extend(&self.stage_starts);
        let ends = self.stage_starts.iter().copied();
        starts
            .iter()
            .copied()
            .zip(ends.chain([self.operators.len()]))
            .map(|(start, end)| start..end)
            .collect()
    }
}
