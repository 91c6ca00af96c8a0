//! No function stands in two files of `shaders/`: what two shaders need is a
//! file of `shaders/shared/`.
//!
//! Functions are found in the texts, not in a list. Comments and white space
//! do not count, and neither do the names that a file may choose: those of its
//! own declarations, of parameters and of variables. What WGSL itself names
//! (functions, types, components) and members of structs do: `min` for `max`
//! or `params.rows` for `params.cols` is another function.

use std::collections::{BTreeMap, BTreeSet};

use super::{SHARED, SOURCES};

/// The words and signs of a text, without comments.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c == '_' || c.is_alphanumeric();
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else {
            // A number keeps its point and suffix: 1.5e3f, but for a sign.
            let inside = |c: char| word(c) || (first.is_ascii_digit() && c == '.');
            let end = match word(first) {
                true => rest.find(|c| !inside(c)).unwrap_or(rest.len()),
                false => first.len_utf8(),
            };
            tokens.push(&rest[..end]);
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    tokens
}

/// The place behind the bracket that closes the one at `open`.
fn behind(tokens: &[&str], open: usize) -> usize {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(open) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    panic!("a bracket is not closed: {}", tokens[open..].join(" "));
}

/// The place of what comes first of `signs` from `from` on.
fn next_of(tokens: &[&str], from: usize, signs: &[&str]) -> usize {
    let found = tokens[from..]
        .iter()
        .position(|token| signs.contains(token));
    from + found.unwrap_or_else(|| panic!("none of {signs:?} in {}", tokens[from..].join(" ")))
}

/// The name that a declaration at `place` gives: `var<workgroup> lanes`.
fn declared<'a>(tokens: &[&'a str], place: usize) -> Option<&'a str> {
    match *tokens.get(place)? {
        "fn" | "struct" | "alias" | "override" | "const" | "let" => tokens.get(place + 1).copied(),
        "var" if tokens.get(place + 1) == Some(&"<") => {
            tokens.get(next_of(tokens, place, &[">"]) + 1).copied()
        }
        "var" => tokens.get(place + 1).copied(),
        _ => None,
    }
}

/// A function of a text.
struct Function<'a> {
    name: &'a str,
    /// Its body with the chosen names numbered in the order of their use.
    body: String,
}

fn functions(text: &str) -> Vec<Function<'_>> {
    let tokens = tokens(text);
    let mut own = BTreeSet::new();
    let mut found = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        own.extend(declared(&tokens, place));
        if tokens[place] == "fn" {
            let open = next_of(&tokens, place, &["("]);
            let close = behind(&tokens, open);
            let begin = next_of(&tokens, close, &["{"]);
            let end = behind(&tokens, begin);
            found.push((tokens[place + 1], open..close, begin..end));
            place = end;
        } else if ["(", "[", "{"].contains(&tokens[place]) {
            place = behind(&tokens, place);
        } else {
            place += 1;
        }
    }
    let numbered =
        |(name, parameters, body): (_, std::ops::Range<usize>, std::ops::Range<usize>)| {
            let names = tokens[parameters].windows(2).filter(|pair| pair[1] == ":");
            let mut chosen: BTreeSet<&str> = names.map(|pair| pair[0]).collect();
            chosen.extend(&own);
            chosen.extend(body.clone().filter_map(|place| declared(&tokens, place)));
            let mut numbers = BTreeMap::new();
            let words = body.clone().map(|place| {
                let token = tokens[place];
                if !chosen.contains(token) || tokens[place - 1] == "." {
                    return token.to_owned();
                }
                let next = numbers.len();
                format!("${}", numbers.entry(token).or_insert(next))
            });
            let body = words.collect::<Vec<_>>().join(" ");
            Function { name, body }
        };
    found.into_iter().map(numbered).collect()
}

/// Functions of different files that are the same but for names they chose.
fn copies(files: &[(&str, &str)]) -> Vec<String> {
    let mut first: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    let mut copies = Vec::new();
    for (file, text) in files {
        for Function { name, body } in functions(text) {
            match first.get(&body) {
                Some((other, _)) if other == file => {}
                Some((other, known)) => {
                    copies.push(format!("{name} of {file} is {known} of {other}"));
                }
                None => {
                    first.insert(body, (file, name));
                }
            }
        }
    }
    copies
}

#[test]
fn no_function_stands_in_two_files() {
    let shared: Vec<_> = SHARED
        .iter()
        .map(|(name, text)| (format!("shared/{name}"), *text))
        .collect();
    let shared = shared.iter().map(|(name, text)| (&**name, *text));
    let files: Vec<_> = shared.chain(SOURCES.iter().copied()).collect();
    let count: usize = files.iter().map(|(_, text)| functions(text).len()).sum();
    let written: usize = files
        .iter()
        .map(|(_, text)| text.matches("fn ").count())
        .sum();
    assert_eq!(count, written, "every function is found");
    let found = copies(&files);
    assert!(found.is_empty(), "{found:#?}");
}

const ORIGINAL: &str = "
    override SCALE: f32;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    // The largest of two.
    fn most(i: u32, reach: u32) -> f32 {
        var own = max(x[i], x[i + reach]); // and nothing else
        for (var j = 0u; j < params.rows; j++) { own += 1.5 * SCALE; }
        return own;
    }
    @compute @workgroup_size(64)
    fn forward() { x[0] = most(1u, 2u); }
";

#[test]
fn copies_are_found() {
    for (from, to) in [
        ("", ""),
        ("// and nothing else", "/* nor */"),
        ("most(", "largest("),
        ("reach", "step"),
        ("own", "value"),
        ("SCALE", "FACTOR"),
        ("> x:", "> other:"),
        ("read> x: array<f32>", "read> x: array<f32, 7>"),
        ("    ", "\t\n"),
    ] {
        let mut copy = ORIGINAL.replace(from, to);
        if from == "> x:" {
            copy = copy.replace("x[", "other[");
        }
        assert!(from == to || copy != ORIGINAL, "{from}");
        let found = copies(&[("one", ORIGINAL), ("two", &copy)]);
        assert_eq!(found.len(), 2, "{from} -> {to}: {found:?}");
        assert!(found[0].ends_with("of two is most of one"), "{found:?}");
    }
}

#[test]
fn other_functions_are_no_copies() {
    let only_forward = ["forward of two is forward of one"];
    for (from, to) in [
        ("max(", "min("),
        ("1.5", "1.25"),
        ("params.rows", "params.cols"),
        ("x[i + reach]", "x[reach + i]"),
        ("x[i], x[i + reach]", "x[i + reach], x[i]"),
        ("own += ", "own -= "),
        ("0u; j", "0u; i"),
    ] {
        let other = ORIGINAL.replace(from, to);
        assert_ne!(other, ORIGINAL, "{from}");
        let found = copies(&[("one", ORIGINAL), ("two", &other)]);
        assert_eq!(found, only_forward, "{from} -> {to}");
    }
    // Twice in one file is that file's business.
    assert!(copies(&[("one", &ORIGINAL.repeat(2))]).is_empty());
}
