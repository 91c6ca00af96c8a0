//! Files that one process at a time may write.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Holds a file's place, so that no other process writes it: a file beside it
/// with the ending `.lock`, locked by the system. The system lets go of it when
/// the process ends, however that comes, so that a lock is never stale; what a
/// killed process leaves is an empty file that the next one takes over.
pub struct Lock {
    /// Absent where the file system has no locks.
    file: Option<File>,
    place: PathBuf,
}

impl Lock {
    /// Takes the place of a file, or gives nothing if another process has it.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn take(path: &Path) -> Result<Option<Self>> {
        Self::by(path, |file| match file.try_lock() {
            Ok(()) => Some(true),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(_)) => Some(false),
        })
    }

    /// Waits for the place of a file.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn wait(path: &Path) -> Result<Self> {
        let lock = Self::by(path, |file| Some(file.lock().is_ok()))?;
        lock.ok_or_else(|| Error::file(path, "is held by another process"))
    }

    /// Takes it where `lock` says whether that worked, or nothing if another
    /// process has it.
    fn by(path: &Path, lock: impl Fn(&File) -> Option<bool>) -> Result<Option<Self>> {
        let place = place(path);
        // A pipe would be waited for for ever.
        if place.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(Error::file(place, "is no file, where a lock is to be"));
        }
        loop {
            // Locks of network file systems ask for files that can be written.
            let mut options = OpenOptions::new();
            let file = options
                .create(true)
                .truncate(false)
                .write(true)
                .open(&place);
            let file = file.map_err(|problem| Error::file(&place, problem))?;
            match lock(&file) {
                None => return Ok(None),
                // Another process may think otherwise: its file stays where it is.
                Some(false) => return Ok(Some(Self { file: None, place })),
                // Who had it before took the file away: another may be there now.
                Some(true) if !is_at(&file, &place) => {}
                Some(true) => {
                    let file = Some(file);
                    return Ok(Some(Self { file, place }));
                }
            }
        }
    }

    /// Whether the file system has locks.
    pub fn holds(&self) -> bool {
        self.file.is_some()
    }

    /// Whether a process holds the place of a file.
    pub fn is_taken(path: &Path) -> bool {
        place(path).exists() && matches!(Self::take(path), Ok(None))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is let go of: whoever opened it meanwhile sees that it is
        // not there any more. Elsewhere that cannot be seen, and it stays.
        if cfg!(unix) && self.file.is_some() {
            let _ = fs::remove_file(&self.place);
        }
    }
}

fn place(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ENDING);
    name.into()
}

/// What the name of a lock ends with, behind that of its file.
pub(in crate::study) const ENDING: &str = ".lock";

/// Whether an open file is the one of that name.
#[cfg(unix)]
fn is_at(file: &File, place: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let both = (file.metadata(), fs::metadata(place));
    matches!(both, (Ok(own), Ok(there)) if (own.dev(), own.ino()) == (there.dev(), there.ino()))
}

#[cfg(not(unix))]
fn is_at(_file: &File, _place: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_none_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let first = Lock::take(&path).unwrap().unwrap();
        assert!(first.holds() && Lock::is_taken(&path));
        assert!(Lock::take(&path).unwrap().is_none());
        // Another file's place is free.
        assert!(Lock::take(&folder.path().join("other")).unwrap().is_some());
        drop(first);
        assert!(!Lock::is_taken(&path));
        // What a killed process leaves.
        fs::write(place(&path), "").unwrap();
        assert!(!Lock::is_taken(&path));
        assert!(Lock::take(&path).unwrap().is_some());
        assert!(Lock::take(Path::new("/absent/x")).is_err());
        #[cfg(unix)]
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Threads that take and give back as fast as they can are never two.
    #[test]
    fn a_place_is_never_given_twice() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let lock = Lock::wait(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
