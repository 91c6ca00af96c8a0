//! The reverse pass, made from the recording.
//!
//! Walking the list of operators backwards, each operator that lies between a
//! source and the output records its own reverse. Only cotangents of
//! activations exist: no weight gradient is ever computed.
//!
//! The cotangent of a forward tensor (B, ...) is (K·B, ...), one for each of K
//! explained tokens; row k·B + b belongs to forward row b. Several cotangents
//! of one tensor are summed in the order in which their operators are met.
//!
//! A cotangent has the rows alone that lie on a path from a source. What fills
//! a window behind the sound is on none until attention mixes it in.

use std::collections::HashMap;

use super::recording::Recording;
use super::tensor::TensorId;
use crate::ops::{Add, Operator, ScatterRows, SumBatch, TokenSeed};
use crate::{Error, Result};

/// What the reverse pass starts from: for each of K explained tokens the log
/// probability of one label at one position of the decoder.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// (B, I, V), unnormalised.
    pub logits: TensorId,
    /// (1, all explained tokens, 1): decoder position of each.
    pub positions: TensorId,
    /// (1, all explained tokens, 1): token id of each.
    pub labels: TensorId,
    /// K: how many cotangents one run computes.
    pub count: usize,
}

/// A cotangent: for all rows, or for the one row of each explained token.
#[derive(Clone, Copy, Debug)]
struct Cotangent {
    id: TensorId,
    sparse: bool,
}

/// State of the walk; operators' reverse rules work on it.
pub struct Reverse<'a> {
    pub recording: &'a mut Recording,
    seed: Seed,
    cotangents: HashMap<TensorId, Cotangent>,
    /// By tensor: how many of its rows, from the first on, lie on a path from
    /// a source.
    reach: Vec<usize>,
}

/// Records the reverse pass of everything recorded so far, as seen from
/// `seed`, and returns the cotangents (K·B, rows, cols) of `sources`.
///
/// # Errors
/// If a source does not reach the logits, or an operator between them cannot
/// be reversed.
pub fn reverse(
    recording: &mut Recording,
    seed: Seed,
    sources: &[TensorId],
) -> Result<Vec<TensorId>> {
    let mut cotangents = sources.to_vec();
    reverse_each(recording, seed, sources, &mut |_, index, cotangent| {
        cotangents[index] = cotangent;
        Ok(())
    })?;
    Ok(cotangents)
}

/// As [`reverse`], but hands on the cotangent of each source, with its index,
/// as soon as the walk has it. What is recorded there is done before the walk
/// goes on, so that the cotangents of many sources need not be kept till its
/// end.
///
/// # Errors
/// As [`reverse`], and those of `done`.
pub fn reverse_each(
    recording: &mut Recording,
    seed: Seed,
    sources: &[TensorId],
    done: &mut dyn FnMut(&mut Recording, usize, TensorId) -> Result<()>,
) -> Result<()> {
    let forward: Vec<Operator> = recording.operators().to_vec();
    let reach = reach(recording, &forward, sources);
    let logits = recording.shape(seed.logits);
    let dlogits = recording.computed(super::tensor::Shape::new(
        seed.count * logits.lead,
        1,
        logits.cols,
    ));
    recording.push(TokenSeed {
        logits: seed.logits,
        positions: seed.positions,
        labels: seed.labels,
        dlogits,
    });
    let mut walk = Reverse {
        recording,
        seed,
        cotangents: HashMap::new(),
        reach,
    };
    let start = Cotangent {
        id: dlogits,
        sparse: true,
    };
    walk.cotangents.insert(seed.logits, start);
    let mut finish = |walk: &mut Reverse, ready: Vec<usize>| -> Result<()> {
        for index in ready {
            let cotangent = walk.cotangent(sources[index]).ok_or_else(|| {
                Error::Input("the output does not depend on what it is to be explained by".into())
            })?;
            done(walk.recording, index, cotangent)?;
        }
        Ok(())
    };
    let mut left: Vec<usize> = (0..sources.len()).collect();
    for operator in forward.iter().rev() {
        let outputs = operator.outputs();
        // All that read these have been met: their cotangents are whole.
        let (ready, rest) = left
            .into_iter()
            .partition(|&index| outputs.contains(&sources[index]));
        left = rest;
        finish(&mut walk, ready)?;
        let reached = outputs.iter().any(|id| walk.cotangents.contains_key(id));
        let wanted = operator.inputs().iter().any(|&id| walk.needs(id));
        if reached && wanted {
            operator.reverse(&mut walk)?;
        }
    }
    finish(&mut walk, left)
}

/// By tensor: how many of its rows depend on a source.
fn reach(recording: &Recording, forward: &[Operator], sources: &[TensorId]) -> Vec<usize> {
    let mut reach = vec![0; recording.tensors().len()];
    for source in sources {
        reach[source.0 as usize] = recording.shape(*source).rows;
    }
    for operator in forward {
        let rows = operator.reach(&|id| reach[id.0 as usize]);
        for id in operator.outputs() {
            let own = &mut reach[id.0 as usize];
            *own = rows.min(recording.shape(id).rows).max(*own);
        }
    }
    reach
}

