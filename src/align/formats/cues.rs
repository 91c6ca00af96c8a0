//! Subtitles: words grouped into lines that can be read.

use super::{AlignedRecording, AlignedWord, joined, parted};

/// Characters of a line, as broadcasters have it.
const LINE: usize = 42;
/// Milliseconds for which a line is shown at most.
const LONGEST: u64 = 7_000;
/// Milliseconds of silence that end a line.
const PAUSE: u64 = 700;

/// Words that are shown together.
#[derive(Debug, PartialEq)]
pub(super) struct Cue<'a> {
    /// Milliseconds.
    pub start: u64,
    /// Milliseconds: after `start`.
    pub end: u64,
    pub words: &'a [AlignedWord],
}

/// The cues of a recording: in order, none overlaps another, all words are in
/// one of them.
///
/// A cue ends before a pause, and where one more word would make its text
/// longer than [`LINE`] or its time longer than [`LONGEST`]. A word without
/// a time decides nothing: it is shown with the word before it, or with the
/// first that has one.
pub(super) fn cues(recording: &AlignedRecording) -> Vec<Cue<'_>> {
    let mut cues: Vec<Cue> = Vec::new();
    // Where the last cue's words begin.
    let mut begin = 0;
    for unit in units(recording) {
        let size = unit.words.len();
        if let Some(last) = cues.last_mut() {
            let words = &recording.words[begin..begin + last.words.len() + size];
            let fits = unit.start - last.end < PAUSE
                && unit.end - last.start <= LONGEST
                && joined(texts(words)).chars().count() <= LINE;
            if fits {
                last.words = words;
                last.end = unit.end;
                continue;
            }
            begin += last.words.len();
        }
        cues.push(unit);
    }
    cues
}

/// The smallest cues: one word with a time in each, reliable or not, and the
/// others beside it. With no such word, all of them have the whole recording.
fn units(recording: &AlignedRecording) -> Vec<Cue<'_>> {
    let words = &recording.words;
    let timed = (0..words.len()).filter(|&n| words[n].start < words[n].end);
    let timed: Vec<usize> = timed.collect();
    if timed.is_empty() && !words.is_empty() {
        return vec![Cue {
            start: 0,
            end: recording.length.max(1),
            words,
        }];
    }
    let units = timed.iter().enumerate().map(|(unit, &n)| {
        let begin = if unit == 0 { 0 } else { n };
        let end = timed.get(unit + 1).copied().unwrap_or(words.len());
        Cue {
            start: words[n].start,
            end: words[n].end,
            words: &words[begin..end],
        }
    });
    units.collect()
}

fn texts(words: &[AlignedWord]) -> impl Iterator<Item = &str> {
    words.iter().map(|word| word.text.as_str())
}

impl Cue<'_> {
    /// The text on lines of at most [`LINE`] characters, unless one word has
    /// more; `written` gives each word as it is to stand there.
    pub fn text(&self, mut written: impl FnMut(&AlignedWord) -> String) -> String {
        let mut text = String::new();
        let (mut length, mut before) = (0, "");
        for word in self.words {
            let own = word.text.chars().count();
            let space = usize::from(parted(before, &word.text));
            if before.is_empty() {
                length = own;
            } else if length + space + own > LINE {
                text.push('\n');
                length = own;
            } else {
                text.push_str(&" ".repeat(space));
                length += space + own;
            }
            text.push_str(&written(word));
            before = &word.text;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::recording;
    use super::*;

    fn shown(recording: &AlignedRecording) -> Vec<(u64, u64, String)> {
        let cues = cues(recording);
        let text = |cue: &Cue| cue.text(|word| word.text.clone());
        cues.iter()
            .map(|cue| (cue.start, cue.end, text(cue)))
            .collect()
    }

    #[test]
    fn pauses_and_limits_end_a_cue() {
        let mut words = vec![("one", 0, 400, true), ("two", 1_099, 1_500, true)];
        words.push(("three", 2_200, 2_400, true));
        // Eight words of five letters: 47 characters.
        words.extend((0..8).map(|n| ("fives", 10_000 + 300 * n, 10_300 + 300 * n, true)));
        // Seven seconds and more.
        words.extend((0..3).map(|n| ("slow", 20_000 + 3_000 * n, 23_000 + 3_000 * n, true)));
        assert_eq!(
            shown(&recording(40_000, &words)),
            [
                (0, 1_500, "one two".to_owned()),
                (2_200, 2_400, "three".into()),
                (10_000, 12_100, ["fives"; 7].join(" ")),
                (12_100, 12_400, "fives".into()),
                (20_000, 26_000, "slow slow".into()),
                (26_000, 29_000, "slow".into()),
            ]
        );
    }

    #[test]
    fn words_without_a_time_are_shown_with_their_neighbours() {
        let words = [
            ("a", 0, 0, false),
            ("b", 100, 300, true),
            ("c", 300, 5_000, false),
            ("d", 5_000, 5_200, true),
            ("e", 5_200, 5_200, false),
        ];
        let given = recording(6_000, &words);
        assert_eq!(shown(&given), [(100, 5_200, "a b c d e".to_owned())]);
        assert_eq!(
            shown(&recording(6_000, &words[..1])),
            [(0, 6_000, "a".to_owned())]
        );
        assert_eq!(shown(&recording(6_000, &[])), []);
    }

    #[test]
    fn too_many_words_for_one_line_take_more() {
        let long = "x".repeat(50);
        let mut words = vec![("first", 0, 100, true)];
        words.extend([("untimed", 100, 100, false); 7]);
        words.push((&long, 100, 200, true));
        let (line, rest) = (["untimed"; 4].join(" "), ["untimed"; 3].join(" "));
        assert_eq!(
            shown(&recording(300, &words)),
            [
                (0, 100, format!("first {line}\n{rest}")),
                (100, 200, long.clone())
            ]
        );
    }
}
