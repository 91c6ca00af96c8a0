//! From a waveform to the features that a model's encoder takes.
//!
//! [`FrontEnd`] is read from a model's `preprocessor_config.json`; each kind
//! of features is one file of this module.

mod cmvn;
mod fbank;
mod log_mel;
mod mel;
mod normalised;
mod pieces;
mod power;
mod torch_noise;
mod waveform;

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::audio::{SAMPLE_RATE, Waveform};
use crate::error::Problem;
use crate::{Error, Result};

pub use cmvn::normalize;
pub use fbank::{FRAME_LENGTH, FRAME_SHIFT, Fbank, FbankConfig};
pub use log_mel::{LogMel, LogMelConfig};
pub use mel::{MelFormula, MelScale};
pub use normalised::{NormalisedConfig, NormalisedLogMel};
pub use pieces::Piece;
pub use power::power;
pub use waveform::{RawWaveform, WaveformConfig};

/// Features over time and frequency: (T, F). Where a model takes the waveform itself,
/// each sample is a frame with one bin: (S, 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// (T, F), row-major: one row of bins per frame.
    pub data: Vec<f32>,
    /// T
    pub frames: usize,
    /// F
    pub bins: usize,
    /// How many of the T frames, from the first on, are the sound. The others
    /// are what a front end fills its window with.
    pub sound_frames: usize,
    /// How loud the sound is, each 10 ms: [`power`]. Empty where that is not
    /// known, as of features that come from elsewhere.
    pub power: Vec<f32>,
    /// The sounds that these are the features of, in order, where a recording was
    /// cut since it is longer than a model hears at once; else empty.
    pub pieces: Vec<Piece>,
}

impl Features {
    /// Features whose frames are all sound.
    ///
    /// # Errors
    /// If `data` has not `frames` times `bins` values.
    pub fn new(data: Vec<f32>, frames: usize, bins: usize) -> Result<Self> {
        let features = Self {
            data,
            frames,
            bins,
            sound_frames: frames,
            power: Vec::new(),
            pieces: Vec::new(),
        };
        features.check()?;
        Ok(features)
    }

    /// Checks that there are as many values as the shape says, and no more
    /// sound than frames.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self) -> Result<()> {
        let (count, frames, bins) = (self.data.len(), self.frames, self.bins);
        let problem = if frames.checked_mul(bins) != Some(count) {
            format!("{count} values cannot have the shape ({frames}, {bins})")
        } else if self.sound_frames > frames {
            format!("{} of {frames} frames cannot be sound", self.sound_frames)
        } else {
            return Ok(());
        };
        Err(Error::shape("features", problem))
    }

    /// The same features, of which only the first `sound_frames` are the
    /// sound: all of them if there are fewer.
    pub fn with_sound_frames(self, sound_frames: usize) -> Self {
        Self {
            sound_frames: sound_frames.min(self.frames),
            ..self
        }
    }

    /// The same features, of which only what so many samples fill, the last
    /// frame in part, is the sound.
    pub fn with_samples(self, samples: usize) -> Self {
        self.with_sound_frames(samples.div_ceil(FRAME_SHIFT))
    }

    /// The frames that are sound.
    pub fn sound(&self) -> Self {
        Self {
            data: self.data[..self.sound_frames * self.bins].to_vec(),
            frames: self.sound_frames,
            power: self.power.clone(),
            pieces: self.pieces.clone(),
            ..*self
        }
    }

    /// The same features of `waveform`, with its power at the frames of `kind`.
    fn of(self, waveform: &Waveform, kind: Kind) -> Self {
        let samples = &waveform.samples;
        let frames = match kind {
            Kind::Waveform => samples.len().div_ceil(FRAME_SHIFT),
            _ => self.sound_frames,
        };
        Self {
            power: power(samples, frames),
            ..self
        }
    }

    /// The bins of frame `t`: (F,)
    pub fn frame(&self, t: usize) -> &[f32] {
        &self.data[t * self.bins..(t + 1) * self.bins]
    }
}

