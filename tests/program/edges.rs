//! What people give that is no file, no option, or no text for a terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sonograd"));
    program
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// One safe line and exit code 2; the line.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    let mut lines: Vec<&str> = message.split_terminator('\n').collect();
    lines.retain(|line| !line.starts_with("device: "));
    let [line] = lines[..] else {
        panic!("{message}");
    };
    assert!(line.starts_with("error: "), "{message}");
    assert!(!line.contains(|c: char| c.is_control()), "{message:?}");
    assert!(output.stdout.is_empty());
    line.to_owned()
}

#[test]
fn wrong_uses_are_one_line() {
    let folder = TempDir::new().unwrap();
    for (arguments, words) in [
        (&[][..], "no command"),
        (&["sing"], "sing"),
        (&["devices", "x"], "'x'"),
        (&["transcribe"], "<AUDIO>"),
        (&["align", "a.wav", "--format", "x"], "vtt"),
        (&["explain", "--device"], "--device"),
        (&["study", "--shard"], "sonograd study --help"),
        (&["heads", "--top", "-1"], "sonograd heads --help"),
        (&["validate", "--modle", "x"], "--model"),
        (&["bench", "--seconds", "0"], "above 0"),
        (&["bench", "--seconds", "a\u{1b}[2J\nb"], "'a b'"),
        (&["bench", "--preset", "whisper"], "whisper-tiny (37.8M)"),
    ] {
        let line = refusal(folder.path(), arguments);
        println!("{line}");
        assert!(line.contains(words), "{words:?} is not in {line}");
    }
    let output = run(folder.path(), &["bench", "--help"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn presets_are_listed_and_the_largest_is_counted() {
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), &["bench", "--preset", "list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let large = "whisper-large-v3 1543.5M 6174";
    assert!(text.lines().any(|line| words(line) == large), "{text}");
    let output = run(folder.path(), &["bench", "--preset", "list", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["preset"], "whisper-tiny");

    let large = [
        "bench",
        "--preset",
        "whisper-large-v3",
        "--estimate",
        "--work",
        "forward",
    ];
    let output = run(folder.path(), &large);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("1543.5M parameters"), "{text}");
}

/// A model of 6 GB, in an address space of 1 GB.
#[test]
#[cfg(target_os = "linux")]
fn an_estimate_takes_no_memory_of_the_models_size() {
    let limited = "ulimit -v 1000000; exec \"$0\" bench --preset whisper-large-v3 --estimate";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_sonograd")])
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
}

#[test]
#[cfg(unix)]
fn names_cannot_move_the_cursor() {
    let folder = TempDir::new().unwrap();
    let name = "a\u{1b}[2J\u{9b}1m\u{202e}b\n.wav";
    let line = refusal(folder.path(), &["transcribe", name]);
    assert!(
        line.contains(r"a\u{1b}[2J\u{9b}1m\u{202e}b\n.wav"),
        "{line}"
    );
    fs::write(folder.path().join(name), "no sound").unwrap();
    let line = refusal(folder.path(), &["transcribe", name]);
    assert!(line.contains("unknown format"), "{line}");
    let long = "x".repeat(1 << 20);
    let line = refusal(
        folder.path(),
        &["transcribe", "s.wav", "--model", &long[..100_000]],
    );
    assert!(line.len() < 3000, "{}", line.len());
}

#[test]
#[cfg(target_os = "linux")]
fn devices_and_pipes_are_no_files() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    for (arguments, words) in [
        (&["transcribe", "/dev/zero"][..], "unknown format"),
        (&["transcribe", "/dev/null"], "empty file"),
        (
            &["transcribe", "a.wav", "--model", "/dev/zero"],
            "/dev/zero",
        ),
        (&["study", "/dev/zero", "--out", "x"], "256 MiB"),
    ] {
        let line = refusal(path, arguments);
        assert!(line.contains(words), "{words:?} is not in {line}");
    }
    // FIFOs: nobody will ever write to them.
    let model = path.join("model");
    fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors"] {
        let made = Command::new("mkfifo")
            .arg(model.join(name))
            .status()
            .unwrap();
        assert!(made.success());
    }
    let line = refusal(path, &["transcribe", "a.wav", "--model", "model"]);
    assert!(line.contains("is a pipe or a device"), "{line}");
}

/// A shell's `<(...)`, and a pipe with a name.
#[test]
#[cfg(target_os = "linux")]
fn sounds_come_through_pipes() {
    let folder = TempDir::new().unwrap();
    let sound = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio/speech.webm");
    let fifo = folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let name = fifo.clone();
    let bytes = fs::read(&sound).unwrap();
    let writer = std::thread::spawn(move || fs::write(name, bytes));
    let read = sonograd::audio::load(&fifo).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(read, sonograd::audio::load(&sound).unwrap());
}
