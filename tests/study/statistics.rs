//! Correlations against SciPy's.

use flate2::read::GzDecoder;
use serde_json::Value;
use sonograd::study::statistics::Correlation;

#[test]
fn correlations_are_scipys() {
    let packed = std::fs::File::open("tests/fixtures/statistics.json.gz").unwrap();
    let fixture: Value = serde_json::from_reader(GzDecoder::new(packed)).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut worst = 0.0f64;
    for case in cases {
        let list = |name: &str| -> Vec<f64> {
            let values = case[name].as_array().unwrap().iter();
            values.map(|x| x.as_f64().unwrap()).collect()
        };
        let (x, y) = (list("x"), list("y"));
        for kind in Correlation::ALL {
            let got = kind.of(&x, &y).unwrap();
            let want = case[kind.name()].as_f64().unwrap();
            let error = (got - want).abs();
            // Sums of up to 1,000 terms in another order.
            assert!(error <= 1e-12, "{kind:?} of {}: {got} {want}", x.len());
            worst = worst.max(error);
        }
    }
    println!("{} cases, worst error {worst:.1e}", cases.len());
}
