//! Mel scales, which differ between front ends, and one filter of a bank.

use rustfft::num_complex::Complex;
use serde::{Deserialize, Serialize};

use crate::audio::SAMPLE_RATE;

/// A formula from Hz to mel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MelFormula {
    /// 1127 ln(1 + f / 700).
    Kaldi,
    /// Linear up to 1 kHz, which is 15 mel, then 27 mel for a factor of 6.4.
    Slaney,
}

impl MelFormula {
    pub(super) fn mel(self, hertz: f64) -> f64 {
        match self {
            Self::Kaldi => 1127.0 * (1.0 + hertz / 700.0).ln(),
            Self::Slaney if hertz < 1000.0 => 3.0 * hertz / 200.0,
            Self::Slaney => 15.0 + (hertz / 1000.0).ln() * 27.0 / 6.4f64.ln(),
        }
    }

    /// The inverse of [`mel`](Self::mel).
    pub(super) fn hertz(self, mel: f64) -> f64 {
        match self {
            Self::Kaldi => 700.0 * ((mel / 1127.0).exp() - 1.0),
            Self::Slaney if mel < 15.0 => 200.0 * mel / 3.0,
            Self::Slaney => 1000.0 * ((mel - 15.0) * 6.4f64.ln() / 27.0).exp(),
        }
    }
}

/// Where the bins of features lie: their centres are evenly spaced in mel
/// between the lower edge of the first and the upper edge of the last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MelScale {
    pub formula: MelFormula,
    pub low_hertz: f64,
    pub high_hertz: f64,
}

impl MelScale {
    /// The centre of each of `bins`, in Hz.
    pub fn centres(&self, bins: usize) -> Vec<f64> {
        let [low, high] = [self.low_hertz, self.high_hertz].map(|own| self.formula.mel(own));
        let step = (high - low) / (bins + 1) as f64;
        let centres = (1..=bins).map(|bin| self.formula.hertz(low + bin as f64 * step));
        centres.collect()
    }
}

/// Where the filters of [`slaney_filters`] lie.
pub(super) const SLANEY: MelScale = MelScale {
    formula: MelFormula::Slaney,
    low_hertz: 0.0,
    high_hertz: SAMPLE_RATE as f64 / 2.0,
};

/// `count` filters from 0 to the Nyquist frequency whose centres are evenly
/// spaced on Slaney's scale; each is a triangle over frequency in Hz that begins
/// and ends at its neighbours' centres. `weight` makes an FFT frequency's weight
/// of the triangle's height there, 1 at its peak, and its width in Hz.
pub(super) fn slaney_filters(
    count: usize,
    n_fft: usize,
    weight: impl Fn(f64, f64) -> f64,
) -> Vec<Filter> {
    let rate = f64::from(SAMPLE_RATE);
    let step = SLANEY.formula.mel(rate / 2.0) / (count + 1) as f64;
    let edge = |i: usize| SLANEY.formula.hertz(i as f64 * step);
    (0..count)
        .map(|bin| {
            let (left, centre, right) = (edge(bin), edge(bin + 1), edge(bin + 2));
            Filter::new(n_fft / 2 + 1, |k| {
                let at = k as f64 * rate / n_fft as f64;
                let rise = (at - left) / (centre - left);
                let fall = (right - at) / (right - centre);
                weight(rise.min(fall), right - left)
            })
        })
        .collect()
}

/// Weights of neighbouring FFT frequencies from `first` on. A filter that
/// lies between two FFT frequencies has none.
#[derive(Clone)]
pub(super) struct Filter {
    first: usize,
    weights: Vec<f64>,
}

impl Filter {
    /// The filter of those of `frequencies` FFT frequencies whose weight is
    /// above 0. They have to be neighbours.
    pub(super) fn new(frequencies: usize, weight: impl Fn(usize) -> f64) -> Self {
        let inside = |k: &usize| weight(*k) > 0.0;
        let first = (0..frequencies).find(inside).unwrap_or(0);
        let weights = (first..frequencies)
            .take_while(inside)
            .map(&weight)
            .collect();
        Self { first, weights }
    }

    /// The weighted sum of a spectrum's power.
    pub(super) fn energy(&self, spectrum: &[Complex<f64>]) -> f64 {
        self.weights
            .iter()
            .zip(&spectrum[self.first..])
            .map(|(w, x)| w * x.norm_sqr())
            .sum()
    }

    /// FFT frequencies with their weights.
    #[cfg(test)]
    pub(super) fn weights(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        (self.first..).zip(self.weights.iter().copied())
    }
}
