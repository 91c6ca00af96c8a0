//! What was truly said and when, in the forms in which people have it. A form
//! is recognised by what a file holds, never by its name alone; each has a
//! file of its own here.

mod buckeye;
mod ctm;
mod form;
mod json_lines;
mod text_grid;
mod timit;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::form::Form;
use super::manifest::Item;
use super::watch::Warning;
use crate::audio::Part;
use crate::fingerprint::Fingerprint;
use crate::plain::read_text_in_any_unicode;
use crate::{Error, Result};

/// A spoken word.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct TrueWord {
    pub word: String,
    pub onset_seconds: f64,
    /// Where the file says it.
    #[serde(default)]
    pub end_seconds: Option<f64>,
}

/// The spoken words of utterances, by id.
#[derive(Clone, Debug, Default)]
pub struct TrueOnsets {
    files: Vec<PathBuf>,
    utterances: BTreeMap<String, Known>,
    /// Whether some file has tiers to choose from.
    tiers: bool,
    /// Files that say that they do not begin at 0, and where, in milliseconds.
    late: Vec<(PathBuf, i64)>,
}

/// What is known of one utterance.
#[derive(Clone, Debug)]
struct Known {
    words: Vec<TrueWord>,
    /// Index of the file that says so.
    file: usize,
    places: Places,
}

/// An utterance as a file has it.
#[derive(Debug)]
struct Utterance {
    id: String,
    words: Vec<TrueWord>,
    places: Places,
    /// Where it says that it begins, in seconds.
    begins: f64,
}

impl Utterance {
    /// Of words on lines of their own.
    fn of_lines(id: &str, words: Vec<(usize, TrueWord)>) -> Self {
        let (lines, words) = words.into_iter().unzip();
        Self {
            id: id.to_owned(),
            words,
            places: Places::Lines(lines),
            begins: 0.0,
        }
    }
}

/// Where in their file an utterance's words stand, counted from 1.
#[derive(Clone, Debug)]
enum Places {
    /// All on one line.
    Line(usize),
    /// Each on its own.
    Lines(Vec<usize>),
    /// Each in an interval of a tier.
    Intervals { tier: String, numbers: Vec<usize> },
}

impl Places {
    fn of(&self, word: usize) -> String {
        let number = |all: &[usize]| all.get(word).copied().unwrap_or(0);
        match self {
            Self::Line(line) => format!("line {line}"),
            Self::Lines(lines) => format!("line {}", number(lines)),
            Self::Intervals { tier, numbers } => {
                format!("tier \"{tier}\", interval {}", number(numbers))
            }
        }
    }

    /// Where the utterance as a whole stands.
    fn whole(&self) -> String {
        match self {
            Self::Intervals { tier, .. } => format!("tier \"{tier}\""),
            lines => lines.of(0),
        }
    }
}

impl TrueOnsets {
    /// Reads several files, and those in folders that end as files of whole
    /// recordings do (`.TextGrid`, `.ctm`, `.wrd`, `.words`). `tier` is the tier
    /// of TextGrids that has the words; without it that is looked for.
    ///
    /// # Errors
    /// As [`add`](Self::add), or if a folder has no such file.
    pub fn read(paths: &[impl AsRef<Path>], tier: Option<&str>) -> Result<Self> {
        let mut onsets = Self::default();
        for path in paths {
            let path = path.as_ref();
            if path.is_dir() {
                for file in form::files_in(path)? {
                    onsets.add(&file, tier)?;
                }
            } else {
                onsets.add(path, tier)?;
            }
        }
        Ok(onsets)
    }

    /// Says so if something is known, but about none of the utterances; a
    /// shard may have none of them by right.
    pub fn check(&self, items: &[Item]) -> Option<Warning> {
        let some = items.iter().any(|item| self.known(item).is_some());
        (!some && !self.utterances.is_empty()).then_some(Warning::NoOnsets)
    }

