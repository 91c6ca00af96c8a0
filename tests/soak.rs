//! One process explains utterance after utterance: what it holds must not grow.
//! One test, since resident memory is the whole process'.
//!
//! `SONOGRAD_SOAK=200 cargo test --test soak -- --nocapture` takes that many;
//! with `SONOGRAD_SOAK_LENGTHS=10` their lengths come again and again, and
//! `SONOGRAD_SOAK_MODEL=DIR` is another model than a tiny one.

/// Models with random weights and sizes of one's choice.
#[path = "shared/random_model.rs"]
mod random_model;

use random_model::{SMALL, tone};
use sonograd::allocator::Keeping;
use sonograd::explain::spes::Stop;
use sonograd::{ExplainOptions, Listener, Method, Site, Sound};

#[global_allocator]
static MEMORY: Keeping = Keeping::new();

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "only Linux tells here what is resident"
)]
fn memory_does_not_grow_over_many_utterances() {
    // As the program does.
    MEMORY.map_large_blocks();
    let count = std::env::var("SONOGRAD_SOAK").map_or(30, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    random_model::write_folder(folder.path(), SMALL);
    let model = std::env::var_os("SONOGRAD_SOAK_MODEL");
    let model = model.map_or(folder.path().to_owned(), Into::into);
    let builder = Listener::builder().model(model).device("cpu");
    let mut listener = builder.open().unwrap();
    let mut options = ExplainOptions::default();
    options.spes.stop = Stop::Masks(32);
    options.spes.segments = vec![30];
    // Lengths as a shuffled list of them has it, the longest within the first ten.
    let lengths = std::env::var("SONOGRAD_SOAK_LENGTHS");
    let lengths: usize = lengths.map_or(usize::MAX, |lengths| lengths.parse().unwrap());
    let frames = |number: usize| match number % lengths {
        // 0.5 to 1.4 s.
        few @ 0..10 => 50 + (few * 7 + 3) % 10 * 10,
        // Ever new ones of half a second to 1.4, down to the last sample.
        more => 50 + (more * 37) % 90,
    };
    let mut tenth = 0;
    // As many tokens in each: longer texts are larger work.
    let mut text = None;
    for number in 0..count {
        let sound = Sound::new(&tone(frames(number) * 160 + 80), 16_000).unwrap();
        let heard = listener.transcribe(&sound).unwrap();
        let text = text.get_or_insert_with(|| heard.text().to_owned());
        let heard = listener.given(&sound, text).unwrap();
        let explaining = listener.explain(&sound, &heard).options(options.clone());
        let explaining = explaining.methods([Method::Attention, Method::Gradient, Method::Spes]);
        let maps = explaining
            .at([Site::Input, Site::Encoder, Site::Tokens])
            .run()
            .unwrap();
        assert!(
            maps.iter()
                .all(|map| map.data().iter().all(|x| x.is_finite()))
        );
        if number == 9 {
            tenth = resident();
        }
    }
    let end = resident();
    println!("{count} utterances: {tenth} bytes resident after the tenth, {end} at the end");
    assert!(
        end as f64 <= 1.05 * tenth as f64,
        "{tenth} bytes, then {end}"
    );
}
