//! NIST's CTM, which scoring programs read: one line for each word with the
//! recording's name, the channel, start and duration in seconds, the word and
//! its confidence.

use super::{AlignedRecording, mark, seconds, unspaced};

/// What begins a comment.
const COMMENT: &str = ";; ";

pub(super) fn text(recording: &AlignedRecording) -> String {
    let name = recording.id();
    let lines = recording.words.iter().map(|word| {
        format!(
            "{name} 1 {:.3} {:.3} {} {:.4}\n",
            seconds(word.start),
            seconds(word.end - word.start),
            unspaced(&word.text),
            word.confidence
        )
    });
    lines.collect()
}

/// A file's text with a comment before it that says whose it is.
pub(super) fn marked(text: &str) -> String {
    format!("{COMMENT}{}\n{text}", mark(text))
}

/// Whether a file is as [`marked`] made it.
pub(super) fn is_own(file: &str) -> bool {
    let file = file
        .strip_prefix(COMMENT)
        .and_then(|own| own.split_once('\n'));
    file.is_some_and(|(own, text)| own == mark(text))
}

#[cfg(test)]
mod tests {
    use super::super::tests::recording;
    use super::*;

    #[test]
    fn one_line_for_each_word() {
        let given = recording(
            2_000,
            &[
                ("perché", 40, 400, true),
                ("New York", 400, 1_000, false),
                (";;", 1_000, 1_040, true),
            ],
        );
        assert_eq!(
            text(&given),
            "a_sound 1 0.040 0.360 perché 0.5000\n\
             a_sound 1 0.400 0.600 New_York 0.5000\n\
             a_sound 1 1.000 0.040 ;; 0.5000\n"
        );
        assert_eq!(text(&recording(2_000, &[])), "");
    }
}
