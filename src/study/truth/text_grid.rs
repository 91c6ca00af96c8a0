//! Praat's TextGrid as text, long or short. Both are read as Praat reads them:
//! only numbers, texts in quotes and flags that stand free count, so that the
//! long form's words are comments.

use super::{Places, TrueWord, Utterance, is_word};

/// How many tiers a message names.
const NAMED: usize = 10;

/// A tier of intervals.
struct Tier<'a> {
    name: String,
    intervals: Vec<Interval<'a>>,
}

struct Interval<'a> {
    start: f64,
    end: f64,
    /// As it stands in the file.
    label: &'a str,
}

/// # Errors
/// If it is no whole TextGrid, or which tier has the words cannot be told.
pub(super) fn read(text: &str, name: &str, wanted: Option<&str>) -> Result<Utterance, String> {
    let (begins, tiers) = tiers(text)?;
    let tier = chosen(&tiers, wanted)?;
    let mut words = Vec::new();
    let mut numbers = Vec::new();
    let mut several = 0;
    for (index, interval) in tier.intervals.iter().enumerate() {
        let label = unquoted(interval.label);
        let label = label.trim();
        let end_seconds = Some(interval.end);
        if !is_word(label) {
            continue;
        }
        several += usize::from(label.contains(char::is_whitespace));
        words.push(TrueWord {
            word: label.to_owned(),
            onset_seconds: interval.start,
            end_seconds,
        });
        numbers.push(index + 1);
    }
    let tier = &tier.name;
    if 2 * several > words.len() {
        return Err(format!(
            "tier \"{tier}\": most of its intervals have several words; a tier of single words is wanted"
        ));
    }
    Ok(Utterance {
        id: name.to_owned(),
        words,
        places: Places::Intervals {
            tier: tier.clone(),
            numbers,
        },
        begins,
    })
}

/// The tier with the words.
fn chosen<'a, 'b>(tiers: &'a [Tier<'b>], wanted: Option<&str>) -> Result<&'a Tier<'b>, String> {
    let names = match wanted {
        Some(name) => vec![name.trim().to_lowercase()],
        None => vec!["words".into(), "word".into()],
    };
    let lower = |tier: &Tier| tier.name.trim().to_lowercase();
    let own = |tier: &&Tier| names.contains(&lower(tier));
    // As MFA names tiers of several speakers.
    let of_speaker = |tier: &&Tier| {
        let name = lower(tier);
        let own = name
            .rsplit_once(" - ")
            .map(|(_, own)| own.trim().to_owned());
        own.is_some_and(|own| names.contains(&own))
    };
    let mut found: Vec<&Tier> = tiers.iter().filter(own).collect();
    if found.is_empty() {
        found = tiers.iter().filter(of_speaker).collect();
    }
    if found.is_empty() && wanted.is_none() {
        found = tiers.iter().collect();
    }
    let exact = |tier: &&&Tier| wanted.is_some_and(|wanted| tier.name == wanted);
    let mut exactly = found.iter().filter(exact);
    if let (Some(only), None) = (exactly.next(), exactly.next()) {
        return Ok(only);
    }
    match found.as_slice() {
        [only] => Ok(only),
        [] if tiers.is_empty() => Err("has no tier of intervals".into()),
        [] => Err(format!(
            "has no tier of intervals named \"{}\"; it has {}",
            wanted.unwrap_or_default(),
            listed(tiers.iter())
        )),
        several => Err(format!(
            "has several tiers that may have the words: {}; name one with --tier",
            listed(several.iter().copied())
        )),
    }
}

fn listed<'a, 'b: 'a>(tiers: impl ExactSizeIterator<Item = &'a Tier<'b>>) -> String {
    let more = tiers.len().saturating_sub(NAMED);
    let names = tiers.take(NAMED).map(|tier| format!("\"{}\"", tier.name));
    let mut text = names.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// Where the file begins, and all tiers of intervals. Counts are believed as far
