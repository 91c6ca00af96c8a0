//! Weights in the forms in which people have them: one model written in each,
//! and read back to the same numbers; what is refused, and why.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::{Error, ErrorKind, Listener, Result, Sound};
use tempfile::TempDir;
use zip::CompressionMethod;

use crate::form_writers::{
    CTranslate2, Packed, Storage, Tensors, View, apart, ctranslate2, openai_name, pickle, read,
    row_major, rowed, state, wide, write_safetensors, zipped, zipped_as,
};
use crate::whisper_folder::{whisper_folder, write_wav};

const WEIGHTS: &str = "model.safetensors";

/// Heads of the encoder and the decoder.
const HEADS: [i16; 2] = [2, 4];

fn load(place: &Path) -> Result<Model> {
    Model::load(ModelFiles::folder(place)?)
}

/// The words of the error that there has to be.
fn error(place: &Path) -> String {
    let error: Error = load(place).err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::File, "{error}");
    error.to_string()
}

/// All numbers of a model, by the names of its weights.
fn numbers(model: &Model) -> Vec<(String, Vec<f32>)> {
    let all = model.weights.iter();
    all.map(|weight| (weight.name.clone(), weight.data.to_vec())).collect()
}

fn text(place: &Path) -> String {
    let sound = place.parent().unwrap().join("sound.wav");
    write_wav(&sound, 12_000);
    let mut listener = Listener::builder().model(place).device("cpu").open().unwrap();
    let heard = listener.transcribe(&Sound::read(&sound).unwrap());
    format!("{:?}", heard.unwrap().tokens())
}

/// A folder of Whisper as Hugging Face saves it, with the names that OpenAI
/// gives the tokens of the prompt.
struct Base {
    place: TempDir,
    tensors: Tensors,
}

impl Base {
    fn new() -> Self {
        let place = TempDir::new().unwrap();
        let folder = place.path().join("base");
        whisper_folder(&folder);
        let file = folder.join("tokenizer.json");
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
        let tensors = read(&folder.join(WEIGHTS));
        Self { place, tensors }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.place.path().join("base")
    }

    fn numbers(&self) -> Vec<(String, Vec<f32>)> {
        numbers(&load(&self.folder()).unwrap())
    }

    /// A new folder with some of the base's files.
    fn other(&self, name: &str, files: &[&str]) -> std::path::PathBuf {
        let folder = self.place.path().join(name);
        fs::create_dir(&folder).unwrap();
        for file in files {
            fs::copy(self.folder().join(file), folder.join(file)).unwrap();
        }
        folder
    }

    /// A folder without weights.
    fn without_weights(&self, name: &str) -> std::path::PathBuf {
        let files = ["config.json", "generation_config.json", "tokenizer.json",
            "preprocessor_config.json"];
        self.other(name, &files)
    }

    /// The base with other tensors.
    fn with(&self, name: &str, tensors: &Tensors) -> Vec<(String, Vec<f32>)> {
        let folder = self.without_weights(name);
        write_safetensors(&folder.join(WEIGHTS), tensors);
        numbers(&load(&folder).unwrap())
    }

    fn save_torch(&self, name: &str, class: &'static str, old: bool) -> std::path::PathBuf {
        let folder = self.without_weights(name);
        let (storages, views) = apart(&self.tensors, class);
        let root = state(&storages, &views);
        let bytes = match old {
            true => rowed(&root, &storages, true),
            false => zipped(&root, &storages, &[("byteorder", b"little")]),
        };
        fs::write(folder.join("pytorch_model.bin"), bytes).unwrap();
        folder
    }
}

/// Whether numbers differ by no more than a part of the largest of their
/// tensor.
fn close(own: &[(String, Vec<f32>)], other: &[(String, Vec<f32>)], part: f32) {
    assert_eq!(own.len(), other.len());
    for ((name, own), (other_name, other)) in own.iter().zip(other) {
        assert_eq!((name, own.len()), (other_name, other.len()));
        let largest = other.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (own, other) in own.iter().zip(other) {
            assert!((own - other).abs() <= part * largest, "{name}: {own} {other}");
        }
    }
}

