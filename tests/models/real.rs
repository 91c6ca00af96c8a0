//! Real models on human speech against what transformers computes from the same
//! weights (`tools/real_references.py`; float64 where values are compared), and
//! when its words were said.
//!
//! Models and recordings are fetched by `./check`, which says where they are in
//! `SONOGRAD_TEST_REAL`; without it these tests are listed as ignored.

mod times;

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::Site;
use sonograd::explain::passes::{MapSpec, Utterance, forward_and_gradients};
use sonograd::features::Features;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::Reduction;
use sonograd::{Listener, Sound, Wanted};

const FIXTURES: &str = "tests/fixtures/real";

/// How far an error may be above PyTorch's own in float32.
const FACTOR: f64 = 3.0;

/// Frames of Whisper's window.
const FRAMES: usize = 3000;

fn place() -> PathBuf {
    let place = std::env::var("SONOGRAD_TEST_REAL").expect("the build saw the variable");
    PathBuf::from(place)
}

fn sound(name: &str) -> Sound {
    let (corpus, name) = name.split_once('/').unwrap();
    let path = match corpus {
        "librivox" => format!("librivox/sense_and_sensibility_01_austen_64kb-{name}.wav"),
        _ => format!("{corpus}/{name}.wav"),
    };
    let path = place().join("sounds").join(path);
    let mut reader = hound::WavReader::open(&path).unwrap();
    if reader.spec().sample_rate == 16_000 {
        return Sound::read(path).unwrap();
    }
    let samples = reader.samples::<i16>();
    let samples: Vec<f64> = samples.map(|x| f64::from(x.unwrap()) / 32_768.0).collect();
    Sound::new(&doubled(&samples), 16_000).unwrap()
}

/// 8 kHz as 16, as the references' tool does it: texts of telephone speech hang
/// on the resampler, which is tested by itself.
fn doubled(samples: &[f64]) -> Vec<f32> {
    use std::f64::consts::PI;
    const REACH: i64 = 16;
    let weight = |tap: i64| {
        let t = tap as f64 - 0.5;
        let window = (PI * t / (2 * REACH + 1) as f64).cos();
        (PI * t).sin() / (PI * t) * window * window
    };
    let at = |n: i64| usize::try_from(n).ok().and_then(|n| samples.get(n));
    let taps = 1 - REACH..=REACH;
    let between = |n: i64| -> f64 {
        let taps = taps.clone();
        taps.map(|tap| at(n + tap).unwrap_or(&0.0) * weight(tap))
            .sum()
    };
    let all = samples.iter().zip(0..);
    all.flat_map(|(&x, n)| [x as f32, between(n) as f32])
        .collect()
}

/// The file of values of one sound.
struct Reference {
    bytes: Vec<u8>,
    metadata: std::collections::HashMap<String, String>,
}

impl Reference {
    fn read(model: &str) -> Self {
        let bytes = fs::read(Path::new(FIXTURES).join(format!("{model}.safetensors"))).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        Self { bytes, metadata }
    }

    fn real(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let (values, _) = tensors.tensor(name).unwrap().data().as_chunks::<4>();
        values.iter().map(|&x| f32::from_le_bytes(x)).collect()
    }

    fn numbers(&self, name: &str) -> Vec<usize> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let (values, _) = tensors.tensor(name).unwrap().data().as_chunks::<8>();
        let numbers = values.iter().map(|&x| i64::from_le_bytes(x));
        numbers.map(|x| usize::try_from(x).unwrap()).collect()
    }

    /// The error that PyTorch has in float32, beside float64.
    fn float32_error(&self, name: &str) -> f64 {
        let errors: Value = serde_json::from_str(&self.metadata["float32_errors"]).unwrap();
        errors[name].as_f64().unwrap()
    }

    /// The features of the sound's frames, and those of the padding behind them.
    fn features(&self) -> Features {
        let mut data = self.real("features");
        let bins = 80;
        let padding: f32 = self.metadata["padding"].parse().unwrap();
        data.resize(FRAMES * bins, padding);
        Features::new(data, FRAMES, bins).unwrap()
    }
}

