//! Rules that change scores instead of banning tokens, as transformers'
//! processors of logits do, in their order. Where a model's folder asks for one
//! of them, whole rows of logits are read from the device at every step.

use super::options::GenerationOptions;
use super::rules::{Bans, Ranges, never};
use super::session::Candidate;

/// Rules of scores; [`Default`] is none.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScoreRules {
    /// Divides scores above 0 of tokens that are there already, multiplies
    /// those below; 1 is none.
    pub repetition_penalty: f32,
    /// Sequences, and what is added to the score of their last token behind the
    /// others.
    pub bias: Vec<(Vec<u32>, f32)>,
    /// After how many tokens the end's score grows, and by which factor with
    /// each.
    pub decay: Option<(usize, f64)>,
    /// Tokens that the last position has, if the text comes to it.
    pub forced_last: Vec<u32>,
    /// Whether scores are made logarithms of probabilities again at the end.
    pub normalised_again: bool,
}

impl Default for ScoreRules {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            bias: Vec::new(),
            decay: None,
            forced_last: Vec::new(),
            normalised_again: false,
        }
    }
}

impl ScoreRules {
    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// The rules that there are, as `generation_config.json` names them.
    pub fn names(&self) -> Vec<&'static str> {
        let named = [
            ("repetition_penalty", self.repetition_penalty != 1.0),
            ("sequence_bias", !self.bias.is_empty()),
            ("exponential_decay_length_penalty", self.decay.is_some()),
            ("forced_eos_token_id", !self.forced_last.is_empty()),
            ("renormalize_logits", self.normalised_again),
        ];
        let there = named.into_iter().filter(|(_, there)| *there);
        there.map(|(name, _)| name).collect()
    }

    fn add_bias(&self, scores: &mut [f32], sequence: &[u32]) {
        if self.bias.is_empty() {
            return;
        }
        let mut sums = vec![0.0; scores.len()];
        for (place, (own, bias)) in self.bias.iter().enumerate() {
            // Of equal sequences the last counts.
            if self.bias[place + 1..].iter().any(|(other, _)| other == own) {
                continue;
            }
            if let Some((last, before)) = own.split_last()
                && sequence.ends_with(before)
                && let Some(sum) = sums.get_mut(*last as usize)
            {
                *sum += bias;
            }
        }
        for (score, sum) in scores.iter_mut().zip(sums) {
            *score += sum;
        }
    }

    fn punish_repetition(&self, scores: &mut [f32], sequence: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut ids = sequence.to_vec();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            if let Some(score) = scores.get_mut(id as usize) {
                *score = match *score < 0.0 {
                    true => *score * self.repetition_penalty,
                    false => *score / self.repetition_penalty,
                };
            }
        }
    }

    fn force_last(&self, scores: &mut [f32], place: Place) {
        if self.forced_last.is_empty() || place.sequence.len() + 1 != place.limit {
            return;
        }
        scores.fill(f32::NEG_INFINITY);
        for &id in &self.forced_last {
            if let Some(score) = scores.get_mut(id as usize) {
                *score = 0.0;
            }
        }
    }

    fn favour_ends(&self, scores: &mut [f32], place: Place, ends: &[u32]) {
        let Some((start, factor)) = self.decay else {
            return;
        };
        let over = place.sequence.len().saturating_sub(start + place.prompt);
        if over == 0 {
            return;
        }
        let growth = (factor.powi(over.min(1 << 20) as i32) - 1.0) as f32;
        for &id in ends {
            if let Some(score) = scores.get_mut(id as usize)
                && score.is_finite()
            {
                *score += score.abs() * growth;
            }
        }
    }
}

/// Where a hypothesis is.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Its tokens, of which the first `prompt` are the prompt.
    pub sequence: &'a [u32],
    pub prompt: usize,
    /// Most tokens of it.
    pub limit: usize,
}

/// The `count` best ways to go on from a row of logits (V,), best first; fewer
/// where the rules leave fewer. Nothing where the rules make scores that are no
/// numbers.
pub(super) fn best(
    options: &GenerationOptions,
    logits: &[f32],
    place: Place,
    bans: &Bans,
    count: usize,
) -> Option<Vec<Candidate>> {
    let rules = &options.scores;
    let all = log_sum(logits.iter().copied());
    // Greedy search looks at logits, beams at logarithms of probabilities.
    let beams = options.beams > 1;
    let shift = if beams { all } else { 0.0 };
    let mut scores: Vec<f32> = logits.iter().map(|logit| logit - shift).collect();
    rules.add_bias(&mut scores, place.sequence);
    rules.punish_repetition(&mut scores, place.sequence);
    ban(&mut scores, &bans.tokens);
    rules.force_last(&mut scores, place);
    rules.favour_ends(&mut scores, place, &options.ends);
    ban(&mut scores, &bans.first);
    ban(&mut scores, &never(options));
    ban_ranges(&mut scores, bans.ranges);
    if rules.normalised_again {
        let left = log_sum(scores.iter().copied());
        for score in &mut scores {
            *score -= left;
        }
    }
    if !are_numbers(&scores) {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len())
        .filter(|&id| scores[id] > f32::NEG_INFINITY)
        .collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let chosen = order.into_iter().take(count);
    let chosen = chosen.map(|id| {
        let own = if beams { scores[id] } else { logits[id] - all };
        Candidate {
            log_probability: f64::from(own),
            id: id as u32,
            all_left: 0.0,
        }
    });
    Some(chosen.collect())
}

