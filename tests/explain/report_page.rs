//! The report in a real browser: it reacts, stays inside itself and survives
//! awkward explanations.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Map, Value};
use sonograd::explain::explanation::{
    Audio, Device, Explanation, FORMAT, MapInfo, Model, Token, VERSION, Word,
};
use sonograd::features::{MelFormula, MelScale};
use sonograd::ops::Reduction;
use sonograd::report::html::{NamedTensor, page, render};
use sonograd::{Maps, Sound};
use tempfile::TempDir;

use crate::browser::Browser;

const RIGHT: char = '\u{e014}';
const LEFT: char = '\u{e012}';
const UP: char = '\u{e013}';
const DOWN: char = '\u{e015}';
const TAB: char = '\u{e004}';

const HOSTILE_TOKEN: &str = "<!--</script ><script>alert(1)</script>";
const HOSTILE_FILE: &str = "</title><img src=x onerror=alert(2)> & \"a\".wav";

/// An explanation and its tensors.
struct Sample {
    explanation: Explanation,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Sample {
    /// `texts` become tokens; each but a last `</s>` is a word of its own.
    fn new(texts: &[&str], frames: usize, mel_bins: usize, encoder_frames: usize) -> Self {
        let count = texts.len();
        let seconds = 0.01 * frames as f64;
        let time = |index: usize| seconds * index as f64 / count as f64;
        let tokens = texts.iter().enumerate().map(|(index, text)| Token {
            index,
            position: index,
            id: 7 + index as u32,
            text: text.to_string(),
            log_probability: -0.1 * index as f64,
            special: *text == "</s>",
            peak_seconds: time(index) + 0.5 * seconds / count as f64,
        });
        let tokens: Vec<Token> = tokens.collect();
        let spoken = tokens.iter().filter(|token| !token.special);
        let words = spoken.map(|token| Word {
            text: token.text.clone(),
            tokens: vec![token.index],
            start_seconds: time(token.index),
            end_seconds: time(token.index + 1),
            confidence: 0.5,
            reliable: true,
        });
        Self {
            explanation: Explanation {
                format: FORMAT.into(),
                version: VERSION,
                sonograd: "0.1.0".into(),
                audio: Audio {
                    file: HOSTILE_FILE.into(),
                    seconds,
                    sample_rate: 16_000,
                    fingerprint: None,
                    warnings: Vec::new(),
                },
                text: texts.join(" "),
                model: Model {
                    name: "toy".into(),
                    revision: None,
                    architecture: "Toy".into(),
                    decoder_layers: 2,
                    decoder_heads: 2,
                    frames,
                    mel_bins,
                    mel_scale: None,
                    encoder_frames,
                    frame_seconds: 0.01,
                    encoder_frame_seconds: seconds / encoder_frames as f64,
                },
                device: Device {
                    name: "a <processor>".into(),
                    executor: "native".into(),
                },
                precision: "f32".into(),
                seed: 1,
                words: words.collect(),
                tokens,
                words_from: "attention".into(),
                maps: Vec::new(),
                profile: None,
            },
            tensors: Vec::new(),
        }
    }

    fn with(mut self, name: &str, shape: &[usize], value: impl Fn(usize) -> f32) -> Self {
        let size = shape.iter().product();
        self.tensors
            .push((name.into(), shape.into(), (0..size).map(value).collect()));
        if let Some((method, site)) = name.split_once('.') {
            self.name_map(name, shape, method, site);
        }
        self
    }

    /// The same of a map of the attention.
    fn with_map(mut self, name: &str, shape: &[usize], value: impl Fn(usize) -> f32) -> Self {
        self = self.with(name, shape, value);
        self.name_map(name, shape, name, "decoder");
        self
    }

    fn name_map(&mut self, name: &str, shape: &[usize], method: &str, site: &str) {
        self.explanation.maps.push(MapInfo {
            name: name.into(),
            method: method.parse().unwrap(),
            site: site.parse().unwrap(),
            shape: shape.into(),
            reduction: Reduction::None,
            options: Map::from_iter([("steps".into(), Value::from(32))]),
        });
    }

    /// As a folder holds it, with `sound`.
    fn maps(&self, sound: Option<&Sound>) -> Maps {
        let mut tensors = self.tensors.iter();
        let features = tensors.find(|(name, ..)| name == "features").unwrap();
        let named = self.explanation.maps.iter().map(|info| {
            let mut tensors = self.tensors.iter();
            tensors
                .find(|(name, ..)| *name == info.name)
                .unwrap()
                .2
                .clone()
        });
        let maps = Maps::new(
            self.explanation.clone(),
            features.2.clone(),
            named.collect(),
        );
        match sound {
            Some(sound) => maps.unwrap().with_sound(sound).unwrap(),
            None => maps.unwrap(),
        }
    }

    fn html(&self) -> String {
        let tensors =
            self.tensors
                .iter()
                .map(|(name, shape, data)| NamedTensor { name, shape, data });
        render(&self.explanation, &tensors.collect::<Vec<_>>())
    }
}

/// Four tokens; the map of each is one patch, later in time and higher in
/// frequency from token to token.
fn rich() -> Sample {
    let (count, frames, bins, encoder) = (4, 80, 20, 16);
    let patch = move |i: usize| {
        let (token, rest) = (i / (frames * bins), i % (frames * bins));
        let (frame, bin) = (rest / bins, rest % bins);
        frame / (frames / count) == token && bin / (bins / count) == token
    };
    Sample::new(
        &["good", "day", HOSTILE_TOKEN, "</s>"],
        frames,
        bins,
        encoder,
    )
    .with("features", &[frames, bins], |i| (i as f32 * 0.3).sin())
    .with("attention", &[2, 2, count, encoder], |i| {
        1.0 / (1.0 + (i % 17) as f32)
    })
    .with("gradient.input", &[count, frames, bins], move |i| {
        patch(i) as u8 as f32
    })
    .with("input-x-gradient.input", &[count, frames, bins], move |i| {
        if patch(i) { -1.0 } else { (i % 2) as f32 * 0.1 }
    })
    .with("spes.encoder", &[count, encoder], |i| (i % 5) as f32)
    .with("spes.tokens", &[count, count], |i| i as f32)
    .with("unknown", &[3], |i| i as f32)
}

fn write(folder: &TempDir, sample: &Sample) -> PathBuf {
    write_html(folder, &sample.html())
}

fn write_html(folder: &TempDir, html: &str) -> PathBuf {
    let path = folder.path().join("report.html");
    fs::write(&path, html).expect("a written page");
    path
}

/// Opens a page and waits until it has unpacked its maps.
fn open(browser: &Browser, page: &Path) {
    browser.open(page);
    until(browser, "return !document.getElementById('main').hidden");
}

/// Waits until a script returns true.
fn until(browser: &Browser, script: &str) {
    for _ in 0..400 {
        if browser.run(script) == true {
            return;
        }
        sleep(Duration::from_millis(25));
    }
    panic!("never: {script}: {:?}", browser.console());
}

/// A tone of `seconds` at 16 kHz.
fn tone(seconds: f32) -> Sound {
    let samples = (0..(16_000.0 * seconds) as usize).map(|n| 0.3 * (n as f32 * 0.2).sin());
    Sound::new(&samples.collect::<Vec<f32>>(), 16_000).unwrap()
}

/// Forty words and as many endings, 25 s long, with a sound.
fn long(count: usize) -> (Sample, Sound) {
    let texts: Vec<String> = (0..count).map(|i| format!(" word{i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut sample = Sample::new(&texts, 2500, 80, 1250);
    sample.explanation.model.mel_scale = Some(WHISPER);
    // Noise does not deflate.
    let noise = |i: usize| {
        let mixed = (i as u32).wrapping_mul(2_654_435_761) ^ (i as u32 >> 7).wrapping_mul(40_503);
        (mixed.wrapping_mul(2_246_822_519) >> 8) as f32 - 8e6
    };
    let sample = sample
        .with("features", &[2500, 80], noise)
        .with_map("attention", &[2, 2, count, 1250], |i| noise(i).abs())
        .with("gradient.input", &[count, 2500, 80], noise)
        .with("gradient.encoder", &[count, 1250], noise);
    (sample, tone(25.0))
}

/// The mel scale of Whisper.
const WHISPER: MelScale = MelScale {
    formula: MelFormula::Slaney,
    low_hertz: 0.0,
    high_hertz: 8000.0,
};

/// Reads a canvas from a copy: `d` are its bytes.
fn pixels(canvas: &str) -> String {
    format!(
        "const c = document.getElementById('{canvas}');
         const copy = document.createElement('canvas');
         copy.width = c.width; copy.height = c.height;
         const context = copy.getContext('2d', {{willReadFrequently: true}});
         context.drawImage(c, 0, 0);
         const d = context.getImageData(0, 0, c.width, c.height).data;"
    )
}

/// A hash of the canvas as drawn.
fn drawn(browser: &Browser, canvas: &str) -> String {
    let script = "let h = 2166136261; let sum = 0;
         for (const v of d) { h = Math.imul(h ^ v, 16777619) >>> 0; sum += v; }
         return sum === 0 ? 'blank' : String(h);";
    let hash = browser.run(&(pixels(canvas) + script));
    let hash = hash.as_str().expect("a hash");
    assert_ne!(hash, "blank", "{canvas} is blank");
    hash.to_owned()
}

/// Centre of the strongly coloured pixels of the spectrogram, as shares of its
/// width and height.
fn coloured(browser: &Browser) -> (f64, f64) {
    let script = "let n = 0, x = 0, y = 0;
         for (let i = 0; i < c.width * c.height; i += 1) {
           const p = [d[4 * i], d[4 * i + 1], d[4 * i + 2]];
           if (d[4 * i + 3] < 255 || Math.max(...p) - Math.min(...p) < 70) continue;
           n += 1; x += i % c.width; y += Math.floor(i / c.width);
         }
         return [x / n / c.width, y / n / c.height];";
    let centre = browser.run(&(pixels("spectrogram") + script));
    let share = |i: usize| centre[i].as_f64().expect("coloured pixels");
    (share(0), share(1))
}

fn choose(browser: &Browser, list: &str, value: &str) {
    browser.run(&format!(
        "const e = document.getElementById('{list}'); e.value = '{value}';
         if (e.value !== '{value}') throw new Error('no such choice');
         e.dispatchEvent(new Event('input'));"
    ));
}

fn focused(browser: &Browser) -> String {
    let label = browser.run(
        "return document.activeElement.getAttribute('aria-label') || document.activeElement.id;",
    );
    label.as_str().expect("a label").to_owned()
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn a_click_shows_the_map_of_that_token() {
    let browser = Browser::for_pages();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let page = write(&folder, &rich());
    browser.prefer_dark(true);
    open(&browser, &page);

    // Texts of others arrive as text.
    assert_eq!(
        browser.title(),
        format!("{HOSTILE_FILE}: good day {HOSTILE_TOKEN} </s>")
    );
    assert!(browser.text("h1").contains(HOSTILE_TOKEN));
    assert!(browser.text("header").contains(HOSTILE_FILE));
    assert_eq!(browser.text("[data-token='2']"), HOSTILE_TOKEN);
    assert!(browser.text("[data-token='3']").contains("</s>"));
    assert_eq!(browser.run("return document.images.length"), 0);

    // Each token has its own picture, and a token always the same one.
    choose(&browser, "map", "1");
    let (left, bottom) = coloured(&browser);
    let first = drawn(&browser, "spectrogram");
    browser.click("[data-token='2']");
    assert!(browser.text("#selection").starts_with("Token 3 of 4"));
    let (right, top) = coloured(&browser);
    assert_ne!(drawn(&browser, "spectrogram"), first);
    assert!(
        left + 0.25 < right,
        "{left} then {right}: time runs rightwards"
    );
    assert!(
        bottom > top + 0.25,
        "{bottom} then {top}: frequency runs upwards"
    );
    browser.click("[data-token='0']");
    assert_eq!(drawn(&browser, "spectrogram"), first);

    choose(&browser, "map", "0");

    // A word; then a row of the matrix.
    browser.click("[data-word='1']");
    assert!(browser.text("#selection").starts_with("Word 2 of 3"));
    browser.click_at("#matrix", 0.5, 0.9);
    assert!(browser.text("#selection").starts_with("Token 4 of 4"));
    assert!(browser.text("#selection").contains("special"));
    let reading = browser.text("#readout");
    assert!(reading.contains("cross-attention"), "{reading}");

    // Layers and heads change the curve and the matrix, not the map.
    let before = ["spectrogram", "curves", "matrix"].map(|canvas| drawn(&browser, canvas));
    choose(&browser, "layer", "1");
    choose(&browser, "head", "0");
    let after = ["spectrogram", "curves", "matrix"].map(|canvas| drawn(&browser, canvas));
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    assert_ne!(before[2], after[2]);

    // Every map, at every site, has a picture of its own.
    let mut pictures = vec![after[0].clone()];
    for map in ["1", "2", "3"] {
        choose(&browser, "map", map);
        pictures.push(drawn(&browser, "spectrogram"));
    }
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), 4);
    let tinted = browser.run("return document.querySelectorAll('.tinted').length");
    assert_eq!(tinted, 4, "a map over tokens colours the buttons");
    choose(&browser, "map", "0");

    // The slider takes the map away.
    choose(&browser, "opacity", "0");
    assert_ne!(drawn(&browser, "spectrogram"), after[0]);
    choose(&browser, "opacity", "85");
    assert_eq!(drawn(&browser, "spectrogram"), after[0]);

    // Colours follow the system and the button.
    let theme = "return document.documentElement.dataset.theme";
    assert_eq!(browser.run(theme), "dark");
    browser.click("#theme");
    assert_eq!(browser.run(theme), "light");
    assert_ne!(drawn(&browser, "spectrogram"), after[0]);

    let remarks = "return document.getElementById('remarks').textContent";
    let remarks = browser.run(remarks);
    assert!(
        remarks
            .as_str()
            .expect("remarks")
            .contains("unknown is not shown")
    );

    // Nothing was complained about and nothing was asked for.
    assert_eq!(browser.console(), Vec::<String>::new());
    let url = format!("file://{}", page.display());
    let requests = browser.requests();
    assert!(
        requests.contains(&url),
        "the log of requests works: {requests:?}"
    );
    let own = |asked: &String| *asked == url || asked.starts_with("data:");
    assert!(requests.iter().all(own), "{requests:?}");

    // The policy stops what a hole in the page could do, and the checks above
    // would have seen it.
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'document.title = \"broken\"';
         document.body.append(s); fetch('http://127.0.0.1:9/').catch(() => {});",
    );
    assert!(browser.title().starts_with("</title>"));
    let complaints = browser.console().join("\n");
    assert!(complaints.contains("script-src"), "{complaints}");
    assert!(complaints.contains("127.0.0.1:9"), "{complaints}");
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn the_keyboard_reaches_everything() {
    let browser = Browser::for_pages();
    let folder = tempfile::tempdir().expect("a temporary folder");
    open(&browser, &write(&folder, &rich()));

    browser.press(&[TAB, TAB]);
    assert_eq!(focused(&browser), "token 1, good");
    let first = drawn(&browser, "spectrogram");
    browser.press(&[RIGHT]);
    assert_eq!(focused(&browser), "token 2, day");
    assert!(browser.text("#selection").starts_with("Token 2 of 4"));
    assert_ne!(drawn(&browser, "spectrogram"), first);
    browser.press(&[UP]);
    assert_eq!(focused(&browser), "word 2, day");
    browser.press(&[LEFT]);
    assert!(browser.text("#selection").starts_with("Word 1 of 3"));
    browser.press(&[DOWN]);
    assert_eq!(focused(&browser), "token 1, good");
    assert_eq!(drawn(&browser, "spectrogram"), first);
    let pressed = "return document.querySelectorAll('[aria-pressed=true]').length";
    assert_eq!(browser.run(pressed), 1);

    // Six controls stand between the tokens and the spectrogram.
    let mut order = Vec::new();
    while order
        .last()
        .is_none_or(|label: &String| !label.starts_with("Spectrogram"))
    {
        assert!(order.len() < 12, "{order:?}");
        browser.press(&[TAB]);
        order.push(focused(&browser));
    }
    let controls = ["map", "layer", "head", "range", "opacity", "matrix-of"];
    assert_eq!(order[..6], controls);
    browser.press(&[RIGHT]);
    let here = browser.text("#readout");
    assert!(
        here.contains("mel bin 10") && here.contains("gradient.input"),
        "{here}"
    );
    browser.press(&[UP]);
    assert!(browser.text("#readout").contains("mel bin 11"));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn nothing_leaves_a_narrow_screen() {
    let browser = Browser::for_pages();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let long = "Donaudampfschifffahrtsgesellschaft".repeat(4);
    let mut texts = vec![long.as_str()];
    texts.extend(["word"; 40]);
    let sample = Sample::new(&texts, 300, 80, 75)
        .with("features", &[300, 80], |i| i as f32)
        .with("attention", &[2, 2, 41, 75], |i| (i % 75) as f32)
        .with("gradient.input", &[41, 300, 80], |i| (i % 80) as f32);
    let page = write(&folder, &sample);
    for (width, height) in [(360, 740), (390, 844), (1280, 900)] {
        browser.resize(width, height);
        open(&browser, &page);
        browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })");
        let content = browser.run("return document.documentElement.scrollWidth");
        assert!(
            content.as_u64().expect("a width") <= width as u64,
            "{content} in {width}"
        );
        let small = browser.run(
            "return [...document.querySelectorAll('main button, main select')]
               .filter((e) => e.offsetParent && e.getBoundingClientRect().height < 28).length",
        );
        assert_eq!(small, 0, "controls too small to hit at {width}");
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn awkward_explanations_have_a_page() {
    let browser = Browser::for_pages();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = ["a", "b", "</s>"];
    let mut unknown_times =
        Sample::new(&words, 10, 4, 5).with("smoothgrad.input", &[3, 10, 4], |i| i as f32);
    unknown_times.explanation.tokens[0].peak_seconds = f64::NAN;
    unknown_times.explanation.tokens[0].log_probability = f64::NEG_INFINITY;
    unknown_times.explanation.words[0].end_seconds = f64::NAN;
    unknown_times.explanation.words[1].tokens = vec![1, 99];
    let cases = [
        ("No token", Sample::new(&[], 10, 4, 5)),
        ("no saliency map", Sample::new(&words, 10, 4, 5)),
        (
            "Token 1 of 1",
            Sample::new(&["one"], 1, 1, 1)
                .with("features", &[1, 1], |_| 0.0)
                .with("attention", &[2, 2, 1, 1], |_| 1.0)
                .with("smoothgrad.input", &[1, 1, 1], |_| 0.5),
        ),
        (
            "Constant map: every value is 0.5",
            Sample::new(&words, 10, 4, 5).with("smoothgrad.input", &[3, 10, 4], |_| 0.5),
        ),
        (
            "Constant map: every value is 0.",
            Sample::new(&words, 10, 4, 5)
                .with("attention", &[2, 2, 3, 5], |_| 0.2)
                .with("smoothgrad.encoder", &[3, 5], |_| 0.0),
        ),
        (
            "No finite value",
            Sample::new(&words, 10, 4, 5)
                .with("features", &[10, 4], |_| f32::NAN)
                .with("attention", &[2, 2, 3, 5], |_| f32::NAN)
                .with("smoothgrad.input", &[3, 10, 4], |_| f32::INFINITY),
        ),
        (
            "1 of 40 values are not finite",
            Sample::new(&words, 10, 4, 5).with("smoothgrad.input", &[3, 10, 4], |i| {
                if i == 5 {
                    f32::NEG_INFINITY
                } else {
                    i as f32 - 20.0
                }
            }),
        ),
        (
            "its shape is [3, 9, 4], and [3, 10, 4] was expected",
            Sample::new(&words, 10, 4, 5).with("smoothgrad.input", &[3, 9, 4], |_| 1.0),
        ),
        ("log-probability not finite", unknown_times),
    ];
    for (expected, sample) in cases {
        open(&browser, &write(&folder, &sample));
        let text = browser.run("return document.getElementById('main').textContent");
        let text = text.as_str().expect("a text");
        assert!(text.contains(expected), "{expected:?} is not in {text}");
        assert!(
            !text.contains("NaN") && !text.contains("undefined "),
            "{text}"
        );
        assert_eq!(
            browser.run("return document.getElementById('main').hidden"),
            false
        );
        assert_eq!(browser.console(), Vec::<String>::new(), "{expected}");
        for choice in ["top", "all"] {
            choose(&browser, "range", choice);
        }
        assert_eq!(browser.console(), Vec::<String>::new(), "{expected}");
    }
}

#[test]
fn the_page_of_a_short_utterance_stays_small() {
    let sample = Sample::new(&["word"; 25], 326, 80, 82)
        .with("features", &[326, 80], |i| (i as f32).sin())
        .with("attention", &[2, 2, 25, 82], |i| (i as f32).sin().abs())
        .with("gradient.input", &[25, 326, 80], |i| (i as f32).sin())
        .with("smoothgrad.input", &[25, 326, 80], |i| (i as f32).cos());
    let size = sample.html().len();
    println!("{size} bytes");
    assert!(size <= 4_000_000, "{size} bytes");
}

/// On a laptop's screen the matrix is seen without scrolling, at ninety tokens
/// too, and the texts beside it thin out: none lies over another.
#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn ninety_tokens_are_on_one_screen() {
    let browser = Browser::for_pages();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sample, sound) = long(90);
    let path = write_html(&folder, &page(&sample.maps(Some(&sound))));
    browser.resize(1280, 800);
    open(&browser, &path);
    let place = browser.run(
        "const b = document.getElementById('matrix').getBoundingClientRect();
         return [b.top, b.bottom, document.documentElement.scrollWidth];",
    );
    let [top, bottom, width] = [0, 1, 2].map(|i| place[i].as_f64().unwrap());
    println!("the matrix stands from {top} to {bottom}");
    assert!(top > 0.0 && bottom <= 800.0 && bottom - top >= 170.0 && width <= 1280.0);

    for (canvas, most) in [("matrix", 16), ("words-lane", 16)] {
        let script = "const rows = [];
             for (let y = 0; y < c.height; y += 1) {
               let ink = 0;
               for (let x = FROM; x < TO; x += 1) {
                 const i = 4 * (y * c.width + x);
                 if (d[i + 3] > 128 && d[i] + d[i + 1] + d[i + 2] < 480) ink += 1;
               }
               rows.push(ink > 0);
             }
             const bands = [];
             rows.forEach((ink, y) => { if (ink && !rows[y - 1]) bands.push(0); if (ink) bands[bands.length - 1] += 1; });
             return bands;";
        let (from, to) = match canvas {
            "matrix" => ("0", "78"),
            _ => ("90", "c.width - 12"),
        };
        let script = script.replace("FROM", from).replace("TO", to);
        let bands = browser.run(&(pixels(canvas) + &script));
        let bands: Vec<u64> = bands
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_u64().unwrap())
            .collect();
        println!("{canvas}: lines of text {bands:?}");
        // Of texts that lie over each other one band is high.
        assert!(bands.iter().all(|&high| high <= most), "{bands:?}");
        let least = if canvas == "matrix" { 10 } else { 3 };
        assert!(bands.len() >= least, "{bands:?}");
    }
    // Words whose times are not to be trusted say so.
    let mut sample = rich();
    sample.explanation.words[0].reliable = true;
    sample.explanation.words[1].reliable = false;
    open(&browser, &write_html(&folder, &sample.html()));
    for (word, is_unsure) in [(0, false), (1, true)] {
        browser.click(&format!("[data-word='{word}']"));
        let said = browser.text("#selection").contains(" (unsure); ");
        assert_eq!(said, is_unsure, "word {word}");
    }
    // Few tokens are as well.
    let path = write_html(&folder, &rich().html());
    open(&browser, &path);
    let bottom =
        browser.run("return document.getElementById('axis-below').getBoundingClientRect().bottom");
    assert!(bottom.as_f64().unwrap() <= 800.0, "{bottom}");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn the_sound_plays_and_a_line_moves_over_the_maps() {
    let browser = Browser::for_pages();
    let folder = tempfile::tempdir().expect("a temporary folder");
    // No map of a shape that does not fit, which a page leaves out and a folder refuses.
    let mut sample = rich();
    sample.tensors.retain(|(name, ..)| name != "unknown");
    let maps = sample.maps(Some(&tone(0.8)));
    let path = write_html(&folder, &page(&maps));
    open(&browser, &path);
    let ready = "return document.getElementById('sound').readyState > 0";
    until(&browser, ready);
    let shown = "return document.getElementById('playhead').hidden ? -1 : document.getElementById('playhead').getBoundingClientRect().left";
    let time = || {
        browser
            .run("return document.getElementById('sound').currentTime")
            .as_f64()
            .unwrap()
    };
    assert_eq!(browser.run(shown), -1);
    assert!(
        (browser
            .run("return document.getElementById('sound').duration")
            .as_f64()
            .unwrap()
            - 0.8)
            .abs()
            < 0.01
    );

    // A click goes there; the line stands over all maps.
    browser.click_at("#curves", 0.5, 0.5);
    until(
        &browser,
        "return document.getElementById('sound').currentTime > 0.2",
    );
    let middle = browser.run(shown).as_f64().unwrap();
    let line = browser.run(
        "const b = document.getElementById('playhead').getBoundingClientRect();
         const all = ['spectrogram', 'curves', 'matrix'].map((id) => document.getElementById(id).getBoundingClientRect());
         return all.every((a) => b.top <= a.top && b.bottom >= a.bottom && a.left < b.left && b.right < a.right);",
    );
    assert_eq!(line, true);
    browser.click_at("#matrix", 0.9, 0.1);
    assert!(browser.text("#selection").starts_with("Token 1 of 4"));
    until(
        &browser,
        "return document.getElementById('sound').currentTime > 0.6",
    );
    assert!(browser.run(shown).as_f64().unwrap() > middle + 50.0);

    // The button plays; the line comes to the end.
    browser.click_at("#curves", 0.2, 0.5);
    until(
        &browser,
        "return document.getElementById('sound').currentTime < 0.2",
    );
    let before = browser.run(shown).as_f64().unwrap();
    browser.click("#play");
    until(&browser, "return document.getElementById('sound').ended");
    assert!(browser.run(shown).as_f64().unwrap() > before + 100.0);
    assert_eq!(browser.text("#play"), "Play");
    assert!(browser.text("#clock").starts_with("0.80 of 0.80"));

    // Space does the same from the spectrogram, and from a chosen token; the
    // word alone ends where it ends.
    browser.run("document.getElementById('spectrogram').focus()");
    browser.press(&[' ']);
    until(&browser, "return !document.getElementById('sound').paused");
    until(&browser, "return document.getElementById('sound').ended");
    browser.click("[data-word='0']");
    browser.press(&[' ']);
    until(&browser, "return !document.getElementById('sound').paused");
    until(&browser, "return document.getElementById('sound').ended");
    assert!(browser.text("#selection").starts_with("Word 1 of 3"));
    browser.click("#play-word");
    until(
        &browser,
        "const s = document.getElementById('sound'); return s.paused && s.currentTime < 0.3",
    );
    assert!((time() - 0.2).abs() < 0.05, "{}", time());

    assert_eq!(browser.console(), Vec::<String>::new());
    let url = format!("file://{}", path.display());
    let own = |asked: &String| *asked == url || asked.starts_with("data:");
    let requests = browser.requests();
    assert!(requests.iter().all(own), "{requests:?}");

    // Without a sound there is no player, and nothing may be played.
    let silent = page(&maps.without_sound());
    assert!(!silent.contains("media-src") && !silent.contains("<audio"));
    open(&browser, &write_html(&folder, &silent));
    assert_eq!(
        browser.run("return document.getElementById('player').hidden"),
        true
    );
    browser.click_at("#curves", 0.5, 0.5);
    browser.run("document.getElementById('spectrogram').focus()");
    browser.press(&[' ']);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn frequencies_are_in_hertz_where_they_are_known() {
    let browser = Browser::for_pages();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sample = rich();
    let mut read = |scale: Option<MelScale>| {
        sample.explanation.model.mel_scale = scale;
        open(&browser, &write(&folder, &sample));
        browser.click_at("#spectrogram", 0.5, 0.5);
        browser.text("#readout")
    };
    let without = read(None);
    assert!(
        without.contains("mel bin 9") && !without.contains("Hz"),
        "{without}"
    );
    let with = read(Some(WHISPER));
    // The tenth of 20 centres, 10/21 of 45.25 mel: 1000 exp(.45) Hz.
    assert!(with.contains("1568 Hz (mel bin 9)"), "{with}");
    // A scale that is none is none.
    let broken = MelScale {
        low_hertz: f64::NAN,
        ..WHISPER
    };
    assert_eq!(read(Some(broken)), without);
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// 25 s of speech with ninety tokens, of values that do not deflate at all.
#[test]
fn a_page_takes_at_most_six_megabytes() {
    let (sample, sound) = long(90);
    let size = page(&sample.maps(Some(&sound))).len();
    println!("{size} bytes");
    assert!((5_000_000..=6_000_000).contains(&size), "{size} bytes");
}

/// A folder gives back what was saved, with the sound and without.
#[test]
fn the_sound_comes_back_from_a_folder() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let mut sample = rich();
    sample.tensors.retain(|(name, ..)| name != "unknown");
    let sound = tone(0.8);
    sample.explanation.audio.fingerprint = Some(sound.fingerprint());
    let with = sample.maps(Some(&sound));
    let folder = place.path().join("one");
    with.save(&folder).unwrap();
    let back = Maps::open(&folder).unwrap();
    assert_eq!(back, with);
    assert_eq!(back.sound().unwrap(), sound.waveform());
    let report = || fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report().contains("data:audio/wav;base64,UklGR"));

    let without = with.clone().without_sound();
    without.save(&folder).unwrap();
    assert_eq!(Maps::open(&folder).unwrap(), without);
    assert!(without != with && !report().contains("data:audio"));
    // Another sound is refused.
    let problem = without.with_sound(&tone(0.7)).unwrap_err().to_string();
    assert!(problem.contains("not the one explained"), "{problem}");
}
