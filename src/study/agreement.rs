//! How far one map of an utterance agrees with another: pooled to the
//! encoder's frames, then correlated.

use serde::{Deserialize, Serialize};

use super::statistics::{Correlation, mean};
pub use crate::align::{Pooling, TokenMap};

/// What is brought to mean 0 and variance 1 before values are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Normalisation {
    /// Each token's row: the default, since tokens differ in scale. The
    /// correlation is then the mean of the tokens' own.
    #[default]
    Token,
    /// Each frame's column.
    Frame,
    /// The whole map.
    Map,
}

impl Normalisation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Frame => "frame",
            Self::Map => "map",
        }
    }
}

impl TokenMap {
    /// The correlation with another map of the same shape; absent where
    /// nothing varies. Rows (or columns) that do not vary are left out.
    pub fn agreement(&self, other: &Self, kind: Correlation, by: Normalisation) -> Option<f64> {
        match by {
            Normalisation::Token => {
                let rows = self.rows().zip(other.rows());
                mean(rows.map(|(a, b)| kind.of(a, b)))
            }
            Normalisation::Frame => {
                let (own, others) = (self.columns(), other.columns());
                mean(own.iter().zip(&others).map(|(a, b)| kind.of(a, b)))
            }
            Normalisation::Map => kind.of(self.values(), other.values()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_differ_in_scale_do_not_count_for_agreement() {
        let shape = [1.0, 2.0, 4.0, 3.0];
        let row = |scale: f64, offset: f64| shape.map(|x| scale * x + offset);
        let a = TokenMap::new([row(1.0, 0.0), row(100.0, 50.0)].concat(), 4);
        let b = TokenMap::new([row(30.0, 2.0), row(0.1, 0.0)].concat(), 4);
        let rho = |by| a.agreement(&b, Correlation::Pearson, by).unwrap();
        assert!((rho(Normalisation::Token) - 1.0).abs() <= 1e-12);
        assert!(rho(Normalisation::Map) < 0.0);
        // Scaling any token changes the whole map's value, never the token's.
        assert!((rho(Normalisation::Frame) + 1.0).abs() <= 1e-12);
    }

    #[test]
    fn constant_rows_are_left_out_and_constant_maps_undefined() {
        let a = TokenMap::new(vec![1.0, 2.0, 3.0, 5.0, 5.0, 5.0], 3);
        let b = TokenMap::new(vec![3.0, 2.0, 1.0, 1.0, 2.0, 9.0], 3);
        let by = Normalisation::Token;
        for kind in Correlation::ALL {
            assert!((a.agreement(&b, kind, by).unwrap() + 1.0).abs() <= 1e-12);
            let flat = TokenMap::new(vec![2.0; 6], 3);
            for by in [
                Normalisation::Token,
                Normalisation::Frame,
                Normalisation::Map,
            ] {
                assert_eq!(flat.agreement(&b, kind, by), None);
            }
        }
    }
}
