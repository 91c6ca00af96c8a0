//! Compressed sounds against the WAV file that they were made from.

use std::fs;
use std::path::{Path, PathBuf};

use sonograd::Sound;
use sonograd::audio::{Warning, load};

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
    let begin = load(fixture("speech_flac.ogg")).unwrap().samples;
    assert!(begin == original()[..3200]);
    // The other channel is silent.
    let half: Vec<f32> = original().iter().map(|x| x / 2.0).collect();
    assert!(load(fixture("two_channels.flac")).unwrap().samples == half);
}

/// Alike sample by sample, so the encoder's delay is gone; one sample late
/// already gives less than the bound.
#[test]
fn lossy_formats_are_alike_and_in_time() {
    let original = original();
    // (file, samples that its last frame may leave over, correlation at least)
    for (name, surplus, least) in [
        ("speech.mp3", 0, 0.99),
        ("speech.ogg", 0, 0.99),
        ("speech_aac.m4a", 17, 0.99),
        // 24 kbit/s.
        ("speech.opus", 0, 0.97),
        ("speech_opus.mp4", 17, 0.97),
        // That the last packet is filled up is not looked at.
        ("speech.webm", 320, 0.97),
        ("speech_vorbis.webm", 320, 0.97),
    ] {
        let out = load(fixture(name)).unwrap().samples;
        let alike = correlation(&out, &original);
        let late = correlation(&out[1..], &original);
        println!(
            "{name}: {} samples, correlation {alike:.5}, one sample off {late:.5}",
            out.len()
        );
        assert!(alike > least && late < alike);
        let longer = out.len().checked_sub(original.len());
        assert!(longer.is_some_and(|n| n <= surplus), "{name}: {longer:?}");
    }
}

fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(&a, &b)| f(a.into(), b.into())).sum()
    };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

/// What is odd about a sound that is read.
fn warnings(bytes: impl Into<Vec<u8>>) -> Vec<Warning> {
    Sound::decode(bytes).unwrap().warnings().to_vec()
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap()
}

/// An MP3 without its first frame, which tells of the others: as encoders make
/// it that write to a pipe, and LAME at low rates.
fn untold() -> Vec<u8> {
    let whole = bytes("speech.mp3");
    let frame = |at: &usize| whole[*at] == 0xff && whole[at + 1] == whole[1];
    let second = (4..whole.len() - 1).find(frame).unwrap();
    whole[second..].to_vec()
}

/// In AAC's frames alone nothing says where the encoder's silence ends.
#[test]
fn adts_is_late_and_says_so() {
    let sound = Sound::read(fixture("speech.aac")).unwrap();
    let samples = &sound.waveform().samples;
    assert!(correlation(&samples[1024..], &original()) > 0.98);
    let expected = [Warning::LengthUnknown, Warning::DelayUnknown];
    assert_eq!(sound.warnings(), expected);
}

#[test]
fn what_a_file_does_not_say_is_warned_of() {
    for name in [
        "speech.flac",
        "speech.mp3",
        "speech.ogg",
        "speech.opus",
        "speech.wav",
        "speech_aac.m4a",
        "speech_alac.m4a",
        "speech_flac.ogg",
        "speech_opus.mp4",
        "speech_vorbis.webm",
        "two_channels.flac",
    ] {
        assert_eq!(warnings(bytes(name)), [], "{name}");
    }
    let both = [Warning::LengthUnknown, Warning::DelayUnknown];
    assert_eq!(warnings(untold()), both);
    // WebM as it is sent live, which has no length.
    let mut live = bytes("speech.webm");
    assert_eq!(warnings(live.clone()), []);
    let segment = live
        .windows(4)
        .position(|own| own == [0x18, 0x53, 0x80, 0x67])
        .unwrap();
    live[segment + 4] = 1;
    live[segment + 5..segment + 12].fill(0xff);
    assert_eq!(warnings(live), [Warning::LengthUnknown]);
    // A FLAC file written to a pipe: neither length nor checksum.
    let mut piped = bytes("speech.flac");
    piped[21] &= 0xf0;
    piped[22..42].fill(0);
    assert_eq!(warnings(piped.clone()), [Warning::LengthUnknown]);
    let samples = Sound::decode(piped).unwrap();
    assert_eq!(samples.waveform().samples, original());
}

