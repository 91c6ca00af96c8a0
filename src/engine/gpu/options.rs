//! How a GPU executor works, as opposed to what it computes.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use super::ShaderMode;
use crate::engine::precision::Precision;
use crate::{Error, Result};

/// The variable that asks for checked shaders, to see whether a fault is
/// theirs: `SONOGRAD_SHADERS=checked`, or `trusted`.
const SHADERS: &str = "SONOGRAD_SHADERS";

/// The variable that says where kernels are measured: `SONOGRAD_TUNE=always`,
/// `never`, or `hardware`.
const TUNE: &str = "SONOGRAD_TUNE";

/// Where launches that can be done in several ways are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tune {
    /// On every adapter, software ones included.
    Always,
    /// On real GPUs.
    #[default]
    Hardware,
    /// Nowhere: a rule of thumb decides, and nothing is read or written.
    Never,
    /// Nowhere: this entry point is taken wherever it is one of the ways.
    Only(&'static str),
}

/// How a GPU executor works.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// f64 is refused.
    pub precision: Precision,
    /// Whether every dispatch is timed where the device can, else every stage.
    pub profiling: bool,
    pub shaders: ShaderMode,
    pub tune: Tune,
    /// Folder in which measurements are kept; without one they last as long
    /// as the executor.
    pub cache: Option<PathBuf>,
}

impl GpuOptions {
    /// What the environment asks for; measurements are kept in `sonograd` in
    /// the user's folder for caches.
    ///
    /// # Errors
    /// [`Error::Input`] naming a variable with a value that it does not take.
    pub fn from_environment(precision: Precision, profiling: bool) -> Result<Self> {
        let value = |name| std::env::var(name).unwrap_or_default();
        let folders = etcetera::choose_base_strategy().ok();
        Ok(Self {
            precision,
            profiling,
            shaders: shaders(&value(SHADERS))?,
            tune: tune(&value(TUNE))?,
            cache: folders.map(|folders| folders.cache_dir().join("sonograd")),
        })
    }
}

fn shaders(value: &str) -> Result<ShaderMode> {
    match value {
        "" | "trusted" => Ok(ShaderMode::Trusted),
        "checked" => Ok(ShaderMode::Checked),
        _ => Err(Error::Input(format!(
            "{SHADERS} is '{value}'; it takes trusted or checked"
        ))),
    }
}

fn tune(value: &str) -> Result<Tune> {
    match value {
        "" | "hardware" => Ok(Tune::Hardware),
        "always" => Ok(Tune::Always),
        "never" => Ok(Tune::Never),
        _ => Err(Error::Input(format!(
            "{TUNE} is '{value}'; it takes hardware, always or never"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_take_their_values_and_no_others() {
        assert_eq!(shaders("").unwrap(), ShaderMode::Trusted);
        assert_eq!(shaders("checked").unwrap(), ShaderMode::Checked);
        assert_eq!(tune("").unwrap(), Tune::Hardware);
        assert_eq!(tune("always").unwrap(), Tune::Always);
        assert_eq!(tune("never").unwrap(), Tune::Never);
        let error = shaders("unchecked").unwrap_err().to_string();
        assert!(error.contains("SONOGRAD_SHADERS is 'unchecked'"), "{error}");
        let error = tune("1").unwrap_err().to_string();
        assert!(error.contains("SONOGRAD_TUNE is '1'"), "{error}");
    }
}
