//! The best way through states that follow each other, frame by frame.

use std::ops::Range;

/// Something that lasts for some frames: a token, or the silence before it.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// By frame: what it gains by lasting there.
    pub gain: Vec<f64>,
    /// Whether it may be left out.
    pub optional: bool,
    /// Frames that it lasts at least, if it is not left out.
    pub shortest: usize,
}

/// What is known of a state that ends at a frame.
#[derive(Clone, Copy)]
struct Best {
    gain: f64,
    /// The frame at which the state begins.
    start: usize,
    /// The state before it.
    before: Option<usize>,
}

/// The frames of each state along the way on which they gain most, from the
/// first frame to the last; empty for those that are left out. Absent where
/// those that must be there do not fit.
pub(super) fn best_path(states: &[State], frames: usize) -> Option<Vec<Range<usize>>> {
    let mut ends: Vec<Vec<Option<Best>>> = Vec::with_capacity(states.len());
    for (s, state) in states.iter().enumerate() {
        let mut sums = Vec::with_capacity(frames + 1);
        sums.push(0.0);
        for j in 0..frames {
            sums.push(sums[j] + state.gain[j]);
        }
        let mut own: Vec<Option<Best>> = vec![None; frames];
        for end in 0..frames {
            let goes_on = match end {
                0 => None,
                _ => own[end - 1].map(|best| Best {
                    gain: best.gain + state.gain[end],
                    ..best
                }),
            };
            let entered = (end + 1).checked_sub(state.shortest).and_then(|start| {
                let (gain, before) = entry(states, &ends, s, start)?;
                let gain = gain + sums[end + 1] - sums[start];
                Some(Best {
                    gain,
                    start,
                    before,
                })
            });
            own[end] = match (goes_on, entered) {
                (Some(long), Some(short)) if short.gain > long.gain => Some(short),
                (None, short) => short,
                (long, _) => long,
            };
        }
        ends.push(own);
    }
    let mut here = last(states, &ends, frames)?;
    let mut spans = vec![0..0; states.len()];
    let mut end = frames;
    loop {
        let best = ends[here][end - 1]?;
        spans[here] = best.start..end;
        end = best.start;
        match best.before {
            Some(before) => here = before,
            None => return Some(spans),
        }
    }
}

/// The best that ends before `start` and may be followed by state `s`: its
/// gain and which it is; 0 and none at the first frame, if nothing must be
/// before.
fn entry(
    states: &[State],
    ends: &[Vec<Option<Best>>],
    s: usize,
    start: usize,
) -> Option<(f64, Option<usize>)> {
    if start == 0 {
        let first = states[..s].iter().all(|state| state.optional);
        return first.then_some((0.0, None));
    }
    let mut found: Option<(f64, Option<usize>)> = None;
    for before in (0..s).rev() {
        if let Some(best) = ends[before][start - 1]
            && found.is_none_or(|(gain, _)| best.gain > gain)
        {
            found = Some((best.gain, Some(before)));
        }
        if !states[before].optional {
            break;
        }
    }
    found
}

/// The state that the best way ends with.
fn last(states: &[State], ends: &[Vec<Option<Best>>], frames: usize) -> Option<usize> {
    let at = frames.checked_sub(1)?;
    let mut found: Option<(f64, usize)> = None;
    for (s, state) in states.iter().enumerate().rev() {
        if let Some(best) = ends[s][at]
            && found.is_none_or(|(gain, _)| best.gain > gain)
        {
            found = Some((best.gain, s));
        }
        if !state.optional {
            break;
        }
    }
    found.map(|(_, s)| s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::philox::philox4x32;

    fn gain(states: &[State], spans: &[Range<usize>]) -> f64 {
        let each = states.iter().zip(spans);
        each.map(|(state, span)| state.gain[span.clone()].iter().sum::<f64>())
            .sum()
    }

    /// Tries every way.
    fn best(states: &[State], s: usize, from: usize, frames: usize) -> Option<f64> {
        let Some(state) = states.get(s) else {
            return (from == frames).then_some(0.0);
        };
        let left_out = state.optional.then(|| best(states, s + 1, from, frames));
        let ends = from + state.shortest..=frames;
        let taken = ends.filter_map(|end| {
            let own: f64 = state.gain[from..end].iter().sum();
            Some(own + best(states, s + 1, end, frames)?)
        });
        taken.chain(left_out.flatten()).max_by(f64::total_cmp)
    }

    #[test]
    fn no_way_is_better() {
        for trial in 0..300u32 {
            let at = |i: usize| {
                let word = philox4x32([i as u32, trial, 0, 0], [3, 9])[0];
                f64::from(word) / 4_294_967_296.0
            };
            let (count, frames) = (1 + trial as usize % 4, 1 + trial as usize / 4 % 7);
            let states: Vec<State> = (0..count)
                .map(|s| State {
                    gain: (0..frames).map(|j| at(s * 7 + j) - 0.5).collect(),
                    optional: at(100 + s) < 0.5,
                    shortest: 1 + (at(120 + s) * 3.0) as usize,
                })
                .collect();
            let found = best_path(&states, frames);
            let expected = best(&states, 0, 0, frames);
            assert_eq!(found.is_some(), expected.is_some(), "{trial}");
            let (Some(spans), Some(expected)) = (found, expected) else {
                continue;
            };
            assert!((gain(&states, &spans) - expected).abs() < 1e-12, "{trial}");
            let mut from = 0;
            for (state, span) in states.iter().zip(&spans) {
                if span.is_empty() {
                    assert!(state.optional);
                    continue;
                }
                assert_eq!(span.start, from, "{trial}");
                assert!(span.len() >= state.shortest);
                from = span.end;
            }
            assert_eq!(from, frames);
        }
    }

    #[test]
    fn nothing_fits_no_frames() {
        assert!(best_path(&[], 3).is_none());
        let state = State {
            gain: Vec::new(),
            optional: false,
            shortest: 1,
        };
        assert!(best_path(&[state], 0).is_none());
    }
}
