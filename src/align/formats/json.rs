//! JSON: one object on one line for each recording.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{AlignedRecording, AlignedWord, seconds};

/// Identifies the format; `version` counts incompatible changes.
const FORMAT: &str = "sonograd-alignment";
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Recording<'a> {
    format: &'static str,
    version: u32,
    audio: &'a str,
    seconds: f64,
    text: &'a str,
    words: Vec<Word<'a>>,
    made: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Word<'a> {
    text: &'a str,
    start_seconds: f64,
    end_seconds: f64,
    confidence: f64,
    reliable: bool,
}

impl<'a> From<&'a AlignedWord> for Word<'a> {
    fn from(word: &'a AlignedWord) -> Self {
        Self {
            text: &word.text,
            start_seconds: seconds(word.start),
            end_seconds: seconds(word.end),
            // More digits would claim more than there is.
            confidence: (word.confidence * 1e4).round() / 1e4,
            reliable: word.reliable,
        }
    }
}

pub(super) fn is_own(head: &[u8]) -> bool {
    head.starts_with(format!("{{\"format\":\"{FORMAT}\",").as_bytes())
}

pub(super) fn text(recording: &AlignedRecording) -> String {
    let line = serde_json::to_string(&Recording {
        format: FORMAT,
        version: VERSION,
        audio: &recording.audio,
        seconds: seconds(recording.length),
        text: &recording.text,
        words: recording.words.iter().map(Word::from).collect(),
        made: &recording.made,
        warnings: &recording.warnings,
    });
    // Numbers and texts are always JSON.
    line.unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::tests::recording;
    use super::*;

    #[test]
    fn one_line_with_everything() {
        let mut given = recording(
            2_345,
            &[("\"hi\"", 40, 1_360, true), ("so", 1_360, 1_360, true)],
        );
        given.made.insert("from".into(), "attention".into());
        given.words[0].confidence = 2.0 / 3.0;
        assert_eq!(
            text(&given),
            "{\"format\":\"sonograd-alignment\",\"version\":1,\
             \"audio\":\"some where/a sound.wav\",\"seconds\":2.345,\"text\":\"\\\"hi\\\" so\",\
             \"words\":[{\"text\":\"\\\"hi\\\"\",\"start_seconds\":0.04,\"end_seconds\":1.36,\
             \"confidence\":0.6667,\"reliable\":true},{\"text\":\"so\",\"start_seconds\":1.36,\
             \"end_seconds\":1.36,\"confidence\":0.5,\"reliable\":false}],\
             \"made\":{\"from\":\"attention\"}}\n"
        );
        let text = text(&recording(1, &[]));
        assert!(text.contains("\"words\":[]") && is_own(text.as_bytes()));
        assert!(!is_own(b"{\"format\":\"other\"}") && !is_own(b"{"));
    }
}
