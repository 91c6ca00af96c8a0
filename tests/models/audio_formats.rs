//! Compressed sounds against the WAV file that they were made from.

use std::fs;
use std::path::{Path, PathBuf};

use sonograd::audio::load;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/audio")
        .join(name)
}

fn original() -> Vec<f32> {
    load(fixture("speech.wav")).unwrap().samples
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
fn lossless_formats_are_bit_exact() {
    for name in ["speech.flac", "speech_alac.m4a"] {
        assert!(load(fixture(name)).unwrap().samples == original(), "{name}");
    }
    // The other channel is silent.
    let half: Vec<f32> = original().iter().map(|x| x / 2.0).collect();
    assert!(load(fixture("two_channels.flac")).unwrap().samples == half);
}

/// Alike sample by sample, so the encoder's delay is gone; one sample late
/// already gives less than the bound.
#[test]
fn lossy_formats_are_alike_and_in_time() {
    let original = original();
    let correlation = |a: &[f32], b: &[f32]| {
        let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            let pairs = a.iter().zip(b);
            pairs.map(|(&a, &b)| f(a.into(), b.into())).sum()
        };
        sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
    };
    // (file, samples that its last frame may leave over)
    for (name, surplus) in [("speech.mp3", 0), ("speech.ogg", 0), ("speech_aac.m4a", 17)] {
        let out = load(fixture(name)).unwrap().samples;
        let alike = correlation(&out, &original);
        let late = correlation(&out[1..], &original);
        println!(
            "{name}: {} samples, correlation {alike:.5}, one sample off {late:.5}",
            out.len()
        );
        assert!(alike > 0.99 && late < alike);
        let longer = out.len().checked_sub(original.len());
        assert!(longer.is_some_and(|n| n <= surplus), "{name}: {longer:?}");
    }
}

/// What a file is named does not matter.
#[test]
fn the_content_decides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.wav");
    fs::copy(fixture("speech.flac"), &path).unwrap();
    assert!(load(&path).unwrap().samples == original());
    let path = folder.path().join("speech.mp3");
    fs::copy(fixture("speech.wav"), &path).unwrap();
    assert!(load(&path).unwrap().samples == original());
}

#[test]
fn opus_is_named() {
    let message = refusal(&fixture("speech.opus"));
    assert!(
        message.contains("Opus") && message.contains("ffmpeg"),
        "{message}"
    );
}

/// The first part of a file is no shorter sound.
#[test]
fn truncated_files_are_refused_at_many_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut");
    for name in [
        "speech.flac",
        "speech.mp3",
        "speech.ogg",
        "speech.opus",
        "speech_aac.m4a",
        "speech_alac.m4a",
    ] {
        let whole = fs::read(fixture(name)).unwrap();
        let lengths = (0..100).chain((100..whole.len()).step_by(97));
        for length in lengths.chain(whole.len() - 30..whole.len()) {
            fs::write(&path, &whole[..length]).unwrap();
            refusal(&path);
        }
    }
}

/// Bytes changed anywhere give a sound or an error of one line, never a panic
/// or a number that is none.
#[test]
fn damaged_files_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for name in [
        "speech.flac",
        "speech.mp3",
        "speech.ogg",
        "speech.opus",
        "speech_aac.m4a",
        "speech_alac.m4a",
    ] {
        let whole = fs::read(fixture(name)).unwrap();
        let mut refused = 0;
        let rounds = 200;
        for round in 0..rounds {
            let mut bytes = whole.clone();
            // Half of the rounds change the headers.
            let reach = if round % 2 == 0 { whole.len() } else { 200 };
            for _ in 0..3 {
                bytes[random(reach)] = random(256) as u8;
            }
            fs::write(&path, &bytes).unwrap();
            match load(&path) {
                Ok(wave) => assert!(wave.samples.iter().all(|x| x.is_finite())),
                Err(e) => {
                    assert!(!e.to_string().contains('\n'), "{e}");
                    refused += 1;
                }
            }
        }
        println!("{name}: {refused} of 200 refused");
    }
}
