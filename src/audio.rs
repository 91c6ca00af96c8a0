//! From a sound file to the waveform that a model hears: mono, 16 kHz.
//!
//! WAV is read (8-, 16-, 24- and 32-bit integers, 32-bit floats; any rate and
//! channel count). A file that promises more than it holds is an error, not a
//! shorter sound: an explanation of half an utterance would look complete.

use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use crate::{Error, Result};

/// Samples per second of every [`Waveform`], in Hz.
pub const SAMPLE_RATE: u32 = 16_000;

/// Rates of input files, in Hz. Headers outside this range are broken in
/// practice, and a resampler for them would need gigabytes.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

/// Samples on the slower side of one resampling block. Longer blocks bring
/// the filter's cutoff nearer to the Nyquist frequency: 98.7% of it here.
const RESAMPLER_BLOCK: usize = 1024;

const CONVERT: &str = "convert it with `ffmpeg -i IN -ac 1 -ar 16000 OUT.wav`";

/// A mono sound at [`SAMPLE_RATE`]; full scale is -1 to 1. Float files may
/// exceed full scale and are kept as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Waveform {
    /// (S,)
    pub samples: Vec<f32>,
}

impl Waveform {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(SAMPLE_RATE)
    }
}

/// Reads a WAV file, averages its channels and resamples it to 16 kHz. The
/// length is that of the file times 16000 / rate, rounded (halves up).
///
/// # Errors
/// If the file cannot be read, is not a WAV file, is truncated, holds no
/// samples or samples that are not finite numbers, or has an encoding or a
/// rate that is not supported.
pub fn load(path: impl AsRef<Path>) -> Result<Waveform> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|e| Error::file(path, e))?;
    let (mono, rate) = decode_wav(&bytes).map_err(|problem| Error::file(path, problem))?;
    let samples = resample(&mono, rate).map_err(|problem| Error::file(path, problem))?;
    Ok(Waveform { samples })
}

/// The channels' mean and the sample rate in Hz, or what is wrong.
fn decode_wav(bytes: &[u8]) -> std::result::Result<(Vec<f32>, u32), String> {
    if bytes.is_empty() {
        return Err(format!(
            "is an empty file; a WAV file is needed ({CONVERT})"
        ));
    }
    if !(bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE")) {
        return Err(format!(
            "is {}, not WAV, the one format read so far; {CONVERT}",
            format_name(bytes)
        ));
    }
    let reader = open_wav(bytes).map_err(|e| describe(e, None))?;
    let spec = reader.spec();
    if !RATES.contains(&spec.sample_rate) {
        return Err(format!(
            "has a sample rate of {} Hz; {} to {} Hz can be resampled",
            spec.sample_rate,
            RATES.start(),
            RATES.end()
        ));
    }
    let promised = reader.duration() as usize;
    if promised == 0 {
        return Err("holds no samples; a recording of at least 25 ms is needed".into());
    }
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
        ));
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
) -> std::result::Result<Vec<f32>, String> {
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
            ));
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
fn describe(error: hound::Error, spec: Option<WavSpec>) -> String {
    const READ: &str = "8-, 16-, 24- and 32-bit integers and 32-bit floats are read";
    match error {
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
    }
}

/// What a file that is not WAV seems to be.
fn format_name(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'f', b'L', b'a', b'C', ..] => "FLAC",
        [b'O', b'g', b'g', b'S', ..] => "OGG",
        [b'I', b'D', b'3', ..] | [0xff, 0xe0..=0xff, ..] => "MP3",
        [b'R', b'F', b'6', b'4', ..] => "RF64",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "MP4",
        _ => "of an unknown format",
    }
}

