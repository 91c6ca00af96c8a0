//! Progress of long work on a terminal, and its end by Ctrl-C.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::shown;
use crate::explain::{Progress, Step};
use crate::hub::Download;

/// Set by the first Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Whether some work looks whether it is to stop; without it Ctrl-C ends the
/// program at once.
static LOOKING: AtomicBool = AtomicBool::new(false);

/// Files whose download is worth a line.
const LARGE_BYTES: u64 = 1 << 20;

/// Whether Ctrl-C has asked to stop.
pub(super) fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Shows masks, masks per second and the time left, on a terminal only. After
/// Ctrl-C it asks the work to finish what is in flight and stop, and says what
/// `becomes` of it; a second Ctrl-C ends the program.
pub(super) fn reporter(becomes: &'static str) -> impl FnMut(Progress) -> bool {
    look();
    let mut bar: Option<(ProgressBar, Instant)> = None;
    let terminal = std::io::stderr().is_terminal();
    move |progress: Progress| {
        // Gradients have no half result: who stops then gets the masks that follow, cut short.
        if progress.step != Step::Masks {
            return true;
        }
        let stop = STOP.load(Ordering::Relaxed);
        if terminal {
            // A new site starts from few masks again.
            let fresh = bar
                .as_ref()
                .is_none_or(|(bar, _)| bar.position() > progress.done as u64);
            if fresh {
                let new = ProgressBar::new(progress.most as u64);
                new.set_style(style());
                bar = Some((new, Instant::now()));
            }
            if let Some((bar, begin)) = &bar {
                let rate = progress.done as f64 / begin.elapsed().as_secs_f64().max(1e-9);
                let site = progress.site;
                bar.set_message(format!("{rate:.0} masks/s at {site}"));
                bar.set_position(progress.done as u64);
                if stop || progress.done >= progress.most {
                    bar.finish_and_clear();
                }
            }
        }
        if stop {
            say!("stopped after {} masks; {becomes}", progress.done);
        }
        !stop
    }
}

/// From now on Ctrl-C asks to stop.
fn look() {
    LOOKING.store(true, Ordering::Relaxed);
    // A handler that cannot be set leaves Ctrl-C as it was.
    let _ = ctrlc::set_handler(|| {
        if !LOOKING.load(Ordering::Relaxed) || STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
}

/// Shows downloads of large files: a bar on a terminal, a line elsewhere.
/// Ctrl-C ends them, and the next run goes on from there.
pub(super) fn downloads() -> impl FnMut(Download<'_>) -> bool {
    let disabled = std::env::var("HF_HUB_DISABLE_PROGRESS_BARS").unwrap_or_default();
    let disabled = ["1", "ON", "YES", "TRUE"].contains(&&*disabled.to_uppercase());
    let mut shown = Shown {
        file: String::new(),
        bar: None,
    };
    let bars = !disabled && std::io::stderr().is_terminal();
    move |download: Download<'_>| {
        if shown.file != download.file {
            shown.begin(&download, bars);
        }
        if let Some(bar) = &shown.bar {
            bar.set_position(download.done);
        }
        if STOP.load(Ordering::Relaxed) {
            shown.bar = None;
            say!("stopped; the same command goes on with what is here");
            return false;
        }
        true
    }
}

/// The download that is shown.
struct Shown {
    file: String,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn begin(&mut self, download: &Download<'_>, bars: bool) {
        look();
        self.end();
        self.file = download.file.to_owned();
        let bytes = download.bytes.unwrap_or(0);
        if bytes <= LARGE_BYTES {
            return;
        }
        if bars {
            let bar = ProgressBar::new(bytes);
            let style = "{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_message(shown::line(download.file));
            self.bar = Some(bar);
        } else {
            let megabytes = bytes as f64 / 1e6;
            say!(
                "downloading {} of {}, {megabytes:.0} MB",
                download.file,
                download.model
            );
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Shown {
    /// What follows is as without downloads, unless it looks itself.
    fn drop(&mut self) {
        self.end();
        LOOKING.store(false, Ordering::Relaxed);
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len} masks, {msg}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