/// How a model hears: the way from its waveform to its features.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FrontEnd {
    /// Kaldi's log-mel filter bank (FBK conformers, Speech2Text).
    Fbank(Fbank),
    /// Whisper's log-mel spectrogram of a window of fixed length.
    LogMel(LogMel),
    /// A log-mel spectrogram normalised over the sound (FastConformers).
    Normalised(NormalisedLogMel),
    /// The samples themselves (Moonshine).
    Waveform(RawWaveform),
}

/// What a front end is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Kaldi's filter bank.
    FilterBank,
    /// Whisper's spectrogram.
    Spectrogram,
    /// A log-mel spectrogram normalised over the sound, as Parakeet has it.
    NormalisedLogMel,
    /// The same with noise in it, as Cohere Transcribe has it.
    DitheredLogMel,
    /// The samples of the sound, as wav2vec 2.0 has them.
    Waveform,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::FilterBank,
        Self::Spectrogram,
        Self::NormalisedLogMel,
        Self::DitheredLogMel,
        Self::Waveform,
    ];

    /// What transformers calls it, as in `feature_extractor_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FilterBank => "Speech2TextFeatureExtractor",
            Self::Spectrogram => "WhisperFeatureExtractor",
            Self::NormalisedLogMel => "ParakeetFeatureExtractor",
            Self::DitheredLogMel => "CohereAsrFeatureExtractor",
            Self::Waveform => "Wav2Vec2FeatureExtractor",
        }
    }

    /// Seconds from one of its frames to the next.
    pub fn frame_seconds(self) -> f64 {
        match self {
            Self::Waveform => 1.0 / f64::from(SAMPLE_RATE),
            _ => FRAME_SHIFT as f64 / f64::from(SAMPLE_RATE),
        }
    }

    /// With its published settings.
    ///
    /// # Errors
    /// If so many mel bins cannot be.
    pub fn published(self, bins: usize) -> Result<FrontEnd> {
        match self {
            Self::FilterBank => FrontEnd::fbank(bins),
            Self::Spectrogram => FrontEnd::whisper(bins),
            Self::NormalisedLogMel => FrontEnd::normalised(bins, false),
            Self::DitheredLogMel => FrontEnd::normalised(bins, true),
            Self::Waveform => Ok(FrontEnd::Waveform(RawWaveform::default())),
        }
    }
}

/// Settings out of JSON, each of which may be missing; an error names the entry.
fn typed<T: DeserializeOwned>(json: Value) -> std::result::Result<T, Problem> {
    for (key, value) in json.as_object().into_iter().flatten() {
        let alone = Value::Object([(key.clone(), value.clone())].into_iter().collect());
        if let Err(e) = serde_json::from_value::<T>(alone) {
            return Err(Problem::new(format!("{key} is {value}: {e}"), e));
        }
    }
    Ok(serde_json::from_value(json)?)
}

impl FrontEnd {
    /// The filter bank with its published settings but for the number of mel
    /// bins: for a folder without `preprocessor_config.json`.
    ///
    /// # Errors
    /// If so many bins cannot be.
    pub fn fbank(bins: usize) -> Result<Self> {
        let config = FbankConfig {
            num_mel_bins: bins,
            ..FbankConfig::default()
        };
        Ok(Self::Fbank(Fbank::new(config)?))
    }

    /// Whisper's front end with its published settings: for a folder without
    /// `preprocessor_config.json`.
    ///
    /// # Errors
    /// If `bins` is 0 or above 201, the number of FFT frequencies.
    pub fn whisper(bins: usize) -> Result<Self> {
        let config = LogMelConfig {
            feature_size: bins,
            ..LogMelConfig::default()
        };
        Ok(Self::LogMel(LogMel::new(config)?))
    }

    /// The normalised spectrogram, with noise or without, with its published
    /// settings but for the number of mel bins: for a folder without
    /// `preprocessor_config.json`.
    ///
    /// # Errors
    /// If so many bins cannot be.
    pub fn normalised(bins: usize, dithered: bool) -> Result<Self> {
        let config = NormalisedConfig {
            feature_size: bins,
            ..NormalisedConfig::published(dithered)
        };
        Ok(Self::Normalised(NormalisedLogMel::new(config, dithered)?))
    }