#[test]
fn files_of_torch_save_in_both_containers() {
    let base = Base::new();
    let right = base.numbers();
    for old in [false, true] {
        for (class, part) in [
            ("FloatStorage", 0.0),
            ("DoubleStorage", 0.0),
            ("HalfStorage", 1e-3),
            ("BFloat16Storage", 8e-3),
        ] {
            let folder = base.save_torch(&format!("{class} {old}"), class, old);
            close(&numbers(&load(&folder).unwrap()), &right, part);
        }
    }
    let folder = base.place.path().join("FloatStorage true");
    assert_eq!(text(&folder), text(&base.folder()));
    // safetensors go before.
    let other = base.tensors.iter().map(|(name, (shape, values))| {
        (name.clone(), (shape.clone(), values.iter().map(|x| x + 1.0).collect()))
    });
    write_safetensors(&folder.join(WEIGHTS), &other.collect());
    assert!(numbers(&load(&folder).unwrap()) != right);
}

#[test]
fn views_of_one_storage_with_offsets_and_strides() {
    let base = Base::new();
    let right = base.numbers();
    let mut whole = Vec::new();
    let mut views = Vec::new();
    for (name, (shape, values)) in &base.tensors {
        let mut strides = row_major(shape);
        let offset = whole.len();
        match shape[..] {
            // Stored turned.
            [rows, columns] => {
                strides = vec![1, rows];
                whole.extend((0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c)).map(|at| values[at]));
            }
            _ => whole.extend(values),
        }
        views.push(View {
            name: name.clone(),
            storage: 0,
            offset,
            shape: shape.clone(),
            strides,
        });
    }
    // Tied: the projection is the embedding's storage.
    let embedding = views.iter().find(|view| view.name.ends_with("embed_tokens.weight")).unwrap();
    views.push(View {
        name: "proj_out.weight".into(),
        shape: embedding.shape.clone(),
        strides: embedding.strides.clone(),
        ..*embedding
    });
    let storages = [Storage::new("FloatStorage", &whole)];
    let folder = base.without_weights("views");
    fs::write(folder.join("pytorch_model.bin"), zipped(&state(&storages, &views), &storages, &[])).unwrap();
    let own = numbers(&load(&folder).unwrap());
    let known = own.iter().filter(|(name, _)| right.iter().any(|(own, _)| own == name));
    assert_eq!(known.cloned().collect::<Vec<_>>(), right);
    assert_eq!(text(&folder), text(&base.folder()));
}

#[test]
fn shards_of_torch_save() {
    let base = Base::new();
    let folder = base.without_weights("shards");
    let mut map = serde_json::Map::new();
    for (part, file) in ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"].iter().enumerate() {
        let own = base.tensors.iter().enumerate().filter(|(at, _)| at % 2 == part);
        let own: Tensors = own.map(|(_, (name, tensor))| (name.clone(), tensor.clone())).collect();
        map.extend(own.keys().map(|name| (name.clone(), json!(file))));
        let (storages, views) = apart(&own, "FloatStorage");
        fs::write(folder.join(file), zipped(&state(&storages, &views), &storages, &[])).unwrap();
    }
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(folder.join("pytorch_model.bin.index.json"), index.to_string()).unwrap();
    assert_eq!(numbers(&load(&folder).unwrap()), base.numbers());
}

