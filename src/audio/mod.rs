//! From a sound file to the waveform that a model hears: mono, 16 kHz.
//!
//! Formats are told apart by their content, never by their name. A file that
//! promises more than it holds is an error, not a shorter sound: an explanation
//! of half an utterance would look complete. Where a file does not say how long
//! its sound is, that is a [`Warning`].

mod compressed;
mod edit_list;
mod format;
mod mixing;
mod mp3;
mod ogg;
mod opus;
mod part;
mod pcm;
mod resample;
mod sound;
mod warning;
mod webm;

use std::io::Read;
use std::path::Path;

pub use self::part::{Part, Parted};
pub use self::sound::Sound;
pub use self::warning::Warning;

use self::format::{Format, format};
use self::mixing::Mixed;
use self::resample::resample;
use crate::error::Problem;
use crate::{Error, Result, plain};

/// Samples per second of every [`Waveform`], in Hz.
pub const SAMPLE_RATE: u32 = 16_000;

/// Rates of input files, in Hz. Headers outside this range are broken in
/// practice, and a resampler for them would need gigabytes.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

/// The longest sound, in seconds, and the largest file, in bytes: what still
/// fits the memory of an ordinary machine.
pub(crate) const MOST_SECONDS: usize = 4 * 3600;
const MOST_BYTES: u64 = 4 << 30;

const CONVERT: &str = "convert it with `ffmpeg -i IN -ac 1 -ar 16000 OUT.wav`";
const NO_SAMPLES: &str = "holds no samples";

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

/// Reads a sound file, averages its channels and resamples it to 16 kHz. The
/// length is that of the file times 16000 / rate, rounded (halves up). What
/// an encoder added before and after the sound is cut off where the file says
/// how much it is. What is odd about it, [`Sound::warnings`] tells.
///
/// # Errors
/// If the file cannot be read, is of no supported format, is truncated or
/// damaged as far as its format lets that be seen, is longer than four hours or
/// 4 GiB, holds no samples or samples that are not finite numbers, or has an
/// encoding or a rate that is not supported.
pub fn load(path: impl AsRef<Path>) -> Result<Waveform> {
    let (waveform, _) = load_with_warnings(path.as_ref())?;
    Ok(waveform)
}

type Decoded = (Waveform, Vec<Warning>);

fn load_with_warnings(path: &Path) -> Result<Decoded> {
    let resampled = resampled(whole(path)?);
    resampled.map_err(|problem| Error::file(path, problem))
}

/// The sound of a file at its own rate.
fn whole(path: &Path) -> Result<Mixed> {
    if path.is_dir() {
        return Err(Error::file(
            path,
            "is a folder, not a sound; name the files in it",
        ));
    }
    let read = plain::stream(path).map_err(Problem::from).and_then(bytes);
    let mixed = read.and_then(decode_whole);
    mixed.map_err(|problem| Error::file(path, problem))
}

/// The sound that something gives to its end, which need not be known: no more
/// than a file may have is read.
fn read(source: impl Read) -> std::result::Result<Decoded, Problem> {
    decode(bytes(source)?)
}

fn bytes(mut source: impl Read) -> std::result::Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut more = |most: u64, bytes: &mut Vec<u8>| source.by_ref().take(most).read_to_end(bytes);
    // Files of other kinds may be huge, and are refused by their first bytes.
    more(format::HEAD, &mut bytes)?;
    format(&bytes)?;
    more(MOST_BYTES, &mut bytes)?;
    Ok(bytes)
}

/// The sound in the bytes of a file, which are given up.
fn decode(bytes: Vec<u8>) -> std::result::Result<Decoded, Problem> {
    // The file is not needed any more then, and resampling takes memory too.
    resampled(decode_whole(bytes)?)
}

fn resampled(mixed: Mixed) -> std::result::Result<Decoded, Problem> {
    let samples = at_16_khz(&mixed.mono, mixed.rate)?;
    Ok((Waveform { samples }, mixed.warnings))
}

/// The same at the file's own rate.
fn decode_whole(bytes: Vec<u8>) -> std::result::Result<Mixed, Problem> {
    if bytes.len() as u64 > MOST_BYTES {
        let most = MOST_BYTES >> 30;
        return Err(format!("is larger than {most} GiB; split the recording").into());
    }
    let (content, format) = untagged(&bytes)?;
    Ok(match format {
        Format::Pcm(container) => pcm::decode(content, container)?,
        Format::Compressed(name) => compressed::decode(content, name)?,
    })
}

