//! What every page is put together with: a shell, escaped text, a nonce.
//!
//! A page is one file that holds everything it needs and loads nothing:
//! styles, script and data stand inside it, and its content security policy
//! allows only these. What comes from outside enters the markup escaped and
//! reaches the script as JSON, which inserts it as text.

use std::hash::{DefaultHasher, Hasher};

use serde::Serialize;

const SHELL: &str = include_str!("shell.html");
/// What all pages look like; a page's own style sheet follows it.
const STYLE: &str = include_str!("common.css");
/// What all scripts need; a page's own follows it.
const SCRIPT: &str = include_str!("common.js");

/// Whether the first bytes of a file are those of a page that this program
/// wrote: every page has its policy behind the same few lines.
pub(super) fn is_page(head: &[u8]) -> bool {
    let fixed = SHELL.split("{{nonce}}").next().unwrap_or(SHELL);
    head.starts_with(fixed.as_bytes())
}

/// What one page has of its own.
pub(super) struct Page<'a> {
    /// Plain text.
    pub title: &'a str,
    /// What the policy allows beside the page's own style and script.
    pub policy: &'a str,
    /// Of the program, in plain text.
    pub version: &'a str,
    pub style: &'a str,
    /// Markup of the header behind the page's name, and all below it.
    pub body: &'a str,
    pub script: &'a str,
}

impl Page<'_> {
    /// The page, with what its script reads in an element of that id.
    pub fn render(&self, data_id: &str, data: &impl Serialize) -> String {
        let data = script_safe(&serde_json::to_string(data).expect("plain data serialises"));
        let (title, version) = (escape(self.title), escape(self.version));
        fill(
            SHELL,
            &[
                ("nonce", &nonce(&[&title, &version, self.body, &data])),
                ("policy", self.policy),
                ("title", &title),
                ("style", &[STYLE, self.style].concat()),
                ("version", &version),
                ("body", self.body),
                ("data_id", data_id),
                ("data", &data),
                ("script", &[SCRIPT, self.script].concat()),
            ],
        )
    }
}

/// Replaces each `{{name}}` of `template`; what is inserted is not looked at.
///
/// # Panics
/// If the template asks for a name that is not there.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("a closed placeholder");
        let (_, value) = values
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("page.html asks for an unknown {name}"));
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `text` for element content and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

/// JSON that cannot end or open an element around it.
fn script_safe(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// A page's nonce. A text inside the page cannot contain the hash of the page
/// around it, so no injected element can carry the nonce.
fn nonce(content: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    for part in content {
        hasher.write(part.as_bytes());
    }
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sources_do_not_end_their_own_element() {
        for script in [
            SCRIPT,
            include_str!("page.js"),
            include_str!("study/page.js"),
        ] {
            assert!(!script.contains("</") && !script.contains("<!--"));
        }
        for style in [
            STYLE,
            include_str!("page.css"),
            include_str!("study/page.css"),
        ] {
            assert!(!style.contains("</"));
        }
    }

    #[test]
    fn filling_does_not_look_into_what_it_inserts() {
        let filled = fill("a {{x}} b {{y}}", &[("x", "{{y}}"), ("y", "2")]);
        assert_eq!(filled, "a {{y}} b 2");
    }

    #[test]
    fn escaped_text_opens_and_closes_nothing() {
        let text = "<b a='1' c=\"2\">&</b>";
        let escaped = escape(text);
        assert!(!escaped.contains(['<', '>', '"', '\'']), "{escaped}");
        let json = script_safe(&serde_json::to_string(text).unwrap());
        assert!(!json.contains(['<', '>', '&']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
