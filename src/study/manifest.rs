//! Lists of utterances: fairseq's speech-to-text TSV (`id audio n_frames
//! tgt_text speaker src_lang tgt_lang`) and NeMo's JSON lines
//! (`audio_filepath text duration`). An utterance is known by its direction
//! and its id: the same recording may be transcribed and translated.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// One utterance of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Unique within its direction.
    pub id: String,
    /// Relative to the manifest's folder, unless it is absolute.
    pub audio: PathBuf,
    /// What should be written.
    pub text: String,
    /// Spoken language, if it is given.
    pub source: Option<String>,
    /// Written language, if it is given.
    pub target: Option<String>,
    /// Place among the utterances of its direction, from 0.
    pub place: usize,
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
                let problem = format!("has utterance {} as another manifest has", item.id);
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

/// Reads a manifest; lines that begin with `{` are NeMo's.
///
/// # Errors
/// If it cannot be read, has no utterances, lacks a column, or names an
/// utterance of one direction twice; the message names the line.
fn read(path: &Path) -> Result<Vec<Item>> {
    let text = fs::read_to_string(path).map_err(|problem| Error::file(path, problem))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let items = match text.trim_start().starts_with('{') {
        true => json_lines(&text),
        false => tsv(&text),
    };
    let mut items = items.map_err(|problem| Error::file(path, problem))?;
    if items.is_empty() {
        return Err(Error::file(path, "has no utterances"));
    }
    let mut seen = HashSet::new();
    for item in &mut items {
        if !seen.insert((item.direction(), item.id.clone())) {
            return Err(Error::file(
                path,
                format!("has utterance {} twice", item.id),
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

fn tsv(text: &str) -> std::result::Result<Vec<Item>, String> {
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = lines
        .next()
        .map_or("", |(_, line)| line)
        .split('\t')
        .collect();
    let column = |name: &str| header.iter().position(|own| own.trim() == name);
    let needed = |name: &str| {
        let missing = || format!("line 1 has no column {name}; columns are parted by tabs");
        column(name).ok_or_else(missing)
    };
    let (id, audio, target_text) = (needed("id")?, needed("audio")?, needed("tgt_text")?);
    let (source, target) = (column("src_lang"), column("tgt_lang"));
    let mut items = Vec::new();
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != header.len() {
            return Err(format!(
                "line {} has {} fields where line 1 has {}",
                number + 1,
                fields.len(),
                header.len()
            ));
        }
        items.push(Item {
            id: fields[id].trim().to_owned(),
            audio: fields[audio].trim().into(),
            text: fields[target_text].trim().to_owned(),
            source: source.and_then(|column| some(fields[column])),
            target: target.and_then(|column| some(fields[column])),
            place: 0,
        });
    }
    Ok(items)
}

fn json_lines(text: &str) -> std::result::Result<Vec<Item>, String> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let problem = |what: &str| format!("line {}: {what}", number + 1);
            let value: Value =
                serde_json::from_str(line).map_err(|error| problem(&error.to_string()))?;
            let field = |name: &str| value[name].as_str();
            let audio = field("audio_filepath").ok_or_else(|| problem("no audio_filepath"))?;
            let language = |name: &str| field(name).or(field("lang")).and_then(some);
            Ok(Item {
                id: field("id").unwrap_or(audio).to_owned(),
                audio: audio.into(),
                text: field("text").unwrap_or_default().trim().to_owned(),
                source: language("source_lang"),
                target: language("target_lang"),
                place: 0,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
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
                id: String::new(),
                audio: PathBuf::new(),
                text: String::new(),
                source: source.map(str::to_owned),
                target: target.map(str::to_owned),
                place: 0,
            };
            let direction = item.direction();
            assert_eq!(translates(&direction), item.translates(), "{direction}");
        }
    }

    #[test]
    fn what_cannot_be_read_names_the_line() {
        for (text, words) in [
            ("", "no column id"),
            ("id\taudio\ttgt_text\n", "no utterances"),
            ("id\taudio\n1\ta.wav\n", "no column tgt_text"),
            ("id\taudio\ttgt_text\n1\ta.wav\n", "line 2 has 2 fields"),
            ("id\taudio\ttgt_text\n1\ta\tx\n1\tb\ty\n", "1 twice"),
            ("{\"text\": \"x\"}\n", "line 1: no audio_filepath"),
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