/// The sound and its format, without a tag that is not the format's own.
fn untagged(bytes: &[u8]) -> std::result::Result<(&[u8], Format), String> {
    let own = format(bytes)?;
    // Some programs put the tag of MP3 before everything.
    let behind = mp3::id3(bytes).and_then(|length| bytes.get(length..));
    Ok(match behind.map(|rest| (rest, format(rest))) {
        Some((rest, Ok(other))) if other != own => (rest, other),
        _ => (bytes, own),
    })
}

/// Samples at 16 kHz; so few at a higher rate that none are left of them are
/// refused.
fn at_16_khz(mono: &[f32], rate: u32) -> std::result::Result<Vec<f32>, String> {
    let samples = resample(mono, rate)?;
    match samples.is_empty() {
        true => Err(NO_SAMPLES.into()),
        false => Ok(samples),
    }
}

/// Refuses a sample rate that cannot be resampled.
fn check_rate(rate: u32) -> std::result::Result<(), String> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    Err(format!(
        "has a sample rate of {rate} Hz; {} to {} Hz can be resampled",
        RATES.start(),
        RATES.end()
    ))
}

/// Refuses a sound of too many samples per channel.
fn check_length(samples: usize, rate: u32) -> std::result::Result<(), String> {
    if samples / (rate as usize) < MOST_SECONDS {
        return Ok(());
    }
    let hours = MOST_SECONDS / 3600;
    Err(format!("is longer than {hours} hours; split the recording"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hound::{SampleFormat, WavSpec, WavWriter};
    use std::f64::consts::TAU;
    use std::fs;
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
    fn files_that_are_no_sounds_are_named() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("sound.wav");
        for (bytes, word) in [
            (&b"fLaC\0\0\0\x22"[..], "FLAC"),
            (b"OggS", "OGG"),
            (b"ID3\x04", "MP3"),
            (&[0xff, 0xfb, 0x90], "MP3"),
            (&[0xff, 0xf1, 0x50], "AAC"),
            (b"\0\0\0\x08ftyp", "MP4"),
            (b"RF64\0\0\0\0WAVE", "truncated"),
            (b"caff\0\x01\0\0", "CAF"),
            (b"#!AMR\n", "AMR"),
            (b"ajkg\x02", "shorten"),
            (b"wvpk", "WavPack"),
            (b"MAC \x96", "Monkey's Audio"),
            (&[0x30, 0x26, 0xb2, 0x75, 0x8e], "WMA"),
            (b"RIFX\0\0\0\0WAVE", "truncated"),
            (&[0x1a, 0x45, 0xdf, 0xa3], "WebM"),
            (b"RIFF\0\0\0\0AVI LIST", "unknown format"),
            (b"hello", "unknown format"),
            (b"R", "unknown format"),
            (b"", "empty file"),
        ] {
            fs::write(&path, bytes).unwrap();
            let message = refusal(&path);
            println!("{message}");
            assert!(message.contains(word), "{message}");
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
    fn sounds_of_many_hours_are_refused() {
        assert!(check_length(4 * 3600 * 44_100 - 1, 44_100).is_ok());
        let message = check_length(4 * 3600 * 44_100, 44_100).unwrap_err();
        assert!(message.contains("4 hours"), "{message}");
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
        assert!(mu_law.contains("16 bits of 1 channels"), "{mu_law}");
        let half_float = patched(&[(20, &[3, 0])]);
        assert!(
            half_float.contains("holds 16-bit floats, which are not read"),
            "{half_float}"
        );
        let eight_in_sixteen = patched(&[(34, &[8, 0])]);
        let words = "8 bits of 1 channels in 2 bytes";
        assert!(eight_in_sixteen.contains(words), "{eight_in_sixteen}");
        for rate in [0u32, 999, 1_000_001] {
            let message = patched(&[(24, &rate.to_le_bytes()), (28, &(2 * rate).to_le_bytes())]);
            assert!(message.contains(&format!("{rate} Hz")), "{message}");
        }
    }
}
