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
