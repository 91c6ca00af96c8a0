//! What is read beside models and sounds: manifests, true onsets, study logs,
//! explanations, reference files.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use sonograd::engine::native::NativeExecutor;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::report::study::render;
use sonograd::study::tables::Tables;
use sonograd::study::truth::TrueOnsets;
use sonograd::study::{log, manifest};
use sonograd::validate::validate;
use sonograd::{ExplainOptions, Listener, Maps, Sound};
use tempfile::TempDir;

use crate::driver::{Grammar, Target, run};
use crate::random_model::{self, SMALL, numbers, tone};

/// Tries a file that is read by its path.
fn try_file(target: &Target, file: &str, judge: &mut dyn FnMut(&Path) -> Result<bool, String>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(file);
    run(target, &mut |bytes| {
        fs::write(&path, bytes).unwrap();
        judge(&path)
    });
}

fn items(path: &Path) -> Result<bool, String> {
    let Ok(items) = manifest::read_all(&[path.to_owned()], 1_000) else {
        return Ok(false);
    };
    for item in &items {
        item.direction();
        item.translates();
    }
    match items.is_empty() {
        true => Err("gives no utterances and no error".into()),
        false => Ok(true),
    }
}

#[test]
fn manifest_tables() {
    let seed = "id\taudio\ttgt_text\tsrc_lang\ttgt_lang\n1\ta.wav\ta text\ten\ten\n2\tb.wav\tun testo\ten\tit\n";
    let target = Target {
        name: "manifest_tables",
        inputs: 5_000,
        grammar: Grammar::Bytes,
        seeds: vec![seed.into(), seed.replace('\n', "\r\n").into()],
        words: &[
            b"\t",
            b"\r\n",
            b"\xef\xbb\xbf",
            b"src_text",
            b"tgt_text",
            b"a.wav:0:16000",
            b"\"",
        ],
    };
    try_file(&target, "manifest.tsv", &mut items);
}

#[test]
fn manifest_lines() {
    let seed = "{\"audio_filepath\":\"a.wav\",\"text\":\"a text\",\"duration\":2.5,\"source_lang\":\"en\",\
                \"target_lang\":\"it\"}\n{\"audio_filepath\":\"b.wav\",\"text\":\"other\",\"duration\":1.5}";
    let target = Target {
        name: "manifest_lines",
        inputs: 5_000,
        grammar: Grammar::JsonLines,
        seeds: vec![seed.into()],
        words: &[
            b"offset",
            b"duration",
            b"id",
            b"text",
            b"answer",
            b"lang",
            b"taskname",
        ],
    };
    try_file(&target, "manifest.json", &mut items);
}

#[test]
fn true_onsets() {
    let seed = "{\"id\":\"1\",\"words\":[{\"word\":\"a\",\"onset_seconds\":0.1},\
                {\"word\":\"text\",\"onset_seconds\":0.5}]}\n{\"id\":\"2\",\"words\":[]}";
    let target = Target {
        name: "true_onsets",
        inputs: 5_000,
        grammar: Grammar::JsonLines,
        seeds: vec![seed.lines().next().unwrap().into()],
        words: &[
            b"id",
            b"words",
            b"word",
            b"onset_seconds",
            b"offset_seconds",
        ],
    };
    try_file(&target, "words.jsonl", &mut onsets);
}

/// True onsets in the form that a file is in, with a tier of any name.
fn onsets(path: &Path) -> Result<bool, String> {
    let Ok(onsets) =
        TrueOnsets::read(&[path], None).or_else(|_| TrueOnsets::read(&[path], Some("words")))
    else {
        return Ok(false);
    };
    onsets.fingerprint();
    match onsets.utterances() {
        0 => Err("gives no utterances and no error".into()),
        _ => Ok(true),
    }
}

#[test]
fn true_text_grids() {
    let tier = |name: &str| {
        format!(
            "\"IntervalTier\"\n\"{name}\"\n0\n2\n3\n0\n0.5\n\"\"\n0.5\n1\n\"she\"\n1\n2\n\"\"\"no\"\"\"\n"
        )
    };
    let short = format!(
        "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\n0\n2\n<exists>\n2\n{}{}",
        tier("words"),
        tier("A - phones")
    );
    let long = "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\nxmin = 0 \nxmax = 1 \n\
                tiers? <exists> \nsize = 1 \nitem []: \n    item [1]:\n        \
                class = \"IntervalTier\" \n        name = \"w\" \n        xmin = 0 \n        \
                xmax = 1 \n        intervals: size = 1 \n        intervals [1]:\n            \
                xmin = 0 \n            xmax = 1 \n            text = \"she\" \n";
    let units = long.encode_utf16().flat_map(u16::to_le_bytes);
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(units).collect();
    let target = Target {
        name: "true_text_grids",
        inputs: 5_000,
        grammar: Grammar::Bytes,
        seeds: vec![short.into(), long.into(), wide],
        words: &[
            b"4294967295",
            b"1e308",
            b"\"\"",
            b"!",
            b"<absent>",
            b"\"TextTier\"",
            b"- words",
        ],
    };
    try_file(&target, "a.TextGrid", &mut onsets);
}

