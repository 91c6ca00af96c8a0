//! One filter of a mel filter bank; the scales differ between front ends.

use rustfft::num_complex::Complex;

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
