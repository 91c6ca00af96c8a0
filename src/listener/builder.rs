//! How a listener is made.

use std::path::PathBuf;
use std::str::FromStr;

use super::Listener;
use super::ears::Ears;
use super::heard::Fingerprint;
use super::machine::{Machine, Start};
use crate::engine::device::DeviceChoice;
use crate::engine::precision::Precision;
use crate::generate::Wanted;
use crate::model::Model;
use crate::model::files::ModelFiles;
use crate::{Error, Result};

/// Chooses model and device; [`open`](Self::open) loads the one and opens the
/// other.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is opened until `open`"]
pub struct Builder {
    model: Option<PathBuf>,
    device: Option<String>,
    start: Start,
    wanted: Wanted,
    without_tokenizer: bool,
    start_later: bool,
}

impl Builder {
    /// A model's folder, as Hugging Face saves it. Without it the listener has
    /// the small English model that is part of the program: a demonstration.
    pub fn model(mut self, folder: impl Into<PathBuf>) -> Self {
        self.model = Some(folder.into());
        self
    }

    /// Where to compute: `auto` (a real GPU or else the processor), `cpu`,
    /// `gpu`, or part of an adapter's name. `auto` if it is not said.
    pub fn device(mut self, choice: impl Into<String>) -> Self {
        self.device = Some(choice.into());
        self
    }

    /// In which numbers to compute; 32-bit floats if it is not said.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.start.precision = precision;
        self
    }

    /// Whether kernels are timed, for [`Listener::profile`].
    pub fn profiling(mut self, profiling: bool) -> Self {
        self.start.profiling = profiling;
        self
    }

    /// How sounds are transcribed: language, task, beams, times, fallback.
    pub fn wanted(mut self, wanted: Wanted) -> Self {
        self.wanted = wanted;
        self
    }

    /// Leaves the tokenizer out: for models without one, of which neither
    /// texts nor words are wanted.
    pub fn without_tokenizer(mut self) -> Self {
        self.without_tokenizer = true;
        self
    }

    /// Lets the device be opened when it is first needed, or by
    /// [`Listener::start`], so that faults of inputs are found before.
    pub fn start_later(mut self) -> Self {
        self.start_later = true;
        self
    }

    /// Loads the model and opens the device.
    ///
    /// # Errors
    /// If the folder is no whole model, the model has not what is wanted, or
    /// the device is not there or does not fit.
    pub fn open(self) -> Result<Listener> {
        let mut start = self.start;
        if let Some(choice) = &self.device {
            start.device = DeviceChoice::from_str(choice)
                .map_err(|_| Error::Input("the device's name is empty".into()))?;
        }
        let files = match &self.model {
            Some(folder) => ModelFiles::folder(folder)?,
            None => ModelFiles::default_model(),
        };
        let model = Model::load(files)?;
        let ears = Ears::new(model.front_end()?);
        let tokenizer = match self.without_tokenizer {
            true => None,
            false => Some(model.tokenizer()?),
        };
        let mut listener = Listener {
            fingerprint: Fingerprint::of(&model),
            ears,
            model,
            tokenizer,
            wanted: self.wanted,
            machine: Machine::new(start),
        };
        if listener.tokenizer.is_some() {
            // What the model has not is refused now, not with the first sound.
            listener.generation(&listener.wanted)?;
        }
        if !self.start_later {
            listener.start()?;
        }
        Ok(listener)
    }
}
