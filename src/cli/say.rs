//! What is said on standard error: one safe line at a time.

use std::fmt::Arguments;
use std::io::Write;

use super::{progress, shown};

/// Says one line, as `eprintln!` would; what is not safe to print is escaped, and a
/// standard error that is closed is no failure.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::say::line(format_args!($($words)*))
    };
}

pub(super) fn line(words: Arguments) {
    let line = shown::line(&words.to_string());
    progress::aside(|| {
        let _ = writeln!(std::io::stderr(), "{line}");
    });
}
