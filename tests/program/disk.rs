//! Where nothing can be written any more: full disks, limits, folders without
//! permission. Each ends in one line, leaves what was there as it was, and a
//! study goes on to the same bytes.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::random_model::{self, tone, write_wav};

/// A device on which every byte is one too many.
const FULL: &str = "/dev/full";

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

struct Place {
    folder: tempfile::TempDir,
}

/// By name: all files of a folder.
type Files = BTreeMap<PathBuf, Vec<u8>>;

impl Place {
    /// A model, sounds and a list of them.
    fn new() -> Self {
        let folder = random_model::place();
        let place = Self { folder };
        let mut list = String::from("id\taudio\ttgt_text\n");
        for number in 0..3 {
            let name = format!("{number}.wav");
            write_wav(&place.path(&name), &tone(5_000 + 1_000 * number));
            list += &format!("{number}\t{name}\ta b\n");
        }
        fs::write(place.path("list.tsv"), list).unwrap();
        // For a user who is not the one that made it.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.folder.path(), open).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn of(&self, program: &str, before: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(before).args(arguments);
        command.current_dir(self.folder.path());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.of(env!("CARGO_BIN_EXE_sonograd"), &[], arguments)
    }

    fn done(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    /// Files may have so many blocks of 512 bytes.
    fn limited(&self, blocks: usize, arguments: &[&str]) -> Output {
        let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let before = ["-c", &script, env!("CARGO_BIN_EXE_sonograd")];
        self.of("sh", &before, arguments).output().unwrap()
    }

    fn files(&self, folder: &str) -> Files {
        let mut all = Files::new();
        let mut open = vec![self.path(folder)];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => open.push(path),
                    false => _ = all.insert(path.clone(), fs::read(path).unwrap()),
                }
            }
        }
        all
    }

    /// Nothing temporary is left anywhere.
    fn is_clean(&self) {
        for path in self.files("").keys() {
            let text = path.strip_prefix(self.folder.path()).unwrap();
            assert!(!text.to_string_lossy().contains(".sonograd-"), "{text:?}");
        }
    }
}

/// The one error of a run that could not go on.
fn error(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let errors = said.lines().filter(|line| line.starts_with("error"));
    let errors: Vec<&str> = errors.collect();
    assert_eq!(errors.len(), 1, "{said}");
    errors[0].to_owned()
}

const EXPLAIN: [&str; 7] = [
    "explain", "0.wav", "--model", "model", "--device", "cpu", "--out",
];

const ALIGN: [&str; 7] = [
    "align", "0.wav", "--model", "model", "--device", "cpu", "--out",
];

const STUDY: [&str; 9] = [
    "study", "list.tsv", "--model", "model", "--device", "cpu", "--method", "gradient", "--out",
];

const HEADS: [&str; 9] = [
    "heads", "list.tsv", "--model", "model", "--device", "cpu", "--by", "gradient", "--write",
];

