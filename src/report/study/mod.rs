//! A study as one HTML file: its tables, and figures of them.
//!
//! Like an explanation's page it holds everything it needs and loads nothing.
//! What one wants first is in the markup and can be read without scripts; all
//! rows are embedded for the figures and the long table, which a script makes.
//! What comes from logs enters the markup escaped and reaches the script as
//! JSON, which inserts it as text. The page depends on the tables alone.

mod command;
mod content;
mod data;

use serde::Serialize;

use super::markup::{COMMON_STYLE, escape, fill, nonce, script_safe};
use crate::study::tables::Tables;
pub use command::again as command;
use content::{Subject, in_words};
use data::Embedded;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A range of values, both ends included.
#[derive(Clone, Copy, Debug, Serialize)]
struct Range {
    low: f64,
    high: f64,
}

/// What "Cross-Attention is Half Explanation in Speech-to-Text Models" (arXiv
/// 2509.18010) reports over its models.
#[derive(Debug, Serialize)]
struct Paper {
    /// Pearson's correlation of attention with SM^X.
    rho: Range,
    /// That with SM^H less that with SM^X.
    gap: Range,
    /// Percent.
    coverage: Range,
}

const PAPER: Paper = Paper {
    rho: Range {
        low: 0.45,
        high: 0.63,
    },
    gap: Range {
        low: 0.03,
        high: 0.18,
    },
    coverage: Range {
        low: 52.0,
        high: 75.0,
    },
};

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    paper: Paper,
    #[serde(flatten)]
    rows: Embedded<'a>,
}

/// The page of a study.
pub fn render(tables: &Tables) -> String {
    let subjects = Subject::all(&tables.rows);
    let data = Data {
        paper: PAPER,
        rows: Embedded::new(&tables.rows),
    };
    let data = script_safe(&serde_json::to_string(&data).expect("plain data serialises"));
    let models: Vec<&str> = tables.settings.iter().map(|own| &*own.model).collect();
    let values = [
        ("title", escape(&format!("Study of {}", in_words(&models)))),
        ("version", escape(&content::versions(tables))),
        ("facts", content::facts(tables, &subjects)),
        ("failures", content::failures(tables)),
        ("settings", content::settings(tables)),
        ("comparison", content::comparison(&subjects)),
        ("paper", content::paper(&subjects)),
        ("reliability", content::reliability(&subjects)),
        ("areas", content::areas(&subjects)),
        ("commands", content::commands(tables)),
        ("count", tables.rows.len().to_string()),
        ("data", data),
    ];
    let all: Vec<&str> = values.iter().map(|(_, value)| &**value).collect();
    let nonce = nonce(&all.concat());
    let style = format!("{COMMON_STYLE}{STYLE}");
    let mut values: Vec<(&str, &str)> = values.iter().map(|(name, own)| (*name, &**own)).collect();
    values.extend([("nonce", &*nonce), ("style", &style), ("script", SCRIPT)]);
    fill(PAGE, &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sources_do_not_end_their_own_element() {
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        assert!(!STYLE.contains("</"));
    }
}
