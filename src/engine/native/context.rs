//! What an operator sees of the native executor while it runs.

use std::ops::{Deref, DerefMut, Range};

use rayon::prelude::*;

use super::linalg::Factor;
use super::real::Real;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, Scalars, Shape, TensorId};

/// Where a tensor's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nobody reads it.
    Nowhere,
    /// Weights and constants, by tensor.
    Fixed(usize),
    /// One of the plan's blocks.
    Block(usize),
    /// The persistent tensor in a slot.
    Persistent(usize),
    /// A block of the worker's arena, holding only the worker's lead rows.
    Local(usize),
}

/// Values that all workers may read.
pub struct Shared<'a, T> {
    pub fixed: &'a [&'a [T]],
    /// By weight: its transpose as a factor, if there is one.
    pub factors: &'a [Option<Box<[T]>>],
    pub blocks: &'a [Vec<T>],
    pub persistent: &'a [PersistentValues<T>],
}

/// Values of a persistent tensor, by kind.
#[derive(Clone, Debug)]
pub enum PersistentValues<T> {
    Real(Vec<T>),
    Index(Vec<u32>),
}

impl<T> PersistentValues<T> {
    /// The real numbers.
    ///
    /// # Panics
    /// If it holds indices: whoever records or reads has checked it before.
    pub fn reals(&self) -> &[T] {
        match self {
            Self::Real(values) => values,
            Self::Index(_) => panic!("a persistent tensor holds indices, not real numbers"),
        }
    }
}

/// A worker's own memory, kept between runs.
pub struct Arena<T> {
    pub locals: Vec<Vec<T>>,
    pub scratch: Vec<T>,
}

impl<T> Arena<T> {
    pub fn bytes(&self) -> usize {
        let all = self.locals.iter().chain([&self.scratch]);
        all.map(|own| own.capacity() * size_of::<T>()).sum()
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            locals: Vec::new(),
            scratch: Vec::new(),
        }
    }
}

/// An output while its operator writes it.
pub enum Output<'a, T> {
    Dead,
    Local(Vec<T>, usize),
    Slice(&'a mut [T]),
}

impl<T> Output<'_, T> {
    /// Whether anybody will read it.
    pub fn is_live(&self) -> bool {
        !matches!(self, Self::Dead)
    }
}

impl<T> Deref for Output<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Self::Dead => &[],
            Self::Local(values, len) => &values[..*len],
            Self::Slice(values) => values,
        }
    }
}

impl<T> DerefMut for Output<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Dead => &mut [],
            Self::Local(values, len) => &mut values[..*len],
            Self::Slice(values) => values,
        }
    }
}

/// An operand: `at(n)` is the matrix that belongs to lead row n.
#[derive(Clone, Copy)]
pub struct View<'a, T> {
    data: &'a [T],
    pub shape: Shape,
    /// Lead row that `data` begins with.
    first: usize,
}

impl<'a, T> View<'a, T> {
    /// The (rows, cols) matrix for lead row `n`, broadcasting by `n % lead`.
    pub fn at(&self, n: usize) -> &'a [T] {
        let inner = self.shape.inner();
        let begin = (n % self.shape.lead - self.first) * inner;
        &self.data[begin..begin + inner]
    }

    /// The matrices of a range of lead rows, adjacent; the operand must not
    /// be broadcast.
    pub fn range(&self, leads: &Range<usize>) -> &'a [T] {
        let inner = self.shape.inner();
        &self.data[(leads.start - self.first) * inner..(leads.end - self.first) * inner]
    }

    /// All values there are.
    pub fn all(&self) -> &'a [T] {
        self.data
    }
}

/// One call of one operator: the lead rows to compute and access to tensors.
pub struct Context<'a, T> {
    pub recording: &'a Recording,
    /// Lead rows of the operator's outputs that this call computes.
    pub leads: Range<usize>,
    /// Whether the operator may spread over threads itself.
    pub parallel: bool,
    pub(super) scalars: &'a Scalars,
    pub(super) places: &'a [Place],
    pub(super) shared: &'a Shared<'a, T>,
    pub(super) arena: &'a mut Arena<T>,
    /// Outputs outside the arena that belong to this worker: the part of each
    /// for its lead rows, with the lead row it begins with.
    pub(super) outs: Vec<(TensorId, usize, Option<&'a mut [T]>)>,
}

impl<'a, T: Real> Context<'a, T> {
    pub fn shape(&self, id: TensorId) -> Shape {
        self.recording.shape(id)
    }

