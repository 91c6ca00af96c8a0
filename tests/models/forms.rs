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
    row_major, rowed, state, write_safetensors, zipped, zipped_as,
};
use crate::whisper_folder::{name_as_openai, whisper_folder, write_wav};

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
    all.map(|weight| (weight.name.clone(), weight.data.to_vec()))
        .collect()
}

fn text(place: &Path) -> String {
    let sound = place.parent().unwrap().join("sound.wav");
    write_wav(&sound, 12_000);
    let mut listener = Listener::builder()
        .model(place)
        .device("cpu")
        .open()
        .unwrap();
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
        name_as_openai(&folder);
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
        let files = [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "preprocessor_config.json",
        ];
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
            assert!(
                (own - other).abs() <= part * largest,
                "{name}: {own} {other}"
            );
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
        (
            name.clone(),
            (shape.clone(), values.iter().map(|x| x + 1.0).collect()),
        )
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
                whole.extend(
                    (0..columns)
                        .flat_map(|c| (0..rows).map(move |r| r * columns + c))
                        .map(|at| values[at]),
                );
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
    let embedding = views
        .iter()
        .find(|view| view.name.ends_with("embed_tokens.weight"))
        .unwrap();
    views.push(View {
        name: "proj_out.weight".into(),
        shape: embedding.shape.clone(),
        strides: embedding.strides.clone(),
        ..*embedding
    });
    let storages = [Storage::new("FloatStorage", &whole)];
    let folder = base.without_weights("views");
    fs::write(
        folder.join("pytorch_model.bin"),
        zipped(&state(&storages, &views), &storages, &[]),
    )
    .unwrap();
    let own = numbers(&load(&folder).unwrap());
    let known = own
        .iter()
        .filter(|(name, _)| right.iter().any(|(own, _)| own == name));
    assert_eq!(known.cloned().collect::<Vec<_>>(), right);
    assert_eq!(text(&folder), text(&base.folder()));
}

