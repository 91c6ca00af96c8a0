//! Variants of a kernel: launches that may stand for each other, what each
//! needs of a device, and the classes of work that one of them is chosen for.
//!
//! An operator gives a [`Choice`] for each of its kernels, its [`Class`] with a
//! [`Trial`] of that size, and trials for [`check`](super::check). Nothing here
//! or in the tuner knows which operator that is.

use std::fmt;
use std::sync::Arc;

use super::extras::{Extra, Extras};
use super::launch::Launch;
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};

/// One way to launch a kernel.
#[derive(Clone, Debug)]
pub struct Variant {
    pub launch: Launch,
    /// What the device has to have.
    pub needs: &'static [Extra],
    /// Whether it rounds what others do not. Such a variant is not measured
    /// against them: where its extras are switched on, rounding is wanted.
    pub rounds: bool,
}

impl From<Launch> for Variant {
    /// A variant that runs on every device.
    fn from(launch: Launch) -> Self {
        Self {
            launch,
            needs: &[],
            rounds: false,
        }
    }
}

/// Launches of which a device takes the one that suits it. They come to the
/// same: up to the order of sums, or up to rounding where they say so.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What its measurements are kept under, where there is more than one.
    pub class: Option<Arc<dyn Class>>,
    /// Never empty; the first runs everywhere, and is taken where nothing is
    /// known of the device.
    pub variants: Vec<Variant>,
}

impl Choice {
    /// Variants that a device with these extras can run.
    pub fn variants_on(&self, extras: Extras) -> impl Iterator<Item = &Variant> {
        let variants = self.variants.iter();
        variants.filter(move |variant| extras.has_all(variant.needs))
    }

    /// The variant that stands in for all others there, if one does.
    pub fn rounding_on(&self, extras: Extras) -> Option<&Variant> {
        self.variants_on(extras).find(|variant| variant.rounds)
    }

    /// The variants to choose from by time, if there is more than one.
    pub fn equals_on(&self, extras: Extras) -> impl Iterator<Item = &Variant> {
        self.variants_on(extras).filter(|variant| !variant.rounds)
    }
}

impl From<Launch> for Choice {
    fn from(launch: Launch) -> Self {
        Self {
            class: None,
            variants: vec![launch.into()],
        }
    }
}

/// Works of one operator that are taken to be fastest with one and the same
/// variant.
pub trait Class: fmt::Debug + Send + Sync {
    /// What tells it from all other classes of all operators; it begins with
    /// the operator's name.
    fn key(&self) -> String;

    /// Entry points worth timing, that of the rule of thumb first.
    fn candidates(&self) -> Vec<&'static str>;

    /// A work of this class.
    fn trial(&self) -> Trial;
}

/// Records a trial's work over its inputs and matrices and returns its results.
type Record = dyn Fn(&mut Recording, &[TensorId], &[TensorId]) -> Result<Vec<TensorId>>;

/// A work on which all variants of an operator have to give the same bits: its
/// inputs are small multiples of 1/8 (see [`eighths`]), so that products and
/// their sums are exact in any order and in f16.
pub struct Trial {
    pub inputs: Vec<Shape>,
    /// (1, rows, columns): weights, in f16 where the executor keeps them so.
    pub matrices: Vec<Shape>,
    pub record: Box<Record>,
}

/// Values from -3.5 to 4 in steps of 1/8, others for another `seed`. A sum of
/// up to 1,024 products of two of them is exact in f32.
pub fn eighths(count: usize, seed: usize) -> Vec<f32> {
    let step = 17 + 6 * seed;
    (0..count)
        .map(|i| ((i * step) % 61) as f32 / 8.0 - 3.5)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_eighths_are_exact_in_any_order() {
        let (a, b) = (eighths(1024, 0), eighths(1024, 1));
        assert_ne!(a, b);
        let products: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
        let exact: f64 = products.iter().map(|&x| f64::from(x)).sum();
        let forwards: f32 = products.iter().sum();
        let backwards: f32 = products.iter().rev().sum();
        let strided: f32 = (0..7)
            .flat_map(|first| products.iter().skip(first).step_by(7))
            .sum();
        for sum in [forwards, backwards, strided] {
            assert_eq!(f64::from(sum), exact);
        }
        // No order may leave the numbers that f32 holds exactly.
        let most: f64 = products.iter().map(|x| f64::from(x.abs())).sum();
        assert!(64.0 * most < f64::from(1 << 24));
        assert!(a.iter().all(|&x| half::f16::from_f32(x).to_f32() == x));
    }
}
