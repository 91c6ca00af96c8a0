//! Kaldi's log-mel filter bank.
//!
//! As `torchaudio.compliance.kaldi.fbank` computes it with the settings of
//! transformers' Speech2TextFeatureExtractor: samples times 2^15, frames of
//! 25 ms every 10 ms with none beyond the sound's end, each frame without its
//! mean, pre-emphasis 0.97, Povey window, power spectrum of 512 points, mel
//! filters from 20 Hz to 8 kHz triangular on the mel scale, natural logarithm
//! with a floor. No dither. All of it in f64; the references are made in f32
//! and differ by their own rounding.

use std::f64::consts::TAU;
use std::fmt;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};
use serde::Deserialize;
use serde_json::Value;

use super::mel::{Filter, MelFormula, MelScale};
use super::{Features, check_common, check_finite, check_no_dither, normalize, typed};
use crate::audio::{SAMPLE_RATE, Waveform};
use crate::error::Problem;
use crate::{Error, Result};

/// Samples of one frame: 25 ms.
pub const FRAME_LENGTH: usize = 400;
/// Samples from one frame's start to the next one's: 10 ms.
pub const FRAME_SHIFT: usize = 160;

const FFT_SIZE: usize = 512;
const PRE_EMPHASIS: f64 = 0.97;
/// The lowest filter's lower edge, in Hz.
const LOW_HERTZ: f64 = 20.0;
/// Kaldi works on 16-bit sample values.
const FULL_SCALE: f64 = 32_768.0;
/// The least energy that the logarithm sees.
const FLOOR: f64 = f32::EPSILON as f64;

/// The settings of a [`Fbank`], named as in `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FbankConfig {
    /// F, at most one filter per FFT frequency.
    pub num_mel_bins: usize,
    /// Whether to normalise over the utterance at all (spelt as in the file).
    pub do_ceptral_normalize: bool,
    /// Whether normalising makes each bin's mean 0.
    pub normalize_means: bool,
    /// Whether normalising makes each bin's variance 1.
    pub normalize_vars: bool,
}

impl Default for FbankConfig {
    fn default() -> Self {
        Self {
            num_mel_bins: 80,
            do_ceptral_normalize: true,
            normalize_means: true,
            normalize_vars: true,
        }
    }
}

impl FbankConfig {
    /// The settings in a `preprocessor_config.json`, or what is wrong there.
    pub(super) fn from_json(json: Value) -> std::result::Result<Self, Problem> {
        check_common(&json)?;
        check_no_dither(&json)?;
        typed(json)
    }
}

/// The filter bank, ready to run.
#[derive(Clone)]
pub struct Fbank {
    config: FbankConfig,
    /// (400,)
    window: Vec<f64>,
    /// F filters.
    filters: Vec<Filter>,
    fft: Arc<dyn Fft<f64>>,
}

