//! The study as its users meet it: logs, tables, kills, shards, bad
//! utterances.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::random_model::{self, tone, write_wav};
use serde_json::Value;
use sonograd::study::tables::{COLUMNS, Tables};

/// With the default methods.
const SETTINGS: [&str; 4] = ["--masks", "200", "--seed", "3"];

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A model and a manifest of six sounds of different lengths.
    fn new() -> Self {
        let folder = random_model::place();
        let place = Self { folder };
        let mut lines = vec!["id\taudio\tn_frames\ttgt_text\tspeaker\tsrc_lang\ttgt_lang".into()];
        for n in 0..6 {
            let name = format!("{n}.wav");
            write_wav(&place.path(&name), &tone(5_000 + 700 * n));
            let target = ["en", "it"][n % 2];
            lines.push(format!("u{n}\t{name}\t30\tsome words\tx\ten\t{target}"));
        }
        fs::write(place.path("list.tsv"), lines.join("\n")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, manifest: &str, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sonograd"));
        command
            .args(["study", manifest, "--model", "model", "--device", "cpu"])
            .args(["--out", out])
            .args(SETTINGS)
            .args(more)
            .current_dir(self.folder.path());
        command
    }

    fn run(&self, manifest: &str, out: &str, more: &[&str]) -> Output {
        self.command(manifest, out, more).output().unwrap()
    }

    fn tables(&self, out: &str) -> [Vec<u8>; 3] {
        let names = ["tables.json", "tables.csv", "report.html"];
        names.map(|name| fs::read(self.path(out).join(name)).unwrap())
    }
}

/// The tables that were printed. All that they say has a type, and is written
/// from it as it was.
pub fn printed(output: &Output) -> Value {
    let tables: Value = serde_json::from_slice(&output.stdout).unwrap();
    let typed: Tables = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), tables);
    tables
}

