//! Parts of sound files, as lists of utterances name them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::mixing::Mixed;
use super::{Sound, Waveform, at_16_khz, whole};
use crate::error::Problem;
use crate::{Error, Result};

/// How far beyond a file's end a part may end, in seconds: lengths in lists are
/// rounded, and those of compressed files may count what an encoder added.
const ROUNDED: f64 = 0.1;

/// A part of a sound file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// As NeMo's lists have it, in seconds.
    Seconds {
        /// Of what is before it; finite and not negative.
        offset: f64,
        /// Of the part; to the file's end if absent.
        duration: Option<f64>,
    },
    /// As fairseq's lists have it, in samples at the file's own rate.
    Samples {
        /// How many are before it.
        offset: u64,
        /// How many it has.
        count: u64,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds {
                offset,
                duration: None,
            } => write!(f, "{offset} s to the end"),
            Self::Seconds {
                offset,
                duration: Some(duration),
            } => write!(f, "{duration} s from {offset} s on"),
            Self::Samples { offset, count } => write!(f, "{count} samples from {offset} on"),
        }
    }
}

impl Part {
    /// The samples at some rate, of a file that has so many.
    fn range(self, rate: u32, all: usize) -> Result<std::ops::Range<usize>, String> {
        let hertz = f64::from(rate);
        // What is beyond the largest number is beyond every file.
        let at = |seconds: f64| (seconds * hertz).round() as usize;
        let (start, count) = match self {
            Self::Seconds { offset, duration } => (at(offset), duration.map(at)),
            Self::Samples { offset, count } => {
                let number = |own: u64| usize::try_from(own).unwrap_or(usize::MAX);
                (number(offset), Some(number(count)))
            }
        };
        let end = count.map_or(all.max(start), |count| start.saturating_add(count));
        if start >= all || end > all.saturating_add(at(ROUNDED)) {
            let seconds = all as f64 / hertz;
            return Err(format!(
                "its part ({self}) lies behind its end: it has {seconds:.3} s, {all} samples at \
                 {rate} Hz"
            ));
        }
        match start..end.min(all) {
            range if range.is_empty() => Err(format!("its part ({self}) has no samples")),
            range => Ok(range),
        }
    }
}

/// A sound file of which parts are wanted: mono, at the file's own rate, so
/// that parts begin and end at its samples.
pub struct Parted {
    name: String,
    mixed: Mixed,
}

impl Parted {
    /// Reads a sound file as [`Sound::read`] does.
    ///
    /// # Errors
    /// As there.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            mixed: whole(path)?,
        })
    }

    /// A part of it, resampled by itself. Warnings are those of the file.
    ///
    /// # Errors
    /// If the part has no samples or lies behind the file's end; one that ends
    /// less than 0.1 s behind it ends there.
    pub fn part(&self, part: Part) -> Result<Sound, Problem> {
        let Mixed {
            mono,
            rate,
            warnings,
        } = &self.mixed;
        let range = part.range(*rate, mono.len())?;
        let samples = at_16_khz(&mono[range], *rate)?;
        let waveform = Arc::new(Waveform { samples });
        Ok(Sound::of(waveform, warnings.clone()).named(&self.name))
    }
}

impl Sound {
    /// Reads a part of a sound file.
    ///
    /// # Errors
    /// As for [`Sound::read`] and [`Parted::part`].
    pub fn read_part(path: impl AsRef<Path>, part: Part) -> Result<Self> {
        let path = path.as_ref();
        let read = Parted::read(path)?.part(part);
        read.map_err(|problem| Error::file(path, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hound::{SampleFormat, WavSpec, WavWriter};

    fn seconds(offset: f64, duration: Option<f64>) -> Part {
        Part::Seconds { offset, duration }
    }

    #[test]
    fn parts_are_cut_at_the_files_own_samples() {
        let folder = tempfile::tempdir().unwrap();
        for rate in [16_000, 44_100, 8_000] {
            let path = folder.path().join("x.wav");
            let spec = WavSpec {
                channels: 1,
                sample_rate: rate,
                bits_per_sample: 32,
                sample_format: SampleFormat::Float,
            };
            let samples: Vec<f32> = (0..rate).map(|n| (n as f32 * 0.01).sin()).collect();
            let mut writer = WavWriter::create(&path, spec).unwrap();
            for &sample in &samples {
                writer.write_sample(sample).unwrap();
            }
            writer.finalize().unwrap();
            let whole = Parted::read(&path).unwrap();
            let at = |seconds: f64| (seconds * f64::from(rate)).round() as usize;
            for (part, range) in [
                (seconds(0.0, None), 0..at(1.0)),
                (seconds(0.57, None), at(0.57)..at(1.0)),
                (seconds(0.29, Some(0.5)), at(0.29)..at(0.79)),
                // Rounded up in a list.
                (seconds(0.5, Some(0.55)), at(0.5)..at(1.0)),
                (
                    Part::Samples {
                        offset: 7,
                        count: 4_001,
                    },
                    7..4_008,
                ),
            ] {
                let sound = whole.part(part).unwrap();
                assert_eq!(sound.name(), "x.wav");
                let right = crate::audio::resample(&samples[range], rate).unwrap();
                assert_eq!(sound.waveform().samples, right, "{part} at {rate} Hz");
            }
            for (part, words) in [
                (seconds(1.0, None), "behind its end"),
                (seconds(0.5, Some(0.7)), "behind its end"),
                (seconds(1e300, Some(1.0)), "behind its end"),
                (seconds(0.5, Some(1e300)), "behind its end"),
                (seconds(0.5, Some(1e-9)), "has no samples"),
                (
                    Part::Samples {
                        offset: u64::MAX,
                        count: u64::MAX,
                    },
                    "behind its end",
                ),
            ] {
                let message = Sound::read_part(&path, part).unwrap_err().to_string();
                assert!(message.contains(words), "{message}");
                assert!(message.contains("x.wav: "), "{message}");
            }
        }
    }
}
