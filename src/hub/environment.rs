//! The variables that huggingface_hub obeys.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Hub;

/// The hub that the variables describe. As in Python, `HUGGINGFACE_HUB_CACHE`
/// and `HUGGING_FACE_HUB_TOKEN` still count and `TRANSFORMERS_CACHE` does not.
pub(super) fn hub(variable: &dyn Fn(&str) -> Option<String>) -> Hub {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let place = |name: &str| set(name).map(|path| expanded(&path, variable));
    let home = place("HF_HOME").unwrap_or_else(|| {
        let caches = set("XDG_CACHE_HOME").map(|path| expanded(&path, variable));
        let caches = caches.unwrap_or_else(|| user().join(".cache"));
        caches.join("huggingface")
    });
    // One of blanks alone is none: the file's counts then.
    let clean = |token: String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
    let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN"));
    let token = token.and_then(clean).or_else(|| {
        let path = place("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        clean(fs::read_to_string(path).ok()?)
    });
    let seconds = set("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.parse().ok());
    Hub {
        cache: place("HF_HUB_CACHE")
            .or_else(|| place("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| home.join("hub")),
        endpoint: set("HF_ENDPOINT")
            .unwrap_or_else(|| "https://huggingface.co".into())
            .trim_end_matches('/')
            .to_owned(),
        token: token.filter(|_| !is_true(set("HF_HUB_DISABLE_IMPLICIT_TOKEN"))),
        offline: is_true(set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE"))),
        links: !is_true(set("HF_HUB_DISABLE_SYMLINKS")),
        patience: Duration::from_secs(seconds.filter(|&seconds| seconds > 0).unwrap_or(10)),
    }
}

fn is_true(value: Option<String>) -> bool {
    let value = value.unwrap_or_default().to_ascii_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&&*value)
}

fn user() -> PathBuf {
    etcetera::home_dir().unwrap_or_default()
}

/// A path with `~` and `$NAME` or `${NAME}` written out; what is not set stays
/// as it is.
fn expanded(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let path = match path.strip_prefix('~') {
        Some("") => user().to_string_lossy().into_owned(),
        Some(rest) if rest.starts_with('/') => user().to_string_lossy().into_owned() + rest,
        _ => path.to_owned(),
    };
    let mut text = String::new();
    let mut rest = &*path;
    while let Some(at) = rest.find('$') {
        text += &rest[..at];
        rest = &rest[at..];
        let inner = rest[1..].strip_prefix('{');
        let (name, length) = match inner.and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 3),
            None => {
                let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                let name = &rest[1..];
                let name = &name[..name.find(|c| !word(c)).unwrap_or(name.len())];
                (name, name.len() + 1)
            }
        };
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => text += &value,
            None => text += &rest[..length],
        }
        rest = &rest[length..];
    }
    text += rest;
    Path::new(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Hub {
        hub(&|name| {
            let mut all = variables.iter();
            let found = all.find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let cache = |variables: &[(&str, &str)]| of(variables).cache;
        let home = user();
        assert_eq!(cache(&[]), home.join(".cache/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "/x")]), Path::new("/x/hub"));
        assert_eq!(cache(&[("HF_HOME", "")]), cache(&[]));
        let xdg = [("XDG_CACHE_HOME", "/c")];
        assert_eq!(cache(&xdg), Path::new("/c/huggingface/hub"));
        let both = [("HF_HOME", "/x"), ("HF_HUB_CACHE", "~/y")];
        assert_eq!(cache(&both), home.join("y"));
        let old = [("HF_HOME", "/x"), ("HUGGINGFACE_HUB_CACHE", "/z")];
        assert_eq!(cache(&old), Path::new("/z"));
        let gone = [("HF_HOME", "/x"), ("TRANSFORMERS_CACHE", "/z")];
        assert_eq!(cache(&gone), Path::new("/x/hub"));
        let named = [
            ("HF_HUB_CACHE", "/s/$USER/${A}b$NONE/$"),
            ("USER", "u"),
            ("A", "a"),
        ];
        assert_eq!(cache(&named), Path::new("/s/u/ab$NONE/$"));
    }

    #[test]
    fn switches_and_tokens_are_read_as_python_reads_them() {
        assert!(of(&[("HF_HUB_OFFLINE", "yes")]).offline);
        assert!(of(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!of(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!of(&[]).offline);
        assert!(!of(&[("HF_HUB_DISABLE_SYMLINKS", "1")]).links);
        let endpoint = of(&[("HF_ENDPOINT", "http://mirror/")]).endpoint;
        assert_eq!(endpoint, "http://mirror");

        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        fs::write(folder.path().join("other"), "hf_other").unwrap();
        let other = format!("{home}/other");
        let token = |more: &[(&str, &str)]| {
            let mut all = vec![("HF_HOME", home)];
            all.extend(more);
            of(&all).token
        };
        assert_eq!(token(&[]).unwrap(), "hf_file");
        assert_eq!(token(&[("HF_TOKEN", " hf_own\n")]).unwrap(), "hf_own");
        assert_eq!(token(&[("HF_TOKEN", " \n")]).unwrap(), "hf_file");
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "x")]).unwrap(), "x");
        assert_eq!(token(&[("HF_TOKEN_PATH", &other)]).unwrap(), "hf_other");
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(
            format!("{:?}", of(&[("HF_TOKEN", "hf_own")])).find("hf_own"),
            None
        );
    }
}
