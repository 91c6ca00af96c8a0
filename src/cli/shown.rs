//! Text of files made safe for a terminal.
//!
//! Names, ids, tokens and messages may hold anything: sequences that move a terminal's
//! cursor, marks that turn the order of letters round, a megabyte of letters. What is
//! printed for people goes through here at the edge where it is printed; JSON
//! says texts as they are.

use crate::shown::is_unsafe;

/// Most characters of one message.
const MOST: usize = 2000;

/// How many of them stand at the end, where messages say what to do.
const END: usize = 500;

/// A text of any length; its lines stay, all else that is unsafe is escaped as in
/// `\u{1b}`.
pub(super) fn text(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

/// One line of no more than some 2,000 characters; what is too much is left out of its
/// middle.
pub(super) fn line(text: &str) -> String {
    let count = text.chars().count();
    if count <= MOST {
        return escaped(text, |_| false);
    }
    let cut = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(i, _)| i);
    let (begin, end) = (&text[..cut(MOST - END)], &text[cut(count - END)..]);
    let escaped = |part: &str| escaped(part, |_| false);
    let missing = count - MOST;
    format!("{} [{missing} characters] {}", escaped(begin), escaped(end))
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unsafe(c) && !stays(c) {
            true => safe.extend(c.escape_default()),
            false => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_escaped() {
        let own = "a\u{1b}[2J\u{7f}\u{9b}\u{202e}b\u{2028}\n\tè ▁ \u{200d}";
        let safe = r"a\u{1b}[2J\u{7f}\u{9b}\u{202e}b\u{2028}\n\tè ▁ ".to_owned() + "\u{200d}";
        assert_eq!(line(own), safe);
        assert_eq!(text("one\ntwo\r\u{7}"), "one\ntwo\\r\\u{7}");
        assert_eq!(line("plain"), "plain");
    }

    #[test]
    fn long_lines_keep_their_ends() {
        let own = format!("begin {} end", "è".repeat(1 << 20));
        let short = line(&own);
        assert!(short.chars().count() < MOST + 40, "{}", short.len());
        assert!(short.starts_with("begin è") && short.ends_with("è end"));
        let missing = format!("[{} characters]", own.chars().count() - MOST);
        assert!(short.contains(&missing), "{missing}");
        let fits = "x".repeat(MOST);
        assert_eq!(line(&fits), fits);
    }
}
