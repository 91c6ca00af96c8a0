//! When Whisper's tokens were said, against transformers: its own generation
//! with `return_token_timestamps`, and its extraction from the attention of
//! given tokens. `tools/token_times_fixture.py` made the cases.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use sonograd::align::{AlignOptions, Clock, Rule, TokenMap, WordTokens, word_times};
use sonograd::engine::executor::Executor;
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::alignment::{Crop, Head, all_heads, attention, model_heads};
use sonograd::features::Features;
use sonograd::generate::{GenerationOptions, Wanted, generate};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::model::generation_config::GenerationConfig;

/// Seconds of an encoder frame.
const STEP: f64 = 0.02;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    seed: u64,
    /// Feature frames that are sound
    sound: usize,
    crop: String,
    median: usize,
    heads: Vec<Head>,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    /// Where each token but the first begins
    frames: Vec<usize>,
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Case {
    fn load(&self) -> Model {
        let folder = Path::new("tests/fixtures").join(&self.model);
        Model::load(ModelFiles::folder(folder).unwrap()).unwrap()
    }

    fn features(&self, model: &Model) -> Features {
        let (frames, bins) = (model.encoder.max_frames(), model.encoder.mel_bins());
        let number = |n: u64| {
            let upper = splitmix64((self.seed << 32) + n) >> 40;
            2.0 * (upper as f32 / 8_388_608.0 - 1.0)
        };
        let data = (0..(frames * bins) as u64).map(number).collect();
        let features = Features::new(data, frames, bins).unwrap();
        features.with_sound_frames(self.sound)
    }

    fn crop(&self) -> Crop {
        match self.crop.as_str() {
            "before" => Crop::Before,
            "after" => Crop::After,
            "none" => Crop::None,
            other => panic!("{other}"),
        }
    }

    /// Where the tokens but the first begin.
    fn starts(&self, executor: &mut dyn Executor, model: &Model, crop: Crop) -> Vec<usize> {
        let features = self.features(model);
        let (prompt, tokens) = (&self.prompt, &self.tokens);
        let maps = attention(
            executor,
            model,
            &features,
            prompt,
            tokens,
            &self.heads,
            crop,
        );
        let rows: Vec<usize> = (1..tokens.len()).collect();
        let maps: Vec<TokenMap> = maps.unwrap().iter().map(|map| map.select(&rows)).collect();
        let words: Vec<WordTokens> = (0..rows.len())
            .map(|k| WordTokens::new(format!("token {k}"), k..k + 1))
            .collect();
        let options = AlignOptions {
            median: self.median,
            rule: Rule::Whisper,
            ..AlignOptions::default()
        };
        let clock = Clock {
            frame_seconds: STEP,
            sound_seconds: model.encoder.max_frames() as f64 * STEP,
            silence: &[],
        };
        let times = word_times(maps, &words, &clock, &options).unwrap();
        let frames = times.iter().map(|word| (word.start_seconds / STEP).round());
        frames.map(|frame| frame as usize).collect()
    }
}

fn cases() -> Vec<Case> {
    let bytes = fs::read("tests/fixtures/token_times.json").unwrap();
    serde_json::from_slice::<Cases>(&bytes).unwrap().cases
}

#[test]
fn tokens_begin_where_transformers_has_them() {
    let cases = cases();
    let (mut tokens, mut equal) = (0, 0);
    let mut crops = [0; 3];
    for case in &cases {
        let model = case.load();
        let mut executor = NativeExecutor::<f64>::new(&model.weights, false);
        let starts = case.starts(&mut executor, &model, case.crop());
        assert_eq!(starts.len(), case.frames.len());
        let place = (&case.model, case.seed, &case.crop);
        for (got, want) in starts.iter().zip(&case.frames) {
            assert!(
                got.abs_diff(*want) <= 1,
                "{place:?}: {starts:?} {:?}",
                case.frames
            );
            tokens += 1;
            equal += usize::from(got == want);
        }
        crops[case.crop() as usize] += 1;
    }
    println!("{equal} of {tokens} equal, cases by crop: {crops:?}");
    assert!(tokens > 500 && crops.iter().all(|&count| count >= 8));
    // One frame is for roundings that decide between equals: they are rare.
    assert!(equal * 100 >= tokens * 99, "{equal} of {tokens}");
}

/// The fixture tells the ways of cropping apart: with another one a test
/// above would fail.
#[test]
fn another_crop_gives_other_times() {
    for (own, other) in [
        (Crop::Before, Crop::After),
        (Crop::After, Crop::Before),
        (Crop::None, Crop::Before),
    ] {
        let differ = cases().iter().any(|case| {
            let model = case.load();
            let mut executor = NativeExecutor::<f64>::new(&model.weights, false);
            case.crop() == own && case.starts(&mut executor, &model, other) != case.frames
        });
        assert!(differ, "{own:?} {other:?}");
    }
}

#[test]
fn the_generated_cases_are_what_is_generated() {
    for case in cases()
        .iter()
        .filter(|case| case.model.ends_with("whisper_english"))
    {
        let model = case.load();
        let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
        let mut options = GenerationOptions::new(&model, None, &Wanted::default()).unwrap();
        // Beam search for three of them.
        options.beams = if matches!(case.seed, 2 | 4 | 6) { 5 } else { 1 };
        options.max_new_tokens = Some(24);
        let generated = generate(&mut executor, &model, &case.features(&model), &options);
        let generated = generated.unwrap();
        assert_eq!(generated.prompt, case.prompt);
        assert_eq!(generated.tokens, case.tokens, "{}", case.seed);
    }
}

/// As in the model's own file, and what is wrong with it.
#[test]
fn heads_come_from_the_generation_config() {
    let mut model = cases()[0].load();
    assert_eq!(model_heads(&model).unwrap(), None);
    assert_eq!(all_heads(&model).len(), 8);
    let mut with = |heads: &str| {
        let heads: Value = serde_json::from_str(heads).unwrap();
        let config = json!({ "alignment_heads": heads });
        model.generation = GenerationConfig::new("generation_config.json", &config, 100).unwrap();
        model_heads(&model).map_err(|error| error.to_string())
    };
    assert_eq!(with("[[1, 3], [0, 2]]"), Ok(Some(vec![[1, 3], [0, 2]])));
    assert_eq!(with("[]"), Ok(None));
    assert_eq!(with("null"), Ok(None));
    let absent = with("[[1, 3], [2, 0]]").unwrap_err();
    assert!(
        absent.contains("no head 2.0") && absent.contains("layers are 0 to 1"),
        "{absent}"
    );
    for wrong in ["[1, 2]", "[[1, 2, 3]]", "[[0, -1]]", "\"all\""] {
        let message = with(wrong).unwrap_err();
        assert!(
            message.contains("generation_config.json") && message.contains("pairs"),
            "{message}"
        );
    }
}
