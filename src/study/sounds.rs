//! The sounds of a manifest: read, and known again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::manifest::Item;
use crate::audio::{Parted, Sound};
use crate::fingerprint::Fingerprint;
use crate::{Error, Result};

/// Reads the sounds of utterances. The last file of which a part was wanted is
/// kept, since lists have the parts of a recording one after the other.
#[derive(Default)]
pub(super) struct Sounds {
    last: Option<(PathBuf, Parted)>,
}

impl Sounds {
    /// The sound of an utterance.
    ///
    /// # Errors
    /// If it cannot be read, or there is no such part; the message names the
    /// line of the manifest then.
    pub fn read(&mut self, item: &Item) -> Result<Sound> {
        let Some(part) = item.part else {
            return Sound::read(&item.audio);
        };
        let file = match self.last.take() {
            Some((path, file)) if path == item.audio => file,
            _ => Parted::read(&item.audio)?,
        };
        let sound = file.part(part).map_err(|problem| {
            let problem = format!("{problem} (line {} of the manifest)", item.line);
            Error::file(&item.audio, problem)
        });
        self.last = Some((item.audio.clone(), file));
        sound
    }
}

/// What an utterance is about: its sound, and what should be written of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Of the sound's file, and of the part if it is one; absent where the file
    /// could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<Fingerprint>,
    pub text: Fingerprint,
}

/// Fingerprints of sound files, each of which is read once.
#[derive(Default)]
pub(super) struct Files {
    known: HashMap<PathBuf, Option<Fingerprint>>,
}

impl Files {
    /// Reads the files of some utterances, on all threads.
    pub fn read<'a>(items: impl Iterator<Item = &'a Item>) -> Self {
        let paths: std::collections::BTreeSet<&Path> = items.map(|item| &*item.audio).collect();
        let paths = paths.into_par_iter();
        let known = paths.map(|path| (path.to_owned(), Fingerprint::of_file(path).ok()));
        Self {
            known: known.collect(),
        }
    }

    /// What an utterance is about.
    pub fn given(&mut self, item: &Item) -> Given {
        let known = self.known.entry(item.audio.clone());
        let file = known.or_insert_with(|| Fingerprint::of_file(&item.audio).ok());
        let sound = file.map(|file| match item.part {
            None => file,
            Some(part) => Fingerprint::of(format!("{file} {part}").as_bytes()),
        });
        Given {
            sound,
            text: Fingerprint::of(item.text.as_bytes()),
        }
    }
}
