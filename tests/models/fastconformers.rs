//! Families whose encoder is a FastConformer: prompts against transformers, and
//! configurations that ask for what is not done.

use std::fs;
use std::sync::Arc;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use sonograd::audio;
use sonograd::engine::executor::Executor;
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, Scalars, Shape};
use sonograd::features::{Features, FrontEnd};
use sonograd::generate::{GenerationOptions, Wanted, prompt};
use sonograd::listener::{Builder, Listener};
use sonograd::model::files::ModelFiles;
use sonograd::model::{Model, parameters};

use super::small_cases::{Input, cases, folder, load, wanted};

#[test]
fn prompts_are_those_that_transformers_makes() {
    for name in ["cohere", "canary"] {
        let model = load(name);
        let tokenizer = model.tokenizer().unwrap();
        let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
        let cases = cases(name);
        assert!(cases.prompts.len() >= 2);
        for case in &cases.prompts {
            let wanted = wanted(case.language.as_deref(), case.task.as_deref());
            let options = GenerationOptions::new(&model, Some(&tokenizer), &wanted).unwrap();
            // Nothing is listened to for it.
            let none = Features::new(Vec::new(), 0, model.encoder.mel_bins()).unwrap();
            let made = prompt(&mut executor, &model, &none, &options).unwrap();
            assert_eq!(made, case.prompt, "{name} {wanted:?}");
        }
    }
}

#[test]
fn wishes_that_cannot_be_fulfilled_are_refused_with_what_there_is() {
    let refused = |name: &str, wanted: Wanted| {
        let model = load(name);
        let tokenizer = model.tokenizer().unwrap();
        let error = GenerationOptions::new(&model, Some(&tokenizer), &wanted).unwrap_err();
        error.to_string()
    };
    for (name, language, task, words) in [
        ("cohere", None, None, "has to be told the language"),
        ("cohere", Some("sv"), None, "there are ar, de, el, en"),
        (
            "cohere",
            Some("en"),
            Some("translate"),
            "there is transcribe",
        ),
        // The model could, and this vocabulary lacks it.
        ("cohere", Some("ko"), None, "has no token <|ko|>"),
        ("canary", Some("sv"), None, "has no token <|sv|>"),
        ("canary", Some("ja"), None, "no language \"ja\""),
        ("canary", None, Some("translate"), "to itself"),
        (
            "canary",
            Some("de"),
            Some("translate:xx"),
            "no language \"xx\"",
        ),
    ] {
        let message = refused(name, wanted(language, task));
        assert!(message.contains(words), "{name}: {message}");
    }
    let mut times = wanted(Some("en"), None);
    times.timestamps = true;
    let message = refused("canary", times);
    assert!(message.contains("writes no timestamps"), "{message}");
}