#[test]
fn true_word_lists() {
    let seeds: [&[u8]; 3] = [
        b";; by hand\na 1 0.50 0.25 world 0.98\nb A 1.0 0.5 x NA lex NA\na 1 0 0.5 <eps>\n",
        b"2260 4480 she\n4480 8000 had\n",
        b"signal s0101a\nnfields 1\n#\n 0.5  122 <SIL>; <SIL>; null\n 0.75  122 okay; k ey; NN\n",
    ];
    let target = Target {
        name: "true_word_lists",
        inputs: 5_000,
        grammar: Grammar::Bytes,
        seeds: seeds.map(<[u8]>::to_vec).into(),
        words: &[
            b"<ALT>",
            b"\n#\n",
            b"1e999",
            b"NaN",
            b"h#",
            b"18446744073709551616",
            b"; ",
            b"*",
        ],
    };
    try_file(&target, "a.words", &mut onsets);
}

/// The header and some utterances of a published log.
fn study_log(utterances: usize) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/study/base-en.jsonl.gz");
    let mut text = String::new();
    let mut unpacked = MultiGzDecoder::new(fs::File::open(path).unwrap());
    unpacked.read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().take(1 + utterances).collect();
    (lines.join("\n") + "\n").into_bytes()
}

#[test]
fn study_logs() {
    let target = Target {
        name: "study_logs",
        inputs: 2_000,
        grammar: Grammar::JsonLines,
        seeds: vec![study_log(1)],
        words: &[
            b"error",
            b"maps",
            b"spes.input",
            b"gradient.encoder",
            b"onsets",
            b"heads",
            b"checks",
        ],
    };
    try_file(
        &target,
        "log.jsonl",
        &mut |path| Ok(log::read(path).is_ok()),
    );
}

/// Sums over utterances would not be what they say.
#[test]
fn counts_that_no_utterance_has_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.jsonl");
    let text = String::from_utf8(study_log(1)).unwrap();
    let (header, record) = text.trim_end().split_once('\n').unwrap();
    let record: Value = serde_json::from_str(record).unwrap();
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Value));
    let changes: [Change; 6] = [
        ("n-grams", &|own| own["written"][0] = u64::MAX.into()),
        ("n-grams", &|own| own["written"][2][0] = 1_000.into()),
        ("n-grams", &|own| own["written"][5] = (1u64 << 32).into()),
        ("n-grams", &|own| {
            own["faithfulness"]["random"]["insertion"][3][1] = u64::MAX.into();
        }),
        ("onsets", &|own| own["onsets"]["matched"] = u64::MAX.into()),
        ("onsets", &|own| {
            own["onsets"]["layers"][0]["hits"] = 1_000.into()
        }),
    ];
    let read = |record: &Value| {
        fs::write(&path, format!("{header}\n{record}\n")).unwrap();
        log::read(&path).map_err(|problem| problem.to_string())
    };
    read(&record).unwrap_or_else(|problem| panic!("{problem}"));
    for (words, change) in changes {
        let mut other = record.clone();
        change(&mut other);
        let problem = read(&other).err().unwrap();
        assert!(
            problem.contains("line 2: ") && problem.contains(words),
            "{problem}"
        );
    }
}

/// What is read also makes tables and their page, or is refused there.
#[test]
fn study_tables() {
    let target = Target {
        name: "study_tables",
        inputs: 150,
        grammar: Grammar::JsonLines,
        seeds: vec![study_log(3)],
        words: &[
            b"error", b"NaN", b"-1", b"1e308", b"[]", b"maps", b"onsets", b"heads",
        ],
    };
    try_file(&target, "log.jsonl", &mut |path| {
        let folder = path.parent().unwrap().to_owned();
        let Ok(tables) = Tables::new(&[folder]) else {
            return Ok(false);
        };
        tables.json().map_err(|e| e.to_string())?;
        tables.summary();
        let lines = tables.csv().lines().count();
        render(&tables);
        match lines > 1 || !tables.failures.is_empty() {
            true => Ok(true),
            false => Err("gives tables of nothing and no error".into()),
        }
    });
}

