//! Whisper's log-mel spectrogram.
//!
//! As OpenAI's Whisper and transformers' WhisperFeatureExtractor compute it:
//! the sound is filled up with zeros to a window of fixed length (30 s);
//! frames of 25 ms every 10 ms, centred, with reflection at both ends and the
//! last frame dropped; periodic Hann window, power spectrum, triangular filters
//! on Slaney's mel scale with Slaney's normalisation; decimal logarithm with a
//! floor, cut off 8 below the window's maximum, plus 4, divided by 4. All of it
//! in f64; the references are made in f32 and differ by their own rounding.

use std::f64::consts::TAU;
use std::fmt;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};
use serde::Deserialize;
use serde_json::Value;

use super::mel::{Filter, slaney_filters};
use super::{FRAME_SHIFT, Features, check_common, check_finite, check_no_dither, typed};
use crate::audio::{SAMPLE_RATE, Waveform};
use crate::error::Problem;
use crate::{Error, Result};

/// The least energy that the logarithm sees.
const FLOOR: f64 = 1e-10;
/// What is quieter than the loudest by more than this (80 dB) is raised.
const RANGE: f64 = 8.0;

/// Window lengths in seconds. Published models have 30; the limit keeps a
/// broken file from asking for all memory.
const SECONDS: std::ops::RangeInclusive<usize> = 1..=600;
/// FFT lengths in samples; half of one has to fit the shortest window.
const FFT_SIZES: std::ops::RangeInclusive<usize> = 2..=4096;

/// The settings of a [`LogMel`], named as in `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LogMelConfig {
    /// F
    pub feature_size: usize,
    /// The window's length in seconds.
    pub chunk_length: usize,
    /// Samples of one frame: even.
    pub n_fft: usize,
}

impl Default for LogMelConfig {
    fn default() -> Self {
        Self {
            feature_size: 80,
            chunk_length: 30,
            n_fft: 400,
        }
    }
}

impl LogMelConfig {
    /// The settings in a `preprocessor_config.json`, or what is wrong there.
    pub(super) fn from_json(json: Value) -> std::result::Result<Self, Problem> {
        check_common(&json)?;
        check_no_dither(&json)?;
        if let Some(hop) = json.get("hop_length")
            && hop.as_f64() != Some(FRAME_SHIFT as f64)
        {
            return Err(format!("hop_length is {hop}; {FRAME_SHIFT} is supported").into());
        }
        if let Some(padding) = json.get("padding_value")
            && padding.as_f64() != Some(0.0)
        {
            return Err(format!("padding_value is {padding}; 0 is supported").into());
        }
        typed(json)
    }

    /// Samples of a window.
    pub fn window(&self) -> usize {
        self.chunk_length.saturating_mul(SAMPLE_RATE as usize)
    }

    /// T, the same for every sound.
    pub fn frames(&self) -> usize {
        self.window() / FRAME_SHIFT
    }
}

/// The spectrogram, ready to run.
#[derive(Clone)]
pub struct LogMel {
    config: LogMelConfig,
    /// (n_fft,)
    window: Vec<f64>,
    /// F filters.
    filters: Vec<Filter>,
    fft: Arc<dyn Fft<f64>>,
}

