//! A log-mel spectrogram in which each bin is brought to zero mean and unit
//! variance over the sound, as NeMo's models hear.
//!
//! As transformers' ParakeetFeatureExtractor and CohereAsrFeatureExtractor
//! compute it: the latter adds a little noise first; pre-emphasis; frames of
//! 25 ms every 10 ms, centred, with zeros at both ends and the last frame
//! dropped; symmetric Hann window, power spectrum of 512 points, triangular
//! filters on Slaney's mel scale with Slaney's normalisation; natural logarithm
//! of energy plus 2^-24; then each bin's mean is taken off and what is left
//! divided by its deviation, over T - 1 frames, plus 1e-5. Noise and
//! pre-emphasis are rounded to f32 as there, since quiet bins hear that; the
//! rest is in f64.

use std::f64::consts::TAU;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mel::{Filter, slaney_filters};
use super::pieces::Cutting;
use super::torch_noise::normal;
use super::{FRAME_SHIFT, Features, check_common, check_finite, check_no_dither, typed};
use crate::audio::{SAMPLE_RATE, Waveform};
use crate::error::Problem;
use crate::{Error, Result};

/// What is added to an energy before its logarithm is taken.
const GUARD: f64 = 1.0 / 16_777_216.0;
/// What is added to a deviation before it divides.
const EPSILON: f64 = 1e-5;
/// FFT lengths in samples.
const FFT_SIZES: std::ops::RangeInclusive<usize> = 2..=4096;
/// Over one frame there is no variance.
const FEWEST_FRAMES: usize = 2;
/// Settings of how long recordings are cut.
const OF_CLIPS: [&str; 3] = [
    "max_audio_clip_s",
    "overlap_chunk_second",
    "min_energy_window_samples",
];

/// The settings of a [`NormalisedLogMel`], named as in `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NormalisedConfig {
    /// F
    pub feature_size: usize,
    /// Points of the spectrum: even.
    pub n_fft: usize,
    /// Samples of a frame's window.
    pub win_length: usize,
    /// What of the sample before is taken off each sample; absent for nothing.
    pub preemphasis: Option<f64>,
    /// How much noise is added.
    pub dither: f64,
    /// Seconds of the longest sound that is heard at once; absent where there is
    /// no such.
    pub max_audio_clip_s: Option<f64>,
    /// Over how many seconds before such a clip's end a quiet place is looked for,
    /// to cut a longer recording there.
    pub overlap_chunk_second: f64,
    /// Over how many samples it is measured how loud a place is.
    pub min_energy_window_samples: usize,
}

impl Default for NormalisedConfig {
    fn default() -> Self {
        Self::published(false)
    }
}

impl NormalisedConfig {
    /// The published settings, with noise or without.
    pub fn published(dithered: bool) -> Self {
        Self {
            feature_size: if dithered { 128 } else { 80 },
            n_fft: 512,
            win_length: 400,
            preemphasis: Some(0.97),
            dither: if dithered { 1e-5 } else { 0.0 },
            max_audio_clip_s: dithered.then_some(35.0),
            overlap_chunk_second: 5.0,
            min_energy_window_samples: 1600,
        }
    }

    /// The settings in a `preprocessor_config.json`, or what is wrong there.
    pub(super) fn from_json(json: Value, dithered: bool) -> std::result::Result<Self, Problem> {
        check_common(&json)?;
        if !dithered {
            check_no_dither(&json)?;
        }
        if let Some(hop) = json.get("hop_length")
            && hop.as_f64() != Some(FRAME_SHIFT as f64)
        {
            return Err(format!("hop_length is {hop}; {FRAME_SHIFT} is supported").into());
        }
        let mut all = serde_json::to_value(Self::published(dithered))?;
        let given = json.as_object().into_iter().flatten();
        for (key, value) in given {
            // What the extractor without noise is told of clips it never looks at.
            let own = dithered || !OF_CLIPS.contains(&key.as_str());
            if let Some(entry) = all.get_mut(key).filter(|_| own) {
                *entry = value.clone();
            }
        }
        typed(all)
    }

    /// How a recording is cut that is longer than what is heard at once.
    fn cutting(&self) -> Option<Cutting> {
        // Halves go to even numbers, as Python rounds.
        let samples = |seconds: f64| (seconds * f64::from(SAMPLE_RATE)).round_ties_even();
        Some(Cutting {
            most: samples(self.max_audio_clip_s?).max(1.0) as usize,
            searched: samples(self.overlap_chunk_second).max(1.0) as usize,
            step: self.min_energy_window_samples,
        })
    }
}

