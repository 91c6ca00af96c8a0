//! How a listener is made.

use std::path::PathBuf;
use std::str::FromStr;

use super::Listener;
use super::ears::Ears;
use super::heard::Fingerprint;
use super::machine::{Machine, Start};
use crate::engine::device::DeviceChoice;
use crate::engine::precision::Precision;
use crate::gauge::Gauge;
use crate::generate::Wanted;
use crate::hub::{self, Hub};
use crate::model::Model;
use crate::model::files::ModelFiles;
use crate::{Error, Result};

/// Chooses model and device; [`open`](Self::open) loads the one and opens the
/// other.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is opened until `open`"]
pub struct Builder {
    model: Option<PathBuf>,
    hub: Option<Hub>,
    device: Option<String>,
    start: Start,
    wanted: Wanted,
    loading: Gauge,
    without_tokenizer: bool,
    wanted_later: bool,
    start_later: bool,
}

impl Builder {
    /// A model's folder, as Hugging Face saves it, or its name on the hub:
    /// `OWNER/NAME` or `OWNER/NAME@REVISION`. A folder that is there goes
    /// before a name; a name is looked for in Hugging Face's cache and
    /// downloaded into it, if the cargo feature `hub` is on. Without it the
    /// listener has the small English model that is part of the program: a
    /// demonstration.
    pub fn model(mut self, folder_or_name: impl Into<PathBuf>) -> Self {
        self.model = Some(folder_or_name.into());
        self
    }

    /// Where a name is looked for, if not where the environment says.
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = Some(hub);
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

    /// Tells of the weights that are read while the listener is opened.
    pub fn loading(mut self, gauge: &Gauge) -> Self {
        self.loading = gauge.clone();
        self
    }

    /// Leaves the tokenizer out: for models without one, of which neither
    /// texts nor words are wanted.
    pub fn without_tokenizer(mut self) -> Self {
        self.without_tokenizer = true;
        self
    }

    /// Leaves what is wanted to be checked with each sound: for those who are
    /// told for each how it is transcribed, such as its language.
    pub fn wanted_later(mut self) -> Self {
        self.wanted_later = true;
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
    /// If the model is not found, not whole or cannot be downloaded, it has not
    /// what is wanted, or the device is not there or does not fit.
    pub fn open(self) -> Result<Listener> {
        self.open_watched(&mut |_| true)
    }

    /// The same; `watch` is told of downloads, and ends them by returning
    /// false.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and [`Error::Stopped`].
    pub fn open_watched(self, watch: hub::Watch<'_>) -> Result<Listener> {
        let mut start = self.start;
        if let Some(choice) = &self.device {
            start.device = DeviceChoice::from_str(choice)
                .map_err(|_| Error::Input("the device's name is empty".into()))?;
        }
        let model = match &self.model {
            Some(place) => {
                let hub = self.hub.unwrap_or_else(Hub::from_environment);
                Model::open_seen(hub.find(place, watch)?, &self.loading)?
            }
            None => Model::load(ModelFiles::default_model())?,
        };
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
            foreseen: None,
            encoded: None,
        };
        if listener.tokenizer.is_some() && !self.wanted_later {
            // What the model has not is refused now, not with the first sound.
            listener.generation(&listener.wanted)?;
        }
        if !self.start_later {
            listener.start()?;
        }
        Ok(listener)
    }
}