    /// Reads a `preprocessor_config.json`.
    ///
    /// # Errors
    /// If it cannot be read or asks for what is not there; see
    /// [`FrontEnd::from_bytes`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = crate::plain::read(path).map_err(|e| Error::file(path, e))?;
        Self::from_bytes(path, &bytes)
    }

    /// Reads the contents of a `preprocessor_config.json`; `name` stands in
    /// error messages.
    ///
    /// # Errors
    /// If it is not such a file, or asks for a feature extractor, a sample
    /// rate or another setting that is not supported.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Self> {
        Self::read(name.as_ref(), bytes, Kind::FilterBank, &Kind::ALL)
    }

    /// The same for a family that hears in its `own` way: a file without a
    /// `feature_extractor_type` has settings of that kind.
    ///
    /// # Errors
    /// As for [`FrontEnd::from_bytes`], and if the file asks for another kind.
    pub fn of_family(name: impl AsRef<Path>, bytes: &[u8], own: Kind) -> Result<Self> {
        let name = name.as_ref();
        Self::read(name, bytes, own, &[own])
    }

    /// What it is like.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Fbank(_) => Kind::FilterBank,
            Self::LogMel(_) => Kind::Spectrogram,
            Self::Normalised(own) if own.is_dithered() => Kind::DitheredLogMel,
            Self::Normalised(_) => Kind::NormalisedLogMel,
            Self::Waveform(_) => Kind::Waveform,
        }
    }

    /// Reads settings that are of `kind` unless they say otherwise, and that are of
    /// one of the kinds that `fit`.
    fn read(name: &Path, bytes: &[u8], kind: Kind, fit: &[Kind]) -> Result<Self> {
        let fail = |problem: Problem| Error::file(name, problem);
        let json: Value = serde_json::from_slice(bytes).map_err(|e| fail(e.into()))?;
        if !json.is_object() {
            return Err(fail("expected a JSON object with settings".into()));
        }
        let kind = match json.get("feature_extractor_type") {
            None => Some(kind),
            Some(named) => Kind::ALL.into_iter().find(|own| named == own.name()),
        };
        // Before its settings are looked at, which mean something else there.
        if let Some(kind) = kind.filter(|kind| !fit.contains(kind)) {
            let right: Vec<&str> = fit.iter().map(|own| own.name()).collect();
            let (own, right) = (kind.name(), right.join(", "));
            let problem =
                format!("feature_extractor_type is {own}; such a model hears with {right}");
            return Err(fail(problem.into()));
        }
        match kind {
            Some(Kind::FilterBank) => {
                let config = FbankConfig::from_json(json).map_err(fail)?;
                Ok(Self::Fbank(Fbank::new(config).map_err(|e| fail(e.into()))?))
            }
            Some(Kind::Spectrogram) => {
                let config = LogMelConfig::from_json(json).map_err(fail)?;
                Ok(Self::LogMel(
                    LogMel::new(config).map_err(|e| fail(e.into()))?,
                ))
            }
            Some(kind @ (Kind::NormalisedLogMel | Kind::DitheredLogMel)) => {
                let dithered = kind == Kind::DitheredLogMel;
                let config = NormalisedConfig::from_json(json, dithered).map_err(fail)?;
                let own = NormalisedLogMel::new(config, dithered);
                Ok(Self::Normalised(own.map_err(|e| fail(e.into()))?))
            }
            Some(Kind::Waveform) => {
                let config = WaveformConfig::from_json(json).map_err(fail)?;
                Ok(Self::Waveform(RawWaveform::new(config)))
            }
            None => Err(fail(
                format!(
                    "feature_extractor_type is {}; {} are supported",
                    json["feature_extractor_type"],
                    Kind::ALL.map(Kind::name).join(", ")
                )
                .into(),
            )),
        }
    }

    /// The features of a whole sound: (T, F).
    ///
    /// # Errors
    /// If the sound is too short, longer than the window, or has
    /// samples that are not finite.
    pub fn features(&self, waveform: &Waveform) -> Result<Features> {
        let features = match self {
            Self::Fbank(fbank) => fbank.features(waveform),
            Self::LogMel(log_mel) => log_mel.features(waveform),
            Self::Normalised(own) => own.features(waveform),
            Self::Waveform(own) => own.features(waveform),
        };
        Ok(features?.of(waveform, self.kind()))
    }

    /// The features of a recording of any length: (T, F), T being a window's
    /// length or more where there are windows. Where a recording is cut, they
    /// are those of its [pieces](Features::pieces).
    ///
    /// # Errors
    /// If the sound or a piece of it is too short, or has samples that are not
    /// finite.
    pub fn recording(&self, waveform: &Waveform) -> Result<Features> {
        match self {
            Self::LogMel(log_mel) => {
                let features = log_mel.recording(waveform)?;
                Ok(features.of(waveform, self.kind()))
            }
            Self::Normalised(own) => match own.pieces(waveform)?.as_slice() {
                [] | [_] => self.features(waveform),
                pieces => self.features_of_pieces(waveform, pieces),
            },
            Self::Fbank(_) | Self::Waveform(_) => self.features(waveform),
        }
    }

    /// The features of pieces of a recording, each by itself.
    fn features_of_pieces(&self, waveform: &Waveform, pieces: &[Range<usize>]) -> Result<Features> {
        let heard = pieces.iter().map(|piece| {
            let own = Waveform {
                samples: waveform.samples[piece.clone()].to_vec(),
            };
            let begin = piece.start as f64 / f64::from(SAMPLE_RATE);
            Ok((begin, self.features(&own)?))
        });
        Features::joined(heard.collect::<Result<Vec<_>>>()?, self.bins())
    }

    /// Where the bins lie; nothing where they are no mel bins.
    pub fn mel_scale(&self) -> Option<MelScale> {
        match self {
            Self::Fbank(_) => Some(fbank::SCALE),
            Self::LogMel(_) | Self::Normalised(_) => Some(mel::SLANEY),
            Self::Waveform(_) => None,
        }
    }

    /// F
    pub fn bins(&self) -> usize {
        match self {
            Self::Fbank(fbank) => fbank.config().num_mel_bins,
            Self::LogMel(log_mel) => log_mel.config().feature_size,
            Self::Normalised(own) => own.config().feature_size,
            Self::Waveform(_) => 1,
        }
    }
}

