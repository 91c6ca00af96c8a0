//! Both Moonshines: configurations as people have them, and those that ask for what
//! is not done.

use serde_json::{Value, json};
use sonograd::features::{Features, Kind};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;

use super::small_cases::{folder, load};

type Fields = serde_json::Map<String, Value>;

fn with(name: &str, change: impl Fn(&mut Fields)) -> sonograd::Result<Model> {
    let text = std::fs::read(folder(name).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    change(config.as_object_mut().unwrap());
    Model::load(ModelFiles::Random {
        name: name.into(),
        config,
        seed: 1,
    })
}

#[test]
fn a_frame_is_24_milliseconds_of_samples() {
    let encoder = load("moonshine").encoder;
    assert_eq!(encoder.hears_by(), Kind::Waveform);
    assert_eq!(encoder.mel_bins(), 1);
    let seconds = encoder.frame_seconds() * encoder.subsampling() as f64;
    assert!((seconds - 0.024).abs() < 1e-12, "{seconds}");
    // By `_get_feat_extract_output_lengths` of transformers.
    let frames = [894, 895, 1_278, 1_279, 16_000, 160_000].map(|n| encoder.encoder_frames(n));
    assert_eq!(frames, [0, 1, 1, 2, 40, 415]);
}

/// Samples behind the last whole frame are a frame of zeros to the first convolution, as
/// where transformers' processor pads.
#[test]
fn a_streaming_frame_is_20_milliseconds() {
    let encoder = load("moonshine_streaming").encoder;
    assert_eq!(encoder.hears_by(), Kind::Waveform);
    let seconds = encoder.frame_seconds() * encoder.subsampling() as f64;
    assert!((seconds - 0.02).abs() < 1e-12, "{seconds}");
    let frames = [79, 80, 81, 320, 321, 400, 401, 7_680];
    let frames = frames.map(|n| encoder.encoder_frames(n));
    assert_eq!(frames, [0, 1, 1, 1, 2, 2, 2, 24]);
    // There are positions for 24 frames.
    assert_eq!(encoder.max_frames(), 7_680);
    assert_eq!(encoder.encoder_frames(7_681), 25);
}

#[test]
fn sounds_shorter_than_a_frame_are_refused() {
    let model = load("moonshine");
    let features = |samples| Features::new(vec![0.1; samples], samples, 1).unwrap();
    model.check_features(&features(895)).unwrap();
    let message = model
        .check_features(&features(894))
        .unwrap_err()
        .to_string();
    assert!(message.contains("894 samples (0.056 s)"), "{message}");
    assert!(message.contains("too short"), "{message}");
}

/// Where transformers 5.23 finds rotary settings, and what it makes of what is missing: pairs
/// of a head's columns, and the cosine of the second one's angle at position 1.
#[test]
fn rotary_settings_are_read_where_they_stand() {
    let pairs_and_rate = |name: &str, given: &Value| {
        let model = with(name, |config| {
            let names = [
                "rope_parameters",
                "rope_scaling",
                "rope_theta",
                "partial_rotary_factor",
            ];
            config.retain(|key, _| !names.contains(&key.as_str()));
            config.extend(given.as_object().unwrap().clone());
            // Columns enough to tell shares apart.
            config.insert("hidden_size".into(), json!(40));
        });
        let model = model.unwrap();
        let angles = model
            .weights
            .iter()
            .find(|own| own.name == "decoder angles")
            .unwrap();
        (angles.cols / 2, f64::from(angles.data[angles.cols + 1]))
    };
    // Theta, and the columns of a head that are turned. Moonshine's have 20 columns, those
    // of Streaming 4, which a field says.
    let check = |name: &str, given: Value, theta: f64, columns: usize| {
        let (pairs, cosine) = pairs_and_rate(name, &given);
        assert_eq!(pairs, columns.div_ceil(2), "{name} {given}");
        let right = theta.powf(-2.0 / columns as f64).cos();
        assert!(
            (cosine - right).abs() < 1e-6,
            "{name} {given}: {cosine} {right}"
        );
    };
    let both = json!({"rope_theta": 50.0, "partial_rotary_factor": 0.5});
    let (theta, share) = (
        json!({"rope_theta": 50.0}),
        json!({"partial_rotary_factor": 0.5}),
    );
    check("moonshine", json!({}), 10_000.0, 18);
    check("moonshine", both.clone(), 50.0, 10);
    check("moonshine", json!({"rope_parameters": both}), 50.0, 10);
    check("moonshine", json!({"rope_scaling": both}), 50.0, 10);
    check("moonshine", json!({"rope_parameters": theta}), 50.0, 18);
    check(
        "moonshine",
        json!({"rope_parameters": share, "rope_theta": 50.0}),
        50.0,
        10,
    );
    check(
        "moonshine",
        json!({"rope_scaling": both, "rope_parameters": {}}),
        50.0,
        10,
    );
    // Four columns: 0.8 are three, two pairs.
    let streaming = "moonshine_streaming";
    check(streaming, json!({}), 10_000.0, 3);
    check(
        streaming,
        json!({"rope_theta": 50.0, "partial_rotary_factor": 1.0}),
        10_000.0,
        3,
    );
    check(streaming, json!({"rope_parameters": {}}), 10_000.0, 4);
    check(streaming, json!({"rope_parameters": theta}), 50.0, 4);
}

#[test]
fn what_is_not_done_is_named() {
    for (field, value, words) in [
        (
            "decoder_num_attention_heads",
            json!(3),
            "decoder_num_attention_heads is 3, where 2",
        ),
        (
            "encoder_num_key_value_heads",
            json!(1),
            "encoder_num_key_value_heads is 1, where 2",
        ),
        (
            "decoder_num_key_value_heads",
            json!(1),
            "decoder_num_key_value_heads is 1, where 2",
        ),
        (
            "decoder_hidden_act",
            json!("gelu"),
            "decoder_hidden_act is \"gelu\", where \"silu\"",
        ),
        (
            "encoder_hidden_act",
            json!("mish"),
            "encoder_hidden_act is \"mish\", where relu",
        ),
        ("head_dim", json!(4), "head_dim is 4, where 6"),
        // Names that transformers takes for the decoder's.
        (
            "hidden_act",
            json!("relu"),
            "hidden_act is \"relu\", where \"silu\"",
        ),
        (
            "num_attention_heads",
            json!(1),
            "num_attention_heads is 1, where 2",
        ),
        (
            "num_key_value_heads",
            json!(1),
            "num_key_value_heads is 1, where 2",
        ),
        (
            "num_hidden_layers",
            json!(2),
            "num_hidden_layers is 2, where 1",
        ),
        (
            "rope_scaling",
            json!({"rope_type": "linear"}),
            "rope_scaling.rope_type is \"linear\"",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "default", "type": "linear"}),
            "rope_parameters.type is \"linear\"",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "yarn"}),
            "rope_parameters.rope_type is \"yarn\", where \"default\"",
        ),
        (
            "rope_parameters",
            json!({"partial_rotary_factor": 1.5}),
            "rope_parameters.partial_rotary_factor is 1.5, where a number above 0, at most 1",
        ),
        (
            "rope_parameters",
            json!({"partial_rotary_factor": 0.1}),
            "partial_rotary_factor 0.1 of 6 columns",
        ),
        (
            "rope_parameters",
            json!({"rope_theta": 0}),
            "rope_parameters.rope_theta is 0",
        ),
        ("tie_word_embeddings", json!(1), "tie_word_embeddings is 1"),
        ("hidden_size", Value::Null, "hidden_size is null"),
    ] {
        refused("moonshine", field, &value, words);
    }
}

