//! Generation against transformers' own: the same tokens for models with
//! random weights, by `tests/fixtures/generation/README.md`.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use sonograd::engine::executor::Executor;
use sonograd::engine::native::NativeExecutor;
use sonograd::features::Features;
use sonograd::generate::{GenerationOptions, Transcript, Wanted, generate, transcribe};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;

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

fn splitmix64(x: u64) -> u64 {
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
        let cases = fs::read(folder.join("cases.json")).unwrap();
        Self {
            name,
            model: Model::load(ModelFiles::folder(folder).unwrap()).unwrap(),
            cases: serde_json::from_slice(&cases).unwrap(),
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
        let wanted = Wanted {
            language: text("language"),
            task: text("task"),
            beams: size("beams"),
            timestamps: setting["timestamps"] == true,
        };
        let options = GenerationOptions::new(&self.model, None, &wanted).unwrap();
        let forced = setting["forced_bos_token_id"].as_u64();
        GenerationOptions {
            max_new_tokens: size("max_new_tokens"),
            min_new_tokens: size("min_new_tokens").unwrap_or(0),
            no_repeat_ngram_size: size("no_repeat_ngram_size").unwrap(),
            length_penalty: setting["length_penalty"].as_f64().unwrap(),
            early_stopping: setting["early_stopping"] == true,
            forced: forced.map(|id| id as u32).into_iter().collect(),
            ..options
        }
    }

    fn run(&self, executor: &mut dyn Executor, input: &Input, setting: &Value) -> Transcript {
        let features = self.features(input);
        let options = self.options(setting);
        let transcript = transcribe(executor, &self.model, &features, &options).unwrap();
        let language = transcript.windows[0].generated.prompt.get(1);
        if let (Some(expected), Value::Null) = (&input.language, &setting["language"]) {
            let known = &self.model.generation["lang_to_id"];
            let expected = known[expected.as_str()].as_u64().map(|id| id as u32);
            assert_eq!(language.copied(), expected, "{} {}", self.name, input.seed);
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
                assert_eq!(transcript.tokens(end), ids(output), "{place}");
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
    let language = |language: &str| Wanted {
        language: Some(language.into()),
        ..Wanted::default()
    };
    let task = |task: &str| Wanted {
        task: Some(task.into()),
        language: Some("en".into()),
        ..Wanted::default()
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
    let timestamps = Wanted {
        timestamps: true,
        ..Wanted::default()
    };
    let message = refused("speech_to_text", timestamps);
    assert!(message.contains("timestamps"), "{message}");
}

#[test]
fn a_limit_without_room_is_refused() {
    let family = Family::new("speech_to_text");
    let input = &family.cases.inputs[0];
    let options = GenerationOptions {
        max_new_tokens: Some(1),
        ..family.options(&family.cases.settings["greedy"])
    };
    let features = family.features(input);
    let error = generate(&mut family.native(), &family.model, &features, &options).unwrap_err();
    assert!(error.to_string().contains("no room"), "{error}");
}
