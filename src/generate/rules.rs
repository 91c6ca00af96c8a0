//! Which tokens may come next.

use super::options::GenerationOptions;

/// What a hypothesis may not be continued with.
#[derive(Clone, Debug, PartialEq)]
pub struct Bans {
    /// Single tokens.
    pub tokens: Vec<u32>,
    /// Single tokens that are not chosen first.
    pub first: Vec<u32>,
    pub ranges: Ranges,
}

/// Bans of whole ranges, for models that write times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Ids below it are banned.
    pub text_from: u32,
    /// Ids from it on are times; where no rule holds, beyond all ids.
    pub times: u32,
    /// Times below it are banned.
    pub times_from: u32,
    /// Times from it on are banned.
    pub times_to: u32,
    /// Ids from it on are no times but text that was added behind them: banned
    /// where any text is.
    pub times_behind: u32,
}

impl Ranges {
    /// No range is banned.
    pub const NONE: Self = Self {
        text_from: 0,
        times: u32::MAX,
        times_from: 0,
        times_to: u32::MAX,
        times_behind: u32::MAX,
    };

    /// In the order in which the device takes them.
    pub fn numbers(self) -> [u32; 5] {
        let times = [self.times_from, self.times_to, self.times_behind];
        let [from, to, behind] = times;
        [self.text_from, self.times, from, to, behind]
    }

    /// Whether an id is a time.
    pub fn is_time(self, id: u32) -> bool {
        (self.times..self.times_behind).contains(&id)
    }

    /// Whether an id may be chosen.
    pub fn leaves(self, id: u32) -> bool {
        match id {
            _ if self.is_time(id) => (self.times_from..self.times_to).contains(&id),
            _ if id < self.times => id >= self.text_from,
            _ => self.text_from == 0,
        }
    }
}

/// Tokens that no hypothesis may ever be continued with.
pub fn never(options: &GenerationOptions) -> Vec<u32> {
    let mut tokens = options.suppressed.clone();
    if let Some(multitask) = options.writes_times() {
        tokens.push(multitask.no_timestamps);
    }
    tokens
}

/// Most tokens that [`bans`] lists beside repeated n-grams.
pub fn most_others(options: &GenerationOptions) -> usize {
    options.suppressed_first.len() + options.ends.len() + options.bad_words.len()
}

/// Bans after `sequence`, whose first `prompt` tokens are the prompt.
pub fn bans(options: &GenerationOptions, sequence: &[u32], prompt: usize) -> Bans {
    let mut tokens = repeated(sequence, options.no_repeat_ngram_size);
    let new = sequence.len() - prompt;
    if new < options.min_new_tokens || sequence.len() < options.min_length {
        tokens.extend(&options.ends);
    }
    let completed = options.bad_words.iter().filter_map(|word| {
        let (last, before) = word.split_last()?;
        sequence.ends_with(before).then_some(*last)
    });
    tokens.extend(completed);
    // What was forced is not the first that is chosen.
    let first = match new == options.forced.len() {
        true => options.suppressed_first.clone(),
        false => Vec::new(),
    };
    Bans {
        tokens,
        first,
        ranges: ranges(options, &sequence[prompt..]),
    }
}

/// Whisper's rules for times after `text`: they come in pairs, never go back,
/// and the first is early.
fn ranges(options: &GenerationOptions, text: &[u32]) -> Ranges {
    let Some(multitask) = options.writes_times() else {
        return Ranges::NONE;
    };
    let times = multitask.first_timestamp();
    // The vocabulary's own end stands behind all text; a folder may name words, too.
    let end = options.ends.iter().copied().max().unwrap_or(0);
    let mut ranges = Ranges {
        times,
        times_from: times,
        times_behind: multitask.behind_timestamps,
        ..Ranges::NONE
    };
    let is_time = |token: &u32| multitask.is_time(*token);
    let Some(last) = text.last() else {
        ranges.text_from = times;
        if let Some(most) = multitask.max_initial_timestamp {
            ranges.times_to = times.saturating_add(most).saturating_add(1);
        }
        return ranges;
    };
    let paired = text.len() < 2 || is_time(&text[text.len() - 2]);
    let open = is_time(last) && !paired;
    if is_time(last) && paired {
        ranges.times_to = times;
    } else if open {
        ranges.text_from = end;
    }
    if let Some(latest) = text.iter().copied().rfind(is_time) {
        ranges.times_from = if open { latest } else { latest + 1 };
    }
    ranges
}

/// Tokens that would complete an n-gram that the sequence already has.
fn repeated(sequence: &[u32], size: usize) -> Vec<u32> {
    if size == 0 || sequence.len() < size {
        return Vec::new();
    }
    let recent = &sequence[sequence.len() + 1 - size..];
    let mut banned: Vec<u32> = sequence
        .windows(size)
        .filter(|gram| gram[..size - 1] == *recent)
        .map(|gram| gram[size - 1])
        .collect();
    banned.sort_unstable();
    banned.dedup();
    banned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_ngrams_are_found() {
        assert_eq!(repeated(&[1, 2, 3, 1, 2], 3), vec![3]);
        assert_eq!(repeated(&[1, 2, 3, 1, 2, 4, 1, 2], 3), vec![3, 4]);
        assert_eq!(repeated(&[1, 2], 3), Vec::<u32>::new());
        assert_eq!(repeated(&[5, 6], 1), vec![5, 6]);
        assert_eq!(repeated(&[5, 6], 0), Vec::<u32>::new());
    }
}
