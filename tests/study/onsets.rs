//! True onsets in the study as its users meet them, with the embedded model
//! on sounds whose onsets are known.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::command::printed;
use serde_json::Value;

const ONSETS: &str = "test-sets/en/words.jsonl";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A manifest of four sounds, of which one is translated and one has no
    /// onsets.
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let sound = |name: &str| {
            let path = fs::canonicalize("test-sets/en").unwrap();
            path.join(format!("held_out-{name}.flac"))
        };
        let mut lines = vec!["id\taudio\ttgt_text\tsrc_lang\ttgt_lang".to_owned()];
        for (id, number, target) in [
            ("held_out-00007", "00007", "en"),
            ("held_out-00017", "00017", "en"),
            ("held_out-00006", "00006", "it"),
            ("unknown", "00013", "en"),
        ] {
            lines.push(format!(
                "{id}\t{}\tx\ten\t{target}",
                sound(number).display()
            ));
        }
        fs::write(place.path("list.tsv"), lines.join("\n")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, out: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .arg("study")
            .arg(self.path("list.tsv"))
            .args(["--device", "cpu", "--masks", "48", "--out"])
            .arg(self.path(out))
            .args(more)
            .output()
            .unwrap()
    }

    fn tables(&self, out: &str) -> [Vec<u8>; 2] {
        let read = |name| fs::read(self.path(out).join(name)).unwrap();
        ["tables.json", "tables.csv"].map(read)
    }

    /// Lines of the log behind its header, by id.
    fn onsets(&self, out: &str) -> Vec<(String, Value)> {
        let log = fs::read_to_string(self.path(out).join("base-en.jsonl")).unwrap();
        let records = log.lines().skip(1);
        let records = records.map(|line| serde_json::from_str::<Value>(line).unwrap());
        records
            .map(|record| {
                (
                    record["id"].as_str().unwrap().into(),
                    record["onsets"].clone(),
                )
            })
            .collect()
    }
}

