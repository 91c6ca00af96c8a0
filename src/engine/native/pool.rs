//! Memory that was given back and is used again. The system clears every page
//! that it hands out, which takes as long as computing what a small plan
//! writes there.

use std::collections::VecDeque;

use super::real::Real;
use crate::{Error, Result};

/// Bytes that may lie idle. What is larger takes long to fill anyway.
pub const MOST_IDLE_BYTES: usize = 128 << 20;

/// Idle memory, of any sizes. Together with what is out it is never more than
/// what once was out at the same time: sounds of ever new lengths would leave more
/// and more that fits none.
pub struct Pool<T> {
    /// Oldest first.
    idle: VecDeque<Vec<T>>,
    bytes: usize,
    /// Bytes that were taken and not given back yet.
    out: usize,
    /// The most that they have been.
    most_out: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            idle: VecDeque::new(),
            bytes: 0,
            out: 0,
            most_out: 0,
        }
    }
}

impl<T: Real> Pool<T> {
    /// Memory for `len` numbers, of any value.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    pub fn take(&mut self, len: usize) -> Result<Vec<T>> {
        // The smallest that is large enough, and not so large that others
        // would miss it.
        let fits = |own: &Vec<T>| (len..=2 * len).contains(&own.capacity());
        let idle = self.idle.iter().enumerate().filter(|(_, own)| fits(own));
        let best = idle.min_by_key(|(_, own)| own.capacity());
        let mut values = match best.map(|(index, _)| index) {
            Some(index) => self.idle.remove(index).unwrap_or_default(),
            None => Vec::new(),
        };
        self.bytes -= bytes_of(&values);
        // Nothing to do for what was there.
        values
            .try_reserve_exact(size_class(len).saturating_sub(values.len()))
            .map_err(|_| Error::Memory(format!("no memory for {len} {} numbers", T::PRECISION)))?;
        values.resize(len, T::default());
        self.out += bytes_of(&values);
        self.most_out = self.most_out.max(self.out);
        self.trim();
        Ok(values)
    }

    /// Memory for `len` zeros.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    pub fn zeros(&mut self, len: usize) -> Result<Vec<T>> {
        let mut values = self.take(len)?;
        values.fill(T::default());
        Ok(values)
    }

    /// Gives memory back, for later or to the system.
    pub fn give(&mut self, values: Vec<T>) {
        let bytes = bytes_of(&values);
        // What came from elsewhere is not counted as out.
        self.out = self.out.saturating_sub(bytes);
        if bytes > 0 && bytes <= MOST_IDLE_BYTES {
            self.bytes += bytes;
            self.idle.push_back(values);
            self.trim();
        }
    }

    /// Lets the oldest go that are too much.
    fn trim(&mut self) {
        let most = MOST_IDLE_BYTES.min(self.most_out - self.out);
        while self.bytes > most
            && let Some(oldest) = self.idle.pop_front()
        {
            self.bytes -= bytes_of(&oldest);
        }
    }
}

/// The numbers that memory for `len` is taken for: one of eight sizes between
/// powers of two. Sounds of ever new lengths would otherwise leave holes, here
/// and in the system's allocator, that no later length fits.
fn size_class(len: usize) -> usize {
    const LEAST_STEP: usize = 16;
    let step = (len.next_power_of_two() / 16).max(LEAST_STEP);
    // What cannot be had is refused as it is.
    len.checked_next_multiple_of(step).unwrap_or(len)
}

fn bytes_of<T>(values: &Vec<T>) -> usize {
    values.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_never_hoarded() {
        let mut pool = Pool::<f32>::default();
        let mut first = pool.take(1024).unwrap();
        first.fill(7.0);
        let place = first.as_ptr();
        pool.give(first);
        let again = pool.zeros(704).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, 704));
        assert!(again.iter().all(|x| *x == 0.0));
        pool.give(again);
        let larger = pool.take(1024).unwrap();
        assert_eq!((larger.as_ptr(), larger.len()), (place, 1024));
        assert!(pool.idle.is_empty() && pool.bytes == 0);
        pool.give(larger);
        // A smaller one is new, and what is too much with it goes.
        let smaller = pool.take(416).unwrap();
        assert_eq!((pool.idle.len(), pool.out, pool.most_out), (0, 1664, 4096));
        pool.give(smaller);
        assert_eq!((pool.idle.len(), pool.bytes), (1, 1664));

        let large = pool.take(MOST_IDLE_BYTES / 4 + 1).unwrap();
        pool.give(large);
        assert_eq!((pool.idle.len(), pool.bytes), (0, 0));
        pool.give(vec![0.0; MOST_IDLE_BYTES / 4]);
        assert_eq!((pool.idle.len(), pool.bytes), (1, MOST_IDLE_BYTES));
    }

    /// As many as were out at the same time once, whatever sizes come.
    #[test]
    fn ever_new_sizes_leave_no_more_than_was_out_at_once() {
        let mut pool = Pool::<f32>::default();
        for round in 0..100 {
            let taken = [7, 11, 13].map(|step| {
                let len = 1000 + (round * step * 37) % 900;
                pool.take(len).unwrap()
            });
            taken.into_iter().for_each(|own| pool.give(own));
            assert!(pool.bytes <= pool.most_out, "{round}");
        }
        assert!(pool.most_out <= 3 * 2 * 1920 * 4, "{}", pool.most_out);
    }

    #[test]
    fn size_classes_waste_little() {
        for len in (1..5000).chain([usize::MAX / 64]) {
            let class = size_class(len);
            assert!(
                class >= len && class - len < (len / 8).max(16),
                "{len}, {class}"
            );
            assert_eq!(size_class(class), class);
        }
        let classes: std::collections::BTreeSet<_> = (1025..=2048).map(size_class).collect();
        assert_eq!(classes.len(), 8);
    }

    #[test]
    fn a_lack_of_memory_is_an_error() {
        let problem = Pool::<f64>::default().take(usize::MAX / 64).unwrap_err();
        assert!(matches!(problem, Error::Memory(_)), "{problem}");
    }
}
