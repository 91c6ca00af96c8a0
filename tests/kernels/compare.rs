//! The comparison that the kernels' tests rely on must itself fail when it
//! should.

use crate::cases::{Tolerance, check, values};

/// Typical results: a few hundred numbers around 1 that are off by the last
/// bit here and there, and the tolerance of a sum of 64 terms.
fn typical() -> (Vec<f32>, Vec<f64>, Tolerance) {
    let want: Vec<f64> = values(600, 1)
        .into_iter()
        .map(|x| 2.0 * f64::from(x))
        .collect();
    let nudged = |(i, &x): (usize, &f64)| x as f32 * [1.0, 1.0 + f32::EPSILON][i % 2];
    let got = want.iter().enumerate().map(nudged).collect();
    let tolerance = Tolerance {
        k: 4.0,
        n: 64,
        scale: 1.0,
    };
    (got, want, tolerance)
}

#[test]
fn agreement_passes_and_names_the_worst_error() {
    let (got, want, tolerance) = typical();
    let line = check("typical", &got, &want, tolerance).unwrap();
    assert!(line.starts_with("typical: worst error "), "{line}");
    check("equal", &[0.5, -2.0], &[0.5, -2.0], Tolerance::EXACT).unwrap();
}

#[test]
fn one_percent_in_one_element_fails() {
    let (got, want, tolerance) = typical();
    for index in [0, 299, 599] {
        let mut planted = got.clone();
        planted[index] *= 1.01;
        let line = check("planted", &planted, &want, tolerance).unwrap_err();
        assert!(line.contains(&format!("element {index} ")), "{line}");
    }
}

#[test]
fn swapped_buffers_fail() {
    let (got, want, tolerance) = typical();
    let other: Vec<f64> = values(600, 2).into_iter().map(f64::from).collect();
    let other_got: Vec<f32> = other.iter().map(|&x| x as f32).collect();
    check("in place", &other_got, &other, tolerance).unwrap();
    check("swapped", &got, &other, tolerance).unwrap_err();
    check("swapped", &other_got, &want, tolerance).unwrap_err();
    let mut rotated = got.clone();
    rotated.rotate_left(1);
    check("rotated", &rotated, &want, tolerance).unwrap_err();
}

#[test]
fn nan_and_infinity_fail() {
    let (got, want, tolerance) = typical();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut planted = got.clone();
        planted[17] = bad;
        check("not finite", &planted, &want, tolerance).unwrap_err();
    }
    let mut spoilt = want.clone();
    spoilt[17] = f64::NAN;
    check("not finite", &got, &spoilt, tolerance).unwrap_err();
}

/// An error that no single element shows: all are off by half the bound.
#[test]
fn an_error_everywhere_fails_by_its_norm() {
    let (_, want, tolerance) = typical();
    let off: Vec<f32> = want
        .iter()
        .map(|x| (x + 0.5 * tolerance.element()) as f32)
        .collect();
    let line = check("shifted", &off, &want, tolerance).unwrap_err();
    assert!(line.contains("norm"), "{line}");
}

#[test]
fn missing_elements_fail() {
    let (got, want, tolerance) = typical();
    check("short", &got[..599], &want, tolerance).unwrap_err();
    check("empty", &[], &want, tolerance).unwrap_err();
}
