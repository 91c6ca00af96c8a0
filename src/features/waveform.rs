//! The samples of a sound as they are, or brought to mean 0 and variance 1: what
//! models hear that begin with the waveform.
//!
//! As transformers' Wav2Vec2FeatureExtractor computes it. Each sample is a frame of
//! one bin, (S, 1).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Features, check_common, check_finite, typed};
use crate::audio::Waveform;
use crate::error::Problem;
use crate::{Error, Result};

/// What is added to a variance before it divides.
const EPSILON: f64 = 1e-7;

/// The settings of a [`RawWaveform`], named as in `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaveformConfig {
    /// Whether a sound is brought to mean 0 and variance 1.
    pub do_normalize: bool,
}

impl Default for WaveformConfig {
    fn default() -> Self {
        Self { do_normalize: true }
    }
}

impl WaveformConfig {
    /// The settings in a `preprocessor_config.json`, or what is wrong there.
    pub(super) fn from_json(json: Value) -> std::result::Result<Self, Problem> {
        check_common(&json)?;
        if let Some(size) = json.get("feature_size")
            && size.as_f64() != Some(1.0)
        {
            return Err(format!("feature_size is {size}; 1 is supported").into());
        }
        let own = json.get("do_normalize").cloned();
        let own = own.map(|value| ("do_normalize".to_owned(), value));
        typed(Value::Object(own.into_iter().collect()))
    }
}

/// The waveform, ready to be heard.
#[derive(Clone, Debug)]
pub struct RawWaveform {
    config: WaveformConfig,
}

impl Default for RawWaveform {
    /// As Moonshine's are published: samples as they are.
    fn default() -> Self {
        Self::new(WaveformConfig {
            do_normalize: false,
        })
    }
}

impl RawWaveform {
    /// With these settings.
    pub fn new(config: WaveformConfig) -> Self {
        Self { config }
    }

    /// The settings.
    pub fn config(&self) -> &WaveformConfig {
        &self.config
    }

    /// The features (S, 1) of a sound of S samples.
    ///
    /// # Errors
    /// If there are no samples, or one is not finite.
    pub fn features(&self, waveform: &Waveform) -> Result<Features> {
        let samples = &waveform.samples;
        check_finite(samples)?;
        if samples.is_empty() {
            return Err(Error::Input("there are no samples".into()));
        }
        let data = match self.config.do_normalize {
            true => normalised(samples),
            false => samples.clone(),
        };
        Features::new(data, samples.len(), 1)
    }
}

fn normalised(samples: &[f32]) -> Vec<f32> {
    let count = samples.len() as f64;
    let all = || samples.iter().map(|&x| f64::from(x));
    let mean = all().sum::<f64>() / count;
    let variance = all().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let deviation = (variance + EPSILON).sqrt();
    all().map(|x| ((x - mean) / deviation) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{FrontEnd, Kind};
    use super::*;

    fn heard(json: &str, samples: &[f32]) -> Vec<f32> {
        let front_end = FrontEnd::of_family("p.json", json.as_bytes(), Kind::Waveform).unwrap();
        let waveform = Waveform {
            samples: samples.to_vec(),
        };
        let features = front_end.features(&waveform).unwrap();
        assert_eq!((features.frames, features.bins), (samples.len(), 1));
        features.data
    }

    #[test]
    fn samples_stay_or_are_brought_to_unit_variance() {
        let samples = [0.5, -0.25, 0.0, 0.75];
        assert_eq!(heard(r#"{"do_normalize": false}"#, &samples), samples);
        // Mean 0.25, variance 0.15625.
        let deviation = (0.15625f64 + 1e-7).sqrt();
        let right = samples.map(|x| ((f64::from(x) - 0.25) / deviation) as f32);
        assert_eq!(heard("{}", &samples), right);
        // Silence stays silence.
        assert_eq!(heard("{}", &[0.0; 3]), [0.0; 3]);
    }

    #[test]
    fn power_is_that_of_ten_milliseconds() {
        let front_end = FrontEnd::Waveform(RawWaveform::default());
        let waveform = Waveform {
            samples: vec![0.5; 321],
        };
        assert_eq!(front_end.features(&waveform).unwrap().power, [0.25; 3]);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (json, words) in [
            (r#"{"feature_size": 2}"#, "feature_size is 2; 1"),
            (r#"{"do_normalize": 1}"#, "do_normalize is 1"),
            (r#"{"sampling_rate": 8000}"#, "sampling_rate is 8000"),
        ] {
            let read = FrontEnd::of_family("p.json", json.as_bytes(), Kind::Waveform);
            let message = read.unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        for (samples, words) in [(vec![], "no samples"), (vec![0.0, f32::NAN], "sample 1")] {
            let waveform = Waveform { samples };
            let front_end = FrontEnd::Waveform(RawWaveform::default());
            let message = front_end.features(&waveform).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
