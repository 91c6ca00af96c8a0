//! Persistent tensors' buffers, in use and parked.
//!
//! A buffer that was given back waits for the next tensor of its size. Bind
//! groups hold buffers, so a plan need not be bound anew where its slots get
//! the same ones again: of several that fit, the one that was made first is
//! taken, and whoever allocates as before gets what it had before, in
//! whatever order that was given back. Nothing but time depends on it.

use std::collections::VecDeque;

/// Buffers that may be parked.
const MOST_PARKED: usize = 1_024;

/// Bytes that they may take.
const MOST_PARKED_BYTES: u64 = 256 << 20;

/// Memory of a persistent tensor.
pub struct Tensor {
    pub buffer: wgpu::Buffer,
    /// Buffers that were made earlier have lower ones.
    number: u64,
}

/// The buffers that nobody holds.
#[derive(Default)]
pub struct Parked {
    /// Oldest first.
    tensors: VecDeque<Tensor>,
    bytes: u64,
    /// How many buffers were made.
    made: u64,
}

impl Parked {
    /// The memory that a new buffer is.
    pub fn number(&mut self, buffer: wgpu::Buffer) -> Tensor {
        self.made += 1;
        Tensor {
            buffer,
            number: self.made,
        }
    }

    /// Takes one of so many bytes, if there is one.
    pub fn take(&mut self, bytes: usize) -> Option<Tensor> {
        let tensors = self.tensors.iter().enumerate();
        let fitting = tensors.filter(|(_, own)| own.buffer.size() == bytes as u64);
        let (found, _) = fitting.min_by_key(|(_, own)| own.number)?;
        let own = self.tensors.remove(found)?;
        self.bytes -= own.buffer.size();
        Some(own)
    }

    /// Parks a buffer; returns those that have to go for it, or that one
    /// itself if it is too large.
    pub fn park(&mut self, tensor: Tensor) -> Vec<wgpu::Buffer> {
        if tensor.buffer.size() > MOST_PARKED_BYTES {
            return vec![tensor.buffer];
        }
        self.bytes += tensor.buffer.size();
        self.tensors.push_back(tensor);
        let mut gone = Vec::new();
        while self.bytes > MOST_PARKED_BYTES || self.tensors.len() > MOST_PARKED {
            let oldest = self.tensors.pop_front().expect("there is one at least");
            self.bytes -= oldest.buffer.size();
            gone.push(oldest.buffer);
        }
        gone
    }

    /// Gives up all of them.
    pub fn clear(&mut self) {
        self.tensors.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gpu::adapter::open_for_tests;

    fn buffer(device: &wgpu::Device, size: u64) -> wgpu::Buffer {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    }

    /// Whatever the order in which they were given back.
    #[test]
    #[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
    fn whoever_asks_as_before_gets_what_it_had() {
        let device = open_for_tests().raw;
        let mut parked = Parked::default();
        let mut made: Vec<Tensor> = [64, 64, 32, 64]
            .map(|size| parked.number(buffer(&device, size)))
            .into();
        let buffers: Vec<_> = made.iter().map(|own| own.buffer.clone()).collect();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let mut own: Vec<_> = made.drain(..).map(Some).collect();
            for place in order {
                assert!(parked.park(own[place].take().unwrap()).is_empty());
            }
            made.extend([64, 64, 32, 64].map(|size| parked.take(size).unwrap()));
            assert!(buffers.iter().eq(made.iter().map(|own| &own.buffer)));
        }
        assert!(parked.take(64).is_none());
        assert_eq!(parked.bytes, 0);
    }

    #[test]
    #[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
    fn the_oldest_make_room() {
        let device = open_for_tests().raw;
        let mut parked = Parked::default();
        let mut park = |size| {
            let own = parked.number(buffer(&device, size));
            (own.buffer.clone(), parked.park(own))
        };
        let (first, gone) = park(16);
        assert!(gone.is_empty());
        for _ in 1..MOST_PARKED {
            assert!(park(16).1.is_empty());
        }
        assert_eq!(park(16).1, [first]);
    }
}
