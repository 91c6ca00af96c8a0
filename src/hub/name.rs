//! What a model's name is, and which names of files and revisions are safe.

use std::fmt;

/// `OWNER/NAME`, or `OWNER/NAME@REVISION`. A name without an owner is none: it
/// is a folder that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    pub(super) owner: String,
    pub(super) name: String,
    revision: Option<String>,
}

/// What a name may begin with, as pages and other programs write it.
const PREFIXES: [&str; 3] = ["https://huggingface.co/", "https://hf.co/", "hf://"];

/// What stands between name and revision in a browser's address.
const TREE: &str = "/tree/";

impl ModelName {
    /// A name, by the rules of huggingface_hub; nothing where the text is
    /// none. The revision is a branch, a tag or a commit; a browser's address has
    /// it behind `/tree/`.
    pub fn parse(text: &str) -> Option<Self> {
        let without = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
        let page = without.map(|rest| {
            let end = rest.find(['?', '#']).unwrap_or(rest.len());
            rest[..end].trim_end_matches('/')
        });
        // There a slash of a revision is written so.
        let page = page.map(|page| page.replace("%2F", "/"));
        let text = page.as_deref().unwrap_or(text);
        let (id, revision) = match (text.split_once('@'), text.split_once(TREE)) {
            (None, Some((id, revision))) if without.is_some() => (id, Some(revision)),
            (Some((id, revision)), _) => (id, Some(revision)),
            (None, _) => (text, None),
        };
        let (owner, name) = id.split_once('/')?;
        let fits = id.len() <= 96 && !id.contains("--") && !id.ends_with(".git");
        let valid = fits && is_part(owner) && is_part(name) && revision.is_none_or(is_safe);
        valid.then(|| Self {
            owner: owner.into(),
            name: name.into(),
            revision: revision.map(Into::into),
        })
    }

    /// `OWNER/NAME`
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The branch, tag or commit; `main` where none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

fn is_part(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !text.is_empty()
        && text.bytes().all(plain)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("..")
}

/// Whether a name from elsewhere stays in the folder that it is put in, on
/// every system.
pub(super) fn is_safe(path: &str) -> bool {
    let odd = |letter: char| letter.is_control() || "\\:*?\"<>|".contains(letter);
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() < 256;
    path.len() < 1024 && !path.contains(odd) && path.split('/').all(part)
}

/// Whether a text is a whole commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        for (text, id, revision) in [
            ("openai/whisper-tiny.en", "openai/whisper-tiny.en", "main"),
            ("a/b@v1.0", "a/b", "v1.0"),
            ("a/b@refs/pr/3", "a/b", "refs/pr/3"),
            ("https://huggingface.co/a/b", "a/b", "main"),
            ("hf://a/b_c@x", "a/b_c", "x"),
            ("https://huggingface.co/a/b/tree/main", "a/b", "main"),
            ("https://huggingface.co/a/b/tree/v1.0/", "a/b", "v1.0"),
            (
                "https://hf.co/a/b/tree/refs%2Fpr%2F3?x=1#y",
                "a/b",
                "refs/pr/3",
            ),
            ("https://huggingface.co/a/b/", "a/b", "main"),
        ] {
            let name = ModelName::parse(text).unwrap();
            assert_eq!((&*name.id(), name.revision()), (id, revision));
        }
        for text in [
            "gpt2",
            "./a/b",
            "../b",
            "/a/b",
            "a/b/c",
            "a/b/tree/main",
            "https://huggingface.co/a/b/tree/",
            "https://huggingface.co/a/b/tree/../x",
            "https://huggingface.co/datasets/a/b",
            "a/",
            "a/b.git",
            "a/b--c",
            "a\\b",
            "a/..",
            "a/b@",
            "a/b@../../c",
            "a/b@/etc",
            "a/b@c/./d",
            "ä/b",
            "a b/c",
            "a/b c",
            "",
        ] {
            assert_eq!(ModelName::parse(text), None, "{text}");
        }
        assert!(ModelName::parse(&format!("a/{}", "b".repeat(95))).is_none());
    }

    #[test]
    fn paths_that_leave_a_folder_are_not_safe() {
        for path in ["config.json", "a/b.model", ".hidden", "..a"] {
            assert!(is_safe(path), "{path}");
        }
        for path in [
            "", "/a", "a/", "a//b", "../a", "a/../b", "a\\b", "C:a", "a\n", ".",
        ] {
            assert!(!is_safe(path), "{path:?}");
        }
    }
}
