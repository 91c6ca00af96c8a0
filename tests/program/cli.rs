//! The program as its users meet it: exit codes, messages, files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::random_model::{self, HEARING, tokenizer, tone, write_wav};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use sonograd::explain::Method;
use sonograd::explain::explanation::Explanation;
use sonograd::ops::Reduction;

/// A folder with a random model, its tokenizer and a sound.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = random_model::place();
        let place = Self { folder };
        write_wav(&place.path("sound.wav"), &tone(8_000));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program in the folder.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    fn explain(&self, more: &[&str]) -> Output {
        let mut arguments = vec![
            "explain",
            "sound.wav",
            "--model",
            "model",
            "--device",
            "cpu",
        ];
        arguments.extend(more);
        self.run(&arguments)
    }

    /// Runs what must be refused: exit code 2, one line that holds `words`,
    /// nothing written.
    fn refused(&self, arguments: &[&str], words: &[&str]) {
        let names = || {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = names();
        let output = self.run(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        println!("{arguments:?}\n    {}", message.trim_end());
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message}");
        }
        assert!(output.stdout.is_empty());
        assert_eq!(names(), before);
    }

    fn refused_sound(&self, name: &str, words: &[&str]) {
        let arguments = ["explain", name, "--model", "model", "--device", "cpu"];
        self.refused(&arguments, words);
    }

    fn refused_model(&self, words: &[&str]) {
        self.refused_sound("sound.wav", words);
    }

    fn explanation(&self, folder: &str) -> Explanation {
        let bytes = fs::read(self.path(folder).join("explanation.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}

fn maps(folder: &Path) -> Vec<(String, Vec<usize>)> {
    let bytes = fs::read(folder.join("maps.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<(String, Vec<usize>)> = tensors
        .iter()
        .map(|(name, view)| {
            let (values, _) = view.data().as_chunks::<4>();
            assert!(values.iter().all(|&b| f32::from_le_bytes(b).is_finite()));
            (name.to_owned(), view.shape().to_vec())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn explain_writes_what_it_promises() {
    let place = Place::new();
    let output = place.explain(&["--profile"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let explanation = place.explanation("sound.explained");
    let (frames, tokens) = (48, explanation.tokens.len());
    let encoded = explanation.model.encoder_frames;
    assert_eq!(explanation.model.frames, frames);
    assert_eq!(
        maps(&place.path("sound.explained")),
        [
            ("attention".to_owned(), vec![2, 3, tokens, encoded]),
            ("features".to_owned(), vec![frames, 80]),
            ("gradient.encoder".to_owned(), vec![tokens, encoded]),
            ("gradient.input".to_owned(), vec![tokens, frames, 80]),
            ("sound".to_owned(), vec![8_000]),
        ]
    );
    let profile = explanation.profile.unwrap();
    assert_eq!(profile["map_readbacks"], 1);
    assert!(profile["generation_reads"].as_u64().unwrap() > 0);
    assert!(profile["peak_memory_bytes"].as_u64().unwrap() > 0);
    assert!(profile["stage_seconds"]["explain"].as_f64().unwrap() > 0.0);
    let page = || fs::read_to_string(place.path("sound.explained/report.html")).unwrap();
    assert!(page().contains("data:audio/wav"));

    // Without the recording, where it may not be passed on.
    let output = place.explain(&["--no-sound"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let left = maps(&place.path("sound.explained"));
    assert!(left.len() == 4 && left.iter().all(|(name, _)| name != "sound"));
    assert!(!page().contains("data:audio"));
}

/// Alone it has its reverse pass to itself; the page leaves it out without a
/// word.
#[test]
fn attention_x_gradient_alone() {
    let place = Place::new();
    let output = place.explain(&["--profile", "--method", "attention-x-gradient"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let explanation = place.explanation("sound.explained");
    let shape = vec![
        2,
        3,
        explanation.tokens.len(),
        explanation.model.encoder_frames,
    ];
    assert_eq!(
        maps(&place.path("sound.explained")),
        [
            ("attention-x-gradient".to_owned(), shape.clone()),
            ("features".to_owned(), vec![48, 80]),
            ("sound".to_owned(), vec![8_000]),
        ]
    );
    let map = &explanation.maps[0];
    assert_eq!(
        (map.name.as_str(), map.method.name(), map.site.name()),
        ("attention-x-gradient", "attention-x-gradient", "decoder")
    );
    assert_eq!((&map.shape, map.reduction), (&shape, Reduction::None));
    // The maps, and the gradient by which words are timed.
    assert_eq!(explanation.profile.unwrap()["map_readbacks"], 2);
    let page = fs::read_to_string(place.path("sound.explained/report.html")).unwrap();
    assert!(!page.contains("is not shown on this page"));
}

#[test]
fn all_methods_at_all_sites_and_the_same_again() {
    let place = Place::new();
    let methods = "attention,gradient,input-x-gradient,integrated-gradients,smoothgrad";
    let more = [
        "--method",
        methods,
        "--steps",
        "40",
        "--samples",
        "5",
        "--text",
        "abc d",
        "--seed",
        "7",
    ];
    for (out, memory) in [("one", "1024"), ("two", "1024"), ("three", "1")] {
        let mut more = more.to_vec();
        more.extend(["--out", out, "--memory", memory]);
        let output = place.explain(&more);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let read = |out: &str| fs::read(place.path(out).join("maps.safetensors")).unwrap();
    assert!(
        read("one") == read("two"),
        "the same seed gives the same maps"
    );
    assert_eq!(maps(&place.path("one")).len(), 3 + 8);
    assert_eq!(maps(&place.path("three")).len(), 3 + 8);

    let explanation = place.explanation("one");
    assert_eq!(explanation.text, "abc d");
    assert_eq!(explanation.words.len(), 2);
    assert!(explanation.tokens.last().unwrap().special);
    // The attributions of integrated gradients add up to what the sound
    // changed: the gap is small beside the log-probabilities themselves.
    for map in explanation
        .maps
        .iter()
        .filter(|map| map.method == Method::IntegratedGradients)
    {
        let gaps = map.options["completeness_gap"].as_array().unwrap();
        assert_eq!(gaps.len(), explanation.tokens.len());
        for (gap, token) in gaps.iter().zip(&explanation.tokens) {
            let gap = gap.as_f64().unwrap();
            println!("{} gap {gap:.1e} of {}", map.name, token.log_probability);
            assert!(gap.abs() <= 0.05 * token.log_probability.abs());
        }
    }
}

#[test]
fn chosen_tokens_and_json() {
    let place = Place::new();
    let output = place.explain(&["--text", "abcd", "--tokens", "2,0", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let explanation: Explanation = serde_json::from_slice(&output.stdout).unwrap();
    let positions: Vec<usize> = explanation.tokens.iter().map(|t| t.position).collect();
    assert_eq!(positions, [0, 2]);

    let output = place.run(&[
        "transcribe",
        "sound.wav",
        "--model",
        "model",
        "--device",
        "cpu",
        "--json",
    ]);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(line["tokens"].is_array());
}

#[test]
fn html_in_names_and_tokens_is_text() {
    let place = Place::new();
    let name = "<img src=x onerror=alert(1)>.wav";
    fs::rename(place.path("sound.wav"), place.path(name)).unwrap();
    let output = place.run(&[
        "explain", name, "--model", "model", "--device", "cpu", "--text", "a<b>", "--out", "out",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = fs::read_to_string(place.path("out/report.html")).unwrap();
    assert!(!page.contains("<img src=x"));
    assert!(!page.contains("\"<b>\""));
}

#[test]
fn only_its_own_folder_is_replaced() {
    let place = Place::new();
    let twice = ["--text", "a", "--out", "out"];
    assert_eq!(place.explain(&twice).status.code(), Some(0));
    assert_eq!(place.explain(&twice).status.code(), Some(0));
    fs::write(place.path("out/notes.txt"), "mine").unwrap();
    let arguments = ["explain", "sound.wav", "--model", "model", "--out", "out"];
    place.refused(&arguments, &["out", "was not written by explain"]);
    fs::remove_file(place.path("out/notes.txt")).unwrap();
    // Somebody's own maps or page under our names.
    for name in ["maps.safetensors", "report.html", "maps.npy"] {
        assert_eq!(place.explain(&twice).status.code(), Some(0), "{name}");
        fs::write(place.path("out").join(name), "mine").unwrap();
        place.refused(&arguments, &["out", "was not written by explain"]);
        let kept = fs::read_to_string(place.path("out").join(name)).unwrap();
        assert_eq!(kept, "mine");
        fs::remove_file(place.path("out").join(name)).unwrap();
    }
    // What is gone of it is nobody's.
    assert_eq!(place.explain(&twice).status.code(), Some(0));
    fs::create_dir(place.path("other")).unwrap();
    let arguments = ["explain", "sound.wav", "--model", "model", "--out", "other"];
    place.refused(&arguments, &["other", "--out"]);
    let arguments = [
        "explain",
        "sound.wav",
        "--model",
        "model",
        "--out",
        "no/such",
    ];
    place.refused(&arguments, &["no", "no such folder"]);
}

#[test]
fn sounds_that_cannot_be_explained() {
    let place = Place::new();
    place.refused_sound("missing.wav", &["missing.wav"]);
    fs::write(place.path("text.wav"), "this is no sound at all, only text").unwrap();
    place.refused_sound("text.wav", &["text.wav"]);
    let whole = fs::read(place.path("sound.wav")).unwrap();
    fs::write(place.path("cut.wav"), &whole[..whole.len() / 2]).unwrap();
    place.refused_sound("cut.wav", &["cut.wav"]);
    write_wav(&place.path("empty.wav"), &[]);
    place.refused_sound("empty.wav", &["empty.wav"]);
    write_wav(&place.path("short.wav"), &tone(399));
    place.refused_sound("short.wav", &["short.wav", "400"]);
    write_wav(&place.path("long.wav"), &tone(16_000 * 3));
    place.refused_sound("long.wav", &["long.wav", "298", "200"]);
    let mut broken = tone(4_000);
    broken[123] = f32::NAN;
    write_wav(&place.path("nan.wav"), &broken);
    place.refused_sound("nan.wav", &["nan.wav", "123"]);
    // Silence is a sound.
    write_wav(&place.path("silence.wav"), &[0.0; 4_000]);
    let arguments = [
        "explain",
        "silence.wav",
        "--model",
        "model",
        "--device",
        "cpu",
    ];
    assert_eq!(place.run(&arguments).status.code(), Some(0));
}

#[test]
fn models_that_do_not_fit() {
    let place = Place::new();
    let model = place.path("model");
    let weights = model.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 10]).unwrap();
    place.refused_model(&["model.safetensors", "whole"]);
    fs::remove_file(&weights).unwrap();
    place.refused_model(&["model.safetensors"]);

    let write = |change: &dyn Fn(&mut Vec<random_model::Tensor>)| {
        let mut tensors = random_model::tensors(HEARING);
        change(&mut tensors);
        random_model::write_tensors(&weights, &tensors, Dtype::F32);
    };
    write(&|tensors| tensors.retain(|t| t.name != "decoder.layer_norm.bias"));
    place.refused_model(&["missing", "decoder.layer_norm.bias", "[12]"]);
    write(&|tensors| {
        let mut more = random_model::tensors(HEARING).swap_remove(0);
        more.name = "encoder.something_else".into();
        tensors.push(more);
    });
    place.refused_model(&["encoder.something_else"]);
    write(&|tensors| {
        let last = tensors.last_mut().unwrap();
        last.shape = vec![last.shape[1], last.shape[0]];
    });
    place.refused_model(&["decoder.output_projection.weight", "[12, 24]", "[24, 12]"]);
    write(&|tensors| tensors[3].data[1] = f32::NAN);
    place.refused_model(&["encoder.subsample.conv_layers.1.bias", "NaN", "1"]);
    write(&|_| {});

    let config = |field: &str, value: Value| {
        let mut config = random_model::config(HEARING);
        config[field] = value;
        fs::write(model.join("config.json"), config.to_string()).unwrap();
    };
    config("architectures", json!(["BertModel"]));
    let supported = "ConformerEncoderDecoderForConditionalGeneration";
    place.refused_model(&["config.json", "BertModel", supported]);
    config("d_model", json!(u64::MAX));
    place.refused_model(&["config.json", "d_model"]);
    config("d_model", json!(1 << 20));
    place.refused_model(&["encoder_attention_heads"]);
    config("decoder_ffn_dim", json!(1 << 20));
    place.refused_model(&["decoder.layers.0.fc1", "1048576"]);
    config("encoder_layers", json!(1 << 20));
    place.refused_model(&["encoder_layers"]);
    config("encoder_attention_heads", json!(5));
    place.refused_model(&["encoder_attention_heads", "5"]);
    config("conformer_conv_kernel_size", json!(8));
    place.refused_model(&["conformer_conv_kernel_size", "odd"]);
    fs::write(model.join("config.json"), "{").unwrap();
    place.refused_model(&["config.json", "JSON"]);
    fs::write(
        model.join("config.json"),
        random_model::config(HEARING).to_string(),
    )
    .unwrap();

    fs::write(
        model.join("tokenizer.json"),
        tokenizer(HEARING.vocabulary + 2),
    )
    .unwrap();
    place.refused_model(&["tokenizer.json", "26", "24"]);
    fs::write(model.join("tokenizer.json"), "[]").unwrap();
    place.refused_model(&["tokenizer.json"]);
}

#[test]
fn arguments_that_cannot_work() {
    let place = Place::new();
    let base = ["explain", "sound.wav", "--model", "model"];
    let with = |more: &[&'static str]| [base.as_slice(), more].concat();
    place.refused(&with(&["--text", "  "]), &["no tokens"]);
    place.refused(&with(&["--device", "no such thing"]), &["no such thing"]);
    place.refused(
        &["explain", "sound.wav", "--model", "nowhere"],
        &["nowhere"],
    );
    let language = with(&["--device", "cpu", "--language", "xx"]);
    place.refused(&language, &["xx"]);
    let output = place.run(&with(&["--method", "magic"]));
    assert_eq!(output.status.code(), Some(2));
    // What would have no effect.
    for (options, said) in [
        (
            &["--steps", "8"][..],
            "only --method integrated-gradients takes --steps",
        ),
        (
            &["--method", "spes", "--samples", "2"],
            "only --method smoothgrad takes --samples",
        ),
        (
            &["--noise", "0.1"],
            "only --method smoothgrad takes --noise",
        ),
        (&["--masks", "9"], "only --method spes takes --masks"),
        (&["--reliability", "0.5"], "only --method spes takes"),
        (&["--mask-probability", "0.5"], "only --method spes takes"),
        (&["--segments", "20"], "only --method spes takes"),
        (&["--sigma", "1"], "only --method spes takes --sigma"),
        (&["--batch", "8"], "only --method spes takes --batch"),
        (
            &["--method", "gradient", "--baseline", "mean"],
            "only --method integrated-gradients or spes takes --baseline",
        ),
        (
            &["--method", "spes", "--at", "encoder", "--sigma", "1"],
            "only --at input takes",
        ),
        (
            &["--at", "input,tokens"],
            "only --method spes takes --at tokens",
        ),
        (
            &["--method", "attention,attention-norm", "--at", "input"],
            "takes --at",
        ),
    ] {
        place.refused(&with(options), &[said]);
    }
    let output = place.explain(&["--text", "abc", "--tokens", "99"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("no token 99")
    );
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn double_precision_is_refused_on_a_gpu() {
    let place = Place::new();
    let arguments = [
        "explain",
        "sound.wav",
        "--model",
        "model",
        "--device",
        "gpu",
        "--precision",
        "f64",
    ];
    let output = place.run(&arguments);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--device cpu"), "{message}");
    assert!(!place.path("sound.explained").exists());
}

#[test]
fn several_files_and_a_bad_one() {
    let place = Place::new();
    write_wav(&place.path("short.wav"), &tone(10));
    fs::copy(place.path("sound.wav"), place.path("again.wav")).unwrap();
    let several = |command: &str, more: &[&str]| {
        let mut arguments = vec![command, "--model", "model", "--device", "cpu"];
        arguments.extend(more);
        let output = place.run(&arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, error) = (text(output.stdout), text(output.stderr));
        println!("{arguments:?}\n{out}{error}");
        (output.status.code(), out, error)
    };
    let files = ["sound.wav", "short.wav", "missing.flac", "again.wav"];

    let (code, out, error) = several("transcribe", &files);
    assert_eq!(code, Some(1));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("sound.wav: ") && lines[1].starts_with("again.wav: "));
    for words in [
        "error: short.wav: ",
        "error: missing.flac: ",
        "2 of 4 files",
    ] {
        assert!(error.contains(words), "{words}");
    }

    let (code, out, error) = several("explain", &[&files[..], &["--out", "all"]].concat());
    assert_eq!(code, Some(1));
    assert!(out.contains("sound.wav: ") && out.contains("again.wav: "));
    assert!(error.contains("error: short.wav: ") && error.contains("2 of 4 files"));
    let mut written: Vec<_> = fs::read_dir(place.path("all")).unwrap().collect();
    assert_eq!(written.len(), 2, "{:?}", written.pop());
    let [one, two] =
        ["sound", "again"].map(|name| place.explanation(&format!("all/{name}.explained")));
    assert_eq!(one.audio.file, "sound.wav");
    assert_eq!((&one.text, one.maps.len()), (&two.text, two.maps.len()));

    // Beside each other without --out; a line of JSON for each.
    let (code, out, _) = several("explain", &["again.wav", "sound.wav", "--json"]);
    assert_eq!(code, Some(0));
    let files: Vec<Explanation> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(files.len(), 2);
    assert_eq!(files[0].audio.file, "again.wav");
    assert!(place.path("again.explained").is_dir());

    // Only bad files, and only one.
    for command in ["transcribe", "explain"] {
        assert_eq!(several(command, &["short.wav", "no.wav"]).0, Some(1));
        assert_eq!(several(command, &["short.wav"]).0, Some(2));
    }
}

#[test]
fn several_files_that_cannot_work_together() {
    let place = Place::new();
    let with = |more: &[&'static str]| [&["explain", "--model", "model"], more].concat();
    place.refused(&with(&["a.wav", "b.wav", "--text", "a"]), &["--text"]);
    place.refused(
        &with(&["one/a.wav", "two/a.flac"]),
        &["one/a.wav", "two/a.flac", "a.explained"],
    );
    // No folder is made for what then cannot begin.
    let out = |out| with(&["a.wav", "b.wav", "--device", "no device", "--out", out]);
    place.refused(&out("new"), &["no device"]);
    place.refused(&out("no/such"), &["no: there is no such folder"]);
}

#[test]
fn validate_reports_and_fails_by_exit_code() {
    let run = |more: &[&str]| {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/conformer");
        let mut arguments = vec!["validate", "--model", fixture, "--device", "cpu", "--json"];
        arguments.extend(more);
        let output = Place::new().run(&arguments);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), json)
    };
    let (code, json) = run(&[]);
    assert_eq!(code, Some(0));
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.len() >= 5 && checks.iter().all(|check| check["pass"] == true));
    assert!(
        json["absent"]
            .as_array()
            .unwrap()
            .contains(&json!("waveform"))
    );
    let (code, _) = run(&["--precision", "f64"]);
    assert_eq!(code, Some(0));

    // Where nothing is compared, and of what nobody knows, a line says so.
    let folder = tempfile::tempdir().unwrap();
    let reference = folder.path().join("own.safetensors");
    let write = |tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]| {
        let views = tensors.iter().map(|(name, kind, shape, bytes)| {
            let view = TensorView::new(*kind, shape.clone(), bytes).unwrap();
            (*name, view)
        });
        let pairs = [("format", "saliency-reference"), ("version", "1")];
        let about = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let file = safetensors::serialize(views, Some(HashMap::from(about))).unwrap();
        fs::write(&reference, file).unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/conformer");
        let output = Place::new().run(&[
            "validate",
            "--model",
            fixture,
            "--device",
            "cpu",
            "--reference",
            reference.to_str().unwrap(),
        ]);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let real = |rows: usize, cols: usize| vec![0; 4 * rows * cols];
    let ids = |id: i64| (Dtype::I64, vec![1], id.to_le_bytes().to_vec());
    let features = ("features", Dtype::F32, vec![40, 80], real(40, 80));
    let (kind, shape, bytes) = ids(2);
    let tokens = ("decoder_input_ids", kind, shape, bytes);
    let other = ("logit", Dtype::F32, vec![1, 1], real(1, 1));
    let (code, said) = write(&[features.clone(), tokens.clone(), other]);
    assert_eq!(code, Some(1), "{said}");
    let nothing = "own.safetensors: nothing was compared: it has none of waveform, encoder_output";
    assert!(said.contains(nothing), "{said}");
    assert!(
        said.contains("warning: ") && said.contains("own.safetensors: logit"),
        "{said}"
    );
    // What does not fit the model is said of the file.
    let narrow = ("features", Dtype::F32, vec![40, 3], real(40, 3));
    let (kind, shape, bytes) = ids(1 << 30);
    for tensors in [
        [narrow, tokens],
        [features, ("decoder_input_ids", kind, shape, bytes)],
    ] {
        let (code, said) = write(&tensors);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("own.safetensors: "), "{said}");
    }

    // A model with one weight moved fails.
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformer");
    for entry in fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let weights = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    fs::write(&weights, bytes).unwrap();
    let moved = folder.path().to_str().unwrap();
    let output = Place::new().run(&["validate", "--model", moved, "--device", "cpu"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("FAIL"));
}

/// What the profile promises on a GPU: the maps of all methods come back in
/// one transfer, and the maps are those of the native executor.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_gpu_gives_the_same_maps_in_one_upload_and_one_readback() {
    let place = Place::new();
    let methods = "attention,attention-x-gradient,gradient,integrated-gradients,smoothgrad,spes";
    let run = |device: &str| {
        let output = place.run(&[
            "explain",
            "sound.wav",
            "--model",
            "model",
            "--text",
            "ab",
            "--method",
            methods,
            "--steps",
            "3",
            "--samples",
            "3",
            "--masks",
            "500",
            "--at",
            "input,encoder,tokens",
            "--profile",
            "--device",
            device,
            "--out",
            device,
        ]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    };
    run("cpu");
    run("gpu");
    let explanation = place.explanation("gpu");
    let profile = explanation.profile.unwrap();
    assert_eq!(
        (&profile["uploads"], &profile["map_readbacks"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(profile["generation_uploads"], 0);
    // At 240, 480 and 500 masks of every site.
    assert_eq!(profile["status_reads"], 9);
    let bytes = profile["status_read_bytes"].as_u64().unwrap();
    assert!(bytes <= 9 * 64 * explanation.tokens.len() as u64, "{bytes}");
    let read = |device: &str, name: &str| -> Vec<f32> {
        let bytes = fs::read(place.path(device).join("maps.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let (values, _) = tensors.tensor(name).unwrap().data().as_chunks::<4>();
        values
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect()
    };
    for (name, shape) in maps(&place.path("gpu")) {
        let (got, want) = (read("gpu", &name), read("cpu", &name));
        // Two f32 computations, each within the gradients' tolerance.
        let check = sonograd::validate::compare(&name, &shape, &got, &want, 4e-5);
        println!("{check:?}");
        assert!(check.pass);
    }
}

/// A run that is killed leaves what an earlier one wrote as it was.
#[test]
fn killed_at_any_moment_nothing_is_damaged() {
    let place = Place::new();
    let first = place.explain(&[]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let folder = place.path("sound.explained");
    let contents = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(folder).unwrap();
        let mut all: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        all.sort();
        all
    };
    let before = contents(&folder);
    for milliseconds in [5, 20, 60, 150, 400, 900] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .args([
                "explain",
                "sound.wav",
                "--model",
                "model",
                "--device",
                "cpu",
            ])
            .args(["--method", "spes", "--masks", "1000000", "--seed", "9"])
            .current_dir(place.folder.path())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(contents(&folder), before);
    }
    // And whoever replaces it does so at once: at no moment is it missing or
    // a mixture of old and new.
    let mut child = Command::new(env!("CARGO_BIN_EXE_sonograd"))
        .args([
            "explain",
            "sound.wav",
            "--model",
            "model",
            "--device",
            "cpu",
        ])
        .args(["--method", "gradient", "--seed", "9"])
        .current_dir(place.folder.path())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() {
        if cfg!(target_os = "linux") {
            assert!(folder.join("explanation.json").is_file());
        }
    }
    assert_ne!(contents(&folder), before);
}

#[test]
fn bench_of_kernels_has_a_row_for_each() {
    let place = Place::new();
    let arguments = [
        "bench",
        "--model",
        "model",
        "--device",
        "cpu",
        "--seconds",
        "0.4",
        "--tokens",
        "3",
        "--masks",
        "5",
        "--repeats",
        "1",
        "--work",
        "kernels,forward",
    ];
    let output = place.run(&[&arguments[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("nothing but JSON"))
        .collect();
    let (whole, kernels) = lines.split_last().unwrap();
    assert_eq!(whole["work"], "forward");
    assert!(whole.get("kernel").is_none());
    for line in kernels {
        assert_eq!(line["work"], "kernels");
        for name in [
            "calls",
            "seconds_median",
            "seconds_min",
            "seconds_max",
            "repeats",
            "bytes",
            "gbytes_per_s",
            "peak_gflops",
            "peak_gbytes_per_s",
            "peak_memory_bytes",
        ] {
            let value = line[name].as_f64().unwrap_or(f64::NAN);
            assert!(value > 0.0, "{name} is {}", line[name]);
        }
        for name in ["device", "executor", "precision", "kernel", "pass"] {
            assert!(line[name].is_string(), "{name} is {}", line[name]);
        }
        let share = line["share_of_peak"].as_f64().unwrap();
        assert_eq!(share > 0.0, line["flops"].as_u64().unwrap() > 0);
    }
    let has = |pass: &str, kernel: &str| {
        let mut own = kernels.iter();
        own.any(|line| line["pass"] == pass && line["kernel"] == kernel)
    };
    for (pass, kernel) in [
        ("forward", "attention"),
        ("forward", "matmul"),
        ("gradient", "matmul"),
        ("gradient", "attention_reverse"),
        ("gradient", "layer_norm_reverse"),
        ("spes", "apply_mask"),
        ("spes", "matmul"),
    ] {
        assert!(has(pass, kernel), "{pass} {kernel}");
    }
    assert!(!has("forward", "attention_reverse"));
    let sizes = kernels.iter().map(|line| {
        let part = |name: &str| line[name].as_str().unwrap().to_owned();
        (part("pass"), part("kernel"), part("shapes"))
    });
    let sizes: Vec<_> = sizes.collect();
    assert!(sizes.iter().all(|(_, _, shapes)| shapes.contains(" -> (")));

    let output = place.run(&arguments);
    let table = String::from_utf8(output.stdout).unwrap();
    for (pass, kernel, shapes) in &sizes {
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some(pass) && words.next() == Some(kernel) && line.ends_with(shapes)
        };
        assert!(table.lines().any(row), "{pass} {kernel} {shapes}: {table}");
    }
}

/// The rows of the processor, all of them timed.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn bench_of_kernels_on_a_gpu() {
    let place = Place::new();
    let rows = |device: &str, estimate: Option<&str>| {
        let mut arguments = vec!["bench", "--model", "model", "--device", device, "--json"];
        arguments.extend(["--work", "kernels", "--seconds", "0.2", "--tokens", "2"]);
        arguments.extend(["--masks", "2", "--repeats", "1"]);
        arguments.extend(estimate);
        let output = place.run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<Value>>()
    };
    let names = |rows: &[Value]| {
        let name = |row: &Value| format!("{} {} {}", row["pass"], row["kernel"], row["shapes"]);
        let mut names: Vec<String> = rows.iter().map(name).collect();
        names.sort();
        names
    };
    let on_gpu = rows("gpu", None);
    assert_eq!(names(&on_gpu), names(&rows("cpu", Some("--estimate"))));
    for row in &on_gpu {
        assert_eq!(row["executor"], "gpu");
        assert!(row["seconds_median"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn bench_measures_and_counts() {
    let place = Place::new();
    let common = ["--device", "cpu", "--seconds", "0.4", "--tokens", "3"];
    let more = ["--masks", "5", "--repeats", "2", "--json"];
    let model = ["bench", "--model", "model"];
    let output = place.run(&[&model[..], &common[..], &more[..]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("nothing but JSON"))
        .collect();
    let works: Vec<&Value> = lines.iter().map(|line| &line["work"]).collect();
    assert_eq!(works, ["forward", "gradient", "spes", "generate"]);
    for line in &lines {
        for name in [
            "seconds_median",
            "seconds_min",
            "seconds_max",
            "repeats",
            "flops",
            "bytes",
            "gflops",
            "gbytes_per_s",
            "share_of_peak",
            "peak_gflops",
            "peak_gbytes_per_s",
            "peak_memory_bytes",
            "parameters",
            "weight_bytes",
        ] {
            let value = line[name].as_f64().unwrap_or(f64::NAN);
            assert!(value > 0.0, "{name} is {}", line[name]);
        }
        assert_eq!(line["executor"], "native");
        assert_eq!(line["precision"], "f32");
        assert_eq!(line["model"], "model");
        assert_eq!(line["preset"], Value::Null);
        assert_eq!((&line["frames"], &line["tokens"]), (&json!(40), &json!(3)));
        assert_eq!(line["repeats"], 2);
        assert!(line["device"].as_str().unwrap().contains("native"));
    }
    assert!(lines[2]["masks_per_s"].as_f64().unwrap() > 0.0);
    assert!(lines[0].get("masks_per_s").is_none());
    let flops = |line: usize| lines[line]["flops"].as_u64().unwrap();
    assert!(flops(1) > flops(0), "the reverse is counted too");
    // A reference pass besides the masks' own.
    assert!(flops(2) > 5 * flops(0) / 2);

    // Counting alone gives the same operations and memory.
    let output = place.run(&[&model[..], &common[..], &more[..], &["--estimate"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    for (line, measured) in text.lines().zip(&lines) {
        let line: Value = serde_json::from_str(line).unwrap();
        for name in ["work", "flops", "bytes", "peak_memory_bytes"] {
            assert_eq!(line[name], measured[name], "{name} of {}", line["work"]);
        }
        assert_eq!(line["seconds_median"], Value::Null);
    }

    let output = place.run(&[&model[..], &common[..], &["--work", "forward"]].concat());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with(&format!("sonograd {}", env!("CARGO_PKG_VERSION"))));
    assert!(table.contains("model model:"), "{table}");
    assert!(table.contains("GFLOP/s"), "{table}");

    // A sound, and what the model writes of it.
    let sample = format!(
        "{}/samples/train_to_barcelona.wav",
        env!("CARGO_MANIFEST_DIR")
    );
    let heard = [
        "bench",
        "--audio",
        &sample,
        "--work",
        "forward",
        "--repeats",
        "1",
    ];
    let output = place.run(&[&heard[..], &["--device", "cpu", "--json"]].concat());
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let plan = place.run(&["transcribe", "--device", "cpu", "--json", &sample]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let written = plan["tokens"].as_array().unwrap().len();
    assert_eq!(line["tokens"], json!(written + 1), "{line} {plan}");
    place.refused(
        &["bench", "--audio", &sample, "--seconds", "3"],
        &["--audio", "--seconds"],
    );

    place.refused(
        &["bench", "--preset", "no-such"],
        &["whisper-tiny (37.8M)", "fama-medium"],
    );
    place.refused(
        &["bench", "--preset", "s2t-small", "--seconds", "100"],
        &["100 s", "60 s", "s2t-small"],
    );
}