impl Reverse<'_> {
    /// Whether the gradient of `x` is asked for.
    pub fn needs(&self, x: TensorId) -> bool {
        self.reach(x) > 0
    }

    /// How many rows of `x`, from the first on, depend on what the gradient is
    /// asked for: the rows of its cotangent.
    pub fn reach(&self, x: TensorId) -> usize {
        self.reach.get(x.0 as usize).copied().unwrap_or(0)
    }

    /// Lead rows of a cotangent of `x`: K·B.
    fn lead(&self, x: TensorId) -> usize {
        self.seed.count * self.recording.shape(x).lead
    }

    /// The cotangent of `y` for all rows that depend on a source, if there is
    /// any.
    pub fn cotangent(&mut self, y: TensorId) -> Option<TensorId> {
        let cotangent = *self.cotangents.get(&y)?;
        if !cotangent.sparse {
            return Some(cotangent.id);
        }
        let sparse = self.recording.shape(cotangent.id);
        let shape = self.recording.shape(y).with_lead(sparse.lead);
        let dense = self.recording.computed(shape);
        self.recording.push(ScatterRows {
            x: cotangent.id,
            positions: self.seed.positions,
            batch: sparse.lead / self.seed.count,
            y: dense,
        });
        let rows = self.reach(y);
        let id = self.first_rows(dense, rows);
        self.cotangents.insert(y, Cotangent { id, sparse: false });
        Some(id)
    }

    /// The cotangent of `y`, and whether it has only one row for each
    /// explained token; for operators that work row by row without reading
    /// forward tensors.
    pub fn cotangent_rows(&mut self, y: TensorId) -> Option<(TensorId, bool)> {
        let cotangent = *self.cotangents.get(&y)?;
        Some((cotangent.id, cotangent.sparse))
    }

    /// A new tensor for a cotangent of all of `x`, made by an operator of
    /// `lead` lead rows.
    pub fn new_cotangent(&mut self, x: TensorId, lead: usize) -> TensorId {
        let shape = self.recording.shape(x).with_lead(lead);
        self.recording.computed(shape)
    }

    /// The same for the rows of `x` that depend on a source, for operators that
    /// can write the first rows alone.
    pub fn reached_cotangent(&mut self, x: TensorId, lead: usize) -> TensorId {
        let mut shape = self.recording.shape(x).with_lead(lead);
        shape.rows = self.reach(x);
        self.recording.computed(shape)
    }

    /// What has been summed for `x` so far, if an operator with `lead` lead
    /// rows may add it to its own contribution; it then calls
    /// [`set`](Self::set) instead of [`contribute`](Self::contribute).
    pub fn take_sum(&mut self, x: TensorId, lead: usize) -> Option<TensorId> {
        let part = self.reach(x) < self.recording.shape(x).rows;
        if part || self.lead(x) != lead || self.cotangents.get(&x)?.sparse {
            return None;
        }
        self.cotangents.remove(&x).map(|cotangent| cotangent.id)
    }

    /// Adds `dx` to the cotangent of `x`, as far as that goes.
    pub fn contribute(&mut self, x: TensorId, dx: TensorId) {
        let rows = self.reach(x);
        let dx = self.first_rows(dx, rows);
        self.contribute_rows(x, dx, false);
    }

    /// The first `rows` rows of a tensor, or all if it has no more.
    pub fn first_rows(&mut self, x: TensorId, rows: usize) -> TensorId {
        let rows = rows.min(self.recording.shape(x).rows);
        let first = self.recording.take_rows(x, 0, rows);
        first.expect("no more rows than there are")
    }

    /// Adds `dx` to the cotangent of `x`; `sparse` if it has one row only.
    pub fn contribute_rows(&mut self, x: TensorId, dx: TensorId, sparse: bool) {
        let lead = self.lead(x);
        let shape = self.recording.shape(dx);
        let mut dx = dx;
        if shape.lead > lead {
            // x was broadcast over the batch: its reverse sums over it.
            let batch = shape.lead / self.seed.count;
            let sum = self.recording.computed(shape.with_lead(lead));
            self.recording.push(SumBatch {
                x: dx,
                batch,
                y: sum,
            });
            dx = sum;
        }
        let new = Cotangent { id: dx, sparse };
        let Some(&old) = self.cotangents.get(&x) else {
            self.cotangents.insert(x, new);
            return;
        };
        let dense_old = if sparse == old.sparse {
            old.id
        } else {
            self.cotangent(x).expect("it was there")
        };
        let dense_new = if sparse && !old.sparse {
            self.cotangents.insert(x, new);
            let dense = self.cotangent(x).expect("it was put there");
            self.cotangents.insert(x, old);
            dense
        } else {
            dx
        };
        let sum = self.recording.computed(self.recording.shape(dense_new));
        self.recording.push(Add {
            a: dense_old,
            b: dense_new,
            scale_a: 1.0,
            scale_b: 1.0,
            y: sum,
        });
        let sparse = sparse && old.sparse;
        self.cotangents.insert(x, Cotangent { id: sum, sparse });
    }

    /// Sets the cotangent of `x` to `dx`, which holds everything summed so
    /// far.
    pub fn set(&mut self, x: TensorId, dx: TensorId) {
        let sparse = false;
        self.cotangents.insert(x, Cotangent { id: dx, sparse });
    }
}
