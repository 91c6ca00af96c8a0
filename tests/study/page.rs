//! The page of a study: nothing of the tables is lost, nothing of the logs is
//! taken for markup, and a real browser shows it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use sonograd::explain::Method;
use sonograd::report::study::render;
use sonograd::study::log::Header;
use sonograd::study::settings::Settings;
use sonograd::study::tables::{Failure, Row, Tables};

use crate::browser::Browser;

const TAB: char = '\u{e004}';
const RIGHT: char = '\u{e014}';
const DOWN: char = '\u{e015}';

const HOSTILE: &str = "</title><img src=x onerror=alert(1)>";
const HOSTILE_ERROR: &str = "<!--</script ><script>alert(2)</script> & \"quoted\"";

/// With what it is of as tables write it.
fn row(subject: [&str; 2], map: &str, statistic: &str, attention: &str, mean: f64) -> Row {
    let some = |text: &str| !text.is_empty();
    Row {
        model: subject[0].into(),
        direction: subject[1].into(),
        map: some(map).then(|| map.parse().expect("a map")),
        statistic: statistic.parse().expect("a statistic"),
        attention: some(attention).then(|| attention.parse().expect("a part")),
        mean,
        low: mean - 0.0625,
        high: mean + 0.125,
        utterances: 10,
    }
}

/// A number in 0..1 that is different for every row and the same every time.
fn scattered(n: usize) -> f64 {
    (n as f64 * 0.618_033_988_749_895).fract()
}

/// All rows that a subject with that many layers and heads has.
fn rows(subject: [&str; 2], layers: usize, heads: usize, all: &mut Vec<Row>) {
    let mut add = |map: &str, statistic: &str, attention: &str, mean: f64| {
        all.push(row(subject, map, statistic, attention, mean));
    };
    let mut n = 0;
    let mut next = || {
        n += 1;
        scattered(n)
    };
    for map in ["gradient.encoder", "spes.encoder", "spes.input"] {
        for kind in ["pearson", "pearson, corrected", "spearman"] {
            if kind.contains("corrected") && !map.starts_with("spes") {
                continue;
            }
            for prefix in ["", "norm-weighted "] {
                add(map, kind, &format!("{prefix}all"), next());
                for l in 1..=layers {
                    add(map, kind, &format!("{prefix}layer {l}"), next());
                    for h in 1..=heads {
                        // Some are negative.
                        let mean = 0.5 - next();
                        add(map, kind, &format!("{prefix}layer {l} head {h}"), mean);
                    }
                }
                for h in 1..=heads {
                    let name = format!("{prefix}head {h} of all layers");
                    add(map, kind, &name, next());
                }
            }
        }
    }
    for map in ["spes.encoder", "spes.input"] {
        add(map, "reliability", "", 0.9 + 0.1 * next());
        add(map, "masks", "", 1920.0);
    }
    add("", "word error rate", "", 5.0);
    add("", "bleu", "", 80.0);
    add("spes.encoder - spes.input", "gap", "all", 0.1);
    add("spes.encoder", "coverage", "all", 64.0);
    for map in ["attention", "random", "spes.encoder", "spes.input"] {
        for curve in ["deletion", "insertion"] {
            for measure in ["word error rate", "bleu"] {
                add(map, &format!("{curve} area, {measure}"), "", 50.0 * next());
                for percent in (0..=100).step_by(5) {
                    let statistic = format!("{curve} {percent}%, {measure}");
                    add(map, &statistic, "", percent as f64 * next());
                }
            }
        }
        add(map, "size area", "", next());
        add(map, "infidelity", "", 1e-7 * next());
        add(map, "onset error, mean", "", 100.0 * next());
        add(map, "pointing game", "", next());
    }
    add("spes.input", "seed agreement", "", next());
    add("spes.input", "randomised decoder", "", next());
}

fn header(model: &str) -> Header {
    let mut settings = Settings::default();
    settings.methods = vec![Method::Attention, Method::Spes];
    settings.seed = 3;
    settings.faithfulness = true;
    Header::new(model, &settings)
}

/// Two models; the second does two directions.
fn sample() -> Tables {
    let mut tables = Tables {
        settings: vec![header("base"), header("large")],
        rows: Vec::new(),
        failures: Vec::new(),
    };
    rows(["base", "en-en"], 2, 3, &mut tables.rows);
    rows(["large", "en-en"], 3, 4, &mut tables.rows);
    rows(["large", "en-it"], 3, 4, &mut tables.rows);
    tables
}

