//! Progress of long work on a terminal, and its end by Ctrl-C.

mod screen;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use self::screen::{Extent, aside, at, compiles, gauged, rename, stage, work, work_on};
use crate::explain::{Event, Progress, Step};
use crate::generate::Listened;
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

/// Shows masks and gradients. After Ctrl-C it asks the work to finish what is in
/// flight and stop, and says what `becomes` of it; a second Ctrl-C ends the
/// program.
pub(super) fn reporter(becomes: &'static str) -> impl FnMut(Progress) -> bool {
    look();
    move |progress: Progress| {
        explained(&progress);
        // Gradients have no half result: who stops then gets the masks that follow, cut short.
        if progress.step != Step::Masks {
            return true;
        }
        let stop = stopped();
        if stop {
            say!("stopped after {} masks; {becomes}", progress.done);
        }
        !stop
    }
}

/// Shows masks and gradients.
pub(super) fn explained(progress: &Progress) {
    let Progress {
        step,
        site,
        done,
        most,
        ..
    } = *progress;
    match step {
        // They end when the map is reliable.
        Step::Masks => at(
            &format!("masks at the {site}"),
            Extent::of(done, most, "").at_most(),
        ),
        Step::Gradients => at(
            &format!("gradients at the {site}"),
            Extent::of(done, most, ""),
        ),
        Step::Tokens => at("gradients", Extent::of(done, most, " tokens")),
    }
}

/// Shows how far a recording is transcribed and explained: by tokens where it is
/// one window, else by its seconds.
pub(super) fn shower() -> impl FnMut(&Event) {
    let mut long = false;
    move |event: &Event| match *event {
        Event::Searched(own) if !long => {
            let most = Extent::of(own.tokens, own.most, " tokens").at_most();
            at("transcribing", most);
        }
        Event::Listened(own) if own.seconds < own.of_seconds => {
            long = true;
            seconds("transcribing", own);
        }
        Event::Aligned(own) => seconds("finding words", own),
        Event::Explained(own) => explained(&own),
        _ => {}
    }
}

fn seconds(what: &str, own: Listened) {
    let extent = Extent {
        done: own.seconds,
        most: own.of_seconds,
        at_most: false,
        unit: " s",
    };
    at(what, extent);
}

/// From now on Ctrl-C asks to stop.
fn look() {
    LOOKING.store(true, Ordering::Relaxed);
    // A handler that cannot be set leaves Ctrl-C as it was.
    let _ = ctrlc::set_handler(|| {
        if !LOOKING.load(Ordering::Relaxed) || STOP.swap(true, Ordering::Relaxed) {
            screen::leave();
            std::process::exit(130);
        }
    });
}

/// Shows downloads of large files: on the terminal's line, elsewhere as a line of
/// its own. Ctrl-C ends them, and the next run goes on from there.
pub(super) fn downloads() -> impl FnMut(Download<'_>) -> bool {
    let disabled = std::env::var("HF_HUB_DISABLE_PROGRESS_BARS").unwrap_or_default();
    let disabled = ["1", "ON", "YES", "TRUE"].contains(&&*disabled.to_uppercase());
    let mut shown = Shown {
        file: String::new(),
    };
    let bars = !disabled && std::io::stderr().is_terminal();
    move |download: Download<'_>| {
        let large = download.bytes.filter(|&bytes| bytes > LARGE_BYTES);
        if shown.file != download.file {
            look();
            shown.file = download.file.to_owned();
            if let Some(bytes) = large.filter(|_| !bars) {
                let megabytes = bytes as f64 / 1e6;
                say!(
                    "downloading {} of {}, {megabytes:.0} MB",
                    download.file,
                    download.model
                );
            }
        }
        if let Some(bytes) = large.filter(|_| bars) {
            let extent = Extent {
                done: download.done as f64 / 1e6,
                most: bytes as f64 / 1e6,
                at_most: false,
                unit: " MB",
            };
            at(&format!("downloading {}", download.file), extent);
        }
        if stopped() {
            say!("stopped; the same command goes on with what is here");
            return false;
        }
        true
    }
}

/// The download that is shown.
struct Shown {
    file: String,
}

impl Drop for Shown {
    /// What follows is as without downloads, unless it looks itself.
    fn drop(&mut self) {
        LOOKING.store(false, Ordering::Relaxed);
    }
}