fn with<'a>(command: &[&'a str], out: &'a str) -> Vec<&'a str> {
    [command, &[out]].concat()
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux has such a device")]
fn results_that_find_no_room_are_one_line_and_exit_code_2() {
    let place = Place::new();
    place.done(&with(&STUDY, "done"));
    let own = ["--model", "model", "--device", "cpu"];
    let sound = [&["0.wav"], &own[..]].concat();
    let list = [&["list.tsv", "--by", "gradient"], &own[..]].concat();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/speech_to_text");
    let fixture = ["--model", fixture, "--device", "cpu"];
    let bench = ["--seconds", "0.3", "--tokens", "2", "--work", "forward"];
    for (command, more) in [
        (&["transcribe"][..], &sound[..]),
        (&["transcribe", "--json"], &sound),
        (&["align"], &sound),
        (&["align", "--format", "ctm"], &sound),
        (&["explain", "--out", "x"], &sound),
        (&["explain", "--json", "--out", "x"], &sound),
        (&["heads"], &list),
        (&["heads", "--json"], &list),
        (&["study", "--tables", "done"], &[]),
        (&["study", "--json", "--tables", "done"], &[]),
        (&["validate"], &fixture),
        (&["validate", "--json"], &fixture),
        (
            &["bench", "--estimate", "--seconds", "0.3", "--tokens", "2"],
            &own,
        ),
        (&["bench", "--json"], &[&bench[..], &own].concat()),
        (&["bench", "--preset", "list"], &[]),
        (&["devices"], &[]),
        (&["devices", "--json"], &[]),
        (&["--version"], &[]),
        (&["explain", "--help"], &[]),
    ] {
        let full = OpenOptions::new().write(true).open(FULL).unwrap();
        let mut command = place.command(&[command, more].concat());
        let ended = command.stdout(Stdio::from(full)).output().unwrap();
        let said = error(&ended);
        assert!(said.contains("standard output"), "{command:?}: {said}");
    }
    place.is_clean();
}

/// Whatever the size at which a file may grow no further: what was there stays
/// as it was, and nothing half is left.
#[test]
fn files_that_cannot_grow_leave_everything_as_it_was() {
    let place = Place::new();
    fs::create_dir(place.path("times")).unwrap();
    let commands = [
        (with(&EXPLAIN, "out"), "out"),
        (with(&ALIGN, "a.json"), "a.json"),
        (with(&ALIGN, "times"), "times"),
        (with(&HEADS, "heads.json"), "heads.json"),
    ];
    for (command, out) in &commands {
        let mut failed = 0;
        // First where nothing is, then where results of before are.
        for round in 0..2 {
            let before = place.files("");
            for blocks in [0, 1, 3, 30, 100] {
                let output = place.limited(blocks, command);
                if output.status.code() == Some(0) {
                    break;
                }
                let said = error(&output);
                assert!(said.contains(out), "{said}");
                assert_eq!(place.files(""), before, "{command:?} {blocks}");
                failed += 1;
            }
            place.done(command);
            assert!(round == 0 || place.files("").len() == before.len());
        }
        // Word times that are there already are not written again.
        assert!(failed >= 1, "{command:?}");
    }
    place.is_clean();
}

#[test]
fn a_study_that_cannot_grow_goes_on_to_the_same_bytes() {
    let place = Place::new();
    place.done(&with(&STUDY, "whole"));
    let tables = |folder: &str| {
        ["tables.json", "tables.csv", "summary.txt", "report.html"]
            .map(|name| fs::read(place.path(folder).join(name)).unwrap_or_default())
    };
    let largest = place.files("whole").values().map(Vec::len).max().unwrap();
    let mut failed = 0;
    for (number, blocks) in [0, 1, 4, 8, 12, 16, 24, 32, 64, 128]
        .into_iter()
        .enumerate()
    {
        let out = format!("out{number}");
        let output = place.limited(blocks, &with(&STUDY, &out));
        let log = fs::read(place.path(&out).join("model.jsonl")).unwrap_or_default();
        assert!(
            log.is_empty() || log.ends_with(b"}\n"),
            "{blocks}: half a line"
        );
        match largest > blocks * 512 {
            true => {
                let said = error(&output);
                assert!(said.contains(&out), "{said}");
                // All tables or none.
                assert_eq!(tables(&out), <[Vec<u8>; 4]>::default(), "{blocks}");
                failed += 1;
            }
            false => assert_eq!(output.status.code(), Some(0), "{output:?}"),
        }
        place.done(&with(&STUDY, &out));
        assert_eq!(tables(&out), tables("whole"), "{blocks}");
        let kept = fs::read(place.path(&out).join("model.jsonl")).unwrap();
        assert_eq!(kept, place.files("whole")[&place.path("whole/model.jsonl")]);
        // What is done stays where it can be written no more.
        let before = place.files(&out);
        error(&place.limited(1, &with(&STUDY, &out)));
        assert_eq!(place.files(&out), before);
    }
    assert!(failed > 5, "{failed}");
    place.is_clean();
}

/// As a user who may read everything and write nothing: found before a device
/// is opened.
#[test]
fn folders_without_permission_are_found_before_the_work() {
    let place = Place::new();
    place.done(&with(&STUDY, "read"));
    fs::create_dir(place.path("new")).unwrap();
    for folder in ["read", "new", ""] {
        let shut = fs::Permissions::from_mode(0o555);
        fs::set_permissions(place.path(folder), shut).unwrap();
    }
    let before = place.files("");
    for arguments in [
        with(&EXPLAIN, "new/x"),
        with(&EXPLAIN, "x"),
        with(&ALIGN, "new/x.json"),
        with(&ALIGN, "new"),
        with(&HEADS, "new/x.json"),
        with(&STUDY, "new"),
        with(&STUDY, "new/x"),
        with(&STUDY, "read"),
        vec!["study", "--tables", "read"],
        EXPLAIN[..6].to_vec(),
    ] {
        let mut command = place.command(&arguments);
        if is_root() {
            // To whom nothing is shut.
            command.uid(NOBODY).gid(NOBODY);
        }
        let Ok(output) = command.output() else {
            println!("skipped: the program stands where another user cannot run it");
            break;
        };
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        let said = error(&output);
        assert!(said.contains("ermission denied"), "{arguments:?}: {said}");
        assert_eq!(place.files(""), before);
    }
    for folder in ["read", "new", ""] {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.path(folder), open).unwrap();
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A log that cannot be written is found before the work, too.
#[test]
fn a_log_without_permission_is_found_before_the_work() {
    let place = Place::new();
    place.done(&[&with(&STUDY, "out"), &["--limit", "1"][..]].concat());
    let log = place.path("out/model.jsonl");
    let shut = |mode| fs::set_permissions(&log, fs::Permissions::from_mode(mode)).unwrap();
    shut(0o444);
    let mut command = place.command(&with(&STUDY, "out"));
    if is_root() {
        // To whom nothing is shut.
        command.uid(NOBODY).gid(NOBODY);
    }
    let Ok(output) = command.output() else {
        println!("skipped: the program stands where another user cannot run it");
        return;
    };
    // No device was opened.
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = error(&output);
    assert!(
        said.contains("model.jsonl") || said.contains("out: "),
        "{said}"
    );
    assert!(said.contains("ermission denied"), "{said}");
    shut(0o644);
    place.done(&with(&STUDY, "out"));
}

/// A disk of its own that is full, and then is not: in a space of mounts that
/// goes with the script.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux has such spaces")]
fn a_full_disk_is_one_line_and_the_study_goes_on() {
    let place = Place::new();
    place.done(&with(&STUDY, "whole"));
    fs::create_dir(place.path("disk")).unwrap();
    let script = r#"
        mount -t tmpfs -o size=64k none disk || exit 77
        "$@" disk/study > out 2> said; echo $? > code
        ls -a disk/study > left
        "$0" explain 0.wav --model model --device cpu --out disk/x 2> explained
        ls -a disk > beside
        mount -o remount,size=64m none disk
        "$@" disk/study || exit 1
        cp -r disk/study again
    "#;
    let mut arguments = vec!["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_sonograd")];
    arguments.push(env!("CARGO_BIN_EXE_sonograd"));
    arguments.extend(STUDY);
    let ended = Command::new("unshare")
        .args(arguments)
        .current_dir(place.folder.path())
        .output();
    let Some(ended) = ended.ok().filter(|own| own.status.code() != Some(77)) else {
        println!("skipped: no space of mounts for this user");
        return;
    };
    if !place.path("code").is_file() {
        println!("skipped: no space of mounts for this user: {ended:?}");
        return;
    }
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(read("code"), "2\n");
    for said in [read("said"), read("explained")] {
        let errors: Vec<&str> = said
            .lines()
            .filter(|own| own.starts_with("error"))
            .collect();
        assert!(
            matches!(errors[..], [line] if line.contains("No space left")),
            "{said}"
        );
    }
    for names in [read("left"), read("beside")] {
        assert!(!names.contains(".sonograd-"), "{names}");
    }
    let again = place.files("again");
    assert_eq!(again.len(), place.files("whole").len());
    for (path, bytes) in place.files("whole") {
        let name = Path::new(path.file_name().unwrap());
        assert_eq!(again[&place.path("again").join(name)], bytes, "{name:?}");
    }
}
