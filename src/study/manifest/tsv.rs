//! fairseq's speech-to-text TSV. `audio` is a file, or as fairseq's tools write
//! it `file:offset:frames`, both in samples at the file's rate.

use std::path::Path;

use super::{Item, some};
use crate::audio::Part;

/// The utterances of a list whose sounds are relative to `folder`.
///
/// # Errors
/// What is wrong, with the line.
pub(super) fn read(text: &str, folder: &Path) -> Result<Vec<Item>, String> {
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = lines
        .next()
        .map_or("", |(_, line)| line)
        .split('\t')
        .collect();
    let column = |name: &str| header.iter().position(|own| own.trim() == name);
    let needed = |name: &str| {
        let missing = || format!("line 1 has no column {name}; columns are parted by tabs");
        column(name).ok_or_else(missing)
    };
    let (id, audio, target_text) = (needed("id")?, needed("audio")?, needed("tgt_text")?);
    let (source, target) = (column("src_lang"), column("tgt_lang"));
    let mut items = Vec::new();
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != header.len() {
            return Err(format!(
                "line {} has {} fields where line 1 has {}",
                number + 1,
                fields.len(),
                header.len()
            ));
        }
        let (audio, part) = sound(fields[audio].trim(), folder)
            .map_err(|problem| format!("line {}: audio {problem}", number + 1))?;
        items.push(Item {
            id: fields[id].trim().to_owned(),
            audio: audio.into(),
            part,
            text: fields[target_text].trim().to_owned(),
            source: source.and_then(|column| some(fields[column])),
            target: target.and_then(|column| some(fields[column])),
            place: 0,
            line: number + 1,
        });
    }
    Ok(items)
}

/// The file that a field names, and which part of it. A file of exactly that
/// name goes before a part of another.
fn sound<'a>(field: &'a str, folder: &Path) -> Result<(&'a str, Option<Part>), String> {
    if field.is_empty() {
        return Err("is empty".into());
    }
    let whole = folder.join(field).exists();
    let mut pieces = field.rsplitn(3, ':');
    let [last, middle, file] = [pieces.next(), pieces.next(), pieces.next()];
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = |text: &str| text.parse::<f64>().is_ok();
    let (file, part) = match (file, middle.filter(digits), last.filter(digits)) {
        _ if whole => (field, None),
        (Some(file), Some(offset), Some(count)) => {
            let parsed = (offset.parse(), count.parse());
            let (Ok(offset), Ok(count)) = parsed else {
                return Err(format!("{field} is a part beyond every file"));
            };
            if count == 0 {
                return Err(format!("{field} is a part of no samples"));
            }
            (file, Some(Part::Samples { offset, count }))
        }
        (Some(_), ..) if [middle, last].into_iter().flatten().all(number) => {
            let problem = "is no file:offset:frames, both whole numbers of samples";
            return Err(format!("{field} {problem}"));
        }
        (None, _, Some(_)) if middle.is_some_and(|name| name.contains('.')) => {
            let problem = "is no file, and no file:offset:frames";
            return Err(format!("{field} {problem}"));
        }
        _ => (field, None),
    };
    let ends_with = |ending: &str| {
        let name = file.to_ascii_lowercase();
        name.ends_with(ending)
    };
    if ends_with(".zip") {
        let problem = "is in an archive, which is not read; unpack it and name the files";
        return Err(format!("{field} {problem}"));
    }
    if ends_with(".npy") {
        let problem = "holds features, where a sound is needed";
        return Err(format!("{field} {problem}"));
    }
    Ok((file, part))
}
