//! Models that hear the waveform: maps over samples, and the page that shows them.

use std::path::Path;

use crate::browser::Browser;
use sonograd::explain::methods::spes::{SegmentsMade, SpesMade};
use sonograd::explain::spes::Stop;
use sonograd::{ExplainOptions, Listener, Maps, Method, Site, Sound};

const SAMPLES: usize = 5_000;
/// Samples of a stretch of 5 ms.
const STRETCH: usize = 80;

/// A tone that comes and goes.
fn sound() -> Sound {
    let sample = |n: usize| {
        let t = n as f32 / 16_000.0;
        0.4 * (t * 20.0).sin() * (t * 2_500.0).sin()
    };
    let samples: Vec<f32> = (0..SAMPLES).map(sample).collect();
    Sound::new(&samples, 16_000).unwrap()
}

fn explained(name: &str) -> Maps {
    let folder = Path::new("tests/fixtures").join(name);
    let mut listener = Listener::builder()
        .model(folder)
        .device("cpu")
        .open()
        .unwrap();
    let heard = listener.given(&sound(), "the sea").unwrap();
    let mut options = ExplainOptions::default();
    options.spes.stop = Stop::Masks(120);
    options.spes.segment_ms = 5.0;
    let request = listener.explain(&sound(), &heard).options(options);
    let methods = [Method::Attention, Method::Gradient, Method::Spes];
    let maps = request.methods(methods).at(Site::Input).run().unwrap();
    assert!(!maps.explanation().words.is_empty());
    assert!(
        maps.explanation()
            .words
            .iter()
            .all(|word| word.end_seconds <= 0.3125)
    );
    maps
}

#[test]
fn maps_are_over_samples() {
    for (name, frames) in [("moonshine", 11), ("moonshine_streaming", 16)] {
        let maps = explained(name);
        let model = &maps.explanation().model;
        assert_eq!(
            [model.frames, model.mel_bins, model.encoder_frames],
            [SAMPLES, 1, frames]
        );
        let tokens = maps.explanation().tokens.len();
        let gradient = maps.get(Method::Gradient, Site::Input).unwrap();
        assert_eq!(gradient.shape(), [tokens, SAMPLES, 1]);
        let axes = gradient.axes();
        assert_eq!((axes[1].name, axes[2].name), ("time", "channel"));
        assert_eq!(axes[1].step, 1.0 / 16_000.0);

        // What is hidden as a whole has one score, and neighbours differ.
        let spes = maps.get(Method::Spes, Site::Input).unwrap();
        let row = spes.row(0).unwrap();
        let stretches: Vec<f32> = row.chunks(STRETCH).map(|own| own[0]).collect();
        for (own, &score) in row.chunks(STRETCH).zip(&stretches) {
            assert!(own.iter().all(|&x| x == score), "{name}");
        }
        assert!(stretches.windows(2).any(|pair| pair[0] != pair[1]));
        let made: SpesMade = spes.made().unwrap();
        assert_eq!(made.segments, SAMPLES.div_ceil(STRETCH));
        let options = made.options();
        assert_eq!(options.segment_ms, 5.0);
        let input = made.input.unwrap();
        assert_eq!(input.segments, SegmentsMade::Stretches { segment_ms: 5.0 });
    }
}

#[test]
fn stretches_have_to_tell_something_apart() {
    let folder = Path::new("tests/fixtures/moonshine");
    let mut listener = Listener::builder()
        .model(folder)
        .device("cpu")
        .open()
        .unwrap();
    let heard = listener.given(&sound(), "the sea").unwrap();
    for (own, words) in [
        (0.03, "shorter than a sample"),
        (312.5, "nothing to tell apart"),
    ] {
        let mut options = ExplainOptions::default();
        options.spes.segment_ms = own;
        let request = listener.explain(&sound(), &heard).options(options);
        let error = request
            .methods([Method::Spes])
            .at(Site::Input)
            .run()
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// By 10 ms, with a spectrogram of the sound beneath.
#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn a_page_shows_samples_by_ten_milliseconds() {
    let maps = explained("moonshine");
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("explained");
    maps.save(&written).unwrap();
    assert_eq!(Maps::open(&written).unwrap(), maps);
    let page = written.join("report.html");
    let text = std::fs::read_to_string(&page).unwrap();
    let data = text.split("id=\"report-data\"").nth(1).unwrap();
    let data = &data[data.find('>').unwrap() + 1..data.find("</script>").unwrap()];
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["samples"], SAMPLES);
    let shapes: Vec<(&str, Vec<u64>)> = data["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|own| {
            let shape = own["shape"].as_array().unwrap().iter();
            let shape = shape.map(|side| side.as_u64().unwrap()).collect();
            (own["name"].as_str().unwrap(), shape)
        })
        .collect();
    let tokens = maps.explanation().tokens.len() as u64;
    assert!(shapes.contains(&("features", vec![32, 80])), "{shapes:?}");
    assert!(
        shapes.contains(&("gradient.input", vec![tokens, 32, 1])),
        "{shapes:?}"
    );

    let browser = Browser::for_pages();
    browser.open(&page);
    assert!(browser.console().is_empty());
    let about = browser.run("return document.querySelector('#about').textContent");
    let about = about.as_str().unwrap();
    assert!(
        about.contains("5000 samples, shown by 10 ms; 11 encoder frames"),
        "{about}"
    );
    browser.click("#spectrogram");
    let read = browser.text("#readout");
    assert!(read.contains("Hz") && read.contains(".input"), "{read}");
    assert!(browser.console().is_empty());
}
