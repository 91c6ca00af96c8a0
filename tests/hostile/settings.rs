//! `config.json`, `generation_config.json`, `preprocessor_config.json`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sonograd::Sound;
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::passes::{Utterance, forward_and_gradients};
use sonograd::features::{Features, FrontEnd};
use sonograd::generate::{GenerationOptions, Wanted};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::model::generation_config::GenerationConfig;
use tempfile::TempDir;

use crate::driver::{Grammar, Target, run};
use crate::random_model::{self, SMALL, tone};
use crate::whisper_folder::whisper_folder;

/// Keys and values of all three files.
const WORDS: [&[u8]; 34] = [
    b"d_model",
    b"vocab_size",
    b"encoder_layers",
    b"decoder_layers",
    b"encoder_attention_heads",
    b"num_mel_bins",
    b"max_source_positions",
    b"max_target_positions",
    b"activation_function",
    b"relu",
    b"gelu",
    b"tie_word_embeddings",
    b"scale_embedding",
    b"eos_token_id",
    b"decoder_start_token_id",
    b"pad_token_id",
    b"bos_token_id",
    b"architectures",
    b"model_type",
    b"quantization_config",
    b"num_beams",
    b"max_length",
    b"max_new_tokens",
    b"suppress_tokens",
    b"begin_suppress_tokens",
    b"forced_decoder_ids",
    b"lang_to_id",
    b"task_to_id",
    b"language",
    b"alignment_heads",
    b"no_timestamps_token_id",
    b"no_repeat_ngram_size",
    b"repetition_penalty",
    b"is_multilingual",
];

/// What loads runs, or says why not.
fn run_model(folder: &Path) -> Result<bool, String> {
    let Ok(model) = ModelFiles::folder(folder).and_then(Model::load) else {
        return Ok(false);
    };
    if let Ok(tokenizer) = model.tokenizer() {
        GenerationOptions::new(&model, Some(&tokenizer), &Wanted::default()).ok();
    }
    let (Ok(front_end), Ok(sound)) = (model.front_end(), Sound::new(&tone(4_000), 16_000)) else {
        return Ok(false);
    };
    let Ok(features) = front_end.features(sound.waveform()) else {
        return Ok(false);
    };
    Ok(forward(&model, &features))
}

fn forward(model: &Model, features: &Features) -> bool {
    let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
    let ids = [model.tokens.start, 0];
    let utterance = Utterance::upload(&mut executor, model, features, &ids, &[0, 1], &[0, 1]);
    let Ok(utterance) = utterance else {
        return false;
    };
    forward_and_gradients(&mut executor, model, &utterance, &[], 64 << 20).is_ok()
}

fn try_config(name: &'static str, inputs: u64, folder: &Path, file: &str) {
    let place = folder.join(file);
    let target = Target {
        name,
        inputs,
        grammar: Grammar::Json,
        seeds: vec![fs::read(&place).unwrap()],
        words: &WORDS,
    };
    run(&target, &mut |bytes| {
        fs::write(&place, bytes).unwrap();
        run_model(folder)
    });
}

#[test]
fn config_of_a_conformer() {
    let folder = TempDir::new().unwrap();
    random_model::write_folder(folder.path(), SMALL);
    try_config("config_of_a_conformer", 2_000, folder.path(), "config.json");
}

#[test]
fn config_of_a_whisper() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("whisper");
    whisper_folder(&folder);
    try_config("config_of_a_whisper", 1_000, &folder, "config.json");
}

#[test]
fn generation_config_file() {
    let fixture = "tests/fixtures/generation/whisper/generation_config.json";
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    let target = Target {
        name: "generation_config_file",
        inputs: 10_000,
        grammar: Grammar::Json,
        seeds: vec![fs::read(fixture).unwrap()],
        words: &WORDS,
    };
    run(&target, &mut |bytes| {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return Ok(false);
        };
        let config = GenerationConfig::new("generation_config.json", &value, 120);
        let Ok(config) = config else {
            return Ok(false);
        };
        config.check_supported().ok();
        config.alignment_heads().ok();
        config.directions().ok();
        Ok(true)
    });
}

/// Settings that load give options or an error.
#[test]
fn generation_options() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("whisper");
    whisper_folder(&folder);
    let file = folder.join("generation_config.json");
    let target = Target {
        name: "generation_options",
        inputs: 1_000,
        grammar: Grammar::Json,
        seeds: vec![fs::read(&file).unwrap()],
        words: &WORDS,
    };
    run(&target, &mut |bytes| {
        fs::write(&file, bytes).unwrap();
        let Ok(model) = ModelFiles::folder(&folder).and_then(Model::load) else {
            return Ok(false);
        };
        let Ok(tokenizer) = model.tokenizer() else {
            return Ok(false);
        };
        let options = GenerationOptions::new(&model, Some(&tokenizer), &Wanted::default());
        Ok(options.is_ok())
    });
}

#[test]
fn preprocessor_config() {
    let whisper = r#"{"feature_extractor_type":"WhisperFeatureExtractor","feature_size":80,
        "chunk_length":1,"n_fft":400,"hop_length":160,"sampling_rate":16000,"padding_value":0.0,
        "return_attention_mask":false,"n_samples":16000,"nb_max_frames":100,"dither":0.0}"#;
    let filters = r#"{"feature_extractor_type":"Speech2TextFeatureExtractor","feature_size":80,
        "num_mel_bins":80,"sampling_rate":16000,"do_ceptral_normalize":true,"normalize_means":true,
        "normalize_vars":true,"padding_value":0.0,"dither":0.0}"#;
    let words: [&[u8]; 12] = [
        b"feature_size",
        b"num_mel_bins",
        b"chunk_length",
        b"n_fft",
        b"hop_length",
        b"sampling_rate",
        b"mel_filters",
        b"n_samples",
        b"nb_max_frames",
        b"dither",
        b"fmin",
        b"normalize_means",
    ];
    let target = Target {
        name: "preprocessor_config",
        inputs: 3_000,
        grammar: Grammar::Json,
        seeds: vec![whisper.into(), filters.into()],
        words: &words,
    };
    let sound = Sound::new(&tone(2_000), 16_000).unwrap();
    run(&target, &mut |bytes| {
        let Ok(front_end) = FrontEnd::from_bytes("preprocessor_config.json", bytes) else {
            return Ok(false);
        };
        let Ok(features) = front_end.features(sound.waveform()) else {
            return Ok(false);
        };
        match features.check() {
            Ok(()) => Ok(true),
            Err(problem) => Err(problem.to_string()),
        }
    });
}
