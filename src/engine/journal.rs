//! What an executor holds, in the order in which it was made, so that
//! everything made since some moment can be given back at once.

use super::executor::PlanId;
use super::tensor::PersistentId;

/// A moment in an executor's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// Something that takes memory until it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Persistent(PersistentId),
    Plan(PlanId),
}

/// The held things of one executor.
#[derive(Debug, Default)]
pub struct Journal {
    /// Oldest first.
    entries: Vec<(u64, Held)>,
    next: u64,
}

impl Journal {
    /// Notes that something was made.
    pub fn made(&mut self, held: Held) {
        self.entries.push((self.next, held));
        self.next += 1;
    }

    /// Notes that something was given back. Ids are used again, so the newest
    /// entry is the one that is meant.
    pub fn gone(&mut self, held: Held) {
        if let Some(at) = self.entries.iter().rposition(|(_, own)| *own == held) {
            self.entries.remove(at);
        }
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        Mark(self.next)
    }

    /// What was made since `mark` and is still held, newest first.
    pub fn since(&self, mark: Mark) -> Vec<Held> {
        let newer = self.entries.iter().rev();
        let newer = newer.take_while(|(number, _)| *number >= mark.0);
        newer.map(|(_, held)| *held).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_newer_than_the_mark_and_still_held_is_listed() {
        let [a, b] = [0, 1].map(|n| Held::Persistent(PersistentId(n)));
        let plan = Held::Plan(PlanId(0));
        let mut journal = Journal::default();
        journal.made(a);
        let mark = journal.mark();
        journal.made(b);
        journal.made(plan);
        assert_eq!(journal.since(mark), [plan, b]);
        journal.gone(b);
        assert_eq!(journal.since(mark), [plan]);
        // An id that is free is given again.
        journal.gone(a);
        journal.made(a);
        assert_eq!(journal.since(mark), [a, plan]);
        assert_eq!(journal.since(journal.mark()), []);
    }
}
