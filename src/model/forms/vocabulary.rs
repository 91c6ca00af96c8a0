//! Whisper's vocabulary where it is but a list of tokens: CTranslate2's
//! `vocabulary.txt` and `vocabulary.json`, OpenAI's `.tiktoken`.
//!
//! In a byte-level vocabulary made by merging pairs, a token's id is the rank
//! of the merge that makes it. So the list alone says which merges there are:
//! a token is split by the merges before it, and what it is split into is the
//! pair.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// Most tokens of a list.
const MOST: usize = 1 << 20;

/// Most letters of a token; Whisper's longest has 128.
const LONGEST: usize = 512;

/// Steps of time that Whisper has tokens for: a window's, with both ends.
const STEPS: u32 = 1_501;

/// The token of no bytes, as OpenAI's list has it.
const EMPTY: &str = "=";

/// The codes of Whisper's languages in the order of their tokens. The last one
/// came with the third large model.
const LANGUAGES: &str = "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms \
                         cs ro da hu ta no th ur hr bg lt la mi ml cy sk te fa lv bn sr az sl kn \
                         et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be \
                         tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha \
                         ba jw su yue";

/// The tokens of a `vocabulary.txt`, by their ids.
///
/// # Errors
/// If it is no text.
pub fn lines(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not a text in UTF-8")?;
    // One token is a character that other ways to cut lines would cut at.
    let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    Ok(lines
        .map(|line| line.trim_end_matches('\r').to_owned())
        .collect())
}

/// The tokens of a `vocabulary.json`, by their ids.
///
/// # Errors
/// If it is no list of texts.
pub fn list(bytes: &[u8]) -> Result<Vec<String>, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("is no list of tokens: {e}"))
}

/// The tokens of an OpenAI `.tiktoken`, and behind them those that its program
/// adds for a model of `vocabulary` tokens.
///
/// # Errors
/// If a line is no token and rank, or the numbers of tokens do not fit.
pub fn tiktoken(bytes: &[u8], vocabulary: usize) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not a text in UTF-8")?;
    let letters = letters();
    let mut tokens = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        let wrong = || format!("line {} is no token and its rank", number + 1);
        let (token, rank) = line.split_once(' ').ok_or_else(wrong)?;
        if rank.parse() != Ok(tokens.len()) {
            return Err(wrong());
        }
        let token = if token == EMPTY { "" } else { token };
        let token = BASE64_STANDARD.decode(token).map_err(|_| wrong())?;
        tokens.push(
            token
                .iter()
                .map(|&byte| letters[usize::from(byte)])
                .collect(),
        );
    }
    let mut marks = vec![
        "<|endoftext|>".to_owned(),
        "<|startoftranscript|>".to_owned(),
    ];
    let others = [
        "translate",
        "transcribe",
        "startoflm",
        "startofprev",
        "nospeech",
        "notimestamps",
    ];
    let times = (0..STEPS).map(|step| format!("<|{:.2}|>", f64::from(step) * 0.02));
    let times: Vec<String> = times.collect();
    let known = tokens.len() + marks.len() + others.len() + times.len();
    let languages = vocabulary.checked_sub(known);
    let languages = languages.filter(|count| (99..=LANGUAGES.split(' ').count()).contains(count));
    let languages = languages.ok_or_else(|| {
        format!(
            "has {} tokens, which no Whisper of {vocabulary} has",
            tokens.len()
        )
    })?;
    let codes = LANGUAGES.split(' ').take(languages);
    marks.extend(codes.chain(others).map(|mark| format!("<|{mark}|>")));
    tokens.extend(marks);
    tokens.extend(times);
    Ok(tokens)
}

/// What a Hugging Face folder would have for these tokens: `vocab.json`,
/// `merges.txt` and `tokenizer_config.json`.
///
/// # Errors
/// If there are too many tokens, one is too long, or two are the same.
pub fn files(tokens: &[String]) -> Result<[(&'static str, Vec<u8>); 3], String> {
    if tokens.len() > MOST {
        return Err(format!("has {} tokens", tokens.len()));
    }
    let mut ids: HashMap<&str, usize> = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        // They are split pair by pair.
        let letters = token.chars().count();
        if letters > LONGEST {
            return Err(format!("has a token of {letters} letters, id {id}"));
        }
        if let Some(other) = ids.insert(token, id) {
            return Err(format!("gives {token:?} the ids {other} and {id}"));
        }
    }
    let mut merges = String::from("#version: 0.2\n");
    let mut marks = serde_json::Map::new();
    for (id, token) in tokens.iter().enumerate() {
        if is_mark(token) {
            let time = token[2..].starts_with(|letter: char| letter.is_ascii_digit());
            marks.insert(id.to_string(), json!({"content": token, "special": !time}));
        } else if let Some((left, right)) = pair(token, id, &ids) {
            merges.push_str(&format!("{left} {right}\n"));
        }
    }
    let vocabulary: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    Ok([
        (
            "vocab.json",
            Value::Object(vocabulary).to_string().into_bytes(),
        ),
        ("merges.txt", merges.into_bytes()),
        (
            "tokenizer_config.json",
            json!({"added_tokens_decoder": marks})
                .to_string()
                .into_bytes(),
        ),
    ])
}

/// Whether a token is no text, but a mark such as `<|en|>`.
pub fn is_mark(token: &str) -> bool {
    token.len() > 4 && token.starts_with("<|") && token.ends_with("|>")
}

