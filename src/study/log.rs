//! The file that a study appends to: its settings, then one line for every
//! finished utterance. A run that is killed goes on where the file ends.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::manifest::Item;
use super::record::Record;
use super::settings::Settings;
use crate::{Error, Result};

/// Identifies the file's format; `version` counts incompatible changes.
pub const FORMAT: &str = "sonograd-study";
pub const VERSION: u32 = 2;

/// The first line: what all utterances of the file were done with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub format: String,
    pub version: u32,
    /// Version of the program.
    pub sonograd: String,
    pub model: String,
    /// The model's commit, where it is the hub's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What shaped the numbers.
    pub settings: Settings,
}

impl Header {
    /// The model as `--model` takes it again.
    pub fn model_again(&self) -> String {
        match &self.revision {
            Some(revision) => format!("{}@{revision}", self.model),
            None => self.model.clone(),
        }
    }

    /// Of a model's log that this program begins.
    pub fn new(model: &str, settings: &Settings) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            sonograd: env!("CARGO_PKG_VERSION").into(),
            model: model.into(),
            revision: None,
            settings: settings.clone(),
        }
    }
}

/// A file that is read whole.
pub struct Contents {
    pub header: Header,
    pub records: Vec<Record>,
    /// Bytes of its whole lines.
    length: u64,
}

/// What the name of a log that was put away compressed ends with. Such a file
/// is only read.
const COMPRESSED: &str = ".jsonl.gz";

/// Most bytes that a compressed log may unpack to.
const MOST_BYTES: u64 = 1 << 30;

/// Whether a file is a log by its name: `*.jsonl`, `*.jsonl.gz`.
pub fn is_log(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(".jsonl") || name.ends_with(COMPRESSED))
}

/// The bytes of a log, compressed or not.
fn bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(|problem| Error::file(path, problem))?;
    if !path.to_string_lossy().ends_with(COMPRESSED) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let mut unpacked = MultiGzDecoder::new(&*bytes).take(MOST_BYTES + 1);
    let read = unpacked.read_to_end(&mut plain);
    let length = read.map_err(|problem| Error::file(path, problem))?;
    if length as u64 > MOST_BYTES {
        let most = MOST_BYTES >> 30;
        return Err(Error::file(
            path,
            format!("unpacks to more than {most} GiB"),
        ));
    }
    Ok(plain)
}

/// Reads a log. A last line without an end, which a killed run leaves, does
/// not count.
///
/// # Errors
/// If it cannot be read or is no such file; the message names the line.
pub fn read(path: &Path) -> Result<Contents> {
    let bytes = bytes(path)?;
    let length = bytes
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&bytes[..length]).map_err(|e| Error::file(path, e))?;
    let mut lines = text.lines().enumerate();
    let problem = |number: usize, what: &dyn std::fmt::Display| {
        Error::file(path, format!("line {}: {what}", number + 1))
    };
    let (_, first) = lines.next().ok_or_else(|| Error::file(path, "is empty"))?;
    let header: Header = serde_json::from_str(first).map_err(|e| problem(0, &e))?;
    if header.format != FORMAT || header.version != VERSION {
        return Err(problem(0, &format!("is no {FORMAT} of version {VERSION}")));
    }
    let mut records: Vec<Record> = Vec::new();
    let mut heads = None;
    for (number, line) in lines {
        let record: Record = serde_json::from_str(line).map_err(|e| problem(number, &e))?;
        // A model's utterances all have its layers and heads: rows would be left out otherwise.
        for own in record.attention_shapes() {
            if *heads.get_or_insert(own) != own {
                return Err(problem(
                    number,
                    &"has other layers or heads than what is before it",
                ));
            }
        }
        records.push(record);
    }
    Ok(Contents {
        header,
        records,
        length: length as u64,
    })
}

/// A log that is written to.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Direction and id of what is there.
    done: HashSet<(String, String)>,
}

impl Log {
    /// Opens a log, or begins it.
    ///
    /// # Errors
    /// If it cannot be written, was made with other settings, or stands there
    /// compressed.
    pub fn open(path: &Path, header: &Header) -> Result<Self> {
        let problem = |problem: std::io::Error| Error::file(path, problem);
        // It would begin anew, and then stand beside what is done already.
        let away = path.with_extension("jsonl.gz");
        if away.exists() {
            let problem = "was put away; unpack it with gunzip to go on, or choose another folder \
                           with --out";
            return Err(Error::file(away, problem));
        }
        let begun = fs::read(path).is_ok_and(|bytes| bytes.contains(&b'\n'));
        let mut done = HashSet::new();
        let mut length = 0;
        if begun {
            let contents = read(path)?;
            if contents.header.revision != header.revision {
                let problem = format!(
                    "was made with commit {} of the model, where {} is here; name the commit \
                     (--model NAME@COMMIT) to go on, or choose another folder with --out",
                    contents.header.revision.as_deref().unwrap_or("none"),
                    header.revision.as_deref().unwrap_or("none"),
                );
                return Err(Error::file(path, problem));
            }
            if contents.header != *header {
                return Err(Error::file(
                    path,
                    "was made with other settings; choose another folder with --out, or the same \
                     settings to go on",
                ));
            }
            let records = contents.records.into_iter();
            done.extend(records.map(|record| (record.direction, record.id)));
            length = contents.length;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(problem)?;
        // What a killed run did not finish.
        file.set_len(length).map_err(problem)?;
        let mut log = Self {
            path: path.to_owned(),
            file,
            done,
        };
        if !begun {
            log.line(header)?;
        }
        Ok(log)
    }

    pub fn has(&self, item: &Item) -> bool {
        self.done.contains(&(item.direction(), item.id.clone()))
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
        self.done.insert(key);
        Ok(())
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(value).map_err(|e| Error::file(&self.path, e))?;
        line.push('\n');
        // One write: a reader never sees half a line of a run that lives.
        let written = self.file.write_all(line.as_bytes());
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|problem| Error::file(&self.path, problem))
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
    use super::super::record::Outcome;
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            id: id.into(),
            direction: "en-en".into(),
            outcome: Outcome::Failed {
                error: "no sound".into(),
            },
        }
    }

    fn item(id: &str, target: &str) -> Item {
        Item {
            id: id.into(),
            audio: PathBuf::new(),
            text: String::new(),
            source: Some("en".into()),
            target: Some(target.into()),
            place: 0,
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
        let known = ["log.jsonl", "log.jsonl.gz", "log.gz", "jsonl"];
        let known = known.map(|name| is_log(Path::new(name)));
        assert_eq!(known, [true, true, false, false]);
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