/// What an entry of `preprocessor_config.json` without effect here is in every
/// file that transformers wrote.
enum Wanted {
    Text,
    Boolean,
    Number,
    Count,
}

/// Entries that change nothing here. One of a wrong type shows that a file is not
/// what it seems.
const WITHOUT_EFFECT: [(&str, Wanted); 9] = [
    ("chunk_length", Wanted::Count),
    ("feature_size", Wanted::Count),
    ("hop_length", Wanted::Count),
    ("n_samples", Wanted::Count),
    ("nb_max_frames", Wanted::Count),
    ("padding_side", Wanted::Text),
    ("padding_value", Wanted::Number),
    ("processor_class", Wanted::Text),
    ("return_attention_mask", Wanted::Boolean),
];

impl Wanted {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Boolean => value.is_boolean(),
            Self::Number => value.is_number(),
            // As Python may have written it: 80.0.
            Self::Count => value
                .as_f64()
                .is_some_and(|own| own >= 0.0 && own.fract() == 0.0),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Boolean => "true or false",
            Self::Number => "a number",
            Self::Count => "a whole number",
        }
    }
}

/// Checks what `preprocessor_config.json` says whatever the extractor is: the
/// problem, if there is one.
fn check_common(json: &Value) -> std::result::Result<(), String> {
    for (entry, wanted) in &WITHOUT_EFFECT {
        let value = &json[entry];
        if !value.is_null() && !wanted.is(value) {
            return Err(format!(
                "{entry} is {value}, where {} would be right",
                wanted.name()
            ));
        }
    }
    if let Some(rate) = json.get("sampling_rate")
        && rate.as_f64() != Some(f64::from(SAMPLE_RATE))
    {
        return Err(format!(
            "sampling_rate is {rate}; {SAMPLE_RATE} is supported"
        ));
    }
    Ok(())
}

/// Checks that an extractor is asked for no noise: the problem, if it is.
fn check_no_dither(json: &Value) -> std::result::Result<(), String> {
    match json.get("dither") {
        Some(dither) if dither.as_f64() != Some(0.0) => Err(format!(
            "dither is {dither}; only 0 is supported, so that features do not change by run"
        )),
        _ => Ok(()),
    }
}

