//! Buckeye's `.words`: a header that ends with a line `#`, then entries `time
//! colour label; ...`, where the time is the entry's end; it begins where the one
//! before it ended.

use super::{TrueWord, Utterance, is_word};

/// # Errors
/// If an entry has no time, or ends before it begins.
pub(super) fn read(text: &str, name: &str) -> Result<Utterance, String> {
    let mut words = Vec::new();
    let mut start = 0.0;
    let lines = text.lines().map(str::trim).enumerate();
    let entries = lines.skip_while(|(_, line)| *line != "#").skip(1);
    for (number, line) in entries.filter(|(_, line)| !line.is_empty()) {
        let number = number + 1;
        // Transcriptions and the part of speech follow.
        let entry = line.split(';').next().unwrap_or_default();
        let mut fields = entry.split_whitespace();
        let time = fields.next().unwrap_or_default();
        let Some(end) = time.parse().ok().filter(|own: &f64| own.is_finite()) else {
            return Err(format!("line {number}: \"{time}\" is no time"));
        };
        if end < start {
            return Err(format!(
                "line {number}: ends at {end} s, where the entry before it ended at {start} s"
            ));
        }
        // Some entries have no label: they are pauses.
        let label = fields.nth(1).unwrap_or_default();
        if is_word(label) {
            let own = TrueWord {
                word: label.to_owned(),
                onset_seconds: start,
                end_seconds: Some(end),
            };
            words.push((number, own));
        }
        start = end;
    }
    Ok(Utterance::of_lines(name, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "signal s0101a\ntype 0\ncolor 122\nseparator ;\nnfields 1\n#\n";

    #[test]
    fn words_begin_where_the_entry_before_ended() {
        let text = format!(
            "{HEADER}    0.0625  122 {{B_TRANS}}; {{B_TRANS}}; null\n    0.5  122 <SIL>; <SIL>; null\n\
             \n    0.75  122 okay; ow k ey; k ay; NN\n    1.0  122\n    1.5  122 that's; x; y; DT_VBZ\n"
        );
        let found = read(&text, "s0101a").unwrap();
        let words = found.words.iter();
        let words: Vec<_> = words
            .map(|own| (&*own.word, own.onset_seconds, own.end_seconds))
            .collect();
        assert_eq!(
            words,
            [("okay", 0.5, Some(0.75)), ("that's", 1.0, Some(1.5))]
        );
        assert_eq!(found.places.of(1), "line 12");
    }

    #[test]
    fn entries_without_a_time_are_named() {
        for (entries, words) in [
            ("1 122 a\nb 122 b", "line 8: \"b\" is no time"),
            ("1 122 a\n0.5 122 b", "line 8: ends at 0.5 s"),
            ("inf 122 a", "line 7: \"inf\""),
        ] {
            let problem = read(&format!("{HEADER}{entries}"), "x").unwrap_err();
            assert!(problem.starts_with(words), "{problem}");
        }
    }
}
