//! One file into the cache: in one piece at last, whatever comes between.
//!
//! Contents grow in `ETAG.incomplete`, which a later run goes on with, and get
//! their name when their checksum is right. The lock that huggingface_hub
//! takes, too, keeps two processes from writing to one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use ureq::http::StatusCode;

use super::cache::{Repository, make_parent};
use super::client::{Client, Metadata, is_network, reader};
use super::{Download, Watch};
use crate::{Error, Result};

/// Attempts in a row that bring not a byte.
const ATTEMPTS: u32 = 4;

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// A file that is to be downloaded.
pub(super) struct Wanted<'a> {
    pub client: &'a Client<'a>,
    pub repository: &'a Repository,
    /// The model's name, for whoever watches.
    pub model: &'a str,
    pub commit: &'a str,
    pub file: &'a str,
}

/// Contents that are half there.
struct Half {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Wanted<'_> {
    /// Brings the file into the cache, unless its contents are there.
    ///
    /// # Errors
    /// If the hub gives none or others, they cannot be written, or `watch`
    /// ended it.
    pub fn fetch(&self, watch: Watch<'_>) -> Result<()> {
        let metadata = self.patiently(watch, || self.client.metadata(self.commit, self.file))?;
        let etag = &*metadata.etag;
        let blob = self.repository.blob(etag);
        make_parent(&blob)?;
        let _lock = self.lock(etag, metadata.bytes, watch)?;
        if !blob.is_file() {
            let place = blob.with_file_name(format!("{etag}.incomplete"));
            let mut half = Half::open(place)?;
            let begun = half.length > 0;
            self.fill(&mut half, &metadata, watch)?;
            let mut right = half.is_right(etag)?;
            // What was there may have been another program's.
            if begun && !right {
                half.empty()?;
                self.fill(&mut half, &metadata, watch)?;
                right = half.is_right(etag)?;
            }
            if !right {
                half.remove();
                let problem = format!(
                    "gave a {} whose checksum is wrong; it was not kept, try again",
                    self.file
                );
                return Err(self.client.problem(&problem));
            }
            half.becomes(&blob)?;
        }
        self.repository.place(etag, self.commit, self.file)
    }

    /// Waits while another process writes the same contents. Where files
    /// cannot be locked, checksums alone stand between the two.
    fn lock(&self, etag: &str, bytes: Option<u64>, watch: Watch<'_>) -> Result<Option<File>> {
        let place = self.repository.lock(etag);
        make_parent(&place)?;
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&place);
        let file = file.map_err(|problem| Error::file(&place, problem))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(100)),
                Err(TryLockError::Error(_)) => return Ok(None),
            }
            if !watch(self.state(0, bytes)) {
                return Err(Error::Stopped);
            }
        }
    }

    fn state(&self, done: u64, bytes: Option<u64>) -> Download<'_> {
        Download {
            model: self.model,
            file: self.file,
            done,
            bytes,
        }
    }

    /// Downloads what is lacking, going on where a connection broke off.
    fn fill(&self, half: &mut Half, metadata: &Metadata, watch: Watch<'_>) -> Result<()> {
        if metadata.bytes.is_some_and(|bytes| half.length > bytes) {
            half.empty()?;
        }
        let mut failed = 0;
        while metadata.bytes.is_none_or(|bytes| half.length < bytes) || half.length == 0 {
            if !watch(self.state(half.length, metadata.bytes)) {
                return Err(Error::Stopped);
            }
            let before = half.length;
            match self.piece(half, metadata.bytes, watch) {
                Ok(()) => return Ok(()),
                Err(problem) if !is_network(&problem) => return Err(problem),
                Err(problem) => {
                    failed = if half.length > before { 0 } else { failed + 1 };
                    if failed == ATTEMPTS {
                        return Err(problem);
                    }
                    sleep(Duration::from_millis(200 << failed));
                }
            }
        }
        Ok(())
    }

    /// One connection, until the contents end or it does.
    fn piece(&self, half: &mut Half, bytes: Option<u64>, watch: Watch<'_>) -> Result<()> {
        let response = self.client.contents(self.commit, self.file, half.length)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get("content-range");
                let range = range.and_then(|range| range.to_str().ok()).unwrap_or("");
                let begin = range
                    .strip_prefix("bytes ")
                    .and_then(|own| own.split_once('-'));
                let begin = begin.and_then(|(begin, _)| begin.parse::<u64>().ok());
                if begin != Some(half.length) {
                    half.empty()?;
                    return Err(self.client.problem("gives other bytes than were asked for"));
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                half.empty()?;
                return Err(self.client.problem("has fewer bytes than are here"));
            }
            _ => {
                self.client.check(&response, Some(self.file))?;
                // It begins anew, as servers may.
                half.empty()?;
            }
        }
        let mut from = reader(response);
        let mut buffer = vec![0; PIECE];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(read) => read,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => continue,
                Err(problem) => {
                    let text = format!("broke off: {problem}");
                    return Err(self.client.problem(&text).because(problem));
                }
            };
            if read == 0 {
                break;
            }
            half.add(&buffer[..read])?;
            if bytes.is_some_and(|bytes| half.length > bytes) {
                half.empty()?;
                return Err(self.client.problem("gives more bytes than it said"));
            }
            if !watch(self.state(half.length, bytes)) {
                return Err(Error::Stopped);
            }
        }
        match bytes.is_none_or(|bytes| half.length == bytes) {
            true => Ok(()),
            false => Err(self.client.problem("gave fewer bytes than it said")),
        }
    }

    /// Asks again where a server is not there for a moment.
    fn patiently<T>(&self, watch: Watch<'_>, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
        let mut failed = 0;
        loop {
            match ask() {
                Err(problem) if is_network(&problem) && failed + 1 < ATTEMPTS => failed += 1,
                answer => return answer,
            }
            if !watch(self.state(0, None)) {
                return Err(Error::Stopped);
            }
            sleep(Duration::from_millis(200 << failed));
        }
    }
}

impl Half {
    /// With the place to write behind what is there. Opened to write, not to
    /// append: Windows lets nobody else cut a file.
    fn open(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let mut file = file.map_err(|problem| Error::file(&path, problem))?;
        let length = file.seek(SeekFrom::End(0));
        let length = length.map_err(|problem| Error::file(&path, problem))?;
        Ok(Self { path, file, length })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|problem| Error::file(&self.path, problem))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn empty(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|problem| Error::file(&self.path, problem))?;
        self.length = 0;
        Ok(())
    }

    /// Whether the contents are those of the name: a SHA-256, or git's SHA-1 of
    /// the length and them.
    fn is_right(&self, etag: &str) -> Result<bool> {
        let problem = |problem: io::Error| Error::file(&self.path, problem);
        let mut digest = match etag.len() {
            64 => Context::new(&SHA256),
            _ => {
                let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                digest.update(format!("blob {}\0", self.length).as_bytes());
                digest
            }
        };
        let mut file = File::open(&self.path).map_err(problem)?;
        let mut buffer = vec![0; PIECE];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => digest.update(&buffer[..read]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(problem(e)),
            }
        }
        let own = digest.finish();
        let own = own.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Ok(own.collect::<String>() == etag)
    }

    /// The contents are on the disk before they have their name.
    fn becomes(self, blob: &Path) -> Result<()> {
        let Self { path, file, .. } = self;
        file.sync_all()
            .map_err(|problem| Error::file(&path, problem))?;
        drop(file);
        fs::rename(&path, blob).map_err(|problem| Error::file(blob, problem))
    }

    fn remove(self) {
        let Self { path, file, .. } = self;
        drop(file);
        let _ = fs::remove_file(path);
    }
}
