//! NIST's CTM: `recording channel start duration word [confidence [type
//! [speaker]]]`, with `;;` before comments; one file may have many recordings, in
//! any order.

use std::collections::HashMap;

use super::{TrueWord, Utterance, is_word};

/// Types of what is no word, where a line says its type.
const NO_WORDS: [&str; 4] = ["non-lex", "noise", "misc", "noscore"];

/// One recording.
struct Recording<'a> {
    id: &'a str,
    channel: &'a str,
    /// With their lines.
    words: Vec<(usize, TrueWord)>,
}

/// # Errors
/// If a line is none, has alternatives, or another channel of its recording
/// than lines before it.
pub(super) fn read(text: &str) -> Result<Vec<Utterance>, String> {
    let mut recordings: Vec<Recording> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let lines = text.lines().map(str::trim).enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(";;")) {
        let number = number + 1;
        let problem = |what: &str| Err(format!("line {number}: {what}"));
        let fields: Vec<&str> = line.split_whitespace().take(9).collect();
        let &[id, channel, start, duration, word, ref more @ ..] = fields.as_slice() else {
            return problem("is not \"recording channel start duration word\"");
        };
        if word.starts_with("<ALT") || start == "*" {
            return problem("has alternatives (<ALT>), which have no one truth; leave one of them");
        }
        if more.len() > 3 {
            return problem("has more than a confidence, a type and a speaker behind its word");
        }
        let seconds = |text: &str| {
            text.parse()
                .ok()
                .filter(|own: &f64| own.is_finite() && *own >= 0.0)
        };
        let (Some(start), Some(duration)) = (seconds(start), seconds(duration)) else {
            return problem(&format!(
                "{start} and {duration} are not a start and a duration in seconds"
            ));
        };
        let next = recordings.len();
        let place = *places.entry(id).or_insert(next);
        if place == next {
            recordings.push(Recording {
                id,
                channel,
                words: Vec::new(),
            });
        }
        let own = &mut recordings[place];
        if own.channel != channel {
            return problem(&format!(
                "has channel {channel} of {id}, which had channel {} before; one recording has the \
                 words of one channel",
                own.channel
            ));
        }
        let lexical = more.get(1).is_none_or(|kind| !NO_WORDS.contains(kind));
        if lexical && is_word(word) {
            own.words.push((
                number,
                TrueWord {
                    word: word.to_owned(),
                    onset_seconds: start,
                    // Decimal as both are.
                    end_seconds: Some(((start + duration) * 1e9).round() / 1e9),
                },
            ));
        }
    }
    let utterances = recordings.into_iter().map(|mut own| {
        // Each line stands for itself.
        let starts = |a: &(usize, TrueWord), b: &(usize, TrueWord)| {
            a.1.onset_seconds.total_cmp(&b.1.onset_seconds)
        };
        own.words.sort_by(starts);
        Utterance::of_lines(own.id, own.words)
    });
    Ok(utterances.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_stand_in_any_order() {
        let text = ";; made by hand\nb 1 0.50 0.25 world 0.98\na A 1.0 0.5 x NA lex NA\n\n\
                    b 1 0.00 0.50 Hello 0.50\nb 1 0.75 0.2 <eps>\na A 1.5 0.5 um NA non-lex\n\
                    a A 2 0.5 <unk> 0.1 lex\nc 1 0 1 @\n";
        let found = read(text).unwrap();
        let words = |own: &Utterance| -> Vec<_> {
            let words = own.words.iter();
            let words = words.map(|own| (own.word.clone(), own.onset_seconds, own.end_seconds));
            words.collect()
        };
        assert_eq!(found.len(), 3);
        assert_eq!((&*found[0].id, &*found[1].id), ("b", "a"));
        let wanted = [("Hello", 0.0, Some(0.5)), ("world", 0.5, Some(0.75))];
        assert_eq!(
            words(&found[0]),
            wanted.map(|(a, b, c)| (a.to_owned(), b, c))
        );
        assert_eq!(found[0].places.of(0), "line 5");
        assert_eq!(words(&found[1])[1], ("<unk>".into(), 2.0, Some(2.5)));
        assert!(words(&found[2]).is_empty());
    }

    #[test]
    fn lines_that_are_none_are_named() {
        for (line, words) in [
            ("a 1 * * <ALT_BEGIN>", "alternatives"),
            ("a 1 0.5 0.5", "is not"),
            ("a 1 0.5 -0.5 x", "-0.5"),
            ("a 1 nan 1 x", "nan"),
            ("a 1 0 1e999 x", "1e999"),
            ("a 2 0 1 x", "channel 2"),
            ("a 1 0 1 x 0.5 lex s more", "more than"),
        ] {
            let problem = read(&format!("a 1 0 1 x\n{line}\n")).unwrap_err();
            assert!(problem.starts_with("line 2: "), "{problem}");
            assert!(problem.contains(words), "{problem}");
        }
    }
}
