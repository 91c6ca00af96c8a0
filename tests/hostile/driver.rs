//! Runs a target over its inputs. What it must not do is panic, take longer
//! than a bound, hold much more memory than its input has, or give a value that
//! breaks what is promised of it.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use crate::allocator;
use crate::mutations::{self, Random};

/// The longest that one input may take.
const MOST_TIME: Duration = Duration::from_secs(5);

/// The most that one input may take: this, and so many bytes for each of its
/// own. Samples become floats at up to 16 times the rate, and transforms of
/// them stand beside.
const MOST_MEMORY: usize = 64 << 20;
const MOST_TIMES: usize = 512;

/// Of OGG: three bytes of Opus are 120 ms.
const MOST_TIMES_OF_OGG: usize = 32_768;

/// In the names of functions that read what people give.
const CRATES: [&str; 6] = [
    "symphonia",
    "opus_pure",
    "tokenizers",
    "zip::",
    "flate2",
    "sonograd::",
];

/// How an input is changed.
#[derive(Clone, Copy, PartialEq)]
pub enum Grammar {
    Bytes,
    Json,
    JsonLines,
}

/// What is tried.
pub struct Target<'a> {
    pub name: &'static str,
    /// How many inputs `./check` tries.
    pub inputs: u64,
    pub grammar: Grammar,
    /// Whole, right inputs: changed and joined.
    pub seeds: Vec<Vec<u8>>,
    /// Words of the format.
    pub words: &'a [&'a [u8]],
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// The crate that called what panicked, as far as symbols tell.
fn caller() -> String {
    let frames = Backtrace::force_capture().to_string();
    let own = |line: &&str| CRATES.iter().any(|name| line.contains(name));
    let found = frames.lines().find(own).unwrap_or_default().trim();
    let found = found.split_once(": ").map_or(found, |(_, name)| name);
    format!(" in {found}")
}

/// Panics of watched threads are noted, not printed.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !WATCHED.get() {
                return usual(info);
            }
            let place = info.location().map(ToString::to_string);
            let place = place.unwrap_or_default();
            // The library's places have no path, and whose they are its callers tell.
            let (whose, place) = match place.split_once("/registry/src/") {
                Some((_, own)) => own.split_once('/').unwrap_or_default(),
                None => ("", &*place),
            };
            let caller = match whose.is_empty() && place.starts_with("/rustc/") {
                true => caller(),
                false => String::new(),
            };
            PANIC.set(Some(format!("panicked at {place}{caller}")));
        }));
    });
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn input(target: &Target, seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random::new(seed, target.name, number);
    let base = random.one(&target.seeds).clone();
    let (seeds, words) = (&target.seeds, target.words);
    let changed = match target.grammar {
        Grammar::Bytes => None,
        // Documents that are none are tried too.
        _ if random.below(8) == 0 => None,
        Grammar::Json => mutations::json(&mut random, &base, words),
        Grammar::JsonLines => mutations::json_lines(&mut random, &base, words),
    };
    changed.unwrap_or_else(|| {
        let mut bytes = base;
        mutations::bytes(&mut random, &mut bytes, seeds, words);
        bytes
    })
}

/// Writes an input where it can be run again alone.
fn keep(target: &str, name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sonograd-hostile-{target}-{name}"));
    std::fs::write(&path, bytes).ok();
    path
}

fn told(target: &str, seed: u64, number: u64, bytes: &[u8], problem: &str) -> String {
    let path = keep(target, &format!("{seed}-{number}"), bytes);
    let mut text = format!("{target}, seed {seed}, input {number}: {problem}\n");
    if bytes.len() <= 512 {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").ok();
            hex
        });
        writeln!(text, "  {hex}").ok();
    }
    let path = path.display();
    write!(
        text,
        "  again: SONOGRAD_HOSTILE_INPUT={path} cargo test --test hostile {target}"
    )
    .ok();
    text
}

/// The problem with what becomes of an input, if there is one.
fn problem(
    target: &Target,
    bytes: &[u8],
    judge: &mut dyn FnMut(&[u8]) -> Result<bool, String>,
    values: &mut u64,
) -> Option<String> {
    let ended = || panic::catch_unwind(AssertUnwindSafe(|| judge(bytes)));
    WATCHED.set(true);
    let (ended, peak) = allocator::peak(ended);
    WATCHED.set(false);
    match ended {
        Err(_) => return PANIC.take().or(Some("panicked".into())),
        Ok(Err(problem)) => return Some(problem),
        Ok(Ok(value)) => *values += u64::from(value),
    }
    let times = match target.name.starts_with("ogg") {
        true => MOST_TIMES_OF_OGG,
        false => MOST_TIMES,
    };
    let most = MOST_MEMORY + times * bytes.len();
    (peak > most).then(|| format!("takes {peak} bytes for {}", bytes.len()))
}

/// The number of the input that is tried now, since when, and its bytes.
type Now = (AtomicU64, Mutex<(Instant, Vec<u8>)>);

/// Ends the program if an input takes too long: nothing else ends a hang.
fn watch(target: &'static str, seed: u64, now: &Arc<Now>) {
    let now = Arc::downgrade(now);
    std::thread::spawn(move || {
        while let Some(now) = now.upgrade() {
            let (since, bytes) = now.1.lock().unwrap().clone();
            if since.elapsed() > MOST_TIME {
                let number = now.0.load(Ordering::Relaxed);
                let problem = format!("takes more than {} s", MOST_TIME.as_secs());
                eprintln!("{}", told(target, seed, number, &bytes, &problem));
                std::process::exit(101);
            }
            drop(now);
            std::thread::sleep(Duration::from_millis(200));
        }
    });
}

/// Tries all inputs of a target. `judge` gives whether there was a value (an
/// error is as right), or what is wrong with it.
pub fn run(target: &Target, judge: &mut dyn FnMut(&[u8]) -> Result<bool, String>) {
    note_panics();
    if let Some(path) = std::env::var_os("SONOGRAD_HOSTILE_INPUT") {
        let bytes = std::fs::read(path).unwrap();
        let ended = problem(target, &bytes, judge, &mut 0);
        return assert_eq!(ended, None, "{}", target.name);
    }
    for (number, bytes) in target.seeds.iter().enumerate() {
        let whole = judge(bytes);
        assert_eq!(whole, Ok(true), "{}: seed {number}", target.name);
    }
    let seed = setting("SONOGRAD_HOSTILE_SEED").unwrap_or(1);
    let inputs = target.inputs * setting("SONOGRAD_HOSTILE_TIMES").unwrap_or(1);
    let begun = Instant::now();
    let now = Arc::new((AtomicU64::new(0), Mutex::new((begun, Vec::new()))));
    watch(target.name, seed, &now);
    let mut values = 0;
    // One of each kind of problem, and how often it came.
    let mut problems: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for number in 0..inputs {
        let bytes = input(target, seed, number);
        now.0.store(number, Ordering::Relaxed);
        *now.1.lock().unwrap() = (Instant::now(), bytes.clone());
        if let Some(problem) = problem(target, &bytes, judge, &mut values) {
            let kind = problem.trim_end_matches(|c: char| c.is_ascii_digit());
            let seen = problems.entry(kind.to_owned());
            let told = || (0, told(target.name, seed, number, &bytes, &problem));
            seen.or_insert_with(told).0 += 1;
        }
    }
    let (name, seconds) = (target.name, begun.elapsed().as_secs_f64());
    println!("hostile {name}: {inputs} inputs, {values} values, {seconds:.1} s");
    let all = problems.into_values();
    let all: Vec<String> = all
        .map(|(count, text)| format!("{count} times: {text}"))
        .collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}
