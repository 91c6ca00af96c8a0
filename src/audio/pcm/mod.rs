//! Sounds whose samples are numbers: WAV, AIFF, AU, NIST SPHERE.
//!
//! Each container says in its header what its samples are ([`Layout`]); all of
//! them are read by one decoder ([`Encoding`]).

mod aiff;
mod au;
mod chunks;
mod encoding;
mod riff;
mod sphere;

use std::io::ErrorKind;

use self::encoding::Encoding;
pub(super) use self::sphere::MAGIC as SPHERE;
use super::mixing::{Mixed, Mixer};
use super::{CONVERT, NO_SAMPLES, Warning, check_length, check_rate};
use crate::error::Problem;

/// Which container holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// WAV; RF64 and BW64, its forms beyond 4 GiB.
    Riff,
    /// Sony's form of it.
    Wave64,
    /// AIFF and AIFF-C.
    Aiff,
    /// Sun's and NeXT's.
    Au,
    /// NIST SPHERE.
    Sphere,
}

/// What a header says: where samples are and how they are written.
#[derive(Debug)]
struct Layout<'a> {
    encoding: Encoding,
    channels: usize,
    /// In Hz.
    rate: u32,
    /// The interleaved samples; almost always one part.
    parts: Vec<Part<'a>>,
    /// Bytes behind the samples that are nothing the container knows.
    surplus: usize,
}

/// Samples that stand together.
#[derive(Debug)]
struct Part<'a> {
    bytes: &'a [u8],
    /// In bytes; absent where the header does not say.
    stated: Option<u64>,
}

impl<'a> Part<'a> {
    /// At most as many bytes as stated, of `rest`.
    fn new(rest: &'a [u8], stated: Option<u64>) -> Self {
        let length = stated.map_or(rest.len(), |n| {
            usize::try_from(n).map_or(rest.len(), |n| n.min(rest.len()))
        });
        let bytes = &rest[..length];
        Self { bytes, stated }
    }
}

/// The channels' mean, or what is wrong with the file.
pub(super) fn decode(bytes: &[u8], container: Container) -> Result<Mixed, Problem> {
    let layout = match container {
        Container::Riff => riff::layout(bytes)?,
        Container::Wave64 => riff::layout_64(bytes)?,
        Container::Aiff => aiff::layout(bytes)?,
        Container::Au => au::layout(bytes)?,
        Container::Sphere => sphere::layout(bytes)?,
    };
    layout.decode()
}

impl<'a> Layout<'a> {
    /// Samples that stand together behind a header of so many channels, which
    /// states their bytes or does not.
    fn new(
        encoding: Encoding,
        channels: u32,
        rate: u32,
        rest: &'a [u8],
        stated: Option<u64>,
    ) -> Result<Self, Problem> {
        // No recorder has as many, and each has a place in memory.
        let few = u16::try_from(channels);
        let few = few.map_err(|_| format!("has a header that promises {channels} channels"))?;
        let part = Part::new(rest, stated);
        let behind = &rest[part.bytes.len()..];
        Ok(Self {
            encoding,
            channels: few.into(),
            rate,
            surplus: if is_filling(behind) { 0 } else { behind.len() },
            parts: vec![part],
        })
    }

    fn decode(&self) -> Result<Mixed, Problem> {
        check_rate(self.rate)?;
        if self.channels == 0 {
            return Err("has a header that promises no channels".into());
        }
        let sample = self.encoding.bytes();
        let frame = sample * self.channels;
        let mut mixer = Mixer::default();
        let mut values = vec![0.0; self.channels];
        for part in &self.parts {
            let there = part.bytes.len() / frame;
            let promised = part.stated.map_or(there as u64, |n| n / frame as u64);
            // What is promised counts: a header of so many hours is refused by its own words.
            let all = promised.saturating_add(mixer.mono.len() as u64);
            check_length(usize::try_from(all).unwrap_or(usize::MAX), self.rate)?;
            if (there as u64) < promised {
                return Err(format!(
                    "is truncated: its header promises {promised} samples per channel, {there} \
                     are there; record or copy it again, or rewrite its header ({CONVERT})"
                )
                .into());
            }
            mixer.mono.reserve(there);
            for frame in part.bytes.chunks_exact(frame) {
                for (value, bytes) in values.iter_mut().zip(frame.chunks_exact(sample)) {
                    *value = self.encoding.value(bytes);
                }
                mixer.push(&values).map_err(|bad| {
                    format!(
                        "sample {} of channel {} is {:e}; every sample must be a finite number \
                         that a 32-bit float can hold",
                        mixer.mono.len(),
                        bad.channel + 1,
                        bad.value
                    )
                })?;
            }
        }
        if mixer.mono.is_empty() {
            return Err(NO_SAMPLES.into());
        }
        let mut mixed = mixer.end(self.rate);
        if self.parts.iter().any(|part| part.stated.is_none()) {
            mixed.warnings.push(Warning::LengthUnknown);
        }
        if self.parts.len() > 1 {
            let count = self.parts.len();
            mixed.warnings.push(Warning::Several { count });
        }
        if self.surplus > 0 {
            let bytes = self.surplus;
            mixed.warnings.push(Warning::Surplus { bytes });
        }
        Ok(mixed)
    }
}

/// Whether nothing is there, or what fills a block.
fn is_filling(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// What a file is that ends before its samples do.
fn ends_early() -> Problem {
    let text = format!(
        "is truncated: it ends before its samples begin; record or copy it again, or {CONVERT}"
    );
    Problem::new(text, std::io::Error::from(ErrorKind::UnexpectedEof))
}

/// A header that says `what`.
fn unusable(name: &str, what: &str) -> Problem {
    format!("has {name} header that cannot be used ({what}); {CONVERT}").into()
}
