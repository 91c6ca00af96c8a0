//! `sonograd align` as its users meet it: files that other programs read,
//! exit codes, messages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::json_fields::fields;
use crate::whisper_folder::{sound, whisper_folder, word, write_samples, write_wav};
use serde_json::{Value, json};
use subtp::srt::SubRip;
use subtp::vtt::{VttBlock, VttTimestamp, WebVtt};

fn sample(name: &str) -> String {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    samples.join(name).display().to_string()
}

const TRAIN: &str = "train_to_barcelona.wav";
const TAXI: &str = "taxi_to_edinburgh.flac";
const ZEBRA: &str = "zebra_behind_the_garden.flac";

/// A folder to work in.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    /// With a Whisper, a sound shorter and one longer than its window.
    fn whisper() -> Self {
        let place = Self::new();
        whisper_folder(&place.path("model"));
        write_wav(&place.path("short.wav"), 9_700);
        write_wav(&place.path("long.wav"), 40_000);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .arg("align")
            .args(arguments)
            .args(["--device", "cpu"])
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// What is printed when all goes well.
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The recordings that are printed as JSON, each checked.
    fn recordings(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.text(arguments);
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.inspect(check).collect()
    }

    fn recording(&self, arguments: &[&str]) -> Value {
        let all = self.recordings(arguments);
        let [one] = all.as_slice() else {
            panic!("{all:?}")
        };
        one.clone()
    }

    /// The one line that says why nothing could be done.
    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {message}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        message
    }
}

/// What holds of every recording: times in order, nothing overlaps, nothing
/// is NaN (which would be null).
fn check(recording: &Value) {
    assert_eq!(recording["format"], "sonograd-alignment");
    let seconds = recording["seconds"].as_f64().unwrap();
    let mut before = 0.0;
    for word in recording["words"].as_array().unwrap() {
        let [start, end] = times(word);
        assert!(
            before <= start && start <= end && end <= seconds,
            "{recording}"
        );
        let confidence = word["confidence"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&confidence), "{word}");
        assert!(start < end || word["reliable"] == false, "{word}");
        assert!(!word["text"].as_str().unwrap().is_empty());
        before = end;
    }
}

fn times(word: &Value) -> [f64; 2] {
    ["start_seconds", "end_seconds"].map(|name| word[name].as_f64().unwrap())
}

fn words(recording: &Value) -> Vec<Value> {
    recording["words"].as_array().unwrap().clone()
}

fn texts(recording: &Value) -> Vec<String> {
    let words = words(recording).into_iter();
    words
        .map(|word| word["text"].as_str().unwrap().to_owned())
        .collect()
}

