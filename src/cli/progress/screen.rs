//! What a terminal shows of long work: one line on standard error, not before
//! the work has gone on for two seconds, and gone when it ends. Where standard
//! error is no terminal, nothing at all.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::shown;
use crate::gauge::Gauge;

/// How long work goes on before it is shown.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the line is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// The length of a bar, in steps that indicatif counts.
const STEPS: u64 = 1_000;

/// There is one terminal.
static SCREEN: Mutex<Screen> = Mutex::new(Screen {
    work: None,
    compiling: None,
    bar: None,
    template: "",
    drawn: false,
});

struct Screen {
    work: Option<Work>,
    /// Goes while the device compiles.
    compiling: Option<Gauge>,
    /// There while the line is.
    bar: Option<ProgressBar>,
    /// How it looks.
    template: &'static str,
    /// Whether the thread runs that draws.
    drawn: bool,
}

/// What is done.
struct Work {
    /// To what, as in a sound's name.
    name: String,
    begin: Instant,
    stage: Stage,
}

/// A part of the work.
struct Stage {
    what: String,
    since: Instant,
    /// What was done when it was first told of.
    first: f64,
    extent: Option<Extent>,
    gauge: Option<Gauge>,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) struct Extent {
    pub done: f64,
    pub most: f64,
    /// Whether it may end before.
    pub at_most: bool,
    /// Behind the numbers, with the space before it.
    pub unit: &'static str,
}

impl Extent {
    /// Things that are counted.
    pub fn of(done: usize, most: usize, unit: &'static str) -> Self {
        Self {
            done: done as f64,
            most: most as f64,
            at_most: false,
            unit,
        }
    }

    /// The same, which may end before.
    pub fn at_most(self) -> Self {
        Self {
            at_most: true,
            ..self
        }
    }
}

impl Stage {
    fn new(what: &str, extent: Option<Extent>) -> Self {
        Self {
            what: what.to_owned(),
            since: Instant::now(),
            first: extent.map_or(0.0, |own| own.done),
            extent,
            gauge: None,
        }
    }

    /// How far it is now.
    fn extent(&self) -> Option<Extent> {
        let told = self.gauge.as_ref().and_then(Gauge::now);
        told.map_or(self.extent, |[done, all]| Some(Extent::of(done, all, "")))
    }

    fn line(&self, seconds: f64) -> String {
        let what = &self.what;
        let Some(own) = self.extent() else {
            return format!("{what}, {}", time(seconds));
        };
        let Extent {
            done,
            most,
            at_most,
            unit,
        } = own;
        let bound = if at_most { "at most " } else { "" };
        let line = format!("{what}: {done:.0} of {bound}{most:.0}{unit}");
        match done - self.first {
            new if new > 0.0 => {
                let left = seconds * (most - done).max(0.0) / new;
                format!("{line}, {bound}{} left", time(left))
            }
            _ => line,
        }
    }
}

/// Seconds as people say them.
fn time(seconds: f64) -> String {
    match seconds {
        own if own < 100.0 => format!("{own:.0} s"),
        own if own < 6_000.0 => format!("{:.0} min", own / 60.0),
        own => format!("{:.1} h", own / 3_600.0),
    }
}

impl Screen {
    fn draw(&mut self) {
        let Some(work) = &self.work else {
            return;
        };
        if work.begin.elapsed() < PATIENCE {
            return;
        }
        let mut line = work.stage.line(work.stage.since.elapsed().as_secs_f64());
        let compiling = self.compiling.as_ref().and_then(Gauge::now);
        if compiling.is_some() {
            line += ", compiling for the device";
        }
        if !work.name.is_empty() {
            line += &format!(" ({})", work.name);
        }
        let bar = self.bar.get_or_insert_with(|| ProgressBar::new(STEPS));
        let extent = work.stage.extent();
        let template = match extent {
            Some(_) => "{bar:20} {wide_msg}",
            None => "{spinner} {wide_msg}",
        };
        if self.template != template
            && let Ok(style) = ProgressStyle::with_template(template)
        {
            bar.set_style(style);
            self.template = template;
        }
        let share = extent.map_or(0.0, |own| own.done / own.most.max(1e-9));
        bar.set_position((share.clamp(0.0, 1.0) * STEPS as f64) as u64);
        bar.set_message(shown::line(&line));
        bar.tick();
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.template = "";
        }
    }
}

