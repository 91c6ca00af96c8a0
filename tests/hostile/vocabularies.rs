//! Vocabularies in every form; what loads writes and reads texts.

use std::fs;
use std::path::Path;

use sonograd::tokenizer::{AddedTokens, Tokenizer};

use crate::driver::{Grammar, Target, run};
use crate::random_model;

const TEXTS: [&str; 5] = [
    "a bc",
    " the  sound",
    "\u{e9}\u{2581}\u{3000}\u{10ffff}",
    "<unk> </s>",
    "",
];

fn judge(tokenizer: sonograd::Result<Tokenizer>) -> Result<bool, String> {
    let Ok(tokenizer) = tokenizer else {
        return Ok(false);
    };
    for text in TEXTS {
        if let Ok(ids) = tokenizer.encode(text) {
            tokenizer.decode(&ids);
        }
        tokenizer.encode_whole(text).ok();
    }
    for id in (0..40).chain([u32::MAX]) {
        tokenizer.token_text(id);
        tokenizer.is_special(id);
    }
    let all: Vec<u32> = (0..40).rev().collect();
    tokenizer.decode(&all);
    tokenizer.words(&all, |place| tokenizer.is_special(all[place]));
    tokenizer.languages();
    tokenizer.language_token("en").ok();
    Ok(true)
}

fn fixture(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(root.join(name)).unwrap()
}

/// A byte-level tokenizer of a few pieces.
const BYTE_LEVEL: &str = r##"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[
    {"id":9,"content":"<|endoftext|>","single_word":false,"lstrip":false,"rstrip":false,
     "normalized":false,"special":true}],
    "normalizer":{"type":"NFKC"},
    "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
    "post_processor":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
    "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
    "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
     "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
     "vocab":{"a":0,"b":1,"c":2,"Ġ":3,"Ġa":4,"bc":5,"t":6,"h":7,"e":8},
     "merges":[["Ġ","a"],["b","c"]]}}"##;

const WORDS: [&[u8]; 20] = [
    b"BPE",
    b"Unigram",
    b"WordPiece",
    b"WordLevel",
    b"ByteLevel",
    b"Metaspace",
    b"Sequence",
    b"Precompiled",
    b"precompiled_charsmap",
    b"Replace",
    b"Split",
    b"Strip",
    b"BertNormalizer",
    b"TemplateProcessing",
    b"byte_fallback",
    b"unk_id",
    b"merges",
    b"vocab",
    b"added_tokens",
    b"Fuse",
];

#[test]
fn tokenizer_json() {
    let target = Target {
        name: "tokenizer_json",
        inputs: 6_000,
        grammar: Grammar::Json,
        seeds: vec![random_model::tokenizer(23).into_bytes(), BYTE_LEVEL.into()],
        words: &WORDS,
    };
    run(&target, &mut |bytes| {
        judge(Tokenizer::from_bytes("tokenizer.json", bytes))
    });
}

/// One changed file among those of a folder.
fn try_file(name: &'static str, inputs: u64, file: &str, seed: &[u8], all: &[(&str, &[u8])]) {
    let words: [&[u8]; 9] = [
        b"bos_token",
        b"eos_token",
        b"unk_token",
        b"additional_special_tokens",
        b"content",
        b"special",
        b"added_tokens_decoder",
        b"<|en|>",
        b"normalized",
    ];
    let grammar = match file.ends_with(".json") {
        true => Grammar::Json,
        false => Grammar::Bytes,
    };
    let target = Target {
        name,
        inputs,
        grammar,
        seeds: vec![seed.to_vec()],
        words: &words,
    };
    run(&target, &mut |bytes| {
        let read = |wanted: &str| {
            let other = all.iter().find(|(name, _)| *name == wanted);
            let other = other.map(|(_, bytes)| bytes.to_vec());
            Ok(match wanted == file {
                true => Some(bytes.to_vec()),
                false => other,
            })
        };
        judge(Tokenizer::from_files("folder", read))
    });
}

const VOCABULARY: &[u8] =
    r#"{"a":0,"b":1,"c":2,"Ġ":3,"Ġa":4,"bc":5,"t":6,"h":7,"e":8,"<|endoftext|>":9}"#.as_bytes();