    /// Adds the utterances of a file. What has no id of its own (TextGrids,
    /// TIMIT's and Buckeye's files) is known by the file's name without its
    /// ending.
    ///
    /// # Errors
    /// If it cannot be read, is in none of the forms, has no utterances, one
    /// twice or one that is known already, or onsets out of order; the message
    /// says where.
    pub fn add(&mut self, path: &Path, tier: Option<&str>) -> Result<()> {
        let text = read_text_in_any_unicode(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let found = Form::of(&text).and_then(|form| {
            self.tiers |= form == Form::TextGrid;
            match form {
                Form::JsonLines => json_lines::read(&text),
                Form::TextGrid => text_grid::read(&text, &name, tier).map(|own| vec![own]),
                Form::Ctm => ctm::read(&text),
                Form::Timit => timit::read(&text, &name).map(|own| vec![own]),
                Form::Buckeye => buckeye::read(&text, &name).map(|own| vec![own]),
            }
        });
        let found = found.map_err(|problem| Error::file(path, problem))?;
        if found.is_empty() {
            return Err(Error::file(path, "has no utterances"));
        }
        let file = self.files.len();
        self.files.push(path.to_owned());
        for own in found {
            let Utterance {
                id, words, places, ..
            } = own;
            let begins = (own.begins * 1e3).round() as i64;
            if begins != 0 {
                self.late.push((path.to_owned(), begins));
            }
            let problem =
                |place: String, what: &str| Err(Error::file(path, format!("{place}: {what}")));
            if let Err((word, what)) = check(&words) {
                return problem(places.of(word), &what);
            }
            if self.utterances.contains_key(&id) {
                return problem(places.whole(), &format!("has utterance {id} again"));
            }
            let known = Known {
                words,
                file,
                places,
            };
            self.utterances.insert(id, known);
        }
        Ok(())
    }

    /// Says so if some file does not begin at 0: its times are taken as they
    /// stand all the same.
    pub fn begins_late(&self) -> Option<Warning> {
        let (file, milliseconds) = self.late.first()?;
        Some(Warning::BeginLate {
            file: file.clone(),
            milliseconds: *milliseconds,
            files: self.late.len(),
        })
    }

    /// Whether a tier was there to be chosen.
    pub fn have_tiers(&self) -> bool {
        self.tiers
    }

    /// The words of an utterance, if they are known.
    pub fn of(&self, item: &Item) -> Option<&[TrueWord]> {
        self.known(item).map(|known| known.words.as_slice())
    }

    /// By the utterance's id; one that is known by its file's name alone, as in
    /// NeMo's lists, also by that without folder and ending.
    fn known(&self, item: &Item) -> Option<&Known> {
        let by_id = self.utterances.get(&item.id);
        by_id.or_else(|| self.utterances.get(file_name(item)?))
    }

    /// Refuses two utterances that would be known by one name.
    ///
    /// # Errors
    /// If there are two such files of a direction.
    fn check_names(&self, items: &[Item]) -> Result<()> {
        let mut taken: HashMap<(String, &str), &Item> = HashMap::new();
        for item in items {
            let by_id = self.utterances.contains_key(&item.id);
            let name = match by_id {
                true => Some(item.id.as_str()),
                false => file_name(item).filter(|&name| self.utterances.contains_key(name)),
            };
            let Some(name) = name else {
                continue;
            };
            let other = taken.insert((item.direction(), name), item);
            // One utterance may stand in several manifests under its id.
            let same = |other: &&Item| by_id && other.id == item.id;
            if let Some(other) = other.filter(|other| !same(other)) {
                return Err(Error::Input(format!(
                    "{} and {} would both have the words of {name}; give them ids in the manifest",
                    other.audio.display(),
                    item.audio.display()
                )));
            }
        }
        Ok(())
    }

    /// Refuses onsets of an utterance that are behind its end, where they count.
    ///
    /// # Errors
    /// If one is; the message says where.
    pub fn check_within(&self, item: &Item, seconds: f64) -> Result<()> {
        let Some(known) = self.known(item).filter(|_| !item.translates()) else {
            return Ok(());
        };
        let late = |own: &TrueWord| own.onset_seconds >= seconds;
        let Some(index) = known.words.iter().position(late) else {
            return Ok(());
        };
        let TrueWord {
            word,
            onset_seconds,
            ..
        } = &known.words[index];
        let path = self.files.get(known.file).cloned().unwrap_or_default();
        let (id, place) = (&item.id, known.places.of(index));
        Err(Error::file(
            path,
            format!(
                "{place}: \"{word}\" begins at {onset_seconds} s, where utterance {id} has \
                 ended at {seconds:.3} s; onsets count from an utterance's own beginning"
            ),
        ))
    }

    /// The same of all utterances whose length their manifest says; and no two
    /// may be known by one name.
    ///
    /// # Errors
    /// As [`check_within`](Self::check_within), or if two are.
    pub fn check_items(&self, items: &[Item]) -> Result<()> {
        self.check_names(items)?;
        let mut lengths = items.iter().filter_map(|item| match item.part {
            Some(Part::Seconds {
                duration: Some(seconds),
                ..
            }) => Some((item, seconds)),
            _ => None,
        });
        lengths.try_for_each(|(item, seconds)| self.check_within(item, seconds))
    }

    /// Of all words and their times; absent where nothing is known. It does not
    /// depend on the form, nor on how many files there are.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let mut text = String::new();
        for (id, known) in &self.utterances {
            text += &format!("{id}\n");
            // Ends are not scored.
            for own in &known.words {
                text += &format!("{}\t{}\n", own.onset_seconds, own.word);
            }
            text.push('\n');
        }
        (!self.utterances.is_empty()).then(|| Fingerprint::of(text.as_bytes()))
    }