#[test]
fn nothing_in_a_pickle_is_run_and_damage_is_named() {
    let base = Base::new();
    let (storages, views) = apart(&base.tensors, "FloatStorage");
    let root = state(&storages, &views);
    let file = base.without_weights("broken").join("pytorch_model.bin");
    let refused = |bytes: &[u8], words: &str| {
        fs::write(&file, bytes).unwrap();
        let error = error(file.parent().unwrap());
        assert!(error.contains(words), "{error}");
        assert!(error.contains("pytorch_model.bin"), "{error}");
    };
    let marker = base.place.path().join("ran");
    let command = format!("touch {}", marker.display());
    let evil = [b"cos\nsystem\n", &pickle::tuple(&[pickle::text(&command)])[..], b"R"].concat();
    refused(&zipped(&evil, &[], &[]), "asks Python for os.system");
    refused(&rowed(&evil, &[], true), "asks Python for os.system");
    let inside = pickle::dict(&[("a", evil)]);
    refused(&zipped(&inside, &[], &[]), "asks Python for os.system");
    assert!(!marker.exists());

    refused(&zipped(&root, &storages, &[("byteorder", b"big")]), "big-endian");
    refused(&rowed(&root, &storages, false), "big-endian");
    refused(&zipped(&root, &storages, &[("constants.pkl", b"")]), "TorchScript");
    refused(&zipped(&root, &storages[..storages.len() - 1], &[]), "no part of the file");
    let packed = zipped_as(CompressionMethod::Stored, &root, &storages, &[]);
    refused(&packed[..packed.len() / 2], "not a whole zip");
    let old = rowed(&root, &storages, true);
    refused(&old[..old.len() - 1], "ends before its storages do");
    refused(&old[..40], "cut short or damaged");
    refused(b"\x80\x04N.", "not one that torch.save wrote");
    refused(b"", "not a file that torch.save wrote");
    let checkpoint = pickle::dict(&[("epoch", pickle::int(3)), ("state_dict", root.clone())]);
    refused(&zipped(&checkpoint, &storages, &[]), "is no tensor");
    // A few bytes that ask for all memory.
    for (shape, strides) in [
        (vec![1 << 30, 1 << 30], vec![0, 0]),
        (vec![64, 64], vec![1 << 30, 1 << 30]),
        (vec![4, 4], vec![4, 1]),
    ] {
        let storages = [Storage::new("FloatStorage", &[0.0; 15])];
        let views = [View { name: "a".into(), storage: 0, offset: 0, shape, strides }];
        refused(&zipped(&state(&storages, &views), &storages, &[]), "beyond its storage");
    }
    let long = [Storage::new("LongStorage", &[0.0; 2])];
    let bias = "model.encoder.conv1.bias";
    let mut views = views;
    let view = views.iter_mut().find(|view| view.name == bias).unwrap();
    (view.storage, view.shape) = (storages.len(), vec![0]);
    view.strides = vec![1];
    let storages: Vec<Storage> = storages.into_iter().chain(long).collect();
    refused(&zipped(&state(&storages, &views), &storages, &[]), "is Long where");
}

/// A folder of CTranslate2 with the base's vocabulary.
fn converted(base: &Base, name: &str, model: &[u8]) -> std::path::PathBuf {
    let files = ["tokenizer.json", "preprocessor_config.json"];
    let folder = base.other(name, &files);
    fs::write(folder.join("model.bin"), model).unwrap();
    let config = json!({"suppress_ids": [3, 7, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59],
        "suppress_ids_begin": [5, 48], "lang_ids": [50, 51, 52, 53, 54],
        "alignment_heads": [[1, 0], [1, 3]]});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn ctranslate2_in_all_its_numbers_and_versions() {
    let base = Base::new();
    let right = base.numbers();
    for (packed, part) in [
        (Packed::F32, 0.0),
        (Packed::F16, 1e-3),
        (Packed::Bf16, 8e-3),
        (Packed::Int8, 1.01 / 254.0),
        (Packed::Int16, 1.01 / 2048.0),
    ] {
        for version in [2, 3, 4, 5, 6] {
            if version < 4 && matches!(packed, Packed::F16 | Packed::Bf16) {
                continue;
            }
            let model = ctranslate2(&base.tensors, HEADS, packed, version);
            let name = format!("{packed:?} {version}");
            let folder = converted(&base, &name, &model.finish("WhisperSpec"));
            close(&numbers(&load(&folder).unwrap()), &right, part);
        }
    }
    let folder = base.place.path().join("F32 6");
    assert_eq!(text(&folder), text(&base.folder()));
    let model = load(&folder).unwrap();
    assert_eq!(model.generation.alignment_heads().unwrap().unwrap(), [[1, 0], [1, 3]]);
    assert_eq!(model.generation.is_multilingual, Some(true));
    assert_eq!(model.generation.lang_to_id.as_ref().unwrap()["<|it|>"], 53);
    assert_eq!(model.generation.task_to_id["translate"], 55);
    // Its own list of tokens does as well as tokenizer.json, whichever it is.
    let whole: Value = serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    let mut tokens: Vec<(u64, String)> = whole["model"]["vocab"].as_object().unwrap().iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token.clone())).collect();
    tokens.sort();
    let tokens: Vec<String> = tokens.into_iter().map(|(_, token)| token).collect();
    let wanted = text(&folder);
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    for (name, list) in [
        ("vocabulary.txt", tokens.join("\n") + "\n"),
        ("vocabulary.json", json!(tokens).to_string()),
    ] {
        fs::write(folder.join(name), list).unwrap();
        assert_eq!(text(&folder), wanted, "{name}");
        fs::remove_file(folder.join(name)).unwrap();
    }
    assert!(error(&folder).contains("vocabulary.json or vocabulary.txt"));
}

