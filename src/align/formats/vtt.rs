//! WebVTT subtitles, which browsers show. Within a cue every word but the
//! first has a timestamp at which it is said, or none has: pysubs2 1.8 takes a
//! line with exactly two timestamps for the times of a cue.

use super::cues::{Cue, cues};
use super::{AlignedRecording, AlignedWord, clock, mark};

/// What a file begins with.
const BEGIN: &str = "WEBVTT\n";

/// What begins a comment.
const COMMENT: &str = "\nNOTE ";

pub(super) fn text(recording: &AlignedRecording) -> String {
    written(recording, timed)
}

/// Without times of words, for readers that know cues alone.
pub(super) fn plain(recording: &AlignedRecording) -> String {
    written(recording, |cue| cue.text(|word| escaped(&word.text)))
}

fn written(recording: &AlignedRecording, of_cue: impl Fn(&Cue) -> String) -> String {
    let mut text = String::from(BEGIN);
    for cue in cues(recording) {
        let (start, end) = (clock(cue.start, '.'), clock(cue.end, '.'));
        text += &format!("\n{start} --> {end}\n{}\n", of_cue(&cue));
    }
    text
}

/// A file's text with a comment before all cues that says whose it is.
pub(super) fn marked(text: &str) -> String {
    let cues = text.strip_prefix(BEGIN).unwrap_or_default();
    format!("{BEGIN}{COMMENT}{}\n{cues}", mark(cues))
}

/// Whether a file is as [`marked`] made it.
pub(super) fn is_own(file: &str) -> bool {
    let file = file.strip_prefix(BEGIN);
    let file = file.and_then(|own| own.strip_prefix(COMMENT));
    let file = file.and_then(|own| own.split_once('\n'));
    file.is_some_and(|(own, cues)| own == mark(cues))
}

/// A cue's text with timestamps, each later than the one before it, as the
/// format demands.
fn timed(cue: &Cue) -> String {
    let mut last = cue.start;
    cue.text(|word: &AlignedWord| {
        let text = escaped(&word.text);
        if !(word.reliable && word.start > last && word.start < cue.end) {
            return text;
        }
        last = word.start;
        format!("<{}>{text}", clock(last, '.'))
    })
}

/// `-->` may not stand in a text either, and does not without its `>`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::recording;
    use super::*;

    #[test]
    fn words_have_times_within_their_cue() {
        let given = recording(
            5_000,
            &[
                ("a", 0, 40, false),
                ("<b>", 40, 400, true),
                ("&", 400, 400, false),
                ("c", 400, 1_000, true),
                ("-->", 3_000, 4_040, true),
            ],
        );
        assert_eq!(
            text(&given),
            "WEBVTT\n\
             \n00:00:00.000 --> 00:00:01.000\na <00:00:00.040>&lt;b&gt; &amp; <00:00:00.400>c\n\
             \n00:00:03.000 --> 00:00:04.040\n--&gt;\n"
        );
        assert_eq!(
            plain(&given),
            "WEBVTT\n\
             \n00:00:00.000 --> 00:00:01.000\na &lt;b&gt; &amp; c\n\
             \n00:00:03.000 --> 00:00:04.040\n--&gt;\n"
        );
        assert_eq!(text(&recording(5_000, &[])), "WEBVTT\n");
    }
}
