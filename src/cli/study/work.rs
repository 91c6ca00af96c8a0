//! The models of a study: found, looked at one by one, opened again.

use std::path::PathBuf;

use super::super::{ModelArgs, start};
use super::{StudyArgs, watcher};
use crate::listener::Listener;
use crate::study::folder::Folder;
use crate::study::run::{Part, log_name};
use crate::study::work::{Shared, Work};
use crate::{Error, Result};

/// A model and its part of a study.
pub(super) struct ModelWork {
    pub model: ModelArgs,
    pub name: String,
    pub work: Work,
}

impl ModelWork {
    /// Opens the model; how utterances are transcribed is said with each.
    pub fn open(&self) -> Result<Listener> {
        self.model.open(self.model.builder().wanted_later())
    }
}

/// A model with the place of its log.
pub(super) fn reserved(
    model: ModelArgs,
    name: String,
    folder: &Folder,
    part: Part,
) -> Result<ModelWork> {
    let work = Work::reserve(folder, &name, part)?;
    if let Some(warning) = work.warning() {
        say!("warning: {warning}");
    }
    Ok(ModelWork { model, name, work })
}

impl StudyArgs {
    /// What is to be done with each model, in places of their own.
    pub(super) fn works(&self, folder: &Folder) -> Result<Vec<ModelWork>> {
        let found = self.found()?.into_iter();
        let works = found.map(|(model, name)| reserved(model, name, folder, self.shard.into()));
        works.collect()
    }

    /// The models, and the names that they will have.
    pub(super) fn found(&self) -> Result<Vec<(ModelArgs, String)>> {
        let models: Vec<Option<&PathBuf>> = match self.model.is_empty() {
            true => vec![None],
            false => self.model.iter().map(Some).collect(),
        };
        let mut found: Vec<(ModelArgs, String)> = Vec::new();
        for model in models {
            let model = ModelArgs {
                model: model.cloned(),
                executor: self.executor.clone(),
            };
            let name = model.find()?;
            let log = log_name(&name, Part::Whole);
            if found
                .iter()
                .any(|(_, other)| log_name(other, Part::Whole) == log)
            {
                let problem = format!("two models have the name {name}; rename one of the folders");
                return Err(Error::Input(problem));
            }
            found.push((model, name));
        }
        Ok(found)
    }

    /// Does one model's utterances; returns whether it came to its end. Whether
    /// the model was opened `again` since it was looked at.
    pub(super) fn study(
        &self,
        own: &mut ModelWork,
        mut listener: Listener,
        shared: &Shared,
        again: bool,
    ) -> Result<bool> {
        let ModelWork { name, work, .. } = own;
        if !work.is_done() {
            // Other models had their turn since it was looked at.
            if again {
                work.check_same(&listener, shared)?;
            }
            start(&mut listener)?;
        }
        let mut open = |weights: &_| self.executor.open(weights, false);
        let becomes = "the utterance is left for the next run";
        let mut watch = watcher(format!("{name}: "), "error", becomes);
        work.run(&mut listener, shared, &mut open, &mut watch)
    }
}