#[test]
fn shards_of_torch_save() {
    let base = Base::new();
    let folder = base.without_weights("shards");
    let mut map = serde_json::Map::new();
    for (part, file) in [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    ]
    .iter()
    .enumerate()
    {
        let own = base
            .tensors
            .iter()
            .enumerate()
            .filter(|(at, _)| at % 2 == part);
        let own: Tensors = own
            .map(|(_, (name, tensor))| (name.clone(), tensor.clone()))
            .collect();
        map.extend(own.keys().map(|name| (name.clone(), json!(file))));
        let (storages, views) = apart(&own, "FloatStorage");
        fs::write(
            folder.join(file),
            zipped(&state(&storages, &views), &storages, &[]),
        )
        .unwrap();
    }
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(
        folder.join("pytorch_model.bin.index.json"),
        index.to_string(),
    )
    .unwrap();
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
    let evil = [
        b"cos\nsystem\n",
        &pickle::tuple(&[pickle::text(&command)])[..],
        b"R",
    ]
    .concat();
    refused(&zipped(&evil, &[], &[]), "asks Python for os.system");
    refused(&rowed(&evil, &[], true), "asks Python for os.system");
    let inside = pickle::dict(&[("a", evil)]);
    refused(&zipped(&inside, &[], &[]), "asks Python for os.system");
    assert!(!marker.exists());

    refused(
        &zipped(&root, &storages, &[("byteorder", b"big")]),
        "big-endian",
    );
    refused(&rowed(&root, &storages, false), "big-endian");
    refused(
        &zipped(&root, &storages, &[("constants.pkl", b"")]),
        "TorchScript",
    );
    refused(
        &zipped(&root, &storages[..storages.len() - 1], &[]),
        "no part of the file",
    );
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
        let views = [View {
            name: "a".into(),
            storage: 0,
            offset: 0,
            shape,
            strides,
        }];
        refused(
            &zipped(&state(&storages, &views), &storages, &[]),
            "beyond its storage",
        );
    }
    let long = [Storage::new("LongStorage", &[0.0; 2])];
    let bias = "model.encoder.conv1.bias";
    let mut views = views;
    let view = views.iter_mut().find(|view| view.name == bias).unwrap();
    (view.storage, view.shape) = (storages.len(), vec![0]);
    view.strides = vec![1];
    let storages: Vec<Storage> = storages.into_iter().chain(long).collect();
    refused(
        &zipped(&state(&storages, &views), &storages, &[]),
        "is Long where",
    );
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
    assert_eq!(
        model.generation.alignment_heads().unwrap().unwrap(),
        [[1, 0], [1, 3]]
    );
    assert_eq!(model.generation.is_multilingual, Some(true));
    assert_eq!(model.generation.lang_to_id.as_ref().unwrap()["<|it|>"], 53);
    assert_eq!(model.generation.task_to_id["translate"], 55);
    // Its own list of tokens does as well as tokenizer.json, whichever it is.
    let whole: Value =
        serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    let mut tokens: Vec<(u64, String)> = whole["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token.clone()))
        .collect();
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
        assert!(
            error.contains(words) && error.contains("model.bin"),
            "{error}"
        );
    };
    let model = ctranslate2(&base.tensors, HEADS, Packed::F32, 6);
    refused(
        &model.finish("TransformerSpec"),
        "CTranslate2 model of TransformerSpec",
    );
    refused(&CTranslate2::new(6).finish("Wav2Vec2Spec"), "a CTC model");
    refused(&CTranslate2::new(7).finish("WhisperSpec"), "version 7");
    refused(
        &CTranslate2::new(6).finish("WhisperSpec"),
        "has no encoder/conv1/weight",
    );
    refused(b"PK", "no model.bin of CTranslate2");
    let bytes = whole(&|_| {});
    refused(&bytes[..bytes.len() / 2], "is cut short");
    refused(&[&bytes[..], b"x"].concat(), "1 bytes behind");
    refused(
        &whole(&|model| model.setting("decoder/alibi", 1)),
        "decoder/alibi 1",
    );
    refused(
        &whole(&|model| model.add("encoder/q", &[2], (3, 4), &[0; 8])),
        "AWQ",
    );
    refused(
        &whole(&|model| model.add("encoder/q", &[2], (0, 4), &[0; 8])),
        "which Whisper has not",
    );
    refused(
        &whole(&|model| model.add("encoder/q", &[2], (0, 4), &[0; 4])),
        "with 4 bytes",
    );
    refused(
        &whole(&|model| model.add("a", &[1 << 31, 1 << 31, 9], (0, 4), &[0; 4])),
        "does not fit the file",
    );
    // A bias of keys, which Whisper has not.
    let mut tensors = base.tensors.clone();
    let width = tensors["model.encoder.conv1.bias"].0[0];
    let name = "model.decoder.layers.0.encoder_attn.k_proj.bias";
    tensors.insert(name.into(), (vec![width], vec![0.5; width]));
    refused(
        &ctranslate2(&tensors, HEADS, Packed::F32, 6).finish("WhisperSpec"),
        name,
    );
    // Heads that do not divide the width.
    let heads = ctranslate2(&base.tensors, [3, 4], Packed::F32, 6).finish("WhisperSpec");
    refused(&heads, "encoder/num_heads");
}

/// OpenAI's file for the base.
fn openai(base: &Base, old: bool) -> Vec<u8> {
    let tensors = base.tensors.iter();
    let tensors = tensors
        .map(|(name, tensor)| (openai_name(name), tensor.clone()))
        .collect();
    let (storages, views) = apart(&tensors, "HalfStorage");
    let dims = [
        ("n_mels", 80),
        ("n_audio_ctx", 50),
        ("n_audio_state", 32),
        ("n_audio_head", 2),
        ("n_audio_layer", 1),
        ("n_text_ctx", 64),
        ("n_text_state", 32),
        ("n_text_head", 4),
        ("n_text_layer", 2),
        ("n_vocab", 112),
    ];
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
        let files = [
            "tokenizer.json",
            "generation_config.json",
            "preprocessor_config.json",
        ];
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
        assert!(
            missing.contains("tokenizer.json") && missing.contains("tiktoken"),
            "{missing}"
        );
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
    assert!(
        error_of.contains("packed by fp8") && error_of.contains("dequantize"),
        "{error_of}"
    );
    fs::write(folder.join("config.json"), &config).unwrap();
    // 8-bit floats.
    let bytes = fs::read(folder.join(WEIGHTS)).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length])
        .unwrap()
        .trim_end();
    let mut header: Value = serde_json::from_str(header).unwrap();
    let own = &mut header["model.encoder.conv1.weight"];
    own["dtype"] = json!("F8_E4M3");
    own["shape"] = json!([32, 80, 3, 4]);
    let header = header.to_string().into_bytes();
    let whole = [
        &(header.len() as u64).to_le_bytes()[..],
        &header,
        &bytes[8 + length..],
    ]
    .concat();
    fs::write(folder.join(WEIGHTS), whole).unwrap();
    let fp8 = error(&folder);
    assert!(
        fp8.contains("F8_E4M3") && fp8.contains("F16 or BF16"),
        "{fp8}"
    );
    // A folder with nothing of its own.
    let folder = base.other("ggml", &[]);
    fs::write(folder.join("ggml-base.bin"), b"lmgg").unwrap();
    assert!(error(&folder).contains("whisper.cpp"));
    assert!(error(&folder.join("ggml-base.bin")).contains("whisper.cpp"));
}

