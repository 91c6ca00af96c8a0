//! Lists of utterances: fairseq's speech-to-text TSV (`id audio n_frames
//! tgt_text speaker src_lang tgt_lang`) and NeMo's JSON lines
//! (`audio_filepath offset duration text`). An utterance is known by its
//! direction and its id: the same recording may be transcribed and translated.

mod json_lines;
mod tsv;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::watch::Warning;
use crate::audio::Part;
use crate::plain::read_text;
use crate::{Error, Result};

/// One utterance of a manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    /// Unique within its direction.
    pub id: String,
    /// Relative to the manifest's folder, unless it is absolute.
    pub audio: PathBuf,
    /// What of it is the utterance; all of it if absent.
    pub part: Option<Part>,
    /// What should be written.
    pub text: String,
    /// Spoken language, if it is given.
    pub source: Option<String>,
    /// Written language, if it is given.
    pub target: Option<String>,
    /// Place among the utterances of its direction, from 0.
    pub place: usize,
    /// Line of its manifest, from 1.
    pub line: usize,
}

impl Item {
    /// The direction in tables: `en-it`; `-` for a language that is not
    /// given.
    pub fn direction(&self) -> String {
        let name = |language: &Option<String>| language.clone().unwrap_or_else(|| "-".into());
        format!("{}-{}", name(&self.source), name(&self.target))
    }

    /// Whether the written language is known to be another than the spoken
    /// one.
    pub fn translates(&self) -> bool {
        self.source.is_some() && self.target.is_some() && self.source != self.target
    }
}

/// Whether a [`direction`](Item::direction) is from a language to another one,
/// by its text alone: languages may have hyphens in their names.
pub fn translates(direction: &str) -> bool {
    let unknown = direction.starts_with("--") || direction.ends_with("--");
    let middle = direction.len() / 2;
    let text = direction.as_bytes();
    let halves = text.get(..middle).zip(text.get(middle + 1..));
    !unknown && halves.is_some_and(|(source, target)| source != target)
}

/// Reads the first `limit` utterances of each of several manifests.
///
/// # Errors
/// If one cannot be read, or two have an utterance in common.
pub fn read_all(paths: &[PathBuf], limit: usize) -> Result<Vec<Item>> {
    let mut all: Vec<Item> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut seen = HashSet::new();
    for path in paths {
        for mut item in read(path)?.into_iter().take(limit) {
            if !seen.insert((item.direction(), item.id.clone())) {
                let (id, line) = (&item.id, item.line);
                let problem = format!("line {line}: has utterance {id} as another manifest has");
                return Err(Error::file(path, problem));
            }
            let place = places.entry(item.direction()).or_default();
            item.place = *place;
            *place += 1;
            all.push(item);
        }
    }
    Ok(all)
}

/// What is said of utterances without a text.
pub fn without_text(items: &[Item]) -> Option<Warning> {
    let utterances = items.iter().filter(|item| item.text.is_empty()).count();
    (utterances > 0).then_some(Warning::NoText { utterances })
}

/// Reads a manifest; lines that begin with `{` are NeMo's.
///
/// # Errors
/// If it cannot be read, has no utterances, lacks a column, names an utterance
/// of one direction twice, or asks for what is not read; the message names the
/// line.
fn read(path: &Path) -> Result<Vec<Item>> {
    let text = read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let items = match text.trim_start() {
        "" => Ok(Vec::new()),
        lines if lines.starts_with('{') => json_lines::read(&text),
        _ => tsv::read(&text, folder),
    };
    let mut items = items.map_err(|problem| Error::file(path, problem))?;
    if items.is_empty() {
        return Err(Error::file(path, "has no utterances"));
    }
    let mut seen = HashMap::new();
    for item in &mut items {
        let key = (item.direction(), item.id.clone());
        if let Some(line) = seen.insert(key, item.line) {
            return Err(Error::file(
                path,
                format!(
                    "has utterance {} twice, on lines {line} and {}",
                    item.id, item.line
                ),
            ));
        }
        item.audio = folder.join(&item.audio);
    }
    Ok(items)
}

