//! Completes a model in the cache from the hub.

use std::fs;
use std::io::Write;

use super::cache::Repository;
use super::choice::{self, Wanted};
use super::client::{Client, is_network};
use super::layout::Kind;
use super::{Found, Hub, ModelName, Source, Watch, download, layout};
use crate::{Error, Result};

/// What says to backup programs that a folder is a cache (bford.info/cachedir).
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n";

/// Downloads what a model lacks: of the commit that is here, or of the one
/// that the hub has for the revision. The revision is noted when all is here.
///
/// # Errors
/// If the hub cannot be reached or refuses, the model has no weights, a file
/// cannot be written, or `watch` ended it.
pub(super) fn complete(
    hub: &Hub,
    name: &ModelName,
    repository: &Repository,
    commit: Option<&str>,
    watch: Watch<'_>,
) -> Result<Found> {
    let client = Client::new(hub, name)?;
    let listing = match commit.filter(|own| *own != name.revision()) {
        None => client.listing(name.revision())?,
        Some(commit) => match client.listing(commit) {
            // The hub has it no more, as after a rewritten history.
            Err(problem) if !is_network(&problem) => client.listing(name.revision())?,
            listing => listing?,
        },
    };
    let commit = &*listing.commit;
    let folder = repository.snapshot(commit);
    let model = name.id();
    let wanted = Wanted::of(&listing.files);
    tag(hub);
    let mut fetch = |file: &str| {
        if folder.join(file).is_file() {
            return Ok(());
        }
        let wanted = download::Wanted {
            client: &client,
            repository,
            model: &model,
            commit,
            file,
        };
        wanted.fetch(watch)
    };
    for file in wanted.settings {
        fetch(file)?;
    }
    if wanted.weights.or(wanted.adapter).is_none() {
        let names = Wanted::no_weights();
        return Err(Error::Input(format!("{model} has none of {names}")));
    }
    // A model's weights that are here, of whatever form, are enough.
    let enough = match layout::kind(&folder) {
        Some(Kind::Whole) => true,
        Some(Kind::CTranslate2) => wanted.adapter.is_none(),
        Some(Kind::Adapter) | None => false,
    };
    if let Some(file) = wanted.weights
        && !enough
    {
        fetch(file)?;
    }
    if let Some((file, index)) = choice::index_here(&folder) {
        let shards = layout::shards(&index);
        for shard in shards.map_err(|problem| Error::file(folder.join(file), problem))? {
            fetch(&shard)?;
        }
    }
    if let Some(file) = wanted.adapter
        && !layout::has_adapter(&folder)
    {
        fetch(file)?;
    }
    let absent = repository.absent(commit);
    for file in wanted.absent {
        if !absent.has_not(file) {
            repository.note_absent(commit, file);
        }
    }
    // A cache that is only read is right as it is.
    if let Err(problem) = repository.note_commit(name.revision(), commit)
        && repository.commit(name.revision()).is_none()
    {
        return Err(problem);
    }
    Ok(Found {
        folder,
        base: None,
        source: Some(Source {
            name: model,
            revision: commit.to_owned(),
        }),
    })
}

/// Marks the cache as one, if that is not done.
fn tag(hub: &Hub) {
    let place = hub.cache.join("CACHEDIR.TAG");
    if fs::create_dir_all(&hub.cache).is_ok()
        && let Ok(mut file) = fs::File::create_new(place)
    {
        let _ = file.write_all(TAG.as_bytes());
    }
}