/// ‖own - exact‖ / ‖exact‖
fn relative(own: &[f32], exact: &[f32]) -> f64 {
    assert_eq!(own.len(), exact.len());
    let square = |x: f64| x * x;
    let pairs = own.iter().zip(exact);
    let off: f64 = pairs
        .map(|(&a, &b)| square(f64::from(a) - f64::from(b)))
        .sum();
    let norm: f64 = exact.iter().map(|&b| square(f64::from(b))).sum();
    (off / norm).sqrt()
}

/// Some rows of each of the matrices (rows, cols) that `values` has.
fn rows(values: &[f32], rows: usize, cols: usize, wanted: &[usize]) -> Vec<f32> {
    let matrices = values.chunks(rows * cols);
    let some = matrices.flat_map(|matrix| {
        let row = |&row: &usize| &matrix[row * cols..(row + 1) * cols];
        wanted.iter().flat_map(row)
    });
    some.copied().collect()
}

/// Encoder output, cross-attention, log-probabilities and both gradients.
fn values(name: &str) {
    let reference = Reference::read(name);
    let folder = ModelFiles::folder(place().join("models").join(name)).unwrap();
    let model = Model::load(folder).unwrap();
    let numbers = |name: &str| -> Vec<u32> {
        let numbers = reference.numbers(name);
        numbers.into_iter().map(|id| id as u32).collect()
    };
    let (prompt, labels) = (numbers("prompt"), numbers("labels"));
    let explained = reference.numbers("explained");
    let ids = [&prompt[..], &labels[..labels.len() - 1]].concat();
    let first = prompt.len() - 1;
    let positions: Vec<u32> = (first as u32..ids.len() as u32).collect();
    let features = reference.features();
    let mut executor = NativeExecutor::<f32>::new(&model.weights, true);
    let utterance =
        Utterance::upload(&mut executor, &model, &features, &ids, &positions, &labels).unwrap();
    let specs = [Site::Input, Site::Encoder].map(|site| MapSpec {
        site,
        times_input: false,
        reduction: Reduction::None,
    });
    let pass = forward_and_gradients(&mut executor, &model, &utterance, &specs, 1 << 30).unwrap();

    let read = |id| executor.read_real(id).to_vec();
    let mut failed = Vec::new();
    let mut check = |what: &str, error: f64| {
        let bound = FACTOR * reference.float32_error(what);
        println!("{name} {what}: {error:.2e} of at most {bound:.2e}");
        // NaN is above any bound.
        if error > bound || error.is_nan() {
            failed.push(what.to_owned());
        }
    };
    let frames = |what: &str| reference.numbers(&format!("{what}_frames"));
    let encoder_frames = FRAMES / 2;
    let output = read(pass.forward.encoder_output.sound);
    let width = output.len() / encoder_frames;
    let what = "encoder_output";
    let own = rows(&output, encoder_frames, width, &frames(what));
    check(what, relative(&own, &reference.real(what)));

    let what = "cross_attention";
    let layers = pass.forward.cross_attention.iter();
    let own: Vec<f32> = layers
        .flat_map(|&layer| {
            let attention = read(layer);
            let heads = attention.chunks(ids.len() * encoder_frames);
            let of_labels = heads.flat_map(|head| head[first * encoder_frames..].to_vec());
            rows(
                &of_labels.collect::<Vec<_>>(),
                encoder_frames,
                1,
                &frames(what),
            )
        })
        .collect();
    check(what, relative(&own, &reference.real(what)));

    let what = "log_probs";
    let logits = read(pass.forward.logits);
    let vocabulary = logits.len() / ids.len();
    let logits = &logits[first * vocabulary..];
    let log_prob = |(scores, &label): (&[f32], &u32)| {
        let sum: f64 = scores.iter().map(|&x| f64::from(x).exp()).sum();
        f64::from(scores[label as usize]) - sum.ln()
    };
    let exact = reference.real(what);
    let own = logits.chunks(vocabulary).zip(&labels).map(log_prob);
    let errors: Vec<f64> = own
        .zip(&exact)
        .map(|(own, &exact)| (own - f64::from(exact)).abs())
        .collect();
    assert_eq!((errors.len(), exact.len()), (labels.len(), labels.len()));
    // max would forget what is no number.
    let sum: f64 = errors.iter().sum();
    let worst = errors.into_iter().fold(0.0, f64::max);
    check(what, if sum.is_finite() { worst } else { sum });

    for (map, (what, all, cols)) in pass.maps.iter().zip([
        ("input_gradient", FRAMES, features.bins),
        ("encoder_output_gradient", encoder_frames, width),
    ]) {
        let gradient = read(map.id);
        let each = all * cols;
        let own: Vec<f32> = explained
            .iter()
            .flat_map(|&token| {
                let gradient = &gradient[token * each..(token + 1) * each];
                rows(gradient, all, cols, &frames(what))
            })
            .collect();
        check(what, relative(&own, &reference.real(what)));
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn values_of_tiny_en() {
    values("tiny-en");
}

#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn values_of_base_on_italian() {
    values("base");
}

/// The front end on a recording at 16 kHz, beside WhisperFeatureExtractor.
#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn features_of_speech() {
    let reference = Reference::read("tiny-en");
    let mut listener = listener("tiny-en");
    let own = listener.features(&sound("librivox/0880")).unwrap();
    let exact = reference.features();
    let error = relative(&own.data, &exact.data);
    println!("features: {error:.2e}");
    assert!(error <= 1e-5, "{error}");
}

