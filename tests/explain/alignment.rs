//! Alignment against transformers'.

use serde_json::Value;
use sonograd::align::{AlignOptions, Rule, TokenMap, dtw, filtered, token_starts};

fn fixture(name: &str) -> Vec<Value> {
    let bytes = std::fs::read("tests/fixtures/alignment.json").unwrap();
    let fixture: Value = serde_json::from_slice(&bytes).unwrap();
    fixture[name].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|x| x.as_f64().unwrap()).collect()
}

fn size(case: &Value, name: &str) -> usize {
    case[name].as_u64().unwrap() as usize
}

#[test]
fn paths_are_transformers() {
    let cases = fixture("paths");
    assert!(cases.len() >= 30, "{}", cases.len());
    for case in cases {
        let map = TokenMap::new(numbers(&case["matrix"]), size(&case, "frames"));
        assert_eq!(map.tokens(), size(&case, "tokens"));
        let pairs = case["path"].as_array().unwrap().iter().map(numbers);
        let wanted: Vec<(usize, usize)> = pairs
            .map(|pair| (pair[0] as usize, pair[1] as usize))
            .collect();
        assert_eq!(dtw::path(&map), wanted);
    }
}

#[test]
fn maps_are_made_ready_as_transformers_does() {
    let cases = fixture("filtered");
    assert!(cases.len() >= 5, "{}", cases.len());
    let mut worst = 0.0f64;
    for case in cases {
        let (tokens, frames) = (size(&case, "tokens"), size(&case, "frames"));
        let options = AlignOptions {
            median: size(&case, "median"),
            normalise: true,
            rule: Rule::Whisper,
        };
        let values = numbers(&case["heads"]);
        let heads = values.chunks(tokens * frames);
        let heads = heads.map(|head| TokenMap::new(head.to_vec(), frames));
        let heads: Vec<TokenMap> = heads
            .map(|head| filtered(&head, &options).unwrap())
            .collect();
        let ready = TokenMap::average(heads.iter()).unwrap();
        let wanted = numbers(&case["ready"]);
        assert_eq!(ready.values().len(), wanted.len());
        for (got, want) in ready.values().iter().zip(&wanted) {
            let error = (got - want).abs();
            // Sums of up to nine terms in another order, in f64.
            assert!(error <= 1e-13, "{got} {want}");
            worst = worst.max(error);
        }
        let starts: Vec<f64> = token_starts(&ready).iter().map(|&j| j as f64).collect();
        assert_eq!(starts, numbers(&case["starts"]));
    }
    println!("worst error {worst:.1e}");
}