/// The rows that are embedded in a page, in the page's order.
fn embedded(page: &str) -> Vec<Row> {
    let (_, data) = page
        .split_once("<script type=\"application/json\" id=\"study-data\">")
        .expect("embedded data");
    let (data, _) = data.split_once("</script>").expect("an end");
    let data: Value = serde_json::from_str(data).expect("JSON");
    let index = |value: &Value| value.as_u64().expect("an index") as usize;
    let model = |value: &Value| {
        let text = &data["models"][index(value)];
        text.as_str().expect("a text")
    };
    let name = |list: &str, value: &Value| {
        let text = &data[list][index(value)]["name"];
        text.as_str().expect("a name").to_owned()
    };
    let mut rows = Vec::new();
    for block in data["blocks"].as_array().expect("blocks") {
        let shape = data["shapes"][index(&block["shape"])].as_array().unwrap();
        let values = block["values"].as_array().expect("values");
        assert_eq!(shape.len() / 2, values.len() / 3);
        for (n, (names, values)) in shape.chunks(2).zip(values.chunks(3)).enumerate() {
            let value = |i: usize| values[i].as_f64().unwrap_or(f64::NAN);
            let count = block["counts"].as_u64();
            let of = &block["of"];
            rows.push(Row {
                low: value(1),
                high: value(2),
                utterances: count.unwrap_or_else(|| block["counts"][n].as_u64().unwrap()) as usize,
                ..row(
                    [model(&of[0]), &name("directions", &of[1])],
                    &name("maps", &of[2]),
                    &name("statistics", &names[0]),
                    &name("attentions", &names[1]),
                    value(0),
                )
            });
        }
    }
    rows
}

#[test]
fn every_row_of_the_tables_is_in_the_page() {
    let mut tables = sample();
    // Counts may differ, and a value may be undefined.
    tables.rows[3].utterances = 7;
    tables.rows[5].high = f64::NAN;
    // A map may come back after another one.
    let late = ["base", "en-en"];
    tables
        .rows
        .push(row(late, "spes.input", "infidelity, share", "", 1e12));
    let mut got = embedded(&render(&tables));
    let mut want = tables.rows.clone();
    assert_eq!(got.len(), want.len());
    for all in [&mut got, &mut want] {
        all.sort_by_key(Row::names);
    }
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got.names(), want.names());
        assert_eq!(got.utterances, want.utterances, "{want:?}");
        let values = [
            (got.mean, want.mean),
            (got.low, want.low),
            (got.high, want.high),
        ];
        for (got, want) in values {
            let near = (got - want).abs() <= 5.1e-5 * want.abs();
            assert!(near || got.is_nan() && want.is_nan(), "{got} for {want}");
        }
    }
}

#[test]
fn many_models_and_directions_stay_small() {
    let mut tables = sample();
    tables.rows.clear();
    for model in ["one", "two", "three", "four"] {
        for direction in ["en-en", "it-it", "en-it", "it-en"] {
            rows([model, direction], 6, 8, &mut tables.rows);
        }
    }
    let copies = 20_000_usize.div_ceil(tables.rows.len());
    let once = tables.rows.clone();
    for copy in 1..copies {
        tables.rows.extend(once.iter().map(|row| Row {
            model: format!("{} {copy}", row.model),
            ..row.clone()
        }));
    }
    let (rows, size) = (tables.rows.len(), render(&tables).len());
    println!("{rows} rows, {size} bytes");
    assert!(rows >= 20_000 && size <= 50 * rows, "{size} bytes");
}

/// Tables of a log whose every text that may be any is hostile.
fn hostile() -> Tables {
    let folder = tempfile::tempdir().expect("a folder");
    let mut header = header(HOSTILE);
    header.sonograd = HOSTILE_ERROR.into();
    let header = serde_json::to_value(header).unwrap();
    let failed = json!({ "id": HOSTILE, "direction": HOSTILE, "error": HOSTILE_ERROR });
    let text = format!("{header}\n{failed}\n");
    fs::write(folder.path().join("m.jsonl"), text).unwrap();
    let mut tables = Tables::new(&[folder.path().to_owned()]).unwrap();
    let subject = [HOSTILE, HOSTILE];
    rows(subject, 2, 2, &mut tables.rows);
    let unknown = row(subject, "random", "masks", "", f64::NAN);
    tables.rows.push(unknown);
    tables
}

