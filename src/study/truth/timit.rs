//! TIMIT's `.WRD`: `start end word`, in samples at 16 kHz.

use super::{TrueWord, Utterance, is_word};

const RATE: f64 = 16_000.0;

/// With this every `.PHN` begins, and no word is written so.
const PHONE: &str = "h#";

/// # Errors
/// If a line is none, or the labels are phones.
pub(super) fn read(text: &str, name: &str) -> Result<Utterance, String> {
    let mut words = Vec::new();
    let lines = text.lines().map(str::trim).enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let number = number + 1;
        let mut fields = line.split_whitespace();
        let mut field = || fields.next().unwrap_or_default();
        let (start, end, word) = (field(), field(), field());
        let (Ok(start), Ok(end)) = (start.parse::<u64>(), end.parse::<u64>()) else {
            return Err(format!(
                "line {number}: is not \"start end word\", in samples"
            ));
        };
        if word == PHONE {
            return Err(format!(
                "line {number}: has phones, which make no words by themselves; give TIMIT's .WRD \
                 beside it"
            ));
        }
        if word.is_empty() || fields.next().is_some() {
            return Err(format!("line {number}: is not \"start end word\""));
        }
        if is_word(word) {
            let own = TrueWord {
                word: word.to_owned(),
                onset_seconds: start as f64 / RATE,
                end_seconds: Some(end as f64 / RATE),
            };
            words.push((number, own));
        }
    }
    Ok(Utterance::of_lines(name, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_seconds() {
        let found = read("2260 4480 she\r\n4480 8000 had\r\n", "SA1").unwrap();
        assert_eq!(found.id, "SA1");
        let had = TrueWord {
            word: "had".into(),
            onset_seconds: 0.28,
            end_seconds: Some(0.5),
        };
        assert_eq!(found.words[1], had);
        assert_eq!(found.places.of(1), "line 2");
    }

    #[test]
    fn phones_and_seconds_are_none() {
        for (text, words) in [
            ("0 2260 h#\n2260 4149 sh", "line 1: has phones"),
            ("0 10 a\n0.5 0.6 b", "line 2: is not"),
            ("0 10 a\n10 20", "line 2: is not"),
            ("0 10 a\n10 20 b c", "line 2: is not"),
        ] {
            let problem = read(text, "x").unwrap_err();
            assert!(problem.starts_with(words), "{problem}");
        }
    }
}
