//! The file that a study appends to: its settings and what it is about, then
//! one line for every finished utterance. A run that is killed goes on where the
//! file ends.

mod header;
mod lock;
mod writing;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::record::Record;
use crate::outside::guarded;
use crate::{Error, Result};
pub use header::Header;
pub(super) use lock::ENDING as LOCK;
pub use lock::Lock;
pub(super) use writing::Done;
pub use writing::Log;

/// Identifies the file's format; `version` counts incompatible changes.
pub const FORMAT: &str = "sonograd-study";
pub const VERSION: u32 = 2;

/// A file that is read whole.
pub struct Contents {
    pub header: Header,
    pub records: Vec<Record>,
    /// By record: its line, from 1.
    pub(super) lines: Vec<usize>,
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
    let bytes = crate::plain::read(path).map_err(|problem| Error::file(path, problem))?;
    if !path.to_string_lossy().ends_with(COMPRESSED) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let mut unpacked = MultiGzDecoder::new(&*bytes).take(MOST_BYTES + 1);
    let read = guarded("flate2", || unpacked.read_to_end(&mut plain));
    let read = read.map_err(|problem| Error::file(path, problem))?;
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

/// Whether bytes without a whole line are the beginning of a log, which a run
/// leaves that is killed there.
fn is_beginning(bytes: &[u8]) -> bool {
    let beginning = format!("{{\"format\":\"{FORMAT}\",");
    let both = bytes.len().min(beginning.len());
    bytes[..both] == beginning.as_bytes()[..both]
}

/// Reads a log. A last line without an end, which a killed run leaves, does
/// not count, and a record that is there twice counts once.
///
/// # Errors
/// If it cannot be read, is no such file, or has two records of one utterance
/// that differ; the message names the line.
pub fn read(path: &Path) -> Result<Contents> {
    let begun = read_begun(path)?;
    begun.ok_or_else(|| Error::file(path, "is empty"))
}

/// The same, or nothing if it was killed before its first line was whole.
///
/// # Errors
/// As for [`read`].
pub fn read_begun(path: &Path) -> Result<Option<Contents>> {
    let bytes = bytes(path)?;
    let Some(end) = bytes.iter().rposition(|&b| b == b'\n') else {
        return match is_beginning(&bytes) {
            true => Ok(None),
            false => Err(foreign(path, "it has no whole line")),
        };
    };
    let length = end + 1;
    let text = std::str::from_utf8(&bytes[..length]).map_err(|e| Error::file(path, e))?;
    let mut lines = text.lines().enumerate();
    let problem = |number: usize, what: &dyn std::fmt::Display| {
        Error::file(path, format!("line {}: {what}", number + 1))
    };
    let first = lines.next().map_or("", |(_, first)| first);
    let kind: Value =
        serde_json::from_str(first).map_err(|e| foreign(path, &format!("line 1: {e}")))?;
    if kind["format"] != FORMAT {
        return Err(foreign(path, &format!("line 1: no {FORMAT}")));
    }
    if kind["version"] != VERSION {
        let found = &kind["version"];
        let what = format!("has version {found}; this program reads version {VERSION}");
        return Err(problem(0, &what));
    }
    let header: Header = serde_json::from_str(first).map_err(|e| problem(0, &e))?;
    let mut contents = Contents {
        header,
        records: Vec::new(),
        lines: Vec::new(),
        length: length as u64,
    };
    let mut heads = None;
    let mut places: HashMap<(String, String), usize> = HashMap::new();
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
        if let Some(what) = record.impossible() {
            return Err(problem(
                number,
                &format!("its counts of {what} are impossible"),
            ));
        }
        match places.entry((record.direction.clone(), record.id.clone())) {
            Entry::Vacant(place) => {
                place.insert(contents.records.len());
                contents.records.push(record);
                contents.lines.push(number + 1);
            }
            Entry::Occupied(place) if contents.records[*place.get()] == record => {}
            Entry::Occupied(place) => {
                let (direction, id) = place.key();
                let what = format!(
                    "has utterance {id} of {direction} with other values than line {}; remove one \
                     of the two",
                    contents.lines[*place.get()]
                );
                return Err(problem(number, &what));
            }
        }
    }
    Ok(Some(contents))
}

/// A file of a log's name that is none.
fn foreign(path: &Path, why: &str) -> Error {
    let problem = format!(
        "{why}; it is no log of a study: move it elsewhere, or choose another folder with --out"
    );
    Error::file(path, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_known_by_their_names_and_beginnings() {
        let known = ["log.jsonl", "log.jsonl.gz", "log.gz", "jsonl"];
        let known = known.map(|name| is_log(Path::new(name)));
        assert_eq!(known, [true, true, false, false]);
        for (text, own) in [
            (&b""[..], true),
            (b"{", true),
            (b"{\"format\":\"sonograd-study\",\"ver", true),
            (b"{\"format\":\"sonograd-align", false),
            (b"my notes", false),
            (b" ", false),
        ] {
            assert_eq!(is_beginning(text), own, "{text:?}");
        }
    }
}