fn ok(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn tables_hold_every_head_layer_and_average() {
    let place = Place::new();
    let output = place.run("list.tsv", "out", &["--json"]);
    ok(&output);
    let tables = printed(&output);
    let rows = tables["rows"].as_array().unwrap();
    let find = |direction: &str, map: &str, statistic: &str, attention: &str| {
        rows.iter().find(|row| {
            row["direction"] == direction
                && row["map"] == map
                && row["statistic"] == statistic
                && row["attention"] == attention
        })
    };
    for direction in ["en-en", "en-it"] {
        for map in [
            "spes.input",
            "spes.encoder",
            "gradient.input",
            "gradient.encoder",
        ] {
            for statistic in ["pearson", "spearman", "kendall"] {
                let mut views = vec!["all".to_owned()];
                views.extend((1..=2).map(|l| format!("layer {l}")));
                views.extend((1..=3).map(|h| format!("head {h} of all layers")));
                let heads = (1..=2).flat_map(|l| (1..=3).map(move |h| (l, h)));
                views.extend(heads.map(|(l, h)| format!("layer {l} head {h}")));
                let weighted = ["norm-weighted", "gradient-weighted"]
                    .iter()
                    .flat_map(|kind| views.iter().map(move |view| format!("{kind} {view}")));
                let weighted: Vec<String> = weighted.collect();
                views.extend(weighted);
                for view in views {
                    let row = find(direction, map, statistic, &view);
                    let row = row.unwrap_or_else(|| panic!("{direction} {map} {statistic} {view}"));
                    let [low, mean, high] =
                        ["low", "mean", "high"].map(|k| row[k].as_f64().unwrap());
                    assert!(-1.0 <= low && low <= mean && mean <= high && high <= 1.0);
                    assert_eq!(row["utterances"], 3);
                }
            }
        }
        let value = |map: &str, statistic: &str| {
            find(direction, map, statistic, "all").unwrap()["mean"]
                .as_f64()
                .unwrap()
        };
        let (input, encoder) = (
            value("spes.input", "pearson"),
            value("spes.encoder", "pearson"),
        );
        // Three attentions, not one of them under three names.
        let of = |prefix: &str| {
            let row = find(
                direction,
                "spes.encoder",
                "pearson",
                &format!("{prefix}all"),
            );
            row.unwrap()["mean"].as_f64().unwrap()
        };
        let all = ["", "norm-weighted ", "gradient-weighted "].map(of);
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        let gap = value("spes.encoder - spes.input", "gap");
        assert!((gap - (encoder - input)).abs() <= 1e-12);
        assert!((value("spes.encoder", "coverage") - 100.0 * encoder).abs() <= 1e-9);
        assert!(find(direction, "spes.encoder", "reliability", "").is_some());
        assert_eq!(
            find(direction, "spes.input", "masks", "").unwrap()["mean"],
            200.0
        );
    }
    // NaN has no place in a table.
    let text = String::from_utf8(place.tables("out")[1].clone()).unwrap();
    assert!(!text.contains("NaN") && text.lines().count() == rows.len() + 1);
}

/// A conclusion on the terminal, its tables in files; intervals of few
/// utterances say that they are.
#[test]
fn the_terminal_has_a_conclusion_and_files_have_the_tables() {
    let place = Place::new();
    let more = ["--faithfulness", "--limit", "4"];
    let output = place.run("list.tsv", "out", &more);
    ok(&output);
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}");
    assert!(said.lines().count() <= 10, "{said}");
    for words in [
        "4 utterances explained, 0 failed; model; en-en, en-it.",
        "agrees with what counts in the sound (SPES at the input) to rho ",
        "; the gap between both is ",
        "The layer that agrees best with it is layer ",
        "Deleting by attention makes a mean word error rate of ",
        "All intervals are of fewer than 5 utterances (the least of ",
        "out/summary.txt (short), out/tables.csv (all rows); figures: out/report.html",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let read = |name: &str| fs::read_to_string(place.path("out").join(name)).unwrap();
    let (summary, csv) = (read("summary.txt"), read("tables.csv"));
    // The conclusion again, then what earlier versions printed.
    assert!(summary.contains(said.lines().next().unwrap()));
    let rows = summary
        .lines()
        .filter(|line| line.ends_with(", too few for a 95% interval"));
    let rows: Vec<&str> = rows.collect();
    println!("{summary}");
    for name in [
        "spes.input pearson ",
        "spes.encoder coverage ",
        "word error rate ",
        "spes.input size area ",
    ] {
        assert_eq!(
            rows.iter()
                .filter(|row| row.trim_start().starts_with(name))
                .count(),
            2,
            "{name}"
        );
    }
    assert_eq!(csv.lines().next().unwrap(), format!("{COLUMNS},interval"));
    assert!(
        csv.lines()
            .skip(1)
            .all(|line| line.ends_with(",too few utterances"))
    );
    let json: Value = serde_json::from_str(&read("tables.json")).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert!(
        rows.iter()
            .all(|row| row["interval"] == "too few utterances")
    );
    let page = read("report.html");
    assert!(page.contains("<li dir=\"auto\">4 utterances explained"));
    assert!(page.contains("too few</span>"));

    // A summary of others stays.
    fs::write(place.path("out/summary.txt"), "my own").unwrap();
    let output = place.run("list.tsv", "out", &more);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(read("summary.txt"), "my own");
}

#[test]
fn curves_of_deletion_begin_clean_and_end_alike() {
    let place = Place::new();
    let output = place.run(
        "list.tsv",
        "out",
        &["--json", "--faithfulness", "--limit", "2"],
    );
    ok(&output);
    let tables = printed(&output);
    let rows = tables["rows"].as_array().unwrap();
    let value = |map: &str, statistic: &str| {
        let of = |row: &&Value| {
            row["direction"] == "en-en" && row["map"] == map && row["statistic"] == statistic
        };
        let row = rows.iter().find(of);
        row.unwrap_or_else(|| panic!("{map} {statistic}"))["mean"]
            .as_f64()
            .unwrap()
    };
    let clean = value("", "word error rate").min(100.0);
    for map in [
        "attention",
        "attention-norm",
        "attention-x-gradient",
        "gradient.encoder",
        "gradient.input",
        "random",
        "spes.encoder",
        "spes.input",
        "spes.input, pooled",
    ] {
        assert_eq!(value(map, "deletion 0%, word error rate"), clean, "{map}");
        assert_eq!(
            value(map, "insertion 100%, word error rate"),
            clean,
            "{map}"
        );
        let nothing = value(map, "deletion 100%, word error rate");
        assert_eq!(
            nothing,
            value("random", "deletion 100%, word error rate"),
            "{map}"
        );
        assert_eq!(
            nothing,
            value(map, "insertion 0%, word error rate"),
            "{map}"
        );
        let [area, size] = [
            value(map, "deletion area, word error rate"),
            value(map, "size area"),
        ];
        assert!((0.0..=100.0).contains(&area) && (0.0..=1.0).contains(&size));
        assert!((0.0..=100.0).contains(&value(map, "insertion area, bleu")));
    }
}

#[test]
fn killed_and_resumed_the_tables_are_the_same_byte_for_byte() {
    let place = Place::new();
    ok(&place.run("list.tsv", "undisturbed", &[]));
    let log = place.path("killed/model.jsonl");
    let mut kills = 0;
    // Ever longer, so that it ends; moments that hit any part of the work.
    for attempt in 0u64.. {
        let mut child = place
            .command("list.tsv", "killed", &[])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(
            15 + 13 * attempt + attempt * attempt % 17,
        ));
        if kills < 10 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        if child.wait().unwrap().success() {
            break;
        }
        // Half a line, as a kill in the middle of a write would leave it.
        let text = fs::read(&log).unwrap_or_default();
        if kills % 3 == 0 && text.contains(&b'\n') {
            fs::write(&log, [&text[..], b"{\"id\": \"u"].concat()).unwrap();
        }
    }
    println!("{kills} kills");
    assert!(kills >= 1);
    assert_eq!(place.tables("killed"), place.tables("undisturbed"));
    let logs = [&log, &place.path("undisturbed/model.jsonl")].map(|path| fs::read(path).unwrap());
    assert_eq!(logs[0], logs[1], "not one utterance is lost or repeated");
}

