//! From channels to their mean, and what is odd about them.

use super::Warning;

/// Above this magnitude floats are hardly samples between -1 and 1: 12 dB.
const LOUD: f64 = 4.0;

/// Below this distance from its first frame a sound is silent: -120 dB.
const SILENT: f64 = 1e-6;

/// Channels cancel if their mean has less than this share of the power that
/// channels have in theirs that have nothing in common.
const CANCELLING: f64 = 0.1;

/// A sound as it is decoded: mono, at the file's rate.
#[derive(Debug)]
pub(super) struct Mixed {
    /// (S,)
    pub mono: Vec<f32>,
    /// In Hz.
    pub rate: u32,
    pub warnings: Vec<Warning>,
}

/// Takes frames and keeps their means, so that only these take memory.
#[derive(Default)]
pub(super) struct Mixer {
    pub mono: Vec<f32>,
    first: Vec<f64>,
    /// Of each channel, and of the mean.
    powers: Vec<Power>,
    mean: Power,
    peak: f64,
    /// The largest distance of a sample from its channel's first.
    range: f64,
}

#[derive(Clone, Copy, Default)]
struct Power {
    sum: f64,
    squares: f64,
}

impl Power {
    fn add(&mut self, x: f64) {
        self.sum += x;
        self.squares += x * x;
    }

    /// Of the alternating part.
    fn of(&self, count: f64) -> f64 {
        (self.squares - self.sum * self.sum / count).max(0.0)
    }
}

/// A sample that is no number, or too large for 32 bits.
#[derive(Debug)]
pub(super) struct NotFinite {
    /// From 0.
    pub channel: usize,
    pub value: f64,
}

impl Mixer {
    /// Takes one sample of each channel.
    pub fn push(&mut self, frame: &[f64]) -> Result<(), NotFinite> {
        if self.powers.len() < frame.len() {
            let known = self.powers.len();
            self.powers.resize(frame.len(), Power::default());
            self.first.extend(&frame[known..]);
        }
        let mut sum = 0.0;
        for (channel, &value) in frame.iter().enumerate() {
            if !value.is_finite() || value.abs() > f32::MAX.into() {
                return Err(NotFinite { channel, value });
            }
            sum += value;
            self.powers[channel].add(value);
            self.peak = self.peak.max(value.abs());
            self.range = self.range.max((value - self.first[channel]).abs());
        }
        let mean = sum / frame.len().max(1) as f64;
        self.mean.add(mean);
        self.mono.push(mean as f32);
        Ok(())
    }

    /// All of it, and what is odd about it.
    pub fn end(self, rate: u32) -> Mixed {
        let mut warnings = Vec::new();
        let (count, channels) = (self.mono.len() as f64, self.powers.len() as f64);
        let silent = self.range <= SILENT && self.mono.len() > 1;
        if silent {
            warnings.push(Warning::Silent);
        } else if self.powers.len() > 1 {
            let all: f64 = self.powers.iter().map(|power| power.of(count)).sum();
            if self.mean.of(count) < CANCELLING * all / (channels * channels) {
                warnings.push(Warning::Cancelling);
            }
        }
        if self.peak > LOUD {
            warnings.push(Warning::Loud { peak: self.peak });
        }
        Mixed {
            mono: self.mono,
            rate,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(frames: &[Vec<f64>]) -> Vec<Warning> {
        let mut mixer = Mixer::default();
        for frame in frames {
            mixer.push(frame).unwrap();
        }
        mixer.end(16_000).warnings
    }

    fn made(frame: impl Fn(f64) -> Vec<f64>) -> Vec<Vec<f64>> {
        (0..4000).map(|n| frame(f64::from(n))).collect()
    }

    #[test]
    fn channels_that_cancel_are_told_from_those_that_do_not() {
        let (a, b) = (|n: f64| (0.1 * n).sin(), |n: f64| (0.17 * n + 1.0).sin());
        for (frames, cancels) in [
            (made(|n| vec![a(n)]), false),
            (made(|n| vec![a(n), a(n)]), false),
            (made(|n| vec![a(n), b(n)]), false),
            (made(|n| vec![a(n), 0.0]), false),
            (made(|n| vec![a(n), 0.0, 0.0, 0.0, 0.0, 0.0]), false),
            (made(|n| vec![a(n), -a(n)]), true),
            // What both have of a constant does not hide it.
            (made(|n| vec![0.3 + a(n), 0.3 - 0.9 * a(n)]), true),
            (made(|n| vec![a(n), -a(n), b(n), -b(n)]), true),
        ] {
            let found = warnings(&frames);
            let expected = if cancels {
                vec![Warning::Cancelling]
            } else {
                Vec::new()
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn silence_and_loud_samples_are_seen() {
        assert_eq!(warnings(&made(|_| vec![0.0])), [Warning::Silent]);
        assert_eq!(warnings(&made(|_| vec![0.25, -0.25])), [Warning::Silent]);
        assert_eq!(warnings(&made(|n| vec![3e-5 * (n % 2.0)])), []);
        assert_eq!(warnings(&made(|n| vec![2.0 * (n % 2.0)])), []);
        let loud = warnings(&made(|n| vec![9000.0 * (n % 2.0)]));
        assert_eq!(loud, [Warning::Loud { peak: 9000.0 }]);
        assert!(loud[0].to_string().contains("9.0000e3"), "{}", loud[0]);
    }
}