/// Without its first frame a file's length was once guessed, and what came
/// after dropped or called missing.
#[test]
fn mp3_without_a_length_is_read_to_its_end() {
    let whole = Sound::decode(bytes("speech.mp3")).unwrap();
    let whole = &whole.waveform().samples;
    let read = Sound::decode(untold()).unwrap();
    let read = &read.waveform().samples;
    // The encoder's 576 and the decoder's 529 samples, and what fills the last frame.
    let late = &read[576 + 529..];
    assert!(late.len() >= whole.len(), "{} {}", late.len(), whole.len());
    assert!(correlation(late, whole) > 0.999);
}

/// LAME writes the number of frames last; who cannot come back leaves 0.
#[test]
fn mp3_whose_frames_were_never_counted_is_read_to_its_end() {
    let mut file = bytes("speech.mp3");
    let names = [&b"Info"[..], b"Xing"];
    let at = file
        .windows(4)
        .position(|own| names.contains(&own))
        .unwrap();
    file[at + 8..at + 12].fill(0);
    let read = Sound::decode(file.clone()).unwrap();
    let both = [Warning::LengthUnknown, Warning::DelayUnknown];
    assert_eq!(read.warnings(), both);
    let frames = Sound::decode(untold()).unwrap();
    assert_eq!(read.waveform(), frames.waveform());
    let tagged = [b"ID3\x04\0\0\0\0\0\x05abcde", &file[..]].concat();
    let read = Sound::decode(tagged).unwrap();
    assert_eq!(read.waveform(), frames.waveform());
}

/// An edit list counts whatever the sound is coded by.
#[test]
fn what_an_edit_list_leaves_out_is_left_out_of_alac() {
    let mut file = bytes("speech_alac.m4a");
    let list = file.windows(4).position(|own| own == b"elst").unwrap();
    let start = list + 4 + 8 + 4;
    assert_eq!(file[start..start + 4], [0; 4]);
    file[start..start + 4].copy_from_slice(&1600u32.to_be_bytes());
    let samples = Sound::decode(file).unwrap().waveform().samples.clone();
    assert!(samples == original()[1600..]);
}

#[test]
fn sounds_one_behind_the_other_are_all_read() {
    let several = Warning::Several { count: 2 };
    for name in ["speech.mp3", "speech.ogg", "speech.opus"] {
        let one = bytes(name);
        let single = Sound::decode(one.clone()).unwrap();
        let both = Sound::decode([&one[..], &one].concat()).unwrap();
        let found = both.warnings();
        assert!(found.len() == 1 && found.contains(&several), "{name}");
        let single = &single.waveform().samples;
        let both = &both.waveform().samples;
        assert_eq!(both.len(), 2 * single.len(), "{name}");
        if name != "speech.opus" {
            assert_eq!(both[..], [&single[..], single].concat(), "{name}");
        }
        // The second one cut short is known for it.
        let cut = [&one[..], &one[..one.len() / 2]].concat();
        let message = Sound::decode(cut).unwrap_err().to_string();
        assert!(
            message.contains("truncated") || message.contains("damaged"),
            "{message}"
        );
    }
    // With a tag between them, and a second that does not tell its length.
    let parts = [
        &bytes("speech.mp3")[..],
        b"ID3\x04\0\0\0\0\0\x05abcde",
        &untold(),
    ]
    .concat();
    let both = Sound::decode(parts).unwrap();
    assert!(both.waveform().samples.len() >= 2 * original().len());
    assert!(both.warnings().contains(&several), "{:?}", both.warnings());
    let other = [bytes("speech.ogg"), bytes("speech.opus")].concat();
    let message = Sound::decode(other).unwrap_err().to_string();
    assert!(message.contains("changes its sample rate"), "{message}");
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
        "speech.webm",
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
        "speech.webm",
        "speech.aac",
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
