//! Memory that was given back and is used again. The system clears every page
//! that it hands out, which takes as long as computing what a small plan
//! writes there.

use super::real::Real;
use crate::{Error, Result};

/// Bytes that may lie idle. What is larger takes long to fill anyway.
pub const MOST_IDLE_BYTES: usize = 128 << 20;

/// Idle memory, of any sizes.
pub struct Pool<T> {
    idle: Vec<Vec<T>>,
    bytes: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            idle: Vec::new(),
            bytes: 0,
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
            Some(index) => {
                let values = self.idle.swap_remove(index);
                self.bytes -= bytes_of(&values);
                values
            }
            None => {
                let mut values = Vec::new();
                values.try_reserve_exact(len).map_err(|_| {
                    Error::Memory(format!("no memory for {len} {} numbers", T::PRECISION))
                })?;
                values
            }
        };
        values.resize(len, T::default());
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
        if bytes > 0 && self.bytes + bytes <= MOST_IDLE_BYTES {
            self.bytes += bytes;
            self.idle.push(values);
        }
    }
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
        let mut first = pool.take(1000).unwrap();
        first.fill(7.0);
        let place = first.as_ptr();
        pool.give(first);
        assert_eq!(pool.take(400).unwrap().len(), 400, "a smaller one is new");
        let again = pool.zeros(700).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, 700));
        assert!(again.iter().all(|x| *x == 0.0));
        pool.give(again);
        let larger = pool.take(1000).unwrap();
        assert_eq!((larger.as_ptr(), larger.len()), (place, 1000));
        assert!(pool.idle.is_empty() && pool.bytes == 0);

        pool.give(vec![0.0; MOST_IDLE_BYTES / 4]);
        pool.give(vec![0.0; 10]);
        assert_eq!((pool.idle.len(), pool.bytes), (1, MOST_IDLE_BYTES));
    }

    #[test]
    fn a_lack_of_memory_is_an_error() {
        let problem = Pool::<f64>::default().take(usize::MAX / 64).unwrap_err();
        assert!(matches!(problem, Error::Memory(_)), "{problem}");
    }
}
