//! Generation against transformers' own: the same tokens for models with
//! random weights, by `tests/fixtures/generation/README.md`.

use std::fs;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use sonograd::engine::executor::Executor;
use sonograd::engine::native::NativeExecutor;
use sonograd::features::Features;
use sonograd::generate::{
    Fallback, Generated, GenerationOptions, Transcript, Wanted, generate, transcribe,
};
use sonograd::model::Model;
use sonograd::model::family::Prompting;
use sonograd::model::files::ModelFiles;
use sonograd::model::generation_config::EarlyStopping;

#[derive(Deserialize)]
struct Cases {
    scale: f32,
    settings: serde_json::Map<String, Value>,
    inputs: Vec<Input>,
    #[serde(default)]
    long_inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    seed: u64,
    frames: usize,
    /// The language that is detected, `<|xx|>`
    language: Option<String>,
    outputs: serde_json::Map<String, Value>,
    /// By setting with timestamps: [seek, ids] of each window
    #[serde(default)]
    windows: serde_json::Map<String, Value>,
}

struct Family {
    name: &'static str,
    model: Model,
    cases: Cases,
}

pub fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

impl Family {
    fn new(name: &'static str) -> Self {
        let folder = Path::new("tests/fixtures/generation").join(name);
        let packed = fs::File::open(folder.join("cases.json.gz")).unwrap();
        Self {
            name,
            model: Model::load(ModelFiles::folder(folder).unwrap()).unwrap(),
            cases: serde_json::from_reader(GzDecoder::new(packed)).unwrap(),
        }
    }

    fn features(&self, input: &Input) -> Features {
        let bins = self.model.encoder.mel_bins();
        let count = (input.frames * bins) as u64;
        let number = |n: u64| {
            let upper = splitmix64((input.seed << 32) + n) >> 40;
            self.cases.scale * (upper as f32 / 8_388_608.0 - 1.0)
        };
        Features::new((0..count).map(number).collect(), input.frames, bins).unwrap()
    }

    /// A setting states everything but the tokens that are suppressed.
    fn options(&self, setting: &Value) -> GenerationOptions {
        let text = |name: &str| setting[name].as_str().map(str::to_owned);
        let size = |name: &str| setting[name].as_u64().map(|size| size as usize);
        let mut wanted = Wanted::default();
        wanted.language = text("language");
        wanted.task = text("task");
        wanted.beams = size("beams");
        wanted.timestamps = setting["timestamps"] == true;
        let mut options = GenerationOptions::new(&self.model, None, &wanted).unwrap();
        let forced = setting["forced_bos_token_id"].as_u64();
        options.max_new_tokens = size("max_new_tokens");
        options.min_new_tokens = size("min_new_tokens").unwrap_or(0);
        options.no_repeat_ngram_size = size("no_repeat_ngram_size").unwrap();
        options.length_penalty = setting["length_penalty"].as_f64().unwrap();
        options.early_stopping = match setting["early_stopping"] == true {
            true => EarlyStopping::Full,
            false => EarlyStopping::Likely,
        };
        options.forced = forced.map(|id| id as u32).into_iter().collect();
        options
    }

    /// The options of a setting, with fallback changed by `change`.
    fn falling_back(&self, setting: &str, change: impl Fn(&mut Fallback)) -> GenerationOptions {
        let mut fallback = Fallback::default();
        change(&mut fallback);
        let mut options = self.options(&self.cases.settings[setting]);
        options.fallback = Some(fallback);
        options
    }

    fn run(&self, executor: &mut dyn Executor, input: &Input, setting: &Value) -> Transcript {
        let features = self.features(input);
        let options = self.options(setting);
        let transcript =
            transcribe(executor, &self.model, &features, &options, &mut |_| true).unwrap();
        let language = transcript.windows[0].generated.prompt.get(1);
        if let (Some(expected), Value::Null) = (&input.language, &setting["language"]) {
            let known = self.model.generation.lang_to_id.as_ref().unwrap();
            assert_eq!(
                language,
                known.get(expected),
                "{} {}",
                self.name,
                input.seed
            );
        }
        transcript
    }

