//! Prompts that are lists of control tokens: which language is spoken, which one
//! is to be written.

use serde_json::json;

use super::languages::code;
use super::options::Wanted;
use crate::model::Model;
use crate::model::family::{ControlList, Controls, LanguageName};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Where a folder has its chat template, the newer name first.
const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATE_JSON: &str = "chat_template.json";

/// What asks for the language that is spoken, and for another one; the latter
/// names it behind a colon unless it is this.
const TRANSCRIBE: &str = "transcribe";
const TRANSLATE: &str = "translate";
const USUAL_TARGET: &str = "en";

/// What is wanted, for a model with such a prompt.
pub(super) struct Listed {
    /// The tokens behind the start token.
    pub tokens: Vec<u32>,
    /// What stands between the texts of two pieces of a recording.
    pub between_pieces: &'static str,
}

impl Default for Listed {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            between_pieces: " ",
        }
    }
}

/// The tokens behind the start token, and what follows from them.
///
/// # Errors
/// If the language or task is unknown to the model, or nobody says what has to
/// be said; the message lists what there is. If the model's folder lacks what
/// makes the list.
pub(super) fn list(
    model: &Model,
    controls: Controls,
    tokenizer: Option<&Tokenizer>,
    wanted: &Wanted,
) -> Result<Listed> {
    let refused = |problem: String| Error::Input(format!("{}: {problem}", model.name));
    if wanted.timestamps || wanted.fallback.is_some() {
        let what = match wanted.timestamps {
            true => "writes no timestamps",
            false => "has no fallback",
        };
        let family = model.capabilities.family;
        return Err(refused(format!("{family} {what}; Whisper models have it")));
    }
    let given = wanted
        .language
        .as_ref()
        .or(model.generation.language.as_ref());
    let spoken = match (given, controls.spoken) {
        (Some(given), _) => language(controls, given).map_err(refused)?,
        (None, Some(usual)) => usual,
        (None, None) => {
            let family = model.capabilities.family;
            return Err(refused(format!(
                "{family} has to be told the language that is spoken (--language); there are {}",
                codes(controls)
            )));
        }
    };
    let task = wanted.task.as_deref().or(model.generation.task.as_deref());
    let written = written(controls, spoken, task.unwrap_or(TRANSCRIBE)).map_err(refused)?;
    let tokenizer = tokenizer
        .ok_or_else(|| refused("the tokenizer is needed for the prompt's tokens".into()))?;
    let mut list = match controls.list {
        ControlList::Tokens(list) => {
            let tag = format!("<|{spoken}|>");
            let ids = list.iter().map(|token| {
                let token = token.unwrap_or(&tag);
                let missing = || format!("has no token {token}, which the prompt needs");
                tokenizer
                    .id(token)
                    .ok_or_else(|| Error::file(tokenizer.file(), missing()))
            });
            ids.collect::<Result<Vec<u32>>>()?
        }
        ControlList::Template => rendered(model, tokenizer, spoken, written)?,
    };
    // Transformers puts it in front unless a list begins with it.
    if list.first() == Some(&model.tokens.start) {
        list.remove(0);
    }
    let usual = Listed::default().between_pieces;
    Ok(Listed {
        tokens: list,
        between_pieces: match controls.spaceless.contains(&written) {
            true => "",
            false => usual,
        },
    })
}

/// The codes of all languages.
fn codes(controls: Controls) -> String {
    let codes = controls.languages.iter().map(|own| own.code);
    codes.collect::<Vec<_>>().join(", ")
}

/// The code of a language that is given by its code, its tag or its name.
fn language(controls: Controls, given: &str) -> std::result::Result<&'static str, String> {
    let wanted = code(given);
    let named = |own: &&LanguageName| own.code == wanted || own.name.eq_ignore_ascii_case(given);
    let found = controls.languages.iter().find(named);
    found.map(|own| own.code).ok_or_else(|| {
        format!(
            "there is no language {given:?}; there are {}",
            codes(controls)
        )
    })
}

/// The language that a task writes where `spoken` is heard.
fn written(
    controls: Controls,
    spoken: &'static str,
    task: &str,
) -> std::result::Result<&'static str, String> {
    let unknown = || match controls.translates {
        true => format!(
            "there is no task {task:?}; there are {TRANSCRIBE}, {TRANSLATE} (into {USUAL_TARGET}) and \
             {TRANSLATE}:LANGUAGE"
        ),
        false => format!("there is no task {task:?}; there is {TRANSCRIBE}"),
    };
    let target = match task.split_once(':') {
        None if task == TRANSCRIBE => return Ok(spoken),
        None if task == TRANSLATE => USUAL_TARGET,
        Some((TRANSLATE, target)) => target,
        _ => return Err(unknown()),
    };
    if !controls.translates {
        return Err(unknown());
    }
    let target = language(controls, target)?;
    if target == spoken {
        return Err(format!(
            "task {task:?} would translate {spoken} to itself; say what is spoken by --language, or \
             {TRANSLATE}:LANGUAGE"
        ));
    }
    Ok(target)
}

