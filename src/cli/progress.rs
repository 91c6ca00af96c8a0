//! Progress of long work on a terminal, and its end by Ctrl-C.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::explain::{Progress, Step};

/// Set by the first Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C has asked to stop.
pub(super) fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Shows masks, masks per second and the time left, on a terminal only. After
/// Ctrl-C it asks the work to finish what is in flight and stop, and says what
/// `becomes` of it; a second Ctrl-C ends the program.
pub(super) fn reporter(becomes: &'static str) -> impl FnMut(Progress) -> bool {
    // A handler that cannot be set leaves Ctrl-C as it was.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
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
            eprintln!("stopped after {} masks; {becomes}", progress.done);
        }
        !stop
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len} masks, {msg}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