fn some(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written(text: &str) -> Result<Vec<Item>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, text).unwrap();
        let base = folder.path().to_owned();
        read(&path).map(|items| {
            let relative = |item: Item| Item {
                audio: item.audio.strip_prefix(&base).unwrap().to_owned(),
                ..item
            };
            items.into_iter().map(relative).collect()
        })
    }

    #[test]
    fn both_forms() {
        let tsv = "id\taudio\tn_frames\ttgt_text\tspeaker\tsrc_lang\ttgt_lang\n\
                   a1\tsound/a.flac\t300\tthe text \tkal\ten\tit\n\na2\tb.wav\t1\t\tslt\t\t\n";
        let items = written(tsv).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].audio, Path::new("sound/a.flac"));
        assert_eq!(items[0].text, "the text");
        assert_eq!(
            (items[0].direction(), items[1].direction()),
            ("en-it".into(), "---".into())
        );
        let json = r#"{"audio_filepath": "a.wav", "text": "x", "duration": 1.0, "lang": "en"}
            {"id": "second", "audio_filepath": "b.wav", "source_lang": "it", "target_lang": "en"}"#;
        let items = written(json).unwrap();
        assert_eq!(
            (items[0].id.as_str(), items[1].id.as_str()),
            ("a.wav", "second")
        );
        assert_eq!(
            (items[0].direction(), items[1].direction()),
            ("en-en".into(), "it-en".into())
        );
    }

    /// Two cuts of one file are two utterances; ids are as stable as they can
    /// be: a line's own, or else made of what it says.
    #[test]
    fn nemo_lines_name_parts_and_may_have_numbers_as_ids() {
        let seconds = |offset, duration| Some(Part::Seconds { offset, duration });
        let json = r#"{"audio_filepath": "a.wav", "offset": 0.0, "duration": 1.5, "text": "x"}
            {"audio_filepath": "a.wav", "offset": 1.5, "duration": 2, "text": "y"}
            {"audio_filepath": "a.wav", "offset": 1.5, "duration": 1, "text": "z"}
            {"audio_filepath": "b.wav", "duration": 2.5, "id": 17}
            {"audio_filepath": "b.wav", "duration": 2.5}
            {"audio_filepath": "c.wav", "duration": 1}
            {"audio_filepath": "c.wav", "duration": 2}
            {"audio_filepath": "d.wav", "duration": -1, "offset": null, "id": "d"}
            {"audio_filepath": "d.wav", "offset": 3}"#;
        let items = written(&format!("\u{feff}{json}\r\n")).unwrap();
        let found: Vec<_> = items.iter().map(|own| (&*own.id, own.part)).collect();
        assert_eq!(
            found,
            [
                ("a.wav:0:1.5", seconds(0.0, Some(1.5))),
                ("a.wav:1.5:2", seconds(1.5, Some(2.0))),
                ("a.wav:1.5:1", seconds(1.5, Some(1.0))),
                ("17", seconds(0.0, Some(2.5))),
                ("b.wav", seconds(0.0, Some(2.5))),
                ("c.wav:0:1", seconds(0.0, Some(1.0))),
                ("c.wav:0:2", seconds(0.0, Some(2.0))),
                ("d", None),
                ("d.wav:3", seconds(3.0, None)),
            ]
        );
        let lines: Vec<usize> = items.iter().map(|own| own.line).collect();
        assert_eq!(lines, (1..=9).collect::<Vec<_>>());
    }

    #[test]
    fn fairseq_lines_name_parts_in_samples() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.tsv");
        // A file of that name goes before a part of another.
        fs::write(folder.path().join("odd:1:2"), "").unwrap();
        let text = "\u{feff}id\taudio\ttgt_text\n1\ta.wav:0:16000\tx\n2\ta.wav:16000:8\tx\n\
                    3\todd:1:2\tx\n4\tC:\\x.wav\tx\n5\ta.wav:0\tx\n";
        fs::write(&path, text.replace("5\ta.wav:0\tx\n", "")).unwrap();
        let items = read(&path).unwrap();
        let part = |offset, count| Some(Part::Samples { offset, count });
        let parts: Vec<_> = items.iter().map(|own| own.part).collect();
        assert_eq!(parts, [part(0, 16_000), part(16_000, 8), None, None]);
        let names: Vec<_> = items
            .iter()
            .map(|own| own.audio.file_name().unwrap())
            .collect();
        assert_eq!(names[..3], ["a.wav", "a.wav", "odd:1:2"]);
        fs::write(&path, b"\xff\xfei\0d\0").unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("UTF-16"), "{message}");
    }

    #[test]
    fn a_direction_tells_by_itself_whether_it_is_a_translation() {
        for (source, target) in [
            (Some("en"), Some("en")),
            (Some("en"), Some("it")),
            (Some("zh-Hant"), Some("zh-Hant")),
            (Some("zh-Hant"), Some("zh-Hans")),
            (Some("eng"), Some("it")),
            (Some("en"), None),
            (None, Some("it")),
            (None, None),
        ] {
            let item = Item {
                source: source.map(str::to_owned),
                target: target.map(str::to_owned),
                ..Item::default()
            };
            let direction = item.direction();
            assert_eq!(translates(&direction), item.translates(), "{direction}");
        }
    }

    #[test]
    fn what_cannot_be_read_names_the_line() {
        for (text, words) in [
            ("id\n", "no column audio"),
            ("id\taudio\ttgt_text\n", "no utterances"),
            ("id\taudio\n1\ta.wav\n", "no column tgt_text"),
            ("id\taudio\ttgt_text\n1\ta.wav\n", "line 2 has 2 fields"),
            ("id\taudio\ttgt_text\n1\ta\tx\n1\tb\ty\n", "1 twice"),
            ("", "has no utterances"),
            ("\n\n", "has no utterances"),
            ("{\"text\": \"x\"}\n", "line 1: no audio_filepath"),
            (
                "\n{\"audio_filepath\": \"a\"}\n\n{\"audio_filepath\": \"a\"}\n",
                "lines 2 and 4",
            ),
            (
                "{\"audio_filepath\": \"a\", \"id\": true}",
                "line 1: id is true",
            ),
            (
                "{\"audio_filepath\": \"a\", \"text\": 5}",
                "line 1: text is 5, which is no text",
            ),
            (
                "{\"audio_filepath\": \"a\", \"target_lang\": [\"en\"]}",
                "line 1: target_lang is [\"en\"]",
            ),
            (
                "{\"audio_filepath\": \"a\", \"offset\": -1}",
                "line 1: offset is -1",
            ),
            (
                "{\"audio_filepath\": \"a\", \"offset\": \"1\"}",
                "line 1: offset is \"1\"",
            ),
            (
                "{\"audio_filepath\": \"a\", \"duration\": [1]}",
                "line 1: duration is [1]",
            ),
            (
                "id\taudio\ttgt_text\n1\ta.zip:8:99\tx\n",
                "line 2: audio a.zip:8:99 is in an archive",
            ),
            (
                "id\taudio\ttgt_text\n1\ta.zip\tx\n",
                "line 2: audio a.zip is in an archive",
            ),
            (
                "id\taudio\ttgt_text\n1\ta.npy\tx\n",
                "line 2: audio a.npy holds features",
            ),
            (
                "id\taudio\ttgt_text\n1\ta.wav:8:0\tx\n",
                "line 2: audio a.wav:8:0 is a part of no samples",
            ),
            (
                "id\taudio\ttgt_text\n1\ta.wav:8\tx\n",
                "line 2: audio a.wav:8 ",
            ),
            (
                "id\taudio\ttgt_text\n1\ta.wav:8:99999999999999999999\tx\n",
                "line 2: audio a.wav:8:",
            ),
            (
                "id\taudio\ttgt_text\n1\ta.wav:-1:16000\tx\n",
                "line 2: audio a.wav:-1:16000 is no file:offset:frames",
            ),
            (
                "id\taudio\ttgt_text\n1\ta.wav:0:1.5\tx\n",
                "line 2: audio a.wav:0:1.5 is no file:offset:frames",
            ),
            ("id\taudio\ttgt_text\n1\t \tx\n", "line 2: audio is empty"),
            (
                "{\"audio_filepath\": \"a\"}\n{\"audio_filepath\": \" \"}",
                "line 2: audio_filepath is empty",
            ),
            ("{\"audio_filepath\": \"a\"}\n{", "line 2"),
        ] {
            let message = written(text).unwrap_err().to_string();
            assert!(message.contains(words), "{text:?}: {message}");
            assert!(!message.contains('\n'));
        }
    }

    #[test]
    fn several_manifests_are_read_from_their_beginnings() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, target: &str| {
            let path = folder.path().join(name);
            let lines = ["a", "b", "c"].map(|id| format!("{id}\t{id}.wav\tx\ten\t{target}\n"));
            let header = "id\taudio\ttgt_text\tsrc_lang\ttgt_lang\n";
            fs::write(&path, format!("{header}{}", lines.concat())).unwrap();
            path
        };
        let (en, it) = (write("en.tsv", "en"), write("it.tsv", "it"));
        let items = read_all(&[en.clone(), it], 2).unwrap();
        let names: Vec<String> = items
            .iter()
            .map(|item| format!("{} {} {}", item.direction(), item.id, item.place))
            .collect();
        assert_eq!(names, ["en-en a 0", "en-en b 1", "en-it a 0", "en-it b 1"]);
        let message = read_all(&[en.clone(), en], 9).unwrap_err().to_string();
        assert!(message.contains("another manifest"), "{message}");
    }
}