fn screen() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work that is shown while this is there.
#[must_use = "the line is gone with it"]
pub(in crate::cli) struct Working(());

impl Drop for Working {
    fn drop(&mut self) {
        let mut screen = screen();
        screen.work = None;
        screen.clear();
    }
}

/// Begins work on a file.
pub(in crate::cli) fn work_on(file: &Path, what: &str) -> Working {
    let name = file.file_name().unwrap_or_default();
    work(&name.to_string_lossy(), what)
}

/// Begins work on something, of which the terminal shows one at a time.
pub(in crate::cli) fn work(name: &str, what: &str) -> Working {
    if !std::io::stderr().is_terminal() {
        return Working(());
    }
    let mut screen = screen();
    screen.work = Some(Work {
        name: name.to_owned(),
        begin: Instant::now(),
        stage: Stage::new(what, None),
    });
    if !screen.drawn {
        screen.drawn = true;
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(FRAME);
                self::screen().draw();
            }
        });
    }
    Working(())
}

/// The work is on another thing now.
pub(in crate::cli) fn rename(name: String) {
    if let Some(work) = &mut screen().work {
        work.name = name;
    }
}

/// What is done now, and nobody knows how far it is.
pub(in crate::cli) fn stage(what: &str) {
    if let Some(work) = &mut screen().work
        && (work.stage.what != what || work.stage.extent.is_some())
    {
        work.stage = Stage::new(what, None);
    }
}

/// What is done now, and how far that is.
pub(in crate::cli) fn at(what: &str, extent: Extent) {
    let mut screen = screen();
    let Some(Work { stage, .. }) = &mut screen.work else {
        return;
    };
    let same = |own: Extent| own.most == extent.most && own.done <= extent.done;
    match stage.what == what && stage.extent.is_none_or(same) {
        true => stage.extent = Some(extent),
        false => *stage = Stage::new(what, Some(extent)),
    }
}

/// What is done now, and who knows how far that is.
pub(in crate::cli) fn gauged(what: &str, gauge: &Gauge) {
    if let Some(work) = &mut screen().work {
        work.stage = Stage::new(what, None);
        work.stage.gauge = Some(gauge.clone());
    }
}

/// The line says when the device compiles.
pub(in crate::cli) fn compiles(compiling: Option<Gauge>) {
    screen().compiling = compiling;
}

/// Prints something while the line is not there.
pub(in crate::cli) fn aside<T>(print: impl FnOnce() -> T) -> T {
    match &screen().bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// Takes the line away before the program ends at once.
pub(super) fn leave() {
    if let Ok(mut screen) = SCREEN.try_lock() {
        screen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_long_still() {
        let mut stage = Stage::new("masks at the input", None);
        assert_eq!(stage.line(3.2), "masks at the input, 3 s");
        stage.extent = Some(Extent::of(0, 960, ""));
        assert_eq!(stage.line(3.0), "masks at the input: 0 of 960");
        stage.extent = Some(Extent::of(240, 960, " masks").at_most());
        let line = "masks at the input: 240 of at most 960 masks, at most 9 s left";
        assert_eq!(stage.line(3.0), line);
        stage.first = 120.0;
        assert!(stage.line(3.0).ends_with("at most 18 s left"));
        let gauge = Gauge::default();
        stage.gauge = Some(gauge.clone());
        gauge.begin(4);
        stage.first = 0.0;
        (0..2).for_each(|_| gauge.step());
        assert_eq!(stage.line(200.0), "masks at the input: 2 of 4, 3 min left");
        assert_eq!(
            [99.4, 600.0, 7_200.0].map(time),
            ["99 s", "10 min", "2.0 h"]
        );
    }
}
