//! How far work has come that nobody is told of while it goes on: another
//! thread may look.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many parts of some work are done; its clones are the same gauge.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    /// How many there are, 0 where nothing goes on; below, how many are done.
    parts: Arc<AtomicU64>,
}

impl Gauge {
    /// Work of some parts begins.
    pub(crate) fn begin(&self, all: usize) {
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        self.parts.store(u64::from(all) << 32, Ordering::Relaxed);
    }

    /// Another part is done.
    pub(crate) fn step(&self) {
        if self.now().is_some_and(|[done, all]| done < all) {
            self.parts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nothing goes on any more.
    pub(crate) fn end(&self) {
        self.parts.store(0, Ordering::Relaxed);
    }

    /// How many parts are done, and how many there are, while it goes on.
    pub fn now(&self) -> Option<[usize; 2]> {
        let parts = self.parts.load(Ordering::Relaxed);
        let [done, all] = [parts & u64::from(u32::MAX), parts >> 32];
        (all > 0).then_some([done as usize, all as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_see_the_same() {
        let gauge = Gauge::default();
        let seen = gauge.clone();
        gauge.step();
        assert_eq!(seen.now(), None);
        gauge.begin(2);
        assert_eq!(seen.now(), Some([0, 2]));
        (0..3).for_each(|_| gauge.step());
        assert_eq!(seen.now(), Some([2, 2]));
        gauge.end();
        assert_eq!(seen.now(), None);
    }
}
