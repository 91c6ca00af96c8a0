//! WAV files: 8-, 16-, 24- and 32-bit integers and 32-bit floats.
//!
//! By hound, not by symphonia, which reads WAV too: hound says how many
//! samples the header promises, so that a file cut short is known for one, and
//! takes the file apart so little that odd chunks can be helped over.

use std::io::{Cursor, Read};

use hound::{SampleFormat, WavReader, WavSpec};

use super::{CONVERT, NO_SAMPLES, check_length, check_rate};
use crate::error::Problem;

/// The channels' mean and the sample rate in Hz, or what is wrong.
pub(super) fn decode(bytes: &[u8]) -> std::result::Result<(Vec<f32>, u32), Problem> {
    let reader = open_wav(bytes).map_err(|e| describe(e, None))?;
    let spec = reader.spec();
    check_rate(spec.sample_rate)?;
    let promised = reader.duration() as usize;
    if promised == 0 {
        return Err(NO_SAMPLES.into());
    }
    check_length(promised, spec.sample_rate)?;
    let mono = match spec.sample_format {
        SampleFormat::Int => {
            let full_scale = f64::from(spec.bits_per_sample - 1).exp2();
            let values = reader.into_samples::<i32>();
            average(values.map(|v| v.map(|v| f64::from(v) / full_scale)), spec)?
        }
        SampleFormat::Float => {
            let values = reader.into_samples::<f32>();
            average(values.map(|v| v.map(f64::from)), spec)?
        }
    };
    if mono.len() < promised {
        return Err(format!(
            "is truncated: its header promises {promised} samples per channel, {} are there; \
             record or copy it again, or rewrite its header ({CONVERT})",
            mono.len()
        )
        .into());
    }
    Ok((mono, spec.sample_rate))
}

/// A reader behind the header. Chunks of odd length are followed by a byte of
/// padding, which the decoder does not know (some writers leave it out); where
/// it loses its way for that, it gets the two chunks it needs alone.
fn open_wav(bytes: &[u8]) -> hound::Result<WavReader<impl Read + '_>> {
    match WavReader::new(Cursor::new(Vec::new()).chain(bytes)) {
        Err(hound::Error::IoError(e)) => match padded_chunks(bytes) {
            Some((header, data)) => WavReader::new(Cursor::new(header).chain(data)),
            None => Err(hound::Error::IoError(e)),
        },
        result => result,
    }
}

/// The header with its format chunk and the data chunk's head, and what
/// follows that head.
fn padded_chunks(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut header = bytes.get(..12)?.to_vec();
    let mut rest = &bytes[12..];
    loop {
        let (head, body) = rest.split_at_checked(8)?;
        if head.starts_with(b"data") {
            header.extend(head);
            return Some((header, body));
        }
        let length = u32::from_le_bytes(head[4..].try_into().ok()?) as usize;
        if head.starts_with(b"fmt ") {
            header.extend(head);
            header.extend(body.get(..length)?);
        }
        rest = body.get(length.checked_next_multiple_of(2)?..)?;
    }
}

/// The mean over channels of interleaved samples, up to the last complete
/// frame before the data ends.
fn average(
    values: impl Iterator<Item = hound::Result<f64>>,
    spec: WavSpec,
) -> std::result::Result<Vec<f32>, Problem> {
    let channels = usize::from(spec.channels);
    let mut mono = Vec::new();
    let mut sum = 0.0;
    for (i, value) in values.enumerate() {
        let value = match value {
            Ok(value) => value,
            Err(hound::Error::IoError(_)) => break,
            Err(e) => return Err(describe(e, Some(spec))),
        };
        let channel = i % channels;
        if !value.is_finite() {
            return Err(format!(
                "sample {} of channel {} is {value}; every sample must be a finite number",
                i / channels,
                channel + 1
            )
            .into());
        }
        sum += value;
        if channel + 1 == channels {
            mono.push((sum / channels as f64) as f32);
            sum = 0.0;
        }
    }
    Ok(mono)
}

/// A decoder's complaint, with what would be right.
fn describe(error: hound::Error, spec: Option<WavSpec>) -> Problem {
    const READ: &str = "8-, 16-, 24- and 32-bit integers and 32-bit floats are read";
    let text = match &error {
        hound::Error::IoError(_) => {
            format!(
                "is truncated: it ends before its samples begin; record or copy it again, or {CONVERT}"
            )
        }
        hound::Error::FormatError(reason) => {
            format!("has a WAV header that cannot be used ({reason}); {READ}: {CONVERT}")
        }
        _ => {
            let bits = spec.map_or(String::new(), |s| format!(" ({} bits)", s.bits_per_sample));
            format!("has a sample encoding{bits} that is not supported; {READ}: {CONVERT}")
        }
    };
    Problem::new(text, error)
}
