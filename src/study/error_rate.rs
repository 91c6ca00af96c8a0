//! How far written text is from what should have been written: word error
//! rate and BLEU, over a corpus.

use std::collections::HashMap;
use std::ops::AddAssign;

/// Longest n-grams of BLEU.
const ORDERS: usize = 4;

/// What one utterance adds to the word error rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WordErrors {
    /// Words to put in, take out or replace.
    pub errors: u64,
    /// Words of the reference.
    pub words: u64,
}

impl WordErrors {
    /// Of one text; words are parted by white space.
    pub fn of(reference: &str, hypothesis: &str) -> Self {
        let reference: Vec<&str> = reference.split_whitespace().collect();
        let hypothesis: Vec<&str> = hypothesis.split_whitespace().collect();
        Self {
            errors: distance(&reference, &hypothesis) as u64,
            words: reference.len() as u64,
        }
    }

    /// Errors per word of the reference, in percent; absent without words.
    pub fn rate(self) -> Option<f64> {
        (self.words > 0).then(|| 100.0 * self.errors as f64 / self.words as f64)
    }
}

impl AddAssign for WordErrors {
    fn add_assign(&mut self, other: Self) {
        self.errors += other.errors;
        self.words += other.words;
    }
}

/// Levenshtein's distance.
fn distance(a: &[&str], b: &[&str]) -> usize {
    let mut last = 0;
    distances(a, b, |row| last = row[b.len()]);
    last
}

/// Rows of Levenshtein's distances: entry j of row i is between the first i
/// words of one text and the first j of the other.
fn distances(a: &[&str], b: &[&str], mut each: impl FnMut(&[usize])) {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    each(&row);
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
        each(&row);
    }
}

/// Indices of words that are the same in both texts when one becomes the
/// other with as few changes as possible. Where several ways are as short,
/// equal words are paired from the end, then words are replaced.
pub fn equal_words(a: &[&str], b: &[&str]) -> Vec<(usize, usize)> {
    let mut rows: Vec<Vec<usize>> = Vec::with_capacity(a.len() + 1);
    distances(a, b, |row| rows.push(row.to_vec()));
    let (mut i, mut j) = (a.len(), b.len());
    let mut pairs = Vec::new();
    while i > 0 && j > 0 {
        let here = rows[i][j];
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            pairs.push((i, j));
        } else if here == rows[i - 1][j - 1] + 1 {
            (i, j) = (i - 1, j - 1);
        } else if here == rows[i - 1][j] + 1 {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    pairs.reverse();
    pairs
}

/// What one utterance adds to BLEU, with one reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// By order: n-grams that the reference has too, each as often as there.
    pub matches: [u64; ORDERS],
    /// By order: n-grams of the hypothesis.
    pub totals: [u64; ORDERS],
    pub hypothesis: u64,
    pub reference: u64,
}

impl BleuCounts {
    /// Of one text, split into tokens as mteval-v13a does.
    pub fn of(reference: &str, hypothesis: &str) -> Self {
        let (reference, hypothesis) = (tokens_13a(reference), tokens_13a(hypothesis));
        let mut counts = Self {
            hypothesis: hypothesis.len() as u64,
            reference: reference.len() as u64,
            ..Self::default()
        };
        for order in 1..=ORDERS {
            let mut known: HashMap<&[String], u64> = HashMap::new();
            for gram in reference.windows(order) {
                *known.entry(gram).or_default() += 1;
            }
            for gram in hypothesis.windows(order) {
                counts.totals[order - 1] += 1;
                if let Some(left) = known.get_mut(gram).filter(|left| **left > 0) {
                    *left -= 1;
                    counts.matches[order - 1] += 1;
                }
            }
        }
        counts
    }

