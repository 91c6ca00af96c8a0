//! Where nothing can be written any more.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::random_model::{self, SMALL, tone, write_wav};

/// A device on which every byte is one too many.
const FULL: &str = "/dev/full";

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux has such a device")]
fn results_that_find_no_room_are_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    random_model::write_folder(&folder.path().join("model"), SMALL);
    write_wav(&folder.path().join("sound.wav"), &tone(8_000));
    let own = ["sound.wav", "--model", "model", "--device", "cpu"];
    for command in [&["transcribe"][..], &["transcribe", "--json"], &["align"]] {
        let full = OpenOptions::new().write(true).open(FULL).unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_sonograd"))
            .args(command)
            .args(own)
            .current_dir(folder.path())
            .stdout(Stdio::from(full))
            .output()
            .unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        let errors: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("error"))
            .collect();
        assert_eq!(ended.status.code(), Some(2), "{command:?}: {said}");
        assert!(
            matches!(errors[..], [line] if line.contains("standard output")),
            "{command:?}: {said}"
        );
    }
}
