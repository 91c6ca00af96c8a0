//! What the program writes, and what it leaves as it is: files of others,
//! links, folders without permission.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::random_model::{self, tone, write_wav};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A model, and two sounds that have the same name.
    fn new() -> Self {
        let folder = random_model::place();
        let place = Self { folder };
        for (name, length) in [("a", 5_000), ("b", 6_000)] {
            fs::create_dir(place.path(name)).unwrap();
            write_wav(&place.path(&format!("{name}/x.wav")), &tone(length));
        }
        fs::copy(place.path("b/x.wav"), place.path("y.wav")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sonograd"));
        command
            .args(arguments)
            .args(["--model", "model", "--device", "cpu"]);
        command.current_dir(self.folder.path()).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Refused with one line, before a device is opened.
    fn refused(&self, arguments: &[&str], words: &[&str]) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        for words in words {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}

#[test]
fn sounds_of_one_name_are_not_explained_into_one_folder() {
    let place = Place::new();
    let both = ["explain", "a/x.wav", "b/x.wav", "--method", "attention"];
    for more in [&[][..], &["--out", "out"]] {
        let words = [
            "a/x.wav and b/x.wav",
            "x.explained",
            "one at a time, each with --out",
        ];
        place.refused(&[&both[..], more].concat(), &words);
    }
    let twice = ["explain", "a/x.wav", "./a/x.wav", "--method", "attention"];
    place.refused(&twice, &["x.explained"]);
    assert!(!place.path("x.explained").exists() && !place.path("out").exists());
    // One after the other, too; the same sound again is no other.
    let explain = |sound| ["explain", sound, "--method", "attention"];
    place.done(&explain("a/x.wav"));
    let first = place.read("x.explained/explanation.json");
    place.refused(
        &explain("b/x.wav"),
        &["x.explained", "another sound", "--out"],
    );
    assert_eq!(place.read("x.explained/explanation.json"), first);
    place.done(&[&explain("a/x.wav")[..], &["--seed", "3"]].concat());
    assert_ne!(place.read("x.explained/explanation.json"), first);
    place.done(&[&explain("b/x.wav")[..], &["--out", "x.explained"]].concat());
}

/// Also where several are written: before the first is begun.
#[test]
fn folders_of_others_are_found_before_the_first_sound() {
    let place = Place::new();
    fs::create_dir_all(place.path("out/y.explained")).unwrap();
    fs::write(place.path("out/y.explained/notes.txt"), "mine").unwrap();
    let several = [
        "explain",
        "a/x.wav",
        "y.wav",
        "--method",
        "attention",
        "--out",
    ];
    place.refused(
        &[&several[..], &["out"]].concat(),
        &["out/y.explained", "not written by explain"],
    );
    assert!(!place.path("out/x.explained").exists());
    place.refused(
        &[&several[..], &["y.wav"]].concat(),
        &["y.wav", "no folder"],
    );
    #[cfg(target_os = "linux")]
    {
        place.refused(
            &[&several[..], &["/proc/self"]].concat(),
            &["/proc/", "written"],
        );
        place.refused(
            &["explain", "y.wav", "--out", "/proc/self/new"],
            &["/proc/self", "written"],
        );
        place.refused(
            &["align", "y.wav", "--out", "/proc/self/new"],
            &["/proc/self", "written"],
        );
        place.refused(
            &["align", "y.wav", "--out", "/proc/self"],
            &["/proc/", "written"],
        );
    }
}

#[test]
#[cfg(unix)]
fn links_are_followed() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let explain = |sound: &str, out: &str| {
        place.done(&["explain", sound, "--method", "attention", "--out", out]);
    };
    symlink("real", place.path("link")).unwrap();
    for sound in ["a/x.wav", "y.wav"] {
        explain(sound, "link");
        assert!(place.path("link").is_symlink());
        assert!(place.path("real").is_dir() && !place.path("real").is_symlink());
    }
    assert!(place.read("real/explanation.json").contains("y.wav"));
    // A link to a folder of somebody else is no way around it.
    fs::create_dir(place.path("theirs")).unwrap();
    fs::write(place.path("theirs/notes.txt"), "mine").unwrap();
    symlink("theirs", place.path("other")).unwrap();
    let words = ["theirs", "not written by explain"];
    place.refused(&["explain", "y.wav", "--out", "other"], &words);
    symlink("times", place.path("grids")).unwrap();
    place.done(&[
        "align", "y.wav", "a/x.wav", "--format", "textgrid", "--out", "grids",
    ]);
    assert!(place.path("times/x.TextGrid").is_file() && place.path("grids").is_symlink());
}

/// A folder's word times may be somebody's work of weeks.
#[test]
fn word_times_that_others_wrote_are_not_replaced() {
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    let align = |format: &'static str| {
        let words = ["align", "a/x.wav", "y.wav", "--out", "out", "--format"];
        [&words[..], &[format]].concat()
    };
    for (format, file) in [("json", "y.json"), ("textgrid", "y.TextGrid")] {
        let arguments = align(format);
        // Its own are replaced.
        place.done(&arguments);
        place.done(&arguments);
        let path = format!("out/{file}");
        let own = place.read(&path);
        // As Praat saves what it has opened.
        let others = own
            .replace("= 0\n", "= 0 \n")
            .replace("sonograd-alignment", "mine");
        assert_ne!(own, others);
        fs::write(place.path(&path), &others).unwrap();
        fs::remove_file(place.path(&path.replace("/y.", "/x."))).unwrap();
        place.refused(
            &arguments,
            &[&path, "does not show that sonograd wrote it", "--out"],
        );
        assert_eq!(place.read(&path), others);
        assert!(
            !place.path(&path.replace("/y.", "/x.")).exists(),
            "nothing is begun"
        );
        fs::write(place.path(&path), "").unwrap();
        place.done(&arguments);
        assert_eq!(place.read(&path), own);
    }
    for (format, file) in [("srt", "y.srt"), ("vtt", "y.vtt"), ("ctm", "y.ctm")] {
        fs::write(place.path("out").join(file), "mine").unwrap();
        place.refused(
            &align(format),
            &[file, "does not show that sonograd wrote it"],
        );
        assert_eq!(place.read(&format!("out/{file}")), "mine");
    }
    // What it wrote itself is known while nobody has changed it; SRT, which has
    // no comments, where it would be the same.
    for (format, file) in [("srt", "y.srt"), ("vtt", "y.vtt"), ("ctm", "y.ctm")] {
        let path = format!("out/{file}");
        fs::remove_file(place.path(&path)).unwrap();
        let arguments = align(format);
        place.done(&arguments);
        let own = place.read(&path);
        place.done(&arguments);
        let other = [&arguments[..], &["--median", "9", "--from", "gradient"]].concat();
        if format != "srt" {
            place.done(&other);
            place.done(&arguments);
        }
        assert_eq!(place.read(&path), own);
        let corrected = own.replacen("00", "01", 1) + "\n";
        fs::write(place.path(&path), &corrected).unwrap();
        let output = place.run(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        let code = if format == "srt" { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(&path) && said.contains("not show that sonograd wrote it"));
        assert_eq!(place.read(&path), corrected);
    }
    // A folder that is not there is one by its slash.
    place.done(&["align", "y.wav", "--out", "fresh/"]);
    assert!(place.read("fresh/y.json").contains("y.wav"));
    #[cfg(target_os = "linux")]
    assert!(
        place
            .done(&["align", "y.wav", "--out", "/dev/stdout"])
            .contains("y.wav")
    );
    // Who names the file means it.
    fs::write(place.path("all.json"), "old").unwrap();
    place.done(&["align", "y.wav", "--out", "all.json"]);
    assert!(place.read("all.json").starts_with("{\"format\""));
}

#[test]
fn what_is_odd_about_sounds_stands_in_documents() {
    let place = Place::new();
    let bytes = fs::read(place.path("y.wav")).unwrap();
    fs::write(place.path("odd.wav"), [&bytes[..], b"surplus!"].concat()).unwrap();
    let odd = "8 bytes behind the sound's stated end were not read";
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let aligned = json(&place.done(&["align", "odd.wav"]));
    assert_eq!(aligned["warnings"], serde_json::json!([odd]));
    assert_eq!(json(&place.done(&["align", "y.wav"])).get("warnings"), None);
    let list = "id\taudio\ttgt_text\none\todd.wav\tx\ntwo\ty.wav\tx\nthree\ta/x.wav\tx\n";
    fs::write(place.path("list.tsv"), list).unwrap();
    let found = json(&place.done(&["heads", "list.tsv", "--by", "gradient", "--json"]));
    let utterances = found["utterances"].as_array().unwrap();
    let of = |id: &str| utterances.iter().find(|own| own["id"] == id).unwrap();
    assert_eq!(of("one")["warnings"], serde_json::json!([odd]));
    assert_eq!(of("two").get("warnings"), None);
}
