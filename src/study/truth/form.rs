//! Which form a file has, and which files of a folder may have one.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    JsonLines,
    TextGrid,
    Ctm,
    Timit,
    Buckeye,
}

/// How names of files end that are looked for in folders, in small letters.
/// JSON lines are named: manifests and logs end alike.
const ENDINGS: [&str; 4] = ["textgrid", "ctm", "wrd", "words"];

impl Form {
    /// # Errors
    /// If it is none that is read.
    pub fn of(text: &str) -> std::result::Result<Self, String> {
        let start = text.trim_start();
        if start.starts_with('{') {
            return Ok(Self::JsonLines);
        }
        if start.starts_with("File type = \"ooText") {
            return Ok(Self::TextGrid);
        }
        if start.starts_with("\"Praat chronological") {
            return Err("is a chronological TextGrid; save it in Praat as text file".into());
        }
        if text.lines().any(|line| line.trim() == "#") {
            return Ok(Self::Buckeye);
        }
        let mut lines = text.lines().map(str::trim);
        let Some(line) = lines.find(|line| !line.is_empty() && !line.starts_with(";;")) else {
            return Err("has no utterances".into());
        };
        let fields: Vec<&str> = line.split_whitespace().take(5).collect();
        let number = |at: usize| fields.get(at).is_some_and(|own| own.parse::<f64>().is_ok());
        match fields.len() {
            3 if number(0) && number(1) => Ok(Self::Timit),
            // Alternatives in CTM have no times, and are told of by line.
            5 if number(2) && number(3) || fields[2..4] == ["*", "*"] => Ok(Self::Ctm),
            _ => Err(
                "has none of the forms of true onsets: TextGrid, CTM, TIMIT's .WRD, Buckeye's \
                 .words, JSON lines of id and words"
                    .into(),
            ),
        }
    }
}

/// The files of a folder that may say when words begin, in the order of their
/// names.
///
/// # Errors
/// If it cannot be read or has none.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|problem| Error::file(folder, problem))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|problem| Error::file(folder, problem))?
            .path();
        let ending = path.extension().and_then(OsStr::to_str);
        let ending = ending.map(str::to_ascii_lowercase);
        if ending.is_some_and(|own| ENDINGS.contains(&own.as_str())) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        let problem = "has no files with words (.TextGrid, .ctm, .wrd, .words); folders in it are \
                       named themselves";
        return Err(Error::file(folder, problem));
    }
    files.sort();
    Ok(files)
}
