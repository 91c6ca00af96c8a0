//! `sonograd heads` as its users meet it: the ranking against the study's own
//! figures, sets of heads against `sonograd align`, what is written.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::random_model::{self, SMALL, Sizes, tensors, tone, write_tensors, write_wav};
use safetensors::Dtype;
use serde_json::{Value, json};

const ONSETS: &str = "test-sets/en/words.jsonl";
/// The base model writes every word of these.
const SOUNDS: [&str; 3] = ["held_out-00007", "held_out-00017", "held_out-00032"];
const LAYERS: usize = 3;
const HEADS: usize = 4;

type Head = [usize; 2];

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A manifest of three sounds whose onsets are known.
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        place.manifest("list.tsv", &SOUNDS);
        place
    }

    /// A manifest of a random conformer's sounds, and the model: `flat` heads
    /// of its first layer look everywhere alike.
    fn random(flat: usize) -> Self {
        let place = Self::new();
        let sizes = Sizes {
            mel_bins: 80,
            vocabulary: 24,
            ..SMALL
        };
        let model = place.path("model");
        random_model::write_folder(&model, sizes);
        let mut tensors = tensors(sizes);
        let dead = flat * sizes.width / sizes.heads;
        for l in 0..sizes.decoder_layers.min(flat) {
            let name = format!("decoder.layers.{l}.encoder_attn.q_proj");
            for tensor in tensors.iter_mut().filter(|own| own.name.starts_with(&name)) {
                let rows = dead.min(sizes.width) * tensor.data.len() / sizes.width;
                tensor.data[..rows].fill(0.0);
            }
        }
        write_tensors(&model.join("model.safetensors"), &tensors, Dtype::F32);
        let mut lines = vec!["id\taudio\ttgt_text\tsrc_lang\ttgt_lang".to_owned()];
        for n in 0..3 {
            write_wav(&place.path(&format!("{n}.wav")), &tone(5_000 + 700 * n));
            lines.push(format!("u{n}\t{n}.wav\tx\ten\ten"));
        }
        fs::write(place.path("random.tsv"), lines.join("\n")).unwrap();
        place
    }

    fn manifest(&self, name: &str, sounds: &[&str]) {
        let folder = fs::canonicalize("test-sets/en").unwrap();
        let mut text = "id\taudio\ttgt_text\tsrc_lang\ttgt_lang".to_owned();
        for id in sounds {
            text += &format!("\n{id}\t{}/{id}.flac\tx\ten\ten", folder.display());
        }
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .arg(command)
            .args(arguments)
            .args(["--device", "cpu"])
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// With the embedded model, as JSON.
    fn heads(&self, arguments: &[&str]) -> Value {
        let output = self.run("heads", &[&["list.tsv", "--json"], arguments].concat());
        ok(&output);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn ok(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

fn onsets() -> String {
    fs::canonicalize(ONSETS).unwrap().display().to_string()
}

fn error_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Rows of the ranking by layer and head; all heads are there once.
fn by_head(found: &Value) -> Vec<Vec<&Value>> {
    let rows = found["heads"].as_array().unwrap();
    assert_eq!(rows.len(), LAYERS * HEADS);
    let row = |layer: usize, head: usize| {
        let of = |row: &&Value| row["layer"] == layer && row["head"] == head;
        rows.iter().find(of).unwrap()
    };
    let layer = |l| (0..HEADS).map(|h| row(l, h)).collect();
    (0..LAYERS).map(layer).collect()
}

#[test]
fn the_ranking_is_what_the_study_has() {
    let place = Place::new();
    let onsets = onsets();
    let settings = ["--onsets", &onsets, "--seed", "5"];
    let study = [
        &["list.tsv", "--out", "out", "--json", "--masks", "48"],
        &settings[..],
        &["--method", "spes,gradient"],
    ];
    let output = place.run("study", &study.concat());
    ok(&output);
    let tables: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = tables["rows"].as_array().unwrap();
    let row = |map: &str, statistic: &str, l: usize, h: usize| {
        let part = format!("layer {} head {}", l + 1, h + 1);
        let of = |row: &&Value| {
            row["map"] == map && row["statistic"] == statistic && row["attention"] == part.as_str()
        };
        rows.iter().find(of).unwrap()
    };
    let same = |own: &Value, row: &Value| {
        for name in ["mean", "low", "high"] {
            let [a, b] = [own, row].map(|of| of[name].as_f64().unwrap());
            // A log has seven digits.
            assert!((a - b).abs() <= 1e-5, "{own} {row}");
        }
        assert_eq!(own["utterances"], row["utterances"]);
    };
    let spes = ["--by", "spes", "--masks", "48"];
    let spes_input = ["--by", "spes", "--masks", "48", "--at", "input"];
    let gradient = ["--by", "gradient", "--at", "input"];
    for (options, map) in [
        (&spes[..], "spes.encoder"),
        (&spes_input, "spes.input"),
        (&["--by", "gradient"], "gradient.encoder"),
        (&gradient, "gradient.input"),
        (&["--by", "onsets"], "onsets"),
    ] {
        let found = place.heads(&[options, &settings].concat());
        assert_eq!(found["settings"]["by"], map);
        let by_agreement = map != "onsets";
        for (l, heads) in by_head(&found).into_iter().enumerate() {
            for (h, own) in heads.into_iter().enumerate() {
                match by_agreement {
                    true => same(&own["agreement"], row(map, "pearson", l, h)),
                    false => assert!(own["agreement"].is_null()),
                }
                let error = row("attention", "onset error, mean", l, h);
                same(&own["onset_error"], error);
            }
        }
        let ranked = found["heads"].as_array().unwrap().iter().enumerate();
        let worth = ranked.map(|(n, row)| {
            assert_eq!(row["rank"], n + 1);
            match by_agreement {
                true => row["agreement"]["mean"].as_f64().unwrap(),
                false => -row["onset_error"]["mean"].as_f64().unwrap(),
            }
        });
        assert!(worth.is_sorted_by(|a, b| a >= b), "{map}");
        let top: Vec<Head> = serde_json::from_value(found["alignment_heads"].clone()).unwrap();
        let rows = found["heads"].as_array().unwrap();
        assert_eq!(top.len(), LAYERS * HEADS / 2);
        for (index, own) in rows.iter().enumerate() {
            let place = [&own["layer"], &own["head"]].map(|n| n.as_u64().unwrap() as usize);
            assert_eq!(top.contains(&place), index < top.len());
        }
        assert!(top.is_sorted());
    }
}

/// Errors of a sound's words by `align` with some heads, in seconds.
fn aligned_errors(place: &Place, id: &str, heads: &[Head]) -> Vec<f64> {
    let sound = fs::canonicalize(format!("test-sets/en/{id}.flac")).unwrap();
    let heads: Vec<String> = heads.iter().map(|[l, h]| format!("{l}.{h}")).collect();
    let heads = heads.join(",");
    let output = place.run("align", &[sound.to_str().unwrap(), "--heads", &heads]);
    ok(&output);
    let aligned: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = fs::read_to_string(ONSETS).unwrap();
    let mut lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let truth = lines.find(|line| line["id"] == id).unwrap();
    let (words, truth) = (&aligned["words"], &truth["words"]);
    let [words, truth] = [words, truth].map(|list| list.as_array().unwrap());
    assert_eq!(words.len(), truth.len());
    let pairs = words.iter().zip(truth);
    pairs
        .map(|(own, truth)| {
            assert_eq!(own["text"], truth["word"]);
            let [start, onset] = [&own["start_seconds"], &truth["onset_seconds"]];
            (start.as_f64().unwrap() - onset.as_f64().unwrap()).abs()
        })
        .collect()
}

#[test]
fn sets_are_chosen_on_other_utterances_and_time_words_as_align_does() {
    let place = Place::new();
    let onsets = onsets();
    let found = place.heads(&[
        "--by", "gradient", "--onsets", &onsets, "--top", "3", "--seed", "1",
    ]);
    let utterances = found["utterances"].as_array().unwrap();
    let ids: Vec<&str> = utterances
        .iter()
        .map(|own| own["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, SOUNDS);
    let sets = found["sets"].as_array().unwrap();
    let names: Vec<&str> = sets.iter().map(|set| set["by"].as_str().unwrap()).collect();
    let choices = ["gradient.encoder", "onsets", "forward"];
    assert_eq!(names, [&["all", "even"], &choices[..]].concat());
    let places = || (0..LAYERS).flat_map(|l| (0..HEADS).map(move |h| [l, h]));
    let agreement = |n: usize, [l, h]: Head| utterances[n]["agreement"][l][h].as_f64().unwrap();
    let errors = |n: usize, [l, h]: Head| -> Vec<f64> {
        let own = &utterances[n]["onsets"]["heads"][l][h]["errors_ms"];
        let own = own.as_array().unwrap().iter();
        own.map(|ms| ms.as_f64().unwrap().abs()).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut means = Vec::new();
    for set in &sets[2..] {
        let folds: Vec<Vec<Head>> = serde_json::from_value(set["folds"].clone()).unwrap();
        assert_eq!(folds.len(), SOUNDS.len());
        let mut all = Vec::new();
        for (n, heads) in folds.iter().enumerate() {
            let others: Vec<usize> = (0..SOUNDS.len()).filter(|&other| other != n).collect();
            let worth = |place: Head| match set["by"].as_str().unwrap() {
                "onsets" | "forward" => {
                    let errors = others.iter().flat_map(|&other| errors(other, place));
                    -mean(&errors.collect::<Vec<_>>())
                }
                _ => mean(
                    &others
                        .iter()
                        .map(|&n| agreement(n, place))
                        .collect::<Vec<_>>(),
                ),
            };
            let mut wanted: Vec<Head> = places().collect();
            wanted.sort_by(|&a, &b| worth(b).total_cmp(&worth(a)));
            wanted.truncate(3);
            wanted.sort_unstable();
            match set["by"] == "forward" {
                false => assert_eq!(heads, &wanted, "{} {n}", set["by"]),
                true => assert!(heads.len() <= 3 && heads.is_sorted(), "{heads:?}"),
            }
            all.extend(aligned_errors(&place, SOUNDS[n], heads));
        }
        let statistics = &set["statistics"];
        let got = statistics["onset error, mean"]["mean"].as_f64().unwrap();
        // Both round to milliseconds.
        assert!((got - mean(&all)).abs() <= 1.1e-3, "{got} {}", mean(&all));
        let near = statistics["onset within 200 ms"]["mean"].as_f64().unwrap();
        let share = all.iter().filter(|error| **error <= 0.2).count() as f64 / all.len() as f64;
        assert!((near - 100.0 * share).abs() <= 100.0 / all.len() as f64 + 1e-9);
        means.push(got);
    }
    let every: Vec<Head> = places().collect();
    let all: Vec<f64> = SOUNDS
        .iter()
        .flat_map(|id| aligned_errors(&place, id, &every))
        .collect();
    let got = sets[0]["statistics"]["onset error, mean"]["mean"].as_f64();
    assert!((got.unwrap() - mean(&all)).abs() <= 1.1e-3);
    let difference = &found["difference"];
    assert_eq!(
        (&difference["by"], &difference["less"]),
        (&json!("gradient.encoder"), &json!("onsets"))
    );
    let own = &difference["onset_error"];
    let [low, middle, high] = ["low", "mean", "high"].map(|name| own[name].as_f64().unwrap());
    assert!((middle - (means[0] - means[1])).abs() <= 1e-12);
    assert!(low <= middle && middle <= high);
    let forward = &found["forward"];
    let less_all = forward["less_all"]["mean"].as_f64().unwrap();
    assert!((less_all - (means[2] - mean(&all))).abs() <= 1.1e-3);
    // The first is the best single head, and no set on the way is better than all.
    let added = forward["heads"].as_array().unwrap();
    let error = |own: &Value| own["onset_error"].as_f64().unwrap();
    let last = error(added.last().unwrap());
    let before = &added[..added.len() - 1];
    assert!(before.iter().all(|own| error(own) > last), "{added:?}");
    let single = |place: Head| {
        let each = (0..SOUNDS.len()).flat_map(|n| errors(n, place));
        mean(&each.collect::<Vec<_>>()) / 1e3
    };
    let least = places().map(single).fold(f64::INFINITY, f64::min);
    assert!((error(&added[0]) - least).abs() <= 1e-12);
    let heads = places_of(added);
    let together = SOUNDS
        .iter()
        .flat_map(|id| aligned_errors(&place, id, &heads));
    let together = mean(&together.collect::<Vec<_>>());
    assert!((last - together).abs() <= 1.1e-3);
    // With one utterance there are no others.
    let one = place.heads(&["--by", "onsets", "--onsets", &onsets, "--limit", "1"]);
    assert_eq!(one["sets"].as_array().unwrap().len(), 2);
    assert!(one["difference"].is_null() && one["forward"]["less_all"].is_null());
    assert!(!one["forward"]["heads"].as_array().unwrap().is_empty());
}

/// Layer and head of each, in order.
fn places_of(rows: &[Value]) -> Vec<Head> {
    let own = |row: &Value| {
        ["layer", "head"].map(|name| usize::try_from(row[name].as_u64().unwrap()).unwrap())
    };
    let mut heads: Vec<Head> = rows.iter().map(own).collect();
    heads.sort_unstable();
    heads
}

#[test]
fn heads_that_are_good_together_are_written_where_they_are_asked_for() {
    let place = Place::new();
    let onsets = onsets();
    let options = ["--by", "onsets", "--onsets", &onsets, "--top", "3"];
    let write = |set: &[&str], file: &str| {
        let found = place.heads(&[&options[..], set, &["--write", file]].concat());
        let written: Value = serde_json::from_str(&place.read(file)).unwrap();
        assert_eq!(written["alignment_heads"], found["alignment_heads"]);
        found
    };
    let (best, forward) = (write(&[], "a.json"), write(&["--set", "forward"], "b.json"));
    assert_eq!(
        (&best["set"], &forward["set"]),
        (&json!("best"), &json!("forward"))
    );
    // All else is the same.
    assert_eq!(best["forward"], forward["forward"]);
    assert_eq!(best["sets"], forward["sets"]);
    let heads = places_of(forward["forward"]["heads"].as_array().unwrap());
    assert_eq!(forward["alignment_heads"], json!(heads));
    let output = place.run(
        "heads",
        &[&["list.tsv", "--set", "forward"], &options[..]].concat(),
    );
    ok(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    let listed: Vec<String> = heads.iter().map(|[l, h]| format!("{l}.{h}")).collect();
    let wanted = format!("over all utterances: --heads {}\n", listed.join(","));
    assert!(text.contains(&wanted), "{text}");
    assert!(text.contains("\ngreedy forward selection  "), "{text}");
}

#[test]
fn the_same_bytes_every_time_and_in_any_order() {
    let place = Place::new();
    let onsets = onsets();
    let [a, b, c] = SOUNDS;
    place.manifest("turned.tsv", &[c, a, b]);
    let run = |manifest: &str| {
        let options = ["--masks", "48", "--onsets", &onsets, "--json"];
        let output = place.run("heads", &[&[manifest], &options[..]].concat());
        ok(&output);
        output.stdout
    };
    let first = run("list.tsv");
    assert_eq!(run("list.tsv"), first);
    assert_eq!(run("turned.tsv"), first);
    let text = String::from_utf8(first).unwrap();
    assert!(!text.contains("NaN") && text.contains("\"complete\": true"));
}

#[test]
fn heads_are_written_and_all_else_stays() {
    let place = Place::new();
    let model = place.path("model");
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir("weights/base-en").unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let write = |file: &str, top: &str| {
        let options = ["--model", "model", "--by", "gradient", "--top", top];
        let found = place.heads(&[&options[..], &["--write", file]].concat());
        found["alignment_heads"].clone()
    };
    let shown = |heads: &Value| heads.to_string().replace(',', ", ");

    // A new file is the model's own with one entry more.
    let own = fs::read_to_string(model.join("generation_config.json")).unwrap();
    let heads = write("new.json", "2");
    let entry = format!(",\n \"alignment_heads\": {}\n}}\n", shown(&heads));
    let body = own.trim_end().strip_suffix("\n}").unwrap();
    assert_eq!(place.read("new.json"), format!("{body}{entry}"));
    assert_eq!(heads.as_array().unwrap().len(), 2);

    // Odd but right, and none of it is the program's business.
    let odd = "{\"z\":1e-05,\n\n  \"alignment_heads\" : [ [9,9] ] ,\n\"a\": {\"alignment_heads\": 7, \
               \"b\":1.0}, \"\\u0061b\": \"\\u00e9\"}";
    fs::write(place.path("odd.json"), odd).unwrap();
    let heads = write("odd.json", "4");
    let wanted = odd.replace("[ [9,9] ]", &shown(&heads));
    assert_eq!(place.read("odd.json"), wanted);

    // The model's own: align takes these heads where it is asked for them.
    let heads = write("model/generation_config.json", "3");
    let sound = fs::canonicalize("samples/train_to_barcelona.wav").unwrap();
    let asked = ["--model", "model", "--from", "heads"];
    let output = place.run("align", &[&[sound.to_str().unwrap()], &asked[..]].concat());
    ok(&output);
    let aligned: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(aligned["made"]["from"], "heads");
    assert_eq!(aligned["made"]["heads"], heads);
    // No temporary file is left.
    let names = fs::read_dir(&model).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.starts_with('.')));
}

#[test]
fn what_cannot_work_is_refused() {
    let place = Place::new();
    let onsets = onsets();
    fs::write(place.path("broken.json"), "{\"a\": 1").unwrap();
    fs::write(place.path("list.json"), "[]").unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(
        place.path("other.jsonl"),
        "{\"id\": \"a\", \"words\": []}\n",
    )
    .unwrap();
    fs::write(
        place.path("none.jsonl"),
        SOUNDS.map(|id| {
            format!(
                "{{\"id\": \"{id}\", \"words\": [{{\"word\": \"xylem\", \"onset_seconds\": 0.1}}]}}\n"
            )
        })
        .concat(),
    )
    .unwrap();
    let by_onsets = ["--by", "onsets", "--onsets"];
    let with_onsets = |file: &'static str| [&by_onsets[..], &[file]].concat();
    let known = ["--by", "onsets", "--onsets", &onsets];
    for (options, words) in [
        (&["--top", "0"][..], "--top"),
        (&["--top", "13"], "base-en has 12 heads; --top 13 is more"),
        (&["--by", "onsets"], "--by onsets needs"),
        (
            &["--by", "gradient", "--set", "forward"],
            "--set forward needs files of true onsets",
        ),
        (&with_onsets("other.jsonl"), "none of the utterances"),
        (&with_onsets("none.jsonl"), "wrote none"),
        (&with_onsets("absent.jsonl"), "absent.jsonl"),
        (
            &[&known[..], &["--at", "input"]].concat(),
            "only --by spes or gradient takes --at",
        ),
        (
            &["--by", "gradient", "--masks", "9"],
            "only --by spes takes --masks",
        ),
        (
            &["--by", "gradient", "--reliability", "0.5"],
            "only --by spes takes",
        ),
        (&["--write", "folder"], "folder"),
        (&["--write", "absent/x.json"], "no such folder"),
        (
            &["--write", "broken.json"],
            "broken.json: not a JSON object",
        ),
        (&["--write", "list.json"], "list.json: not a JSON object"),
        (&["--masks", "9", "--reliability", "0.5"], "cannot be used"),
    ] {
        let output = place.run("heads", &[&["list.tsv"], options].concat());
        assert_eq!(output.status.code(), Some(2), "{options:?} {output:?}");
        let message = error_of(&output);
        assert!(message.contains(words), "{options:?}: {message}");
        assert!(output.stdout.is_empty());
        assert!(!message.contains("warning"), "{options:?}: {message}");
    }
    assert_eq!(place.read("broken.json"), "{\"a\": 1");
    let output = place.run("heads", &["absent.tsv"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_rest_goes_on_where_some_utterances_fail() {
    let place = Place::new();
    let bad = place.read("list.tsv") + "\ngone\tgone.flac\tx\ten\ten";
    fs::write(place.path("bad.tsv"), bad).unwrap();
    let options = ["--by", "gradient", "--top", "2", "--write", "heads.json"];
    let output = place.run("heads", &[&["bad.tsv", "--json"], &options[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = error_of(&output);
    assert!(message.contains("gone.flac") && message.contains("1 of 4 utterances failed"));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["failures"][0]["id"], "gone");
    assert_eq!(found["heads"][0]["agreement"]["utterances"], 3);
    let written: Value = serde_json::from_str(&place.read("heads.json")).unwrap();
    assert_eq!(written["alignment_heads"], found["alignment_heads"]);
    // Nothing at all is no ranking.
    place.manifest("gone.tsv", &["absent", "missing"]);
    let more = ["--by", "gradient", "--write", "none.json"];
    let output = place.run("heads", &[&["gone.tsv"], &more[..]].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = error_of(&output);
    assert!(said.contains("all of 2 utterances failed"));
    // Of what is left out a warning tells; one line is the error.
    let begins = |begin: &str| said.lines().filter(|line| line.starts_with(begin)).count();
    assert_eq!((begins("error: "), begins("warning: ")), (1, 2), "{said}");
    assert!(output.stdout.is_empty() && !place.path("none.json").exists());
}

#[test]
fn heads_that_look_everywhere_alike_come_last() {
    let place = Place::random(1);
    let options = ["random.tsv", "--model", "model", "--by", "gradient"];
    let more = ["--top", "6", "--write", "heads.json"];
    let output = place.run("heads", &[&options[..], &more].concat());
    ok(&output);
    assert!(error_of(&output).contains("5 heads vary"));
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().find(|line| line.starts_with("   6 ")).unwrap();
    let fields: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(fields, ["6", "0", "0", "-", "0"], "{text}");
    assert!(!text.contains("NaN"));
    let written: Value = serde_json::from_str(&place.read("heads.json")).unwrap();
    let wanted = json!([[0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
    assert_eq!(written, json!({ "alignment_heads": wanted }));
    // Where none varies there is no best.
    let place = Place::random(3);
    let output = place.run("heads", &options);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(error_of(&output).contains("no head varies with gradient.encoder"));
}

/// The words of a sound, with onsets in whole samples at 16 kHz.
fn words(id: &str) -> Vec<(String, u64)> {
    let lines = fs::read_to_string(ONSETS).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let own = lines.into_iter().find(|own: &Value| own["id"] == id);
    let words = own.unwrap()["words"].as_array().unwrap().clone();
    let words = words.iter().map(|own| {
        let samples = own["onset_seconds"].as_f64().unwrap() * 16e3;
        (own["word"].as_str().unwrap().to_owned(), samples as u64)
    });
    words.collect()
}

/// A folder of MFA's, CTM, TIMIT's and Buckeye's files say what JSON lines say.
#[test]
fn onsets_are_read_in_every_form() {
    let place = Place::new();
    for folder in ["grids", "timit", "buckeye", "model"] {
        fs::create_dir(place.path(folder)).unwrap();
    }
    let (mut json, mut ctm) = (String::new(), String::new());
    for id in SOUNDS {
        let words = words(id);
        let mut grid = format!(
            "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\n0\n9\n<exists>\n2\n\
             \"IntervalTier\"\n\"A - phones\"\n0\n9\n1\n0\n9\n\"x\"\n\
             \"IntervalTier\"\n\"A - words\"\n0\n9\n{}\n",
            words.len() + 1
        );
        let (mut timit, mut buckeye) = (String::new(), "signal x\n#\n".to_owned());
        let mut lines = Vec::new();
        for (place, (word, start)) in words.iter().enumerate() {
            let end = words.get(place + 1).map_or(start + 1_600, |next| next.1);
            let [from, to] = [*start, end].map(|own| own as f64 / 16e3);
            if place == 0 {
                grid += &format!("0\n{from}\n\"\"\n");
                buckeye += &format!(" {from} 122 <SIL>; null\n");
            }
            grid += &format!("{from}\n{to}\n\"{word}\"\n");
            buckeye += &format!(" {to} 122 {word}; x; y; NN\n");
            timit += &format!("{start} {end} {word}\n");
            ctm += &format!("{id} 1 {from} {} {word} 1.0\n", to - from);
            lines.push(json!({"word": word, "onset_seconds": from}));
        }
        let wide: Vec<u8> = "\u{feff}"
            .encode_utf16()
            .chain(grid.encode_utf16())
            .flat_map(u16::to_be_bytes)
            .collect();
        fs::write(place.path(&format!("grids/{id}.TextGrid")), wide).unwrap();
        fs::write(place.path(&format!("timit/{id}.WRD")), timit).unwrap();
        fs::write(place.path(&format!("timit/{id}.PHN")), "0 10 h#\n").unwrap();
        fs::write(place.path(&format!("buckeye/{id}.words")), buckeye).unwrap();
        json += &format!("{}\n", json!({"id": id, "words": lines}));
    }
    fs::write(place.path("words.jsonl"), json).unwrap();
    fs::write(place.path("words.ctm"), ctm).unwrap();
    let found = |onsets: &[&str]| {
        let asked = ["--by", "onsets", "--onsets"];
        place.heads(&[&asked[..], onsets].concat())
    };
    let wanted = found(&["words.jsonl"]);
    for onsets in [
        &["grids"][..],
        &["grids", "--tier", "words"],
        &["words.ctm"],
        &["timit"],
        &["buckeye"],
    ] {
        assert_eq!(found(onsets), wanted, "{onsets:?}");
    }

    for (onsets, words) in [
        (
            &["grids", "--tier", "Words of B"][..],
            "it has \"A - phones\", \"A - words\"",
        ),
        (
            &["words.ctm", "--tier", "words"],
            "only TextGrids take --tier",
        ),
        (
            &["timit", "words.ctm"],
            "has utterance held_out-00007 again",
        ),
        (&["timit/held_out-00007.PHN"], "give TIMIT's .WRD"),
        (&["model"], "has no files with words"),
    ] {
        let asked = ["list.tsv", "--by", "onsets", "--onsets"];
        let output = place.run("heads", &[&asked[..], onsets].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = error_of(&output);
        assert!(said.contains(words), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