#[test]
fn compressed_study_logs() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&study_log(1)).unwrap();
    let target = Target {
        name: "compressed_study_logs",
        inputs: 2_000,
        grammar: Grammar::Bytes,
        seeds: vec![packed.finish().unwrap()],
        words: &[b"\x1f\x8b\x08\0"],
    };
    try_file(&target, "log.jsonl.gz", &mut |path| {
        Ok(log::read(path).is_ok())
    });
}

/// A folder that `explain` writes.
fn explanation() -> TempDir {
    let place = TempDir::new().unwrap();
    let model = place.path().join("model");
    random_model::write_folder(&model, SMALL);
    let builder = Listener::builder().model(&model).device("cpu");
    let mut listener = builder.open().unwrap();
    let sound = Sound::new(&tone(6_000), 16_000).unwrap();
    let heard = listener.transcribe(&sound).unwrap();
    let mut options = ExplainOptions::default();
    options.spes.stop = sonograd::explain::spes::Stop::Masks(20);
    options.spes.segments = vec![20];
    let maps = listener.explain(&sound, &heard).options(options).run();
    maps.unwrap().save(place.path().join("out")).unwrap();
    place
}

fn try_explanation(name: &'static str, file: &str, grammar: Grammar, words: &[&[u8]]) {
    let place = explanation();
    let folder = place.path().join("out");
    let path = folder.join(file);
    let target = Target {
        name,
        inputs: 1_500,
        grammar,
        seeds: vec![fs::read(&path).unwrap()],
        words,
    };
    run(&target, &mut |bytes| {
        fs::write(&path, bytes).unwrap();
        let Ok(maps) = Maps::open(&folder) else {
            return Ok(false);
        };
        for map in maps.iter() {
            if map.shape().iter().product::<usize>() != map.data().len() {
                return Err(format!("{} has another shape than its data", map.name()));
            }
            map.axes();
            map.row(0).ok();
            map.head(0, 0).ok();
        }
        Ok(true)
    });
}

#[test]
fn explanation_documents() {
    let words: [&[u8]; 8] = [
        b"maps",
        b"shape",
        b"tokens",
        b"words",
        b"model",
        b"frames",
        b"spes.tokens",
        b"method",
    ];
    try_explanation(
        "explanation_documents",
        "explanation.json",
        Grammar::Json,
        &words,
    );
}

#[test]
fn explanation_maps() {
    let words: [&[u8]; 4] = [b"\"shape\":[", b"F16", b"data_offsets", b"attention"];
    try_explanation(
        "explanation_maps",
        "maps.safetensors",
        Grammar::Bytes,
        &words,
    );
}

/// A reference file of a small model: what goes in and two results.
fn reference() -> Vec<u8> {
    let reals = |values: Vec<f32>| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let ids: Vec<u8> = [0i64, 5, 6]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let features: Vec<u8> = reals(numbers(3, 40 * SMALL.mel_bins));
    let log_probs: Vec<u8> = reals(numbers(4, 3));
    let all = [
        ("features", Dtype::F32, vec![40, SMALL.mel_bins], &features),
        ("decoder_input_ids", Dtype::I64, vec![3], &ids),
        ("labels", Dtype::I64, vec![3], &ids),
        ("log_probs", Dtype::F32, vec![3], &log_probs),
    ];
    let views = all.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (*name, view.unwrap())
    });
    let kind = [("format", "saliency-reference"), ("version", "1")];
    let kind = kind.map(|(key, value)| (key.to_owned(), value.to_owned()));
    safetensors::serialize(views, Some(kind.into())).unwrap()
}

#[test]
fn reference_files() {
    let folder = TempDir::new().unwrap();
    random_model::write_folder(folder.path(), SMALL);
    let model = Model::load(ModelFiles::folder(folder.path()).unwrap()).unwrap();
    let front_end = model.front_end().unwrap();
    let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
    let words: [&[u8]; 8] = [
        b"features",
        b"waveform",
        b"labels",
        b"decoder_input_ids",
        b"encoder_output",
        b"I32",
        b"\"shape\":[",
        b"masks",
    ];
    let target = Target {
        name: "reference_files",
        inputs: 1_000,
        grammar: Grammar::Bytes,
        seeds: vec![reference()],
        words: &words,
    };
    try_file(&target, "reference.safetensors", &mut |path| {
        Ok(validate(&mut executor, &model, &front_end, path).is_ok())
    });
}