/// The spectrogram, ready to run.
#[derive(Clone)]
pub struct NormalisedLogMel {
    config: NormalisedConfig,
    dithered: bool,
    /// (win_length,)
    window: Vec<f64>,
    /// F filters.
    filters: Vec<Filter>,
    fft: Arc<dyn Fft<f64>>,
}

impl NormalisedLogMel {
    /// `dithered`: whether it is the kind that adds noise.
    ///
    /// # Errors
    /// If a size or a factor is outside what is supported, or there are no bins
    /// or more than n_fft / 2 + 1, the number of FFT frequencies.
    pub fn new(config: NormalisedConfig, dithered: bool) -> Result<Self> {
        let fail = |field: &str, value: &dyn fmt::Display, rule: String| {
            Err(Error::Input(format!("{field} is {value}; {rule}")))
        };
        let n_fft = config.n_fft;
        if !FFT_SIZES.contains(&n_fft) || !n_fft.is_multiple_of(2) {
            let (first, last) = (FFT_SIZES.start(), FFT_SIZES.end());
            let rule = format!("even numbers from {first} to {last} are supported");
            return fail("n_fft", &n_fft, rule);
        }
        if !(1..=n_fft).contains(&config.win_length) {
            let rule = format!("1 to {n_fft}, the points of the spectrum, are supported");
            return fail("win_length", &config.win_length, rule);
        }
        let frequencies = n_fft / 2 + 1;
        if !(1..=frequencies).contains(&config.feature_size) {
            let rule = format!("1 to {frequencies} are supported");
            return fail("feature_size", &config.feature_size, rule);
        }
        let small = |x: f64| x.is_finite() && x.abs() <= 1.0;
        if !small(config.dither) {
            return fail("dither", &config.dither, "0 to 1 is supported".into());
        }
        if let Some(own) = config.preemphasis.filter(|&own| !small(own)) {
            return fail("preemphasis", &own, "-1 to 1 is supported".into());
        }
        if let Some(own) = config
            .max_audio_clip_s
            .filter(|own| !(0.0..1e6).contains(own))
        {
            return fail("max_audio_clip_s", &own, "seconds are supported".into());
        }
        // Whatever it says, a search covers no more than a clip.
        let searched = config.overlap_chunk_second;
        if !(-1e6..1e6).contains(&searched) {
            let rule = "seconds are supported".into();
            return fail("overlap_chunk_second", &searched, rule);
        }
        if config.min_energy_window_samples == 0 {
            let rule = "1 and more are supported".into();
            return fail("min_energy_window_samples", &0, rule);
        }
        // Weights as the reference has them: rounded before and after the area.
        let filters = slaney_filters(config.feature_size, n_fft, |triangle, width| {
            f64::from((f64::from(triangle as f32) * (2.0 / width)) as f32)
        });
        Ok(Self {
            window: hann_window(config.win_length),
            filters,
            fft: FftPlanner::new().plan_fft_forward(n_fft),
            config,
            dithered,
        })
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &NormalisedConfig {
        &self.config
    }

    /// Whether it is the kind that adds noise.
    pub fn is_dithered(&self) -> bool {
        self.dithered
    }

    /// The features a model takes: (T, F), T = samples / 160.
    ///
    /// # Errors
    /// If the sound has fewer than two frames, is longer than the longest clip,
    /// or has a sample that is not a finite number.
    pub fn features(&self, waveform: &Waveform) -> Result<Features> {
        let samples = &waveform.samples;
        let fewest = FEWEST_FRAMES * FRAME_SHIFT;
        if samples.len() < fewest {
            return Err(Error::Input(format!(
                "the sound has {} samples at 16 kHz; at least {fewest} are needed",
                samples.len()
            )));
        }
        let cutting = self.config.cutting();
        if cutting.is_some_and(|own| samples.len() > own.most) {
            return Err(Error::Input(format!(
                "the sound has {} samples, {:.2} s; the model hears {} s at once: split it",
                samples.len(),
                waveform.seconds(),
                self.config.max_audio_clip_s.unwrap_or_default()
            )));
        }
        check_finite(samples)?;
        let mut logs = self.logs(&self.emphasised(samples));
        let bins = self.filters.len();
        let frames = logs.len() / bins;
        normalise(&mut logs, bins);
        let data = logs.iter().map(|&x| x as f32).collect();
        Features::new(data, frames, bins)
    }

    /// The pieces in which a recording is heard, in samples; none where it is heard
    /// whole whatever its length.
    ///
    /// # Errors
    /// If there is a piece of fewer than two frames.
    pub(super) fn pieces(&self, waveform: &Waveform) -> Result<Vec<Range<usize>>> {
        let Some(cutting) = self.config.cutting() else {
            return Ok(Vec::new());
        };
        check_finite(&waveform.samples)?;
        let pieces = cutting.pieces(&waveform.samples, FEWEST_FRAMES * FRAME_SHIFT);
        pieces.map_err(|short| {
            let seconds = short.start as f64 / f64::from(SAMPLE_RATE);
            Error::Input(format!(
                "cut where it is quiet (max_audio_clip_s {}, overlap_chunk_second {}), the sound has a \
                 piece of {} samples at {seconds:.2} s; at least {} are needed",
                self.config.max_audio_clip_s.unwrap_or_default(),
                self.config.overlap_chunk_second,
                short.len(),
                FEWEST_FRAMES * FRAME_SHIFT
            ))
        })
    }

    /// The samples with noise and pre-emphasis.
    fn emphasised(&self, samples: &[f32]) -> Vec<f32> {
        let mut samples = samples.to_vec();
        let dither = self.config.dither as f32;
        if self.config.dither > 0.0 {
            let noise = normal(samples.len() as u32, samples.len());
            for (x, noise) in samples.iter_mut().zip(noise) {
                *x += dither * noise;
            }
        }
        if let Some(factor) = self.config.preemphasis {
            let factor = factor as f32;
            for i in (1..samples.len()).rev() {
                samples[i] -= factor * samples[i - 1];
            }
        }
        samples
    }

    /// Logarithms of mel energies: (samples / 160, F)
    fn logs(&self, samples: &[f32]) -> Vec<f64> {
        let n_fft = self.config.n_fft;
        let bins = self.filters.len();
        let frames = samples.len() / FRAME_SHIFT;
        let mut logs = vec![0.0; frames * bins];
        let mut buffer = vec![Complex::default(); n_fft];
        let mut scratch = vec![Complex::default(); self.fft.get_inplace_scratch_len()];
        // The window is in the middle of the points, and these around the frame's
        // own place.
        let before = (n_fft - self.window.len()) / 2;
        for (t, row) in logs.chunks_exact_mut(bins).enumerate() {
            buffer.fill(Complex::default());
            for (n, w) in self.window.iter().enumerate() {
                let at = (t * FRAME_SHIFT + before + n).checked_sub(n_fft / 2);
                let sample = at.and_then(|at| samples.get(at)).copied();
                buffer[before + n].re = f64::from(sample.unwrap_or_default()) * w;
            }
            self.fft.process_with_scratch(&mut buffer, &mut scratch);
            for (log, filter) in row.iter_mut().zip(&self.filters) {
                *log = (filter.energy(&buffer) + GUARD).ln();
            }
        }
        logs
    }
}

/// Takes each bin's mean off and divides by its deviation.
fn normalise(logs: &mut [f64], bins: usize) {
    let frames = (logs.len() / bins) as f64;
    for bin in 0..bins {
        let column = || logs.iter().skip(bin).step_by(bins);
        let mean = column().sum::<f64>() / frames;
        let squares = column().map(|x| (x - mean).powi(2)).sum::<f64>();
        let deviation = (squares / (frames - 1.0)).sqrt();
        for x in logs.iter_mut().skip(bin).step_by(bins) {
            *x = (*x - mean) / (deviation + EPSILON);
        }
    }
}

/// The symmetric Hann window: (length,), rounded as the reference's.
fn hann_window(length: usize) -> Vec<f64> {
    if length == 1 {
        return vec![1.0];
    }
    let value = |n: usize| 0.5 - 0.5 * (TAU * n as f64 / (length - 1) as f64).cos();
    (0..length).map(|n| f64::from(value(n) as f32)).collect()
}

impl fmt::Debug for NormalisedLogMel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NormalisedLogMel")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn extractor(json: Value, dithered: bool) -> std::result::Result<NormalisedLogMel, String> {
        let config = NormalisedConfig::from_json(json, dithered).map_err(|e| e.to_string())?;
        NormalisedLogMel::new(config, dithered).map_err(|e| e.to_string())
    }

    fn wave(count: usize) -> Waveform {
        let wave = |n: usize| (0.3 * (n as f64 * 0.7).sin() + 0.1 * (n as f64 * 0.05).cos()) as f32;
        Waveform {
            samples: (0..count).map(wave).collect(),
        }
    }

    #[test]
    fn bins_have_no_mean_and_unit_variance() {
        for (count, frames) in [(320, 2), (479, 2), (480, 3), (16_000, 100)] {
            let own = extractor(json!({}), false).unwrap();
            let features = own.features(&wave(count)).unwrap();
            assert_eq!((features.frames, features.bins), (frames, 80));
            assert_eq!(features.sound_frames, frames);
            for bin in 0..80 {
                let column = features.data.iter().skip(bin).step_by(80);
                let column: Vec<f64> = column.map(|&x| x.into()).collect();
                let mean = column.iter().sum::<f64>() / frames as f64;
                let square = column.iter().map(|x| x * x).sum::<f64>();
                assert!(mean.abs() <= 1e-5, "{mean}");
                // Short of 1 by what is added to the deviation.
                let variance = square / (frames as f64 - 1.0);
                assert!((0.0..=1.0 + 1e-5).contains(&variance), "{variance}");
            }
        }
    }

    #[test]
    fn sounds_too_short_and_too_long_are_refused() {
        let message = |own: &NormalisedLogMel, count| {
            let refused = own.features(&wave(count)).unwrap_err();
            refused.to_string()
        };
        let plain = extractor(json!({}), false).unwrap();
        assert!(message(&plain, 319).contains("at least 320"));
        assert!(plain.features(&wave(16_000 * 36)).is_ok());
        let clips = json!({"max_audio_clip_s": 1.5});
        let clipped = extractor(clips.clone(), true).unwrap();
        assert!(clipped.features(&wave(24_000)).is_ok());
        assert!(message(&clipped, 24_001).contains("hears 1.5 s at once"));
        assert!(
            extractor(clips, false)
                .unwrap()
                .features(&wave(24_001))
                .is_ok()
        );
        let mut broken = wave(999);
        broken.samples[17] = f32::NAN;
        assert!(
            plain
                .features(&broken)
                .unwrap_err()
                .to_string()
                .contains("sample 17")
        );
    }

    /// The noise is a matter of the sound's length alone.
    #[test]
    fn noise_is_the_same_every_time_and_can_be_switched_off() {
        let dithered = extractor(json!({"dither": 0.5}), true).unwrap();
        let (a, b) = (dithered.features(&wave(999)), dithered.features(&wave(999)));
        assert_eq!(a.unwrap(), b.unwrap());
        let off = extractor(json!({"dither": 0.0, "feature_size": 80}), true).unwrap();
        let plain = extractor(json!({}), false).unwrap();
        assert_eq!(
            off.features(&wave(999)).unwrap(),
            plain.features(&wave(999)).unwrap()
        );
    }

    #[test]
    fn settings_are_read_and_checked() {
        let all = json!({
            "feature_extractor_type": "CohereAsrFeatureExtractor", "feature_size": 24,
            "hop_length": 160, "n_fft": 256, "win_length": 200, "preemphasis": null,
            "padding_side": "right", "padding_value": 0.0, "sampling_rate": 16_000,
            "overlap_chunk_second": 5.0, "min_energy_window_samples": 1600,
        });
        let own = extractor(all, true).unwrap();
        let published = NormalisedConfig::published(true);
        let expected = NormalisedConfig {
            feature_size: 24,
            n_fft: 256,
            win_length: 200,
            preemphasis: None,
            ..published
        };
        assert_eq!(own.config(), &expected);
        for (field, value) in [
            ("n_fft", json!(511)),
            ("n_fft", json!(0)),
            ("win_length", json!(513)),
            ("win_length", json!(0)),
            ("feature_size", json!(0)),
            ("feature_size", json!(258)),
            ("hop_length", json!(80)),
            ("preemphasis", json!(2)),
            ("preemphasis", json!("much")),
            ("dither", json!(1e300)),
            ("dither", json!(null)),
            ("max_audio_clip_s", json!(-1)),
            ("sampling_rate", json!(8000)),
        ] {
            let problem = extractor(json!({ field: value }), true).unwrap_err();
            assert!(problem.starts_with(&format!("{field} is ")), "{problem}");
        }
        // Noise is no setting of the other kind.
        assert!(extractor(json!({"dither": 1e-5}), false).is_err());
    }
}
