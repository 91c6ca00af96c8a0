//! The study over many utterances: statistics, logs, tables, the page.

/// A headless Chromium.
#[path = "../shared/browser.rs"]
mod browser;
/// Pages in it.
#[path = "../shared/page.rs"]
mod browser_page;

/// Models with random weights and sizes of one's choice.
#[path = "../shared/random_model.rs"]
mod random_model;

/// `sonograd study` as its users meet it: kills, shards, bad utterances.
mod command;
/// Error rates against jiwer and sacreBLEU.
mod error_rate;
/// What a log is about, who may write it, kills.
mod mixing;
/// True onsets of words.
mod onsets;
/// The page, in a real browser too.
mod page;
/// Correlations against SciPy's.
mod statistics;
