//! Sounds as the program is given them: standard input and pipes, and what it
//! says of those that are odd.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::random_model::{self, tone, write_wav};
use serde_json::Value;

/// A folder with a random model, a sound, and the same as a recorder leaves it
/// that never came to write its length.
struct Place {
    folder: tempfile::TempDir,
}

const UNSTATED: &str = "does not state the sound's length";

impl Place {
    fn new() -> Self {
        let folder = random_model::place();
        let place = Self { folder };
        write_wav(&place.path("whole.wav"), &tone(8_000));
        let mut piped = fs::read(place.path("whole.wav")).unwrap();
        let data = piped.windows(4).position(|own| own == b"data").unwrap();
        piped[data + 4..data + 8].fill(0xff);
        piped[4..8].fill(0xff);
        fs::write(place.path("piped.wav"), piped).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sonograd"));
        command
            .args(arguments)
            .args(["--model", "model", "--device", "cpu"])
            .current_dir(self.folder.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it with a file's bytes on standard input, through a pipe.
    fn fed(&self, arguments: &[&str], file: &str) -> Output {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let bytes = fs::read(self.path(file)).unwrap();
        let mut input = program.stdin.take().unwrap();
        // A program that refuses it may be gone before all is read.
        let _ = input.write_all(&bytes);
        drop(input);
        program.wait_with_output().unwrap()
    }
}

/// What was said on standard error by a run that went well.
fn said(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

#[test]
fn standard_input_is_heard_like_a_file() {
    let place = Place::new();
    let text = place.run(&["transcribe", "whole.wav"]);
    said(&text);
    let mut names = vec!["-"];
    if cfg!(target_os = "linux") {
        names.push("/dev/stdin");
    }
    for name in names {
        let heard = place.fed(&["transcribe", name], "piped.wav");
        let said = said(&heard);
        let called = if name == "-" { "standard input" } else { name };
        assert!(
            said.contains(&format!("warning: {called}: the file {UNSTATED}")),
            "{said}"
        );
        assert_eq!(heard.stdout, text.stdout);
        let heard = place.fed(&["transcribe", "--json", name], "whole.wav");
        let document: Value = serde_json::from_slice(&heard.stdout).unwrap();
        assert_eq!(document["audio"], name);
        assert_eq!(document.get("warnings"), None);
    }
    let refused = place.fed(&["transcribe", "-"], "model/config.json");
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("standard input: the sound is of an unknown format"),
        "{message}"
    );

    let twice = place.fed(&["transcribe", "-", "whole.wav", "-"], "whole.wav");
    assert_eq!(twice.status.code(), Some(2));
    let message = String::from_utf8(twice.stderr).unwrap();
    assert!(
        message.contains("standard input (-) is given twice"),
        "{message}"
    );

    said(&place.fed(&["explain", "--method", "gradient", "-"], "whole.wav"));
    let document = fs::read(place.path("standard-input.explained/explanation.json")).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["audio"]["file"], "standard input");
    said(&place.fed(
        &["align", "-", "--format", "srt", "--out", "."],
        "whole.wav",
    ));
    assert!(place.path("standard-input.srt").is_file());
}

#[test]
fn every_command_warns_of_odd_sounds() {
    let place = Place::new();
    write_wav(&place.path("silence.wav"), &[0.0; 8_000]);
    let loud: Vec<f32> = tone(8_000).iter().map(|x| 9_000.0 * x).collect();
    write_wav(&place.path("loud.wav"), &loud);
    for (file, words) in [
        ("piped.wav", UNSTATED),
        ("silence.wav", "the sound is silent"),
        ("loud.wav", "far above full scale"),
    ] {
        let warning = format!("warning: {file}: ");
        let warns = |output: Output| {
            let said = said(&output);
            let line = said.lines().find(|line| line.starts_with(&warning));
            assert!(line.is_some_and(|line| line.contains(words)), "{said}");
            output.stdout
        };
        let document = warns(place.run(&["transcribe", "--json", file]));
        let document: Value = serde_json::from_slice(&document).unwrap();
        let own = document["warnings"][0].as_str().unwrap();
        assert!(own.contains(words), "{own}");
        warns(place.run(&["align", file]));
        warns(place.run(&["explain", file, "--method", "attention", "--out", "out"]));
        let document = fs::read(place.path("out/explanation.json")).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        let own = document["audio"]["warnings"][0].as_str().unwrap();
        assert!(own.contains(words), "{own}");
    }
    let quiet = said(&place.run(&[
        "explain",
        "whole.wav",
        "--method",
        "attention",
        "--out",
        "out",
    ]));
    assert!(!quiet.contains("warning"), "{quiet}");
    let document = fs::read(place.path("out/explanation.json")).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["audio"].get("warnings"), None);

    let list = "id\taudio\tn_frames\ttgt_text\tspeaker\tsrc_lang\ttgt_lang\n\
                one\tpiped.wav\t1\tx\tx\ten\ten\ntwo\tloud.wav\t1\tx\tx\ten\ten\n";
    fs::write(place.path("list.tsv"), list).unwrap();
    for arguments in [
        &["study", "list.tsv", "--out", "log", "--masks", "4"][..],
        &["heads", "list.tsv", "--by", "gradient"],
    ] {
        let said = said(&place.run(arguments));
        for (file, words) in [
            ("piped.wav", UNSTATED),
            ("loud.wav", "far above full scale"),
        ] {
            let line = said.lines().find(|line| line.contains(words));
            let own = line.is_some_and(|line| line.contains("warning: ") && line.contains(file));
            assert!(own, "{arguments:?}: {said}");
        }
    }

    // What is odd about a sound is said of one that then fails, too.
    let whole = fs::read(place.path("piped.wav")).unwrap();
    fs::write(place.path("short.wav"), &whole[..whole.len() - 31_800]).unwrap();
    let list = list.replace("one\tpiped.wav", "one\tshort.wav");
    fs::write(place.path("list.tsv"), list).unwrap();
    let output = place.run(&["heads", "list.tsv", "--by", "gradient"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("1 of 2 utterances failed"), "{said}");
    assert!(
        said.contains("short.wav: the file does not state"),
        "{said}"
    );
}

/// Who asks for no times need not know that they may be late.
#[test]
fn what_concerns_times_is_said_where_there_are_times() {
    let place = Place::new();
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/audio/speech.aac"
    );
    fs::copy(fixture, place.path("speech.aac")).unwrap();
    let delay = "how much silence its encoder put";
    let said = |arguments: &[&str]| said(&place.run(arguments));
    assert!(!said(&["transcribe", "speech.aac"]).contains(delay));
    assert!(said(&["align", "speech.aac"]).contains(delay));
}
