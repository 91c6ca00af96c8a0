//! The command that makes a log again, from the log's settings.

use crate::engine::precision::Precision;
use crate::explain::Method;
use crate::explain::spes::Stop;
use crate::study::log::Header;
use crate::study::settings::Settings;

/// `sonograd study ...` with the options that made a log; files, folders and
/// the number of utterances are not in a log: they stand as `MANIFEST`,
/// `FOLDER` and `FILE`. Superpixels are those that the command has no option
/// for.
pub fn again(header: &Header) -> String {
    let Settings {
        beams,
        checks,
        compactness: _,
        faithfulness,
        ref methods,
        normalisation,
        onsets,
        pooling,
        precision,
        seed,
        segments: _,
        sigma: _,
        special_tokens,
        stop,
    } = header.settings;
    let mut command = String::from("sonograd study MANIFEST --out FOLDER");
    let mut option = |name: &str, value: &str| command += &format!(" --{name} {}", word(value));
    option("model", &header.model_again());
    // Attention is always there.
    let others = methods.iter().filter(|own| **own != Method::Attention);
    let others: Vec<&str> = others.map(|own| own.name()).collect();
    option(
        "method",
        &match others.is_empty() {
            true => Method::Attention.name().to_owned(),
            false => others.join(","),
        },
    );
    match stop {
        // Without SPES the command takes neither.
        _ if !methods.contains(&Method::Spes) => {}
        Stop::Masks(masks) => option("masks", &masks.to_string()),
        Stop::Reliability(reliability) => option("reliability", &format!("{reliability:?}")),
    }
    option("pooling", pooling.name());
    option("normalise", normalisation.name());
    if precision != Precision::default() {
        option("precision", precision.name());
    }
    if onsets.is_some() {
        option("onsets", "FILE");
    }
    option("seed", &seed.to_string());
    if let Some(beams) = beams {
        option("beam", &beams.to_string());
    }
    option("checks", &checks.to_string());
    for (on, name) in [(faithfulness, "faithfulness"), (special_tokens, "special")] {
        if on {
            command += &format!(" --{name}");
        }
    }
    command
}

/// One word of a shell's command.
fn word(text: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_.,/@".contains(letter);
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
