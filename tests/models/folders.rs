//! Folders as people have them: what stands in which file, and what does not fit.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::alignment::model_heads;
use sonograd::features::{FrontEnd, Kind};
use sonograd::generate::{GenerationOptions, Language, Wanted, transcribe};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;

use crate::whisper_folder::{whisper_folder, word};

fn load(place: &Path) -> Model {
    Model::load(ModelFiles::folder(place).unwrap()).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Changes a JSON file in place.
fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = read(path);
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn in_folder(run: impl FnOnce(&Path)) {
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("model");
    whisper_folder(&model);
    run(&model);
}

/// Settings without a type are of the family's own kind, and another kind is
/// refused: a filter bank would make nonsense of a Whisper, silently.
#[test]
fn a_family_hears_in_its_own_way() {
    in_folder(|model| {
        let file = model.join("preprocessor_config.json");
        let own = |model: &Path| load(model).front_end();
        for (settings, window) in [(json!({}), 480_000), (json!({"chunk_length": 2}), 32_000)] {
            fs::write(&file, settings.to_string()).unwrap();
            match own(model).unwrap() {
                FrontEnd::LogMel(own) => assert_eq!(own.config().window(), window),
                other => panic!("{other:?}"),
            }
        }
        let processor = model.join("processor_config.json");
        let nested = json!({"feature_extractor": {"hop_length": 160}});
        fs::write(&processor, nested.to_string()).unwrap();
        assert!(matches!(own(model).unwrap(), FrontEnd::LogMel(_)));
        fs::remove_file(&processor).unwrap();
        let other = json!({"feature_extractor_type": "Speech2TextFeatureExtractor"});
        fs::write(&file, other.to_string()).unwrap();
        let message = own(model).unwrap_err().to_string();
        assert!(message.contains("preprocessor_config.json"), "{message}");
        assert!(
            message.contains("hears with WhisperFeatureExtractor"),
            "{message}"
        );
    });
    // What the published settings would not do for.
    let settings = json!({"feature_size": 240, "n_fft": 1024}).to_string();
    let wide = FrontEnd::of_family("p.json", settings.as_bytes(), Kind::Spectrogram);
    assert_eq!(wide.unwrap().bins(), 240);
    // And the other way round.
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("model");
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir("tests/fixtures/speech_to_text").unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, model.join(file.file_name().unwrap())).unwrap();
    }
    let file = model.join("preprocessor_config.json");
    // Its settings are not looked at: they mean something else there.
    let spectrogram = json!({"feature_extractor_type": "WhisperFeatureExtractor", "dither": 0.5});
    fs::write(&file, spectrogram.to_string()).unwrap();
    let message = load(&model).front_end().unwrap_err().to_string();
    assert!(
        message.contains("hears with Speech2TextFeatureExtractor"),
        "{message}"
    );
    fs::write(&file, "{}").unwrap();
    assert!(matches!(
        load(&model).front_end().unwrap(),
        FrontEnd::Fbank(_)
    ));
}

#[test]
fn the_processor_goes_before_the_feature_extractor() {
    in_folder(|model| {
        let size = |model: &Path| match load(model).front_end().unwrap() {
            FrontEnd::LogMel(own) => own.config().n_fft,
            other => panic!("{other:?}"),
        };
        let own = read(&model.join("preprocessor_config.json"));
        let mut newer = own.clone();
        newer["n_fft"] = json!(512);
        let processor = model.join("processor_config.json");
        let with = |value: Value| fs::write(&processor, value.to_string()).unwrap();
        assert_eq!(size(model), 400);
        // Without the entry, or with nothing in it, the other file counts.
        with(json!({"processor_class": "WhisperProcessor"}));
        assert_eq!(size(model), 400);
        with(json!({"feature_extractor": null}));
        assert_eq!(size(model), 400);
        for key in ["feature_extractor", "audio_processor"] {
            with(json!({ key: newer }));
            assert_eq!(size(model), 512, "{key}");
        }
        fs::remove_file(model.join("preprocessor_config.json")).unwrap();
        assert_eq!(size(model), 512);
        // What is wrong is said of the file that it stands in.
        for (value, words) in [
            (json!([]), "no"),
            (json!(null), "not a JSON object"),
            (json!({"feature_extractor": [1]}), "settings"),
            (
                json!({"feature_extractor": {"sampling_rate": 8000}}),
                "sampling_rate is 8000",
            ),
            (
                json!({"feature_extractor": {"feature_size": 40}}),
                "40 mel bins",
            ),
        ] {
            with(value);
            let message = load(model).front_end().unwrap_err().to_string();
            assert!(
                message.contains("model/processor_config.json: "),
                "{message}"
            );
            assert!(message.contains(words), "{message}");
        }
    });
}