fn check_finite(samples: &[f32]) -> Result<()> {
    match samples.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::Input(format!(
            "sample {i} of the sound is {}; every sample must be a finite number",
            samples[i]
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(json: &str) -> FbankConfig {
        match FrontEnd::from_bytes("p.json", json.as_bytes()).unwrap() {
            FrontEnd::Fbank(fbank) => fbank.config().clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn absent_fields_have_the_published_values() {
        assert_eq!(config_of("{}"), FbankConfig::default());
        assert!(matches!(
            FrontEnd::fbank(80).unwrap(),
            FrontEnd::Fbank(fbank) if fbank.config() == &FbankConfig::default()
        ));
        assert_eq!(FrontEnd::fbank(80).unwrap().bins(), 80);
        let json = r#"{"feature_extractor_type": "WhisperFeatureExtractor"}"#;
        for whisper in [
            FrontEnd::from_bytes("p.json", json.as_bytes()).unwrap(),
            FrontEnd::whisper(80).unwrap(),
        ] {
            assert!(matches!(
                &whisper,
                FrontEnd::LogMel(log_mel) if log_mel.config() == &LogMelConfig::default()
            ));
            assert_eq!(whisper.bins(), 80);
        }
        assert!(FrontEnd::whisper(0).is_err());
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
            (r#"{"feature_size": "80"}"#, "feature_size is \"80\""),
            (r#"{"padding_side": 1}"#, "padding_side is 1, where a text"),
            (
                r#"{"return_attention_mask": "no"}"#,
                "return_attention_mask is \"no\"",
            ),
            (r#"{"processor_class": []}"#, "processor_class is []"),
            (r#"{"n_samples": 1.5}"#, "n_samples is 1.5"),
            (r#"{"nb_max_frames": {}}"#, "nb_max_frames is {}"),
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
            (
                r#"{"feature_extractor_type": "WhisperFeatureExtractor", "hop_length": 80}"#,
                "hop_length is 80",
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

    /// Away from its ends a recording is what any window of it is, as long as
    /// the loudest place is in both.
    #[test]
    fn recordings_longer_than_a_window() {
        let wave = |n: usize| (n as f32 * 0.1).sin() * (n as f32 * 1e-4).cos();
        let mut samples: Vec<f32> = (0..560_000).map(|n| 0.2 * wave(n)).collect();
        for (n, sample) in samples[240_000..241_600].iter_mut().enumerate() {
            *sample = wave(n);
        }
        let sound = Waveform { samples };
        let whisper = FrontEnd::whisper(80).unwrap();
        assert!(whisper.features(&sound).is_err());
        let whole = whisper.recording(&sound).unwrap();
        assert_eq!((whole.frames, whole.sound_frames), (3_500, 3_500));
        let part = Waveform {
            samples: sound.samples[16_000..496_000].to_vec(),
        };
        let part = whisper.features(&part).unwrap();
        for t in 2..2_998 {
            for (a, b) in part.frame(t).iter().zip(whole.frame(t + 100)) {
                assert!((a - b).abs() <= 1e-6, "frame {t}: {a} {b}");
            }
        }
        // Where it fits a window it has the window's features.
        let short = Waveform {
            samples: sound.samples[..48_000].to_vec(),
        };
        assert_eq!(
            whisper.recording(&short).unwrap(),
            whisper.features(&short).unwrap()
        );
        let fbank = FrontEnd::fbank(80).unwrap();
        assert_eq!(
            fbank.recording(&sound).unwrap(),
            fbank.features(&sound).unwrap()
        );
    }

    #[test]
    fn features_have_the_size_they_claim() {
        let features = Features::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2).unwrap();
        assert_eq!(features.frame(1), [3.0, 4.0]);
        assert_eq!(features.sound_frames, 3);
        for (given, kept) in [(0, 0), (2, 2), (3, 3), (4, 3)] {
            let features = features.clone().with_sound_frames(given);
            assert_eq!(features.sound_frames, kept);
        }
        let message = Features::new(vec![0.0; 5], 3, 2).unwrap_err().to_string();
        assert!(
            message.contains("5 values") && message.contains("(3, 2)"),
            "{message}"
        );
        assert!(Features::new(vec![], usize::MAX, 2).is_err());
    }
}