const MERGES: &[u8] = "#version: 0.2\nĠ a\nb c\n".as_bytes();
const ADDED: &[u8] = br#"{"<|en|>":10,"<|it|>":11,"<|notimestamps|>":12}"#;
const CONFIG: &[u8] = br#"{"tokenizer_class":"WhisperTokenizer","bos_token":"<|endoftext|>",
    "eos_token":{"content":"<|endoftext|>","lstrip":false,"special":true},
    "additional_special_tokens":["<|en|>","<|it|>"],
    "added_tokens_decoder":{"10":{"content":"<|en|>","lstrip":false,"normalized":false,
    "rstrip":false,"single_word":false,"special":true}}}"#;

#[test]
fn vocabulary_and_merges() {
    let all = [("vocab.json", VOCABULARY), ("added_tokens.json", ADDED)];
    try_file("vocabulary_and_merges", 4_000, "merges.txt", MERGES, &all);
}

#[test]
fn vocab_json() {
    let all = [("merges.txt", MERGES), ("added_tokens.json", ADDED)];
    try_file("vocab_json", 4_000, "vocab.json", VOCABULARY, &all);
}

#[test]
fn added_tokens() {
    let all = [
        ("tokenizer.json", BYTE_LEVEL.as_bytes()),
        ("tokenizer_config.json", CONFIG),
    ];
    try_file("added_tokens", 3_000, "added_tokens.json", ADDED, &all);
}

#[test]
fn tokenizer_config() {
    let all = [
        ("tokenizer.json", BYTE_LEVEL.as_bytes()),
        ("added_tokens.json", ADDED),
    ];
    try_file(
        "tokenizer_config",
        3_000,
        "tokenizer_config.json",
        CONFIG,
        &all,
    );
}

#[test]
fn sentencepiece_numbers() {
    let model = fixture("tests/fixtures/sentencepiece/bpe.model");
    let vocabulary = fixture("tests/fixtures/sentencepiece/vocab.json");
    let all = [
        ("spiece.model", &model[..]),
        ("tokenizer_config.json", CONFIG),
    ];
    try_file(
        "sentencepiece_numbers",
        1_000,
        "vocab.json",
        &vocabulary,
        &all,
    );
}

#[test]
fn sentencepiece() {
    let target = Target {
        name: "sentencepiece",
        inputs: 3_000,
        grammar: Grammar::Bytes,
        seeds: vec![fixture("tests/fixtures/sentencepiece/bpe.model")],
        words: &[
            b"\x18\x06",
            b"\x18\x02",
            b"\x18\x04",
            b"\x0a\x0e\x0a\x05",
            b"\xff\xff\xff\xff\x0f",
            b"\x15\0\0\xc0\x7f",
        ],
    };
    run(&target, &mut |bytes| {
        let added = AddedTokens::default();
        judge(Tokenizer::from_sentencepiece(
            "spiece.model",
            bytes,
            None,
            &added,
        ))
    });
}

/// A field of a message in protobuf's wire form.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(content);
    bytes
}

/// The map of characters alone, in a model that is whole.
#[test]
fn charsmap() {
    let pieces = ["<unk>", "\u{2581}", "a", "b", "c", "t", "h", "e"];
    let mut model = Vec::new();
    for (id, piece) in pieces.into_iter().enumerate() {
        let mut own = field(1, piece.as_bytes());
        own.push(0x15);
        own.extend((-(id as f32)).to_le_bytes());
        own.extend([0x18, if id == 0 { 2 } else { 1 }]);
        model.extend(field(1, &own));
    }
    // The trainer says that it is a unigram model.
    model.extend(field(2, &[0x18, 1]));
    // A trie that takes "a" to "b": its root, and two units for the letter.
    let mut units = [0u32; 256];
    units[0] = 1 << 10;
    let letter = usize::from(b'a');
    units[1 ^ letter] = u32::from(b'a') | 1 << 8 | ((1 ^ letter ^ 2) as u32) << 10;
    units[2] = 1 << 31;
    let mut map = (4 * units.len() as u32).to_le_bytes().to_vec();
    map.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    map.extend(b"b\0\xc3\xa9\0");
    let target = Target {
        name: "charsmap",
        inputs: 5_000,
        grammar: Grammar::Bytes,
        seeds: vec![map],
        words: &[b"\0\x02\0\0", b"\xff\xff\xff\x7f", b"\xc3", b"\0"],
    };
    run(&target, &mut |map| {
        let whole = [&model[..], &field(3, &field(2, map))].concat();
        let added = AddedTokens::default();
        judge(Tokenizer::from_sentencepiece(
            "spiece.model",
            &whole,
            None,
            &added,
        ))
    });
}