/// What is no statistic, map or setting does not come so far.
#[test]
fn texts_that_are_nothing_of_a_study_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.jsonl");
    let known = serde_json::to_value(header("m")).unwrap();
    let mut unknown = known.clone();
    unknown["settings"][HOSTILE] = json!(HOSTILE_ERROR);
    let record = |map: &str, kind: &str| {
        let correlations =
            json!({ "heads": [[0.5]], "layers": [0.5], "across_layers": [0.5], "all": 0.5 });
        json!({
            "id": "a", "direction": "en-en", "reference": "a", "hypothesis": "a", "tokens": 1,
            "frames": 2, "encoder_frames": 1, "written": [0, 1, [0, 0, 0, 0], [0, 0, 0, 0], 1, 1],
            "maps": { map: { "correlations": { kind: correlations } } },
        })
    };
    let made = |header: &Value, record: &Value| {
        fs::write(&path, format!("{header}\n{record}\n")).unwrap();
        Tables::new(&[folder.path().to_owned()])
    };
    assert!(made(&known, &record("spes.input", "pearson")).is_ok());
    for (header, record, line) in [
        (&unknown, record("spes.input", "pearson"), "line 1"),
        (&known, record(HOSTILE, "pearson"), "line 2"),
        (&known, record("spes.input", HOSTILE), "line 2"),
    ] {
        let message = made(header, &record).unwrap_err().to_string();
        assert!(
            message.contains(line) && !message.contains('\n'),
            "{message}"
        );
    }
}

/// What is written is read back as it was.
#[test]
fn tables_are_read_back() {
    let mut tables = sample();
    tables.failures.push(Failure {
        model: "base".into(),
        direction: "en-en".into(),
        id: "a".into(),
        error: HOSTILE_ERROR.into(),
    });
    let text = serde_json::to_string(&tables).unwrap();
    let back: Tables = serde_json::from_str(&text).unwrap();
    assert_eq!(back.settings, tables.settings);
    assert_eq!(back.failures, tables.failures);
    let names = |tables: &Tables| tables.rows.iter().map(Row::names).collect::<Vec<_>>();
    assert_eq!(names(&back), names(&tables));
    // Numbers are read to within a rounding.
    for (a, b) in back.rows.iter().zip(&tables.rows) {
        assert!((a.mean - b.mean).abs() <= f64::EPSILON * b.mean.abs());
    }
    for (from, to) in [
        ("\"size area\"", "\"size\""),
        ("\"attention\":\"layer 1\"", "\"attention\":\"layer 0\""),
        ("\"map\":\"random\"", "\"map\":\"chance\""),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(serde_json::from_str::<Tables>(&text.replace(from, to)).is_err());
    }
}

#[test]
fn texts_of_logs_are_no_markup() {
    let page = render(&hostile());
    assert!(!page.contains("<img") && !page.contains("alert(2)</script>"));
    assert!(!page.contains("<!--"));
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert_eq!(page.matches("</title").count(), 1);
    assert!(page.contains("&lt;!--&lt;/script &gt;"));
    assert!(page.contains("1 utterance failed"));
}

#[test]
fn what_one_wants_first_needs_no_script() {
    let tables = sample();
    let page = render(&tables);
    assert_eq!(page, render(&tables));
    let (markup, _) = page.split_once("study-data").expect("embedded data");
    for shown in [
        "<td class=\"value\">64.0 <span class=\"interval\">[63.9, 64.1]</span>",
        "<span class=\"verdict\">within</span>",
        "deletion area, word error rate",
        "reliability 0.9",
        "sonograd study --tables .",
        "--model large --method spes --reliability 0.9 --pooling max --normalise token --seed 3 \
         --checks 0 --faithfulness",
        "href=\"tables.csv\"",
    ] {
        assert!(markup.contains(shown), "{shown}");
    }
    // A study of which nothing worked has a page too.
    let empty = Tables {
        rows: Vec::new(),
        ..tables
    };
    assert!(render(&empty).contains("Faithfulness was not measured"));
}

fn write(folder: &tempfile::TempDir, tables: &Tables) -> PathBuf {
    let path = folder.path().join("report.html");
    fs::write(&path, render(tables)).expect("a written page");
    path
}

fn choose(browser: &Browser, list: &str, value: &str) {
    browser.run(&format!(
        "const e = document.querySelector('{list}'); e.value = '{value}';
         if (e.value !== '{value}') throw new Error('no such choice');
         e.dispatchEvent(new Event('input'));"
    ));
}

fn texts(browser: &Browser, selector: &str) -> Vec<String> {
    let texts = browser.run(&format!(
        "return [...document.querySelectorAll('{selector}')].map((e) => e.textContent);"
    ));
    let texts = texts.as_array().expect("texts").iter();
    texts.map(|text| text.as_str().unwrap().into()).collect()
}

