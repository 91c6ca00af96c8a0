//! What other programs read: word times as JSON, as NIST's CTM, as subtitles
//! (SRT, WebVTT) and as Praat's TextGrid; one file each.
//!
//! `docs/align.md` says what they hold. Times are whole milliseconds from
//! here on, so that all formats say the same.

mod ctm;
mod cues;
mod json;
mod srt;
mod text_grid;
mod vtt;

use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::WordTime;
use crate::fingerprint::Fingerprint;
use crate::shown::is_unsafe;
use crate::tokenizer::is_unspaced;
use crate::{Error, Result};

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| Error::unknown("format", text, &Self::ALL.map(Self::name)))
    }
}

/// How word times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// One line for each recording.
    Json,
    /// One line for each word.
    Ctm,
    /// SubRip subtitles.
    Srt,
    /// Web subtitles with a time for each word.
    Vtt,
    /// Web subtitles without times of words.
    VttLines,
    /// Praat's tiers.
    TextGrid,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Json,
        Self::Ctm,
        Self::Srt,
        Self::Vtt,
        Self::VttLines,
        Self::TextGrid,
    ];

    /// The format's name in options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ctm => "ctm",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
            Self::VttLines => "vtt-lines",
            Self::TextGrid => "textgrid",
        }
    }

    /// What its files' names end with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ctm => "ctm",
            Self::Srt => "srt",
            Self::Vtt | Self::VttLines => "vtt",
            Self::TextGrid => "TextGrid",
        }
    }

    /// Whether one file can hold several recordings.
    pub fn holds_several(self) -> bool {
        matches!(self, Self::Json | Self::Ctm)
    }

    /// Whether a file is one that this program wrote with [`file`](Self::file), by
    /// its whole contents. Of SRT nobody can tell.
    pub fn is_own(self, file: &[u8]) -> bool {
        let text = std::str::from_utf8(file).unwrap_or_default();
        match self {
            Self::Json => json::is_own(file),
            Self::TextGrid => text_grid::is_own(file),
            Self::Ctm => ctm::is_own(text),
            Self::Vtt | Self::VttLines => vtt::is_own(text),
            Self::Srt => false,
        }
    }

    /// The same before there is anything to write: an SRT file may be equal to
    /// what will be written, if it looks like one.
    pub fn may_be_own(self, file: &[u8]) -> bool {
        let text = std::str::from_utf8(file).unwrap_or_default();
        self.is_own(file) || self == Self::Srt && srt::may_be_own(text)
    }

    /// The text of a file of one recording whose name this program chooses: where
    /// the format has comments, one says that it is this program's and
    /// unchanged.
    pub fn file(self, recording: &AlignedRecording) -> String {
        let text = self.text(recording);
        match self {
            Self::Ctm => ctm::marked(&text),
            Self::Vtt | Self::VttLines => vtt::marked(&text),
            Self::Json | Self::TextGrid | Self::Srt => text,
        }
    }

    /// The text of a file with one recording; what several recordings give
    /// can follow each other where [`holds_several`](Self::holds_several)
    /// says so.
    pub fn text(self, recording: &AlignedRecording) -> String {
        match self {
            Self::Json => json::text(recording),
            Self::Ctm => ctm::text(recording),
            Self::Srt => srt::text(recording),
            Self::Vtt => vtt::text(recording),
            Self::VttLines => vtt::plain(recording),
            Self::TextGrid => text_grid::text(recording),
        }
    }
}

/// A word as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct AlignedWord {
    /// Neither empty nor with line breaks or other control characters, and no
    /// longer than some 1,000 characters.
    pub text: String,
    /// Milliseconds.
    pub start: u64,
    /// Milliseconds: `start` or later.
    pub end: u64,
    /// From 0 to 1.
    pub confidence: f64,
    /// Only where the word has a time: `start` is before `end`.
    pub reliable: bool,
}

/// Word times of one recording.
#[derive(Clone, Debug, PartialEq)]
pub struct AlignedRecording {
    /// The sound's file as it was named.
    pub audio: String,
    /// Length of the sound in milliseconds.
    pub length: u64,
    /// The whole text.
    pub text: String,
    /// In order; none overlaps another, none is later than `length`.
    pub words: Vec<AlignedWord>,
    /// How it was made: for JSON only.
    pub made: Map<String, Value>,
    /// What is not as whoever gave the sound may think, in words: for JSON only.
    pub warnings: Vec<String>,
}