fn listener(model: &str) -> Listener {
    let folder = place().join("models").join(model);
    let builder = Listener::builder().model(folder).device("cpu");
    builder.open().unwrap()
}

/// The id of an added token.
fn token(model: &str, name: &str) -> u32 {
    let path = place().join("models").join(model).join("tokenizer.json");
    let tokenizer: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut added = tokenizer["added_tokens"].as_array().unwrap().iter();
    let token = added.find(|token| token["content"] == name).unwrap();
    token["id"].as_u64().unwrap() as u32
}

/// All texts: greedy and with five beams, transcribed and translated, longer
/// than a window, languages detected.
fn texts(model: &str) {
    let file = fs::read(Path::new(FIXTURES).join(format!("{model}.json"))).unwrap();
    let listed: Vec<Value> = serde_json::from_slice(&file).unwrap();
    let mut listener = listener(model);
    let end = token(model, "<|endoftext|>");
    let mut wrong = Vec::new();
    let count = listed.len();
    for entry in &listed {
        let named = entry["sound"].as_str().unwrap();
        let long = entry["long"] == true;
        let sound = match named {
            "librivox/all twice" => all_twice(),
            _ => sound(named),
        };
        let text = |key: &str| entry[key].as_str().map(str::to_owned);
        let mut wanted = Wanted::default();
        wanted.language = text("language");
        wanted.task = text("task");
        wanted.timestamps = long;
        wanted.beams = entry["num_beams"].as_u64().map(|beams| beams as usize);
        let heard = listener
            .transcribe_as(&sound, &wanted, &mut |_| true)
            .unwrap();
        let expected = entry["text"].as_str().unwrap().trim();
        let ids = entry["tokens"].as_array().unwrap().iter();
        let expected_ids: Vec<u64> = ids.map(|id| id.as_u64().unwrap()).collect();
        let ids = heard.tokens().iter().filter(|&&id| id < end);
        let ids: Vec<u64> = ids.map(|&id| u64::from(id)).collect();
        if heard.text() != expected || ids != expected_ids {
            wrong.push(format!("{entry}\n    {:?} {ids:?}", heard.text()));
        }
        if let Some(language) = text("detected") {
            let mut wanted = Wanted::default();
            wanted.task = Some("transcribe".into());
            let heard = listener
                .transcribe_as(&sound, &wanted, &mut |_| true)
                .unwrap();
            let prompt = &heard.transcript().unwrap().windows[0].generated.prompt;
            let token = token(model, &format!("<|{language}|>"));
            if !prompt.contains(&token) {
                wrong.push(format!("{named} is {language}, {token}: {prompt:?}"));
            }
        }
    }
    assert!(count > 10, "{count}");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// All sentences one behind the other, two times: longer than a window.
fn all_twice() -> Sound {
    let names = ["0870", "0880", "0890", "0920", "0930"];
    let samples: Vec<f32> = names
        .iter()
        .chain(&names)
        .flat_map(|name| {
            sound(&format!("librivox/{name}"))
                .waveform()
                .samples
                .clone()
        })
        .collect();
    Sound::new(&samples, 16_000).unwrap()
}

#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn texts_of_tiny_en() {
    texts("tiny-en");
}

#[test]
#[cfg_attr(no_real_files, ignore = "SONOGRAD_TEST_REAL names no real models")]
fn texts_of_base() {
    texts("base");
}
