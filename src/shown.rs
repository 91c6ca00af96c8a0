//! Which characters of others' texts are safe to show, and cells of tables.

/// Whether a character is not to be printed as it is: controls (C0, DEL, C1), line and
/// paragraph separators, and those that change the direction of what follows.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a text begins with that a spreadsheet runs, in either width; and the
/// apostrophe that keeps it a text, so that no two texts become one.
const FORMULA: [char; 11] = [
    '=', '+', '-', '@', '\t', '\r', '\'', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
];

/// A cell of comma-separated values. Spreadsheets run a text that begins like a formula; an
/// apostrophe before it keeps it a text.
pub(crate) fn cell(text: &str) -> String {
    let formula = text.starts_with(FORMULA) && text.parse::<f64>().is_err();
    let text = match formula {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_no_formulas() {
        for (own, written) in [
            ("=1+1", "'=1+1"),
            ("+a", "'+a"),
            ("-a,b", "\"'-a,b\""),
            ("@x", "'@x"),
            ("\tx", "'\tx"),
            ("\rx", "\"'\rx\""),
            ("-1.5e3", "-1.5e3"),
            ("+2", "+2"),
            ("a=b", "a=b"),
            ("'@a", "''@a"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("say \"a\"", "\"say \"\"a\"\"\""),
            ("", ""),
        ] {
            assert_eq!(cell(own), written, "{own:?}");
        }
    }
}
