//! The command that makes a log again, from the log's settings.

use crate::study::log::Header;

/// `sonograd study ...` with the options that made a log; files, folders and
/// the number of utterances are not in a log: they stand as `MANIFEST`,
/// `FOLDER` and `FILE`.
pub fn again(header: &Header) -> String {
    let settings = &header.settings;
    let mut command = String::from("sonograd study MANIFEST --out FOLDER");
    command += &format!(" --model {}", word(&header.model));
    let mut option = |name: &str, value: String| command += &format!(" --{name} {}", word(&value));
    if let Some(methods) = settings.get("methods").and_then(|own| own.as_array()) {
        // Attention is always there.
        let names = methods.iter().filter_map(|name| name.as_str());
        let names: Vec<&str> = names.filter(|name| *name != "attention").collect();
        if names.is_empty() {
            option("method", "attention".into());
        } else {
            option("method", names.join(","));
        }
    }
    let stop = settings.get("stop");
    for name in ["masks", "reliability"] {
        if let Some(value) = stop.and_then(|stop| stop.get(name)) {
            option(name, value.to_string());
        }
    }
    for (key, name) in [
        ("pooling", "pooling"),
        ("normalisation", "normalise"),
        ("precision", "precision"),
    ] {
        if let Some(value) = settings.get(key).and_then(|value| value.as_str()) {
            option(name, value.into());
        }
    }
    if settings.contains_key("onsets") {
        option("onsets", "FILE".into());
    }
    for (key, name) in [("seed", "seed"), ("beams", "beam"), ("checks", "checks")] {
        if let Some(value) = settings.get(key).and_then(|value| value.as_u64()) {
            option(name, value.to_string());
        }
    }
    // Whatever else can be switched on has the name of its setting.
    for (key, value) in settings {
        if value.as_bool() == Some(true) {
            let name = match key.as_str() {
                "special_tokens" => "special",
                name => name,
            };
            command += &format!(" --{}", word(&name.replace('_', "-")));
        }
    }
    command
}

/// One word of a shell's command.
fn word(text: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_.,/".contains(letter);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one() {
        assert_eq!(word("base-en"), "base-en");
        assert_eq!(word("a b"), "'a b'");
        assert_eq!(word("it's; rm"), "'it'\\''s; rm'");
        assert_eq!(word(""), "''");
    }
}
