//! The folder that `explain` writes: it appears whole or not at all.

use std::collections::HashMap;
use std::path::Path;

use bytemuck::cast_slice;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use super::explanation::FORMAT;
use super::{Explained, NamedMap};
use crate::{Error, Result};

/// The maps' file.
pub const MAPS: &str = "maps.safetensors";
/// The description's file.
pub const EXPLANATION: &str = "explanation.json";
/// The page's file.
pub const REPORT: &str = "report.html";

/// Refuses a folder that [`write()`] would refuse, before the long work.
///
/// # Errors
/// If it exists and this program did not write it, or its parent does not
/// exist.
pub fn check(folder: &Path) -> Result<()> {
    if folder.file_name().is_none() {
        return Err(Error::file(folder, "is no name for a new folder"));
    }
    let parent = parent(folder);
    if !parent.is_dir() {
        return Err(Error::file(parent, "there is no such folder to write to"));
    }
    if folder.symlink_metadata().is_err() || is_ours(folder) {
        return Ok(());
    }
    Err(Error::file(
        folder,
        "exists and was not written by explain; choose another with --out",
    ))
}

fn parent(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether a folder is an explanation: nothing else is ever replaced.
fn is_ours(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let known = [MAPS, EXPLANATION, REPORT];
    for entry in entries {
        let Ok(entry) = entry else { return false };
        if !known.iter().any(|name| entry.file_name() == *name) {
            return false;
        }
    }
    let Ok(bytes) = std::fs::read(folder.join(EXPLANATION)) else {
        return false;
    };
    serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value["format"] == FORMAT)
}

/// Writes an explanation with its maps and its page into `folder`.
///
/// # Errors
/// If the folder is refused by [`check`] or cannot be written.
pub fn write(folder: &Path, explained: &Explained, page: &str) -> Result<()> {
    check(folder)?;
    let problem = |problem: std::io::Error| Error::file(folder, problem);
    let temporary = tempfile::Builder::new()
        .prefix(".sonograd-")
        .tempdir_in(parent(folder))
        .map_err(problem)?;
    let file = |name: &str| temporary.path().join(name);
    let mut json = serde_json::to_string_pretty(&explained.explanation)
        .map_err(|problem| Error::file(folder, problem))?;
    json.push('\n');
    std::fs::write(file(EXPLANATION), json).map_err(problem)?;
    std::fs::write(file(MAPS), tensors(&explained.maps)?).map_err(problem)?;
    std::fs::write(file(REPORT), page).map_err(problem)?;
    open_to_readers(temporary.path()).map_err(problem)?;

    if !folder.exists() {
        std::fs::rename(temporary.path(), folder).map_err(problem)?;
        // It has moved: there is nothing left to remove under its old name.
        let _ = temporary.keep();
        return Ok(());
    }
    // What is there goes when `temporary` is dropped.
    exchange(temporary.path(), folder).map_err(problem)
}

/// Gives each of two folders the other's name, in one step: whoever is killed
/// or looks meanwhile finds the old or the new.
fn exchange(new: &Path, old: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    // Without such a call (or a file system that has it) the old one moves
    // aside first, and back if the new one cannot come.
    let place = tempfile::Builder::new()
        .prefix(".sonograd-old-")
        .tempdir_in(parent(old))?;
    let aside = place.path().join("old");
    std::fs::rename(old, &aside)?;
    std::fs::rename(new, old).or_else(|failed| {
        std::fs::rename(&aside, old)?;
        Err(failed)
    })
}

/// Temporary folders are private; the finished one is like any other.
#[cfg(unix)]
fn open_to_readers(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn open_to_readers(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

fn tensors(maps: &[NamedMap]) -> Result<Vec<u8>> {
    let views = maps.iter().map(|map| {
        let view = TensorView::new(Dtype::F32, map.shape.clone(), cast_slice(&map.data));
        Ok((map.name.as_str(), view.map_err(|e| Error::file(MAPS, e))?))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    let format = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
    safetensors::serialize(views, Some(format)).map_err(|e| Error::file(MAPS, e))
}