/// as the file goes.
fn tiers(text: &str) -> Result<(f64, Vec<Tier<'_>>), String> {
    let mut reader = Reader { text, rest: text };
    reader.text("the type of the file")?;
    let class = reader.text("the class of the object")?;
    if class != "TextGrid" {
        return Err(format!("holds a {class} of Praat's, not a TextGrid"));
    }
    let begins = reader.number("the beginning")?;
    reader.number("the end")?;
    let mut tiers = Vec::new();
    if reader.flag()? != "<exists>" {
        return Ok((begins, tiers));
    }
    for number in 1..=reader.count("the number of tiers")? {
        let within = |problem: String| format!("tier {number}: {problem}");
        tiers.extend(reader.tier().map_err(within)?);
    }
    Ok((begins, tiers))
}

/// What counts in a text.
enum Value<'a> {
    Number(f64),
    /// As it stands between its quotes.
    Text(&'a str),
    Flag(&'a str),
}

struct Reader<'a> {
    text: &'a str,
    /// What is still to be read.
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// A tier, if it is one of intervals.
    fn tier(&mut self) -> Result<Option<Tier<'a>>, String> {
        let class = self.text("the class of the tier")?;
        let points = match class {
            "IntervalTier" => false,
            "TextTier" => true,
            other => return Err(self.problem(&format!("is a \"{other}\", no tier"))),
        };
        let name = unquoted(self.text("the name of the tier")?);
        for what in ["the beginning", "the end"] {
            self.number(what)?;
        }
        let count = self.count("the number of intervals")?;
        let mut intervals = Vec::new();
        for number in 1..=count {
            let within = |problem: String| format!("\"{name}\", interval {number}: {problem}");
            let start = self.number("its beginning").map_err(within)?;
            let end = match points {
                true => start,
                false => self.number("its end").map_err(within)?,
            };
            let label = self.text("its text").map_err(within)?;
            if !points {
                intervals.push(Interval { start, end, label });
            }
        }
        Ok((!points).then_some(Tier { name, intervals }))
    }

    fn number(&mut self, what: &str) -> Result<f64, String> {
        match self.next()? {
            Some(Value::Number(number)) => Ok(number),
            other => Err(self.missing("a number", what, other)),
        }
    }

    fn count(&mut self, what: &str) -> Result<u64, String> {
        let count = self.number(what)?;
        match count >= 0.0 && count.fract() == 0.0 {
            // What is larger than 64 bits becomes the largest; no file has as many.
            true => Ok(count as u64),
            false => Err(self.problem(&format!("{what} is {count}"))),
        }
    }

    fn text(&mut self, what: &str) -> Result<&'a str, String> {
        match self.next()? {
            Some(Value::Text(text)) => Ok(text),
            other => Err(self.missing("a text in quotes", what, other)),
        }
    }

    fn flag(&mut self) -> Result<&'a str, String> {
        match self.next()? {
            Some(Value::Flag(flag)) => Ok(flag),
            other => Err(self.missing("<exists>", "whether there are tiers", other)),
        }
    }

    /// The next value; absent at the end of the file.
    fn next(&mut self) -> Result<Option<Value<'a>>, String> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix('"') {
                let Some(end) = end_of_text(rest) else {
                    return Err(self.problem("a quote is not closed"));
                };
                self.rest = &rest[end + 1..];
                // praat-textgrids writes such files; Praat refuses them, too.
                if self.rest.starts_with(|c: char| !c.is_whitespace()) {
                    return Err(self.problem("a quote within a text is not doubled"));
                }
                return Ok(Some(Value::Text(&rest[..end])));
            }
            let stop: fn(char) -> bool = match self.rest.starts_with('!') {
                true => |c| matches!(c, '\n' | '\r'),
                false => char::is_whitespace,
            };
            let end = self.rest.find(stop).unwrap_or(self.rest.len());
            let (token, rest) = self.rest.split_at(end);
            self.rest = rest;
            if token.is_empty() {
                return Ok(None);
            }
            if token.starts_with('<') {
                return Ok(Some(Value::Flag(token)));
            }
            let numeric = token.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+');
            if let Some(number) = token.parse().ok().filter(|_| numeric) {
                return Ok(Some(Value::Number(number)));
            }
        }
    }

    fn missing(&self, wanted: &str, what: &str, found: Option<Value>) -> String {
        let found = match found {
            None => return format!("ends where {what} should stand"),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Text(text)) => format!("\"{text}\""),
            Some(Value::Flag(flag)) => flag.to_owned(),
        };
        self.problem(&format!("{found} where {wanted} is wanted: {what}"))
    }

    /// With the line that was come to.
    fn problem(&self, what: &str) -> String {
        let done = &self.text[..self.text.len() - self.rest.len()];
        let line = 1 + done.bytes().filter(|&byte| byte == b'\n').count();
        format!("line {line}: {what}")
    }
}

