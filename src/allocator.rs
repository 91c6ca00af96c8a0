//! Memory for a program that explains sound after sound.
//!
//! Large blocks are mapped one by one, so that they go back to the system
//! when they are freed: out of a heap, sounds of ever new lengths would leave
//! holes in it. But products of matrices take and free the same few blocks
//! thousands of times a second, and to map and clear those each time took a quarter
//! of a gradient's time. So those freed last are kept for the next that asks.
//!
//! ```
//! use sonograd::allocator::Keeping;
//!
//! #[global_allocator]
//! static MEMORY: Keeping = Keeping::new();
//!
//! fn main() {
//!     MEMORY.map_large_blocks();
//! }
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, PoisonError};

/// Bytes from which on a block is mapped by itself, and kept.
const LARGE: usize = 128 << 10;
/// Bytes up to which a freed block is kept; products want some megabytes.
const LARGEST: usize = 4 << 20;
/// Bytes of all kept blocks.
const MOST: usize = 8 << 20;
/// Kept blocks.
const SLOTS: usize = 8;

/// The system's allocator, which keeps a few large blocks that were freed.
pub struct Keeping(Mutex<Idle>);

/// Freed blocks, oldest first.
struct Idle {
    blocks: [Block; SLOTS],
    count: usize,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Block {
    address: *mut u8,
    layout: Layout,
}

// SAFETY: nobody else has a kept block.
unsafe impl Send for Idle {}

impl Keeping {
    /// Nothing is kept yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        let nothing = Block {
            address: std::ptr::null_mut(),
            layout: Layout::new::<u8>(),
        };
        Self(Mutex::new(Idle {
            blocks: [nothing; SLOTS],
            count: 0,
            bytes: 0,
        }))
    }

    /// Has glibc map large blocks for as long as the process lasts. With every
    /// larger block that is freed it otherwise raises the size from which it does
    /// so, up to 32 MiB. Elsewhere it does nothing.
    pub fn map_large_blocks(&self) {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: it sets a number of the allocator under the allocator's lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE as libc::c_int);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// The block of this layout that was freed last.
    fn take(&mut self, layout: Layout) -> Option<*mut u8> {
        let kept = &self.blocks[..self.count];
        let index = kept.iter().rposition(|block| block.layout == layout)?;
        Some(self.remove(index).address)
    }

    fn remove(&mut self, index: usize) -> Block {
        let block = self.blocks[index];
        self.blocks.copy_within(index + 1..self.count, index);
        self.count -= 1;
        self.bytes -= block.layout.size();
        block
    }

    /// The oldest, if it has to go before `size` more bytes are kept.
    fn surplus(&mut self, size: usize) -> Option<Block> {
        let full = self.count == SLOTS || self.bytes + size > MOST;
        (full && self.count > 0).then(|| self.remove(0))
    }

    fn keep(&mut self, block: Block) {
        self.blocks[self.count] = block;
        self.count += 1;
        self.bytes += block.layout.size();
    }
}

/// Whether a block of this layout is kept.
fn kept(layout: &Layout) -> bool {
    (LARGE..=LARGEST).contains(&layout.size())
}

// SAFETY: every block comes from the system's allocator, goes to one owner at a
// time, and is given back with its own layout. Nothing here allocates or panics
// while the lock is held: std's lock does not allocate, and places are in range.
unsafe impl GlobalAlloc for Keeping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if kept(&layout)
            && let Some(address) = self.idle().take(layout)
        {
            return address;
        }
        // SAFETY: as asked of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // Freshly mapped memory is zero as it comes.
        // SAFETY: as asked of this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        if !kept(&layout) {
            // SAFETY: as asked of this function.
            return unsafe { System.dealloc(address, layout) };
        }
        loop {
            let mut idle = self.idle();
            let Some(old) = idle.surplus(layout.size()) else {
                return idle.keep(Block { address, layout });
            };
            drop(idle);
            // SAFETY: it was freed with this layout, and nobody has it.
            unsafe { System.dealloc(old.address, old.layout) };
        }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as asked of this function.
        unsafe { System.realloc(address, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_used_again_and_few_are_kept() {
        let memory = Keeping::new();
        let of = |size| Layout::from_size_align(size, 64).unwrap();
        // SAFETY: layouts are not empty, and every block is freed once.
        unsafe {
            let first = memory.alloc(of(LARGE));
            first.write_bytes(7, LARGE);
            memory.dealloc(first, of(LARGE));
            assert_eq!(memory.idle().bytes, LARGE);
            // Another size or alignment is another block.
            let other = memory.alloc(of(LARGE + 64));
            assert_ne!(other, first);
            let again = memory.alloc(of(LARGE));
            assert_eq!((again, memory.idle().count), (first, 0));
            // Zeros are zeros.
            memory.dealloc(again, of(LARGE));
            let zeros = memory.alloc_zeroed(of(LARGE));
            assert!(
                std::slice::from_raw_parts(zeros, LARGE)
                    .iter()
                    .all(|&x| x == 0)
            );
            memory.dealloc(zeros, of(LARGE));
            memory.dealloc(other, of(LARGE + 64));
            // What is small or huge is not kept.
            for size in [LARGE - 1, LARGEST + 1] {
                let before = memory.idle().bytes;
                let block = memory.alloc(of(size));
                memory.dealloc(block, of(size));
                assert_eq!(memory.idle().bytes, before);
            }
            for number in 0..3 * SLOTS {
                let layout = of(LARGE + 64 * number);
                let block = memory.alloc(layout);
                memory.dealloc(block, layout);
                let idle = memory.idle();
                assert!(idle.count <= SLOTS && idle.bytes <= MOST);
            }
            let blocks: Vec<_> = (0..4).map(|_| memory.alloc(of(LARGEST))).collect();
            for block in blocks {
                memory.dealloc(block, of(LARGEST));
            }
            let left = memory.idle();
            assert_eq!((left.count, left.bytes), (2, MOST));
            drop(left);
            // The rest goes back.
            while let Some(block) = memory.0.lock().unwrap().surplus(MOST) {
                System.dealloc(block.address, block.layout);
            }
        }
    }

    #[test]
    fn what_grows_moves() {
        let memory = Keeping::new();
        let layout = Layout::from_size_align(LARGE, 8).unwrap();
        // SAFETY: the block is freed once, with the layout that it has last.
        unsafe {
            let block = memory.alloc(layout);
            block.write_bytes(3, LARGE);
            let grown = memory.realloc(block, layout, 2 * LARGE);
            assert!(
                std::slice::from_raw_parts(grown, LARGE)
                    .iter()
                    .all(|&x| x == 3)
            );
            memory.dealloc(grown, Layout::from_size_align(2 * LARGE, 8).unwrap());
            assert_eq!(memory.idle().bytes, 2 * LARGE);
            while let Some(block) = memory.0.lock().unwrap().surplus(MOST) {
                System.dealloc(block.address, block.layout);
            }
        }
    }
}
