//! From a waveform to the features that a model's encoder takes.
//!
//! [`FrontEnd`] is read from a model's `preprocessor_config.json`; each kind
//! of features is one file of this module.

mod cmvn;
mod fbank;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::audio::Waveform;
use crate::{Error, Result};

pub use cmvn::normalize;
pub use fbank::{FRAME_LENGTH, FRAME_SHIFT, Fbank, FbankConfig};

/// Seconds from one frame to the next, in every front end there is.
pub const FRAME_SECONDS: f64 = 0.01;

/// Features over time and frequency: (T, F).
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// (T, F), row-major: one row of bins per frame.
    pub data: Vec<f32>,
    /// T
    pub frames: usize,
    /// F
    pub bins: usize,
}

impl Features {
    /// # Errors
    /// If `data` has not `frames` times `bins` values.
    pub fn new(data: Vec<f32>, frames: usize, bins: usize) -> Result<Self> {
        if frames.checked_mul(bins) != Some(data.len()) {
            return Err(Error::shape(
                "features",
                format!(
                    "{} values cannot have the shape ({frames}, {bins})",
                    data.len()
                ),
            ));
        }
        Ok(Self { data, frames, bins })
    }

    /// The bins of frame `t`: (F,)
    pub fn frame(&self, t: usize) -> &[f32] {
        &self.data[t * self.bins..(t + 1) * self.bins]
    }
}

/// How a model hears: the way from its waveform to its features.
#[derive(Clone, Debug)]
pub enum FrontEnd {
    /// Kaldi's log-mel filter bank (FBK conformers, Speech2Text).
    Fbank(Fbank),
}

impl FrontEnd {
    /// Reads a `preprocessor_config.json`.
    ///
    /// # Errors
    /// If it cannot be read or asks for what is not there; see
    /// [`FrontEnd::from_bytes`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|e| Error::file(path, e))?;
        Self::from_bytes(path, &bytes)
    }

    /// Reads the contents of a `preprocessor_config.json`; `name` stands in
    /// error messages.
    ///
    /// # Errors
    /// If it is not such a file, or asks for a feature extractor, a sample
    /// rate or another setting that is not supported.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Self> {
        let fail = |problem: String| Error::file(&name, problem);
        let json: Value = serde_json::from_slice(bytes).map_err(|e| fail(e.to_string()))?;
        if !json.is_object() {
            return Err(fail("expected a JSON object with settings".into()));
        }
        match json.get("feature_extractor_type").map(Value::as_str) {
            // A file without a type is read as a filter bank's.
            None | Some(Some("Speech2TextFeatureExtractor")) => {
                let config = FbankConfig::from_json(json).map_err(fail)?;
                Ok(Self::Fbank(
                    Fbank::new(config).map_err(|e| fail(e.to_string()))?,
                ))
            }
            _ => Err(fail(format!(
                "feature_extractor_type is {}; Speech2TextFeatureExtractor is supported",
                json["feature_extractor_type"]
            ))),
        }
    }

    /// The features of a sound: (T, F).
    ///
    /// # Errors
    /// If the sound is too short or has samples that are not finite.
    pub fn features(&self, waveform: &Waveform) -> Result<Features> {
        match self {
            Self::Fbank(fbank) => fbank.features(waveform),
        }
    }

    /// F
    pub fn bins(&self) -> usize {
        match self {
            Self::Fbank(fbank) => fbank.config().num_mel_bins,
        }
    }
}

/// The filter bank with the settings that FBK's and the published Speech2Text
/// models use: for a folder without `preprocessor_config.json`.
impl Default for FrontEnd {
    fn default() -> Self {
        Self::Fbank(Fbank::new(FbankConfig::default()).expect("the default settings are valid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(json: &str) -> FbankConfig {
        let FrontEnd::Fbank(fbank) = FrontEnd::from_bytes("p.json", json.as_bytes()).unwrap();
        fbank.config().clone()
    }

    #[test]
    fn absent_fields_have_the_published_values() {
        assert_eq!(config_of("{}"), FbankConfig::default());
        let FrontEnd::Fbank(default) = FrontEnd::default();
        assert_eq!(default.config(), &FbankConfig::default());
        assert_eq!(FrontEnd::default().bins(), 80);
    }

    #[test]
    fn present_fields_are_used_and_others_ignored() {
        let config = config_of(
            r#"{"feature_extractor_type": "Speech2TextFeatureExtractor", "feature_size": 40,
                "num_mel_bins": 40, "do_ceptral_normalize": true, "normalize_means": true,
                "normalize_vars": false, "padding_side": "right", "padding_value": 0.0,
                "sampling_rate": 16000, "dither": 0.0, "return_attention_mask": true}"#,
        );
        assert_eq!(config.num_mel_bins, 40);
        assert!(config.do_ceptral_normalize && config.normalize_means && !config.normalize_vars);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (json, words) in [
            ("", "EOF"),
            ("[]", "expected"),
            (r#"{"num_mel_bins": "many"}"#, "invalid type"),
            (r#"{"num_mel_bins": 0}"#, "num_mel_bins is 0"),
            (r#"{"num_mel_bins": 258}"#, "num_mel_bins is 258"),
            (r#"{"sampling_rate": 8000}"#, "sampling_rate is 8000"),
            (r#"{"dither": 1.0}"#, "dither is 1"),
            (
                r#"{"feature_extractor_type": "EncodecFeatureExtractor"}"#,
                "\"EncodecFeatureExtractor\"",
            ),
            (
                r#"{"feature_extractor_type": 3}"#,
                "feature_extractor_type is 3",
            ),
        ] {
            let message = FrontEnd::from_bytes("p.json", json.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(message.starts_with("p.json: "), "{message}");
            assert!(message.contains(words), "{json}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
        let message = FrontEnd::from_file("absent/p.json")
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("absent/p.json: "), "{message}");
    }

    #[test]
    fn features_have_the_size_they_claim() {
        let features = Features::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2).unwrap();
        assert_eq!(features.frame(1), [3.0, 4.0]);
        let message = Features::new(vec![0.0; 5], 3, 2).unwrap_err().to_string();
        assert!(
            message.contains("5 values") && message.contains("(3, 2)"),
            "{message}"
        );
        assert!(Features::new(vec![], usize::MAX, 2).is_err());
    }
}