#[test]
fn weights_of_64_bits_are_read() {
    in_folder(|model| {
        let path = model.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let before = load(model);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let wide: HashMap<String, (Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, view)| {
                assert_eq!(view.dtype(), Dtype::F32);
                let (values, _) = view.data().as_chunks::<4>();
                let values = values.iter().map(|own| f64::from(f32::from_le_bytes(*own)));
                let data = values.flat_map(f64::to_le_bytes).collect();
                (name.to_owned(), (view.shape().to_vec(), data))
            })
            .collect();
        let views = wide.iter().map(|(name, (shape, data))| {
            let view = TensorView::new(Dtype::F64, shape.clone(), data).unwrap();
            (name.clone(), view)
        });
        fs::write(&path, serialize(views, None).unwrap()).unwrap();
        let after = load(model);
        for (one, other) in before.weights.iter().zip(after.weights.iter()) {
            assert_eq!(
                (&one.name, one.rows, one.cols),
                (&other.name, other.rows, other.cols)
            );
            assert_eq!(one.data, other.data, "{}", one.name);
        }
    });
}

#[test]
fn a_vocabulary_fits_the_model() {
    in_folder(|model| {
        let size = load(model).decoder.config.vocabulary;
        let path = model.join("tokenizer.json");
        load(model).tokenizer().unwrap();
        let whole = read(&path);
        // Another model's vocabulary has some tokens fewer. A few could be what
        // makes a model's number round, 112 here.
        let shorter = |by: usize| {
            change(&path, |own| {
                *own = whole.clone();
                let there = |id: &Value| (id.as_u64().unwrap() as usize) < size - by;
                let tokens = own["added_tokens"].as_array_mut().unwrap();
                tokens.retain(|token| there(&token["id"]));
                let vocabulary = own["model"]["vocab"].as_object_mut().unwrap();
                vocabulary.retain(|_, id| there(id));
            });
        };
        shorter(17);
        let message = load(model).tokenizer().unwrap_err().to_string();
        let words = format!(
            "has {} tokens where the model's vocabulary has {size}",
            size - 17
        );
        assert!(message.contains(&words), "{message}");
        // Old files of Whisper's leave its times out.
        let generation = read(&model.join("generation_config.json"));
        let last = generation["no_timestamps_token_id"].as_u64().unwrap() as usize;
        shorter(size - 1 - last);
        load(model).tokenizer().unwrap();
    });
}

/// `generate` of transformers 5.23 begins with the begin token where its own file has no
/// start token, whatever `config.json` says.
#[test]
fn a_start_that_generations_file_lacks_is_its_begin() {
    in_folder(|model| {
        let file = model.join("generation_config.json");
        change(&file, |own| {
            own["bos_token_id"] = json!(6);
            own["decoder_start_token_id"] = json!(5);
        });
        change(&model.join("config.json"), |own| {
            own["decoder_start_token_id"] = json!(7);
        });
        assert_eq!(load(model).tokens.start, 5);
        change(&file, |own| {
            own.as_object_mut()
                .unwrap()
                .remove("decoder_start_token_id");
        });
        assert_eq!(load(model).tokens.start, 6);
        change(&file, |own| {
            own.as_object_mut().unwrap().remove("bos_token_id");
        });
        assert_eq!(load(model).tokens.start, 7);
    });
}

/// A word that a folder names among several ends is no text: neither in what
/// is written nor in what is given.
#[test]
fn every_end_is_none_of_the_words() {
    in_folder(|model| {
        let sound = sonograd::Sound::new(&[0.1, -0.1].repeat(4_000), 16_000).unwrap();
        let words = |model: &Path| -> Vec<String> {
            let listener = sonograd::Listener::builder().model(model).device("cpu");
            let mut listener = listener.open().unwrap();
            // The first word has no space before it and is another token.
            let text = [word(9), word(7), word(5)].join(" ");
            let heard = listener.given(&sound, &text).unwrap();
            let words = heard.words().iter();
            words.skip(1).map(|own| own.text.clone()).collect()
        };
        assert_eq!(words(model), [word(7), word(5)]);
        change(&model.join("generation_config.json"), |own| {
            own["eos_token_id"] = json!([own["eos_token_id"], 5]);
        });
        assert_eq!(words(model), [word(7)]);
    });
}