#[test]
fn other_models_of_ctranslate2_are_named() {
    let base = Base::new();
    let whole = |change: &dyn Fn(&mut CTranslate2)| {
        let mut model = ctranslate2(&base.tensors, HEADS, Packed::F32, 6);
        change(&mut model);
        model.finish("WhisperSpec")
    };
    let folder = converted(&base, "odd", &[]);
    let refused = |bytes: &[u8], words: &str| {
        fs::write(folder.join("model.bin"), bytes).unwrap();
        let error = error(&folder);
        assert!(error.contains(words) && error.contains("model.bin"), "{error}");
    };
    let model = ctranslate2(&base.tensors, HEADS, Packed::F32, 6);
    refused(&model.finish("TransformerSpec"), "CTranslate2 model of TransformerSpec");
    refused(&CTranslate2::new(6).finish("Wav2Vec2Spec"), "a CTC model");
    refused(&CTranslate2::new(7).finish("WhisperSpec"), "version 7");
    refused(&CTranslate2::new(6).finish("WhisperSpec"), "has no encoder/conv1/weight");
    refused(b"PK", "no model.bin of CTranslate2");
    let bytes = whole(&|_| {});
    refused(&bytes[..bytes.len() / 2], "is cut short");
    refused(&[&bytes[..], b"x"].concat(), "1 bytes behind");
    refused(&whole(&|model| model.setting("decoder/alibi", 1)), "decoder/alibi 1");
    refused(&whole(&|model| model.add("encoder/q", &[2], (3, 4), &[0; 8])), "AWQ");
    refused(&whole(&|model| model.add("encoder/q", &[2], (0, 4), &[0; 8])), "which Whisper has not");
    refused(&whole(&|model| model.add("encoder/q", &[2], (0, 4), &[0; 4])), "with 4 bytes");
    refused(&whole(&|model| model.add("a", &[1 << 31, 1 << 31, 9], (0, 4), &[0; 4])), "does not fit the file");
    // A bias of keys, which Whisper has not.
    let mut tensors = base.tensors.clone();
    let width = tensors["model.encoder.conv1.bias"].0[0];
    let name = "model.decoder.layers.0.encoder_attn.k_proj.bias";
    tensors.insert(name.into(), (vec![width], vec![0.5; width]));
    refused(&ctranslate2(&tensors, HEADS, Packed::F32, 6).finish("WhisperSpec"), name);
    // Heads that do not divide the width.
    let heads = ctranslate2(&base.tensors, [3, 4], Packed::F32, 6).finish("WhisperSpec");
    refused(&heads, "encoder/num_heads");
}

/// OpenAI's file for the base.
fn openai(base: &Base, old: bool) -> Vec<u8> {
    let tensors = base.tensors.iter();
    let tensors = tensors.map(|(name, tensor)| (openai_name(name), tensor.clone())).collect();
    let (storages, views) = apart(&tensors, "HalfStorage");
    let dims = [("n_mels", 80), ("n_audio_ctx", 50), ("n_audio_state", 32), ("n_audio_head", 2),
        ("n_audio_layer", 1), ("n_text_ctx", 64), ("n_text_state", 32), ("n_text_head", 4),
        ("n_text_layer", 2), ("n_vocab", 112)];
    let dims = dims.map(|(key, value)| (key, pickle::int(value)));
    let root = pickle::dict(&[
        ("dims", pickle::dict(&dims)),
        ("model_state_dict", state(&storages, &views)),
    ]);
    match old {
        true => rowed(&root, &storages, true),
        false => zipped(&root, &storages, &[]),
    }
}

