//! A sound as users have it: a file, its bytes, or samples at any rate.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::mixing::Mixer;
use super::{
    Decoded, NO_SAMPLES, Warning, Waveform, at_16_khz, check_length, check_rate, decode,
    load_with_warnings, read,
};
use crate::fingerprint::Fingerprint;
use crate::{Error, Result};

/// A sound that a model can hear, with the name that it goes by. Copies share
/// the samples.
#[derive(Clone, Debug)]
pub struct Sound {
    name: String,
    waveform: Arc<Waveform>,
    warnings: Arc<[Warning]>,
}

impl Sound {
    /// Reads a sound file in one of the formats that the README lists, told
    /// apart by its content: WAV, AIFF, AU, NIST SPHERE, FLAC, MP3, OGG, Opus,
    /// WebM, M4A, AAC. Its name is that of the file.
    ///
    /// # Errors
    /// If the file cannot be read, or is no whole sound in such a format.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default();
        let sound = Self::unnamed(load_with_warnings(path)?);
        Ok(sound.named(name.to_string_lossy()))
    }

    /// Reads a file's bytes from something that gives them in order, such as
    /// standard input, to its end or to 4 GiB.
    ///
    /// # Errors
    /// If it cannot be read, or gives no whole sound in such a format.
    pub fn from_reader(reader: impl Read) -> Result<Self> {
        Ok(Self::unnamed(read(reader).map_err(the_sound)?))
    }

    /// Decodes the bytes of a file in one of those formats.
    ///
    /// # Errors
    /// If they are no whole sound in such a format.
    pub fn decode(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        Ok(Self::unnamed(decode(bytes.into()).map_err(the_sound)?))
    }

    /// Takes mono samples (S,) at `rate` Hz; full scale is -1 to 1.
    ///
    /// # Errors
    /// If there are no samples, one is not a finite number, or the rate is not
    /// between 1 kHz and 1 MHz.
    pub fn new(samples: &[f32], rate: u32) -> Result<Self> {
        check_rate(rate).map_err(the_sound)?;
        check_length(samples.len(), rate).map_err(the_sound)?;
        if samples.is_empty() {
            return Err(the_sound(NO_SAMPLES));
        }
        let mut mixer = Mixer::default();
        for (i, &sample) in samples.iter().enumerate() {
            let pushed = mixer.push(&[sample.into()]);
            pushed.map_err(|_| the_sound(format!("has sample {i}, which is {sample}")))?;
        }
        let mixed = mixer.end(rate);
        let samples = at_16_khz(&mixed.mono, rate).map_err(the_sound)?;
        Ok(Self::unnamed((Waveform { samples }, mixed.warnings)))
    }

    fn unnamed((waveform, warnings): Decoded) -> Self {
        Self::of(Arc::new(waveform), warnings)
    }

    pub(super) fn of(waveform: Arc<Waveform>, warnings: Vec<Warning>) -> Self {
        Self {
            name: "sound".into(),
            waveform,
            warnings: warnings.into(),
        }
    }

    /// The same sound under another name, for explanations and pages.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// A file's name without its folder, or `sound`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.waveform.seconds()
    }

    /// As a model hears it: mono, at 16 kHz.
    pub fn waveform(&self) -> &Waveform {
        &self.waveform
    }

    pub(crate) fn shared(&self) -> Arc<Waveform> {
        self.waveform.clone()
    }

    /// Of the samples that a model hears.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_numbers(&self.waveform.samples)
    }

    /// What is not as whoever gave it may think.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Whether this is the other one, or a copy of it.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.waveform, &other.waveform)
    }
}

fn the_sound(problem: impl std::fmt::Display) -> Error {
    Error::Input(format!("the sound {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "tests/fixtures/audio/speech.flac";

    #[test]
    fn samples_of_which_none_are_left_at_16_khz_are_no_sound() {
        for rate in [48_000, 1_000_000] {
            let problem = Sound::new(&[0.5], rate).unwrap_err().to_string();
            assert!(problem.contains("no samples"), "{problem}");
        }
        assert_eq!(
            Sound::new(&[0.5], 16_000).unwrap().waveform().samples,
            [0.5]
        );
    }

    #[test]
    fn a_file_its_bytes_and_its_samples_are_one_sound() {
        let read = Sound::read(FILE).unwrap();
        assert_eq!(read.name(), "speech.flac");
        let decoded = Sound::decode(std::fs::read(FILE).unwrap()).unwrap();
        assert_eq!(decoded.waveform(), read.waveform());
        let samples = &read.waveform().samples;
        let given = Sound::new(samples, 16_000).unwrap().named("x");
        assert_eq!((given.waveform(), given.name()), (read.waveform(), "x"));
        assert!(given.is(&given.clone()) && !given.is(&read));
        // Half the rate is twice the length.
        let slow = Sound::new(samples, 8_000).unwrap();
        assert_eq!(slow.waveform().samples.len(), 2 * samples.len());
    }

    #[test]
    fn what_is_no_sound_is_refused_with_its_reason() {
        let refused = |sound: Result<Sound>| sound.unwrap_err().to_string();
        for (message, words) in [
            (refused(Sound::new(&[], 16_000)), "holds no samples"),
            (
                refused(Sound::new(&[0.0, f32::NAN], 16_000)),
                "sample 1, which is NaN",
            ),
            (refused(Sound::new(&[0.0], 10)), "10 Hz"),
            (refused(Sound::decode(Vec::new())), "is an empty file"),
            (refused(Sound::decode(&b"hello"[..])), "unknown format"),
            (refused(Sound::read("absent.wav")), "absent.wav: "),
        ] {
            assert!(message.contains(words), "{message}");
        }
    }
}