fn ok(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn maps_are_scored_against_true_onsets() {
    let place = Place::new();
    let output = place.run("out", &["--onsets", ONSETS, "--json"]);
    ok(&output);
    let onsets = place.onsets("out");
    let scored: Vec<&str> = onsets
        .iter()
        .filter(|(_, onsets)| !onsets.is_null())
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(scored, ["held_out-00007", "held_out-00017"]);
    let mut words = 0;
    for (_, onsets) in &onsets[..2] {
        let matched = onsets["matched"].as_u64().unwrap();
        // The model knows these sentences but for a word or two.
        assert!(2 * matched > onsets["spoken"].as_u64().unwrap());
        words += matched;
        let maps = onsets["maps"].as_object().unwrap();
        let names: Vec<&str> = maps.keys().map(String::as_str).collect();
        let wanted = [
            "attention",
            "attention-norm",
            "attention-x-gradient",
            "even",
            "gradient.encoder",
            "gradient.input",
            "spes.encoder",
            "spes.input",
        ];
        assert_eq!(names, wanted);
        let heads = onsets["heads"].as_array().unwrap().iter();
        let heads = heads.flat_map(|layer| layer.as_array().unwrap());
        let layers = onsets["layers"].as_array().unwrap();
        assert_eq!((layers.len(), heads.clone().count()), (3, 12));
        for score in maps.values().chain(layers).chain(heads) {
            let errors = score["errors_ms"].as_array().unwrap();
            assert_eq!(errors.len() as u64, matched);
            assert!(score["hits"].as_u64().unwrap() <= matched);
        }
    }

    let tables = printed(&output);
    let rows = tables["rows"].as_array().unwrap();
    let row = |map: &str, statistic: &str, part: &str| {
        let of = |row: &&Value| {
            row["map"] == map && row["statistic"] == statistic && row["attention"] == part
        };
        let row = rows.iter().find(of);
        let row = row.unwrap_or_else(|| panic!("{map} {statistic} {part}"));
        assert_eq!(row["direction"], "en-en");
        assert_eq!(row["utterances"], 2);
        let [low, mean, high] = ["low", "mean", "high"].map(|k| row[k].as_f64().unwrap());
        assert!(low <= mean && mean <= high, "{map} {statistic} {part}");
        mean
    };
    // By hand from the log: all words of both utterances together.
    let errors = |map: &str| -> Vec<f64> {
        let maps = onsets[..2].iter().map(|(_, onsets)| &onsets["maps"][map]);
        let errors = maps.flat_map(|own| own["errors_ms"].as_array().unwrap());
        errors.map(|ms| ms.as_f64().unwrap()).collect()
    };
    for (map, part) in [("attention", "all"), ("spes.input", ""), ("even", "")] {
        let signed = errors(map);
        let n = signed.len();
        assert_eq!(n as u64, words);
        let mean = signed.iter().sum::<f64>() / n as f64 / 1e3;
        assert!((row(map, "onset error, signed mean", part) - mean).abs() <= 1e-12);
        let mut errors: Vec<f64> = signed.iter().map(|ms| ms.abs()).collect();
        errors.sort_by(f64::total_cmp);
        let mean = errors.iter().sum::<f64>() / n as f64 / 1e3;
        assert!((row(map, "onset error, mean", part) - mean).abs() <= 1e-12);
        let median = (errors[(n - 1) / 2] + errors[n / 2]) / 2e3;
        assert!((row(map, "onset error, median", part) - median).abs() <= 1e-12);
        for near in [50.0, 100.0, 200.0] {
            let share = errors.iter().filter(|&&ms| ms <= near).count() as f64 / n as f64;
            let got = row(map, &format!("onset within {near} ms"), part);
            assert!((got - 100.0 * share).abs() <= 1e-9);
        }
        assert!((0.0..=100.0).contains(&row(map, "pointing game", part)));
    }
    // Two utterances are two folds: each is scored by the head that is best
    // on the other.
    let head_errors = |utterance: usize, l: usize, h: usize| -> Vec<f64> {
        let own = &onsets[utterance].1["heads"][l][h]["errors_ms"];
        let own = own.as_array().unwrap().iter();
        own.map(|ms| ms.as_f64().unwrap().abs()).collect()
    };
    let places = || (0..3).flat_map(|l| (0..4).map(move |h| (l, h)));
    let best = |utterance: usize| {
        let mean = |&(l, h): &(usize, usize)| {
            let errors = head_errors(utterance, l, h);
            errors.iter().sum::<f64>() / errors.len() as f64
        };
        places().min_by(|a, b| mean(a).total_cmp(&mean(b))).unwrap()
    };
    let chosen = [best(1), best(0)];
    let all = (0..2).flat_map(|n| head_errors(n, chosen[n].0, chosen[n].1));
    let mean = all.sum::<f64>() / words as f64 / 1e3;
    let got = row("attention", "onset error, mean", "best head by onset error");
    assert!((got - mean).abs() <= 1e-12, "{got} {mean}");
    for by in ["spes.encoder", "spes.input", "gradient.encoder"] {
        row("attention", "pointing game", &format!("best head by {by}"));
    }
    assert!((0.0..=100.0).contains(&row("", "onset words matched", "")));
    let translated = rows.iter().filter(|row| row["direction"] == "en-it");
    for row in translated {
        assert!(!row["statistic"].as_str().unwrap().starts_with("onset"));
    }
}

#[test]
fn shards_and_stopped_runs_end_alike() {
    let place = Place::new();
    let onsets = ["--onsets", ONSETS, "--method", "spes"];
    let with = |more: &[&'static str]| [&onsets[..], more].concat();
    ok(&place.run("whole", &with(&["--limit", "2"])));
    ok(&place.run("stopped", &with(&["--limit", "1"])));
    ok(&place.run("stopped", &with(&["--limit", "2"])));
    let logs = ["whole", "stopped"].map(|out| fs::read(place.path(out).join("base-en.jsonl")));
    let [whole, stopped] = logs.map(Result::unwrap);
    assert_eq!(whole, stopped);
    ok(&place.run("first", &with(&["--limit", "2", "--shard", "1/2"])));
    ok(&place.run("second", &with(&["--limit", "2", "--shard", "2/2"])));
    let output = Command::new(env!("CARGO_BIN_EXE_sonograd"))
        .args(["study", "--tables"])
        .args(["second", "first"].map(|out| place.path(out)))
        .output()
        .unwrap();
    ok(&output);
    assert_eq!(place.tables("second"), place.tables("whole"));
    // A log without onsets is another study.
    let output = place.run("whole", &["--method", "spes"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("other settings"), "{message}");
}

#[test]
fn bad_onset_files_are_refused_before_the_work() {
    let place = Place::new();
    fs::write(
        place.path("bad.jsonl"),
        "{\"id\": \"a\", \"words\": []}\n{\"id\": 1}\n",
    )
    .unwrap();
    let refused = |file: &str, words: &str| {
        let file = place.path(file);
        let output = place.run("out", &["--onsets", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(words), "{message}");
        assert!(!place.path("out").exists());
    };
    refused("bad.jsonl", "line 2");
    refused("absent.jsonl", "absent.jsonl");
    // Without it nothing is scored.
    let plain = ["--limit", "1", "--method", "spes"];
    ok(&place.run("plain", &plain));
    let log = fs::read_to_string(place.path("plain/base-en.jsonl")).unwrap();
    assert!(!log.contains("onsets"));
    // Onsets of other utterances are no error, but said.
    fs::write(
        place.path("other.jsonl"),
        "{\"id\": \"a\", \"words\": []}\n",
    )
    .unwrap();
    let other = place.path("other.jsonl");
    let onsets = ["--onsets", other.to_str().unwrap()];
    let output = place.run("other", &[&plain[..], &onsets].concat());
    ok(&output);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("warning: none of the utterances"),
        "{message}"
    );
}
