//! Models that hear windows of a fixed length: what fills the window behind
//! the sound is heard, but neither masked nor counted.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::whisper_folder::{whisper_folder, write_wav};
use safetensors::SafeTensors;
use serde_json::Value;
use sonograd::engine::executor::{Executor, Inputs};
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::Site;
use sonograd::explain::passes::{MapSpec, Utterance, forward_and_gradients};
use sonograd::explain::profile::MAPS;
use sonograd::explain::spes::{GivenMasks, Masks, Occluded, Occlusion, Segmentation, SpesOptions};
use sonograd::features::Features;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::Reduction;
use sonograd::{ErrorKind, Event, Listener, Sound, Wanted, Warning};

const WINDOW: usize = 74;
const SOUND: usize = 49;
const IDS: [u32; 3] = [4, 9, 14];

fn model() -> Model {
    Model::load(ModelFiles::folder("tests/fixtures/whisper_odd").unwrap()).unwrap()
}

/// The features of the fixture's reference.
fn features() -> Features {
    let bytes = fs::read("tests/fixtures/whisper_odd/reference.safetensors").unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (values, _) = tensors.tensor("features").unwrap().data().as_chunks::<4>();
    let data = values.iter().map(|&x| f32::from_le_bytes(x)).collect();
    Features::new(data, WINDOW, 80).unwrap()
}

/// Gradients at the input and at the encoder's output, cut to the sound.
fn gradients(model: &Model, features: &Features, sound: usize) -> [Vec<f64>; 2] {
    let mut executor = NativeExecutor::<f64>::new(&model.weights, false);
    let utterance =
        Utterance::upload(&mut executor, model, features, &IDS, &[0, 1, 2], &IDS).unwrap();
    let specs = [Site::Input, Site::Encoder].map(|site| MapSpec {
        site,
        times_input: true,
        reduction: Reduction::None,
    });
    let pass = forward_and_gradients(&mut executor, model, &utterance, &specs, 1 << 30).unwrap();
    let sounds = [sound, sound.div_ceil(2)];
    [0, 1].map(|site| {
        let map = pass.maps[site];
        let values = executor.read_real(map.id);
        let each = values.chunks(map.shape.inner());
        each.flat_map(|token| token[..sounds[site] * map.shape.cols].to_vec())
            .collect()
    })
}

#[test]
fn gradients_of_the_sound_are_those_of_the_whole_window() {
    let model = model();
    let whole = features();
    let part = whole.clone().with_sound_frames(SOUND);
    let expected = gradients(&model, &whole, SOUND);
    for (got, want) in gradients(&model, &part, SOUND).iter().zip(&expected) {
        assert_eq!(got.len(), want.len());
        let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f64::max) <= 1e-14);
    }
}

