//! One model's part of a study: looked at before the long work, then done.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::{ModelArgs, start};
use super::{StudyArgs, watcher};
use crate::listener::Listener;
use crate::study::Subjects;
use crate::study::about::About;
use crate::study::directions::within;
use crate::study::folder::Folder;
use crate::study::log::{Header, Log};
use crate::study::manifest::Item;
use crate::study::run::{Study, log_name};
use crate::study::truth::TrueOnsets;
use crate::study::watch::Warning;
use crate::{Error, Result};

/// One model's part of a study.
pub(super) struct Work {
    pub model: ModelArgs,
    name: String,
    log: Log,
    /// Known once the model was looked at.
    header: Option<Header>,
    /// Those that are the model's to do.
    items: Vec<Item>,
    /// What is said of the others.
    pub left_out: Option<Warning>,
}

/// Refuses a study in which no model has anything to do.
pub(super) fn nothing_to_do(works: &[Work], items: &[Item]) -> Result<()> {
    if works.iter().any(|work| !work.items.is_empty()) {
        return Ok(());
    }
    let names: Vec<&str> = works.iter().map(|work| &*work.name).collect();
    let directions: BTreeSet<String> = items.iter().map(Item::direction).collect();
    let directions = Vec::from_iter(directions).join(", ");
    let problem = format!(
        "there is nothing to do: {} was made for none of the utterances' directions ({directions}); \
         a manifest gives languages as src_lang and tgt_lang, or as lang, source_lang and \
         target_lang, where - is one that is not given",
        names.join(" and ")
    );
    Err(Error::Input(problem))
}

impl StudyArgs {
    /// What is to be done with each model, in places of their own.
    pub(super) fn works(&self, folder: &Folder) -> Result<Vec<Work>> {
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
            let log = log_name(&name, None);
            if found.iter().any(|(_, other)| log_name(other, None) == log) {
                let problem = format!("two models have the name {name}; rename one of the folders");
                return Err(Error::Input(problem));
            }
            found.push((model, name));
        }
        let works = found.into_iter().map(|(model, name)| {
            let log = folder.reserve(&name, self.shard)?;
            if let Some(warning) = log.warning() {
                say!("warning: {warning}");
            }
            Ok(Work {
                model,
                name,
                log,
                header: None,
                items: Vec::new(),
                left_out: None,
            })
        });
        works.collect()
    }

    /// Looks at a model: what is its to do, and whether that belongs to what is
    /// there already.
    pub(super) fn look(
        &self,
        work: &mut Work,
        listener: &Listener,
        folder: &Folder,
        (items, onsets): (&[Item], &TrueOnsets),
    ) -> Result<()> {
        let model = listener.model();
        let (items, left_out) = within(items, model)?;
        let header = self.header(listener, onsets)?;
        work.log.go_on(&header)?;
        work.log.check(&items)?;
        folder.check(&work.log, &header, &items)?;
        work.items = items;
        work.left_out = left_out;
        work.header = Some(header);
        Ok(())
    }

    /// What a model's log begins with.
    fn header(&self, listener: &Listener, onsets: &TrueOnsets) -> Result<Header> {
        let (model, tokenizer) = (listener.model(), listener.tokenizer()?);
        let mut header = Header::new(&model.name, &self.settings(onsets));
        header.revision.clone_from(&model.revision);
        header.about = Some(About::new(model, tokenizer, onsets.fingerprint())?);
        Ok(header)
    }

    /// Does one model's utterances; returns whether it came to its end. Whether
    /// the model was opened `again` since it was looked at.
    pub(super) fn study(
        &self,
        work: &mut Work,
        mut listener: Listener,
        onsets: &TrueOnsets,
        again: bool,
    ) -> Result<bool> {
        let Work {
            name,
            log,
            header,
            items,
            ..
        } = work;
        if items.iter().all(|item| log.has(item)) {
            log.cut()?;
            return Ok(true);
        }
        // Other models had their turn since it was looked at.
        if let Some(then) = header.as_ref().filter(|_| again)
            && let Some(differences) = then.differences(&self.header(&listener, onsets)?)
        {
            let problem = format!("{name} was another one when this run began: {differences}");
            return Err(Error::Model(problem));
        }
        let settings = self.settings(onsets);
        start(&mut listener)?;
        let parts = listener.parts()?;
        let study = Study {
            subjects: Subjects {
                model: parts.model,
                front_end: parts.front_end,
                tokenizer: parts.tokenizer()?,
                onsets,
                memory: (self.memory as usize) << 20,
            },
            settings: &settings,
        };
        let mut open = |weights: &_| self.executor.open(weights, false);
        let mut shuffled = study.shuffled_models(items, &mut open)?;
        let becomes = "the utterance is left for the next run";
        let mut watch = watcher(format!("{name}: "), "error", becomes);
        study.run(parts.executor, &mut shuffled, items, log, &mut watch)
    }
}