/// Frames of a whole utterance by both extractors with their published settings.
/// The reference computes in f32: energies of quiet bins are off by some 1e-5.
#[test]
fn features_are_those_of_transformers() {
    const EVERY: usize = 83;
    let bytes = fs::read(folder("front_end").join("normalised.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let sound = audio::load(folder("front_end").join("utterance.wav")).unwrap();
    for (name, dithered) in [("parakeet", false), ("cohere", true)] {
        let front_end = FrontEnd::normalised(128, dithered).unwrap();
        let features = front_end.features(&sound).unwrap();
        let number = |tensor: &str| file.tensor(tensor).unwrap().data().to_vec();
        let frames = number(&format!("{name}_frames"));
        assert_eq!(frames, (features.frames as u64).to_le_bytes());
        let expected = number(name);
        let (expected, _) = expected.as_chunks::<4>();
        let expected = expected
            .iter()
            .map(|&own| f64::from(f32::from_le_bytes(own)));
        let rows = (0..features.frames).step_by(EVERY);
        let own = rows.flat_map(|t| features.frame(t).iter().map(|&x| f64::from(x)));
        let pairs: Vec<(f64, f64)> = own.zip(expected.clone()).collect();
        assert_eq!(pairs.len(), expected.len());
        let norm = |value: &dyn Fn(&(f64, f64)) -> f64| {
            let squares = pairs.iter().map(|pair| value(pair).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let off = norm(&|(a, b)| a - b) / norm(&|(_, b)| *b);
        println!("{name}: relative L2 {off:.2e}");
        assert!(off <= 1e-4, "{name}: {off:e}");
    }
}

/// A field that asks for what is not done is an error with its name, its value
/// and what would be right.
#[test]
fn configurations_that_ask_for_more_are_refused() {
    for (name, field, value, right) in [
        ("cohere", "/num_key_value_heads", json!(1), "3"),
        ("cohere", "/hidden_act", json!("tanh"), "relu, silu or gelu"),
        ("cohere", "/encoder_config", json!(null), "an object"),
        (
            "cohere",
            "/encoder_config/hidden_act",
            json!("relu"),
            "silu",
        ),
        (
            "cohere",
            "/encoder_config/num_key_value_heads",
            json!(1),
            "2",
        ),
        ("cohere", "/encoder_config/head_dim", json!(7), "4"),
        (
            "cohere",
            "/encoder_config/model_type",
            json!("whisper"),
            "parakeet_encoder",
        ),
        (
            "cohere",
            "/encoder_config/conv_kernel_size",
            json!(4),
            "an odd number",
        ),
        (
            "cohere",
            "/encoder_config/num_mel_bins",
            json!(20),
            "without a rest",
        ),
        (
            "cohere",
            "/encoder_config/subsampling_factor",
            json!(1),
            "a number from 2",
        ),
        (
            "cohere",
            "/encoder_config/hidden_size",
            json!(15),
            "an even number",
        ),
        ("canary", "/vocab_size", json!(49), "40"),
        (
            "canary",
            "/decoder_config/hidden_size",
            json!(18),
            "the 10 columns",
        ),
        (
            "canary",
            "/decoder_config/num_key_value_heads",
            json!(1),
            "2",
        ),
        (
            "canary",
            "/decoder_config/model_type",
            json!("llama"),
            "canary_decoder",
        ),
    ] {
        let bytes = fs::read(folder(name).join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&bytes).unwrap();
        let (object, key) = field.rsplit_once('/').unwrap();
        config.pointer_mut(object).unwrap()[key] = value.clone();
        let files = ModelFiles::Random {
            name: name.into(),
            config,
            seed: 1,
        };
        let message = Model::load(files).err().unwrap().to_string();
        let named = field.trim_start_matches('/').replace('/', ".");
        assert!(
            message.contains(&format!("{named} is {value}")),
            "{message}"
        );
        assert!(message.contains(right), "{message}");
    }
}

/// Weights are the file's, all of them: one that is missing or of another shape
/// is named as the file would.
#[test]
fn tensors_that_do_not_fit_are_named() {
    for (name, field, words) in [
        (
            "cohere",
            "/intermediate_size",
            "transf_decoder._decoder.layers.0.third_sub_layer.dense_in",
        ),
        (
            "canary",
            "/encoder_config/subsampling_conv_channels",
            "encoder.subsampling.layers.0.weight",
        ),
    ] {
        let own = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(folder(name).join(file), own.path().join(file)).unwrap();
        }
        let path = own.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        *config.pointer_mut(field).unwrap() = json!(6);
        fs::write(&path, config.to_string()).unwrap();
        let error = Model::load(ModelFiles::folder(own.path()).unwrap());
        let message = error.err().unwrap().to_string();
        assert!(message.contains(words), "{message}");
    }
}

/// What an encoder of random weights makes of made-up features.
fn encoded(name: &str, config: &Value) -> Vec<f64> {
    let files = ModelFiles::Random {
        name: name.into(),
        config: config.clone(),
        seed: 1,
    };
    let model = Model::load(files).unwrap();
    let mut executor = NativeExecutor::<f64>::new(&model.weights, false);
    let input = Input {
        seed: 3,
        frames: 41,
        outputs: serde_json::Map::new(),
    };
    let features = input.features(model.encoder.mel_bins());
    let shape = Shape::new(1, features.frames, features.bins);
    let given = executor.allocate(Kind::Real, shape).unwrap();
    executor.upload(given, &features.data).unwrap();
    let mut recording = Recording::new(Arc::clone(&model.weights));
    let x = recording.persistent(given, Kind::Real, shape);
    let y = model.encoder.record(&mut recording, x).unwrap();
    let shape = recording.shape(y);
    let made = executor.allocate(Kind::Real, shape).unwrap();
    recording.keep(y, made);
    let plan = executor.prepare(recording).unwrap();
    executor.run(plan, 0, &Scalars::ZERO).unwrap();
    executor.read_real(made).to_vec()
}

/// transformers completes Cohere's encoder settings by Cohere's own, Canary's by those
/// of the encoder itself.
#[test]
fn settings_that_are_missing_are_the_familys() {
    for (name, scaled, bins) in [("cohere", false, 128), ("canary", true, 80)] {
        let bytes = fs::read(folder(name).join("config.json")).unwrap();
        let given: Value = serde_json::from_slice(&bytes).unwrap();
        let with = |field: &str, value: Option<Value>| {
            let mut config = given.clone();
            let encoder = config["encoder_config"].as_object_mut().unwrap();
            encoder.remove(field);
            encoder.extend(value.map(|value| (field.to_owned(), value)));
            config
        };
        let missing = encoded(name, &with("scale_input", None));
        let own = encoded(name, &with("scale_input", Some(json!(scaled))));
        let other = encoded(name, &with("scale_input", Some(json!(!scaled))));
        assert_eq!(missing, own, "{name}");
        assert_ne!(missing, other, "{name}");
        let files = ModelFiles::Random {
            name: name.into(),
            config: with("num_mel_bins", None),
            seed: 1,
        };
        assert_eq!(Model::load(files).unwrap().encoder.mel_bins(), bins);
        // Cohere has an output projection of its own, Canary the embedding.
        let count = |tied: Option<bool>| {
            let mut config = given.clone();
            let fields = config.as_object_mut().unwrap();
            fields.remove("tie_word_embeddings");
            fields.extend(tied.map(|tied| ("tie_word_embeddings".to_owned(), json!(tied))));
            let files = ModelFiles::Random {
                name: name.into(),
                config,
                seed: 1,
            };
            (
                parameters(&files).unwrap(),
                Model::load(files).unwrap().parameters,
            )
        };
        assert_eq!(count(None), count(Some(name == "canary")), "{name}");
        assert!(count(None) != count(Some(name == "cohere")), "{name}");
    }
}

/// Who is told the language with each sound need not say one before.
#[test]
fn a_language_may_come_with_each_sound() {
    let open = |builder: Builder| builder.model(folder("cohere")).device("cpu").open();
    let refused = open(Listener::builder()).err().unwrap().to_string();
    assert!(refused.contains("has to be told the language"), "{refused}");
    open(Listener::builder().wanted_later()).unwrap();
}