impl AlignedRecording {
    /// From the times of the words of a sound of some seconds. Words without
    /// a text are left out.
    pub fn new(
        audio: String,
        seconds: f64,
        text: String,
        words: &[WordTime],
        made: Map<String, Value>,
    ) -> Self {
        let length = milliseconds(seconds);
        let mut free = 0;
        let words = words.iter().filter_map(|word| {
            let text = bounded(printable(&word.text));
            if text.is_empty() {
                return None;
            }
            // In order already; kept so whatever rounding does.
            let start = milliseconds(word.start_seconds).clamp(free, length.max(free));
            let end = milliseconds(word.end_seconds).clamp(start, length.max(start));
            free = end;
            Some(AlignedWord {
                text,
                start,
                end,
                // No minus before 0.
                confidence: word.confidence + 0.0,
                reliable: word.reliable && start < end,
            })
        });
        Self {
            words: words.collect(),
            audio,
            length,
            text,
            made,
            warnings: Vec::new(),
        }
    }

    /// The recording's name in CTM: its file's, without folder and ending.
    pub fn id(&self) -> String {
        ctm_id(Path::new(&self.audio))
    }
}

/// What a sound file is called in CTM: its name without folder and ending.
/// Recordings stand in the order of these names, byte by byte: NIST's scoring
/// programs want both files in it, and sclite 2.4.10 ends where they differ.
pub fn ctm_id(audio: &Path) -> String {
    let stem = audio.file_stem().unwrap_or_default();
    let name = unspaced(&stem.to_string_lossy());
    // A line that begins so would be a comment.
    match name.starts_with(";;") {
        true => format!("_{name}"),
        false => name,
    }
}

/// Milliseconds of a number of seconds, which is not negative.
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

/// Seconds as a number, without more digits than there are.
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// `01:02:03.456` with a sign of one's own before the milliseconds.
fn clock(milliseconds: u64, sign: char) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (minutes, hours) = (seconds / 60 % 60, seconds / 3600);
    format!("{hours:02}:{minutes:02}:{:02}{sign}{rest:03}", seconds % 60)
}

/// A text on one line, without control characters.
fn printable(text: &str) -> String {
    let words = text.split_whitespace();
    let words: Vec<&str> = words.collect();
    words.join(" ").chars().filter(|&c| !is_unsafe(c)).collect()
}

/// Most characters of a word. No language has longer ones, but a vocabulary may hold
/// anything, and readers have lines of fixed length (sclite).
const LONGEST_WORD: usize = 1_000;

/// A word whose end is left out where it is too long.
fn bounded(mut word: String) -> String {
    if let Some((cut, _)) = word.char_indices().nth(LONGEST_WORD) {
        word.truncate(cut);
        word.push('…');
    }
    word
}

/// A text as one field of a line whose fields are parted by spaces.
fn unspaced(text: &str) -> String {
    let blank = |c: char| c.is_whitespace() || is_unsafe(c);
    match text {
        "" => "_".into(),
        _ => text.replace(blank, "_"),
    }
}

/// What a comment says of the text behind it: what somebody has corrected is
/// theirs.
fn mark(text: &str) -> String {
    format!("sonograd {}", Fingerprint::of(text.as_bytes()))
}

/// Whether two words are written with a space between them: not in scripts
/// without spaces.
fn parted(before: &str, after: &str) -> bool {
    let last = before.chars().next_back().is_some_and(is_unspaced);
    let first = after.chars().next().is_some_and(is_unspaced);
    !(last && first)
}

