//! Imports of shaders, which WGSL does not have.
//!
//! A line `// #import NAME` stands for the text of `shaders/shared/NAME.wgsl`.
//! It is a comment, so that every file by itself stays WGSL for editors,
//! formatters and naga; what they miss are the names that it imports. What is
//! imported twice in one shader, by two of its imports, stands there once.
//! The order of declarations does not matter in WGSL.
//!
//! The line stays where it is and the text comes after it. For every line of
//! the result it is known where it stands in the folder, so that messages name
//! the file that somebody has to open.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Error, Result};

/// Where a line of an expanded text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The shared text that it is in; absent for the shader's own file.
    pub shared: Option<String>,
    /// From 1 on.
    pub line: u32,
}

/// `line 3`, or `shared/philox.wgsl line 3`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.shared {
            write!(f, "shared/{name}.wgsl ")?;
        }
        write!(f, "line {}", self.line)
    }
}

/// A shader's text with all that it imports.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// Stem of the shader's file.
    pub stem: &'static str,
    pub text: String,
    /// By line of the text.
    origins: Vec<Origin>,
}

impl Expanded {
    /// Where a line of the text, counted from 1, stands in the folder.
    pub fn origin(&self, line: u32) -> Option<&Origin> {
        self.origins.get((line as usize).checked_sub(1)?)
    }
}

/// The text of a shader with what it imports of `shared`, pairs of a name and
/// a text.
///
/// # Errors
/// [`Error::Shape`] with the file and the line of an import that names nothing,
/// is written in another way, stands twice in one file, or closes a circle.
pub fn expand(stem: &'static str, source: &str, shared: &[(&str, &str)]) -> Result<Expanded> {
    let mut expansion = Expansion {
        shared,
        open: Vec::new(),
        done: BTreeSet::new(),
        text: String::new(),
        origins: Vec::new(),
    };
    match expansion.append(source) {
        Ok(()) => Ok(Expanded {
            stem,
            text: expansion.text,
            origins: expansion.origins,
        }),
        Err(problem) => Err(Error::shape(stem, problem)),
    }
}

struct Expansion<'a> {
    shared: &'a [(&'a str, &'a str)],
    /// The shared texts that are being read, each imported by the one before.
    open: Vec<&'a str>,
    /// Those that stand in the text already.
    done: BTreeSet<&'a str>,
    text: String,
    origins: Vec<Origin>,
}

impl Expansion<'_> {
    /// Adds the text of the innermost open file.
    fn append(&mut self, source: &str) -> std::result::Result<(), String> {
        let mut own = BTreeSet::new();
        for (line, number) in source.lines().zip(1..) {
            self.text.push_str(line);
            self.text.push('\n');
            let origin = Origin {
                shared: self.open.last().map(|name| (*name).to_owned()),
                line: number,
            };
            self.origins.push(origin.clone());
            let at = |problem: String| format!("{origin}: {problem}");
            let Some(name) = imported(line).map_err(at)? else {
                continue;
            };
            if !own.insert(name) {
                return Err(at(format!("{name} is imported twice")));
            }
            let Some(&(name, text)) = self.shared.iter().find(|(known, _)| *known == name) else {
                return Err(at(format!("there is no shaders/shared/{name}.wgsl")));
            };
            if self.open.contains(&name) {
                let circle = self.open.join(" imports ");
                return Err(at(format!("a circle: {circle} imports {name}")));
            }
            if self.done.insert(name) {
                self.open.push(name);
                self.append(text)?;
                self.open.pop();
            }
        }
        Ok(())
    }
}

/// What a line imports, if it does.
fn imported(line: &str) -> std::result::Result<Option<&str>, String> {
    if !line.contains("#import") {
        return Ok(None);
    }
    let name = line.strip_prefix("// #import ").filter(|name| {
        let mut letters = name.chars();
        !name.is_empty() && letters.all(|c| c == '_' || c.is_ascii_alphanumeric())
    });
    match name {
        Some(name) => Ok(Some(name)),
        None => Err("an import is a line `// #import NAME`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &[(&str, &str)] = &[
        ("leaf", "fn leaf() {}\n"),
        ("left", "// #import leaf\nfn left() { leaf(); }\n"),
        ("right", "fn right() { leaf(); }\n// #import leaf"),
        ("narcissus", "\n// #import narcissus\n"),
        ("hen", "// #import egg\n"),
        ("egg", "// #import hen\n"),
        ("broken", "fn f() {}\n// #import gone\n"),
    ];

    fn problem(source: &str) -> String {
        expand("small", source, SHARED).unwrap_err().to_string()
    }

    #[test]
    fn a_text_without_imports_stays_as_it_is() {
        let expanded = expand("small", "fn f() {}\n\nfn g() {}\n", SHARED).unwrap();
        assert_eq!(expanded.text, "fn f() {}\n\nfn g() {}\n");
        assert_eq!(expanded.origin(3).unwrap().to_string(), "line 3");
        assert_eq!(expanded.origin(4), None);
        assert_eq!(expanded.origin(0), None);
    }

    /// Two imports need the same third one, which comes once.
    #[test]
    fn imports_are_followed_and_stand_once() {
        let source = "// #import left\n// #import right\nfn f() {}\n";
        let expanded = expand("small", source, SHARED).unwrap();
        let lines: Vec<_> = expanded.text.lines().collect();
        let places: Vec<_> = (1..=lines.len() as u32)
            .map(|line| expanded.origin(line).unwrap().to_string())
            .collect();
        let expected = [
            ("// #import left", "line 1"),
            ("// #import leaf", "shared/left.wgsl line 1"),
            ("fn leaf() {}", "shared/leaf.wgsl line 1"),
            ("fn left() { leaf(); }", "shared/left.wgsl line 2"),
            ("// #import right", "line 2"),
            ("fn right() { leaf(); }", "shared/right.wgsl line 1"),
            ("// #import leaf", "shared/right.wgsl line 2"),
            ("fn f() {}", "line 3"),
        ];
        let found: Vec<_> = lines.into_iter().zip(places.iter().map(|x| &**x)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn imports_that_cannot_be_followed_are_refused() {
        let missing = "small: line 2: there is no shaders/shared/gone.wgsl";
        assert_eq!(problem("\n// #import gone\n"), missing);
        assert_eq!(
            problem("// #import broken\n"),
            "small: shared/broken.wgsl line 2: there is no shaders/shared/gone.wgsl"
        );
        assert_eq!(
            problem("// #import leaf\n\n// #import leaf\n"),
            "small: line 3: leaf is imported twice"
        );
        assert_eq!(
            problem("// #import narcissus\n"),
            "small: shared/narcissus.wgsl line 2: a circle: narcissus imports narcissus"
        );
        assert_eq!(
            problem("// #import hen\n"),
            "small: shared/egg.wgsl line 1: a circle: hen imports egg imports hen"
        );
    }

    #[test]
    fn imports_are_written_in_one_way() {
        for line in [
            "#import leaf",
            "//#import leaf",
            "// #import",
            "// #import ",
            "// #import leaf.wgsl",
            "// #import leaf, left",
            "fn f() {} // #import leaf",
        ] {
            let expected = "small: line 1: an import is a line `// #import NAME`";
            assert_eq!(problem(line), expected, "{line}");
        }
    }
}