    /// Compares all outputs, and the windows where they are given; returns how
    /// many outputs were equal.
    fn check(&self, executor: &mut dyn Executor, inputs: &[Input], every: usize) -> usize {
        let end = self.model.tokens.end;
        let mut equal = 0;
        for input in inputs.iter().step_by(every) {
            for (name, output) in &input.outputs {
                // Long inputs have a name of their own for their setting.
                let setting = self.cases.settings.get(name);
                let setting = setting.unwrap_or_else(|| &self.cases.settings["timestamps"]);
                let transcript = self.run(executor, input, setting);
                let place = format!("{} {} {name}", self.name, input.seed);
                assert_eq!(transcript.tokens(&[end]), ids(output), "{place}");
                if let Some(expected) = input.windows.get(name) {
                    let windows: Vec<(usize, Vec<u32>)> = transcript
                        .windows
                        .iter()
                        .map(|window| {
                            let mut tokens = window.generated.tokens.clone();
                            tokens.retain(|&id| id != end);
                            (window.seek, tokens)
                        })
                        .collect();
                    let expected: Vec<(usize, Vec<u32>)> =
                        serde_json::from_value(expected.clone()).unwrap();
                    assert_eq!(windows, expected, "{place}");
                }
                equal += 1;
            }
        }
        println!("{}: {equal} outputs equal", self.name);
        equal
    }

    fn native(&self) -> NativeExecutor<f32> {
        NativeExecutor::new(&self.model.weights, false)
    }
}

#[test]
fn filter_bank_families_generate_what_transformers_does() {
    for name in ["speech_to_text", "conformer"] {
        let family = Family::new(name);
        assert!(family.cases.inputs.len() >= 50);
        let settings = family.cases.settings.len();
        let equal = family.check(&mut family.native(), &family.cases.inputs, 1);
        assert_eq!(equal, settings * family.cases.inputs.len());
    }
}

#[test]
fn whisper_generates_what_transformers_does() {
    for name in ["whisper", "whisper_english"] {
        let family = Family::new(name);
        assert!(family.cases.inputs.len() >= 50);
        family.check(&mut family.native(), &family.cases.inputs, 1);
    }
}

