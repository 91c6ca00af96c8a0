//! NeMo's JSON lines. `offset` and `duration`, in seconds, are a part of the
//! file; what has no `id` is known by its file, and by its part where the line
//! has an `offset` or another line has the same file.

use std::collections::HashMap;

use serde_json::Value;

use super::{Item, some};
use crate::audio::Part;

/// The utterances of a list.
///
/// # Errors
/// What is wrong, with the line.
pub(super) fn read(text: &str) -> Result<Vec<Item>, String> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let lines = lines.map(|(number, line)| {
        let own = Line::read(line);
        own.map_err(|problem| format!("line {}: {problem}", number + 1))
            .map(|own| (number + 1, own))
    });
    let lines: Vec<(usize, Line)> = lines.collect::<Result<_, _>>()?;
    // How many lines without ids would be known by the same file.
    let mut named: HashMap<(String, String), usize> = HashMap::new();
    for (_, line) in lines.iter().filter(|(_, line)| line.id.is_none()) {
        let key = (line.item.direction(), line.audio.clone());
        *named.entry(key).or_default() += 1;
    }
    let items = lines.into_iter().map(|(line, own)| {
        let key = (own.item.direction(), own.audio.clone());
        let alone = named.get(&key).is_none_or(|&count| count == 1);
        let id = match own.id {
            Some(id) => id,
            None if alone && !own.has_offset => own.audio,
            None => match own.item.part {
                Some(Part::Seconds { offset, duration }) => {
                    let duration = duration.map(|own| format!(":{own}"));
                    format!("{}:{offset}{}", own.audio, duration.unwrap_or_default())
                }
                _ => own.audio,
            },
        };
        Item {
            id,
            line,
            ..own.item
        }
    });
    Ok(items.collect())
}

/// What a line says.
struct Line {
    id: Option<String>,
    audio: String,
    has_offset: bool,
    /// Without its id.
    item: Item,
}

impl Line {
    fn read(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let field = |name: &str| match &value[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.as_str())),
            other => Err(format!("{name} is {other}, which is no text")),
        };
        let audio = field("audio_filepath")?.ok_or("no audio_filepath")?;
        if audio.trim().is_empty() {
            return Err("audio_filepath is empty".into());
        }
        let id = match &value["id"] {
            Value::Null => None,
            Value::String(id) => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            other => return Err(format!("id is {other}, which is neither text nor number")),
        };
        let seconds = |name: &str| match &value[name] {
            Value::Null => Ok(None),
            own => match own.as_f64() {
                Some(seconds) if seconds.is_finite() => Ok(Some(seconds)),
                _ => Err(format!("{name} is {own}, which is no number of seconds")),
            },
        };
        let offset = seconds("offset")?;
        if let Some(offset) = offset.filter(|&offset| offset < 0.0) {
            return Err(format!("offset is {offset}, which is before the sound"));
        }
        // As in NeMo, 0 and less are no duration.
        let duration = seconds("duration")?.filter(|&duration| duration > 0.0);
        let whole = offset.is_none_or(|offset| offset == 0.0) && duration.is_none();
        let (text, both) = (field("text")?, field("lang")?);
        let language = |name: &str| Ok::<_, String>(field(name)?.or(both).and_then(some));
        Ok(Self {
            id,
            audio: audio.to_owned(),
            has_offset: offset.is_some(),
            item: Item {
                audio: audio.into(),
                part: (!whole).then(|| Part::Seconds {
                    offset: offset.unwrap_or(0.0),
                    duration,
                }),
                text: text.unwrap_or_default().trim().to_owned(),
                source: language("source_lang")?,
                target: language("target_lang")?,
                ..Item::default()
            },
        })
    }
}
