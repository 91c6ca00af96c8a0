//! Models by name: from the cache that Hugging Face's programs share, or from
//! the hub into it.
//!
//! The cache is exactly that of Python's huggingface_hub: what either
//! downloads the other finds. A model that is whole there is taken as it is,
//! without asking whether there is a newer one; `NAME@REVISION` names another.
//! Everything but the download works without the cargo feature `hub`.

mod cache;
mod choice;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
mod environment;
#[cfg(feature = "hub")]
mod fetch;
pub(crate) mod layout;
mod name;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use self::cache::Repository;
use self::layout::ADAPTER_CONFIG;
pub use self::name::ModelName;
use crate::error::Problem;
use crate::{Error, ErrorKind, Result};

/// Where models of a name are looked for.
#[derive(Clone)]
#[non_exhaustive]
pub struct Hub {
    /// Folder of the cache: `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// The hub's address: `HF_ENDPOINT`.
    pub endpoint: String,
    /// What the hub knows the user by, sent to no other host: `HF_TOKEN`, or
    /// the file that `hf auth login` writes.
    pub token: Option<String>,
    /// Look into the cache alone: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Whether files in the cache are links to where their contents are, or
    /// stand there themselves: `HF_HUB_DISABLE_SYMLINKS`.
    pub links: bool,
    /// How long the hub may be silent, a day at most: `HF_HUB_DOWNLOAD_TIMEOUT`.
    pub patience: Duration,
}

/// How far the download of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Download<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The file's name in it.
    pub file: &'a str,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes of the file, where the hub says how many.
    pub bytes: Option<u64>,
}

/// Is told of a download; if it returns false, that ends, to go on from there
/// another time.
pub type Watch<'a> = &'a mut dyn FnMut(Download<'_>) -> bool;

/// A model that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Its folder.
    pub folder: PathBuf,
    /// Folder of the model that it is an adapter for, where that came by name.
    pub base: Option<PathBuf>,
    /// What it is, where it came by name.
    pub source: Option<Source>,
}

/// What a model of the hub is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// `OWNER/NAME`
    pub name: String,
    /// The commit, 40 hexadecimal digits.
    pub revision: String,
}

impl Hub {
    /// As the environment says, in the variables of huggingface_hub.
    pub fn from_environment() -> Self {
        environment::hub(&|name| std::env::var(name).ok())
    }

    /// The hub at an address with a cache of its own; no token.
    pub fn new(cache: impl Into<PathBuf>, endpoint: impl Into<String>) -> Self {
        Self {
            cache: cache.into(),
            endpoint: endpoint.into(),
            token: None,
            ..environment::hub(&|_| None)
        }
    }

    /// The model that a user means: a folder or file that is there, or else a
    /// name. What is lacking of a name is downloaded, and so is the model that
    /// an adapter is for.
    ///
    /// # Errors
    /// If it is neither, is not whole in the cache and cannot be downloaded, or
    /// `watch` ended it ([`Error::Stopped`]).
    pub fn find(&self, place: &Path, watch: Watch<'_>) -> Result<Found> {
        let mut found = self.find_one(place, watch)?;
        if let Some(base) = base_of(&found.folder)? {
            let base = self.find_name(&base, watch).map_err(|problem| {
                let config = found.folder.join(ADAPTER_CONFIG);
                let text = format!("is of an adapter for {base}, which is not here: {problem}");
                match problem.kind() {
                    ErrorKind::Stopped => problem,
                    ErrorKind::Network => {
                        let text = format!("{}: {text}", config.display());
                        Error::Network(text).because(problem)
                    }
                    _ => Error::file(config, Problem::new(text, problem)),
                }
            })?;
            found.base = Some(base.folder);
        }
        Ok(found)
    }

    /// The folder of a name that is whole in the cache; no network.
    pub fn cached(&self, name: &ModelName) -> Option<Found> {
        let repository = Repository::new(self, name);
        let commit = repository.commit(name.revision())?;
        let folder = repository.snapshot(&commit);
        let absent = repository.absent(&commit);
        let lacking = choice::lacking(&folder, &|file| absent.has_not(file));
        lacking.is_empty().then(|| Found {
            folder,
            base: None,
            source: Some(Source {
                name: name.id(),
                revision: commit,
            }),
        })
    }

