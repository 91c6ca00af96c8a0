//! A log that is written to.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Number, Value};

use super::super::manifest::Item;
use super::super::record::Record;
use super::super::sounds::{Files, Given};
use super::super::watch::Warning;
use super::{Header, Lock, read_begun};
use crate::{Error, Result};

/// A log that is written to, by nobody else as long as this lives.
pub struct Log {
    path: PathBuf,
    lock: Lock,
    /// What is there already, or is written first.
    header: Option<Header>,
    /// Bytes of the whole lines that are there.
    length: u64,
    /// Open once something is written.
    file: Option<File>,
    done: Done,
}

/// The utterances that are there, by direction and id: line, from 1 (0 of what
/// this run wrote), and what it is about.
#[derive(Default)]
pub(in crate::study) struct Done(HashMap<(String, String), (usize, Option<Given>)>);

impl Done {
    pub fn of(records: Vec<Record>, lines: Vec<usize>) -> Self {
        let records = records.into_iter().zip(lines);
        let done = records.map(|(own, line)| ((own.direction, own.id), (line, own.given)));
        Self(done.collect())
    }

    pub fn has(&self, item: &Item) -> bool {
        self.0.contains_key(&(item.direction(), item.id.clone()))
    }

    /// Refuses utterances that are there already, but of another sound or with
    /// another text.
    ///
    /// # Errors
    /// If there is one; the message names its line in the log.
    pub fn check(&self, log: &Path, items: &[Item]) -> Result<()> {
        let known = items.iter().filter_map(|item| {
            let &(line, given) = self.0.get(&(item.direction(), item.id.clone()))?;
            Some((item, line, given?))
        });
        let known: Vec<_> = known.collect();
        let mut files = Files::read(known.iter().map(|(item, ..)| *item));
        for (item, line, then) in known {
            let now = files.given(item);
            let what = match (then.sound, now.sound) {
                (Some(then), Some(now)) if then != now => "is of another sound than",
                (None, Some(_)) => "was done before there was",
                _ if then.text != now.text => "is of another text than the manifest's for",
                // A sound that is gone mixes with nothing.
                _ => continue,
            };
            let (id, audio) = (&item.id, item.audio.display());
            return Err(Error::file(
                log,
                format!(
                    "line {line} (utterance {id}) {what} {audio}; remove the line to do it again, \
                     or choose another folder with --out"
                ),
            ));
        }
        Ok(())
    }
}

impl Log {
    /// Takes a log's place, and writes nothing yet.
    ///
    /// # Errors
    /// If another run has it, nothing can be written there, or it stands there
    /// compressed.
    pub fn reserve(path: &Path) -> Result<Self> {
        // It would begin anew, and then stand beside what is done already.
        let away = path.with_extension("jsonl.gz");
        if away.exists() {
            let problem = "was put away; unpack it with gunzip to go on, or choose another folder \
                           with --out";
            return Err(Error::file(away, problem));
        }
        let lock = Lock::take(path)?.ok_or_else(|| {
            let problem = "another run is writing it; wait for its end, or choose another folder \
                           with --out or another part with --shard";
            Error::file(path, problem)
        })?;
        Ok(Self {
            path: path.to_owned(),
            lock,
            header: None,
            length: 0,
            file: None,
            done: Done::default(),
        })
    }

    /// Reads what is there; all that is added was done with `header`.
    ///
    /// # Errors
    /// If it was made with another one: the message says what differs.
    pub fn go_on(&mut self, header: &Header) -> Result<()> {
        let there = match fs::exists(&self.path) {
            Ok(true) => read_begun(&self.path)?,
            Ok(false) => None,
            Err(problem) => return Err(Error::file(&self.path, problem)),
        };
        self.header = Some(header.clone());
        let Some(contents) = there else {
            return Ok(());
        };
        // Before the long work: its folder may be written where it may not.
        let opened = OpenOptions::new().write(true).open(&self.path);
        opened
            .map_err(|problem| Error::file(&self.path, format!("cannot be written: {problem}")))?;
        if let Some(differences) = contents.header.differences(header) {
            let problem = format!(
                "was made with {differences}; take what was taken then to go on, or choose \
                 another folder with --out"
            );
            return Err(Error::file(&self.path, problem));
        }
        let mut all = contents.records.iter().zip(&contents.lines);
        // A run that knows what its log is about notes that of each utterance, too.
        if header.about.is_some()
            && let Some((record, line)) = all.find(|(record, _)| record.given.is_none())
        {
            let problem = format!(
                "line {line} (utterance {}) has no note of its sound and text; remove the line to \
                 do it again, or choose another folder with --out",
                record.id
            );
            return Err(Error::file(&self.path, problem));
        }
        self.length = contents.length;
        self.done = Done::of(contents.records, contents.lines);
        Ok(())
    }

    /// Opens a log, or begins it with the first record.
    ///
    /// # Errors
    /// As for [`reserve`](Self::reserve) and [`go_on`](Self::go_on).
    pub fn open(path: &Path, header: &Header) -> Result<Self> {
        let mut log = Self::reserve(path)?;
        log.go_on(header)?;
        Ok(log)
    }