#[test]
fn openais_own_file() {
    // OpenAI's feed-forwards have four times the width.
    let mut base = Base::new();
    let config = base.folder().join("config.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    (value["encoder_ffn_dim"], value["decoder_ffn_dim"]) = (json!(128), json!(128));
    fs::write(&config, value.to_string()).unwrap();
    for (name, (shape, values)) in &mut base.tensors {
        if name.ends_with("fc1.weight") || name.ends_with("fc1.bias") {
            shape[0] = 128;
            *values = values.repeat(2);
        } else if name.ends_with("fc2.weight") {
            shape[1] = 128;
            let rows = values.chunks(64).flat_map(|row| row.repeat(2));
            *values = rows.collect();
        }
    }
    write_safetensors(&base.folder().join(WEIGHTS), &base.tensors);
    let right = base.numbers();
    for old in [false, true] {
        let files = ["tokenizer.json", "generation_config.json", "preprocessor_config.json"];
        let folder = base.other(&format!("openai {old}"), &files);
        let file = folder.join("small.pt");
        fs::write(&file, openai(&base, old)).unwrap();
        // By the file and by the folder.
        close(&numbers(&load(&file).unwrap()), &right, 1e-3);
        close(&numbers(&load(&folder).unwrap()), &right, 1e-3);
        assert_eq!(text(&folder), text(&file));
        assert_eq!(text(&folder), text(&base.folder()));
        // Without settings they follow from the vocabulary.
        fs::remove_file(folder.join("generation_config.json")).unwrap();
        let model = load(&file).unwrap();
        assert_eq!(model.generation.no_timestamps_token_id, Some(60));
        assert_eq!(model.generation.lang_to_id.as_ref().unwrap().len(), 5);
        assert!(model.generation.suppress_tokens.contains(&49));
        fs::remove_file(folder.join("tokenizer.json")).unwrap();
        let missing = error(&file);
        assert!(missing.contains("tokenizer.json") && missing.contains("tiktoken"), "{missing}");
        fs::write(folder.join("large.pt"), b"").unwrap();
        assert!(error(&folder).contains("one of 2 files .pt"));
        assert!(error(&folder.join("large.pt")).contains("not a file that torch.save wrote"));
    }
    let folder = base.other("other pt", &[]);
    fs::write(folder.join("a.pt"), zipped(&pickle::dict(&[]), &[], &[])).unwrap();
    assert!(error(&folder).contains("not OpenAI's Whisper"));
    assert!(error(&base.folder().join(WEIGHTS)).contains("give the model's folder"));
}

#[test]
fn what_is_not_read_is_named_with_the_way_out() {
    let base = Base::new();
    let folder = base.without_weights("refused");
    let refused = |file: &str, bytes: &[u8], words: &str| {
        fs::write(folder.join(file), bytes).unwrap();
        let error = error(&folder);
        assert!(error.contains(words) && error.contains(file), "{error}");
        fs::remove_file(folder.join(file)).unwrap();
    };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    for file in [WEIGHTS, "pytorch_model.bin"] {
        refused(file, pointer, "Git LFS pointer");
    }
    refused("tf_model.h5", b"x", "TensorFlow");
    refused("flax_model.msgpack", b"x", "Flax");
    let config = fs::read(folder.join("config.json")).unwrap();
    fs::copy(base.folder().join(WEIGHTS), folder.join(WEIGHTS)).unwrap();
    let change = |key: &str, value: Value| {
        let mut whole: Value = serde_json::from_slice(&config).unwrap();
        whole[key] = value;
        fs::write(folder.join("config.json"), whole.to_string()).unwrap();
        error(&folder)
    };
    for (name, words) in [
        ("Wav2Vec2ForCTC", "CTC model"),
        ("ParakeetForTDT", "transducer"),
        ("WhisperForAudioClassification", "names what a sound is"),
    ] {
        let error = change("architectures", json!([name]));
        assert!(error.contains(words), "{error}");
    }
    let error_of = change("quantization_config", json!({"quant_method": "fp8"}));
    assert!(error_of.contains("packed by fp8") && error_of.contains("dequantize"), "{error_of}");
    fs::write(folder.join("config.json"), &config).unwrap();
    // 8-bit floats.
    let bytes = fs::read(folder.join(WEIGHTS)).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap().trim_end();
    let mut header: Value = serde_json::from_str(header).unwrap();
    let own = &mut header["model.encoder.conv1.weight"];
    own["dtype"] = json!("F8_E4M3");
    own["shape"] = json!([32, 80, 3, 4]);
    let header = header.to_string().into_bytes();
    let whole = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]].concat();
    fs::write(folder.join(WEIGHTS), whole).unwrap();
    let fp8 = error(&folder);
    assert!(fp8.contains("F8_E4M3") && fp8.contains("F16 or BF16"), "{fp8}");
    // A folder with nothing of its own.
    let folder = base.other("ggml", &[]);
    fs::write(folder.join("ggml-base.bin"), b"lmgg").unwrap();
    assert!(error(&folder).contains("whisper.cpp"));
    assert!(error(&folder.join("ggml-base.bin")).contains("whisper.cpp"));
    let _ = wide;
}
