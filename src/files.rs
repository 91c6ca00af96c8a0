//! Files that appear whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// The folder of a file that is to be written.
pub(crate) fn parent(path: &Path) -> Result<&Path> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match parent.is_dir() && path.file_name().is_some() {
        true => Ok(parent),
        false => Err(Error::file(parent, "there is no such folder to write to")),
    }
}

/// Writes or replaces a file in one step. A link stays one, and the file it
/// leads to is replaced; pipes and devices are written to.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let problem = |problem: std::io::Error| Error::file(path, problem);
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let there = place.metadata().ok();
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        return fs::write(&place, bytes).map_err(problem);
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sonograd-");
    // A temporary file is private; the finished one is like any other.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(parent(&place)?).map_err(problem)?;
    temporary.write_all(bytes).map_err(problem)?;
    if let Some(there) = there {
        let file = temporary.as_file();
        file.set_permissions(there.permissions()).map_err(problem)?;
    }
    match temporary.persist(&place) {
        Ok(_) => Ok(()),
        Err(failed) => Err(problem(failed.error)),
    }
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
}
