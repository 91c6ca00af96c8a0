//! One model's part of a study: looked at before the long work, then done.

use std::collections::{BTreeSet, HashSet};

use super::Subjects;
use super::about::About;
use super::checks::ShuffledModel;
use super::directions::within;
use super::folder::Folder;
use super::log::{Header, Log};
use super::manifest::Item;
use super::run::{How, Part, Study};
use super::settings::Settings;
use super::truth::TrueOnsets;
use super::watch::{Warning, Watch};
use crate::engine::executor::Executor;
use crate::engine::weights::WeightTable;
use crate::listener::{Listener, Parts};
use crate::{Error, Result};

/// What the models of one study have in common.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    /// All utterances of this run.
    pub items: &'a [Item],
    /// True onsets, as far as they are known.
    pub onsets: &'a TrueOnsets,
    pub settings: &'a Settings,
    /// Bytes that a pass may take beside the weights.
    pub memory: usize,
}

/// One model's part of a study. Its log is nobody else's as long as this is
/// there.
pub struct Work {
    name: String,
    log: Log,
    /// Known once the model was looked at.
    header: Option<Header>,
    /// Those that are the model's to do.
    items: Vec<Item>,
    left_out: Option<Warning>,
    /// Whether there are any, whoever does them.
    some: bool,
    /// Whether other workers do some of them.
    shared: bool,
    /// What is kept between utterances that are done one by one.
    kept: Option<(Vec<ShuffledModel>, How)>,
}

/// Gives an executor for weights, on the device that the model has.
pub type Open<'a> = dyn FnMut(&WeightTable) -> Result<Box<dyn Executor>> + 'a;

impl Work {
    /// Takes the place of a model's log in a folder.
    ///
    /// # Errors
    /// If it cannot be written, or somebody writes it.
    pub fn reserve(folder: &Folder, name: &str, part: Part) -> Result<Self> {
        Ok(Self {
            log: folder.reserve(name, part)?,
            name: name.to_owned(),
            header: None,
            items: Vec::new(),
            left_out: None,
            some: false,
            shared: matches!(part, Part::Worker(_)),
            kept: None,
        })
    }

    /// What is not as it should be with the log's place.
    pub fn warning(&self) -> Option<Warning> {
        self.log.warning()
    }

    /// What is said of the utterances that are not the model's to do.
    pub fn left_out(&self) -> Option<&Warning> {
        self.left_out.as_ref()
    }

    /// Looks at the model: what is its to do, and whether that belongs to what
    /// is there already.
    ///
    /// # Errors
    /// If the log or another one in the folder is about something else.
    pub fn look(&mut self, listener: &Listener, folder: &Folder, shared: &Shared) -> Result<()> {
        let (mut items, left_out) = within(shared.items, listener.model())?;
        let header = header(listener, shared)?;
        self.log.go_on(&header)?;
        self.log.check(&items)?;
        (self.some, self.left_out) = (!items.is_empty(), left_out);
        if self.shared {
            items.retain(|item| !folder.has_elsewhere(&self.log, &header.model, item));
        }
        folder.check(&self.log, &header, &items)?;
        self.items = items;
        self.header = Some(header);
        Ok(())
    }

    /// Refuses another model than the one that was looked at: whoever opens it
    /// a second time does not know what happened meanwhile.
    ///
    /// # Errors
    /// If it is another one, or cannot be read.
    pub fn check_same(&self, listener: &Listener, shared: &Shared) -> Result<()> {
        let Some(then) = &self.header else {
            return Ok(());
        };
        match then.differences(&header(listener, shared)?) {
            None => Ok(()),
            Some(differences) => {
                let name = &self.name;
                let problem = format!("{name} was another one when this run began: {differences}");
                Err(Error::Model(problem))
            }
        }
    }

    /// Whether the log has all of the model's utterances.
    pub fn is_done(&self) -> bool {
        self.items.iter().all(|item| self.log.has(item))
    }

    /// Does the model's utterances; returns whether it came to its end.
    ///
    /// # Errors
    /// If the device fails or the log cannot be written. What is wrong with an
    /// utterance is recorded.
    pub fn run(
        &mut self,
        listener: &mut Listener,
        shared: &Shared,
        open: &mut Open,
        watch: &mut Watch,
    ) -> Result<bool> {
        if self.is_done() {
            self.log.cut()?;
            return Ok(true);
        }
        let parts = listener.parts()?;
        let study = study(&parts, shared)?;
        let mut shuffled = study.shuffled_models(&self.items, open)?;
        let (executor, items) = (parts.executor, &self.items);
        study.run(executor, &mut shuffled, items, &mut self.log, watch)
    }

    /// The utterances of a worker that no log had when it was looked at, by their
    /// places among all.
    pub fn open(&self, shared: &Shared) -> Vec<usize> {
        let mine = self.items.iter().filter(|item| !self.log.has(item));
        let mine: HashSet<_> = mine.map(|item| (item.direction(), &item.id)).collect();
        let all = shared.items.iter().enumerate();
        let all = all.filter(|(_, item)| mine.contains(&(item.direction(), &item.id)));
        all.map(|(place, _)| place).collect()
    }

    /// Does one utterance, unless the log has it: whoever handed it out may not
    /// have heard that. Gives why it could not be done, if it could not.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn one(
        &mut self,
        item: &Item,
        listener: &mut Listener,
        shared: &Shared,
        open: &mut Open,
        watch: &mut Watch,
    ) -> Result<Option<String>> {
        if self.log.has(item) {
            return Ok(None);
        }
        let parts = listener.parts()?;
        let study = study(&parts, shared)?;
        let (shuffled, how) = match &mut self.kept {
            Some(kept) => kept,
            none => none.insert((study.shuffled_models(&self.items, open)?, study.how())),
        };
        let outcome = study.one(parts.executor, shuffled, item, how, &mut self.log, watch)?;
        Ok(outcome.and_then(|own| own.error().map(str::to_owned)))
    }
}

fn study<'a>(parts: &Parts<'a>, shared: &Shared<'a>) -> Result<Study<'a>> {
    Ok(Study {
        subjects: Subjects {
            model: parts.model,
            front_end: parts.front_end,
            tokenizer: parts.tokenizer()?,
            onsets: shared.onsets,
            memory: shared.memory,
        },
        settings: shared.settings,
    })
}

/// What a model's log begins with.
fn header(listener: &Listener, shared: &Shared) -> Result<Header> {
    let (model, tokenizer) = (listener.model(), listener.tokenizer()?);
    let mut header = Header::new(&model.name, shared.settings);
    header.revision.clone_from(&model.revision);
    header.about = Some(About::new(model, tokenizer, shared.onsets.fingerprint())?);
    Ok(header)
}

/// Refuses a study in which no model has anything to do.
///
/// # Errors
/// If it is one.
pub fn check_some<'a>(works: impl IntoIterator<Item = &'a Work>, items: &[Item]) -> Result<()> {
    let works: Vec<&Work> = works.into_iter().collect();
    if works.iter().any(|work| work.some) {
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