/// Where the quote stands that ends a text: two of them are one of the text.
fn end_of_text(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find('"')?;
        if !text[at + 1..].starts_with('"') {
            return Some(at);
        }
        from = at + 2;
    }
}

fn unquoted(text: &str) -> String {
    text.replace("\"\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tier as Praat writes it.
    fn tier(name: &str, labels: &[(f64, f64, &str)]) -> String {
        let (start, end) = (labels[0].0, labels[labels.len() - 1].1);
        let mut text = format!(
            "    item [1]:\n        class = \"IntervalTier\" \n        name = \"{name}\" \n        \
             xmin = {start} \n        xmax = {end} \n        intervals: size = {} \n",
            labels.len()
        );
        for (number, (start, end, label)) in labels.iter().enumerate() {
            text += &format!(
                "        intervals [{}]:\n            xmin = {start} \n            xmax = {end} \n\
                 \x20           text = \"{label}\" \n",
                number + 1
            );
        }
        text
    }

    fn long(tiers: &[String]) -> String {
        let mut text = format!(
            "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\nxmin = 0 \nxmax = 2 \n\
             tiers? <exists> \nsize = {} \nitem []: \n",
            tiers.len()
        );
        tiers.iter().for_each(|tier| text += tier);
        text
    }

    const LABELS: [(f64, f64, &str); 5] = [
        (0.0, 0.25, ""),
        (0.25, 0.5, "she \"\"said\"\""),
        (0.5, 0.75, " isn't\n"),
        (0.75, 1.0, "sp"),
        (1.0, 2.0, "<unk>"),
    ];

    fn words(text: &str, wanted: Option<&str>) -> Result<Vec<(String, f64)>, String> {
        let words = read(text, "x", wanted)?.words.into_iter();
        Ok(words.map(|own| (own.word, own.onset_seconds)).collect())
    }

    #[test]
    fn both_forms_are_read() {
        let wanted = [("she \"said\"", 0.25), ("isn't", 0.5), ("<unk>", 1.0)];
        let wanted = wanted.map(|(word, start)| (word.to_owned(), start));
        let text = long(&[tier("words", &LABELS)]);
        assert_eq!(words(&text, None).unwrap(), wanted);
        let short = "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\n0\n2\n<exists>\n2\n\
                     \"TextTier\"\n\"bells\"\n0\n2\n1\n0.5\n\"ding\"\n\"IntervalTier\"\n\"Words\"\n0\n2\n5\n\
                     0\n0.25\n\"\"\n0.25\n0.5 ! said by her\n\"she \"\"said\"\"\"\n0.5\n0.75\n\"isn't\"\n\
                     0.75\n1\n\"sp\"\n1\n2\n\"<unk>\"\n";
        assert_eq!(words(short, None).unwrap(), wanted);
        let found = read(short, "name", None).unwrap();
        assert_eq!(
            (&*found.id, found.words[2].end_seconds),
            ("name", Some(2.0))
        );
        assert_eq!(found.places.of(2), "tier \"Words\", interval 5");
    }

    #[test]
    fn the_tier_is_chosen_by_its_name() {
        let some = |name: &str| tier(name, &[(0.0, 1.0, name)]);
        let text = |names: &[&str]| long(&names.iter().map(|name| some(name)).collect::<Vec<_>>());
        let chosen = |names: &[&str], wanted: Option<&str>| {
            words(&text(names), wanted).map(|words| words[0].0.clone())
        };
        let found = |names: &[&str], wanted, name: &str| {
            assert_eq!(chosen(names, wanted).unwrap(), name);
        };
        found(&["Word", "phones"], None, "Word");
        found(&["anything"], None, "anything");
        found(&["phones", "Mary-Lou"], Some("mary-lou"), "Mary-Lou");
        found(&["A", "a"], Some("a"), "a");
        let problem = |names: &[&str], wanted| chosen(names, wanted).unwrap_err();
        let several = problem(&["words", "word", "phones"], None);
        assert!(
            several.contains("\"words\", \"word\"; name one with --tier"),
            "{several}"
        );
        assert!(problem(&["a", "b"], None).contains("\"a\", \"b\""));
        assert!(problem(&["a", "a"], Some("a")).contains("\"a\", \"a\""));
        assert!(problem(&["words"], Some("b")).contains("named \"b\"; it has \"words\""));
        let many: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(problem(&many, None).contains("\"9\" and 40 more"));
        assert!(words(&long(&[]), None).unwrap_err().contains("has no tier"));
    }

    /// As MFA names them.
    #[test]
    fn tiers_of_speakers_are_found() {
        let label = [(0.0, 1.0, "x")];
        let of = |names: &[&str], wanted| {
            let tiers = names.iter().map(|name| tier(name, &label));
            read(&long(&tiers.collect::<Vec<_>>()), "x", wanted).map(|own| own.places.whole())
        };
        let one = of(&["Ann - words", "Ann - phones"], None);
        assert_eq!(one.unwrap(), "tier \"Ann - words\"");
        let two = ["Ann - words", "Ann - phones", "Bob - words", "Bob - phones"];
        assert!(
            of(&two, None)
                .unwrap_err()
                .contains("\"Ann - words\", \"Bob - words\"")
        );
        assert_eq!(
            of(&two, Some("Bob - words")).unwrap(),
            "tier \"Bob - words\""
        );
    }

    #[test]
    fn what_is_no_tier_of_words_is_said() {
        let sentences = [(0.0, 1.0, "she said"), (1.0, 2.0, "nothing")];
        let whole = long(&[tier("words", &LABELS)]);
        let short = |from: &str, to: &str| whole.replacen(from, to, 1);
        for (text, problem) in [
            (
                long(&[tier("Ann", &sentences)]).replace("nothing", "no more"),
                "tier \"Ann\": most",
            ),
            (short("\"TextGrid\"", "\"PitchTier\""), "holds a PitchTier"),
            (
                short("size = 1", "size = 2"),
                "tier 2: ends where the class",
            ),
            (
                short("size = 1", "size = -1"),
                "line 7: the number of tiers is -1",
            ),
            (
                short("size = 1", "size = 1e999"),
                "line 7: the number of tiers is inf",
            ),
            (
                short("xmin = 0.75", ""),
                "tier 1: \"words\", interval 4: line",
            ),
            (
                short("IntervalTier", "PointProcess"),
                "is a \"PointProcess\", no tier",
            ),
            (short("\"<unk>\"", "\"<unk>"), "a quote is not closed"),
            (
                short("\"\"said", "\"said"),
                "interval 2: line 22: a quote within",
            ),
            (short("<exists>", ""), "<exists> is wanted"),
            (
                short("intervals: size = 5", "intervals: size = 4294967295"),
                "interval 6: ends where",
            ),
        ] {
            let message = words(&text, None).unwrap_err();
            assert!(message.contains(problem), "{problem}: {message}");
        }
    }
}