impl LogMel {
    /// # Errors
    /// If the window's or the FFT's length is outside what is supported, or
    /// there are no bins or more than n_fft / 2 + 1, the number of FFT
    /// frequencies.
    pub fn new(config: LogMelConfig) -> Result<Self> {
        let fail = |field: &str, value: usize, rule: String| {
            Err(Error::Input(format!("{field} is {value}; {rule}")))
        };
        let LogMelConfig {
            feature_size,
            chunk_length,
            n_fft,
        } = config;
        if !SECONDS.contains(&chunk_length) {
            let rule = format!(
                "{} to {} seconds are supported",
                SECONDS.start(),
                SECONDS.end()
            );
            return fail("chunk_length", chunk_length, rule);
        }
        if !FFT_SIZES.contains(&n_fft) || !n_fft.is_multiple_of(2) {
            let rule = format!(
                "even numbers from {} to {} are supported",
                FFT_SIZES.start(),
                FFT_SIZES.end()
            );
            return fail("n_fft", n_fft, rule);
        }
        let frequencies = n_fft / 2 + 1;
        if !(1..=frequencies).contains(&feature_size) {
            let rule = format!("1 to {frequencies} are supported");
            return fail("feature_size", feature_size, rule);
        }
        Ok(Self {
            window: hann_window(n_fft),
            filters: mel_filters(feature_size, n_fft),
            fft: FftPlanner::new().plan_fft_forward(n_fft),
            config,
        })
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &LogMelConfig {
        &self.config
    }

    /// The features a model takes: (T, F) with T that of the window. Of its
    /// frames the first samples / 160, rounded up, are the sound.
    ///
    /// # Errors
    /// If the sound has no samples, more than a window, or a sample that is
    /// not a finite number.
    pub fn features(&self, waveform: &Waveform) -> Result<Features> {
        let samples = &waveform.samples;
        let length = self.config.window();
        if samples.is_empty() {
            return Err(Error::Input(
                "the sound has 0 samples at 16 kHz; at least 1 is needed".into(),
            ));
        }
        if samples.len() > length {
            return Err(Error::Input(format!(
                "the sound has {:.1} s; the model hears {} s at once: split it",
                waveform.seconds(),
                self.config.chunk_length
            )));
        }
        self.scaled(samples, length)
    }

    /// The features of a recording of any length, as transformers makes them
    /// for one that is longer than a window: (T, F), T = samples / 160. One
    /// that is not longer has the features of a window.
    ///
    /// # Errors
    /// As for [`features`](Self::features), but for the length.
    pub fn recording(&self, waveform: &Waveform) -> Result<Features> {
        match waveform.samples.len() {
            length if length > self.config.window() => self.scaled(&waveform.samples, length),
            _ => self.features(waveform),
        }
    }

    /// Log-mel values of samples in a window of `length`, relative to the
    /// loudest.
    fn scaled(&self, samples: &[f32], length: usize) -> Result<Features> {
        check_finite(samples)?;
        let mut logs = self.logs(samples, length);
        let loudest = logs.iter().copied().fold(f64::MIN, f64::max);
        for log in &mut logs {
            *log = (log.max(loudest - RANGE) + 4.0) / 4.0;
        }
        let data = logs.iter().map(|&x| x as f32).collect();
        let features = Features::new(data, length / FRAME_SHIFT, self.filters.len())?;
        Ok(features.with_samples(samples.len()))
    }

    /// Decimal logarithms of mel energies: (length / 160, F)
    fn logs(&self, samples: &[f32], length: usize) -> Vec<f64> {
        let half = self.config.n_fft / 2;
        let last = length - 1;
        let sample = |i: usize| samples.get(i).map_or(0.0, |&x| f64::from(x));
        let bins = self.filters.len();
        // Frames that reach no sample stay at the floor.
        let mut logs = vec![FLOOR.log10(); length / FRAME_SHIFT * bins];
        let mut buffer = vec![Complex::default(); self.config.n_fft];
        let mut scratch = vec![Complex::default(); self.fft.get_inplace_scratch_len()];
        for (t, row) in logs.chunks_exact_mut(bins).enumerate() {
            // Where the frame begins, counted from `half` before the sound.
            let start = t * FRAME_SHIFT;
            // Reflection at the window's end may bring back earlier samples.
            let reaches = start < half + samples.len() || start + half > last;
            if !reaches {
                continue;
            }
            for ((n, slot), w) in buffer.iter_mut().enumerate().zip(&self.window) {
                // Neither end's sample is doubled: -1 is 1, last + 1 is last - 1.
                let at = (start + n).abs_diff(half);
                let at = if at > last { 2 * last - at } else { at };
                *slot = Complex::new(sample(at) * w, 0.0);
            }
            self.fft.process_with_scratch(&mut buffer, &mut scratch);
            for (log, filter) in row.iter_mut().zip(&self.filters) {
                *log = filter.energy(&buffer).max(FLOOR).log10();
            }
        }
        logs
    }
}

impl fmt::Debug for LogMel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogMel")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The periodic Hann window: (length,)
fn hann_window(length: usize) -> Vec<f64> {
    (0..length)
        .map(|n| 0.5 - 0.5 * (TAU * n as f64 / length as f64).cos())
        .collect()
}

/// Filters whose triangles have an area of 1.
fn mel_filters(count: usize, n_fft: usize) -> Vec<Filter> {
    slaney_filters(count, n_fft, |triangle, width| triangle * 2.0 / width)
}

#[cfg(test)]
mod tests {
    use super::super::mel::SLANEY;
    use super::*;