/// The tokens of what the folder's chat template makes of a request, as
/// transformers' processor poses it.
fn rendered(model: &Model, tokenizer: &Tokenizer, spoken: &str, written: &str) -> Result<Vec<u32>> {
    let (file, template) = template(model)?;
    let fail = |what: String| Error::file(model.files.path(file), what);
    let settings = model.files.json_of_present("tokenizer_config.json")?;
    let marks = special_tokens(&settings.unwrap_or_default());
    let request = json!([{
        "role": "user",
        "content": [
            {"type": "audio", "audio": ""},
            {
                "type": "text",
                "source_language": spoken,
                "target_language": written,
                "punctuation": true,
            },
        ],
    }]);
    let text = super::template::render(&template, request, &marks).map_err(fail)?;
    // What looks like a mark and is none would be split like a text.
    if let Some(mark) = marks_in(&text).find(|mark| tokenizer.id(mark).is_none()) {
        let problem = format!("has no token {mark}, which the prompt needs");
        return Err(Error::file(tokenizer.file(), problem));
    }
    // A text that says how it begins gets no further mark of a beginning.
    let begin = marks.get("bos_token").and_then(serde_json::Value::as_str);
    let begins = begin.is_some_and(|begin| text.starts_with(begin));
    tokenizer.encode_prompt(&text, !begins)
}

/// The parts of a prompt that are written as control tokens are: `<|...|>`.
fn marks_in(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("<|").filter_map(|(begin, _)| {
        let mark = &text[begin..];
        mark.find("|>").map(|end| &mark[..end + 2])
    })
}

/// The folder's chat template and the file that it is in.
fn template(model: &Model) -> Result<(&'static str, String)> {
    if let Some(bytes) = model.files.read_if_present(TEMPLATE)? {
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::file(model.files.path(TEMPLATE), "is no text"))?;
        return Ok((TEMPLATE, text));
    }
    for (file, wrapped) in [(TEMPLATE_JSON, false), ("processor_config.json", true)] {
        let json = model.files.json_of_present(file)?;
        match json
            .as_ref()
            .and_then(|json| json["chat_template"].as_str())
        {
            Some(text) => return Ok((file, text.to_owned())),
            None if json.is_some() && !wrapped => {
                return Err(Error::file(model.files.path(file), "has no chat_template"));
            }
            None => {}
        }
    }
    Err(Error::file(
        model.files.path(TEMPLATE),
        "is not there; it makes the prompt that says what the model is to write",
    ))
}

/// The special tokens that a `tokenizer_config.json` names, as templates know
/// them.
fn special_tokens(settings: &serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    let named = settings.as_object().into_iter().flatten();
    let tokens = named.filter(|(name, _)| name.ends_with("_token"));
    let text = tokens.filter_map(|(name, token)| {
        let text = token.as_str().or_else(|| token["content"].as_str())?;
        Some((name.clone(), text.into()))
    });
    text.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANGUAGES: &[LanguageName] = &[
        LanguageName {
            code: "de",
            name: "German",
        },
        LanguageName {
            code: "en",
            name: "English",
        },
        LanguageName {
            code: "it",
            name: "Italian",
        },
    ];

    fn controls(translates: bool) -> Controls {
        Controls {
            languages: LANGUAGES,
            spoken: None,
            translates,
            spaceless: &[],
            list: ControlList::Template,
        }
    }

    #[test]
    fn marks_are_found() {
        let found: Vec<&str> = marks_in("a<|x|> <|é|><|y z|>b<|open").collect();
        assert_eq!(found, ["<|x|>", "<|é|>", "<|y z|>"]);
    }

    #[test]
    fn tasks_say_what_is_written() {
        let both = controls(true);
        assert_eq!(written(both, "de", "transcribe"), Ok("de"));
        assert_eq!(written(both, "de", "translate"), Ok("en"));
        assert_eq!(written(both, "en", "translate:Italian"), Ok("it"));
        for (spoken, task, words) in [
            ("en", "translate", "to itself"),
            ("en", "translate:xx", "there are de, en, it"),
            ("en", "sing", "no task \"sing\""),
            ("en", "sing:it", "no task"),
        ] {
            let message = written(both, spoken, task).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
        let one = controls(false);
        assert_eq!(written(one, "de", "transcribe"), Ok("de"));
        assert!(
            written(one, "de", "translate")
                .unwrap_err()
                .contains("there is transcribe")
        );
    }

    #[test]
    fn languages_are_known_by_code_tag_and_name() {
        let all = controls(true);
        for given in ["it", "IT", "<|it|>", "Italian", "italian"] {
            assert_eq!(language(all, given), Ok("it"), "{given}");
        }
        assert!(language(all, "Klingon").unwrap_err().contains("de, en, it"));
    }
}