    /// BLEU from 0 to 100, with sacreBLEU's default smoothing: an order
    /// without matches counts as 1/2, 1/4, ... of a match.
    pub fn score(self) -> f64 {
        if self.matches.iter().all(|&matches| matches == 0) || self.hypothesis == 0 {
            return 0.0;
        }
        let (mut sum, mut smoothing) = (0.0, 1.0);
        for (&matches, &total) in self.matches.iter().zip(&self.totals) {
            if total == 0 {
                return 0.0;
            }
            let matched = match matches {
                0 => {
                    smoothing /= 2.0;
                    smoothing
                }
                matches => matches as f64,
            };
            sum += (matched / total as f64).ln();
        }
        let (own, wanted) = (self.hypothesis as f64, self.reference as f64);
        let brevity = if own < wanted {
            1.0 - wanted / own
        } else {
            0.0
        };
        100.0 * (brevity + sum / ORDERS as f64).exp()
    }
}

impl AddAssign for BleuCounts {
    fn add_assign(&mut self, other: Self) {
        for order in 0..ORDERS {
            self.matches[order] += other.matches[order];
            self.totals[order] += other.totals[order];
        }
        self.hypothesis += other.hypothesis;
        self.reference += other.reference;
    }
}

/// Tokens as mteval-v13a makes them: punctuation by itself, but for points
/// and commas within numbers.
fn tokens_13a(text: &str) -> Vec<String> {
    let text = text
        .replace("<skipped>", "")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    let apart =
        |c: char| matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/');
    let mut first = String::from(" ");
    for c in text.chars() {
        match apart(c) {
            true => first.extend([' ', c, ' ']),
            false => first.push(c),
        }
    }
    first.push(' ');
    // The three rules that follow look at neighbours; each match goes on
    // behind what it took.
    let point = |c: char| c == '.' || c == ',';
    let digit = |c: char| c.is_ascii_digit();
    let second = pairs(
        &first,
        |a, b| !digit(a) && point(b),
        |a, b| format!("{a} {b} "),
    );
    let third = pairs(
        &second,
        |a, b| point(a) && !digit(b),
        |a, b| format!(" {a} {b}"),
    );
    let fourth = pairs(
        &third,
        |a, b| digit(a) && b == '-',
        |a, b| format!("{a} {b} "),
    );
    fourth.split_whitespace().map(str::to_owned).collect()
}

/// Replaces neighbours that match, from left to right without overlap.
fn pairs(
    text: &str,
    matches: impl Fn(char, char) -> bool,
    replaced: impl Fn(char, char) -> String,
) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        match chars.get(at + 1) {
            Some(&next) if matches(chars[at], next) => {
                result += &replaced(chars[at], next);
                at += 2;
            }
            _ => {
                result.push(chars[at]);
                at += 1;
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_stand_on_a_shortest_way() {
        let pairs = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| text.split_whitespace().collect::<Vec<_>>());
            equal_words(&a, &b)
        };
        assert_eq!(pairs("a b c", "a b c"), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(pairs("a b c", "a x c"), [(0, 0), (2, 2)]);
        assert_eq!(pairs("a b c d", "b c e d"), [(1, 0), (2, 1), (3, 3)]);
        assert_eq!(pairs("a b", "x y a b z"), [(0, 2), (1, 3)]);
        // Equal words do not count where the shortest way replaces them.
        assert_eq!(pairs("a b", "b c"), []);
        assert_eq!(pairs("a", ""), []);
        assert_eq!(pairs("", "a"), []);
        // The words that are left are the distance.
        for (a, b) in [("a b a b b a", "b a a b a"), ("a a b", "b b a a b b")] {
            let [x, y] = [a, b].map(|text| text.split_whitespace().collect::<Vec<_>>());
            let equal = pairs(a, b);
            assert!(equal.windows(2).all(|p| p[0].0 < p[1].0 && p[0].1 < p[1].1));
            assert!(equal.iter().all(|&(i, j)| x[i] == y[j]));
            let mut changes = 0;
            let mut at = (0, 0);
            for (i, j) in equal.into_iter().chain([(x.len(), y.len())]) {
                changes += (i - at.0).max(j - at.1);
                at = (i + 1, j + 1);
            }
            assert_eq!(changes, distance(&x, &y), "{a}, {b}");
        }
    }
}
