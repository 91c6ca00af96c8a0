//! SubRip subtitles, which every player reads. They have no way to escape
//! anything: texts stand as they are.

use super::cues::cues;
use super::{AlignedRecording, clock};

pub(super) fn text(recording: &AlignedRecording) -> String {
    let cues = cues(recording);
    let cues = cues.iter().enumerate().map(|(n, cue)| {
        format!(
            "{}\n{} --> {}\n{}\n\n",
            n + 1,
            clock(cue.start, ','),
            clock(cue.end, ','),
            cue.text(|word| word.text.clone())
        )
    });
    cues.collect()
}

/// Whether a file may be one that [`text`] made: others look alike.
pub(super) fn may_be_own(file: &str) -> bool {
    let first = file
        .strip_prefix("1\n")
        .and_then(|rest| rest.lines().next());
    let times = first.and_then(|line| line.split_once(" --> "));
    let is_clock = |text: &str| {
        let digits = text.replace([':', ','], "");
        text.len() >= "00:00:00,000".len() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    times.is_some_and(|(start, end)| is_clock(start) && is_clock(end))
}

#[cfg(test)]
mod tests {
    use super::super::tests::recording;
    use super::*;

    #[test]
    fn numbered_cues_with_their_times() {
        let given = recording(
            5_000,
            &[
                ("R&D", 40, 400, true),
                ("così.", 400, 1_000, true),
                ("Fine", 3_000, 4_040, true),
            ],
        );
        assert_eq!(
            text(&given),
            "1\n00:00:00,040 --> 00:00:01,000\nR&D così.\n\n\
             2\n00:00:03,000 --> 00:00:04,040\nFine\n\n"
        );
        assert_eq!(text(&recording(5_000, &[])), "");
    }
}