#[test]
fn long_recordings_are_cut_into_the_windows_that_transformers_takes() {
    for name in ["whisper", "whisper_english"] {
        let family = Family::new(name);
        assert!(family.cases.long_inputs.len() >= 10);
        family.check(&mut family.native(), &family.cases.long_inputs, 1);
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_gpu_generates_the_same() {
    use sonograd::engine::gpu::adapter::open_for_tests;
    use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
    let device = std::sync::Arc::new(open_for_tests());
    for name in ["whisper", "speech_to_text"] {
        let family = Family::new(name);
        let device = std::sync::Arc::clone(&device);
        let mut gpu =
            GpuExecutor::new(device, &family.model.weights, &GpuOptions::default()).unwrap();
        family.check(&mut gpu, &family.cases.inputs, 36);
    }
}

#[test]
fn wishes_that_a_model_cannot_fulfil_are_refused_with_what_it_has() {
    let refused = |name: &str, wanted: Wanted| {
        let family = Family::new(match name {
            "whisper" => "whisper",
            "whisper_english" => "whisper_english",
            _ => "speech_to_text",
        });
        let error = GenerationOptions::new(&family.model, None, &wanted).unwrap_err();
        error.to_string()
    };
    let language = |language: &str| {
        let mut wanted = Wanted::default();
        wanted.language = Some(language.into());
        wanted
    };
    let task = |task: &str| {
        let mut wanted = language("en");
        wanted.task = Some(task.into());
        wanted
    };
    let message = refused("whisper", language("xx"));
    assert!(
        message.contains("\"xx\"") && message.contains("de, en"),
        "{message}"
    );
    let message = refused("whisper", task("sing"));
    assert!(message.contains("transcribe and translate"), "{message}");
    let message = refused("whisper_english", language("de"));
    assert!(message.contains("no language"), "{message}");
    let message = refused("whisper_english", task("translate"));
    assert!(message.contains("English-only"), "{message}");
    let message = refused("speech_to_text", task("translate"));
    assert!(
        message.contains("no language") || message.contains("translate"),
        "{message}"
    );
    let mut timestamps = Wanted::default();
    timestamps.timestamps = true;
    let message = refused("speech_to_text", timestamps);
    assert!(message.contains("timestamps"), "{message}");
    let mut beams = Wanted::default();
    beams.beams = Some(usize::MAX);
    let message = refused("speech_to_text", beams);
    assert!(message.contains("beams are more than 1024"), "{message}");
}

/// A model is told what to write as its family declares, whether or not it hears
/// windows.
#[test]
fn a_window_alone_makes_no_multitask_prompt() {
    let mut model = Family::new("whisper").model;
    let options = |model: &Model| GenerationOptions::new(model, None, &Wanted::default()).unwrap();
    assert!(options(&model).multitask.is_some());
    model.capabilities.prompting = Prompting::Start;
    assert!(model.capabilities.window_frames.is_some());
    assert_eq!(options(&model).multitask, None);
}

/// Files of another model may name tokens that this one has not.
#[test]
fn tokens_beyond_the_vocabulary_are_refused() {
    for (name, token) in [("speech_to_text", u32::MAX), ("whisper", 1 << 20)] {
        let family = Family::new(name);
        let input = &family.cases.inputs[0];
        let features = family.features(input);
        let options = GenerationOptions::new(&family.model, None, &Wanted::default());
        let mut options = options.unwrap();
        match &mut options.multitask {
            Some(multitask) => multitask.task = Some(token),
            None => options.forced = vec![token],
        }
        let mut executor = NativeExecutor::<f32>::new(&family.model.weights, false);
        let refused = generate(&mut executor, &family.model, &features, &options);
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(&format!("the token {token}")), "{message}");
    }
}

#[test]
fn a_limit_without_room_is_refused() {
    let family = Family::new("speech_to_text");
    let input = &family.cases.inputs[0];
    let mut options = family.options(&family.cases.settings["greedy"]);
    options.max_new_tokens = Some(1);
    let features = family.features(input);
    let error = generate(&mut family.native(), &family.model, &features, &options).unwrap_err();
    assert!(error.to_string().contains("no room"), "{error}");
}

#[derive(Deserialize)]
struct Judged {
    no_speech: f64,
    outputs: Vec<JudgedOutput>,
}

#[derive(Deserialize)]
struct JudgedOutput {
    seed: u64,
    frames: usize,
    setting: String,
    /// Without what was skipped.
    output: Vec<u32>,
    /// By window: compression ratio, mean log-probability, probability of
    /// silence, whether it was skipped.
    windows: Vec<(f64, f64, f64, bool)>,
}

fn relative(a: f64, b: f64) -> f64 {
    (a / b - 1.0).abs()
}

#[test]
fn tokens_are_judged_as_transformers_judges_them() {
    for name in ["whisper", "whisper_english"] {
        let family = Family::new(name);
        let path = Path::new("tests/fixtures/generation")
            .join(name)
            .join("fallback.json");
        let judged: Judged = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let mut executor = NativeExecutor::<f64>::new(&family.model.weights, false);
        let (mut skipped, mut all, mut worst) = (0, 0, 0.0f64);
        for case in &judged.outputs {
            let input = Input {
                seed: case.seed,
                frames: case.frames,
                language: None,
                outputs: Default::default(),
                windows: Default::default(),
            };
            let features = family.features(&input);
            let options = family.falling_back(&case.setting, |fallback| {
                fallback.temperatures = vec![0.0];
                fallback.no_speech = judged.no_speech;
            });
            let transcript = transcribe(
                &mut executor,
                &family.model,
                &features,
                &options,
                &mut |_| true,
            )
            .unwrap();
            let place = format!("{name} {} {}", case.seed, case.setting);
            let tokens = transcript.tokens(&family.model.ends);
            assert_eq!(tokens, case.output, "{place}");
            assert_eq!(transcript.windows.len(), case.windows.len(), "{place}");
            for (window, &(ratio, mean, silence, skip)) in
                transcript.windows.iter().zip(&case.windows)
            {
                let quality = window.generated.quality.unwrap();
                assert_eq!(quality.silent, skip, "{place} {quality:?}");
                // Ids are one byte each; another zlib may pack them into two more.
                let bytes = window.generated.tokens.len() as f64;
                let packed = [quality.compression_ratio, ratio].map(|ratio| bytes / ratio);
                assert!((packed[0] - packed[1]).abs() < 2.1, "{place} {packed:?}");
                for (own, expected) in [
                    (quality.mean_log_probability, mean),
                    (quality.no_speech_probability.unwrap(), silence),
                ] {
                    let error = relative(own, expected);
                    // transformers rounds them to f32.
                    assert!(error < 1e-6, "{place} {own} {expected}");
                    worst = worst.max(error);
                }
                all += 1;
                skipped += usize::from(skip);
            }
        }
        println!("{name}: {all} windows, {skipped} skipped, worst error {worst:.1e}");
        assert!((1..all).contains(&skipped));
    }
}

#[test]
fn tokens_that_are_not_good_enough_are_drawn_again() {
    let family = Family::new("whisper");
    let setting = &family.cases.settings["greedy"];
    let mut executor = family.native();
    let with = |temperatures: &[f32], log_probability: f64, seed: u64| {
        family.falling_back("greedy", |fallback| {
            fallback.temperatures = temperatures.to_vec();
            fallback.log_probability = log_probability;
            fallback.compression_ratio = f64::INFINITY;
            fallback.no_speech = 1.0;
            fallback.seed = seed;
        })
    };
    let features = family.features(&family.cases.inputs[0]);
    let mut run = |options: &GenerationOptions| {
        generate(&mut executor, &family.model, &features, options).unwrap()
    };
    let temperature = |found: &Generated| found.quality.unwrap().temperature;
    let searched = run(&family.options(setting));
    assert_eq!(searched.quality, None);
    // Good enough at once; never good enough; drawn from the start.
    let content = run(&with(&[0.0, 0.5], -1e9, 0));
    assert_eq!(
        (temperature(&content), &content.tokens),
        (0.0, &searched.tokens)
    );
    let never = run(&with(&[0.0, 0.5, 1.0], 0.0, 0));
    assert_eq!(temperature(&never), 1.0);
    let drawn: Vec<Generated> = (0..20).map(|seed| run(&with(&[1.0], 0.0, seed))).collect();
    for (seed, found) in drawn.iter().enumerate() {
        assert_eq!(*found, run(&with(&[1.0], 0.0, seed as u64)), "{seed}");
    }
    let mut different: Vec<_> = drawn.iter().map(|found| &found.tokens).collect();
    different.sort();
    different.dedup();
    assert!(different.len() >= 15, "{}", different.len());
    // What is suppressed is never drawn, and hardly anything but the likeliest
    // near temperature 0.
    for found in &drawn {
        let options = family.options(setting);
        assert!(
            found
                .tokens
                .iter()
                .all(|id| !options.suppressed.contains(id))
        );
    }
    let cold = run(&with(&[1e-4], 0.0, 5));
    assert_eq!(cold.tokens, searched.tokens);
    let mut lower = |t: f32| {
        let all = (0..20).map(|seed| run(&with(&[t], 0.0, seed)).score);
        all.sum::<f64>()
    };
    let (warm, hot) = (lower(0.5), lower(1.5));
    assert!(warm > hot, "{warm} {hot}");
}

#[test]
fn temperatures_that_make_no_sense_are_refused() {
    let family = Family::new("speech_to_text");
    let features = family.features(&family.cases.inputs[0]);
    for temperatures in [
        vec![],
        vec![-0.1],
        vec![0.0, f32::NAN],
        vec![1e-30],
        vec![0.0; 65],
    ] {
        let options = family.falling_back("greedy", |fallback| {
            fallback.temperatures = temperatures.clone();
        });
        let error = generate(&mut family.native(), &family.model, &features, &options);
        let message = error.unwrap_err().to_string();
        assert!(message.contains("temperatures"), "{message}");
    }
}