    /// The words of an utterance, if they are known and are what should be
    /// written: words of a translation have no onsets.
    pub fn of_words_written(&self, item: &Item) -> Option<&[TrueWord]> {
        self.of(item).filter(|_| !item.translates())
    }

    pub fn utterances(&self) -> usize {
        self.utterances.len()
    }

    pub fn words(&self) -> usize {
        self.utterances.values().map(|own| own.words.len()).sum()
    }
}

/// The name of an utterance's file without its ending, where the utterance is
/// known by that file.
fn file_name(item: &Item) -> Option<&str> {
    let own = item.audio.ends_with(&item.id);
    item.audio.file_stem().filter(|_| own)?.to_str()
}

/// Refuses words that are none or not in order, with the index of the word.
fn check(words: &[TrueWord]) -> std::result::Result<(), (usize, String)> {
    let mut before = 0.0;
    for (index, own) in words.iter().enumerate() {
        let TrueWord {
            word,
            onset_seconds,
            end_seconds,
        } = own;
        let problem = |what: String| Err((index, what));
        if comparable(word).is_empty() {
            return problem(format!("\"{word}\" is no word"));
        }
        if !onset_seconds.is_finite() || end_seconds.is_some_and(|end| !end.is_finite()) {
            return problem(format!("\"{word}\" has times that are no numbers"));
        }
        if *onset_seconds < before {
            return problem(format!(
                "\"{word}\" begins at {onset_seconds} s, before {before} s"
            ));
        }
        if let Some(end) = end_seconds.filter(|end| end < onset_seconds) {
            return problem(format!(
                "\"{word}\" ends at {end} s, before it begins at {onset_seconds} s"
            ));
        }
        before = *onset_seconds;
    }
    Ok(())
}

/// A word without its capitals and the punctuation around it.
pub(super) fn comparable(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric())
        .to_lowercase()
}

/// Marks of silence without brackets: of P2FA and FAVE (`sp`), Prosodylab
/// (`sil`), Kaldi and MFA.
const SILENCE: [&str; 4] = ["sil", "SIL", "sp", "spn"];