    /// Says so where nothing keeps other runs from writing it.
    pub fn warning(&self) -> Option<Warning> {
        let log = self.path.clone();
        (!self.lock.holds()).then_some(Warning::NoLock { log })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn has(&self, item: &Item) -> bool {
        self.done.has(item)
    }

    /// Refuses utterances that are there already, but of another sound or with
    /// another text.
    ///
    /// # Errors
    /// If there is one; the message names its line.
    pub fn check(&self, items: &[Item]) -> Result<()> {
        self.done.check(&self.path, items)
    }

    /// Cuts off what a killed run left behind the last whole line; [`add`](Self::add)
    /// does so too.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn cut(&self) -> Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        let file = fs::OpenOptions::new().write(true).open(&self.path);
        let cut = file.and_then(|file| match file.metadata()?.len() > self.length {
            true => file.set_len(self.length),
            false => Ok(()),
        });
        cut.map_err(|problem| Error::file(&self.path, problem))
    }

    /// Adds an utterance; when this returns it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_value(record).map_err(|e| Error::file(&self.path, e))?;
        shorten(&mut line);
        self.line(&line)?;
        let key = (record.direction.clone(), record.id.clone());
        self.done.0.insert(key, (0, record.given));
        Ok(())
    }

    fn line(&mut self, record: &Value) -> Result<()> {
        let json = |value: serde_json::Result<String>| {
            let line = value.map_err(|e| Error::file(&self.path, e))?;
            Ok::<_, Error>(line + "\n")
        };
        let mut text = String::new();
        if let Some(header) = self.header.as_ref().filter(|_| self.length == 0) {
            text = json(serde_json::to_string(header))?;
        }
        text += &json(serde_json::to_string(record))?;
        match self.append(text.as_bytes()) {
            Ok(length) => {
                self.length = length;
                Ok(())
            }
            Err(problem) => {
                // The next run would cut half a line off too.
                if let Some(file) = self.file.take() {
                    let _ = file.set_len(self.length);
                }
                let problem =
                    format!("{problem}; what was done is kept, and the same command goes on");
                Err(Error::file(&self.path, problem))
            }
        }
    }

    /// Puts bytes on the disk behind the whole lines; returns where they end.
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<u64> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                options.create(true).truncate(false).write(true);
                let mut file = options.open(&self.path)?;
                // What a killed run did not finish.
                file.set_len(self.length)?;
                file.seek(SeekFrom::End(0))?;
                file
            }
        };
        let file = self.file.insert(file);
        // One write: a reader never sees half a line of a run that lives.
        file.write_all(bytes)?;
        file.sync_data()?;
        file.stream_position()
    }
}

