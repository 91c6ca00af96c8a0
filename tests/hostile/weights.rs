//! Weights in every form: safetensors, pickles, CTranslate2.

use std::fs;
use std::path::Path;

use serde_json::json;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use tempfile::TempDir;

use crate::driver::{Grammar, Target, run};
use crate::form_writers::{
    Packed, Tensors, apart, ctranslate2, read, rowed, state, write_safetensors, zipped,
};
use crate::random_model::{self, SMALL, Sizes};
use crate::whisper_folder::{name_as_openai, whisper_folder};

/// As small as a model can be that has everything.
const TINY: Sizes = Sizes {
    width: 4,
    heads: 2,
    encoder_layers: 1,
    decoder_layers: 1,
    kernel: 3,
    channels: 4,
    ..SMALL
};

/// A model's folder or the error; a model has whole weights, finite or not as
/// the file has them.
pub fn judge(folder: &Path) -> Result<bool, String> {
    let model = ModelFiles::folder(folder).and_then(Model::load);
    let Ok(model) = model else {
        return Ok(false);
    };
    let numbers: usize = model.weights.iter().map(|own| own.data.len()).sum();
    match numbers {
        0 => Err("gives a model without weights".into()),
        _ => Ok(true),
    }
}

/// Tries weight files of a folder that has all the others.
fn try_file(
    name: &'static str,
    folder: &Path,
    file: &str,
    inputs: u64,
    seeds: Vec<Vec<u8>>,
    words: &[&[u8]],
) {
    let place = folder.join(file);
    let target = Target {
        name,
        inputs,
        grammar: Grammar::Bytes,
        seeds,
        words,
    };
    run(&target, &mut |bytes| {
        fs::write(&place, bytes).unwrap();
        judge(folder)
    });
}

/// A folder of a tiny model without its weights, and these.
fn tiny() -> (TempDir, Vec<u8>, Tensors) {
    let folder = TempDir::new().unwrap();
    random_model::write_folder(folder.path(), TINY);
    let file = folder.path().join("model.safetensors");
    let (bytes, tensors) = (fs::read(&file).unwrap(), read(&file));
    fs::remove_file(file).unwrap();
    (folder, bytes, tensors)
}

#[test]
fn safetensors_file() {
    let (folder, bytes, mut tensors) = tiny();
    let other = folder.path().join("other");
    // Fewer, so that what is missing is met as well.
    tensors.pop_last();
    write_safetensors(&other, &tensors);
    fs::remove_file(&other).unwrap();
    let words: [&[u8]; 9] = [
        b"\"dtype\":\"F64\"",
        b"\"dtype\":\"BF16\"",
        b"\"I64\"",
        b"\"shape\":[0]",
        b"\"data_offsets\":[0,0]",
        b"\"__metadata__\":{}",
        b"18446744073709551615",
        b"[4294967296,",
        b"-1",
    ];
    let (path, file) = (folder.path(), "model.safetensors");
    try_file("safetensors_file", path, file, 3_000, vec![bytes], &words);
}

/// The list of tensors alone, as JSON.
#[test]
fn safetensors_header() {
    let (folder, bytes, _) = tiny();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let place = folder.path().join("model.safetensors");
    let words: [&[u8]; 7] = [
        b"dtype",
        b"shape",
        b"data_offsets",
        b"__metadata__",
        b"F16",
        b"BF16",
        b"F64",
    ];
    let target = Target {
        name: "safetensors_header",
        inputs: 3_000,
        grammar: Grammar::Json,
        seeds: vec![header.to_vec()],
        words: &words,
    };
    run(&target, &mut |header| {
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&place, [&length, header, data].concat()).unwrap();
        judge(folder.path())
    });
}

/// Instructions and names of pickles.
const PICKLE: [&[u8]; 14] = [
    b"ctorch\nFloatStorage\n",
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"R",
    b"Q",
    b"h\0",
    b"r\xff\xff\xff\xff",
    b"\x8a\xff",
    b"X\xff\xff\xff\x7f",
    b"((((((((",
    b"tttt",
    b"s",
    b"u",
    b"cos\nsystem\n",
];

#[test]
fn torch_zip() {
    let (folder, _, tensors) = tiny();
    let (storages, views) = apart(&tensors, "FloatStorage");
    let root = state(&storages, &views);
    let (halves, half_views) = apart(&tensors, "HalfStorage");
    let seeds = vec![
        zipped(&root, &storages, &[("byteorder", b"little")]),
        zipped(&state(&halves, &half_views), &halves, &[]),
    ];
    let (path, file) = (folder.path(), "pytorch_model.bin");
    try_file("torch_zip", path, file, 2_000, seeds, &PICKLE);
}

/// The pickle alone, in an archive that is whole.
#[test]
fn torch_pickle() {
    let (folder, _, tensors) = tiny();
    let (storages, views) = apart(&tensors, "FloatStorage");
    let place = folder.path().join("pytorch_model.bin");
    let target = Target {
        name: "torch_pickle",
        inputs: 3_000,
        grammar: Grammar::Bytes,
        seeds: vec![state(&storages, &views)],
        words: &PICKLE,
    };
    run(&target, &mut |root| {
        fs::write(&place, zipped(root, &storages, &[])).unwrap();
        judge(folder.path())
    });
}

#[test]
fn torch_of_old() {
    let (folder, _, tensors) = tiny();
    let (storages, views) = apart(&tensors, "FloatStorage");
    let seeds = vec![rowed(&state(&storages, &views), &storages, true)];
    let (path, file) = (folder.path(), "pytorch_model.bin");
    try_file("torch_of_old", path, file, 2_000, seeds, &PICKLE);
}

#[test]
fn ctranslate2_file() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("whisper");
    whisper_folder(&folder);
    name_as_openai(&folder);
    let config = json!({"suppress_ids": [3, 7], "suppress_ids_begin": [5, 48],
        "lang_ids": [50, 51, 52, 53, 54], "alignment_heads": [[1, 0], [1, 3]]});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::remove_file(folder.join("generation_config.json")).unwrap();
    let weights = folder.join("model.safetensors");
    let tensors = read(&weights);
    fs::remove_file(weights).unwrap();
    let model =
        |packed, version| ctranslate2(&tensors, [2, 4], packed, version).finish("WhisperSpec");
    let seeds = vec![
        model(Packed::Int8, 6),
        model(Packed::F16, 6),
        model(Packed::Int16, 3),
    ];
    let words: [&[u8]; 6] = [
        b"\x0c\0WhisperSpec\0",
        b"encoder/num_heads",
        b"_scale",
        b"\x04\xff\xff\xff\xff",
        b"decoder/layer_0/",
        b"\0\0\0\0",
    ];
    try_file(
        "ctranslate2_file",
        &folder,
        "model.bin",
        1_000,
        seeds,
        &words,
    );
}
