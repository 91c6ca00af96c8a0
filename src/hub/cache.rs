//! The cache's folders, as huggingface_hub lays them out:
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG                 contents
//! models--OWNER--NAME/blobs/ETAG.incomplete      part of them
//! models--OWNER--NAME/snapshots/COMMIT/FILE      a link to contents, or they themselves
//! models--OWNER--NAME/refs/REVISION              a commit
//! models--OWNER--NAME/.no_exist/COMMIT/FILE      the commit has no such file
//! models--OWNER--NAME/trees/COMMIT.json          the files that it has
//! .locks/models--OWNER--NAME/ETAG.lock           locked while contents are written
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::name::{is_commit, is_safe};
use super::{Hub, ModelName, Source};
#[cfg(feature = "hub")]
use crate::{Error, Result};

/// A model's part of the cache.
pub(super) struct Repository {
    folder: PathBuf,
    #[cfg(feature = "hub")]
    locks: PathBuf,
    #[cfg(feature = "hub")]
    links: bool,
}

impl Repository {
    pub fn new(hub: &Hub, name: &ModelName) -> Self {
        let folder = format!("models--{}--{}", name.owner, name.name);
        Self {
            #[cfg(feature = "hub")]
            locks: hub.cache.join(".locks").join(&folder),
            #[cfg(feature = "hub")]
            links: hub.links,
            folder: hub.cache.join(folder),
        }
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The commit that a revision is here; nothing where it is not known or
    /// none of its files is here.
    pub fn commit(&self, revision: &str) -> Option<String> {
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => {
                let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
                text.trim().to_owned()
            }
        };
        // A file that says something else must not lead out of the cache.
        (is_commit(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// What is known of files that a commit has not.
    pub fn absent(&self, commit: &str) -> Absent {
        let place = self.folder.join("trees").join(format!("{commit}.json"));
        let tree = crate::plain::read(&place).ok();
        let tree = tree.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        Absent {
            notes: self.folder.join(".no_exist").join(commit),
            tree: tree
                .filter(|tree| tree["format_version"] == 1)
                .and_then(|tree| tree["files"].as_object().cloned()),
        }
    }
}

/// What is known of files that a commit has not.
pub(super) struct Absent {
    /// A folder with files of their names.
    notes: PathBuf,
    /// What a whole listing by Python says.
    tree: Option<serde_json::Map<String, Value>>,
}

impl Absent {
    /// Whether it is known that a file is not there.
    pub fn has_not(&self, file: &str) -> bool {
        let listed = || self.tree.as_ref().map(|tree| tree.contains_key(file));
        self.notes.join(file).is_file() || listed() == Some(false)
    }
}

#[cfg(feature = "hub")]
impl Repository {
    /// Notes that a commit has not a file. A cache that cannot be written is
    /// as good without.
    pub fn note_absent(&self, commit: &str, file: &str) {
        let place = self.folder.join(".no_exist").join(commit);
        if fs::create_dir_all(&place).is_ok() {
            let _ = fs::File::create(place.join(file));
        }
    }

    /// Notes which commit a revision is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note_commit(&self, revision: &str, commit: &str) -> Result<()> {
        let place = self.folder.join("refs").join(revision);
        let same = fs::read_to_string(&place).is_ok_and(|text| text == commit);
        if is_commit(revision) || same {
            return Ok(());
        }
        make_parent(&place)?;
        crate::files::write(&place, commit.as_bytes())
    }

    /// Where contents are.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// What is locked while contents are written.
    pub fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Makes contents a file of a commit: a link that stays right when the
    /// cache is moved, or, where there are no links, the contents themselves.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn place(&self, etag: &str, commit: &str, file: &str) -> Result<()> {
        let (blob, place) = (self.blob(etag), self.snapshot(commit).join(file));
        make_parent(&place)?;
        if place.is_file() {
            return Ok(());
        }
        // A link to contents that were deleted.
        let _ = fs::remove_file(&place);
        let up = "../".repeat(1 + file.split('/').count());
        if self.links && link(Path::new(&format!("{up}blobs/{etag}")), &place).is_ok() {
            return Ok(());
        }
        // Another process may have been faster.
        match fs::rename(&blob, &place) {
            Err(_) if place.is_file() => Ok(()),
            moved => moved.map_err(|problem| Error::file(place, problem)),
        }
    }
}

/// Makes the folder of a file.
#[cfg(feature = "hub")]
pub(super) fn make_parent(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).map_err(|problem| Error::file(folder, problem))
}

#[cfg(all(feature = "hub", unix))]
fn link(to: &Path, place: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, place)
}

#[cfg(all(feature = "hub", windows))]
fn link(to: &Path, place: &Path) -> std::io::Result<()> {
    let to: PathBuf = to.components().collect();
    std::os::windows::fs::symlink_file(to, place)
}

#[cfg(all(feature = "hub", not(any(unix, windows))))]
fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// What a folder holds that is a commit's in some cache.
pub(super) fn source_of(folder: &Path) -> Option<Source> {
    let folder = std::path::absolute(folder).ok()?;
    let text = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let revision = text(&folder)?;
    let snapshots = folder.parent()?;
    let id = text(snapshots.parent()?)?;
    let name = id.strip_prefix("models--")?.replace("--", "/");
    let right = is_commit(&revision) && text(snapshots)? == "snapshots" && is_safe(&name);
    right.then_some(Source { name, revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_knows_its_name() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let path = format!("/c/models--a--b/snapshots/{commit}");
        let source = source_of(Path::new(&path)).unwrap();
        assert_eq!((&*source.name, &*source.revision), ("a/b", commit));
        for path in [
            "/c/models--a--b/snapshots/main",
            "/c/a/b",
            "/",
            "weights/base-en",
        ] {
            assert_eq!(source_of(Path::new(path)), None);
        }
    }

    #[test]
    fn a_reference_cannot_lead_out_of_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::new(folder.path(), "");
        let repository = Repository::new(&hub, &ModelName::parse("a/b").unwrap());
        let refs = folder.path().join("models--a--b/refs");
        fs::create_dir_all(&refs).unwrap();
        fs::create_dir_all(folder.path().join("models--a--b/snapshots")).unwrap();
        for text in ["../..", "", "/", "."] {
            fs::write(refs.join("main"), text).unwrap();
            assert_eq!(repository.commit("main"), None);
        }
    }
}