/// `samples` at `rate` Hz as they are at [`SAMPLE_RATE`].
fn resample(samples: &[f32], rate: u32) -> std::result::Result<Vec<f32>, String> {
    if rate == SAMPLE_RATE {
        return Ok(samples.to_vec());
    }
    let (rate, target) = (rate as usize, SAMPLE_RATE as usize);
    let length = (2 * samples.len() * target + rate) / (2 * rate);
    let divisor = gcd(rate, target);
    // The smallest block is rate/divisor samples in, target/divisor out. The
    // filter delays by half a block; only an even number of smallest blocks
    // makes that a whole number of samples on both sides, so that nothing is
    // left of the delay once the resampler has dropped it.
    let smaller = rate.min(target) / divisor;
    let blocks = RESAMPLER_BLOCK.div_ceil(smaller).next_multiple_of(2);
    let mut resampler = Fft::<f64>::new_custom(
        rate,
        target,
        blocks * rate / divisor,
        1,
        1,
        WindowFunction::BlackmanHarris2,
        FixedSync::Both,
    )
    .map_err(|e| format!("cannot be resampled from {rate} Hz: {e}"))?;

    let input: Vec<f64> = samples.iter().map(|&x| f64::from(x)).collect();
    let input = InterleavedSlice::new(&input, 1, samples.len())
        .map_err(|e| format!("cannot be resampled from {rate} Hz: {e}"))?;
    let output = resampler
        .process_all(&input, samples.len(), None)
        .map_err(|e| format!("cannot be resampled from {rate} Hz: {e}"))?
        .take_data();
    // The resampler rounds the length up.
    debug_assert!(output.len() >= length);
    Ok(output.iter().take(length).map(|&x| x as f32).collect())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hound::WavWriter;
    use std::f64::consts::TAU;
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn spec(channels: u16, sample_rate: u32, bits: u16, sample_format: SampleFormat) -> WavSpec {
        WavSpec {
            channels,
            sample_rate,
            bits_per_sample: bits,
            sample_format,
        }
    }

    fn write_ints(dir: &TempDir, spec: WavSpec, values: &[i32]) -> PathBuf {
        let path = dir.path().join("sound.wav");
        let mut writer = WavWriter::create(&path, spec).unwrap();
        for &v in values {
            writer.write_sample(v).unwrap();
        }
        writer.finalize().unwrap();
        path
    }

    fn write_floats(dir: &TempDir, spec: WavSpec, values: &[f32]) -> PathBuf {
        let path = dir.path().join("sound.wav");
        let mut writer = WavWriter::create(&path, spec).unwrap();
        for &v in values {
            writer.write_sample(v).unwrap();
        }
        writer.finalize().unwrap();
        path
    }

    /// The message of a load that must fail: one line that names the file.
    fn refusal(path: &Path) -> String {
        let message = load(path).unwrap_err().to_string();
        assert!(
            message.starts_with(&path.display().to_string()),
            "{message}"
        );
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn integers_of_every_width_are_scaled_by_their_full_scale() {
        let dir = TempDir::new().unwrap();
        for bits in [8, 16, 24, 32] {
            let top = (1i64 << (bits - 1)) as f64;
            let values = [-top, -top / 2.0, 0.0, top / 4.0, top - 1.0];
            let path = write_ints(
                &dir,
                spec(1, SAMPLE_RATE, bits, SampleFormat::Int),
                &values.map(|v| v as i32),
            );
            let wave = load(&path).unwrap();
            let expected: Vec<f32> = values.iter().map(|v| (v / top) as f32).collect();
            assert_eq!(wave.samples, expected, "{bits} bits");
        }
    }

    #[test]
    fn floats_and_digital_silence_are_kept() {
        let dir = TempDir::new().unwrap();
        let float = spec(1, SAMPLE_RATE, 32, SampleFormat::Float);
        let values = [0.0, -1.5, 0.125, f32::MIN_POSITIVE];
        assert_eq!(
            load(write_floats(&dir, float, &values)).unwrap().samples,
            values
        );

        let silence = vec![0; 48_000];
        let path = write_ints(&dir, spec(1, 48_000, 16, SampleFormat::Int), &silence);
        assert_eq!(load(path).unwrap().samples, vec![0.0; 16_000]);
    }

    #[test]
    fn channels_are_averaged() {
        let dir = TempDir::new().unwrap();
        let three = spec(3, SAMPLE_RATE, 16, SampleFormat::Int);
        let path = write_ints(&dir, three, &[3 << 10, 0, 0, 1 << 10, 2 << 10, 3 << 10]);
        assert_eq!(load(path).unwrap().samples, [0.03125, 0.0625]);
    }

    /// A sine keeps its phase and amplitude through resampling: every sample
    /// away from the ends is that of a sine made at 16 kHz. The filter reaches
    /// over half a block, at most 1 s for the rates here.
    #[test]
    fn a_sine_resampled_equals_the_sine_at_16_khz() {
        let dir = TempDir::new().unwrap();
        // 11,027 Hz is prime: its blocks are the longest.
        for rate in [44_100, 22_050, 8_000, 48_000, 96_000, 11_027] {
            for hertz in [313.0, 3_400.0] {
                let count = 3 * rate as usize + 7;
                let values: Vec<f32> = (0..count)
                    .map(|n| (0.8 * (TAU * hertz * n as f64 / f64::from(rate) + 0.3).sin()) as f32)
                    .collect();
                let path = write_floats(&dir, spec(1, rate, 32, SampleFormat::Float), &values);
                let wave = load(path).unwrap();

                let exact = count as f64 * 16_000.0 / f64::from(rate);
                assert_eq!(wave.samples.len(), exact.round() as usize, "{rate} Hz");
                let worst = wave
                    .samples
                    .iter()
                    .enumerate()
                    .skip(16_000)
                    .take(16_000)
                    .map(|(n, &x)| {
                        let sine = 0.8 * (TAU * hertz * n as f64 / 16_000.0 + 0.3).sin();
                        (f64::from(x) - sine).abs()
                    })
                    .fold(0.0, f64::max);
                println!("{rate} Hz, {hertz} Hz sine: largest error {worst:.1e}");
                // f32 in and out: 2 roundings of 2^-24 x 0.8, and the filter's
                // ripple, which the window keeps below -120 dB.
                assert!(worst <= 1e-6, "{rate} Hz, {hertz} Hz sine: {worst:e}");
            }
        }
    }

    #[test]
    fn tones_above_the_new_nyquist_frequency_vanish() {
        let tone: Vec<f32> = (0..48_000)
            .map(|n| (TAU * 9_000.0 * f64::from(n) / 48_000.0).sin() as f32)
            .collect();
        let out = resample(&tone, 48_000).unwrap();
        let worst = out[3_000..13_000]
            .iter()
            .fold(0.0f32, |m, x| m.max(x.abs()));
        println!("9 kHz tone after resampling to 16 kHz: {worst:.1e}");
        assert!(worst <= 1e-6, "{worst:e}");
    }

    #[test]
    fn awkward_lengths_are_rounded() {
        for rate in [1_000, 44_100, 48_000] {
            for count in [1usize, 2, 3, 7, 441, 1023, 1024, 1025, 4096] {
                let out = resample(&vec![0.25; count], rate).unwrap();
                let expected = (count as f64 * 16_000.0 / f64::from(rate)).round() as usize;
                assert_eq!(out.len(), expected, "{count} samples at {rate} Hz");
            }
        }
        // A prime near the highest rate: blocks of two million samples.
        assert_eq!(resample(&[0.25; 4096], 999_983).unwrap().len(), 66);
    }

    #[test]
    fn files_that_are_not_wav_are_named() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("sound.wav");
        for (bytes, word) in [
            (&b"fLaC\0\0\0\x22"[..], "FLAC"),
            (b"OggS", "OGG"),
            (b"ID3\x04", "MP3"),
            (&[0xff, 0xfb, 0x90], "MP3"),
            (b"RIFF\0\0\0\0AVI LIST", "unknown format"),
            (b"hello", "unknown format"),
            (b"R", "unknown format"),
            (b"", "empty file"),
        ] {
            fs::write(&path, bytes).unwrap();
            let message = refusal(&path);
            assert!(
                message.contains(word) && message.contains("ffmpeg"),
                "{message}"
            );
        }
        refusal(&dir.path().join("missing.wav"));
        refusal(dir.path());
    }

    #[test]
    fn truncated_files_are_refused_at_every_length() {
        let dir = TempDir::new().unwrap();
        let path = write_ints(&dir, spec(2, 16_000, 16, SampleFormat::Int), &[5; 20]);
        let whole = fs::read(&path).unwrap();
        for length in 12..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let message = refusal(&path);
            assert!(message.contains("truncated"), "{length} bytes: {message}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let message = refusal(&path);
        assert!(
            message.contains("promises 10 samples per channel, 9 are there"),
            "{message}"
        );
    }

    /// A chunk of three bytes before the samples, with and without padding.
    #[test]
    fn chunks_of_odd_length_are_skipped() {
        let dir = TempDir::new().unwrap();
        let path = write_ints(&dir, spec(1, 16_000, 16, SampleFormat::Int), &[1 << 14; 9]);
        let whole = fs::read(&path).unwrap();
        for note in [&b"note\x03\0\0\0abc\0"[..], b"note\x03\0\0\0abc"] {
            // Before the format chunk, and between it and the samples.
            for at in [12, 36] {
                let bytes = [&whole[..at], note, &whole[at..]].concat();
                fs::write(&path, bytes).unwrap();
                assert_eq!(load(&path).unwrap().samples, [0.5; 9], "{note:?} at {at}");
            }
        }
    }

    #[test]
    fn empty_sounds_are_refused() {
        let dir = TempDir::new().unwrap();
        let path = write_ints(&dir, spec(1, 16_000, 16, SampleFormat::Int), &[]);
        let message = refusal(&path);
        assert!(message.contains("holds no samples"), "{message}");
    }

    #[test]
    fn the_first_sample_that_is_not_finite_is_named() {
        let dir = TempDir::new().unwrap();
        let float = spec(2, 16_000, 32, SampleFormat::Float);
        for (bad, name) in [
            (f32::NAN, "NaN"),
            (f32::INFINITY, "inf"),
            (f32::NEG_INFINITY, "-inf"),
        ] {
            let path = write_floats(&dir, float, &[0.0, 0.0, 0.0, bad, f32::NAN, 0.0]);
            let message = refusal(&path);
            assert!(
                message.contains(&format!("sample 1 of channel 2 is {name};")),
                "{message}"
            );
        }
    }

    #[test]
    fn unsupported_encodings_and_rates_are_refused() {
        let dir = TempDir::new().unwrap();
        let path = write_ints(&dir, spec(1, 16_000, 16, SampleFormat::Int), &[1, 2, 3]);
        let whole = fs::read(&path).unwrap();
        // The format tag is at byte 20, the sample rate at 24, bytes per
        // second at 28, the bits per sample at 34.
        let patched = |patches: &[(usize, &[u8])]| {
            let mut bytes = whole.clone();
            for (at, new) in patches {
                bytes[*at..*at + new.len()].copy_from_slice(new);
            }
            fs::write(&path, bytes).unwrap();
            refusal(&path)
        };
        let mu_law = patched(&[(20, &[7, 0])]);
        assert!(mu_law.contains("not supported"), "{mu_law}");
        let half_float = patched(&[(20, &[3, 0])]);
        assert!(
            half_float.contains("bits per sample is not 32"),
            "{half_float}"
        );
        let twelve_bits = patched(&[(34, &[12, 0])]);
        assert!(twelve_bits.contains("multiple of 8"), "{twelve_bits}");
        let eight_in_sixteen = patched(&[(34, &[8, 0])]);
        assert!(eight_in_sixteen.contains("(8 bits)"), "{eight_in_sixteen}");
        for rate in [0u32, 999, 1_000_001] {
            let message = patched(&[(24, &rate.to_le_bytes()), (28, &(2 * rate).to_le_bytes())]);
            assert!(message.contains(&format!("{rate} Hz")), "{message}");
        }
    }
}