/// Words as a text.
fn joined<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() && parted(&text, word) {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording with words of (text, start, end in milliseconds, reliable).
    pub fn recording(length: u64, words: &[(&str, u64, u64, bool)]) -> AlignedRecording {
        let words: Vec<WordTime> = words
            .iter()
            .enumerate()
            .map(|(n, &(text, start, end, reliable))| WordTime {
                text: text.into(),
                tokens: n..n + 1,
                start_seconds: seconds(start),
                end_seconds: seconds(end),
                confidence: 0.5,
                reliable,
            })
            .collect();
        let text = joined(words.iter().map(|word| word.text.as_str()));
        let audio = "some where/a sound.wav".into();
        AlignedRecording::new(audio, seconds(length), text, &words, Map::new())
    }

    #[test]
    fn times_are_rounded_and_stay_in_order() {
        let word = |text: &str, start_seconds: f64, end_seconds: f64| WordTime {
            text: text.into(),
            tokens: 0..1,
            start_seconds,
            end_seconds,
            confidence: 1.0,
            reliable: true,
        };
        let words = [
            word("a", 0.1 + 0.2, 0.3004),
            word(" \u{0}\n", 0.4, 0.5),
            word("b\nc\u{7}", 0.5, 1.2346),
            word("d", 1.2346, 1.2349),
        ];
        let made = AlignedRecording::new("x.wav".into(), 1.2349, "".into(), &words, Map::new());
        let times: Vec<_> = made
            .words
            .iter()
            .map(|w| (w.text.as_str(), w.start, w.end, w.reliable))
            .collect();
        // What rounding leaves no time has no reliable one.
        assert_eq!(
            times,
            [
                ("a", 300, 300, false),
                ("b c", 500, 1235, true),
                ("d", 1235, 1235, false)
            ]
        );
        assert_eq!(made.length, 1235);
    }

    #[test]
    fn words_have_a_longest() {
        for (count, written) in [(1_000, 1_000), (1_001, 1_001), (1 << 20, 1_001)] {
            let word = "ǆ".repeat(count);
            let made = recording(1_000, &[(&word, 0, 900, true)]);
            for format in [Format::Ctm, Format::Srt, Format::Vtt, Format::TextGrid] {
                let text = format.text(&made);
                let own = text.chars().filter(|c| "ǆ…".contains(*c)).count();
                assert_eq!(own, written, "{format:?}");
            }
            assert_eq!(made.text.chars().count(), count);
        }
    }

    #[test]
    fn names_and_fields_hold_no_spaces() {
        assert_eq!(recording(1, &[]).id(), "a_sound");
        assert_eq!(unspaced("\u{a0}\t"), "__");
        assert_eq!(unspaced(""), "_");
        let mut comment = recording(1, &[]);
        comment.audio = ";;x.wav".into();
        assert_eq!(comment.id(), "_;;x");
    }

    #[test]
    fn scripts_without_spaces_are_written_without() {
        assert_eq!(joined(["the", "train,", "così"]), "the train, così");
        assert_eq!(joined(["電車", "は", "Tokyo", "行き"]), "電車は Tokyo 行き");
        assert_eq!(joined([]), "");
    }

    /// Files that somebody has changed are theirs.
    #[test]
    fn own_files_are_known_and_changed_ones_are_not() {
        for words in [&[("a", 0, 900, true), ("b", 900, 1_000, true)][..], &[]] {
            let given = recording(1_000, words);
            for format in [
                Format::Json,
                Format::Ctm,
                Format::Vtt,
                Format::VttLines,
                Format::TextGrid,
            ] {
                let file = format.file(&given);
                assert!(format.is_own(file.as_bytes()), "{file}");
                assert!(!format.is_own(b"") && !format.is_own(b"mine"));
                let plain = format.text(&given);
                if plain != file {
                    assert!(!format.is_own(plain.as_bytes()), "{plain}");
                    let changed = format!("{file}\n");
                    assert!(!format.is_own(changed.as_bytes()), "{changed}");
                }
            }
        }
        let given = recording(1_000, &[("a", 0, 900, true)]);
        let file = Format::Srt.file(&given);
        assert!(Format::Srt.may_be_own(file.as_bytes()) && !Format::Srt.is_own(file.as_bytes()));
        for other in ["mine", "1\n", "1\n00:00 --> 00:01", "1\nxx:xx:xx,xxx --> a"] {
            assert!(!Format::Srt.may_be_own(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(0, ','), "00:00:00,000");
        assert_eq!(clock(3_723_045, '.'), "01:02:03.045");
        assert_eq!(clock(360_000_000, '.'), "100:00:00.000");
    }
}
