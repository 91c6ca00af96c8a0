//! Which of several launches a device takes: as measured on it, now or by an
//! earlier run, or by a rule of thumb.
//!
//! Different tiles add up in different orders, so what is taken is decided
//! once: a measurement stays as it is for this adapter, driver, shader and
//! version of the program, and runs that follow it give the same bits.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};

use super::ShaderMode;
use super::adapter::{AdapterInfo, Backend};
use super::extras::Extras;
use super::options::{GpuOptions, Tune};
use super::shaders::{SHARED, SOURCES};
use super::variants::{Choice, Class, Variant};

/// What measurements hold for; any difference makes them worthless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    adapter: String,
    backend: String,
    driver: String,
    version: String,
    /// Hash of all shaders' texts.
    shaders: String,
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

fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = FnvHasher::default();
    for part in parts {
        hasher.write(part);
    }
    format!("{:016x}", hasher.finish())
}

/// Any change of a shader may change which is the fastest. Their texts are
/// taken as they stand in the files: nothing is parsed for it.
fn hash_of_shaders() -> String {
    let texts = SOURCES.iter().chain(SHARED);
    hash(texts.flat_map(|(stem, text)| [stem.as_bytes(), text.as_bytes()]))
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
            shaders: hash_of_shaders(),
            checked: options.shaders == ShaderMode::Checked,
        };
        let named = serde_json::to_string(&identity).unwrap_or_default();
        let name = format!("kernels-{}.json", hash([named.as_bytes()]));
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

    /// The variant that a device with these extras takes.
    pub fn pick<'a>(&self, choice: &'a Choice, extras: Extras) -> &'a Variant {
        let known = self.known(choice, extras);
        known.unwrap_or(&choice.variants[0])
    }

    fn known<'a>(&self, choice: &'a Choice, extras: Extras) -> Option<&'a Variant> {
        let entry = match self.tune {
            Tune::Only(entry) => entry,
            _ => self.entries.get(&choice.class.as_ref()?.key())?,
        };
        let mut variants = choice.equals_on(extras);
        variants.find(|variant| variant.launch.entry == entry)
    }

    /// The class to measure before the choice is made, if there is one.
    pub fn unmeasured<'a>(&self, choice: &'a Choice, extras: Extras) -> Option<&'a Arc<dyn Class>> {
        let unknown = self.measures() && self.known(choice, extras).is_none();
        choice.class.as_ref().filter(|_| unknown)
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
    pub fn learn(&mut self, measured: impl IntoIterator<Item = (String, &'static str)>) {
        let named = measured
            .into_iter()
            .map(|(class, entry)| (class, entry.to_owned()));
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