/// A token that `added_tokens_decoder` describes is as it says there, also if
/// `tokenizer.json` says otherwise.
#[test]
fn a_described_token_is_as_it_is_described() {
    in_folder(|model| {
        let text = |model: &Path, id: u32| {
            let loaded = load(model);
            let tokenizer = loaded.tokenizer().unwrap();
            tokenizer.is_special(id)
        };
        let id = load(model).decoder.config.vocabulary as u32 - 1;
        let name = "<noise>";
        change(&model.join("tokenizer.json"), |own| {
            let vocabulary = own["model"]["vocab"].as_object_mut().unwrap();
            vocabulary.retain(|_, other| *other != json!(id));
            vocabulary.insert(name.to_owned(), json!(id));
            let tokens = own["added_tokens"].as_array_mut().unwrap();
            let token = tokens.iter_mut().find(|token| token["id"] == id).unwrap();
            token["special"] = json!(false);
            token["content"] = json!(name);
        });
        assert!(!text(model, id));
        let config = |token: Value| {
            let decoder = json!({"added_tokens_decoder": {id.to_string(): token}});
            fs::write(model.join("tokenizer_config.json"), decoder.to_string()).unwrap();
        };
        config(json!({"content": name, "special": true}));
        assert!(text(model, id));
        config(json!({"content": name, "special": false}));
        assert!(!text(model, id));
    });
}

/// Transformers loads such a folder, and its model cannot take the token's id.
#[test]
fn special_tokens_that_are_only_named_do_not_exceed_the_model() {
    in_folder(|model| {
        let config = json!({"image_token": "<image>", "extra_special_tokens": ["<x>", "<x>"]});
        fs::write(model.join("tokenizer_config.json"), config.to_string()).unwrap();
        let loaded = load(model);
        let tokenizer = loaded.tokenizer().unwrap();
        assert_eq!(tokenizer.vocab_size(), loaded.decoder.config.vocabulary);
        assert_eq!(tokenizer.id("<image>"), None);
        // Where there is room, it is theirs.
        let path = model.join("tokenizer_config.json");
        let bytes = |name: &str| Ok(fs::read(path.with_file_name(name)).ok());
        let whole = sonograd::tokenizer::Tokenizer::from_files(model, bytes).unwrap();
        assert_eq!(whole.vocab_size(), tokenizer.vocab_size() + 2);
    });
}

/// A pipe among a model's files is not waited for.
#[test]
#[cfg(unix)]
fn pipes_in_a_models_folder_are_refused() {
    in_folder(|model| {
        let file = model.join("generation_config.json");
        fs::remove_file(&file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.unwrap().success());
        let files = ModelFiles::folder(model).unwrap();
        let message = Model::load(files).err().unwrap().to_string();
        assert!(
            message.contains("generation_config.json: is a pipe"),
            "{message}"
        );
    });
}

/// Forced tokens with a language left open, in a folder that lists no languages.
#[test]
fn no_languages_are_none_to_detect() {
    in_folder(|model| {
        change(&model.join("generation_config.json"), |own| {
            own["lang_to_id"] = json!({});
            own["forced_decoder_ids"] = json!([[1, null]]);
        });
        let loaded = load(model);
        let tokenizer = loaded.tokenizer().unwrap();
        let wanted = Wanted::default();
        let options = GenerationOptions::new(&loaded, Some(&tokenizer), &wanted).unwrap();
        let multitask = options.multitask.unwrap();
        assert_eq!(multitask.language, Language::None);
    });
}