/// Numbers of a tensor that are told by its name.
fn drawn(name: &str, shape: &[usize]) -> (Vec<usize>, Vec<f32>) {
    let seed = name
        .bytes()
        .fold(7u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
    let count = shape.iter().product::<usize>() as u32;
    let draw = |at: u32| (seed.wrapping_add(at).wrapping_mul(2_654_435_761) >> 16) as f32;
    let values = (0..count).map(|at| draw(at) / 65_536.0 - 0.5);
    (shape.to_vec(), values.collect())
}

const QUERY: &str = "model.decoder.layers.1.encoder_attn.q_proj";
const VALUE: &str = "model.encoder.layers.0.self_attn.v_proj";
const FEED: &str = "model.decoder.layers.0.fc1";
const EMBEDDING: &str = "model.decoder.embed_tokens";

/// An adapter for the base, from its config and the shapes of its tensors.
fn adapter(
    base: &Base,
    name: &str,
    config: Value,
    tensors: &[(&str, &str, &[usize])],
) -> (std::path::PathBuf, Tensors) {
    let folder = base.other(name, &[]);
    let mut whole = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 6,
        "base_model_name_or_path": "base", "use_rslora": false, "use_dora": false,
        "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": null, "bias": "none",
        "init_lora_weights": true, "loftq_config": {}, "target_modules": ["q_proj"]});
    for (key, value) in config.as_object().unwrap() {
        whole[key] = value.clone();
    }
    fs::write(folder.join("adapter_config.json"), whole.to_string()).unwrap();
    let tensors: Tensors = tensors
        .iter()
        .map(|(module, end, shape)| {
            let name = format!("base_model.model.{module}.{end}");
            let tensor = drawn(&name, shape);
            (name, tensor)
        })
        .collect();
    write_safetensors(&folder.join("adapter_model.safetensors"), &tensors);
    (folder, tensors)
}

/// W + scale · B A in 64 bits, and the rows' lengths where they are given.
fn merged(base: &Tensors, own: &Tensors, module: &str, scale: f64) -> (Vec<usize>, Vec<f32>) {
    let (shape, weight) = &base[&format!("{module}.weight")];
    let get = |end: &str| own.get(&format!("base_model.model.{module}.{end}"));
    let ((_, a), (b_shape, b)) = (get("lora_A.weight").unwrap(), get("lora_B.weight").unwrap());
    let (rank, columns) = (b_shape[1], weight.len() / shape[0]);
    let mut sum: Vec<f64> = weight.iter().map(|&x| f64::from(x)).collect();
    for (at, sum) in sum.iter_mut().enumerate() {
        let (row, column) = (at / columns, at % columns);
        let product = |n: usize| f64::from(b[row * rank + n]) * f64::from(a[n * columns + column]);
        *sum += scale * (0..rank).map(product).sum::<f64>();
    }
    if let Some((_, lengths)) = get("lora_magnitude_vector") {
        for (row, length) in sum.chunks_mut(columns).zip(lengths) {
            let own = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter_mut().for_each(|x| *x *= f64::from(*length) / own);
        }
    }
    (shape.clone(), sum.into_iter().map(|x| x as f32).collect())
}

