//! Praat's TextGrid in its long form: one tier of intervals, `words`, which
//! covers the whole recording.

use super::{AlignedRecording, joined, seconds};

/// A part of the tier.
struct Interval<'a> {
    /// Milliseconds.
    start: u64,
    /// Milliseconds: after `start`.
    end: u64,
    /// None where nothing is said.
    words: Vec<&'a str>,
}

/// Whether a file begins as [`text`] writes it: Praat, with which people correct
/// times, puts spaces behind `[]:` and numbers.
pub(super) fn is_own(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines().filter(|line| !line.contains("max = "));
    let own = text(&AlignedRecording::new(
        String::new(),
        1.0,
        String::new(),
        &[],
        serde_json::Map::new(),
    ));
    let own = own.lines().filter(|line| !line.contains("max = "));
    own.take_while(|line| !line.contains("intervals: size"))
        .all(|line| lines.next() == Some(line))
}

pub(super) fn text(recording: &AlignedRecording) -> String {
    // Praat knows no tier without a length.
    let length = recording.length.max(1);
    let intervals = tier(recording, length);
    let last = seconds(length);
    let mut text = format!(
        "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\n\
         xmin = 0\nxmax = {last}\ntiers? <exists>\nsize = 1\nitem []:\n    item [1]:\n        \
         class = \"IntervalTier\"\n        name = \"words\"\n        xmin = 0\n        \
         xmax = {last}\n        intervals: size = {}\n",
        intervals.len()
    );
    for (n, interval) in intervals.iter().enumerate() {
        text += &format!(
            "        intervals [{}]:\n            xmin = {}\n            xmax = {}\n            \
             text = \"{}\"\n",
            n + 1,
            seconds(interval.start),
            seconds(interval.end),
            joined(interval.words.iter().copied()).replace('"', "\"\"")
        );
    }
    text
}

/// All intervals from 0 to the end, without gaps.
fn tier(recording: &AlignedRecording, length: u64) -> Vec<Interval<'_>> {
    let mut all = Vec::new();
    let mut at = 0;
    for interval in spoken(recording, length) {
        if at < interval.start {
            all.push(Interval {
                start: at,
                end: interval.start,
                words: Vec::new(),
            });
        }
        at = interval.end;
        all.push(interval);
    }
    if at < length {
        all.push(Interval {
            start: at,
            end: length,
            words: Vec::new(),
        });
    }
    all
}

/// The intervals of the words. Every interval has a length: a word that has
/// none shares that of the word it touches, or has the silence around it.
fn spoken(recording: &AlignedRecording, length: u64) -> Vec<Interval<'_>> {
    let mut intervals: Vec<Interval> = Vec::new();
    // Words without a length that touch none before them, and where they are.
    let mut waiting: Vec<&str> = Vec::new();
    let mut since = 0;
    for word in &recording.words {
        if word.start > since && !waiting.is_empty() {
            intervals.push(Interval {
                start: since,
                end: word.start,
                words: std::mem::take(&mut waiting),
            });
        }
        since = word.start;
        let touched = intervals.last_mut().filter(|last| last.end == word.start);
        match touched {
            Some(last) if word.start == word.end => last.words.push(&word.text),
            _ if word.start == word.end => waiting.push(&word.text),
            _ => {
                let mut words = std::mem::take(&mut waiting);
                words.push(&word.text);
                intervals.push(Interval {
                    start: word.start,
                    end: word.end,
                    words,
                });
            }
        }
    }
    if !waiting.is_empty() {
        // At the very end the silence is the one before them.
        let before = intervals.last().map_or(0, |last| last.end);
        let start = if since < length { since } else { before };
        intervals.push(Interval {
            start,
            end: length,
            words: waiting,
        });
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::super::tests::recording;
    use super::*;

    fn intervals(length: u64, words: &[(&str, u64, u64, bool)]) -> Vec<(u64, u64, String)> {
        let given = recording(length, words);
        let tier = tier(&given, length);
        let one = |i: &Interval| (i.start, i.end, joined(i.words.iter().copied()));
        tier.iter().map(one).collect()
    }

    #[test]
    fn one_tier_covers_everything() {
        let given = recording(
            2_500,
            &[("say", 40, 400, true), ("\"hi\"", 1_000, 1_360, true)],
        );
        assert_eq!(
            text(&given),
            r#"File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.5
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2.5
        intervals: size = 5
        intervals [1]:
            xmin = 0
            xmax = 0.04
            text = ""
        intervals [2]:
            xmin = 0.04
            xmax = 0.4
            text = "say"
        intervals [3]:
            xmin = 0.4
            xmax = 1
            text = ""
        intervals [4]:
            xmin = 1
            xmax = 1.36
            text = """hi"""
        intervals [5]:
            xmin = 1.36
            xmax = 2.5
            text = ""
"#
        );
    }

    #[test]
    fn words_without_a_length_share_one() {
        let word = |text: &str| text.to_owned();
        // Touching the word before, the word behind, and none.
        assert_eq!(
            intervals(
                1_000,
                &[
                    ("a", 100, 200, true),
                    ("b", 200, 200, false),
                    ("c", 300, 300, false),
                    ("d", 300, 300, false),
                    ("e", 300, 400, true),
                    ("f", 500, 500, false),
                    ("g", 600, 700, true),
                    ("h", 800, 800, false)
                ]
            ),
            [
                (0, 100, word("")),
                (100, 200, word("a b")),
                (200, 300, word("")),
                (300, 400, word("c d e")),
                (400, 500, word("")),
                (500, 600, word("f")),
                (600, 700, word("g")),
                (700, 800, word("")),
                (800, 1_000, word("h")),
            ]
        );
        // At either end, and alone.
        assert_eq!(
            intervals(1_000, &[("a", 0, 400, true), ("b", 1_000, 1_000, false)]),
            [(0, 400, word("a")), (400, 1_000, word("b"))]
        );
        assert_eq!(
            intervals(1_000, &[("a", 0, 0, false)]),
            [(0, 1_000, word("a"))]
        );
        assert_eq!(
            intervals(1_000, &[("a", 1_000, 1_000, false)]),
            [(0, 1_000, word("a"))]
        );
        assert_eq!(intervals(1_000, &[]), [(0, 1_000, word(""))]);
    }
}