    pub fn scalar(&self, scalar: Scalar) -> usize {
        self.scalars.get(scalar.0) as usize
    }

    /// The operand `id`.
    pub fn read(&self, id: TensorId) -> View<'_, T> {
        let shape = self.shape(id);
        let (data, first): (&[T], usize) = match self.places[id.0 as usize] {
            Place::Local(block) => (
                &self.arena.locals[block][..self.leads.len() * shape.inner()],
                self.leads.start,
            ),
            place => {
                let own = self.outs.iter().find(|(out, ..)| *out == id);
                match (own, place) {
                    (Some((_, first, values)), _) => (
                        values.as_deref().expect("an output being written is read"),
                        *first,
                    ),
                    (None, Place::Fixed(index)) => (self.shared.fixed[index], 0),
                    (None, Place::Block(block)) => (&self.shared.blocks[block][..shape.len()], 0),
                    (None, Place::Persistent(index)) => match &self.shared.persistent[index] {
                        PersistentValues::Real(values) => (&values[..shape.len()], 0),
                        _ => panic!("slot {index} holds indices"),
                    },
                    (None, _) => panic!("tensor {} is read but not scheduled", id.0),
                }
            }
        };
        View { data, shape, first }
    }

    /// The transpose of the operand `id` (rows, cols), if it is a weight that is
    /// there as a factor.
    pub fn transposed_factor(&self, id: TensorId) -> Option<Factor<'a, T>> {
        let Place::Fixed(index) = self.places[id.0 as usize] else {
            return None;
        };
        let shape = self.shape(id);
        let data = self.shared.factors.get(index)?.as_deref()?;
        Some(Factor::new(data, shape.cols, shape.rows))
    }

    /// The operand `id`, which holds indices.
    pub fn read_indices(&self, id: TensorId) -> &'a [u32] {
        match self.places[id.0 as usize] {
            Place::Persistent(index) => match &self.shared.persistent[index] {
                PersistentValues::Index(values) => values,
                _ => panic!("slot {index} holds real numbers"),
            },
            _ => panic!("index tensors are persistent"),
        }
    }

    /// Takes the output `id` out for writing; [`give`](Self::give) it back.
    pub fn take(&mut self, id: TensorId) -> Output<'a, T> {
        match self.places[id.0 as usize] {
            Place::Nowhere => Output::Dead,
            Place::Local(block) => {
                let len = self.leads.len() * self.shape(id).inner();
                let mut values = std::mem::take(&mut self.arena.locals[block]);
                if values.len() < len {
                    values.resize(len, T::default());
                }
                Output::Local(values, len)
            }
            _ => {
                let own = self.outs.iter_mut().find(|(out, ..)| *out == id);
                let (_, _, values) = own.expect("an output belongs to the worker");
                Output::Slice(values.take().expect("an output is taken once"))
            }
        }
    }

    /// Puts an output back so that later operators can read it.
    pub fn give(&mut self, id: TensorId, output: Output<'a, T>) {
        match (output, self.places[id.0 as usize]) {
            (Output::Dead, _) => {}
            (Output::Local(values, _), Place::Local(block)) => self.arena.locals[block] = values,
            (Output::Slice(values), _) => {
                let own = self.outs.iter_mut().find(|(out, ..)| *out == id);
                own.expect("an output belongs to the worker").2 = Some(values);
            }
            (Output::Local(..), _) => unreachable!("a local output stays local"),
        }
    }

    /// Takes the worker's scratch memory, at least `len` long.
    pub fn take_scratch(&mut self, len: usize) -> Vec<T> {
        let mut scratch = std::mem::take(&mut self.arena.scratch);
        if scratch.len() < len {
            scratch.resize(len, T::default());
        }
        scratch
    }

    pub fn give_scratch(&mut self, scratch: Vec<T>) {
        self.arena.scratch = scratch;
    }
}

/// Calls `work(index, block)` for blocks of `size` elements, in threads if
/// `parallel`; several small blocks make one task.
pub fn each_block<T: Send>(
    parallel: bool,
    values: &mut [T],
    size: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    if parallel {
        let at_least = (8192 / size.max(1)).max(1);
        values
            .par_chunks_mut(size.max(1))
            .with_min_len(at_least)
            .enumerate()
            .for_each(|(index, block)| work(index, block));
    } else {
        for (index, block) in values.chunks_mut(size.max(1)).enumerate() {
            work(index, block);
        }
    }
}