/// Name, config, tensors (module, what of it, shape), and what their products
/// are multiplied by.
type Case = (
    &'static str,
    Value,
    Vec<(&'static str, &'static str, Vec<usize>)>,
    Vec<(&'static str, f64)>,
);

#[test]
fn adapters_are_merged_as_peft_merges_them() {
    let base = Base::new();
    let pair = |module: &'static str, rank: usize, width: usize| {
        [
            (module, "lora_A.weight", vec![rank, 32]),
            (module, "lora_B.weight", vec![width, rank]),
        ]
    };
    let cases: [Case; 6] = [
        (
            "plain",
            json!({}),
            [pair(QUERY, 2, 32), pair(VALUE, 2, 32)].concat(),
            vec![(QUERY, 3.0), (VALUE, 3.0)],
        ),
        (
            "rslora",
            json!({"use_rslora": true}),
            pair(FEED, 2, 64).into(),
            vec![(FEED, 6.0 / 2f64.sqrt())],
        ),
        (
            // Whole components at the end of a name, the first that fits.
            "patterns",
            json!({"rank_pattern": {"proj": 9, r"decoder.*\.q_proj": 4, "fc1": 1},
                "alpha_pattern": {"self_attn.v_proj": 1, "v_proj": 5, r"layers\.\d+\.fc1": 2}}),
            [pair(QUERY, 4, 32), pair(VALUE, 2, 32), pair(FEED, 1, 64)].concat(),
            vec![(QUERY, 1.5), (VALUE, 0.5), (FEED, 2.0)],
        ),
        (
            "dora",
            json!({"use_dora": true}),
            [
                &pair(QUERY, 2, 32)[..],
                &[(QUERY, "lora_magnitude_vector", vec![32])],
            ]
            .concat(),
            vec![(QUERY, 3.0)],
        ),
        (
            "convolution",
            json!({}),
            vec![
                ("model.encoder.conv1", "lora_A.weight", vec![2, 80, 3]),
                ("model.encoder.conv1", "lora_B.weight", vec![32, 2, 1]),
            ],
            vec![("model.encoder.conv1", 3.0)],
        ),
        (
            "both",
            json!({"lora_alpha": 1}),
            pair("proj_out", 2, 112).into(),
            vec![("proj_out", 0.5)],
        ),
    ];
    for (name, config, tensors, changed) in cases {
        let tensors: Vec<(&str, &str, &[usize])> = tensors
            .iter()
            .map(|(module, end, shape)| (*module, *end, &shape[..]))
            .collect();
        let (folder, own) = adapter(&base, name, config, &tensors);
        let mut right = base.tensors.clone();
        // The projection is tied to the embedding, until it is changed alone.
        right.insert(
            "proj_out.weight".into(),
            right[&format!("{EMBEDDING}.weight")].clone(),
        );
        let before = right.clone();
        for (module, scale) in changed {
            right.insert(
                format!("{module}.weight"),
                merged(&before, &own, module, scale),
            );
        }
        if name != "both" {
            right.remove("proj_out.weight");
        }
        let right = base.with(&format!("{name} merged"), &right);
        close(&numbers(&load(&folder).unwrap()), &right, 1e-6);
    }
    // The same in peft's older file.
    let folder = base.place.path().join("plain");
    let wanted = numbers(&load(&folder).unwrap());
    let tensors = read(&folder.join("adapter_model.safetensors"));
    fs::remove_file(folder.join("adapter_model.safetensors")).unwrap();
    assert!(error(&folder).contains("nor adapter_model.bin"));
    let (storages, views) = apart(&tensors, "FloatStorage");
    let bytes = zipped(&state(&storages, &views), &storages, &[]);
    fs::write(folder.join("adapter_model.bin"), bytes).unwrap();
    assert_eq!(numbers(&load(&folder).unwrap()), wanted);
    // In a whole model's folder it changes that model; its config alone does not.
    let embedded = base.without_weights("embedded");
    fs::copy(base.folder().join(WEIGHTS), embedded.join(WEIGHTS)).unwrap();
    let mut config = fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    config = config.replace("\"base\"", "\"nowhere\"");
    fs::write(embedded.join("adapter_config.json"), config).unwrap();
    assert_eq!(numbers(&load(&embedded).unwrap()), base.numbers());
    let file = "adapter_model.bin";
    fs::copy(folder.join(file), embedded.join(file)).unwrap();
    assert_eq!(numbers(&load(&embedded).unwrap()), wanted);
    // The base's words, and the adapter's where it has a vocabulary.
    let with_base = text(&folder);
    fs::copy(
        base.folder().join("tokenizer.json"),
        folder.join("tokenizer.json"),
    )
    .unwrap();
    assert_eq!(text(&folder), with_base);
    fs::write(folder.join("tokenizer.json"), "{").unwrap();
    assert!(load(&folder).unwrap().tokenizer().is_err());
}

