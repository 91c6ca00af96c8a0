//! Which of several launches a device takes: as measured on it, now or by an
//! earlier run, or by a rule of thumb.
//!
//! Different tiles add up in different orders, so what is taken is decided
//! once: a measurement stays as it is for this adapter, driver, shader and
//! version of the program, and runs that follow it give the same bits.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;
use std::io::Write;
use std::path::PathBuf;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};

use super::ShaderMode;
use super::adapter::{AdapterInfo, Backend};
use super::launch::{Choice, Launch};
use super::options::{GpuOptions, Tune};
use super::shaders::Shader;

/// Sizes from which on products are of one class: by then they are many tiles
/// and many chunks of inputs, and measuring larger ones would take long.
const MOST_ROWS: usize = 2048;
const MOST_INPUTS: usize = 1024;
const MOST_OUTPUTS: usize = 2048;

/// Inputs and outputs up to which products are of one class.
const FEWEST: usize = 16;

/// Products that are taken to be fastest with one and the same entry point:
/// sizes up to the next power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// Whether the weight is (inputs, outputs).
    pub in_out: bool,
    /// Whether columns in memory come in fours.
    pub quads: bool,
}

impl Class {
    /// The class of a product of these sizes.
    pub fn new(rows: usize, inputs: usize, outputs: usize, in_out: bool, quads: bool) -> Self {
        let up = |size: usize, most: usize| size.min(most).next_power_of_two();
        Self {
            rows: up(rows, MOST_ROWS),
            inputs: up(inputs.max(FEWEST), MOST_INPUTS),
            outputs: up(outputs.max(FEWEST), MOST_OUTPUTS),
            in_out,
            quads,
        }
    }
}

/// `matmul 512x256x1024 out-in by four`: its key in the file.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rows,
            inputs,
            outputs,
            ..
        } = self;
        let layout = if self.in_out { "in-out" } else { "out-in" };
        let quads = if self.quads { " by four" } else { "" };
        write!(f, "matmul {rows}x{inputs}x{outputs} {layout}{quads}")
    }
}

/// What measurements hold for; any difference makes them worthless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    adapter: String,
    backend: String,
    driver: String,
    version: String,
    /// Hash of the shader's text with all that it imports.
    shader: String,
    checked: bool,
}

/// The file of one identity.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    identity: Identity,
    /// Entry points by class.
    entries: BTreeMap<String, String>,
}

/// What is known of a device.
#[derive(Debug)]
pub struct Tuning {
    tune: Tune,
    identity: Identity,
    /// Where measurements are kept.
    file: Option<PathBuf>,
    /// Entry points by class.
    entries: BTreeMap<String, String>,
}

fn hash(bytes: &[u8]) -> String {
    let mut hasher = FnvHasher::default();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

impl Tuning {
    /// What earlier runs have measured on this adapter, where `options` let it
    /// be used.
    pub fn new(info: &AdapterInfo, options: &GpuOptions) -> Self {
        let tune = match options.tune {
            Tune::Hardware if info.is_software() => Tune::Never,
            tune => tune,
        };
        let backend: Backend = info.backend;
        let identity = Identity {
            adapter: info.name.clone(),
            backend: backend.to_string(),
            driver: info.driver.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            shader: hash(Shader::load("matmul").source.as_bytes()),
            checked: options.shaders == ShaderMode::Checked,
        };
        let named = serde_json::to_string(&identity).unwrap_or_default();
        let name = format!("kernels-{}.json", hash(named.as_bytes()));
        let mut tuning = Self {
            tune,
            identity,
            file: options.cache.as_ref().map(|folder| folder.join(name)),
            entries: BTreeMap::new(),
        };
        if tuning.measures() {
            tuning.entries = tuning.read();
        }
        tuning
    }

    fn measures(&self) -> bool {
        matches!(self.tune, Tune::Always | Tune::Hardware)
    }

    /// From now on this entry point, wherever it is one of the ways.
    pub(super) fn only(&mut self, entry: &'static str) {
        self.tune = Tune::Only(entry);
    }

    /// The launch that the device takes.
    pub fn pick<'a>(&self, choice: &'a Choice) -> &'a Launch {
        self.known(choice).unwrap_or(&choice.launches[0])
    }

    fn known<'a>(&self, choice: &'a Choice) -> Option<&'a Launch> {
        let entry = match self.tune {
            Tune::Only(entry) => entry,
            _ => self.entries.get(&choice.class?.to_string())?,
        };
        choice.launches.iter().find(|launch| launch.entry == entry)
    }

    /// The class to measure before the choice is made, if there is one.
    pub fn unmeasured(&self, choice: &Choice) -> Option<Class> {
        match self.measures() && self.known(choice).is_none() {
            true => choice.class,
            false => None,
        }
    }

    /// Takes what other executors and runs have measured since this one began;
    /// what it has used already stays.
    pub(super) fn reread(&mut self) {
        for (class, entry) in self.read() {
            self.entries.entry(class).or_insert(entry);
        }
    }

    /// Entry points by class, as measured or read.
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.entries
    }

    /// Takes measurements, and keeps them for later runs if that is possible.
    pub fn learn(&mut self, measured: impl IntoIterator<Item = (Class, &'static str)>) {
        let named = measured
            .into_iter()
            .map(|(class, entry)| (class.to_string(), entry.to_owned()));
        // Other classes may have been measured meanwhile.
        self.reread();
        self.entries.extend(named);
        // A cache that cannot be written is no failure.
        let _ = self.write();
    }

    /// Entry points in the file; none where it is absent, broken or another
    /// identity's.
    fn read(&self) -> BTreeMap<String, String> {
        let text = self
            .file
            .as_ref()
            .and_then(|path| std::fs::read(path).ok())
            .unwrap_or_default();
        match serde_json::from_slice::<Record>(&text) {
            Ok(record) if record.identity == self.identity => record.entries,
            _ => BTreeMap::new(),
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder)?;
        let record = Record {
            identity: self.identity.clone(),
            entries: self.entries.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&record)?;
        text.push(b'\n');
        // Beside its place, then renamed: nobody reads half of it.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&text)?;
        file.persist(path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two_within_bounds() {
        let class = |rows, inputs, outputs| Class::new(rows, inputs, outputs, false, true);
        assert_eq!(class(300, 144, 432), class(512, 256, 512));
        assert_ne!(class(300, 144, 432), class(200, 144, 432));
        assert_eq!(class(1 << 20, 1 << 20, 1 << 20), class(2048, 1024, 2048));
        assert_eq!(class(1, 1, 1), class(1, 16, 16));
        assert_eq!(
            class(3, 80, 144).to_string(),
            "matmul 4x128x256 out-in by four"
        );
    }
}