fn mean(tables: &Tables, of: [&str; 5]) -> f64 {
    let row = tables.rows.iter().find(|row| row.names() == of);
    row.unwrap_or_else(|| panic!("no row {of:?}")).mean
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn a_browser_shows_the_numbers_of_the_tables() {
    let tables = sample();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let page = write(&folder, &tables);
    let browser = Browser::for_pages();
    browser.prefer_dark(true);
    browser.open(&page);
    assert_eq!(browser.title(), "Study of base and large");

    // One lane of the correlations for each subject and map, with its values.
    let drawn = texts(&browser, "#rho-figure svg text");
    for subject in ["base, en-en", "large, en-en", "large, en-it"] {
        assert!(drawn.iter().any(|text| text == subject), "{drawn:?}");
    }
    let rho = mean(&tables, ["base", "en-en", "spes.input", "pearson", "all"]);
    let start = format!("{rho:.3} [");
    assert!(drawn.iter().any(|text| text.starts_with(&start)), "{start}");
    let bands = "return document.querySelectorAll('#rho-figure > svg > .band').length";
    assert_eq!(browser.run(bands), 3, "the paper's range beside each SM^X");

    // The mouse reads the lane it is over.
    browser.click_at("#rho-figure > svg", 0.5, 0.5);
    let read = browser.text("#rho-figure .readout");
    assert!(read.starts_with("large, en-en, SM"), "{read}");

    // The heat map has every head and the averages, and follows its lists.
    choose(&browser, "select.subject", "2");
    for (map, statistic, weighting) in [
        ("spes.encoder", "pearson", ""),
        ("gradient.encoder", "spearman", "norm-weighted"),
    ] {
        choose(&browser, "#heat-map", map);
        choose(&browser, "#heat-statistic", statistic);
        choose(&browser, "#heat-weighting", weighting);
        let cells = texts(&browser, "#heat td[data-attention]");
        assert_eq!(cells.len(), 4 * 5);
        for part in ["layer 2 head 3", "layer 1", "head 4 of all layers", "all"] {
            let attention = format!("{weighting} {part}");
            let attention = attention.trim_start();
            let shown = texts(
                &browser,
                &format!("#heat td[data-attention=\"{attention}\"]"),
            );
            let want = mean(&tables, ["large", "en-it", map, statistic, attention]);
            assert_eq!(shown, [format!("{want:.2}").replace('-', "\u{2212}")]);
        }
    }

    // Translations are counted by BLEU; the values below are the curve's.
    let measure = "return document.getElementById('curve-measure').value";
    assert_eq!(browser.run(measure), "bleu");
    let of = ["large", "en-it", "random", "deletion 50%, bleu", ""];
    let shown = texts(&browser, "[data-curve=\"deletion\"] tbody tr");
    let random = shown.iter().find(|text| text.starts_with("random"));
    let start = format!("random{:.1} [", mean(&tables, of));
    assert!(
        random.is_some_and(|text| text.starts_with(&start)),
        "{start} in {shown:?}"
    );
    assert_eq!(texts(&browser, ".areas:not([hidden])").len(), 1);
    assert_eq!(texts(&browser, "#time-panels figure").len(), 2);

    // Rows without a figure of their own come first; any row can be found.
    let statistics = texts(&browser, "#row-table tbody td:nth-child(4)");
    for statistic in ["infidelity", "seed agreement", "randomised decoder"] {
        assert!(
            statistics.iter().any(|text| text == statistic),
            "{statistic}"
        );
    }
    choose(&browser, "#row-group", "");
    choose(
        &browser,
        "#row-text",
        "large en-it deletion 35%, bleu spes.input",
    );
    assert_eq!(texts(&browser, "#row-table tbody tr").len(), 1);
    choose(&browser, "#row-text", "");
    choose(&browser, "#row-statistic", "=infidelity");
    assert!(
        browser
            .text("#row-figure figcaption")
            .contains("infidelity")
    );

    let theme = "return document.documentElement.dataset.theme";
    assert_eq!(browser.run(theme), "dark");
    let shade = "return document.querySelector('#heat tfoot td:last-child').style.backgroundColor";
    let dark = browser.run(shade);
    browser.click("#theme");
    assert_eq!(browser.run(theme), "light");
    assert_ne!(browser.run(shade), dark);

    // Nothing was complained about and nothing was asked for.
    assert_eq!(browser.console(), Vec::<String>::new());
    let url = format!("file://{}", page.display());
    let requests = browser.requests();
    assert!(requests.contains(&url), "{requests:?}");
    let own = |asked: &String| *asked == url || asked.starts_with("data:");
    assert!(requests.iter().all(own), "{requests:?}");
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn the_keyboard_reads_every_figure() {
    let tables = sample();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let browser = Browser::for_pages();
    browser.open(&write(&folder, &tables));
    let focus = |selector: &str| {
        browser.run(&format!("document.querySelector('{selector}').focus()"));
    };
    focus("#rho-maps");
    browser.press(&[TAB, DOWN]);
    let spoken = browser.text("#rho-figure .readout");
    let rho = mean(&tables, ["base", "en-en", "spes.input", "pearson", "all"]);
    assert!(spoken.starts_with("base, en-en, SM"), "{spoken}");
    assert!(spoken.contains(&format!("{rho:.4}")[..5]), "{spoken}");
    assert!(spoken.ends_with("10 utterances"), "{spoken}");
    browser.press(&[DOWN]);
    assert!(browser.text("#rho-figure .readout").contains("corrected"));

    focus("#heat tbody td");
    assert!(browser.text("#heat-readout").starts_with("layer 1 head 1:"));
    browser.press(&[DOWN, RIGHT]);
    assert!(browser.text("#heat-readout").starts_with("layer 2 head 2:"));
    let stops = "return document.querySelectorAll('#heat [tabindex=\"0\"]').length";
    assert_eq!(browser.run(stops), 1);

    focus("[data-curve=\"insertion\"] svg");
    browser.press(&[RIGHT]);
    assert!(
        browser
            .text("[data-curve=\"insertion\"] thead")
            .contains("At 55%")
    );
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn awkward_studies_stay_inside_a_narrow_screen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let browser = Browser::for_pages();
    let mut long = sample();
    let name = "Donaudampfschifffahrtsgesellschaft".repeat(3);
    long.settings[1].model = name.clone();
    for row in long.rows.iter_mut().filter(|row| row.model == "large") {
        row.model = name.clone();
    }
    let empty = Tables {
        rows: Vec::new(),
        ..sample()
    };
    // Nothing but rows that no figure shows.
    let mut odd = sample();
    odd.rows = vec![row(["base", "x"], "", "infidelity", "", f64::NAN)];
    for (tables, words) in [
        (sample(), "10"),
        (long, "Donau"),
        (hostile(), HOSTILE_ERROR),
        (empty, "Faithfulness was not measured"),
        (odd, "not finite"),
    ] {
        let page = write(&folder, &tables);
        for (width, height) in [(360, 740), (1280, 900)] {
            browser.resize(width, height);
            browser.open(&page);
            browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })");
            let content = browser.run("return document.documentElement.scrollWidth");
            assert!(
                content.as_u64().expect("a width") <= width as u64,
                "{words}: {content} in {width}"
            );
        }
        let text = texts(&browser, "body").concat();
        assert!(text.contains(words), "{words}");
        assert_eq!(browser.run("return document.images.length"), 0);
        let drawn = texts(&browser, "main td, main svg text").join(" ");
        assert!(
            !drawn.contains("NaN") && !drawn.contains("undefined"),
            "{drawn}"
        );
        assert_eq!(browser.console(), Vec::<String>::new(), "{words}");
    }
}

/// Intervals of fewer than five utterances are marked in figures and tables;
/// others are not.
#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn intervals_of_few_utterances_say_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let browser = Browser::for_pages();
    let marks = |utterances: usize| {
        let mut tables = sample();
        for row in &mut tables.rows {
            row.utterances = utterances;
        }
        browser.open(&write(&folder, &tables));
        let count = |selector: &str| {
            let script = format!("return document.querySelectorAll({selector:?}).length");
            browser.run(&script).as_u64().unwrap()
        };
        let dotted = count("#rho-figure line[stroke-dasharray='1 5']");
        let cells = count("#comparison table .interval.few");
        let said = texts(&browser, "#rows tbody tr");
        let said = said
            .iter()
            .filter(|row| row.ends_with("too few utterances"));
        assert!(
            browser
                .run("return document.querySelectorAll('.conclusion li').length")
                .as_u64()
                > Some(3)
        );
        [dotted, cells, said.count() as u64]
    };
    let few = marks(4);
    println!("{few:?}");
    assert!(few.iter().all(|&count| count >= 5), "{few:?}");
    assert_eq!(marks(5), [0; 3]);
    assert_eq!(browser.console(), Vec::<String>::new());
}