/// Tokens behind the times are text, whoever writes times.
#[test]
fn tokens_added_behind_the_times_are_text() {
    in_folder(|model| {
        let size = load(model).decoder.config.vocabulary as u32;
        let name = |id: u32| ["Zürich", "<noise>", "Łódź"][(size - 1 - id) as usize];
        let words = size - 3..size;
        change(&model.join("tokenizer.json"), |own| {
            for id in words.clone() {
                let vocabulary = own["model"]["vocab"].as_object_mut().unwrap();
                vocabulary.retain(|_, other| *other != json!(id));
                vocabulary.insert(name(id).to_owned(), json!(id));
                let tokens = own["added_tokens"].as_array_mut().unwrap();
                for token in tokens.iter_mut().filter(|token| token["id"] == json!(id)) {
                    token["content"] = json!(name(id));
                    token["special"] = json!(false);
                }
            }
        });
        let loaded = load(model);
        let tokenizer = loaded.tokenizer().unwrap();
        let mut wanted = Wanted::default();
        wanted.timestamps = true;
        let mut options = GenerationOptions::new(&loaded, Some(&tokenizer), &wanted).unwrap();
        let multitask = options.multitask.clone().unwrap();
        assert_eq!(multitask.behind_timestamps, size - 3);
        for id in words.clone() {
            assert!(!multitask.is_time(id) && tokenizer.decode(&[id]) == name(id));
        }
        // All other text is banned: what is written stands between times.
        let first = multitask.first_timestamp();
        options.suppressed = (0..first).filter(|id| !options.ends.contains(id)).collect();
        let frames = loaded.capabilities.window_frames.unwrap();
        let bins = loaded.encoder.mel_bins();
        let data = (0..frames * bins).map(|n| ((n * 7919) % 1000) as f32 / 500.0 - 1.0);
        let features = sonograd::features::Features::new(data.collect(), frames, bins).unwrap();
        let mut executor = NativeExecutor::<f32>::new(&loaded.weights, false);
        let heard = transcribe(&mut executor, &loaded, &features, &options, &mut |_| true);
        let heard = heard.unwrap();
        let tokens = heard.tokens(&loaded.ends);
        let written: Vec<u32> = tokens
            .iter()
            .copied()
            .filter(|id| words.contains(id))
            .collect();
        let segments = heard.segments(&loaded, &options);
        let kept: Vec<u32> = segments.iter().flat_map(|own| own.tokens.clone()).collect();
        assert!(!written.is_empty(), "{tokens:?}");
        assert_eq!(kept, written);
        assert!(
            segments
                .iter()
                .all(|own| own.end_seconds <= frames as f64 * 0.01)
        );
    });
}

/// Where no file says how to prompt, the vocabulary does.
#[test]
fn an_english_only_model_is_known_by_its_vocabulary() {
    in_folder(|model| {
        fs::remove_file(model.join("generation_config.json")).unwrap();
        let options = |wanted: &Wanted| {
            let model = load(model);
            let tokenizer = model.tokenizer().unwrap();
            GenerationOptions::new(&model, Some(&tokenizer), wanted)
        };
        change(&model.join("tokenizer.json"), |own| {
            let text = own.to_string();
            let last = read(Path::new(
                "tests/fixtures/generation/whisper/generation_config.json",
            ))["no_timestamps_token_id"]
                .clone();
            *own = serde_json::from_str(
                &text.replace(&format!("<|mark {last}|>"), "<|notimestamps|>"),
            )
            .unwrap();
        });
        let several = options(&Wanted::default()).unwrap().multitask.unwrap();
        assert!(matches!(several.language, Language::Detected(ids) if ids.len() == 5));
        assert!(several.says_no_timestamps);
        change(&model.join("tokenizer.json"), |own| {
            let mut text = own.to_string();
            for other in ["de", "es", "it", "zh"] {
                text = text.replace(&format!("<|{other}|>"), &format!("<|mark {other}|>"));
            }
            *own = serde_json::from_str(&text).unwrap();
        });
        let one = options(&Wanted::default()).unwrap().multitask.unwrap();
        assert_eq!(one.language, Language::None);
        assert!(one.says_no_timestamps && one.task.is_none());
        let mut italian = Wanted::default();
        italian.language = Some("Italian".into());
        let message = options(&italian).unwrap_err().to_string();
        assert!(message.contains("no language tokens"), "{message}");
    });
}

/// Heads of another model trouble only those who need them.
#[test]
fn heads_of_another_model_are_named_with_their_file() {
    in_folder(|model| {
        change(&model.join("generation_config.json"), |own| {
            own["alignment_heads"] = json!([[10, 12]]);
        });
        let loaded = load(model);
        let message = model_heads(&loaded).unwrap_err().to_string();
        for words in ["generation_config.json: alignment_heads", "no head 10.12"] {
            assert!(message.contains(words), "{message}");
        }
    });
}
