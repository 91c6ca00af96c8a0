//! A small Whisper as its users have it: a folder with everything, and sounds.

#![allow(dead_code, reason = "every test uses its own part")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// The text of a token: two letters.
pub fn word(id: u64) -> String {
    let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
    [letter(id / 26), letter(id)].iter().collect()
}

/// Gives the tokens of the prompt the names that OpenAI gives them.
pub fn name_as_openai(place: &Path) {
    let file = place.join("tokenizer.json");
    let mut tokenizer = fs::read_to_string(&file).unwrap();
    for (id, name) in [
        (48, "endoftext"),
        (49, "startoftranscript"),
        (55, "translate"),
        (56, "transcribe"),
        (60, "notimestamps"),
    ] {
        tokenizer = tokenizer.replace(&format!("<|mark {id}|>"), &format!("<|{name}|>"));
    }
    fs::write(file, tokenizer).unwrap();
}

/// A Whisper folder with a window of one second, as its users have it; its
/// words are two letters each.
pub fn whisper_folder(place: &Path) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/generation/whisper");
    fs::create_dir(place).unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(fixture.join(file), place.join(file)).unwrap();
    }
    let front_end = json!({"feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 80, "chunk_length": 1, "n_fft": 400, "hop_length": 160,
        "sampling_rate": 16_000});
    fs::write(
        place.join("preprocessor_config.json"),
        front_end.to_string(),
    )
    .unwrap();
    let read = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(fixture.join(file)).unwrap()).unwrap()
    };
    let (config, generation) = (read("config.json"), read("generation_config.json"));
    let size = config["vocab_size"].as_u64().unwrap();
    let first = generation["no_timestamps_token_id"].as_u64().unwrap() + 1;
    let end = generation["eos_token_id"].as_u64().unwrap();
    let languages = generation["lang_to_id"].as_object().unwrap();
    let name = |id: u64| match languages.iter().find(|(_, own)| own.as_u64() == Some(id)) {
        Some((name, _)) => name.clone(),
        None if id >= first => format!("<|{:.2}|>", (id - first) as f64 * 0.02),
        None if id >= end => format!("<|mark {id}|>"),
        None => format!("Ġ{}", word(id)),
    };
    let vocabulary: serde_json::Map<String, Value> =
        (0..size).map(|id| (name(id), json!(id))).collect();
    let special: Vec<Value> = (end..size)
        .map(|id| {
            json!({"id": id, "content": name(id), "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": special,
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null,
        "decoder": byte_level,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "Ġaa"},
    });
    fs::write(place.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// A sound that changes all the time, at 16 kHz.
pub fn write_wav(path: &Path, samples: usize) {
    write_samples(path, (0..samples).map(sound));
}

/// Sample `n` of it.
pub fn sound(n: usize) -> i16 {
    let t = n as f64 / 16_000.0;
    let value = (t * (900.0 + 2_000.0 * t)).sin() * 9_000.0 * (1.0 - 0.2 * (t * 9.0).cos());
    value as i16
}

/// A WAV file of these samples, at 16 kHz.
pub fn write_samples(path: &Path, samples: impl Iterator<Item = i16>) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in samples {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
}