impl Fbank {
    /// # Errors
    /// If the number of bins is 0 or above 257, the number of FFT frequencies.
    pub fn new(config: FbankConfig) -> Result<Self> {
        let frequencies = FFT_SIZE / 2 + 1;
        if !(1..=frequencies).contains(&config.num_mel_bins) {
            return Err(Error::Input(format!(
                "num_mel_bins is {}; 1 to {frequencies} are supported",
                config.num_mel_bins
            )));
        }
        Ok(Self {
            window: povey_window(),
            filters: mel_filters(config.num_mel_bins),
            fft: FftPlanner::new().plan_fft_forward(FFT_SIZE),
            config,
        })
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &FbankConfig {
        &self.config
    }

    /// The features a model takes: [`Fbank::log_mel`], normalised if the
    /// settings say so. (T, F)
    ///
    /// # Errors
    /// As [`Fbank::log_mel`].
    pub fn features(&self, waveform: &Waveform) -> Result<Features> {
        let mut features = self.log_mel(waveform)?;
        if self.config.do_ceptral_normalize {
            let FbankConfig {
                normalize_means,
                normalize_vars,
                ..
            } = self.config;
            normalize(&mut features, normalize_means, normalize_vars);
        }
        Ok(features)
    }

    /// Natural logarithms of mel energies, not normalised. (T, F) with
    /// T = 1 + (samples - 400) / 160, rounded down.
    ///
    /// # Errors
    /// If the sound is shorter than one frame or has a sample that is not a
    /// finite number.
    pub fn log_mel(&self, waveform: &Waveform) -> Result<Features> {
        let samples = &waveform.samples;
        if samples.len() < FRAME_LENGTH {
            return Err(Error::Input(format!(
                "the sound has {} samples at 16 kHz ({:.1} ms); at least {FRAME_LENGTH} (25 ms) \
                 are needed",
                samples.len(),
                1e3 * waveform.seconds()
            )));
        }
        check_finite(samples)?;

        let frames = 1 + (samples.len() - FRAME_LENGTH) / FRAME_SHIFT;
        let bins = self.filters.len();
        let mut data = Vec::with_capacity(frames * bins);
        let mut buffer = vec![Complex::default(); FFT_SIZE];
        let mut scratch = vec![Complex::default(); self.fft.get_inplace_scratch_len()];
        for start in (0..frames).map(|t| t * FRAME_SHIFT) {
            self.window_frame(&samples[start..start + FRAME_LENGTH], &mut buffer);
            self.fft.process_with_scratch(&mut buffer, &mut scratch);
            let energies = self.filters.iter().map(|filter| filter.energy(&buffer));
            data.extend(energies.map(|energy| energy.max(FLOOR).ln() as f32));
        }
        Features::new(data, frames, bins)
    }

    /// Fills `buffer` (512,) with what the FFT takes of one frame (400,).
    fn window_frame(&self, frame: &[f32], buffer: &mut [Complex<f64>]) {
        let scaled = |x: f32| f64::from(x) * FULL_SCALE;
        let mean = frame.iter().map(|&x| scaled(x)).sum::<f64>() / frame.len() as f64;
        buffer.fill(Complex::default());
        // The first sample's predecessor is itself.
        let mut previous = scaled(frame[0]) - mean;
        for ((slot, &x), w) in buffer.iter_mut().zip(frame).zip(&self.window) {
            let x = scaled(x) - mean;
            slot.re = (x - PRE_EMPHASIS * previous) * w;
            previous = x;
        }
    }
}

impl fmt::Debug for Fbank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fbank")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Kaldi's own window: a symmetric Hann window to the power of 0.85. (400,)
fn povey_window() -> Vec<f64> {
    let last = (FRAME_LENGTH - 1) as f64;
    (0..FRAME_LENGTH)
        .map(|n| (0.5 - 0.5 * (TAU * n as f64 / last).cos()).powf(0.85))
        .collect()
}

/// Where the filters lie.
pub(super) const SCALE: MelScale = MelScale {
    formula: MelFormula::Kaldi,
    low_hertz: LOW_HERTZ,
    high_hertz: SAMPLE_RATE as f64 / 2.0,
};

fn mel(hertz: f64) -> f64 {
    SCALE.formula.mel(hertz)
}

/// `count` filters whose centres are evenly spaced on the mel scale; each is
/// a triangle there that begins and ends at its neighbours' centres.
fn mel_filters(count: usize) -> Vec<Filter> {
    let nyquist = f64::from(SAMPLE_RATE) / 2.0;
    let low = mel(LOW_HERTZ);
    let step = (mel(nyquist) - low) / (count + 1) as f64;
    let frequency_mel = |k: usize| mel(k as f64 * f64::from(SAMPLE_RATE) / FFT_SIZE as f64);

    (0..count)
        .map(|bin| {
            let left = low + bin as f64 * step;
            // At the Nyquist frequency itself every filter is 0.
            Filter::new(FFT_SIZE / 2, |k| {
                let along = (frequency_mel(k) - left) / step;
                along.min(2.0 - along)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fbank(num_mel_bins: usize) -> Fbank {
        Fbank::new(FbankConfig {
            num_mel_bins,
            ..FbankConfig::default()
        })
        .unwrap()
    }

    fn tone(hertz: f64, count: usize) -> Waveform {
        Waveform {
            samples: (0..count)
                .map(|n| (0.5 * (TAU * hertz * n as f64 / 16_000.0).sin()) as f32)
                .collect(),
        }
    }

    #[test]
    fn the_number_of_frames_follows_the_length() {
        for (count, frames) in [(400, 1), (401, 1), (559, 1), (560, 2), (719, 2), (720, 3)] {
            let features = fbank(80).log_mel(&tone(500.0, count)).unwrap();
            assert_eq!(
                (features.frames, features.bins),
                (frames, 80),
                "{count} samples"
            );
        }
    }

    #[test]
    fn sounds_under_one_frame_are_refused() {
        for count in [0, 1, 399] {
            let message = fbank(80)
                .features(&tone(500.0, count))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(&format!("{count} samples")) && message.contains("400"),
                "{message}"
            );
        }
    }

    #[test]
    fn samples_that_are_not_finite_are_named() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut sound = tone(500.0, 1000);
            sound.samples[17] = bad;
            let message = fbank(80).features(&sound).unwrap_err().to_string();
            assert!(message.contains("sample 17"), "{message}");
        }
    }

    #[test]
    fn silence_is_the_floor_and_zero_once_normalised() {
        for level in [0.0, 0.3] {
            let silence = Waveform {
                samples: vec![level; 4000],
            };
            let log_mel = fbank(80).log_mel(&silence).unwrap();
            let floor = f64::from(f32::EPSILON).ln() as f32;
            assert!(log_mel.data.iter().all(|&x| x == floor), "level {level}");
            let features = fbank(80).features(&silence).unwrap();
            assert!(features.data.iter().all(|&x| x == 0.0), "level {level}");
        }
    }

    /// A tone is loudest in the filter whose centre is next to it.
    #[test]
    fn tones_fall_into_their_filter() {
        for hertz in [300.0, 1000.0, 3137.0, 7000.0] {
            let features = fbank(80).log_mel(&tone(hertz, 1600)).unwrap();
            let step = (mel(8000.0) - mel(20.0)) / 81.0;
            let expected = ((mel(hertz) - mel(20.0)) / step - 1.0).round() as usize;
            for t in 0..features.frames {
                let frame = features.frame(t);
                let loudest = (0..80)
                    .max_by(|&a, &b| frame[a].total_cmp(&frame[b]))
                    .unwrap();
                assert!(
                    loudest.abs_diff(expected) <= 1,
                    "{hertz} Hz: {loudest}, not {expected}"
                );
            }
        }
    }

    /// Neighbouring triangles sum to 1 between the outermost centres.
    #[test]
    fn filters_share_each_frequency() {
        for count in [3, 23, 80, 128] {
            let filters = mel_filters(count);
            let mut sums = [0.0; FFT_SIZE / 2];
            for filter in &filters {
                for (k, w) in filter.weights() {
                    sums[k] += w;
                }
            }
            let step = (mel(8000.0) - mel(20.0)) / (count + 1) as f64;
            for (k, sum) in sums.iter().enumerate() {
                let at = (mel(k as f64 * 31.25) - mel(20.0)) / step;
                if (1.0..=count as f64).contains(&at) {
                    assert!((sum - 1.0f64).abs() <= 1e-12, "{count} filters, {k}: {sum}");
                }
            }
        }
    }

    /// Far more filters than FFT frequencies at the low end: some are empty,
    /// stay at the floor and become 0, never NaN.
    #[test]
    fn any_number_of_bins_gives_finite_features() {
        for count in [1, 2, 3, 7, 40, 128, 257] {
            let features = fbank(count).features(&tone(440.0, 3210)).unwrap();
            assert_eq!(features.bins, count);
            assert!(features.data.iter().all(|x| x.is_finite()), "{count} bins");
        }
        for count in [0, 258] {
            let config = FbankConfig {
                num_mel_bins: count,
                ..FbankConfig::default()
            };
            assert!(Fbank::new(config).is_err());
        }
    }

    #[test]
    fn normalisation_can_be_switched_off() {
        let plain = Fbank::new(FbankConfig {
            do_ceptral_normalize: false,
            ..FbankConfig::default()
        })
        .unwrap();
        let sound = tone(440.0, 3210);
        assert_eq!(
            plain.features(&sound).unwrap(),
            plain.log_mel(&sound).unwrap()
        );
    }
}