fn refused(name: &str, field: &str, value: &Value, words: &str) {
    let change = |config: &mut Fields| {
        let (within, field) = match field.split_once('.') {
            Some((outer, field)) => (config[outer].as_object_mut().unwrap(), field),
            None => (config, field),
        };
        within.insert(field.to_owned(), value.clone());
    };
    let message = with(name, change).err().unwrap().to_string();
    assert!(message.contains(words), "{message}");
}

#[test]
fn what_streaming_does_not_do_is_named() {
    for (field, value, words) in [
        ("encoder_config", Value::Null, "encoder_config is null"),
        (
            "encoder_config.head_dim",
            json!(4),
            "encoder_config.head_dim is 4, where 5",
        ),
        (
            "encoder_config.num_key_value_heads",
            json!(1),
            "encoder_config.num_key_value_heads is 1, where 2",
        ),
        (
            "encoder_config.sample_rate",
            json!(8_000),
            "encoder_config.sample_rate is 8000, where 16000",
        ),
        (
            "encoder_config.frame_ms",
            json!(0),
            "encoder_config.frame_ms is 0, where a number",
        ),
        (
            "encoder_config.sliding_windows",
            json!([]),
            "where 1 pairs of whole numbers",
        ),
        (
            "encoder_config.sliding_windows",
            json!([[0, 4]]),
            "the first of each above 0",
        ),
        (
            "encoder_config.sliding_windows",
            json!([[3]]),
            "where 1 pairs of whole numbers",
        ),
        (
            "num_key_value_heads",
            json!(1),
            "num_key_value_heads is 1, where 2",
        ),
        (
            "hidden_act",
            json!("relu"),
            "hidden_act is \"relu\", where \"silu\"",
        ),
        ("tie_word_embeddings", json!(1), "tie_word_embeddings is 1"),
    ] {
        refused("moonshine_streaming", field, &value, words);
    }
    // The settings of transformers' configuration where there are none.
    with("moonshine_streaming", |config| {
        let encoder = config["encoder_config"].as_object_mut().unwrap();
        encoder
            .retain(|key, _| !["sliding_windows", "frame_ms", "head_dim"].contains(&key.as_str()));
        encoder.insert("num_hidden_layers".into(), json!(6));
    })
    .unwrap();
}