/// The two tokens that a token is merged from: what the merges before its own
/// leave of its letters. Nothing for single letters and unreachable tokens.
fn pair<'a>(token: &'a str, id: usize, ids: &HashMap<&str, usize>) -> Option<(&'a str, &'a str)> {
    let mut cuts: Vec<usize> = token.char_indices().map(|(at, _)| at).collect();
    cuts.push(token.len());
    // Of what begins at a cut and ends at the next but one.
    let rank_at = |cuts: &[usize], at: usize| {
        let joined = token.get(*cuts.get(at)?..*cuts.get(at + 2)?)?;
        ids.get(joined).copied().filter(|&rank| rank < id)
    };
    let mut ranks: Vec<Option<usize>> = (0..cuts.len()).map(|at| rank_at(&cuts, at)).collect();
    while cuts.len() > 3 {
        let known = ranks.iter().enumerate();
        let (_, at) = known.filter_map(|(at, rank)| Some(((*rank)?, at))).min()?;
        cuts.remove(at + 1);
        ranks.remove(at + 1);
        // What ended or began at the cut that is gone.
        let changed = ranks.iter_mut().enumerate().take(at + 1);
        for (at, rank) in changed.skip(at.saturating_sub(1)) {
            *rank = rank_at(&cuts, at);
        }
    }
    match cuts[..] {
        [_, middle, _] => Some(token.split_at(middle)),
        _ => None,
    }
}

/// The letters that stand for bytes in byte-level vocabularies: what can be
/// seen stands for itself, the rest for letters from U+0100 on.
fn letters() -> [char; 256] {
    let mut next = 0x100u32;
    std::array::from_fn(|byte| {
        let own = byte as u32;
        let seen = matches!(own, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = match seen {
            true => own,
            false => {
                next += 1;
                next - 1
            }
        };
        char::from_u32(code).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn merges_are_those_that_make_the_tokens() {
        let tokens: Vec<String> = [
            "a",
            "b",
            "c",
            "\u{120}",
            "ab",
            "\u{120}a",
            "abc",
            "\u{120}abc",
            "<|x|>",
            "<|0.00|>",
        ]
        .map(str::to_owned)
        .into();
        let files = files(&tokens).unwrap();
        let merges = std::str::from_utf8(&files[1].1).unwrap();
        assert_eq!(merges, "#version: 0.2\na b\n\u{120} a\nab c\n\u{120} abc\n");
        let read = |name: &str| {
            let found = files.iter().find(|(own, _)| *own == name);
            Ok(found.map(|(_, bytes)| bytes.clone()))
        };
        let tokenizer = Tokenizer::from_files("m", read).unwrap();
        assert_eq!(tokenizer.encode("abc abc cab").unwrap(), [6, 7, 3, 2, 4]);
        assert_eq!(tokenizer.id("<|0.00|>"), Some(9));
        assert!(tokenizer.is_special(8));
        assert!(super::files(&["a".into(), "a".into()]).is_err());
        let longest = |letters: usize| super::files(&["a".into(), "a".repeat(letters)]);
        assert!(longest(LONGEST).is_ok());
        assert!(longest(LONGEST + 1).unwrap_err().contains("513 letters"));
    }

    #[test]
    fn lists_of_every_kind() {
        let text = "a\n\u{85}\r\n\u{2028}\n<|x|>\n".as_bytes();
        assert_eq!(lines(text).unwrap(), ["a", "\u{85}", "\u{2028}", "<|x|>"]);
        assert_eq!(list(br#"["a", "\u0120b"]"#).unwrap(), ["a", "\u{120}b"]);
        assert!(list(b"{}").is_err());
        let bytes = b"IQ== 0\nIGE= 1\n";
        let tokens = tiktoken(bytes, 2 + 2 + 99 + 6 + 1_501).unwrap();
        assert_eq!(
            tokens[..4],
            ["!", "\u{120}a", "<|endoftext|>", "<|startoftranscript|>"]
        );
        assert_eq!(tokens[4], "<|en|>");
        assert_eq!(tokens[102], "<|su|>");
        assert_eq!(
            tokens[103..110].join(" "),
            "<|translate|> <|transcribe|> <|startoflm|> <|startofprev|> <|nospeech|> <|notimestamps|> <|0.00|>"
        );
        assert_eq!(tokens.last().unwrap(), "<|30.00|>");
        assert!(tiktoken(bytes, 2_000).is_err());
        assert!(tiktoken(b"IQ== 1\n", 1_609).is_err());
        // The last line of OpenAI's multilingual list is a token of no bytes.
        let bytes = b"IQ== 0\nIA== 1\nYQ== 2\nIGE= 3\n= 4\n";
        let tokens = tiktoken(bytes, 5 + 2 + 99 + 6 + 1_501).unwrap();
        assert_eq!(tokens[3..6], ["\u{120}a", "", "<|endoftext|>"]);
        let read = files(&tokens).unwrap();
        let read = |name: &str| {
            let found = read.iter().find(|(own, _)| *own == name);
            Ok(found.map(|(_, bytes)| bytes.clone()))
        };
        let tokenizer = Tokenizer::from_files("m", read).unwrap();
        assert_eq!(tokenizer.encode("! a").unwrap(), [0, 3]);
        assert_eq!(tokenizer.vocab_size(), tokens.len());
    }
}