/// Rounds fractions to seven significant digits, as exact as the maps are:
/// half of a log would be digits that mean nothing.
fn shorten(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let short = number.as_f64().map(|x| format!("{x:.6e}"));
            let short = short.and_then(|text| text.parse().ok());
            if let Some(short) = short.and_then(Number::from_f64) {
                *number = short;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::record::Outcome;
    use super::super::super::settings::Settings;
    use super::super::read;
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            id: id.into(),
            direction: "en-en".into(),
            given: None,
            warnings: Vec::new(),
            outcome: Outcome::Failed {
                error: "no sound".into(),
            },
        }
    }

    fn item(id: &str, target: &str) -> Item {
        Item {
            id: id.into(),
            source: Some("en".into()),
            target: Some(target.into()),
            ..Item::default()
        }
    }

    fn header(seed: u64) -> Header {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        Header::new("m", &settings)
    }

    #[test]
    fn what_a_kill_left_is_cut_off_wherever_it_fell() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, &header(1)).unwrap();
        for id in ["a", "b", "c"] {
            log.add(&record(id)).unwrap();
        }
        assert!(log.has(&item("a", "en")) && !log.has(&item("a", "it")));
        drop(log);
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut log = Log::open(&path, &header(1)).unwrap();
            for id in ["a", "b", "c"] {
                if !log.has(&item(id, "en")) {
                    log.add(&record(id)).unwrap();
                }
            }
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
        assert_eq!(read(&path).unwrap().records, ["a", "b", "c"].map(record));
        let message = Log::open(&path, &header(2)).err().unwrap().to_string();
        assert!(message.contains("other settings"), "{message}");
        fs::write(&path, "{}\n").unwrap();
        let message = Log::open(&path, &header(1)).err().unwrap().to_string();
        assert!(message.contains("line 1"), "{message}");
    }

    #[test]
    fn one_run_at_a_time_has_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut first = Log::open(&path, &header(1)).unwrap();
        assert!(first.warning().is_none());
        let refused = || Log::open(&path, &header(1)).err().unwrap().to_string();
        assert!(refused().contains("log.jsonl: another run is writing it"));
        first.add(&record("a")).unwrap();
        assert!(refused().contains("another run"));
        // It is read all the same.
        assert_eq!(read(&path).unwrap().records, [record("a")]);
        drop(first);
        assert!(Log::open(&path, &header(1)).unwrap().has(&item("a", "en")));
    }

    /// Nothing is cut that a log's run cannot have left.
    #[test]
    fn what_is_no_log_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        for text in [
            "my notes",
            "{\"id\": \"u",
            "one\ntwo",
            "{}\n",
            "\n",
            "{\"format\":\"x\"}\n",
        ] {
            fs::write(&path, text).unwrap();
            let message = Log::open(&path, &header(1)).err().unwrap().to_string();
            assert!(
                message.contains("is no log of a study"),
                "{text}: {message}"
            );
            assert!(message.contains("log.jsonl: ") && !message.contains('\n'));
            assert_eq!(fs::read(&path).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_record_that_is_there_twice_counts_once_or_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, &header(1)).unwrap();
        for id in ["a", "b"] {
            log.add(&record(id)).unwrap();
        }
        drop(log);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        fs::write(&path, format!("{text}{}\n", lines[1])).unwrap();
        assert_eq!(read(&path).unwrap().records, ["a", "b"].map(record));
        assert!(Log::open(&path, &header(1)).unwrap().has(&item("a", "en")));
        let other = lines[1].replace("no sound", "broken");
        fs::write(&path, format!("{text}{other}\n")).unwrap();
        let message = read(&path).err().unwrap().to_string();
        assert!(
            message.contains("line 4: has utterance a of en-en with other values than line 2"),
            "{message}"
        );
    }

    #[test]
    fn other_sounds_and_texts_of_the_same_id_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let path = place("log.jsonl");
        let audio = place("a.wav");
        fs::write(&audio, "a sound").unwrap();
        let own = Item {
            audio: audio.clone(),
            text: "words".into(),
            ..item("a", "en")
        };
        let gone = Item {
            audio: place("gone.wav"),
            ..item("gone", "en")
        };
        let mut log = Log::open(&path, &header(1)).unwrap();
        for item in [&own, &gone] {
            let given = Some(Files::default().given(item));
            log.add(&Record {
                given,
                ..record(&item.id)
            })
            .unwrap();
        }
        drop(log);
        let check = |items: &[Item]| {
            let log = Log::open(&path, &header(1)).unwrap();
            log.check(items).map_err(|problem| problem.to_string())
        };
        let both = [own.clone(), gone.clone()];
        check(&both).unwrap();
        let other = Item {
            text: "other words".into(),
            ..own.clone()
        };
        let message = check(&[other]).unwrap_err();
        assert!(
            message.contains("line 2 (utterance a) is of another text"),
            "{message}"
        );
        let part = Some(crate::audio::Part::Seconds {
            offset: 0.0,
            duration: Some(1.0),
        });
        let message = check(&[Item { part, ..own }]).unwrap_err();
        assert!(
            message.contains("line 2 (utterance a) is of another sound"),
            "{message}"
        );
        fs::write(&audio, "another").unwrap();
        let message = check(&both).unwrap_err();
        assert!(message.contains("is of another sound than") && message.contains("a.wav"));
        // What could not be read then, and can now, was not done with it.
        fs::write(&gone.audio, "found").unwrap();
        let message = check(&[gone]).unwrap_err();
        assert!(
            message.contains("line 3 (utterance gone) was done before"),
            "{message}"
        );
        // A sound that is not here mixes with nothing.
        fs::remove_file(&audio).unwrap();
        check(&both[..1]).unwrap();
    }

    #[test]
    fn compressed_logs_are_read_and_broken_ones_refused() {
        use flate2::Compression;
        use flate2::write::GzEncoder;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, &header(1)).unwrap();
        log.add(&record("a")).unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&fs::read(&path).unwrap()).unwrap();
        let packed = encoder.finish().unwrap();
        let compressed = folder.path().join("log.jsonl.gz");
        fs::write(&compressed, &packed).unwrap();
        let [plain, same] = [&path, &compressed].map(|path| read(path).unwrap());
        assert_eq!(plain.header, same.header);
        assert_eq!(plain.records, same.records);
        fs::write(&compressed, &packed[..packed.len() / 2]).unwrap();
        let message = read(&compressed).err().unwrap().to_string();
        assert!(message.contains("log.jsonl.gz"), "{message}");
        // A run would begin it anew beside what is done.
        let message = Log::open(&path, &header(1)).err().unwrap().to_string();
        assert!(message.contains("put away"), "{message}");
    }

    #[test]
    fn fractions_are_shortened_and_nothing_else() {
        let mut value = serde_json::json!({
            "a": [0.123_456_789_012, -1.0 / 3.0 * 1e-9, 2.0, 0.5], "n": 12_345_678_901u64, "t": "0.123456789012"
        });
        shorten(&mut value);
        let text =
            r#"{"a":[0.1234568,-3.333333e-10,2.0,0.5],"n":12345678901,"t":"0.123456789012"}"#;
        assert_eq!(value.to_string(), text);
        let again = value.clone();
        shorten(&mut value);
        assert_eq!(value, again);
    }
}
