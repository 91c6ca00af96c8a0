//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The folder that a file or a folder stands in, by its path.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The folder of a file that is to be written.
pub(crate) fn parent(path: &Path) -> Result<&Path> {
    let parent = folder_of(path);
    match parent.is_dir() && path.file_name().is_some() {
        true => Ok(parent),
        false => Err(Error::file(parent, "there is no such folder to write to")),
    }
}

/// Where a path leads that may be a link, also to what is not there yet.
pub(crate) fn followed(path: &Path) -> PathBuf {
    /// As many as Linux follows.
    const MOST: usize = 40;
    if !path.is_symlink() {
        return path.to_owned();
    }
    if let Ok(place) = fs::canonicalize(path) {
        return place;
    }
    let mut place = path.to_owned();
    for _ in 0..MOST {
        // Links of the system lead to pipes that have no name.
        if place.exists() {
            return place;
        }
        match fs::read_link(&place) {
            // A relative one begins at its own folder.
            Ok(next) => place = place.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return place,
        }
    }
    path.to_owned()
}

/// Refuses a file that nothing can be written into, before long work: its
/// folder is not there or has no place for new files. Pipes and devices are
/// written to as they are.
pub(crate) fn check_place(path: &Path) -> Result<()> {
    let place = followed(path);
    match place.metadata() {
        Ok(there) if !there.is_file() => Ok(()),
        _ => check_writable(parent(&place)?),
    }
}

/// Refuses a folder that nothing can be written into, before long work.
pub(crate) fn check_writable(folder: &Path) -> Result<()> {
    let mut builder = tempfile::Builder::new();
    let probe = builder.prefix(PREFIX).tempfile_in(folder);
    probe.map(drop).map_err(|problem| {
        let problem = format!("nothing can be written into this folder: {problem}");
        Error::file(folder, problem)
    })
}

/// How much of a file tells whether this program wrote it.
const HEAD: u64 = 1 << 12;

/// Bytes of the largest file that is known by its whole contents.
#[cfg(feature = "cli")]
const MOST: u64 = 1 << 26;

/// Refuses to replace what another program or a person has put where a file is
/// to be written: a file is this program's if `is_own` knows its first 4 KiB,
/// and an empty one is nobody's.
pub(crate) fn check_own(path: &Path, is_own: impl Fn(&[u8]) -> bool) -> Result<()> {
    check(path, HEAD, is_own)
}

/// The same for files that `is_own` knows by their whole contents: those that the
/// command line writes.
#[cfg(feature = "cli")]
pub(crate) fn check_own_whole(path: &Path, is_own: impl Fn(&[u8]) -> bool) -> Result<()> {
    check(path, MOST, is_own)
}

fn check(path: &Path, most: u64, is_own: impl Fn(&[u8]) -> bool) -> Result<()> {
    let place = followed(path);
    match place.metadata() {
        Ok(there) if there.is_dir() => {
            let problem = "is a folder, where a file is to be written; choose another place with \
                           --out";
            return Err(Error::file(path, problem));
        }
        // Whoever reads a pipe names it; one in a folder would be waited for for ever.
        Ok(there) if !there.is_file() => {
            let problem = "is a pipe or a device, where a file is to be written; choose another \
                           place with --out";
            return Err(Error::file(path, problem));
        }
        Ok(_) => {}
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(()),
        Err(problem) => return Err(Error::file(path, problem)),
    }
    let mut head = Vec::new();
    let read = File::open(&place).and_then(|file| file.take(most).read_to_end(&mut head));
    read.map_err(|problem| Error::file(path, problem))?;
    if head.is_empty() || is_own(&head) {
        return Ok(());
    }
    Err(Error::file(
        path,
        "is there and does not show that sonograd wrote it, so it is not replaced; move it elsewhere, or \
         choose another place with --out",
    ))
}

/// What names of files begin with that are not whole yet.
pub(crate) const PREFIX: &str = ".sonograd-";

/// Writes or replaces a file in one step. A link stays one, and the file it
/// leads to is replaced; pipes and devices are written to.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    staged(path, bytes)?.put(path)
}

/// The same of several files: none is replaced unless there is room for all.
pub(crate) fn write_all<'a>(files: impl IntoIterator<Item = (&'a Path, &'a [u8])>) -> Result<()> {
    let files = files.into_iter();
    let all = files.map(|(path, bytes)| Ok((path, staged(path, bytes)?)));
    let all: Vec<(&Path, Staged)> = all.collect::<Result<_>>()?;
    all.into_iter().try_for_each(|(path, own)| own.put(path))
}

/// A file's contents beside its place.
enum Staged<'a> {
    File(tempfile::NamedTempFile, PathBuf),
    /// For a pipe or a device.
    Stream(&'a [u8], PathBuf),
}

impl Staged<'_> {
    fn put(self, path: &Path) -> Result<()> {
        let put = match self {
            Self::File(own, place) => match own.persist(place) {
                Ok(_) => Ok(()),
                Err(failed) => Err(failed.error),
            },
            Self::Stream(bytes, place) => fs::write(place, bytes),
        };
        put.map_err(|problem| Error::file(path, problem))
    }
}

fn staged<'a>(path: &Path, bytes: &'a [u8]) -> Result<Staged<'a>> {
    let problem = |problem: std::io::Error| Error::file(path, problem);
    let place = followed(path);
    let there = match place.metadata() {
        Ok(there) => Some(there),
        Err(own) if own.kind() == ErrorKind::NotFound => None,
        Err(own) => return Err(problem(own)),
    };
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        return Ok(Staged::Stream(bytes, place));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    // A temporary file is private; the finished one is like any other.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(parent(&place)?).map_err(problem)?;
    temporary.write_all(bytes).map_err(problem)?;
    if let Some(there) = there {
        let file = temporary.as_file();
        file.set_permissions(there.permissions()).map_err(problem)?;
    }
    Ok(Staged::File(temporary, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        write(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        // Nothing else is left in the folder.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let message = write(&folder.path().join("absent/file"), b"x").unwrap_err();
        assert!(message.to_string().contains("no such folder"));
    }

    #[test]
    fn what_others_wrote_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let is_own = |head: &[u8]| head.starts_with(b"ours");
        check_own(&path, is_own).unwrap();
        write(&path, b"ours").unwrap();
        check_own(&path, is_own).unwrap();
        fs::write(&path, "theirs").unwrap();
        let message = check_own(&path, is_own).unwrap_err().to_string();
        assert!(message.contains("x: is there and does not"), "{message}");
        fs::write(&path, "").unwrap();
        check_own(&path, is_own).unwrap();
        let message = check_own(folder.path(), is_own).unwrap_err().to_string();
        assert!(message.contains("is a folder"), "{message}");
        check_writable(folder.path()).unwrap();
        let message = check_writable(&path).unwrap_err().to_string();
        assert!(message.contains("nothing can be written"), "{message}");
        // The probe is gone.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn links_are_followed_to_what_is_not_there_yet() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::create_dir(place("real")).unwrap();
        symlink("real/file", place("link")).unwrap();
        symlink("link", place("second")).unwrap();
        write(&place("second"), b"x").unwrap();
        assert_eq!(fs::read(place("real/file")).unwrap(), b"x");
        assert!(place("second").is_symlink() && place("link").is_symlink());
        symlink("loop", place("loop")).unwrap();
        assert!(write(&place("loop"), b"x").is_err());
    }
}
