//! Word error rate against jiwer, BLEU against sacreBLEU.

use serde_json::Value;
use sonograd::study::error_rate::{BleuCounts, WordErrors};

#[test]
fn error_rates_are_those_of_the_tools_in_use() {
    let bytes = std::fs::read("tests/fixtures/error_rate.json").unwrap();
    let fixture: Value = serde_json::from_slice(&bytes).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 20);
    for case in cases {
        let texts = |name: &str| -> Vec<&str> {
            let list = case[name].as_array().unwrap().iter();
            list.map(|text| text.as_str().unwrap()).collect()
        };
        let (mut words, mut bleu) = (WordErrors::default(), BleuCounts::default());
        for (reference, hypothesis) in texts("references").into_iter().zip(texts("hypotheses")) {
            words += WordErrors::of(reference, hypothesis);
            bleu += BleuCounts::of(reference, hypothesis);
        }
        assert_eq!(words.errors, case["errors"].as_u64().unwrap(), "{case}");
        for (got, want) in [
            (words.rate().unwrap(), &case["word_error_rate"]),
            (bleu.score(), &case["bleu"]),
        ] {
            let want = want.as_f64().unwrap();
            assert!((got - want).abs() <= 1e-9, "{got} {want}: {case}");
        }
    }
}

#[test]
fn no_words_have_no_rate() {
    assert_eq!(WordErrors::of("  ", "a b").rate(), None);
    assert_eq!(WordErrors::of("a b", "").rate(), Some(100.0));
    assert_eq!(BleuCounts::of("a b", "").score(), 0.0);
    assert_eq!(BleuCounts::of("", "").score(), 0.0);
}
