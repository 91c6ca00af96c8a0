//! Nothing lost, nothing mixed: what a study's log is about, who may write it,
//! what is found before the long work.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::random_model::{self, HEARING, tone, write_wav};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A model and a manifest of four sounds.
    fn new() -> Self {
        let folder = random_model::place();
        let place = Self { folder };
        for n in 0..4 {
            write_wav(&place.path(&format!("{n}.wav")), &tone(5_000 + 700 * n));
        }
        place.list("list.tsv", 4);
        place
    }

    fn list(&self, name: &str, count: usize) {
        let mut lines = vec!["id\taudio\tn_frames\ttgt_text\tspeaker\tsrc_lang\ttgt_lang".into()];
        lines.extend((0..count).map(|n| format!("u{n}\t{n}.wav\t30\tsome words\tx\ten\ten")));
        fs::write(self.path(name), lines.join("\n")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sonograd"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    fn arguments<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let usual = [
            "study", "list.tsv", "--device", "cpu", "--method", "gradient",
        ];
        let mut all = usual.to_vec();
        if !more.contains(&"--model") {
            all.extend(["--model", "model"]);
        }
        if !more.contains(&"--out") {
            all.extend(["--out", "out"]);
        }
        all.extend(more);
        all
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(&self.arguments(more)).output().unwrap()
    }

    fn done(&self, more: &[&str]) {
        let output = self.run(more);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    /// The one line with which it stops before a device is opened.
    fn refused(&self, more: &[&str], words: &[&str]) -> String {
        refusal(&self.run(more), words)
    }

    /// The lines of a log, the first one without.
    fn records(&self, log: &str) -> Vec<Value> {
        let text = self.read(log);
        let lines = text.lines().skip(1);
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn refusal(output: &Output, words: &[&str]) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!said.contains("device: "), "{said}");
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{said}");
    for words in words {
        assert!(errors[0].contains(words), "{words}: {said}");
    }
    errors[0].to_owned()
}

#[test]
fn another_model_under_the_same_name_is_found() {
    let place = Place::new();
    place.done(&["--limit", "2"]);
    let before = place.read("out/model.jsonl");
    let weights = place.path("model/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    // One value of one weight.
    let mut tensors = random_model::tensors(HEARING);
    let last = tensors.last_mut().unwrap().data.last_mut().unwrap();
    *last = f32::from_bits(last.to_bits() ^ 1);
    random_model::write_tensors(&weights, &tensors, Dtype::F32);
    place.refused(
        &[],
        &["out/model.jsonl: ", "other weights of the model", "--out"],
    );
    fs::write(&weights, &whole).unwrap();
    for (file, words) in [
        ("config.json", "another config.json of the model"),
        ("tokenizer.json", "another tokenizer.json of the model"),
    ] {
        let path = place.path("model").join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"\n"].concat()).unwrap();
        place.refused(&[], &["model.jsonl: ", words]);
        fs::write(&path, whole).unwrap();
    }
    fs::write(
        place.path("model/generation_config.json"),
        "{\"num_beams\": 2}",
    )
    .unwrap();
    place.refused(
        &[],
        &["no generation_config.json of the model, which is there now"],
    );
    fs::remove_file(place.path("model/generation_config.json")).unwrap();
    assert_eq!(place.read("out/model.jsonl"), before, "nothing is added");
    // Other parts of the same study do not mix either.
    fs::remove_dir_all(place.path("out")).unwrap();
    place.done(&["--shard", "1/2"]);
    random_model::write_tensors(&weights, &tensors, Dtype::F32);
    let words = ["model.1-of-2.jsonl: ", "same model", "other weights"];
    place.refused(&["--shard", "2/2"], &words);
    fs::write(&weights, &whole).unwrap();
    place.done(&["--shard", "2/2"]);
    assert!(!place.read("out/tables.json").contains("weights"));
}