/// Whether a label of an interval is a word. Whatever stands in brackets is a
/// mark (`<eps>`, `<SIL>`, `{B_TRANS}`, `[noise]`), but `<unk>`, which is a word
/// that the aligner did not know; so is what has neither letters nor digits
/// (nothing at all, `#`, `_`).
fn is_word(label: &str) -> bool {
    let brackets = [('<', '>'), ('{', '}'), ('[', ']')];
    let mut inner = brackets.iter().filter_map(|&(open, close)| {
        let inner = label.strip_prefix(open)?;
        inner.strip_suffix(close)
    });
    match inner.next() {
        Some(inner) => inner.eq_ignore_ascii_case("unk"),
        None => !SILENCE.contains(&label) && !comparable(label).is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::align::formats::{AlignedRecording, AlignedWord, Format};

    fn item(id: &str, audio: &str) -> Item {
        Item {
            id: id.into(),
            audio: audio.into(),
            ..Item::default()
        }
    }

    #[test]
    fn files_that_begin_late_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let onsets = |begins: &[(&str, f64)]| {
            let mut onsets = TrueOnsets::default();
            for (name, begin) in begins {
                let path = folder.path().join(format!("{name}.TextGrid"));
                let text = format!(
                    "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\n{begin}\n9\n\
                     <exists>\n1\n\"IntervalTier\"\n\"words\"\n{begin}\n9\n1\n{begin}\n9\n\
                     \"one\"\n"
                );
                fs::write(&path, text).unwrap();
                onsets.add(&path, None).unwrap();
            }
            onsets
        };
        assert_eq!(onsets(&[("a", 0.0), ("b", 1e-5)]).begins_late(), None);
        let late = onsets(&[("a", 0.0), ("b", 0.75), ("c", 3.0)]);
        let said = late.begins_late().unwrap().to_string();
        let wanted = "b.TextGrid: begins at 0.75 s (and 1 more files do not begin at 0); its times";
        assert!(said.contains(wanted), "{said}");
        // As they stand.
        assert_eq!(late.of(&item("b", "")).unwrap()[0].onset_seconds, 0.75);
    }

    #[test]
    fn onset_files_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.jsonl");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            TrueOnsets::read(&[&path], None)
        };
        let good = r#"{"id": "a", "text": "x y", "voice": "z", "words":
            [{"word": "x", "onset_seconds": 0.1}, {"word": "y", "onset_seconds": 0.1}]}"#
            .replace('\n', " ");
        let onsets = read(&format!("\n{good}\n")).unwrap();
        assert_eq!((onsets.utterances(), onsets.words()), (1, 2));
        let found = onsets.of(&item("a", "")).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|own| (&*own.word, own.onset_seconds))
            .collect();
        assert_eq!(found, [("x", 0.1), ("y", 0.1)]);
        assert!(onsets.of(&item("b", "")).is_none());
        for (text, words) in [
            (String::new(), "no utterances"),
            (format!("{good}\n{{}}"), "line 2"),
            (format!("{good}\n\n{good}"), "line 3: has utterance a again"),
            (
                good.replace("0.1}]", "0.05}]"),
                "line 1: \"y\" begins at 0.05 s",
            ),
            (
                good.replace("0.1}]", "0.1, \"end_seconds\": 0.05}]"),
                "line 1: \"y\" ends at 0.05 s, before it begins",
            ),
            (good.replace("0.1}, ", "-0.1}, "), "before 0 s"),
            (good.replace("\"x\"", "\"-\""), "no word"),
            (good.replace("onset_seconds", "onset"), "onset_seconds"),
            ("some words of a text".into(), "none of the forms"),
            (
                "\"Praat chronological TextGrid text file\"".into(),
                "save it",
            ),
        ] {
            let message = read(&text).unwrap_err().to_string();
            assert!(message.contains(words), "{text}: {message}");
            assert!(message.contains("words.jsonl") && !message.contains('\n'));
        }
        fs::write(&path, &good).unwrap();
        let twice = TrueOnsets::read(&[&path, &path], None).unwrap_err();
        assert!(twice.to_string().contains("again"));
    }

    /// Logs hold it: it is what it always was, whatever the form.
    #[test]
    fn fingerprints_are_of_words_and_onsets_alone() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let onsets = TrueOnsets::read(&[path], None).unwrap();
            onsets.fingerprint().unwrap()
        };
        let line = r#"{"id": "a", "words": [{"word": "x", "onset_seconds": 0.25}]}"#;
        let plain = of("1.jsonl", line);
        assert_eq!(plain, Fingerprint::of(b"a\n0.25\tx\n\n"));
        let null = line.replace("0.25", "0.25, \"end_seconds\": null");
        assert_eq!(of("2.jsonl", &null), plain);
        let ended = of(
            "3.jsonl",
            &line.replace("0.25", "0.25, \"end_seconds\": 0.5"),
        );
        assert_eq!(ended, plain);
        assert_eq!(of("4", "a A 0.25 0.25 x"), plain);
        assert_eq!(of("a.wrd", "4000 8000 x"), plain);
        assert_ne!(of("5", "a A 0.5 0.25 x"), plain);
    }

    #[test]
    fn folders_give_the_files_that_end_as_truth_does() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let read = || TrueOnsets::read(&[folder.path()], None);
        write("a.jsonl", "{}");
        write("a.wav", "");
        fs::create_dir(folder.path().join("more.ctm")).unwrap();
        let message = read().unwrap_err().to_string();
        assert!(message.contains("has no files with words"), "{message}");
        write("SA1.WRD", "4000 8000 she\n");
        write("some.ctm", "b 1 0 1 x\nc 1 0 1 y\n");
        let onsets = read().unwrap();
        assert_eq!((onsets.utterances(), onsets.words()), (3, 3));
        assert!(onsets.of(&item("SA1", "")).is_some() && !onsets.have_tiers());
        write("SA1.words", "#\n1 122 she; x\n");
        let message = read().unwrap_err().to_string();
        assert!(message.contains("SA1.words: line 2: has utterance SA1 again"));
    }

    /// A list of NeMo's has no ids; files have no other than their names.
    #[test]
    fn what_is_known_by_its_file_is_found_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.WRD");
        fs::write(&path, "16000 17000 x").unwrap();
        let onsets = TrueOnsets::read(&[path], None).unwrap();
        let known = |id: &str, audio: &str| onsets.of(&item(id, audio)).is_some();
        assert!(known("a", "place/b.wav") && known("one/a.wav", "place/one/a.wav"));
        assert!(!known("other", "place/one/a.wav") && !known("a.wav:1:2", "place/a.wav"));
        let one = item("one/a.wav", "place/one/a.wav");
        assert!(
            onsets
                .check_items(&[one.clone(), item("b", "b.wav")])
                .is_ok()
        );
        let other = item("two/a.wav", "place/two/a.wav");
        let message = onsets.check_items(&[one.clone(), other]).unwrap_err();
        assert!(
            message
                .to_string()
                .contains("would both have the words of a")
        );
        let message = onsets.check_within(&one, 1.0).unwrap_err().to_string();
        assert!(
            message.contains("a.WRD: line 1: \"x\" begins at 1 s"),
            "{message}"
        );
    }

    /// What `align` writes is truth for whoever corrected it.
    #[test]
    fn alignments_are_read_back() {
        let word = |text: &str, start, end| AlignedWord {
            text: text.into(),
            start,
            end,
            confidence: 0.5,
            reliable: true,
        };
        let recording = AlignedRecording {
            audio: "place/a b.wav".into(),
            length: 2_000,
            text: String::new(),
            words: vec![word("\"Perché?\"", 40, 400), word("no", 500, 1_000)],
            made: serde_json::Map::new(),
            warnings: Vec::new(),
        };
        let folder = tempfile::tempdir().unwrap();
        for (format, id) in [(Format::TextGrid, "a b"), (Format::Ctm, "a_b")] {
            let path = folder.path().join("a b").with_extension(format.extension());
            fs::write(&path, format.text(&recording)).unwrap();
            let onsets = TrueOnsets::read(&[path], None).unwrap();
            let found = onsets.of(&item(id, "")).unwrap().iter();
            let found: Vec<_> = found
                .map(|own| (own.word.as_str(), own.onset_seconds, own.end_seconds))
                .collect();
            let wanted = [("\"Perché?\"", 0.04, Some(0.4)), ("no", 0.5, Some(1.0))];
            assert_eq!(found, wanted);
        }
    }
}