#[test]
fn tensors_that_an_adapter_has_whole() {
    let base = Base::new();
    let embedding = format!("{EMBEDDING}.weight");
    // A vocabulary of five tokens more.
    let grown: &[usize] = &[117, 32];
    let tensors = [(EMBEDDING, "weight", grown), ("proj_out", "weight", grown)];
    let (folder, own) = adapter(&base, "resized", json!({}), &tensors);
    let model = load(&folder).unwrap();
    assert_eq!(model.decoder.config.vocabulary, 117);
    let of = |model: &Model, name: &str| {
        let mut all = model.weights.iter();
        all.find(|weight| weight.name == name)
            .map(|weight| weight.data.to_vec())
    };
    let (inner, outer) = (
        "decoder.embed_tokens.weight",
        "decoder.output_projection.weight",
    );
    assert_eq!(
        of(&model, inner).unwrap(),
        own["base_model.model.model.decoder.embed_tokens.weight"].1
    );
    assert_eq!(
        of(&model, outer).unwrap(),
        own["base_model.model.proj_out.weight"].1
    );
    // One that was loaded into the tied matrix replaces both uses; the copy of
    // one use (modules_to_save) that use.
    let same: &[usize] = &[112, 32];
    let tensors = [
        (EMBEDDING, "base_layer.weight", same),
        (QUERY, "base_layer.bias", &[32]),
    ];
    let (folder, own) = adapter(&base, "tied", json!({"bias": "lora_only"}), &tensors);
    let model = load(&folder).unwrap();
    assert_eq!(of(&model, outer), None);
    assert_eq!(
        of(&model, inner).unwrap(),
        own["base_model.model.model.decoder.embed_tokens.base_layer.weight"].1
    );
    let bias = of(&model, "decoder.layers.1.encoder_attn.q_proj.bias").unwrap();
    assert_eq!(
        bias,
        own[&format!("base_model.model.{QUERY}.base_layer.bias")].1
    );
    let config = json!({"modules_to_save": ["embed_tokens"]});
    let (folder, _) = adapter(&base, "copied", config, &[(EMBEDDING, "weight", same)]);
    let model = load(&folder).unwrap();
    assert_eq!(of(&model, outer).unwrap(), base.tensors[&embedding].1);
    // Rows of some tokens.
    let config = json!({"trainable_token_indices": {"embed_tokens": [7, 111]}});
    let rows = (
        EMBEDDING,
        "token_adapter.trainable_tokens_delta",
        &[2, 32][..],
    );
    let (folder, own) = adapter(&base, "tokens", config, &[rows]);
    let mut right = base.tensors[&embedding].1.clone();
    let new = own.values().next().unwrap().1.clone();
    right[7 * 32..8 * 32].copy_from_slice(&new[..32]);
    right[111 * 32..].copy_from_slice(&new[32..]);
    assert_eq!(of(&load(&folder).unwrap(), inner).unwrap(), right);
    // LoRA of the embedding, turned, and a bias of its B.
    let tensors = [
        (EMBEDDING, "lora_embedding_A", &[2, 112][..]),
        (EMBEDDING, "lora_embedding_B", &[32, 2][..]),
        (QUERY, "lora_A.weight", &[2, 32]),
        (QUERY, "lora_B.weight", &[32, 2]),
        (QUERY, "lora_B.bias", &[32]),
    ];
    let (folder, own) = adapter(&base, "embedding", json!({"lora_bias": true}), &tensors);
    let get = |end: &str| &own[&format!("base_model.model.{end}")].1;
    let (a, b) = (
        get(&format!("{EMBEDDING}.lora_embedding_A")),
        get(&format!("{EMBEDDING}.lora_embedding_B")),
    );
    let model = load(&folder).unwrap();
    for (at, own) in of(&model, inner).unwrap().iter().enumerate() {
        let (token, column) = (at / 32, at % 32);
        let sum = a[token] * b[column * 2] + a[112 + token] * b[column * 2 + 1];
        assert!((own - base.tensors[&embedding].1[at] - 3.0 * sum).abs() < 1e-5);
    }
    assert_eq!(of(&model, outer).unwrap(), base.tensors[&embedding].1);
    let bias = of(&model, "decoder.layers.1.encoder_attn.q_proj.bias").unwrap();
    let sum = get(&format!("{QUERY}.lora_B.bias"));
    for (at, own) in bias.iter().enumerate() {
        let right = base.tensors[&format!("{QUERY}.bias")].1[at] + 3.0 * sum[at];
        assert!((own - right).abs() < 1e-6);
    }
}

