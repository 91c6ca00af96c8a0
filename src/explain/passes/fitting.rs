//! How much of the work fits the memory at once.

use crate::Result;
use crate::engine::executor::Executor;
use crate::engine::recording::Recording;
use crate::engine::schedule::largest_tensor;

/// The largest count from 1 to `most` whose recording fits: all of it the
/// memory, each of its tensors the executor; in equal shares. One may be too
/// many; preparing it says so.
pub(in crate::explain) fn fitting(
    executor: &dyn Executor,
    memory: usize,
    most: usize,
    build: &dyn Fn(usize) -> Result<Recording>,
) -> Result<usize> {
    if most <= 1 {
        return Ok(most);
    }
    let (one, all) = (build(1)?, build(most)?);
    let whole = share(
        memory,
        most,
        executor.estimate(&one),
        executor.estimate(&all),
    );
    let each = share(
        executor.largest_tensor(),
        most,
        largest_tensor(&one),
        largest_tensor(&all),
    );
    let count = whole.min(each);
    Ok(most.div_ceil(most.div_ceil(count)))
}

/// The largest count from 1 to `most` that fits the budget, taking sizes to be
/// linear between those for 1 and for `most`.
fn share(budget: usize, most: usize, for_one: usize, for_most: usize) -> usize {
    if for_most <= budget {
        return most;
    }
    let slope = (for_most.saturating_sub(for_one)).div_ceil(most - 1).max(1);
    (1 + budget.saturating_sub(for_one) / slope).clamp(1, most)
}
