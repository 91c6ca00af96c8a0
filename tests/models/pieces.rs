//! Recordings that are longer than a model hears at once, cut as its processor
//! cuts them: texts against transformers', times across cuts.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sonograd::{Event, Listener, Sound, Wanted, audio};
use tempfile::TempDir;

use super::small_cases::folder;

const FOLDER: &str = "cohere";

/// What `tools/fastconformer_fixtures.py` wrote.
#[derive(Deserialize)]
struct Pieces {
    settings: Map<String, Value>,
    generation: Map<String, Value>,
    samples: Vec<usize>,
    written: std::collections::BTreeMap<String, Written>,
}

#[derive(Deserialize)]
struct Written {
    tokens: Vec<Vec<u32>>,
    text: String,
}

fn pieces() -> Pieces {
    let bytes = fs::read(folder(FOLDER).join("pieces.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// The model with such clips, as the texts were written.
fn model(pieces: &Pieces) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder(FOLDER)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    edit(&copy.path().join("processor_config.json"), |own| {
        for (name, value) in &pieces.settings {
            own["feature_extractor"][name] = value.clone();
        }
    });
    edit(&copy.path().join("generation_config.json"), |own| {
        for (name, value) in &pieces.generation {
            own[name] = value.clone();
        }
    });
    copy
}

fn listener(model: &TempDir, language: &str) -> Listener {
    let mut wanted = Wanted::default();
    wanted.language = Some(language.into());
    let builder = Listener::builder().model(model.path()).device("cpu");
    builder.wanted(wanted).open().unwrap()
}

fn utterance() -> Sound {
    Sound::read(folder("front_end").join("utterance.wav")).unwrap()
}

#[test]
fn pieces_are_written_and_joined_as_by_transformers() {
    let pieces = pieces();
    let model = model(&pieces);
    for (language, expected) in &pieces.written {
        let mut listener = listener(&model, language);
        let heard = listener.transcribe(&utterance()).unwrap();
        let ends = listener.model().ends.clone();
        let windows = &heard.transcript().unwrap().windows;
        let tokens = windows.iter().map(|own| own.tokens(&ends).collect());
        assert_eq!(tokens.collect::<Vec<Vec<u32>>>(), expected.tokens);
        assert_eq!(heard.text(), expected.text);
        let mut begin = 0;
        for (window, samples) in windows.iter().zip(&pieces.samples) {
            assert_eq!(window.start_seconds, begin as f64 / 16_000.0);
            begin += samples;
            // The last piece ends with its last whole frame.
            let end = begin as f64 / 16_000.0;
            let left = end - window.end_seconds;
            let most = if begin == pieces.samples.iter().sum::<usize>() {
                0.01
            } else {
                0.0
            };
            assert!((0.0..=most).contains(&left), "{left}");
        }
        let begins = windows.iter().map(|own| own.start_seconds);
        let segments = heard.segments().iter();
        let own: Vec<f64> = segments.map(|own| own.start_seconds).collect();
        let some = own
            .iter()
            .all(|own| begins.clone().any(|begin| begin == *own));
        assert!(some && !own.is_empty(), "{own:?}");
        // A word is of one piece, and known by its tokens among all.
        let all = heard.tokens();
        for word in heard.words() {
            let text = listener_text(&mut listener, &all[word.tokens.clone()]);
            assert_eq!(text, word.text);
        }
    }
}

fn listener_text(listener: &mut Listener, tokens: &[u32]) -> String {
    let parts = listener.parts().unwrap();
    parts.tokenizer().unwrap().decode(tokens).trim().to_owned()
}

/// A piece is heard as if it were alone, and its words lie in it.
#[test]
fn words_of_pieces_are_where_they_are_in_each_alone() {
    let pieces = pieces();
    let model = model(&pieces);
    let mut listener = listener(&model, "en");
    let mut listened = 0;
    let aligned = listener.align(&utterance()).watch(|event| {
        if let Event::Aligned(own) = event {
            assert!(own.seconds < own.of_seconds);
            listened += 1;
        }
        true
    });
    let aligned = aligned.run().unwrap();
    assert_eq!(listened, pieces.samples.len() - 1);

    let samples = audio::load(folder("front_end").join("utterance.wav"))
        .unwrap()
        .samples;
    let (mut begin, mut words, mut texts) = (0, Vec::new(), Vec::new());
    for &count in &pieces.samples {
        let own = Sound::new(&samples[begin..begin + count], 16_000).unwrap();
        let alone = listener.align(&own).run().unwrap();
        texts.push(alone.text().to_owned());
        let origin = begin as f64 / 16_000.0;
        words.extend(alone.words().iter().map(|word| {
            let times = [word.start_seconds, word.end_seconds].map(|time| origin + time);
            (word.text.clone(), times)
        }));
        begin += count;
    }
    let found = aligned.words().iter();
    let found: Vec<(String, [f64; 2])> = found
        .map(|word| (word.text.clone(), [word.start_seconds, word.end_seconds]))
        .collect();
    assert!(found.len() >= 9);
    assert_eq!(found, words);
    // In one nothing is said aloud.
    texts.retain(|own| !own.is_empty());
    assert_eq!(aligned.text(), texts.join(" "));
    assert!(pieces.written["en"].text.starts_with(aligned.text()));
}

#[test]
fn what_is_cut_is_not_explained_and_says_why() {
    let mut pieces = pieces();
    let cut = model(&pieces);
    let mut cut = listener(&cut, "en");
    let refused = cut.check_explainable(&utterance()).unwrap_err().to_string();
    assert!(
        refused.contains("hears 0.8 s at once: split it"),
        "{refused}"
    );
    let refused = cut.given(&utterance(), "re").unwrap_err().to_string();
    assert!(
        refused.contains("hears 0.8 s at once: split it"),
        "{refused}"
    );
    let heard = cut.transcribe(&utterance()).unwrap();
    let refused = cut.explain(&utterance(), &heard).run().err().unwrap();
    assert!(refused.to_string().contains("several windows"), "{refused}");

    // With such settings the reference cuts single samples off.
    pieces.settings["overlap_chunk_second"] = json!(2.0);
    let crumbs = model(&pieces);
    let quiet = Sound::new(&[0.0; 16_000], 16_000).unwrap();
    let refused = listener(&crumbs, "en").transcribe(&quiet).unwrap_err();
    let words = "has a piece of 1 samples at 0.00 s; at least 320 are needed";
    assert!(refused.to_string().contains(words), "{refused}");
}
