//! The folder that a study is written into, looked at before the long work: what
//! could not be merged with this study's logs in the end is refused now.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::log::{self, Done, Header, Lock, Log};
use super::manifest::Item;
use super::run::{Part, Shard, log_name};
use crate::files;
use crate::{Error, Result};

/// A study's folder and the logs that stand in it.
pub struct Folder {
    path: PathBuf,
    logs: BTreeMap<PathBuf, Known>,
}

/// What a log is of.
struct Known {
    header: Header,
    done: Done,
}

/// All files of a folder that are logs by their names, in order.
///
/// # Errors
/// If it cannot be read.
pub(super) fn logs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut logs = names_in(folder)?;
    logs.retain(|path| log::is_log(path));
    Ok(logs)
}

fn names_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::file(folder, e))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: std::io::Result<Vec<PathBuf>> = paths.collect();
    let mut paths = paths.map_err(|e| Error::file(folder, e))?;
    paths.sort();
    Ok(paths)
}

/// Which part of a model's study a file is by its name; nothing if it is none.
fn part(path: &Path, model: &str) -> Option<Part> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(log::LOCK).unwrap_or(name);
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let whole = log_name(model, Part::Whole);
    if name == whole {
        return Some(Part::Whole);
    }
    let model = whole.strip_suffix("jsonl")?;
    let numbers = name.strip_prefix(model)?.strip_suffix(".jsonl")?;
    if let Some(number) = numbers.strip_prefix("worker-") {
        return number.parse().ok().map(Part::Worker);
    }
    let shard = numbers.replace("-of-", "/").parse().ok()?;
    Some(Part::Shard(shard))
}

/// Whether both share out the utterances in one way.
fn alike(one: Part, other: Part) -> bool {
    match (one, other) {
        (Part::Shard(one), Part::Shard(other)) => one.count == other.count,
        _ => std::mem::discriminant(&one) == std::mem::discriminant(&other),
    }
}

impl Folder {
    /// Makes the folder if it is not there; a link is followed.
    ///
    /// # Errors
    /// If it cannot be made or written, or has a file with a log's name that is
    /// no log of a study.
    pub fn open(path: &Path) -> Result<Self> {
        let path = files::followed(path);
        if path.exists() && !path.is_dir() {
            return Err(Error::file(
                path,
                "is no folder; a study is written into one",
            ));
        }
        fs::create_dir_all(&path).map_err(|problem| Error::file(&path, problem))?;
        files::check_writable(&path)?;
        let mut logs = BTreeMap::new();
        for log in logs_in(&path)? {
            if let Some(contents) = log::read_begun(&log)? {
                let known = Known {
                    done: Done::of(contents.records, contents.lines),
                    header: contents.header,
                };
                logs.insert(log, known);
            }
        }
        Ok(Self { path, logs })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the place of a model's log.
    ///
    /// # Errors
    /// If another run has it, or logs of the model stand there, or are being
    /// written, that share out its utterances in another way.
    pub fn reserve(&self, model: &str, own: Part) -> Result<Log> {
        let log = Log::reserve(&self.path.join(log_name(model, own)))?;
        // The own place is taken before others are looked for: of two runs that
        // begin at once, one sees the other.
        for path in names_in(&self.path)? {
            let Some(other) = part(&path, model) else {
                continue;
            };
            if alike(own, other) {
                continue;
            }
            let mut file = path.clone();
            if path.to_string_lossy().ends_with(log::LOCK) {
                file.set_extension("");
                if !Lock::is_taken(&file) {
                    continue;
                }
            } else if let Some(own) = self.logs.get(&path)
                && own.header.model != model
            {
                continue;
            }
            let again = match other {
                Part::Whole => "without --shard".to_owned(),
                Part::Shard(Shard { number, count }) => format!("as --shard {number}/{count}"),
                Part::Worker(_) => "with sonograd.ray".to_owned(),
            };
            let problem = format!(
                "is {other} of {model}'s study, and this run would do {own} beside it; go on \
                 {again}, or choose another folder with --out"
            );
            return Err(Error::file(file, problem));
        }
        Ok(log)
    }

    /// Refuses what could not be merged with the other logs of a model: those
    /// made in another way, and utterances that stand there already.
    ///
    /// # Errors
    /// If there is such a log; the message says what differs.
    pub fn check(&self, log: &Log, header: &Header, items: &[Item]) -> Result<()> {
        for (path, own) in self.others(log, &header.model) {
            if let Some(differences) = own.header.differences(header) {
                let problem = format!(
                    "is a log of the same model that was made with {differences}; take what was \
                     taken then, or choose another folder with --out"
                );
                return Err(Error::file(path, problem));
            }
            if let Some(item) = items.iter().find(|item| own.done.has(item)) {
                let problem = format!(
                    "has utterance {} of {} already, which this run would do again; choose \
                     another folder with --out",
                    item.id,
                    item.direction()
                );
                return Err(Error::file(path, problem));
            }
        }
        Ok(())
    }

    /// Whether another log of the model than this one has an utterance.
    pub(super) fn has_elsewhere(&self, log: &Log, model: &str, item: &Item) -> bool {
        self.others(log, model).any(|(_, own)| own.done.has(item))
    }

    fn others(&self, log: &Log, model: &str) -> impl Iterator<Item = (&PathBuf, &Known)> {
        let others = self.logs.iter();
        others.filter(move |(path, own)| path.as_path() != log.path() && own.header.model == model)
    }

    /// Refuses utterances that a model's logs have, but of another sound or with
    /// another text.
    ///
    /// # Errors
    /// If there is one; the message names its line.
    pub fn check_given(&self, model: &str, items: &[Item]) -> Result<()> {
        let mut own = self.logs.iter();
        own.try_for_each(|(path, own)| match own.header.model == model {
            true => own.done.check(path, items),
            false => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_names() {
        let shard = |number, count| Some(Part::Shard(Shard { number, count }));
        for (name, model, own) in [
            ("m.jsonl", "m", Some(Part::Whole)),
            ("m.jsonl.gz", "m", Some(Part::Whole)),
            ("m.jsonl.lock", "m", Some(Part::Whole)),
            ("m.2-of-3.jsonl", "m", shard(2, 3)),
            ("m.2-of-3.jsonl.lock", "m", shard(2, 3)),
            ("a--b.1-of-2.jsonl.gz", "a/b", shard(1, 2)),
            ("m.worker-4.jsonl.lock", "m", Some(Part::Worker(4))),
            ("m.worker-x.jsonl", "m", None),
            ("m.4-of-3.jsonl", "m", None),
            ("m.x.jsonl", "m", None),
            ("mm.jsonl", "m", None),
            ("m.json", "m", None),
        ] {
            assert_eq!(part(Path::new(name), model), own, "{name}");
        }
    }
}