/// Milliseconds.
fn whole(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

#[test]
fn words_begin_near_where_they_do() {
    let place = Place::new();
    let files = [TRAIN, TAXI, ZEBRA].map(sample);
    let files = files.each_ref().map(String::as_str);
    // Mean errors of the onsets, in seconds, that tell a right way from a
    // wrong one: words follow each other every 0.3 to 0.4 s.
    for (more, bound) in [
        (&["--from", "gradient"][..], 0.2),
        (
            &["--from", "spes", "--at", "encoder", "--masks", "300"],
            0.45,
        ),
        (&["--from", "gradient", "--at", "encoder"], 0.45),
        (&["--heads", "2.0,2.1,2.2,2.3"], 0.35),
        (&[], 0.45),
    ] {
        let recordings = place.recordings(&[&files[..], more].concat());
        assert_eq!(recordings.len(), 3);
        let mut errors = Vec::new();
        for (recording, file) in recordings.iter().zip(files) {
            assert_eq!(recording["audio"], file);
            let truth = fs::read_to_string(Path::new(file).with_extension("json")).unwrap();
            let truth: Value = serde_json::from_str(&truth).unwrap();
            assert_eq!(recording["text"], truth["text"]);
            for (word, spoken) in words(recording)
                .iter()
                .zip(truth["words"].as_array().unwrap())
            {
                assert_eq!(word["text"], spoken["word"]);
                errors.push((times(word)[0] - spoken["onset_seconds"].as_f64().unwrap()).abs());
            }
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        println!("{more:?}: {mean:.3} s over {} words", errors.len());
        assert!(errors.len() >= 24 && mean <= bound, "{more:?}: {mean}");
    }
}

#[test]
fn how_it_was_made_is_told() {
    let place = Place::new();
    let train = sample(TRAIN);
    let made = |more: &[&str]| place.recording(&[&[train.as_str()], more].concat())["made"].clone();
    let own = made(&[]);
    assert_eq!(
        (&own["from"], &own["at"], &own["median"]),
        (&json!("gradient"), &json!("input"), &json!(7))
    );
    assert_eq!(own["rule"], "silences");
    let own = made(&["--from", "attention"]);
    assert_eq!(own["heads"].as_array().unwrap().len(), 12);
    assert_eq!(own["windows"], json!([{"start_seconds": 0.0}]));
    let own = made(&["--heads", "1.2,0.3,1.2", "--median", "3"]);
    assert_eq!(
        (&own["from"], &own["heads"]),
        (&json!("heads"), &json!([[1, 2], [0, 3]]))
    );
    assert_eq!(own["median"], 3);
    let more = [
        "--from", "spes", "--at", "encoder", "--masks", "250", "--seed", "4",
    ];
    let own = made(&more);
    assert_eq!((&own["at"], &own["seed"]), (&json!("encoder"), &json!(4)));
    assert_eq!(own["windows"][0]["masks"], 250);
    assert!(own.get("heads").is_none() && own.get("crop").is_none());
}

fn stamp(time: &VttTimestamp) -> u64 {
    let minutes = u64::from(time.hours) * 60 + u64::from(time.minutes);
    (minutes * 60 + u64::from(time.seconds)) * 1000 + u64::from(time.milliseconds)
}

/// Cues of parsed subtitles: start, end, lines.
type Cues = Vec<(u64, u64, Vec<String>)>;

fn srt_cues(text: &str) -> Cues {
    let cues = SubRip::parse(text).unwrap().subtitles.into_iter();
    let cues = cues.enumerate().map(|(n, cue)| {
        assert_eq!(cue.sequence as usize, n + 1);
        let stamp = |time: subtp::srt::SrtTimestamp| {
            let minutes = u64::from(time.hours) * 60 + u64::from(time.minutes);
            (minutes * 60 + u64::from(time.seconds)) * 1000 + u64::from(time.milliseconds)
        };
        (stamp(cue.start), stamp(cue.end), cue.text)
    });
    cues.collect()
}

fn vtt_cues(text: &str) -> Cues {
    let blocks = WebVtt::parse(text).unwrap().blocks.into_iter();
    let cues = blocks.map(|block| match block {
        VttBlock::Que(cue) => (
            stamp(&cue.timings.start),
            stamp(&cue.timings.end),
            cue.payload,
        ),
        other => panic!("{other:?}"),
    });
    cues.collect()
}

/// Cues in order, and their words with those of the recording.
fn check_cues(cues: &Cues, recording: &Value) {
    let mut before = 0;
    let mut shown = Vec::new();
    for (start, end, lines) in cues {
        assert!(before <= *start && start < end, "{cues:?}");
        before = *end;
        let words = lines.iter().flat_map(|line| line.split(' '));
        shown.extend(words.map(str::to_owned));
        assert!(
            lines.iter().all(|line| line.chars().count() <= 42),
            "{lines:?}"
        );
    }
    assert_eq!(shown, texts(recording));
}

/// Intervals of a TextGrid in its long form: start, end, text.
fn intervals(text: &str) -> Vec<(u64, u64, String)> {
    let value = |line: &str, name: &str| {
        let rest = line.trim().strip_prefix(name)?.strip_prefix(" = ")?;
        Some(rest.to_owned())
    };
    let (head, body) = text.split_once("intervals: size = ").unwrap();
    assert!(head.starts_with("File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n"));
    let mut lines = body.lines();
    let size: usize = lines.next().unwrap().parse().unwrap();
    let mut all = Vec::new();
    while let Some(line) = lines.next() {
        assert_eq!(line.trim(), format!("intervals [{}]:", all.len() + 1));
        let mut next = |name| value(lines.next().unwrap(), name).unwrap();
        let seconds = |text: String| whole(text.parse().unwrap());
        let (start, end) = (seconds(next("xmin")), seconds(next("xmax")));
        let text = next("text");
        let text = text.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        all.push((start, end, text.replace("\"\"", "\"")));
    }
    assert_eq!(all.len(), size);
    all
}

fn check_intervals(intervals: &[(u64, u64, String)], recording: &Value) {
    let mut before = 0;
    for (start, end, _) in intervals {
        assert!(*start == before && start < end, "{intervals:?}");
        before = *end;
    }
    assert_eq!(before, whole(recording["seconds"].as_f64().unwrap()));
    let spoken = intervals
        .iter()
        .flat_map(|(_, _, text)| text.split_whitespace());
    assert_eq!(spoken.collect::<Vec<_>>(), texts(recording));
    for word in words(recording) {
        let [start, end] = times(&word).map(whole);
        let alone = |text: &str| text.split(' ').any(|own| word["text"] == own);
        let found = intervals
            .iter()
            .any(|(a, b, text)| (*a, *b) == (start, end) && alone(text));
        assert!(found || start == end, "{word} {intervals:?}");
    }
}

fn check_ctm(text: &str, recordings: &[Value]) {
    let mut lines = text.lines();
    // sclite takes recordings in the order of their names.
    let mut recordings: Vec<&Value> = recordings.iter().collect();
    let stem = |recording: &Value| {
        let audio = Path::new(recording["audio"].as_str().unwrap());
        audio.file_stem().unwrap().to_owned()
    };
    recordings.sort_by_key(|recording| stem(recording));
    for recording in recordings {
        let audio = Path::new(recording["audio"].as_str().unwrap());
        let id = audio.file_stem().unwrap().to_str().unwrap();
        for word in words(recording) {
            let fields: Vec<&str> = lines.next().unwrap().split(' ').collect();
            let [name, "1", start, length, text, confidence] = fields[..] else {
                panic!("{fields:?}")
            };
            assert_eq!((name, word["text"].as_str().unwrap()), (id, text));
            let [start, length] = [start, length].map(|x| whole(x.parse().unwrap()));
            let [from, to] = times(&word).map(whole);
            assert_eq!((start, length), (from, to - from));
            let confidence: f64 = confidence.parse().unwrap();
            assert_eq!(confidence, word["confidence"].as_f64().unwrap());
        }
    }
    assert_eq!(lines.next(), None);
}

/// All formats of the same sounds say the same.
fn check_formats(place: &Place, files: &[&str], more: &[&str]) -> Vec<Value> {
    let with = |format: &str| place.text(&[files, more, &["--format", format]].concat());
    let recordings = place.recordings(&[files, more].concat());
    check_ctm(&with("ctm"), &recordings);
    for (file, recording) in files.iter().zip(&recordings) {
        let with = |format: &str| place.text(&[&[*file], more, &["--format", format]].concat());
        check_cues(&srt_cues(&with("srt")), recording);
        let tagged = with("vtt");
        let mut plain = String::new();
        // The words' own times, as `<00:00:01.000>`.
        for piece in tagged.split('<') {
            plain += match piece.split_once('>') {
                Some((time, rest)) if time.len() == 12 && time.contains(':') => rest,
                _ => piece,
            };
        }
        let cues = vtt_cues(&plain);
        check_cues(&cues, recording);
        assert_eq!(vtt_cues(&tagged).len(), cues.len());
        check_intervals(&intervals(&with("textgrid")), recording);
    }
    recordings
}

#[test]
fn all_formats_say_the_same() {
    let place = Place::new();
    let files = [TRAIN, ZEBRA].map(sample);
    let recordings = check_formats(
        &place,
        &files.each_ref().map(String::as_str),
        &["--from", "gradient"],
    );
    assert!(
        recordings
            .iter()
            .all(|recording| words(recording).len() >= 6)
    );
}

#[test]
fn files_and_folders_are_written() {
    let place = Place::new();
    let (train, taxi) = (sample(TRAIN), sample(TAXI));
    let both = [train.as_str(), taxi.as_str()];
    // Nothing is printed, and a file that is there is replaced.
    fs::write(place.path("all.jsonl"), "old").unwrap();
    assert_eq!(
        place.text(&[&both[..], &["--out", "all.jsonl"]].concat()),
        ""
    );
    let printed = place.text(&both);
    assert_eq!(place.read("all.jsonl"), printed);
    place.text(&[&both[..], &["--format", "ctm", "--out", "all.ctm"]].concat());
    let ctm = place.read("all.ctm");
    let names = ctm.lines().map(|line| line.split(' ').next().unwrap());
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    assert_eq!(names, ["taxi_to_edinburgh", "train_to_barcelona"]);
    let lines = place.text(&[train.as_str(), "--format", "vtt-lines"]);
    assert!(lines.starts_with("WEBVTT\n"), "{lines}");
    for line in lines.lines() {
        assert!(line.contains(" --> ") || !line.contains(':'), "{line}");
    }
    place.text(&[train.as_str(), "--format", "srt", "--out", "one.srt"]);
    assert!(place.read("one.srt").starts_with("1\n00:00:0"));
    // A folder is made, and used again.
    for _ in 0..2 {
        place.text(&[&both[..], &["--format", "textgrid", "--out", "grids"]].concat());
        for name in ["train_to_barcelona.TextGrid", "taxi_to_edinburgh.TextGrid"] {
            assert!(
                place
                    .read(&format!("grids/{name}"))
                    .contains("class = \"IntervalTier\"")
            );
        }
    }
    place.text(&[train.as_str(), "--out", "grids"]);
    assert!(printed.starts_with(&place.read("grids/train_to_barcelona.json")));
    let names = fs::read_dir(place.path("grids")).unwrap();
    assert_eq!(names.count(), 3, "nothing temporary is left");
}

#[test]
fn a_file_that_fails_does_not_stop_the_others() {
    let place = Place::new();
    fs::write(place.path("broken.wav"), "RIFF").unwrap();
    let train = sample(TRAIN);
    let output = place.run(&["broken.wav", &train, "absent.wav", "--out", "all.json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("broken.wav: ") && message.contains("2 of 3 files failed"),
        "{message}"
    );
    assert_eq!(place.read("all.json").lines().count(), 1);
    let output = place.run(&["broken.wav", "absent.wav", "--out", "none.json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!place.path("none.json").exists(), "nothing to write");
    assert!(place.refusal(&["broken.wav"]).contains("broken.wav"));
}

#[test]
fn what_cannot_be_done_is_refused_with_one_line() {
    let place = Place::new();
    let (train, taxi) = (sample(TRAIN), sample(TAXI));
    let (train, taxi) = (train.as_str(), taxi.as_str());
    fs::create_dir(place.path("other")).unwrap();
    fs::copy(train, place.path("other").join(TRAIN)).unwrap();
    fs::copy(train, place.path("sound.wav")).unwrap();
    fs::write(place.path("blank.txt"), " \n").unwrap();
    let twin = format!("other/{TRAIN}");
    for (arguments, said) in [
        (
            &[train, "--heads", "3.0"][..],
            &["no head 3.0", "layers are 0 to 2", "heads 0 to 3"][..],
        ),
        (&[train, "--heads", "0.4"], &["no head 0.4"]),
        (
            &[train, "--heads", "model"],
            &["no alignment_heads", "--heads", "--from attention"],
        ),
        (&[train, "--from", "heads"], &["no alignment_heads"]),
        (
            &[train, "--from", "attention", "--heads", "0.1"],
            &["only --from heads takes --heads"],
        ),
        (
            &[train, "--heads", "0.1", "--at", "input"],
            &["only --from spes or gradient takes --at"],
        ),
        (
            &[train, "--from", "gradient", "--crop", "after"],
            &["only --from attention or heads takes --crop"],
        ),
        (
            &[train, "--masks", "100"],
            &["only --from spes takes --masks"],
        ),
        (
            &[train, "--from", "gradient", "--reliability", "0.5"],
            &["spes"],
        ),
        (&[train, "--text", " "], &["--text", "no words"]),
        (
            &[train, "--transcript", "blank.txt"],
            &["blank.txt", "no words"],
        ),
        (&[train, "--transcript", "absent.txt"], &["absent.txt"]),
        (&[train, taxi, "--text", "the train"], &["one file"]),
        (&[train, "--language", "it"], &["\"it\""]),
        (&[train, "--no-timestamps"], &["base-en", "--no-timestamps"]),
        (
            &[train, "--no-timestamps", "--text", "the train"],
            &["--no-timestamps", "--text"],
        ),
        (&[train, "--task", "translate"], &["translate"]),
        (
            &[train, taxi, "--format", "srt"],
            &["srt holds one recording", "--out"],
        ),
        (
            &[train, taxi, "--format", "textgrid"],
            &["textgrid holds one"],
        ),
        (
            &[train, taxi, "--format", "vtt", "--out", "blank.txt"],
            &["blank.txt", "no folder"],
        ),
        (
            &[train, taxi, "--format", "vtt", "--out", "not/here"],
            &["no such folder"],
        ),
        (
            &[train, "--out", "absent/a.json"],
            &["absent", "no such folder"],
        ),
        (
            &["sound.wav", "--out", "sound.wav"],
            &["sound.wav", "one of the recordings"],
        ),
        (
            &[train, &twin, "--format", "ctm"],
            &["both be called train_to_barcelona"],
        ),
        (
            &[train, &twin, "--format", "srt", "--out", "other"],
            &["both be written"],
        ),
        (&[train, "--model", "absent"], &["absent"]),
    ] {
        let message = place.refusal(arguments);
        let lines: Vec<&str> = message
            .lines()
            .filter(|line| !line.starts_with("device: "))
            .collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("error: "),
            "{arguments:?}: {message}"
        );
        for said in said {
            assert!(message.contains(said), "{arguments:?}: {message}");
        }
    }
    // The parser's own refusals are several lines.
    for (arguments, said) in [
        (&[train, "--median", "4"][..], "odd number"),
        (&[train, "--median", "0"], "odd number"),
        (&[train, "--heads", "1"], "layer.head"),
        (&[train, "--heads", "1.2.3"], "layer.head"),
        (&[train, "--heads=-1.2"], "layer.head"),
        (&[train, "--heads", ""], "layer.head"),
        (&[train, "--from", "elsewhere"], "elsewhere"),
        (&[train, "--at", "tokens"], "tokens"),
        (&[train, "--format", "ass"], "ass"),
        (&[train, "--crop", "middle"], "middle"),
        (&[train, "--masks", "0"], "0"),
        (&[train, "--reliability", "1"], "between 0 and 1"),
        (
            &[train, "--masks", "10", "--reliability", "0.5"],
            "cannot be used with",
        ),
        (
            &[train, "--text", "a", "--transcript", "b"],
            "cannot be used with",
        ),
        (&[], "AUDIO"),
    ] {
        let message = place.refusal(arguments);
        assert!(message.contains(said), "{arguments:?}: {message}");
    }
    assert_eq!(fs::read_to_string(place.path("blank.txt")).unwrap(), " \n");
}

#[test]
fn a_given_text_is_found_instead_of_what_is_heard() {
    let place = Place::new();
    let train = sample(TRAIN);
    let told = "the train from boston\n to barcelona leaves";
    fs::write(place.path("told.txt"), told).unwrap();
    let recording = place.recording(&[&train, "--transcript", "told.txt"]);
    let wanted: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(texts(&recording), wanted);
    assert_eq!(recording["made"]["given_text"], true);
    assert_eq!(
        place.recording(&[&train, "--text", told])["words"],
        recording["words"]
    );
    // What the model heard, given back, is found where it was.
    let heard = place.recording(&[&train]);
    let again = place.recording(&[&train, "--text", heard["text"].as_str().unwrap()]);
    assert_eq!(again["words"], heard["words"]);
}

#[test]
fn one_word_silence_and_very_short_sounds() {
    let place = Place::new();
    let silence = |name: &str, samples: usize| {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(place.path(name), spec).unwrap();
        (0..samples).for_each(|_| writer.write_sample(0i16).unwrap());
        writer.finalize().unwrap();
    };
    silence("silence.wav", 16_000);
    silence("short.wav", 1_600);
    let train = sample(TRAIN);
    for (file, text) in [
        (train.as_str(), "train"),
        ("silence.wav", "train"),
        ("silence.wav", "the train leaves"),
        (
            "short.wav",
            "the train from boston to barcelona leaves at five twenty",
        ),
    ] {
        for from in [&[][..], &["--from", "gradient"]] {
            let more = [&["--text", text], from].concat();
            let recordings = check_formats(&place, &[file], &more);
            assert_eq!(texts(&recordings[0]).join(" "), text);
        }
    }
    // Ten words in 0.1 s have not a frame each.
    let recording = place.recording(&["short.wav", "--text", &["train"; 10].join(" ")]);
    let reliable = words(&recording)
        .iter()
        .filter(|word| word["reliable"] == true)
        .count();
    assert!(reliable < 10, "{recording}");
    place.recording(&["silence.wav"]);
}

/// A Whisper that may write nothing but the end.
fn speechless(place: &Place) {
    let file = place.path("model/generation_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let end = config["eos_token_id"].as_u64().unwrap();
    config["suppress_tokens"] = (0..end).chain(end + 1..end + 64).collect();
    config["begin_suppress_tokens"] = json!([]);
    fs::write(file, config.to_string()).unwrap();
}

#[test]
fn nothing_said_is_nothing_written() {
    let place = Place::whisper();
    speechless(&place);
    // Times would be something to write.
    let model = ["--model", "model", "--no-timestamps"];
    for file in ["short.wav", "long.wav"] {
        let recording = place.recording(&[&[file], &model[..]].concat());
        assert_eq!(
            (&recording["words"], &recording["text"]),
            (&json!([]), &json!(""))
        );
        let with = |format: &str| place.text(&[&[file, "--format", format], &model[..]].concat());
        assert_eq!(with("ctm"), "");
        assert_eq!(with("srt"), "");
        assert_eq!(with("vtt"), "WEBVTT\n");
        let length = whole(recording["seconds"].as_f64().unwrap());
        assert_eq!(intervals(&with("textgrid")), [(0, length, String::new())]);
    }
    let both = ["short.wav", "long.wav", "--format", "srt", "--out", "both"];
    place.text(&[&both, &model[..]].concat());
    assert_eq!(place.read("both/long.srt"), "");
}

/// A window that has nothing but silence between windows of sound has no words,
/// whatever the model writes there.
#[test]
fn a_silent_window_has_no_words() {
    let place = Place::whisper();
    let pause = 16_000..32_000;
    let samples = (0..48_000).map(|n| if pause.contains(&n) { 0 } else { sound(n) });
    write_samples(&place.path("pause.wav"), samples);
    let more = [
        "pause.wav",
        "--model",
        "model",
        "--language",
        "de",
        "--no-timestamps",
    ];
    let recording = place.recording(&more);
    let windows = recording["made"]["windows"].as_array().unwrap();
    let begins: Vec<f64> = windows
        .iter()
        .map(|own| own["start_seconds"].as_f64().unwrap())
        .collect();
    assert_eq!(begins, [0.0, 2.0], "{recording}");
    for word in words(&recording) {
        let [start, end] = times(&word);
        assert!(end <= 1.0 || start >= 2.0, "{word}");
    }
}

#[test]
fn whisper_names_its_heads() {
    let place = Place::whisper();
    let run = |more: &[&str]| place.recording(&[&["short.wav", "--model", "model"], more].concat());
    assert_eq!(run(&[])["made"]["from"], "attention");
    let file = place.path("model/generation_config.json");
    let with = |heads: Value| {
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["alignment_heads"] = heads;
        fs::write(&file, config.to_string()).unwrap();
    };
    with(json!([[1, 0], [1, 3]]));
    // Whether they tell better than all heads nobody knows: they are taken where they are asked for.
    assert_eq!(run(&[])["made"]["from"], "attention");
    let own = run(&["--from", "heads"]);
    assert_eq!(own["made"]["from"], "heads");
    assert_eq!(own["made"]["heads"], json!([[1, 0], [1, 3]]));
    assert_eq!(run(&["--heads", "1.0,1.3"])["words"], own["words"]);
    assert_eq!(run(&["--heads", "model"])["words"], own["words"]);
    assert_eq!(
        run(&["--from", "attention"])["words"],
        run(&["--heads", "all"])["words"]
    );
    let asked = ["short.wav", "--model", "model", "--from", "heads"];
    with(json!([[2, 0]]));
    assert!(place.refusal(&asked).contains("no head 2.0"));
    with(json!([[1]]));
    let message = place.refusal(&asked);
    assert!(
        message.contains("generation_config.json") && message.contains("pairs"),
        "{message}"
    );
}

#[test]
fn whispers_window_is_cropped_as_asked() {
    let place = Place::whisper();
    let told = (1..9).map(word).collect::<Vec<_>>().join(" ");
    let run = |more: &[&str]| {
        let recording = place.recording(
            &[
                &[
                    "short.wav",
                    "--model",
                    "model",
                    "--language",
                    "de",
                    "--text",
                    &told,
                ],
                more,
            ]
            .concat(),
        );
        assert_eq!(texts(&recording).join(" "), told);
        assert_eq!(recording["seconds"], 0.606);
        recording
    };
    let before = run(&[]);
    assert_eq!(before["made"]["crop"], "before");
    assert_eq!(run(&["--crop", "before"])["words"], before["words"]);
    let (after, none) = (run(&["--crop", "after"]), run(&["--crop", "none"]));
    assert_ne!(before["words"], after["words"]);
    assert_ne!(after["words"], none["words"]);
    for from in ["gradient", "spes"] {
        let more = ["--from", from, "--at", "encoder"];
        let masks: &[&str] = if from == "spes" {
            &["--masks", "64"]
        } else {
            &[]
        };
        run(&[&more[..], masks].concat());
    }
    let more = ["--beam", "3", "--task", "translate", "--language", "it"];
    place.recording(&[&["short.wav", "--model", "model"], &more[..]].concat());
}

#[test]
fn long_recordings_are_aligned_window_by_window() {
    let place = Place::whisper();
    for more in [
        &[][..],
        &["--no-timestamps"],
        &["--crop", "none"],
        &["--no-timestamps", "--from", "gradient"],
        &["--rule", "whisper"],
    ] {
        let more = [&["--model", "model", "--language", "de"], more].concat();
        let recordings = check_formats(&place, &["long.wav"], &more);
        let recording = &recordings[0];
        let windows = recording["made"]["windows"].as_array().unwrap();
        assert!(windows.len() >= 3, "{recording}");
        assert_eq!(recording["seconds"], 2.5);
        // The same words as are transcribed, no times among them.
        let transcribed = Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .args([
                "transcribe",
                "long.wav",
                "--model",
                "model",
                "--language",
                "de",
                "--device",
                "cpu",
            ])
            .args(
                (!more.contains(&"--no-timestamps"))
                    .then_some(["--timestamps", "--json"])
                    .into_iter()
                    .flatten(),
            )
            .current_dir(place.folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(transcribed.stdout).unwrap();
        let text = match serde_json::from_str::<Value>(&text) {
            Ok(line) => line["text"].as_str().unwrap().to_owned(),
            Err(_) => text,
        };
        assert_eq!(
            texts(recording),
            text.split_whitespace().collect::<Vec<_>>()
        );
        // It is printed window by window.
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(recording["text"].as_str().unwrap(), lines.join(" ").trim());
        // Words are in every window, and in no other's time.
        let origin = |n: usize| {
            windows
                .get(n)
                .map(|own| own["start_seconds"].as_f64().unwrap())
        };
        for n in 0..windows.len() {
            let begin = origin(n).unwrap();
            let behind = origin(n + 1).unwrap_or(2.5);
            assert!(begin < behind, "{windows:?}");
            let inside = words(recording).iter().any(|word| {
                let [start, end] = times(word);
                begin - 1e-9 <= start && end <= behind + 1e-9
            });
            assert!(inside, "{n}: {recording}");
        }
    }
    let message = place.refusal(&["long.wav", "--model", "model", "--text", "ab ac"]);
    assert!(
        message.contains("long.wav") && message.contains("split"),
        "{message}"
    );
}

#[test]
fn the_document_has_every_field() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/align.md");
    let document = fs::read_to_string(file).unwrap();
    let (_, after) = document.split_once("```json\n").unwrap();
    let example: Value = serde_json::from_str(after.split_once("```").unwrap().0).unwrap();
    check(&example);
    let named = |value: &Value| {
        let mut names = Vec::new();
        fields(value, "", &mut names);
        names.sort();
        names.dedup();
        names
    };
    let place = Place::new();
    let train = sample(TRAIN);
    let told = ["--text", "the train"];
    let spes = ["--from", "spes", "--at", "encoder", "--reliability", "0.01"];
    let mut names = named(&place.recording(&[&[train.as_str()], &told[..], &spes].concat()));
    assert_eq!(named(&example), names);
    names.extend(named(
        &place.recording(&[&[train.as_str()], &told[..]].concat()),
    ));
    for name in names {
        // Groups are described by their parts.
        let group = ["words", "made", "made.windows", "made.heads[]"].contains(&name.as_str());
        assert!(group || document.contains(&format!("`{name}`")), "{name}");
    }
}