#[test]
fn other_settings_are_named_with_old_and_new_value() {
    let place = Place::new();
    let onsets = |seconds: f64| {
        let words = json!([{"word": "some", "onset_seconds": seconds}]);
        let line = json!({"id": "u0", "words": words}).to_string();
        fs::write(place.path("words.jsonl"), line).unwrap();
    };
    onsets(0.125);
    let usual = ["--onsets", "words.jsonl", "--limit", "1"];
    place.done(&[&usual[..], &["--seed", "3"]].concat());
    let seed = "other settings: seed 3, here 0 (--seed);";
    place.refused(&usual, &["out/model.jsonl: ", seed]);
    let other = [
        &usual[..],
        &["--seed", "3", "--normalise", "map", "--beam", "2"],
    ]
    .concat();
    let beams =
        "beams as the model has it, here 2 (--beam), normalisation token, here map (--normalise)";
    place.refused(&other, &[beams]);
    onsets(0.25);
    place.refused(
        &[&usual[..], &["--seed", "3"]].concat(),
        &["other true onsets (--onsets)"],
    );
    onsets(0.125);
    place.done(&[&usual[..], &["--seed", "3"]].concat());
    // What an earlier version began may be of anything.
    let log = place.read("out/model.jsonl");
    let mut header: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    header.as_object_mut().unwrap().remove("about");
    let rest = log.split_once('\n').unwrap().1;
    fs::write(place.path("out/model.jsonl"), format!("{header}\n{rest}")).unwrap();
    place.refused(
        &[&usual[..], &["--seed", "3"]].concat(),
        &["no note of the model's weights"],
    );
    let tables = place
        .command(&["study", "--tables", "out"])
        .output()
        .unwrap();
    assert_eq!(tables.status.code(), Some(0), "{tables:?}");
}

#[test]
fn another_sound_or_text_of_the_same_id_is_found() {
    let place = Place::new();
    place.done(&["--limit", "2"]);
    let log = place.read("out/model.jsonl");
    let sound = fs::read(place.path("1.wav")).unwrap();
    write_wav(&place.path("1.wav"), &tone(5_500));
    place.refused(
        &[],
        &["model.jsonl: line 3 (utterance u1) is of another sound than 1.wav"],
    );
    fs::write(place.path("1.wav"), sound).unwrap();
    let list = place.read("list.tsv");
    fs::write(
        place.path("list.tsv"),
        list.replacen("some words", "other words", 1),
    )
    .unwrap();
    place.refused(
        &[],
        &["model.jsonl: line 2 (utterance u0) is of another text"],
    );
    // What the message says to do helps.
    let lines: Vec<&str> = log.lines().collect();
    let left = [lines[0], lines[2], ""].join("\n");
    fs::write(place.path("out/model.jsonl"), left).unwrap();
    place.done(&[]);
    let ids: Vec<String> = place
        .records("out/model.jsonl")
        .iter()
        .map(|own| own["id"].to_string())
        .collect();
    assert_eq!(ids, ["\"u1\"", "\"u0\"", "\"u2\"", "\"u3\""]);
}

/// A run that goes on until it is killed.
struct Running(Child);

