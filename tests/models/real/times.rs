//! When words were said: sentences among silence, and all sentences against an
//! HMM's word starts. Those are in `onsets.jsonl`: pocketsphinx 5.1.1's English
//! model aligns the transcriptions that come with the recordings
//! (`Decoder.set_align_text`, frames of 10 ms), and owes nothing to attention.

use sonograd::align::WordTime;
use sonograd::study::error_rate::equal_words;

use super::*;

const RATE: usize = 16_000;

/// "He was not an ill disposed young man", of 2.99 s.
const A: &str = "0880";
/// "And Mr. John Dashwood had then leisure ...", 22 words in 7.1 s.
const B: &str = "0870";
const B_SECONDS: f64 = 7.1;

/// An HMM's word starts in seconds.
fn onsets(name: &str) -> Vec<(String, f64)> {
    let lines = fs::read_to_string(Path::new(FIXTURES).join("onsets.jsonl")).unwrap();
    let mut lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let line = lines.find(|line: &Value| line["id"] == name).unwrap();
    let words = line["words"].as_array().unwrap().iter();
    let words = words.map(|own| {
        let word = own["word"].as_str().unwrap().to_owned();
        (word, own["onset_seconds"].as_f64().unwrap())
    });
    words.collect()
}

fn speech(name: &str) -> Vec<f32> {
    let sound = sound(&format!("librivox/{name}"));
    sound.waveform().samples.clone()
}

fn silence(seconds: f64) -> Vec<f32> {
    vec![0.0; (seconds * RATE as f64).round() as usize]
}

/// The words by the default rule; none is behind the sound's end, of
/// punctuation alone, or before the one before it.
fn words(listener: &mut Listener, samples: &[f32]) -> Vec<WordTime> {
    let sound = Sound::new(samples, RATE as u32).unwrap();
    let words = listener.align(&sound).run().unwrap().words().to_vec();
    let mut before = 0.0;
    for word in &words {
        assert!(word.text.contains(char::is_alphanumeric), "{words:#?}");
        assert!(before <= word.start_seconds, "{words:#?}");
        assert!(word.start_seconds < word.end_seconds, "{words:#?}");
        before = word.end_seconds;
    }
    assert!(before <= samples.len() as f64 / RATE as f64, "{words:#?}");
    words
}

fn texts(words: &[WordTime]) -> Vec<&str> {
    words.iter().map(|word| word.text.trim()).collect()
}

#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn words_behind_silence() {
    let mut listener = listener("tiny-en");
    let (_, first) = onsets(A)[0];
    for seconds in [5.0, 12.0] {
        let found = words(&mut listener, &[silence(seconds), speech(A)].concat());
        let start = found[0].start_seconds;
        println!("{seconds} s of silence: {start} s");
        assert!((start - seconds - first).abs() <= 0.1, "{found:#?}");
        assert_eq!(texts(&found)[..4], ["He", "was", "not", "an"]);
    }
}

#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn words_on_both_sides_of_a_pause() {
    let mut listener = listener("tiny-en");
    let (a, b) = (speech(A), speech(B));
    let ends = a.len() as f64 / RATE as f64;
    let found = words(&mut listener, &[a, silence(8.0), b].concat());
    println!("{:?}", texts(&found));
    let before = found.iter().filter(|own| own.end_seconds <= ends).count();
    let behind = found.iter().filter(|own| own.start_seconds >= ends + 8.0);
    // Whisper leaves out the "And" behind the pause.
    let counts = (before, behind.count(), found.len());
    assert_eq!(counts, (7, 21, 28), "{found:#?}");
}

/// What Whisper writes about the end of a window that is silent.
#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn words_before_a_silent_end() {
    let mut listener = listener("tiny-en");
    let spoken: Vec<String> = onsets(B).into_iter().map(|(word, _)| word).collect();
    for seconds in [30.01, 31.0] {
        let rest = silence(seconds - B_SECONDS);
        let found = words(&mut listener, &[speech(B), rest].concat());
        println!("{seconds} s: {:?}", texts(&found));
        assert_eq!(found.len(), spoken.len(), "{found:#?}");
        assert!(found.last().unwrap().end_seconds <= B_SECONDS, "{found:#?}");
    }
}

#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn no_words_where_nobody_speaks() {
    let mut listener = listener("tiny-en");
    // Uniform, 60 dB below full scale.
    let mut state = 1u32;
    let noise = (0..5 * RATE).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) as f32 * 3f32.sqrt() * 1e-3
    });
    for samples in [silence(5.0), silence(30.0), noise.collect()] {
        assert_eq!(words(&mut listener, &samples), []);
    }
}

/// What `docs/align.md` says of the default: mean, median, first words, and
/// words that are called reliable.
#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn words_begin_where_an_hmm_finds_them() {
    let mut listener = listener("tiny-en");
    let plain = |text: &str| -> String {
        let own = text.chars().filter(|own| own.is_alphanumeric());
        own.collect::<String>().to_lowercase()
    };
    // Errors, and whether they are called reliable.
    let mut all: Vec<(f64, bool)> = Vec::new();
    for name in ["0870", "0880", "0890", "0920", "0930"] {
        let truth = onsets(name);
        let found = words(&mut listener, &speech(name));
        let first = (found[0].start_seconds - truth[0].1).abs();
        assert!(first <= 0.1, "{name}: the first word is {first} s off");
        let spoken: Vec<&str> = truth.iter().map(|(word, _)| &**word).collect();
        let written: Vec<String> = found.iter().map(|own| plain(&own.text)).collect();
        let written: Vec<&str> = written.iter().map(String::as_str).collect();
        all.extend(
            equal_words(&spoken, &written)
                .into_iter()
                .map(|(own, at)| (found[at].start_seconds - truth[own].1, found[at].reliable)),
        );
    }
    let mean = all.iter().map(|(error, _)| error.abs()).sum::<f64>() / all.len() as f64;
    all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let (median, _) = all[all.len() / 2];
    let trusted: Vec<f64> = all
        .iter()
        .filter(|own| own.1)
        .map(|own| own.0.abs())
        .collect();
    let near = trusted.iter().filter(|error| **error <= 0.2).count();
    println!(
        "{} words: mean {mean:.3} s, median {median:+.3} s; {near} of {} reliable ones within 0.2 s",
        all.len(),
        trusted.len()
    );
    assert!(all.len() > 60, "{}", all.len());
    assert!(mean <= 0.060, "{mean}");
    assert!(median.abs() <= 0.015, "{median}");
    assert!(
        near as f64 >= 0.95 * trusted.len() as f64,
        "{near} of {}",
        trusted.len()
    );
    // Or it would be easy.
    assert!(trusted.len() > all.len() / 2);
}
