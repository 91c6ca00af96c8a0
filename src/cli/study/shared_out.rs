//! A study whose utterances somebody else hands out, one by one: the Python
//! package does so over a cluster. The words are those behind `sonograd`.

use std::ffi::OsString;

use clap::Parser;

use super::super::{Cli, Command, Outcome, start, usage, warn_of};
use super::work::{ModelWork, reserved};
use super::{Prepared, StudyArgs, finish};
use crate::engine::device::DeviceChoice;
use crate::listener::Listener;
use crate::report;
use crate::study::run::Part;
use crate::study::watch::Event;
use crate::study::work::check_some;
use crate::{Error, Result};

/// Says a line on standard error, with what is not safe to print escaped.
pub fn say(text: &str) {
    say!("{text}");
}

/// Whoever hands out has one: it opens no model.
pub struct Whole {
    args: Box<StudyArgs>,
    prepared: Prepared,
    /// By model.
    names: Vec<String>,
}

impl Whole {
    /// Reads a command line and looks at all that can be looked at without a
    /// model.
    ///
    /// # Errors
    /// As for the program, in one line.
    pub fn new(words: &[OsString]) -> Result<Self> {
        let (args, prepared) = prepared(words)?;
        let found = args.found()?.into_iter();
        let names: Vec<String> = found.map(|(_, name)| name).collect();
        for name in &names {
            prepared.folder.check_given(name, &prepared.items)?;
        }
        Ok(Self {
            args,
            prepared,
            names,
        })
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What `--device` says.
    pub fn device(&self) -> &DeviceChoice {
        &self.args.executor.device
    }

    /// Direction and id of all utterances.
    pub fn utterances(&self) -> Vec<(String, &str)> {
        let items = self.prepared.items.iter();
        items.map(|item| (item.direction(), &*item.id)).collect()
    }

    /// Makes and prints the tables; returns whether no utterance failed.
    ///
    /// # Errors
    /// As for the program.
    pub fn print_tables(&self) -> Result<bool> {
        let out = self.prepared.folder.path();
        let outcome = finish(&self.args, &[out.to_owned()], out)?;
        Ok(outcome == Outcome::Done)
    }

    /// Makes the tables; `tables.json`'s text and the conclusion.
    ///
    /// # Errors
    /// If the logs do not belong together, or a file cannot be written.
    pub fn tables(&self) -> Result<(String, String)> {
        let out = self.prepared.folder.path();
        let tables = report::study::make(&[out.to_owned()], out)?;
        Ok((tables.json()?, tables.conclusion()))
    }
}

/// Owns a model, a device and a log.
pub struct Worker {
    prepared: Prepared,
    own: ModelWork,
    listener: Listener,
}

impl Worker {
    /// Opens the model at a place among the command line's for the worker of a
    /// number, from 1. It may compute on the GPU at `gpu`, its place on the PCI
    /// bus; on any if that is empty, on none without.
    ///
    /// # Errors
    /// If the model or the device cannot be opened, or what a log of the folder
    /// is about differs.
    pub fn open(
        words: &[OsString],
        model: usize,
        number: usize,
        gpu: Option<&str>,
    ) -> Result<Self> {
        let (mut args, prepared) = prepared(words)?;
        let device = &mut args.executor.device;
        *device = match (&*device, gpu) {
            (DeviceChoice::Auto, None) => DeviceChoice::Cpu,
            (DeviceChoice::Auto | DeviceChoice::Gpu, Some(bus)) if !bus.is_empty() => {
                DeviceChoice::Named(bus.to_owned())
            }
            (own, _) => own.clone(),
        };
        let mut found = args.found()?;
        let several = found.len() > 1;
        if model >= found.len() {
            return Err(Error::Input(format!("there is no model {model}")));
        }
        let (model, name) = found.swap_remove(model);
        let mut own = reserved(model, name, &prepared.folder, Part::Worker(number))?;
        let mut listener = own.open()?;
        own.work
            .look(&listener, &prepared.folder, &prepared.shared())?;
        if !several {
            check_some([&own.work], &prepared.items)?;
        }
        start(&mut listener)?;
        Ok(Self {
            prepared,
            own,
            listener,
        })
    }

    /// Places of the utterances that no log has.
    pub fn todo(&self) -> Vec<usize> {
        self.own.work.open(&self.prepared.shared())
    }

    /// What is said of the utterances that are not the model's to do.
    pub fn left_out(&self) -> Option<String> {
        self.own.work.left_out().map(ToString::to_string)
    }

    /// Does the utterance at a place; when this returns it is in the log. Gives
    /// why it could not be done, if it could not.
    ///
    /// # Errors
    /// If the device fails or the log cannot be written.
    pub fn take(&mut self, place: usize) -> Result<Option<String>> {
        let shared = self.prepared.shared();
        let Some(item) = shared.items.get(place) else {
            return Err(Error::Input(format!("there is no utterance {place}")));
        };
        let executor = &self.own.model.executor;
        let mut open = |weights: &_| executor.open(weights, false);
        let mut watch = |event: Event| {
            if let Event::Sound { item, warning } = event {
                warn_of(&item.audio, [warning]);
            }
            true
        };
        let work = &mut self.own.work;
        work.one(item, &mut self.listener, &shared, &mut open, &mut watch)
    }
}

fn prepared(words: &[OsString]) -> Result<(Box<StudyArgs>, Prepared)> {
    let name = OsString::from("sonograd");
    let cli = Cli::try_parse_from(std::iter::once(&name).chain(words));
    let cli = cli.map_err(|message| {
        let line = usage::line(&message, "study");
        Error::Input(line.strip_prefix("error: ").unwrap_or(&line).to_owned())
    })?;
    match cli.command {
        Command::Study(args) => match &args.out {
            Some(out) => {
                let prepared = Prepared::new(&args, out)?;
                Ok((args, prepared))
            }
            None => Err(Error::Input(
                "tables are made without a cluster: sonograd study --tables".into(),
            )),
        },
        _ => Err(Error::Input(
            "study is the one command for a cluster".into(),
        )),
    }
}