impl Running {
    /// Begins one, and waits until it has the place of `log`.
    fn new(place: &Place, log: &str, more: &[&str]) -> Self {
        let long = ["--method", "spes,gradient", "--masks", "20000"];
        let mut arguments = place.arguments(more);
        arguments.retain(|own| !["--method", "gradient"].contains(own));
        arguments.extend(long);
        let mut command = place.command(&arguments);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Self(child);
        let begin = Instant::now();
        while !place.path(&format!("out/{log}.lock")).exists() {
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_run_that_would_write_the_same_log_stops_at_once() {
    let place = Place::new();
    let running = Running::new(&place, "model.jsonl", &[]);
    place.refused(&[], &["out/model.jsonl: another run is writing it"]);
    // A part of what it does, too, though it has no line yet.
    place.refused(
        &["--shard", "1/2"],
        &[
            "out/model.jsonl: is the whole of model's study",
            "part 1 of 2",
        ],
    );
    // Another model's study, and tables, are nobody's business.
    place
        .command(&["study", "--tables", "out"])
        .output()
        .unwrap();
    place.done(&["--model", "model", "--out", "other"]);
    drop(running);
    // What a killed process leaves keeps nobody.
    assert!(place.path("out/model.jsonl.lock").exists());
    let log = place.read("other/model.jsonl");
    let _ = fs::remove_file(place.path("out/model.jsonl"));
    place.done(&[]);
    assert_eq!(place.read("out/model.jsonl"), log);
    let names = fs::read_dir(place.path("out")).unwrap();
    let mut names: Vec<_> = names.map(|own| own.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "model.jsonl",
            "report.html",
            "summary.txt",
            "tables.csv",
            "tables.json"
        ]
    );
}

#[test]
fn parts_of_one_study_are_done_in_one_folder_at_the_same_time() {
    let place = Place::new();
    place.done(&["--out", "whole"]);
    let begin = |shard: &'static str| {
        let mut command = place.command(&place.arguments(&["--shard", shard]));
        command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let parts = ["1/3", "2/3", "3/3"].map(begin);
    for part in parts {
        let output = part.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    // Whoever ended last saw all of them.
    for name in ["tables.json", "tables.csv", "summary.txt", "report.html"] {
        assert_eq!(
            place.read(&format!("out/{name}")),
            place.read(&format!("whole/{name}"))
        );
    }
    let other = "out/model.1-of-3.jsonl: is part 1 of 3 of model's study";
    place.refused(&["--shard", "1/2"], &[other, "part 1 of 2"]);
    place.refused(&[], &[other, "the whole", "--shard 1/3"]);
    place.refused(
        &["--out", "whole", "--shard", "1/2"],
        &["whole/model.jsonl: is the whole"],
    );
    // The same part of a longer list would do some of another part's again.
    let list = place.read("list.tsv");
    let (head, rest) = list.split_once('\n').unwrap();
    fs::write(
        place.path("list.tsv"),
        format!("{head}\nnew\t0.wav\t1\tx\tx\ten\ten\n{rest}"),
    )
    .unwrap();
    place.refused(
        &["--shard", "2/3"],
        &["out/model.1-of-3.jsonl: has utterance u0 of en-en already"],
    );
}

#[test]
fn what_cannot_end_well_is_found_before_the_first_model() {
    let place = Place::new();
    let put = |name: &str, text: &str| {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        fs::write(place.path(name), text).unwrap();
    };
    // Files of others, by name; they stay as they are.
    for (name, text) in [
        ("foreign/notes.jsonl", "{\"my\": \"notes\"}\n"),
        ("unfinished/model.jsonl", "my notes"),
        ("tables/tables.csv", "a,b\n1,2\n"),
        (
            "page/report.html",
            "<!doctype html>\n<html lang=\"en\">\n<p>mine",
        ),
        ("json/tables.json", "{}"),
        ("page/tables.csv/x", ""),
    ] {
        put(name, text);
        let (out, _) = name.split_once('/').unwrap();
        place.refused(&["--out", out, "--model", "absent"], &[out, "--out"]);
        assert_eq!(place.read(name), text);
    }
    // A page of this program, but not a study's.
    let explain = [
        "explain",
        "0.wav",
        "--method",
        "attention",
        "--model",
        "model",
    ];
    let explain = [&explain[..], &["--device", "cpu", "--out", "page2"]].concat();
    assert!(place.command(&explain).output().unwrap().status.success());
    place.refused(
        &["--out", "page2"],
        &["page2/report.html", "does not show that sonograd wrote it"],
    );
    // An empty file is nobody's.
    put("empty/tables.csv", "");
    place.done(&["--out", "empty", "--limit", "1"]);
    place.refused(&["--model", "model", "absent"], &["absent"]);
    place.refused(
        &["--model", "model", "./model"],
        &["two models have the name model"],
    );
    assert!(!place.path("out/model.jsonl").exists());
    place.refused(&["--out", "list.tsv"], &["list.tsv"]);
    #[cfg(target_os = "linux")]
    place.refused(
        &["--out", "/proc/self", "--model", "absent"],
        &["/proc/", "nothing can be written"],
    );
    // The second of two models is looked at before the first has begun.
    random_model::write_folder(&place.path("broken"), HEARING);
    fs::write(place.path("broken/tokenizer.json"), "[]").unwrap();
    place.refused(&["--model", "model", "broken"], &["broken/tokenizer.json"]);
    assert!(!place.path("out/model.jsonl").exists());
}

/// Nothing waits for somebody to read what this program puts into its folder.
#[test]
#[cfg(target_os = "linux")]
fn pipes_under_names_of_the_program_are_refused() {
    let place = Place::new();
    for name in ["tables.csv", "model.jsonl", "model.jsonl.lock"] {
        let out = place.path(&format!("of-{name}"));
        fs::create_dir(&out).unwrap();
        let made = Command::new("mkfifo").arg(out.join(name)).status();
        assert!(made.unwrap().success());
        let folder = out.to_str().unwrap();
        place.refused(&["--out", folder], &[name]);
    }
}

/// A model's word errors are not zero because nobody said what it should write.
#[test]
fn utterances_without_a_text_are_left_out_of_error_rates() {
    let place = Place::new();
    let lines = |texts: &[&str]| {
        let lines = texts.iter().enumerate();
        let lines: Vec<String> = lines
            .map(|(n, text)| {
                json!({"audio_filepath": format!("{n}.wav"), "text": text, "lang": "en"})
                    .to_string()
            })
            .collect();
        fs::write(place.path("list.tsv"), lines.join("\n")).unwrap();
    };
    let rates = |out: &str| {
        let output = place.run(&["--out", out, "--faithfulness"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let table = place.read(&format!("{out}/tables.csv"));
        let rate = |line: &&str| line.contains(",word error rate,") || line.contains("bleu");
        let rates: Vec<String> = table.lines().filter(rate).map(str::to_owned).collect();
        let said = String::from_utf8(output.stderr).unwrap();
        (rates, said.contains("1 utterances have no text"))
    };
    lines(&["some words", ""]);
    let (both, warned) = rates("both");
    assert!(warned && !both.is_empty());
    lines(&["some words"]);
    let (one, warned) = rates("one");
    assert!(!warned);
    let written = |rows: &[String]| {
        let found = rows.iter().find(|row| row.contains(",,word error rate,"));
        found.unwrap().clone()
    };
    assert_eq!(written(&both), written(&one));
    lines(&[""]);
    let (none, warned) = rates("none");
    assert!(warned);
    assert_eq!(none, Vec::<String>::new());
}

/// Whether such lines are of the same sounds cannot be known.
#[test]
fn lines_and_logs_that_do_not_say_what_they_are_of_are_not_gone_on_with() {
    let place = Place::new();
    place.done(&["--limit", "1"]);
    let log = place.read("out/model.jsonl");
    let (header, record) = log.split_once('\n').unwrap();
    let mut without: Value = serde_json::from_str(record).unwrap();
    without.as_object_mut().unwrap().remove("given");
    let change = |from: &str, to: &str| header.replacen(from, to, 1);
    for (header, record, words) in [
        (
            header.to_owned(),
            without.to_string(),
            "line 2 (utterance u0)",
        ),
        (
            change("\"version\":2", "\"version\":99"),
            record.to_owned(),
            "has version 99; this program reads version 2",
        ),
        (
            change("\"weights\":", "\"words\":\"x\",\"weights\":"),
            record.to_owned(),
            "unknown field `words`",
        ),
    ] {
        fs::write(
            place.path("out/model.jsonl"),
            format!("{header}\n{record}\n"),
        )
        .unwrap();
        let line = place.refused(&["--limit", "2"], &[words]);
        assert!(!line.contains("is no log"), "{line}");
    }
    fs::write(place.path("file"), "mine").unwrap();
    place.refused(&["--out", "file"], &["file: is no folder"]);
}

#[test]
#[cfg(unix)]
fn a_folder_that_is_a_link_is_followed() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    fs::create_dir(place.path("real")).unwrap();
    symlink("real", place.path("link")).unwrap();
    symlink("new", place.path("ahead")).unwrap();
    for (link, real) in [("link", "real"), ("ahead", "new")] {
        place.done(&["--out", link, "--limit", "1"]);
        assert!(place.path(link).is_symlink());
        assert!(place.path(real).join("model.jsonl").is_file());
        assert!(place.path(real).join("tables.csv").is_file());
    }
}

#[test]
fn nothing_to_do_is_said_and_no_success() {
    let place = Place::new();
    place.refused(
        &["--shard", "5/5"],
        &["nothing to do", "none of 4 utterances", "part 5 of 5"],
    );
    let generation = place.path("model/generation_config.json");
    fs::write(&generation, r#"{"directions": ["en-it"]}"#).unwrap();
    let said = [
        "nothing to do",
        "model was made for none",
        "(en-en)",
        "src_lang",
    ];
    place.refused(&[], &said);
    // NeMo's lines may have no languages at all.
    let line = json!({"audio_filepath": "0.wav", "text": "x", "duration": 0.25});
    fs::write(place.path("list.tsv"), line.to_string()).unwrap();
    place.refused(&[], &["nothing to do", "(---)", "source_lang"]);
    for text in ["", "\n\n", "id\taudio\ttgt_text\n"] {
        fs::write(place.path("list.tsv"), text).unwrap();
        place.refused(&[], &["list.tsv: "]);
    }
    assert!(!place.path("out/model.jsonl").exists());
}

/// A part of a file gives what a file with that part alone gives.
#[test]
fn parts_of_a_recording_are_utterances() {
    let place = Place::new();
    let whole = tone(16_000);
    write_wav(&place.path("whole.wav"), &whole);
    let parts = [(0, 6_000), (6_000, 4_800), (8_000, 8_000)];
    let mut alone = vec!["id\taudio\ttgt_text".to_owned()];
    let mut fairseq = alone.clone();
    let mut nemo = Vec::new();
    for (n, (offset, count)) in parts.into_iter().enumerate() {
        let name = format!("alone{n}.wav");
        write_wav(&place.path(&name), &whole[offset..offset + count]);
        alone.push(format!("{n}\t{name}\tx"));
        fairseq.push(format!("{n}\twhole.wav:{offset}:{count}\tx"));
        let [offset, count] = [offset, count].map(|own| own as f64 / 16_000.0);
        let line = json!({"audio_filepath": "whole.wav", "offset": offset, "duration": count,
            "text": "x", "id": n});
        nemo.push(line.to_string());
    }
    let numbers = |lines: &[String], out: &str| -> Vec<Value> {
        fs::write(place.path("list.tsv"), lines.join("\n")).unwrap();
        place.done(&["--out", out]);
        let mut records = place.records(&format!("{out}/model.jsonl"));
        for record in &mut records {
            assert!(record["given"]["sound"].is_string());
            record.as_object_mut().unwrap().remove("given");
        }
        records
    };
    let right = numbers(&alone, "alone");
    assert_eq!(right.len(), 3);
    assert_ne!(right[0]["frames"], right[1]["frames"]);
    assert_eq!(numbers(&fairseq, "fairseq"), right);
    assert_eq!(numbers(&nemo, "nemo"), right);
    // A part behind the end is that utterance's failure, by its line.
    nemo[1] = nemo[1].replace("0.375", "1.375");
    fs::write(place.path("list.tsv"), nemo.join("\n")).unwrap();
    let output = place.run(&["--out", "behind"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = place.records("behind/model.jsonl")[1]["error"].to_string();
    assert!(
        error.contains("behind its end") && error.contains("line 2 of the manifest"),
        "{error}"
    );
}

#[test]
fn onsets_behind_the_end_are_refused_by_line() {
    let place = Place::new();
    let words = |seconds: f64| json!([{"word": "a", "onset_seconds": seconds}]);
    let lines = [("7", 0.1), ("8", 0.3)].map(|(id, own)| {
        json!({"id": id.parse::<u32>().unwrap(), "words": words(own)}).to_string()
    });
    fs::write(
        place.path("words.jsonl"),
        format!("\u{feff}{}", lines.join("\n")),
    )
    .unwrap();
    let nemo = |id: u32, duration: Value| {
        json!({"audio_filepath": "0.wav", "id": id, "duration": duration, "lang": "en"}).to_string()
    };
    let more = ["--onsets", "words.jsonl"];
    // Known from the manifest: before the work.
    let list = [nemo(7, json!(0.25)), nemo(8, json!(0.25))].join("\n");
    fs::write(place.path("list.tsv"), list).unwrap();
    place.refused(
        &more,
        &[
            "words.jsonl: line 2: \"a\" begins at 0.3 s",
            "utterance 8",
            "0.250 s",
        ],
    );
    // Else when the sound is heard: the others are done.
    write_wav(&place.path("0.wav"), &tone(4_000));
    fs::write(
        place.path("list.tsv"),
        [nemo(7, json!(null)), nemo(8, json!(null))].join("\n"),
    )
    .unwrap();
    let output = place.run(&more);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let records = place.records("out/model.jsonl");
    assert!(records[0]["onsets"].is_object(), "{}", records[0]);
    let error = records[1]["error"].to_string();
    assert!(error.contains("words.jsonl: line 2"), "{error}");
}

/// What is odd about a sound stands with what was computed of it, also where
/// that failed.
#[test]
fn warnings_stand_in_the_record() {
    let place = Place::new();
    write_wav(&place.path("1.wav"), &[0.0; 5_000]);
    let bytes = fs::read(place.path("2.wav")).unwrap();
    fs::write(place.path("2.wav"), [&bytes[..], b"surplus!"].concat()).unwrap();
    place.run(&["--limit", "3"]);
    let records = place.records("out/model.jsonl");
    assert_eq!(records[0].get("warnings"), None);
    for (record, words) in [(&records[1], "silent"), (&records[2], "8 bytes behind")] {
        let own = record["warnings"][0].as_str().unwrap();
        assert!(own.contains(words), "{record}");
    }
}

/// How often what is killed at random moments is killed.
fn kills(usual: usize) -> usize {
    let wanted = std::env::var("SONOGRAD_TEST_KILLS");
    wanted
        .ok()
        .and_then(|own| own.parse().ok())
        .unwrap_or(usual)
}

/// Random moments within some time, always the same.
fn moments(within: Duration) -> impl Iterator<Item = Duration> {
    let shares = random_model::numbers(77, 4_096);
    shares
        .into_iter()
        .map(move |x| within.mul_f32((x + 1.0) / 2.0))
}

/// Starts a command, kills it some time after something `begins`, and says
/// whether it had ended.
fn killed(mut command: Command, moment: Duration, begins: impl Fn() -> bool) -> bool {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    while !begins() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(moment);
    let ended = child.try_wait().unwrap().is_some();
    if !ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    if ended {
        assert!(status.success(), "{status:?}");
    }
    ended
}

/// Whatever moment a run is killed at, going on gives the log of a run that was
/// not: no utterance lost, none doubled, byte for byte.
#[test]
fn killed_at_random_moments_the_log_is_the_same() {
    let place = Place::new();
    let begin = Instant::now();
    place.done(&["--out", "undisturbed"]);
    let whole = begin.elapsed();
    let right = place.read("undisturbed/model.jsonl");
    let wanted = kills(12);
    let (mut done, mut rounds, mut inside) = (0, 0, 0);
    let mut moments = moments(whole);
    while done < wanted {
        rounds += 1;
        let _ = fs::remove_dir_all(place.path("out"));
        // Until one comes to its end by itself, or nothing is left to do.
        while done < wanted
            && !killed(
                place.command(&place.arguments(&[])),
                moments.next().unwrap(),
                || true,
            )
        {
            done += 1;
            let there = fs::read_to_string(place.path("out/model.jsonl")).unwrap_or_default();
            assert!(right.starts_with(&there), "after {done} kills");
            inside += usize::from(!there.is_empty() && there.len() < right.len());
        }
        place.done(&[]);
        assert_eq!(place.read("out/model.jsonl"), right, "after {done} kills");
        assert_eq!(
            place.read("out/tables.json"),
            place.read("undisturbed/tables.json")
        );
    }
    println!("{done} kills in {rounds} studies, {inside} of them with a part of the log written");
}

/// Whatever moment it is killed at, the folder of an explanation is the old one
/// or the new one, and whole.
#[test]
fn killed_at_random_moments_an_explanation_is_whole_or_absent() {
    let place = Place::new();
    let explain = |sound: &'static str| {
        let usual = [
            "explain", "--model", "model", "--device", "cpu", "--out", "out",
        ];
        place.command(
            &[
                &usual[..],
                &[
                    "--method",
                    "gradient,attention,smoothgrad",
                    "--samples",
                    "2",
                    sound,
                ],
            ]
            .concat(),
        )
    };
    // Long to write.
    for name in ["0.wav", "1.wav"] {
        write_wav(&place.path(name), &tone(30_000));
    }
    let begin = Instant::now();
    assert!(explain("0.wav").output().unwrap().status.success());
    let whole = begin.elapsed();
    fs::remove_dir_all(place.path("out")).unwrap();
    let is_writing = || {
        let names = fs::read_dir(place.folder.path()).unwrap();
        let own = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with(".sonograd-") && entry.path().is_dir()
        };
        names.filter_map(Result::ok).any(|entry| own(&entry))
    };
    let wanted = kills(12);
    let [mut absent, mut old, mut new, mut done, mut writing] = [0; 5];
    let mut before: Option<String> = None;
    for (n, moment) in moments(whole).enumerate() {
        if done == wanted {
            break;
        }
        // Every fifth begins with nothing there.
        if n % 5 == 0 {
            let _ = fs::remove_dir_all(place.path("out"));
            before = None;
        }
        let sound = ["0.wav", "1.wav"][n % 2];
        // The others find an explanation of the other sound.
        if n % 5 == 1 {
            let other = ["1.wav", "0.wav"][n % 2];
            assert!(explain(other).output().unwrap().status.success());
            before = Some(other.into());
        }
        let ended = match n % 4 {
            0 => killed(explain(sound), moment, || true),
            // Most of them where it is written: that takes far less time.
            _ => killed(explain(sound), moment.mul_f32(0.08), is_writing),
        };
        done += usize::from(!ended);
        // Half a folder has another name, and goes.
        let begun = is_writing();
        writing += usize::from(!ended && begun);
        for entry in fs::read_dir(place.folder.path()).unwrap() {
            let entry = entry.unwrap();
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(".sonograd-")
            {
                let _ = fs::remove_dir_all(entry.path());
                let _ = fs::remove_file(entry.path());
            }
        }
        if !place.path("out").exists() {
            assert_eq!(before, None, "what was there is gone");
            absent += 1;
            continue;
        }
        let maps = sonograd::explain::Maps::open(place.path("out")).unwrap();
        let page = place.read("out/report.html");
        assert!(page.trim_end().ends_with("</html>"));
        let now = maps.explanation().audio.file.clone();
        assert!(page.contains(&now));
        match now == sound {
            true => new += 1,
            false => old += 1,
        }
        before = Some(now);
    }
    println!(
        "{done} kills, {writing} of them within the writing: {absent} times no folder, {old} times \
         the old one, {new} times the new one"
    );
}
