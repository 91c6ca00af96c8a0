//! What a model's folder asks generation for, in `generation_config.json` or, as in
//! folders of 2022, in `config.json`: prompts and tokens are transformers' own
//! (`tools/generation_settings_fixture.py`).

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sonograd::engine::native::NativeExecutor;
use sonograd::features::Features;
use sonograd::generate::{GenerationOptions, Wanted, transcribe};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;

#[derive(Deserialize)]
struct Fixture {
    settings: Vec<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    model: String,
    /// Whether `config.json` has the entries and there is no other file.
    old: bool,
    changes: Map<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    seed: u64,
    frames: usize,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn features(case: &Case, bins: usize) -> Features {
    let number = |n: u64| {
        let upper = splitmix64((case.seed << 32) + n) >> 40;
        2.0 * (upper as f32 / 8_388_608.0 - 1.0)
    };
    let data = (0..(case.frames * bins) as u64).map(number).collect();
    Features::new(data, case.frames, bins).unwrap()
}

/// A fixture's folder with changed entries; null takes one out.
fn folder(place: &Path, name: &str, old: bool, changes: &Map<String, Value>) {
    let fixture = Path::new("tests/fixtures/generation").join(name);
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(fixture.join(file), place.join(file)).unwrap();
    }
    let file = place.join(if old {
        "config.json"
    } else {
        "generation_config.json"
    });
    let mut entries: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (key, value) in changes {
        entries[key] = value.clone();
    }
    fs::write(&file, entries.to_string()).unwrap();
    if old {
        fs::remove_file(place.join("generation_config.json")).unwrap();
    }
}

fn load(name: &str, old: bool, changes: &Map<String, Value>) -> Result<Model, String> {
    let place = tempfile::tempdir().unwrap();
    folder(place.path(), name, old, changes);
    Model::load(ModelFiles::folder(place.path()).unwrap()).map_err(|e| e.to_string())
}

#[test]
fn settings_are_obeyed_as_transformers_does() {
    let text = fs::read("tests/fixtures/generation/settings.json").unwrap();
    let fixture: Fixture = serde_json::from_slice(&text).unwrap();
    assert!(fixture.settings.len() >= 40);
    let mut wrong = Vec::new();
    for setting in &fixture.settings {
        let model = load(&setting.model, setting.old, &setting.changes).unwrap();
        let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
        let options = GenerationOptions::new(&model, None, &Wanted::default()).unwrap();
        assert!(!setting.cases.is_empty(), "{:?}", setting.changes);
        for case in &setting.cases {
            let features = features(case, model.encoder.mel_bins());
            let heard = transcribe(&mut executor, &model, &features, &options, &mut |_| true);
            let heard = heard.unwrap();
            let prompt = &heard.windows[0].generated.prompt;
            let mut tokens = heard.tokens(&model.ends);
            // transformers' outputs end before padding.
            while tokens.last() == Some(&model.tokens.pad) {
                tokens.pop();
            }
            if (prompt, &tokens) != (&case.prompt, &case.tokens) {
                let Setting {
                    model,
                    old,
                    changes,
                    ..
                } = setting;
                wrong.push(format!(
                    "{model} old {old} {changes:?} {}: {prompt:?} {tokens:?}, not {:?} {:?}",
                    case.seed, case.prompt, case.tokens
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An entry that is wrong, or asks for what is not there, is named with its
/// file: also in `config.json` where that stands in.
#[test]
fn wrong_settings_are_named() {
    let refused = |name: &str, old: bool, changes: Value| {
        let changes = changes.as_object().unwrap().clone();
        match load(name, old, &changes) {
            Err(message) => message,
            Ok(model) => {
                let wanted = Wanted::default();
                let options = GenerationOptions::new(&model, None, &wanted);
                options.unwrap_err().to_string()
            }
        }
    };
    let new = "generation_config.json: ";
    let old = "config.json: ";
    for (name, is_old, changes, words) in [
        (
            "whisper",
            false,
            json!({"suppress_tokens": [1 << 20]}),
            [new, "suppress_tokens"],
        ),
        (
            "whisper",
            false,
            json!({"lang_to_id": {"<|en|>": 1 << 20}}),
            [new, "lang_to_id"],
        ),
        (
            "whisper",
            false,
            json!({"language": "klingon"}),
            [new, "language"],
        ),
        ("whisper", false, json!({"language": 5}), [new, "language"]),
        ("whisper", false, json!({"task": "sing"}), [new, "task"]),
        (
            "whisper",
            false,
            json!({"num_beams": 2.5}),
            [new, "num_beams"],
        ),
        (
            "whisper",
            false,
            json!({"num_beams": 5_000}),
            [new, "num_beams is 5000"],
        ),
        (
            "whisper",
            false,
            json!({"no_speech_threshold": 0.6}),
            [new, "no_speech_threshold"],
        ),
        (
            "whisper",
            false,
            json!({"forced_decoder_ids": [[1, 52], [3, 60]]}),
            [new, "position 3"],
        ),
        (
            "whisper",
            true,
            json!({"forced_decoder_ids": [[1, 5200]]}),
            [old, "forced_decoder_ids"],
        ),
        (
            "whisper",
            true,
            json!({"max_length": "448"}),
            [old, "max_length"],
        ),
        (
            "speech_to_text",
            false,
            json!({"do_sample": true}),
            [new, "do_sample"],
        ),
        (
            "speech_to_text",
            true,
            json!({"num_beam_groups": 4}),
            [old, "num_beam_groups"],
        ),
        (
            "speech_to_text",
            false,
            json!({"eos_token_id": []}),
            [new, "eos_token_id"],
        ),
    ] {
        let message = refused(name, is_old, changes);
        for words in words {
            assert!(message.contains(words), "{message}");
        }
    }
}

/// Old files may leave a family's name to `model_type`.
#[test]
fn a_family_is_known_by_its_model_type() {
    for architectures in [json!(null), json!([])] {
        let changes = json!({ "architectures": architectures, "forced_decoder_ids": [[1, 55]] });
        let model = load("whisper_english", true, changes.as_object().unwrap()).unwrap();
        assert_eq!(model.architecture, "WhisperForConditionalGeneration");
    }
    for (changes, words) in [
        (
            json!({"architectures": null, "model_type": "bart"}),
            "model_type bart",
        ),
        (
            json!({"architectures": null, "model_type": null}),
            "neither",
        ),
        (
            json!({"architectures": null, "model_type": 3}),
            "model_type is 3",
        ),
        (json!({"architectures": "x"}), "architectures is"),
    ] {
        let message = load("whisper_english", true, changes.as_object().unwrap())
            .err()
            .unwrap();
        assert!(message.contains(words), "{message}");
    }
}
