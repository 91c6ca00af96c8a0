//! A study as one HTML file: its tables, and figures of them.
//!
//! What one wants first is in the markup and can be read without scripts; all
//! rows are embedded for the figures and the long table, which a script makes.
//! The page depends on the tables alone; what a page is made of otherwise is in
//! `markup.rs`.

mod command;
mod content;
mod data;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::markup::{Page, escape, fill, is_page};
use crate::Result;
use crate::files::{check_own, write_all};
use crate::study::log::{FORMAT, Lock};
use crate::study::tables::{COLUMNS, ENOUGH, SUMMARY as SUMMARY_HEAD, Tables};
pub use command::again as command;
use content::{Subject, in_words};
use data::Embedded;

const BODY: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Names of the files of a study beside its logs.
pub const JSON: &str = "tables.json";
pub const CSV: &str = "tables.csv";
pub const SUMMARY: &str = "summary.txt";
pub const REPORT: &str = "report.html";

/// What a page's title begins with; an explanation's page has another one.
const TITLE: &str = "Study of ";

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
    /// Utterances from which on intervals are 95% intervals.
    enough: usize,
    #[serde(flatten)]
    rows: Embedded<'a>,
}

/// Whether bytes are the first ones of a file of this program.
type IsOwn = fn(&[u8]) -> bool;

/// The files of a study, and whether the first bytes of one are this program's.
const FILES: [(&str, IsOwn); 4] = [
    (JSON, |head| has(head, FORMAT) && has(head, "\"settings\"")),
    (CSV, |head| head.starts_with(COLUMNS.as_bytes())),
    (SUMMARY, |head| head.starts_with(SUMMARY_HEAD.as_bytes())),
    (REPORT, |head| {
        is_page(head) && has(head, &format!("<title>{TITLE}"))
    }),
];

fn has(head: &[u8], text: &str) -> bool {
    let mut places = head.windows(text.len());
    places.any(|own| own == text.as_bytes())
}

/// Refuses a folder into which [`save`] would not write, before long work.
///
/// # Errors
/// If one of its files stands there that this program did not write.
pub fn check(folder: &Path) -> Result<()> {
    let mut files = FILES.iter();
    files.try_for_each(|(name, is_own)| check_own(&folder.join(name), is_own))
}

/// Writes the tables of a study and their page into a folder, each file in one
/// step, and none where there is no room for all. Only files that this program
/// wrote are replaced.
///
/// # Errors
/// If one cannot be written.
pub fn save(tables: &Tables, folder: &Path) -> Result<()> {
    check(folder)?;
    let texts = [
        tables.json()?,
        tables.csv(),
        tables.summary(),
        render(tables),
    ];
    let places = FILES.map(|(name, _)| folder.join(name));
    let files = places.iter().zip(&texts);
    write_all(files.map(|(place, text)| (place.as_path(), text.as_bytes())))
}

/// Makes the tables of some folders' logs and [`save`]s them. Parts of one study
/// that end at once do so one after the other, and the last ones are of all.
///
/// # Errors
/// If the logs cannot be read or do not belong together, or a file cannot be
/// written.
pub fn make(folders: &[PathBuf], out: &Path) -> Result<Tables> {
    let _place = Lock::wait(&out.join(JSON))?;
    let tables = Tables::new(folders)?;
    save(&tables, out)?;
    Ok(tables)
}

/// The page of a study.
pub fn render(tables: &Tables) -> String {
    let subjects = Subject::all(&tables.rows);
    let data = Data {
        paper: PAPER,
        enough: ENOUGH,
        rows: Embedded::new(&tables.rows),
    };
    let models: Vec<&str> = tables.settings.iter().map(|own| &*own.model).collect();
    let title = format!("{TITLE}{}", in_words(&models));
    let values = [
        ("title", escape(&title)),
        ("conclusion", content::conclusion(tables)),
        ("facts", content::facts(tables, &subjects)),
        ("failures", content::failures(tables)),
        ("settings", content::settings(tables)),
        ("comparison", content::comparison(&subjects)),
        ("paper", content::paper(&subjects)),
        ("reliability", content::reliability(&subjects)),
        ("areas", content::areas(&subjects)),
        ("commands", content::commands(tables)),
        ("count", tables.rows.len().to_string()),
    ];
    let page = Page {
        policy: "",
        title: &title,
        version: &content::versions(tables),
        style: STYLE,
        body: &fill(BODY, &values.each_ref().map(|(name, own)| (*name, &**own))),
        script: SCRIPT,
    };
    page.render("study-data", &data)
}