#[test]
fn shards_merged_equal_one_run() {
    let place = Place::new();
    ok(&place.run("list.tsv", "whole", &[]));
    ok(&place.run("list.tsv", "first", &["--shard", "1/2"]));
    ok(&place.run("list.tsv", "second", &["--shard", "2/2"]));
    let merge = |folders: [&str; 2]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .args(["study", "--tables"])
            .args(folders)
            .current_dir(place.folder.path())
            .output()
            .unwrap();
        ok(&output);
    };
    merge(["second", "first"]);
    assert_eq!(place.tables("second"), place.tables("whole"));
    // The same utterances twice are refused.
    let output = Command::new(env!("CARGO_BIN_EXE_sonograd"))
        .args(["study", "--tables", "first", "whole"])
        .current_dir(place.folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("two logs")
    );
}

#[test]
fn a_bad_utterance_is_recorded_and_the_rest_goes_on() {
    let place = Place::new();
    let list = fs::read_to_string(place.path("list.tsv")).unwrap();
    fs::write(place.path("broken.wav"), "no sound").unwrap();
    write_wav(&place.path("long.wav"), &tone(2_000_000));
    let bad = ["gone", "broken", "long"];
    let lines = bad.map(|name| format!("{name}\t{name}.wav\t1\tx\tx\ten\ten"));
    let mut all: Vec<&str> = list.lines().collect();
    all.insert(2, &lines[0]);
    all.extend([lines[1].as_str(), lines[2].as_str()]);
    fs::write(place.path("bad.tsv"), all.join("\n")).unwrap();
    for _ in 0..2 {
        let output = place.run("bad.tsv", "out", &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let tables: Value = serde_json::from_slice(&place.tables("out")[0]).unwrap();
        let failures = tables["failures"].as_array().unwrap();
        let ids: Vec<&str> = failures
            .iter()
            .map(|one| one["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["broken", "gone", "long"]);
        for failure in failures {
            let reason = failure["error"].as_str().unwrap();
            assert!(
                reason.contains(".wav") && !reason.contains('\n'),
                "{reason}"
            );
        }
        let rows = tables["rows"].as_array().unwrap();
        let all = rows.iter().find(|row| row["direction"] == "en-en").unwrap();
        assert_eq!(all["utterances"], 3);
    }
}

#[test]
fn what_cannot_work_is_refused_before_the_work() {
    let place = Place::new();
    let refused = |arguments: &[&str], words: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .arg("study")
            .args(arguments)
            .current_dir(place.folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(words), "{arguments:?}: {message}");
    };
    refused(&["absent.tsv", "--out", "x"], "absent.tsv");
    refused(&["list.tsv", "--out", "x", "--shard", "3/2"], "i/n");
    refused(&["list.tsv"], "--out");
    refused(
        &[
            "list.tsv", "--out", "x", "--method", "gradient", "--masks", "4",
        ],
        "only --method spes takes --masks",
    );
    refused(
        &["list.tsv", "--out", "x", "--model", "model", "list.tsv"],
        "list.tsv: is no model",
    );
    refused(
        &["--out", "x", "--model", "model", "list.tsv"],
        "name manifests before",
    );
    refused(&["--tables", "model", "--out", "x"], "cannot be used with");
    refused(&["--tables", "model"], "no logs");
    refused(&["--tables", "model", "absent"], "absent: is no folder");
    refused(
        &["list.tsv", "--out", "x", "--model", "model", "./model"],
        "two models",
    );
    ok(&place.run("list.tsv", "out", &["--limit", "1"]));
    let output = place.run("list.tsv", "out", &["--limit", "1", "--normalise", "map"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("other settings"), "{message}");
    assert!(Path::new(&place.path("out/tables.csv")).is_file());
}

#[test]
fn a_model_does_the_directions_that_it_was_made_for() {
    let place = Place::new();
    let list = fs::read_to_string(place.path("list.tsv")).unwrap();
    let same = place.run("list.tsv", "same", &["list.tsv", "--limit", "2"]);
    assert_eq!(same.status.code(), Some(2));
    let message = String::from_utf8(same.stderr).unwrap();
    assert!(message.contains("another manifest"), "{message}");
    fs::write(place.path("second.tsv"), list.replace("\nu", "\nv")).unwrap();
    let generation = place.path("model/generation_config.json");
    fs::write(&generation, r#"{"directions": ["en-it"]}"#).unwrap();
    let output = place.run("second.tsv", "out", &["list.tsv", "--limit", "2"]);
    ok(&output);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("leaves out en-en"), "{message}");
    let log = fs::read_to_string(place.path("out/model.jsonl")).unwrap();
    let lines = log.lines().skip(1);
    let records: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids: Vec<&str> = records
        .iter()
        .map(|record| record["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["v1", "u1"]);
    fs::write(&generation, r#"{"directions": "en-it"}"#).unwrap();
    let output = place.run("list.tsv", "out", &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("generation_config.json"), "{message}");
}

#[test]
fn the_first_utterances_are_checked_with_other_seeds_and_weights() {
    let place = Place::new();
    let more = ["--json", "--checks", "2", "--masks", "960"];
    let output = Command::new(env!("CARGO_BIN_EXE_sonograd"))
        .args(["study", "list.tsv", "--model", "model", "--device", "cpu"])
        .args(["--out", "out", "--method", "spes,gradient,smoothgrad"])
        .args(more)
        .current_dir(place.folder.path())
        .output()
        .unwrap();
    ok(&output);
    let tables = printed(&output);
    let rows = tables["rows"].as_array().unwrap();
    let mean = |direction: &str, map: &str, statistic: &str| {
        let of = |row: &&Value| {
            row["direction"] == direction && row["map"] == map && row["statistic"] == statistic
        };
        let row = rows.iter().find(of);
        let row = row.unwrap_or_else(|| panic!("{direction} {map} {statistic}"));
        assert_eq!(row["utterances"], 2, "{row}");
        row["mean"].as_f64().unwrap()
    };
    for direction in ["en-en", "en-it"] {
        for map in ["spes.input", "spes.encoder", "smoothgrad.encoder"] {
            let agreement = mean(direction, map, "seed agreement");
            // Other masks, the same model: alike, but not the same.
            assert!((0.1..0.9999).contains(&agreement), "{map}: {agreement}");
        }
        for map in ["attention", "spes.encoder", "gradient.input"] {
            for statistic in ["randomised decoder", "randomised all weights"] {
                let rho = mean(direction, map, statistic);
                assert!(rho.abs() < 0.9, "{map}: {rho}");
            }
        }
    }
    let gradients = rows.iter().filter(|row| row["map"] == "gradient.input");
    let mut statistics = gradients.map(|row| row["statistic"].as_str().unwrap());
    assert!(!statistics.any(|name| name.starts_with("seed")));
}

/// A model's utterances all have its layers and heads. A log in which one has
/// fewer would give tables without rows that the others have.
#[test]
fn a_log_whose_utterances_have_other_heads_is_refused() {
    let place = Place::new();
    ok(&place.run(
        "list.tsv",
        "out",
        &["--limit", "2", "--method", "spes,gradient"],
    ));
    let log = place.path("out/model.jsonl");
    let whole = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for list in ["heads", "layers", "across_layers"] {
        let mut lines = lines.clone();
        let maps = lines[2]["maps"].as_object_mut().unwrap();
        let map = maps.values_mut().next().unwrap();
        let kind = &mut map["correlations"]["kendall"];
        kind[list].as_array_mut().unwrap().pop();
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        fs::write(&log, lines.join("\n") + "\n").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .args(["study", "--tables"])
            .arg(place.path("out"))
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(
            message.contains("model.jsonl: line 3: has other layers or heads"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
