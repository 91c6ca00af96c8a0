//! One transfer for everything that comes back from the device: who wants a
//! tensor gets a ticket when it is queued, and its values for the ticket.

use crate::Result;
use crate::engine::executor::Executor;
use crate::engine::tensor::PersistentId;
use crate::explain::profile::MAPS;

/// Tensors that will be read.
#[derive(Debug, Default)]
pub struct Batch {
    ids: Vec<PersistentId>,
}

/// A claim to the values of one tensor. It is no copy and cannot be copied, so
/// that nothing is taken twice.
#[derive(Debug)]
#[must_use = "values that nobody takes were read for nothing"]
pub struct Ticket(usize);

/// Values that have arrived.
pub struct Arrived {
    values: Vec<Option<Vec<f32>>>,
}

impl Batch {
    /// Queues a tensor.
    pub fn want(&mut self, id: PersistentId) -> Ticket {
        self.ids.push(id);
        Ticket(self.ids.len() - 1)
    }

    /// Queues several tensors.
    pub fn want_all(&mut self, ids: &[PersistentId]) -> Vec<Ticket> {
        ids.iter().map(|&id| self.want(id)).collect()
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(self, executor: &mut dyn Executor) -> Result<Arrived> {
        let values = executor.read(&self.ids, MAPS)?;
        Ok(Arrived {
            values: values.into_iter().map(Some).collect(),
        })
    }
}

impl Arrived {
    /// The values of a ticket's tensor, row-major.
    ///
    /// # Panics
    /// If the ticket is of another batch.
    pub fn take(&mut self, ticket: Ticket) -> Vec<f32> {
        let values = self.values.get_mut(ticket.0).and_then(Option::take);
        values.expect("a ticket of this batch, which is given up here")
    }

    /// The values of several tickets, one after the other.
    pub fn take_all(&mut self, tickets: Vec<Ticket>) -> Vec<f32> {
        let each = tickets.into_iter().map(|ticket| self.take(ticket));
        each.collect::<Vec<_>>().concat()
    }
}
