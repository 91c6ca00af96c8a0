//! A wrong use of the command line, said in one line.

use clap::CommandFactory;
use clap::error::{ContextKind, ErrorKind};

use super::Cli;

/// One line of what clap says in several: what is wrong, what may be meant, and
/// whose help to read; `first` is the program's first argument.
pub(super) fn line(error: &clap::Error, first: &str) -> String {
    let known = Cli::command().find_subcommand(first).is_some();
    let help = match known {
        true => format!("see `sonograd {first} --help`"),
        false => "see `sonograd --help`".to_owned(),
    };
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("error: no command is given; {help}");
    }
    let whole = error.to_string();
    // What is wrong stands before the usage and the pointer to the help.
    let end = match error.get(ContextKind::Usage) {
        Some(_) => "\n\nUsage: ",
        None => "\n\nFor more information, try",
    };
    let end = whole.rfind(end).unwrap_or(whole.len());
    let parts = whole[..end].trim_end().split("\n\n");
    let parts: Vec<String> = parts
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let parts = parts.join("; ");
    // Whoever gave one finds it among the names that such an option took.
    let taken = error.kind() == ErrorKind::MissingRequiredArgument && parts.contains("<MANIFEST>");
    let hint = match taken {
        true => {
            "; name manifests before options that take all names behind them (--model, --onsets)"
        }
        false => "",
    };
    format!("{parts}{hint}; {help}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn said(words: &[&str]) -> String {
        let all = ["sonograd"].iter().chain(words);
        let first = words.first().copied().unwrap_or_default();
        line(&Cli::try_parse_from(all).err().unwrap(), first)
    }

    #[test]
    fn every_wrong_use_is_one_line_with_its_help() {
        let commands = [
            "devices",
            "transcribe",
            "align",
            "explain",
            "study",
            "heads",
            "validate",
            "bench",
        ];
        for command in commands {
            let text = said(&[command, "--no-such-option"]);
            assert!(
                text.starts_with("error: ") && text.contains("--no-such-option"),
                "{text}"
            );
            assert!(
                text.ends_with(&format!("see `sonograd {command} --help`")),
                "{text}"
            );
            assert!(!text.contains(['\n', '\r']), "{text}");
        }
        for (words, what) in [
            (&[][..], "no command is given"),
            (&["no-such"], "no-such"),
            (&["--no-such"], "--no-such"),
            (&["transcribe"], "not provided: <AUDIO>"),
            (&["transcribe", "a.wav", "--beam", "0"], "--beam"),
            (&["transcribe", "a.wav", "--beams", "2"], "'--beam'"),
            (
                &["transcribe", "a.wav", "--task", "sing"],
                "transcribe, translate",
            ),
            (
                &["explain", "a.wav", "--masks", "2", "--reliability", "0.5"],
                "cannot be used with",
            ),
            (&["bench", "--seconds", "x\n\nUsage: y"], "--seconds"),
            (
                &["study", "--out", "x", "--model", "m", "list.tsv"],
                "name manifests before",
            ),
            (
                &["heads", "--onsets", "o", "list.tsv"],
                "name manifests before",
            ),
            (
                &["study", "--tables", "x", "--masks", "4"],
                "cannot be used with",
            ),
            (
                &["study", "--tables", "x", "--out", "y"],
                "cannot be used with",
            ),
        ] {
            let text = said(words);
            assert!(
                text.starts_with("error: ") && text.contains(what),
                "{words:?}: {text}"
            );
            assert!(
                text.contains("; see `sonograd") && !text.contains('\n'),
                "{text}"
            );
        }
    }
}