/// Scores of masks that hide the same of the sound, whether or not the
/// filling behind it is part of what could be masked.
#[test]
fn the_filling_is_never_masked() {
    let model = model();
    let whole = features();
    let part = whole.clone().with_sound_frames(SOUND);
    let scores = |features: &Features, occluded: Occluded, rows: usize, cols: usize| {
        let mut executor = NativeExecutor::<f64>::new(&model.weights, false);
        let own: &mut dyn Executor = &mut executor;
        let utterance = Utterance::upload(own, &model, features, &IDS, &[0, 1, 2], &IDS).unwrap();
        let pass = forward_and_gradients(own, &model, &utterance, &[], 1 << 30).unwrap();
        let sound = match occluded {
            Occluded::Input => SOUND,
            _ => SOUND.div_ceil(2),
        };
        // Two masks: every third element of the sound, all of it.
        let hidden: Vec<bool> = (0..2 * rows * cols)
            .map(|i| {
                let (mask, element) = (i / (rows * cols), i % (rows * cols));
                element / cols < sound && (mask == 1 || element % 3 == 0)
            })
            .collect();
        let mut inputs = Inputs::default();
        let given = GivenMasks::place(own, &mut inputs, &hidden, rows * cols).unwrap();
        let segments = Segmentation::elements(rows, cols);
        let segments = segments.place(own, &mut inputs).unwrap();
        inputs.send(own, MAPS).unwrap();
        let occlusion = Occlusion {
            model: &model,
            utterance: &utterance,
            encoder_output: Some(pass.forward.encoder_output),
            occluded,
            segments,
            masks: Masks::Given(given),
            options: &SpesOptions::default(),
            memory: 1 << 28,
        };
        let pass = occlusion.run(own, &mut |_| true).unwrap();
        assert_eq!((pass.map.shape.rows, pass.map.shape.cols), (rows, cols));
        executor.read_real(pass.scores.unwrap()).to_vec()
    };
    let encoded = SOUND.div_ceil(2);
    for (occluded, [all, own], cols) in [
        (Occluded::Input, [WINDOW, SOUND], 80),
        (Occluded::Encoder, [WINDOW / 2, encoded], 1),
    ] {
        let expected = scores(&whole, occluded, all, cols);
        let got = scores(&part, occluded, own, cols);
        assert!(expected.iter().all(|&x| x > 1e-9), "{expected:?}");
        let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0.0, f64::max);
        println!("{occluded:?}: {worst:e}");
        assert!(worst <= 1e-13);
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sonograd"))
        .args(arguments)
        .args(["--model", "model", "--device", "cpu"])
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn every_method_explains_the_sound_alone() {
    let place = tempfile::tempdir().unwrap();
    whisper_folder(&place.path().join("model"));
    write_wav(&place.path().join("sound.wav"), 9_700);
    let methods = "attention,attention-norm,attention-x-gradient,gradient,input-x-gradient,\
                   integrated-gradients,smoothgrad,spes";
    let arguments = [
        "explain",
        "sound.wav",
        "--method",
        methods,
        "--at",
        "input,encoder,tokens",
    ];
    let more = [
        "--masks",
        "90",
        "--steps",
        "3",
        "--samples",
        "3",
        "--baseline",
        "min",
    ];
    let output = run(place.path(), &[&arguments[..], &more[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let folder = place.path().join("sound.explained");
    let bytes = fs::read(folder.join("maps.safetensors")).unwrap();
    let maps = SafeTensors::deserialize(&bytes).unwrap();
    let tokens = maps.tensor("attention").unwrap().shape()[2];
    // 0.61 s of the second: 61 frames, 31 of the encoder's.
    for (name, view) in maps.iter() {
        let expected = match name {
            "sound" => vec![9_700],
            "features" => vec![61, 80],
            "attention" | "attention-norm" | "attention-x-gradient" => vec![2, 4, tokens, 31],
            "spes.tokens" => vec![tokens, view.shape()[1]],
            name if name.ends_with(".input") => vec![tokens, 61, 80],
            _ => vec![tokens, 31],
        };
        assert_eq!(view.shape(), expected, "{name}");
    }
    assert_eq!(maps.names().len(), 5 + 2 * 5 + 1);
    assert!(folder.join("report.html").is_file());
    let bytes = fs::read(folder.join("explanation.json")).unwrap();
    let explanation: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(explanation["model"]["frames"], 61);
    assert_eq!(explanation["model"]["encoder_frames"], 31);
    assert_eq!(explanation["model"]["encoder_frame_seconds"], 0.02);
}

#[test]
fn long_recordings_are_transcribed_but_not_explained_at_once() {
    let place = tempfile::tempdir().unwrap();
    whisper_folder(&place.path().join("model"));
    write_wav(&place.path().join("long.wav"), 40_000);
    let output = run(
        place.path(),
        &["transcribe", "long.wav", "--timestamps", "--json"],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let segments = line["segments"].as_array().unwrap();
    assert!(segments.len() >= 2, "{line}");
    let mut last = 0.0;
    for segment in segments {
        let [start, end] =
            ["start_seconds", "end_seconds"].map(|name| segment[name].as_f64().unwrap());
        assert!(
            start >= last - 1e-9 && end >= start && end <= 2.5,
            "{segments:?}"
        );
        last = start;
    }
    let output = run(place.path(), &["explain", "long.wav"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("2.5 s") && message.contains("split"),
        "{message}"
    );
}

#[test]
fn languages_and_tasks_are_chosen_or_refused() {
    let place = tempfile::tempdir().unwrap();
    whisper_folder(&place.path().join("model"));
    write_wav(&place.path().join("sound.wav"), 9_700);
    let text = |more: &[&str]| {
        let output = run(place.path(), &[&["transcribe", "sound.wav"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        output.stdout
    };
    let german = text(&["--language", "de"]);
    assert_ne!(german, text(&["--language", "de", "--task", "translate"]));
    text(&[]);
    let output = run(
        place.path(),
        &["transcribe", "sound.wav", "--language", "xx"],
    );
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("\"xx\"") && message.contains("de, en"),
        "{message}"
    );
}

/// Each as soon as it is there, so that what was printed of a long sound is
/// never lost; nothing else is said where there is no terminal.
#[test]
fn long_sounds_are_written_window_by_window() {
    let place = tempfile::tempdir().unwrap();
    whisper_folder(&place.path().join("model"));
    let path = place.path().join("long.wav");
    write_wav(&path, 40_000);
    let builder = Listener::builder().model(place.path().join("model"));
    let mut listener = builder.device("cpu").open().unwrap();
    let sound = Sound::read(&path).unwrap();
    for timestamps in [false, true] {
        let mut wanted = Wanted::default();
        wanted.timestamps = timestamps;
        wanted.task_after_detection = true;
        let (mut texts, mut segments) = (Vec::new(), Vec::new());
        let (mut tokens, mut listened) = (0, 0);
        let mut watch = |event: Event| {
            match event {
                Event::Searched(own) => {
                    assert!(own.tokens < own.most);
                    tokens += 1;
                }
                Event::Written(own) => {
                    texts.push(own.text.to_owned());
                    segments.extend_from_slice(own.segments);
                }
                Event::Listened(own) => {
                    assert!(own.seconds < own.of_seconds);
                    listened += 1;
                }
                _ => panic!("{event:?}"),
            }
            true
        };
        let heard = listener.transcribe_as(&sound, &wanted, &mut watch).unwrap();
        assert!(texts.len() > 1 && listened + 1 == texts.len() && tokens >= listened);
        assert_eq!(segments, heard.segments());
        let own = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(own(&texts.join("")), own(heard.text()));

        let option: &[&str] = if timestamps { &["--timestamps"] } else { &[] };
        let output = run(
            place.path(),
            &[&["transcribe", "long.wav"], option].concat(),
        );
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let begins: Vec<String> = match timestamps {
            true => {
                let segments = heard.segments().iter();
                let times = segments
                    .map(|own| format!("{:8.2} s {:8.2} s  ", own.start_seconds, own.end_seconds));
                times.collect()
            }
            false => {
                let texts = texts.iter().flat_map(|own| own.lines());
                texts.map(str::to_owned).collect()
            }
        };
        let mut lines = printed.lines();
        for begin in begins {
            assert!(lines.any(|line| line.starts_with(&begin)), "{printed}");
        }
        let said = String::from_utf8(output.stderr).unwrap();
        let other = |line: &&str| !line.starts_with("device: ") && !line.starts_with("warning: ");
        assert_eq!(said.lines().find(other), None);

        // Stopped at the first token of the second window: the first one stays.
        let mut windows = 0;
        let stopped = listener.transcribe_as(&sound, &wanted, &mut |event| match event {
            Event::Written(_) => {
                windows += 1;
                true
            }
            Event::Searched(_) => windows == 0,
            _ => true,
        });
        let stopped = stopped.unwrap();
        assert!(stopped.warnings().contains(&Warning::Interrupted));
        assert_eq!(stopped.transcript().unwrap().windows.len(), windows);
        let nothing = listener.transcribe_as(&sound, &wanted, &mut |event| {
            !matches!(event, Event::Searched(_))
        });
        assert_eq!(nothing.unwrap_err().kind(), ErrorKind::Stopped);
    }
}

#[test]
fn windows_say_what_was_found_of_them() {
    let place = tempfile::tempdir().unwrap();
    whisper_folder(&place.path().join("model"));
    write_wav(&place.path().join("long.wav"), 40_000);
    let transcribe = |more: &[&str]| {
        let all = [&["transcribe", "long.wav", "--timestamps", "--json"], more].concat();
        let output = run(place.path(), &all);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let plain = transcribe(&[]);
    assert_eq!(plain["windows"], Value::Null);
    // Whatever is found is good enough.
    let content = ["--log-probability", "-1000", "--compression-ratio", "1000"];
    let found = transcribe(&[&["--fallback"], &content[..]].concat());
    assert_eq!(found["tokens"], plain["tokens"]);
    let windows = found["windows"].as_array().unwrap();
    assert!(windows.len() >= 2, "{found}");
    for window in windows {
        assert_eq!(window["temperature"], 0.0);
        assert_eq!(window["silent"], false);
        assert!(window["mean_log_probability"].as_f64().unwrap() < 0.0);
        let silence = window["no_speech_probability"].as_f64().unwrap();
        assert!((0.0..1.0).contains(&silence), "{window}");
    }
    // Nothing is, and all of it is silence.
    let wish = [
        "--fallback",
        "--log-probability",
        "0",
        "--no-speech",
        "1e-9",
    ];
    let silent = transcribe(&wish);
    assert_eq!(
        (&silent["text"], &silent["truncated"]),
        (&"".into(), &false.into())
    );
    assert_eq!(silent["segments"], Value::Array(Vec::new()));
    // Nothing is: the last temperature's tokens are taken, the same each time.
    let wish = [
        "--fallback",
        "--log-probability",
        "0",
        "--temperatures",
        "0,0.9",
    ];
    let drawn = transcribe(&wish);
    assert_eq!(
        drawn["windows"][0]["temperature"].as_f64().unwrap() as f32,
        0.9
    );
    assert_ne!(drawn["tokens"], plain["tokens"]);
    assert_eq!(drawn, transcribe(&wish));

    for (wrong, named) in [
        (&["--no-speech", "0.5"][..], "--fallback"),
        (&["--fallback", "--temperatures", "0,-1"], "temperatures"),
        (&["--fallback", "--no-speech", "1.5"], "1.5"),
        (&["--fallback", "--log-probability", "nan"], "nan"),
    ] {
        let output = run(place.path(), &[&["transcribe", "long.wav"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(named), "{message}");
    }
}

/// One sample more than the window is too much for one explanation, and a text
/// is written as it is given: this model's words begin with a space.
#[test]
fn the_front_door_counts_samples_and_writes_texts_as_they_are_given() {
    let place = tempfile::tempdir().unwrap();
    whisper_folder(&place.path().join("model"));
    let builder = Listener::builder().model(place.path().join("model"));
    let mut listener = builder.device("cpu").open().unwrap();
    let sound = |samples: usize| {
        let path = place.path().join(format!("{samples}.wav"));
        write_wav(&path, samples);
        Sound::read(path).unwrap()
    };
    let (whole, longer) = (sound(16_000), sound(16_001));
    listener.check_explainable(&whole).unwrap();
    let heard = listener.transcribe(&longer).unwrap();
    let message = listener.explain(&longer, &heard).run().unwrap_err();
    assert!(message.to_string().contains("split it"), "{message}");

    let given = listener.given(&whole, " ab ac").unwrap();
    let texts: Vec<&str> = given.words().iter().map(|word| &*word.text).collect();
    assert_eq!(texts, ["ab", "ac"]);
    let spaceless = listener.given(&whole, "ab ac").unwrap();
    assert_eq!(spaceless.tokens()[1..], given.tokens()[1..]);
    assert_ne!(spaceless.tokens()[0], given.tokens()[0]);
    // And says so.
    assert_eq!(spaceless.warnings(), [Warning::Spaceless]);
    assert_eq!(given.warnings(), []);
}
