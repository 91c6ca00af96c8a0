//! Persistent tensors: buffers with numbers, which outlive plans.
//!
//! A freed tensor's buffer stays parked under its number. Utterances ask for
//! the same tensors in the same order, so one that is as long as an earlier
//! one gets the same buffers under the same numbers, and plans that bound
//! them still hold.

use std::collections::VecDeque;

use crate::engine::tensor::{Kind, PersistentId, Shape};
use crate::{Error, Result};

/// Buffers that may be parked.
const MOST_PARKED: usize = 1_024;

/// Bytes that they may take.
const MOST_PARKED_BYTES: u64 = 256 << 20;

/// A tensor that somebody holds.
pub struct Persistent {
    pub kind: Kind,
    pub shape: Shape,
    pub buffer: wgpu::Buffer,
}

/// All of them, by number.
#[derive(Default)]
pub struct PersistentTable {
    live: Vec<Option<Persistent>>,
    /// Numbers, kinds and buffers that nobody holds, oldest first.
    parked: VecDeque<(PersistentId, Kind, wgpu::Buffer)>,
    parked_bytes: u64,
}

impl PersistentTable {
    /// The number that the next tensor gets: the lowest that is free.
    pub fn next(&self) -> PersistentId {
        let free = self.live.iter().position(Option::is_none);
        PersistentId(free.unwrap_or(self.live.len()) as u32)
    }

    /// # Errors
    /// If nobody holds that tensor.
    pub fn get(&self, id: PersistentId) -> Result<&Persistent> {
        let found = self.live.get(id.0 as usize);
        found
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::Device(format!("persistent tensor {} is not allocated", id.0)))
    }

    /// Takes the buffer of this kind and of `bytes` that is parked under a
    /// number, if there is one.
    pub fn unpark(&mut self, id: PersistentId, kind: Kind, bytes: usize) -> Option<wgpu::Buffer> {
        let wanted = (id, kind, bytes as u64);
        let mut parked = self.parked.iter();
        let found = parked.position(|(id, kind, own)| (*id, *kind, own.size()) == wanted)?;
        let (.., buffer) = self.parked.remove(found)?;
        self.parked_bytes -= buffer.size();
        Some(buffer)
    }

    /// Puts a tensor at a free number.
    pub fn insert(&mut self, id: PersistentId, own: Persistent) {
        let index = id.0 as usize;
        if index == self.live.len() {
            self.live.push(None);
        }
        self.live[index] = Some(own);
    }

    /// Lets go of a tensor, if somebody holds it, and parks its buffer;
    /// returns its shape and the buffers that had to go for it.
    pub fn remove(&mut self, id: PersistentId) -> Option<(Shape, Vec<wgpu::Buffer>)> {
        let own = self.live[id.0 as usize].take()?;
        if own.buffer.size() > MOST_PARKED_BYTES {
            return Some((own.shape, vec![own.buffer]));
        }
        self.parked_bytes += own.buffer.size();
        self.parked.push_back((id, own.kind, own.buffer));
        let mut gone = Vec::new();
        while self.parked_bytes > MOST_PARKED_BYTES || self.parked.len() > MOST_PARKED {
            let (.., oldest) = self.parked.pop_front().expect("there is one at least");
            self.parked_bytes -= oldest.size();
            gone.push(oldest);
        }
        Some((own.shape, gone))
    }

    /// Gives up all buffers that nobody holds.
    pub fn forget_parked(&mut self) {
        self.parked.clear();
        self.parked_bytes = 0;
    }
}