    fn log_mel(feature_size: usize) -> LogMel {
        LogMel::new(LogMelConfig {
            feature_size,
            ..LogMelConfig::default()
        })
        .unwrap()
    }

    /// A window of one second, to be quick.
    fn short(feature_size: usize) -> LogMel {
        LogMel::new(LogMelConfig {
            feature_size,
            chunk_length: 1,
            ..LogMelConfig::default()
        })
        .unwrap()
    }

    fn sound(samples: Vec<f32>) -> Waveform {
        Waveform { samples }
    }

    #[test]
    fn every_sound_has_the_frames_of_the_window() {
        for (count, frames) in [(1, 1), (160, 1), (161, 2), (479_999, 3000), (480_000, 3000)] {
            let features = log_mel(80).features(&sound(vec![0.1; count])).unwrap();
            assert_eq!((features.frames, features.bins), (3000, 80));
            assert_eq!(features.sound_frames, frames, "{count} samples");
            assert!(features.data.iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn no_sound_and_too_much_are_refused() {
        let message = |count| {
            let refused = log_mel(80).features(&sound(vec![0.0; count])).unwrap_err();
            refused.to_string()
        };
        assert!(message(0).contains("0 samples"));
        assert!(message(480_001).contains("30 s"));
        let mut broken = vec![0.0; 99];
        broken[17] = f32::NAN;
        let message = log_mel(80).features(&sound(broken)).unwrap_err();
        assert!(message.to_string().contains("sample 17"), "{message}");
    }

    #[test]
    fn silence_is_the_floor() {
        let features = short(80).features(&sound(vec![0.0; 5000])).unwrap();
        assert!(features.data.iter().all(|&x| x == -1.5));
    }

    /// An impulse has a flat spectrum: in the frame around it each filter's
    /// energy is the window's square times the sum of its weights, and nothing
    /// falls below the maximum by more than 8.
    #[test]
    fn an_impulse_shows_the_window_and_the_filters() {
        let at = 5037;
        let mut samples = vec![0.0; 16_000];
        samples[at] = 0.5;
        let features = short(80).features(&sound(samples)).unwrap();
        let sums: Vec<f64> = mel_filters(80, 400)
            .iter()
            .map(|filter| filter.weights().map(|(_, w)| w).sum())
            .collect();
        let logs: Vec<f64> = (0..100)
            .flat_map(|t| {
                let n = (at + 200) as isize - 160 * t;
                let w = if (0..400).contains(&n) {
                    0.5 - 0.5 * (TAU * n as f64 / 400.0).cos()
                } else {
                    0.0
                };
                sums.iter()
                    .map(move |sum| (0.25 * w * w * sum).max(1e-10).log10())
            })
            .collect();
        let loudest = logs.iter().copied().fold(f64::MIN, f64::max);
        for (x, log) in features.data.iter().zip(&logs) {
            let expected = (log.max(loudest - 8.0) + 4.0) / 4.0;
            // One rounding to f32 of values below 2.
            assert!(
                (f64::from(*x) - expected).abs() <= 2f64.powi(-23),
                "{x} {expected}"
            );
        }
    }

    /// The frame around sample 0 sees sample n and, reflected, -n.
    #[test]
    fn both_ends_are_reflected() {
        let spectrum_of = |frame: &dyn Fn(isize) -> f64| -> Vec<f64> {
            let mut buffer: Vec<Complex<f64>> = (0..400)
                .map(|n| Complex::new(frame(n - 200) * hann_window(400)[n as usize], 0.0))
                .collect();
            FftPlanner::new().plan_fft_forward(400).process(&mut buffer);
            let filters = mel_filters(20, 400);
            filters
                .iter()
                .map(|filter| filter.energy(&buffer).max(FLOOR).log10())
                .collect()
        };
        let wave = |n: usize| (0.3 * (n as f64 * 0.7).sin() + 0.1 * (n as f64 * 0.05).cos()) as f32;
        for count in [1, 2, 161, 16_000] {
            let samples: Vec<f32> = (0..count).map(wave).collect();
            let at = |i: usize| samples.get(i).map_or(0.0, |&x| f64::from(x));
            let logs = short(20).logs(&samples, short(20).config.window());
            let expected = spectrum_of(&|n| at(n.unsigned_abs()));
            for (a, b) in logs[..20].iter().zip(&expected) {
                assert!((a - b).abs() <= 1e-9, "{count} samples: {a} {b}");
            }
            // The last frame's centre is 160 before the end.
            let expected = spectrum_of(&|n| {
                let i = 15_840 + n;
                at(if i > 15_999 { 31_998 - i } else { i } as usize)
            });
            for (a, b) in logs[99 * 20..].iter().zip(&expected) {
                assert!((a - b).abs() <= 1e-9, "{count} samples, end: {a} {b}");
            }
        }
    }

    #[test]
    fn the_scale_is_slaneys() {
        for (hz, m) in [(0.0, 0.0), (500.0, 7.5), (1000.0, 15.0), (6400.0, 42.0)] {
            assert!((SLANEY.formula.mel(hz) - m).abs() <= 1e-12);
            assert!((SLANEY.formula.hertz(m) - hz).abs() <= 1e-9);
        }
        // Every filter of the published sizes reaches an FFT frequency.
        for count in [80, 128] {
            assert!(
                mel_filters(count, 400)
                    .iter()
                    .all(|f| f.weights().count() > 0)
            );
        }
    }

    #[test]
    fn settings_are_read_and_checked() {
        let read = |json: Value| {
            let config = LogMelConfig::from_json(json).map_err(|e| e.to_string())?;
            LogMel::new(config).map_err(|e| e.to_string())
        };
        let json = serde_json::json!({
            "chunk_length": 7, "feature_size": 128, "hop_length": 160, "n_fft": 512,
            "n_samples": 112_000, "nb_max_frames": 700, "padding_side": "right",
            "padding_value": 0.0, "sampling_rate": 16_000, "dither": 0.0,
        });
        let features = read(json)
            .unwrap()
            .features(&sound(vec![0.5; 321]))
            .unwrap();
        assert_eq!(
            (features.frames, features.bins, features.sound_frames),
            (700, 128, 3)
        );
        for (field, value) in [
            ("chunk_length", serde_json::json!(0)),
            ("chunk_length", serde_json::json!(u64::MAX)),
            ("n_fft", serde_json::json!(401)),
            ("n_fft", serde_json::json!(0)),
            ("n_fft", serde_json::json!(1u64 << 40)),
            ("feature_size", serde_json::json!(0)),
            ("feature_size", serde_json::json!(202)),
            ("hop_length", serde_json::json!(80)),
            ("padding_value", serde_json::json!(1.5)),
            ("sampling_rate", serde_json::json!(8000)),
            ("dither", serde_json::json!(1e-5)),
        ] {
            let problem = read(serde_json::json!({ field: value })).unwrap_err();
            assert!(
                problem.starts_with(&format!("{field} is {value}")),
                "{problem}"
            );
        }
        assert!(read(serde_json::json!({"n_fft": "many"})).is_err());
    }

    /// Any size of the FFT and any number of bins gives finite numbers.
    #[test]
    fn awkward_sizes_give_finite_features() {
        for (n_fft, feature_size) in [(2, 1), (2, 2), (6, 3), (160, 7), (4096, 128), (400, 201)] {
            let config = LogMelConfig {
                feature_size,
                chunk_length: 1,
                n_fft,
            };
            let samples: Vec<f32> = (0..4321).map(|n| (n as f32 * 0.3).sin()).collect();
            let features = LogMel::new(config)
                .unwrap()
                .features(&sound(samples))
                .unwrap();
            assert!(
                features.data.iter().all(|x| x.is_finite()),
                "{n_fft}, {feature_size}"
            );
        }
    }
}