    fn find_one(&self, place: &Path, watch: Watch<'_>) -> Result<Found> {
        if place.exists() {
            return Ok(Found {
                source: cache::source_of(place),
                folder: place.to_owned(),
                base: None,
            });
        }
        match place.to_str().and_then(ModelName::parse) {
            Some(name) => self.find_name(&name, watch),
            None => Err(Error::file(place, layout::NO_FOLDER)),
        }
    }

    fn find_name(&self, name: &ModelName, watch: Watch<'_>) -> Result<Found> {
        let repository = Repository::new(self, name);
        let commit = repository.commit(name.revision());
        let whole = self.cached(name);
        if let (Some(found), Some(commit)) = (&whole, &commit)
            && choice::unknown(&repository, commit).is_empty()
        {
            return Ok(found.clone());
        }
        let problem = match self.complete(name, &repository, commit.as_deref(), watch) {
            Ok(found) => return Ok(found),
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(problem) => problem,
        };
        // It is whole; what else the hub may have of it is not known.
        if let Some(found) = whole {
            return Ok(found);
        }
        // A file of the cache speaks for itself.
        if problem.path().is_some() {
            return Err(problem);
        }
        let here = match commit {
            None => format!("no such folder, and not in {}", self.cache.display()),
            Some(commit) => {
                let folder = repository.snapshot(&commit);
                let absent = repository.absent(&commit);
                let lacking = choice::lacking(&folder, &|file| absent.has_not(file)).join(", ");
                format!("{} lacks {lacking}", folder.display())
            }
        };
        let text = format!("{name}: {here}; {problem}");
        Err(match problem.kind() {
            ErrorKind::Network => Error::Network(text),
            _ => Error::Input(text),
        }
        .because(problem))
    }

    /// Downloads what is lacking.
    #[cfg(feature = "hub")]
    fn complete(
        &self,
        name: &ModelName,
        repository: &Repository,
        commit: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<Found> {
        if self.offline {
            let problem = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids to download it";
            return Err(Error::Network(problem.into()));
        }
        fetch::complete(self, name, repository, commit, watch)
    }

    /// There is nothing to download with.
    #[cfg(not(feature = "hub"))]
    fn complete(
        &self,
        name: &ModelName,
        _: &Repository,
        _: Option<&str>,
        _: Watch<'_>,
    ) -> Result<Found> {
        Err(Error::Network(format!(
            "this program was built without the feature hub and downloads nothing; `hf download \
             {}` does",
            name.id()
        )))
    }
}

impl std::fmt::Debug for Hub {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("offline", &self.offline)
            .field("links", &self.links)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// The name of the model that an adapter's folder is for, if it is none of a
/// folder, with the revision that the adapter names. What else is wrong with the
/// file is found when it is loaded.
///
/// # Errors
/// If the revision cannot be one.
fn base_of(folder: &Path) -> Result<Option<ModelName>> {
    if layout::kind(folder) != Some(layout::Kind::Adapter) {
        return Ok(None);
    }
    let path = folder.join(ADAPTER_CONFIG);
    let config = crate::plain::read(&path).ok();
    let config = config.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let Some(config) = config else {
        return Ok(None);
    };
    let base = config["base_model_name_or_path"].as_str();
    let named = base.and_then(|base| Some((base, ModelName::parse(base)?)));
    let Some((base, name)) = named else {
        return Ok(None);
    };
    if layout::base_folder(folder, base).is_ok() {
        return Ok(None);
    }
    match config["revision"].as_str() {
        Some(revision) if !revision.is_empty() && !base.contains('@') => {
            let with = ModelName::parse(&format!("{base}@{revision}"));
            let problem = || {
                let what = format!("has revision {revision:?}, which is no branch, tag or commit");
                Error::file(path, what)
            };
            with.ok_or_else(problem).map(Some)
        }
        _ => Ok(Some(name)),
    }
}