#[test]
fn adapters_that_are_not_merged_are_named() {
    let base = Base::new();
    let pair: [(&str, &str, &[usize]); 2] = [
        (QUERY, "lora_A.weight", &[2, 32]),
        (QUERY, "lora_B.weight", &[32, 2]),
    ];
    let odd: [(&str, &str, &[usize]); 2] = [
        (QUERY, "lora_A.weight", &[2, 31]),
        (QUERY, "lora_B.weight", &[32, 2]),
    ];
    let nowhere: [(&str, &str, &[usize]); 2] = [
        ("model.x", "lora_A.weight", &[2, 32]),
        ("model.x", "lora_B.weight", &[32, 2]),
    ];
    for (at, (config, tensors, words)) in [
        (json!({"peft_type": "IA3"}), &pair[..], "type IA3"),
        (json!({"use_qalora": true}), &pair, "uses use_qalora"),
        (
            json!({"target_parameters": ["a"]}),
            &pair,
            "uses target_parameters",
        ),
        (
            json!({"init_lora_weights": "pissa_niter_4"}),
            &pair,
            "changes the base model too",
        ),
        (json!({"rank_pattern": {"(": 3}}), &pair, "no expression"),
        (json!({"r": 3}), &pair, "rank 3, but"),
        (json!({"r": 0}), &pair, "r is 0 for model.decoder"),
        (json!({"use_dora": true}), &pair, "use_dora asks for"),
        (json!({}), &pair[..1], "no lora_B beside it"),
        (json!({}), &pair[1..], "no lora_A beside it"),
        (
            json!({}),
            &odd,
            "does not fit the base's decoder.layers.1.encoder_attn.q_proj.weight",
        ),
        (json!({}), &nowhere, "which the base has not"),
        (
            json!({"base_model_name_or_path": "openai/whisper-tiny"}),
            &pair,
            "hf download openai/whisper-tiny",
        ),
        (
            json!({"base_model_name_or_path": null}),
            &pair,
            "has no base_model_name_or_path",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (folder, _) = adapter(&base, &format!("refused {at}"), config, tensors);
        let error = error(&folder);
        assert!(error.contains(words), "{error}");
        assert!(error.contains("adapter_"), "{error}");
    }
}

/// Gives entries of an adapter's config values as they stand in a text, in the
/// order that they have there.
fn set_texts(folder: &Path, entries: &[(&str, &str)]) {
    let file = folder.join("adapter_config.json");
    let mut whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (key, _) in entries {
        whole[key] = json!(format!("the {key}"));
    }
    let mut text = whole.to_string();
    for (key, value) in entries {
        text = text.replace(&format!("\"the {key}\""), value);
    }
    fs::write(&file, text).unwrap();
}

#[test]
fn the_first_pattern_of_the_file_counts() {
    let base = Base::new();
    let tensors: [(&str, &str, &[usize]); 2] = [
        (QUERY, "lora_A.weight", &[4, 32]),
        (QUERY, "lora_B.weight", &[32, 4]),
    ];
    let (folder, own) = adapter(&base, "ordered", json!({}), &tensors);
    // The place of an entry that stands there twice is the first, its value the last.
    let alphas = r#"{"q_proj": 5, ".*decoder.*q_proj": 32, "q_proj": 16}"#;
    let ranks = r#"{"q_proj": 4, "decoder.*": 9}"#;
    set_texts(
        &folder,
        &[("rank_pattern", ranks), ("alpha_pattern", alphas)],
    );
    let mut right = base.tensors.clone();
    right.insert(
        format!("{QUERY}.weight"),
        merged(&base.tensors, &own, QUERY, 4.0),
    );
    let right = base.with("ordered merged", &right);
    close(&numbers(&load(&folder).unwrap()), &right, 1e-6);
}

#[test]
fn trained_rows_reach_a_tied_projection() {
    let mut base = Base::new();
    // The file has the projection, too, as many have.
    let embedding = base.tensors[&format!("{EMBEDDING}.weight")].clone();
    base.tensors
        .insert("proj_out.weight".into(), embedding.clone());
    write_safetensors(&base.folder().join(WEIGHTS), &base.tensors);
    let of = |folder: &Path, name: &str| {
        let model = load(folder).unwrap();
        let mut all = model.weights.iter();
        all.find(|weight| weight.name == name)
            .map(|weight| weight.data.to_vec())
    };
    let (inner, outer) = (
        "decoder.embed_tokens.weight",
        "decoder.output_projection.weight",
    );
    let rows = (
        EMBEDDING,
        "token_adapter.trainable_tokens_delta",
        &[2, 32][..],
    );
    let config = json!({"trainable_token_indices": {"embed_tokens": [7, 111]}});
    let (folder, own) = adapter(&base, "rows", config.clone(), &[rows]);
    let new = &own.values().next().unwrap().1;
    let mut right = embedding.1.clone();
    right[7 * 32..8 * 32].copy_from_slice(&new[..32]);
    right[111 * 32..].copy_from_slice(&new[32..]);
    assert_eq!(of(&folder, inner).unwrap(), right);
    assert_eq!(of(&folder, outer).unwrap_or(right.clone()), right);
    // LoRA of the projection alone: the rows are of both, its product is not.
    let tensors = [
        rows,
        ("proj_out", "lora_A.weight", &[2, 32]),
        ("proj_out", "lora_B.weight", &[112, 2]),
    ];
    let (folder, own) = adapter(&base, "rows and product", config, &tensors);
    assert_eq!(of(&folder, inner).unwrap(), right);
    let replaced = Tensors::from([("proj_out.weight".into(), (vec![112, 32], right))]);
    let wanted = merged(&replaced, &own, "proj_out", 3.0).1;
    for (own, wanted) in of(&folder, outer).unwrap().iter().zip(wanted) {
        assert!((own - wanted).abs() < 1e-5);
    }
}

#[test]
fn numbers_of_adapters_that_do_not_fit_are_named() {
    let base = Base::new();
    let row = |id: u64| json!({"trainable_token_indices": {"embed_tokens": [7, id]}});
    let rows: &[(&str, &str, &[usize])] =
        &[(EMBEDDING, "token_adapter.trainable_tokens_delta", &[2, 32])];
    let pair: &[(&str, &str, &[usize])] = &[
        (QUERY, "lora_A.weight", &[2, 32]),
        (QUERY, "lora_B.weight", &[32, 2]),
    ];
    let huge = 1 << 62;
    let empty: &[(&str, &str, &[usize])] = &[
        (QUERY, "lora_A.weight", &[huge, 0]),
        (QUERY, "lora_B.weight", &[0, huge]),
    ];
    let twice: &[(&str, &str, &[usize])] = &[
        (EMBEDDING, "base_layer.weight", &[112, 32]),
        (EMBEDDING, "weight", &[112, 32]),
    ];
    let slow = "(a|b|ab)*(?=c)|".repeat(2) + "(.*.*)*(?<=x)q_proj";
    for (at, (config, tensors, words)) in [
        (row(112), rows, "token 112"),
        (row(1 << 63), rows, "token 9223372036854775808"),
        (json!({"r": huge}), empty, "does not fit the base's"),
        (json!({}), twice, "twice"),
        (json!({"r": 2.5}), pair, "r is 2.5"),
        (json!({"r": "2"}), pair, "r is \"2\""),
        (json!({"r": 0}), pair, "r is 0"),
        (json!({"lora_alpha": null}), pair, "lora_alpha is null"),
        (
            json!({"rank_pattern": {"q_proj": 2.5}}),
            pair,
            "rank_pattern",
        ),
        (json!({"rank_pattern": [2]}), pair, "rank_pattern"),
        (
            json!({"alpha_pattern": {slow: 3}}),
            pair,
            "alpha_pattern cannot be matched",
        ),
        (
            json!({"base_model_name_or_path": 5}),
            pair,
            "base_model_name_or_path is 5",
        ),
        (
            json!({"base_model_name_or_path": "/gone/model"}),
            pair,
            "\"/gone/model\", and there is no such model's folder",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (folder, _) = adapter(&base, &format!("misfit {at}"), config, tensors);
        let error = error(&folder);
        assert!(error.contains(words), "{words}: {error}");
        assert!(error.contains("adapter_"), "{error}");
        assert!(!error.contains("hf download /"), "{error}");
    }
}

#[test]
fn odd_tensors_of_torch_save_are_named() {
    let base = Base::new();
    let file = base.without_weights("odd torch").join("pytorch_model.bin");
    let refused = |root: &[u8], storages: &[Storage], words: &str| {
        fs::write(&file, zipped(root, storages, &[])).unwrap();
        let error = error(file.parent().unwrap());
        assert!(error.contains(words), "{words}: {error}");
        assert!(error.contains("pytorch_model.bin"), "{error}");
    };
    let storages = [Storage::new("FloatStorage", &[0.0; 15])];
    let view = |shape: Vec<usize>, strides: Vec<usize>| View {
        name: "a".into(),
        storage: 0,
        offset: 0,
        shape,
        strides,
    };
    // No elements, but sizes whose product is beyond all numbers.
    let none = view(vec![0, 1 << 30, 1 << 30, 1 << 30], vec![0; 4]);
    refused(
        &state(&storages, &[none]),
        &storages,
        "does not fit config.json",
    );
    let many = view(vec![1; 65], vec![1; 65]);
    refused(&state(&storages, &[many]), &storages, "is no tensor");
    // A tensor of which each number is to be taken with the other sign.
    let negative = {
        let whole = state(&storages, &[view(vec![15], vec![1])]);
        // The last argument's place: behind the hooks.
        let hooks = b"ccollections\nOrderedDict\n)Rt";
        let at = whole.windows(hooks.len()).position(|own| own == hooks);
        let at = at.unwrap() + hooks.len() - 1;
        let flag = pickle::dict(&[("neg", b"\x88".to_vec())]);
        [&whole[..at], &flag, &whole[at..]].concat()
    };
    refused(&negative, &storages, "is no tensor");
}

#[test]
fn scales_and_revisions_of_ctranslate2_that_are_not_known_are_refused() {
    let base = Base::new();
    let folder = converted(&base, "scales", &[]);
    let refused = |bytes: &[u8], words: &str| {
        fs::write(folder.join("model.bin"), bytes).unwrap();
        let error = error(&folder);
        assert!(
            error.contains(words) && error.contains("model.bin"),
            "{words}: {error}"
        );
    };
    // As many as rows, or one, in floats.
    let scaled = |shape: &[usize], kind: (u8, usize), count: usize| {
        let mut model = ctranslate2(&base.tensors, HEADS, Packed::F32, 6);
        let bias = "decoder/layer_0/ffn/linear_9/weight";
        model.add(bias, &[4, 2], (1, 1), &[1; 8]);
        let bytes = vec![1; kind.1 * count];
        model.add(&format!("{bias}_scale"), shape, kind, &bytes);
        model.finish("WhisperSpec")
    };
    for (shape, kind, count) in [
        (&[3][..], (0, 4), 3),
        (&[5], (0, 4), 5),
        (&[2, 2], (0, 4), 4),
        (&[4], (2, 2), 4),
    ] {
        refused(&scaled(shape, kind, count), "linear_9/weight_scale");
    }
    for (shape, count) in [(&[][..], 1), (&[1], 1), (&[4], 4)] {
        // Nothing is wrong with the scales, but Whisper has no such part.
        refused(&scaled(shape, (0, 4), count), "which Whisper has not");
    }
    let mut bytes = ctranslate2(&base.tensors, HEADS, Packed::F32, 6).finish("WhisperSpec");
    let revision = 4 + 2 + "WhisperSpec\0".len();
    bytes[revision] = 4;
    refused(&bytes, "revision 4");
    // What the folder's own config says is wrong with that.
    let whole = ctranslate2(&base.tensors, HEADS, Packed::F32, 6).finish("WhisperSpec");
    fs::write(folder.join("model.bin"), whole).unwrap();
    let config = json!({"suppress_ids": [3, "a"]});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let odd = error(&folder);
    assert!(
        odd.contains("suppress_ids") && odd.contains("config.json"),
        "{odd}"
    );
    // Without weights it says so.
    fs::remove_file(folder.join("model.bin")).unwrap();
    let config = json!({"suppress_ids": [3], "lang_ids": [50], "alignment_heads": [[1, 0]]});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let missing = error(&folder);
    assert!(missing.contains("model.bin"), "{missing}");
}

#[test]
fn shards_stay_in_the_folder() {
    let base = Base::new();
    let folder = base.without_weights("inner");
    fs::copy(base.folder().join(WEIGHTS), base.place.path().join(WEIGHTS)).unwrap();
    let index = "model.safetensors.index.json";
    let map = json!({"weight_map": {"x": format!("../{WEIGHTS}")}});
    fs::write(folder.join(index), map.to_string()).unwrap();
    let out = error(&folder);
    assert!(
        out.contains(index) && out.contains("leads out of the folder"),
        "{out}"
    );
}