/// Whether something can be chosen by them; what is banned is minus infinity.
fn are_numbers(scores: &[f32]) -> bool {
    scores.iter().all(|score| *score < f32::INFINITY)
}

fn ban(scores: &mut [f32], ids: &[u32]) {
    for &id in ids {
        if let Some(score) = scores.get_mut(id as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Whisper's rules for times, as the operator `candidates` has them.
fn ban_ranges(scores: &mut [f32], mut ranges: Ranges) {
    let is_time = |id: usize| ranges.is_time(id as u32);
    if (0..scores.len()).any(is_time) {
        let left = |times: bool| {
            let own = move |&id: &usize| is_time(id) == times && ranges.leaves(id as u32);
            (0..scores.len()).filter(own).map(|id| scores[id])
        };
        let text = left(false).fold(f32::NEG_INFINITY, f32::max);
        if log_sum(left(true)) > text {
            ranges.text_from = ranges.times;
        }
    }
    for (id, score) in scores.iter_mut().enumerate() {
        if !ranges.leaves(id as u32) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// The logarithm of the sum of exponentials.
fn log_sum(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let most = values.clone().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        return most;
    }
    let sum: f32 = values.map(|value| (value - most).exp()).sum();
    most + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sequence: &[u32], prompt: usize, limit: usize) -> Place<'_> {
        Place {
            sequence,
            prompt,
            limit,
        }
    }

    #[test]
    fn repetition_is_punished_once_on_both_sides_of_0() {
        let rules = ScoreRules {
            repetition_penalty: 2.0,
            ..ScoreRules::default()
        };
        let mut scores = [1.0, -1.0, 3.0, f32::NEG_INFINITY];
        rules.punish_repetition(&mut scores, &[0, 1, 1, 3]);
        assert_eq!(scores, [0.5, -2.0, 3.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn bias_is_for_the_last_token_behind_the_others() {
        let rules = ScoreRules {
            bias: vec![
                (vec![0], 9.0),
                (vec![0], 1.0),
                (vec![5, 6, 1], 2.0),
                (vec![6, 2], 4.0),
                (vec![9, 9, 9, 3], 8.0),
            ],
            ..ScoreRules::default()
        };
        let biased = |sequence: &[u32]| {
            let mut scores = [0.0; 4];
            rules.add_bias(&mut scores, sequence);
            scores
        };
        assert_eq!(biased(&[5, 6]), [1.0, 2.0, 4.0, 0.0]);
        assert_eq!(biased(&[6]), [1.0, 0.0, 4.0, 0.0]);
        assert_eq!(biased(&[6, 5]), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn ends_are_favoured_and_forced() {
        let rules = ScoreRules {
            decay: Some((1, 2.0)),
            forced_last: vec![1, 2],
            ..ScoreRules::default()
        };
        let none = f32::NEG_INFINITY;
        for (length, wanted) in [
            (2, [1.0, -1.0, none]),
            (3, [1.0, -1.0, none]),
            // 2 to the power of tokens beyond the first one of the text.
            (4, [2.0, -1.0, none]),
            (5, [4.0, -1.0, none]),
        ] {
            let mut scores = [1.0, -1.0, none];
            let sequence = vec![0; length];
            rules.favour_ends(&mut scores, place(&sequence, 2, 9), &[0, 2]);
            assert_eq!(scores, wanted, "{length}");
        }
        let mut scores = [1.0, -1.0, -2.0];
        rules.force_last(&mut scores, place(&[0; 7], 2, 9));
        assert_eq!(scores, [1.0, -1.0, -2.0]);
        rules.force_last(&mut scores, place(&[0; 8], 2, 9));
        assert_eq!(scores, [none, 0.0, 0.0]);
    }

    #[test]
    fn scores_that_are_no_numbers_are_not_chosen_from() {
        let rules = |bias: f32| ScoreRules {
            bias: vec![(vec![0], bias)],
            ..ScoreRules::default()
        };
        for (bias, scores) in [(9.0, Some(9.0)), (f32::INFINITY, None), (f32::NAN, None)] {
            let mut own = [0.0, 1.0];
            rules(bias).add_bias(&mut own, &[]);
            assert_eq!(are_numbers(&own).then_some(own[0]), scores, "{bias}");
        }
        // What is banned is minus infinity.
        assert!(are_numbers(&[f32::NEG_INFINITY, 0.0]));
    }
}
