//! Maps whose rows differ in scale, made comparable.

use super::TokenMap;

impl TokenMap {
    /// The map with every row as shares of a whole: without its negative
    /// values and brought to a sum of 1, as attention's rows are. A row in
    /// which nothing is left is 0; one with values that are not finite stays
    /// as it is.
    ///
    /// Frames are compared between tokens ([`filtered`](super::filtered)), so
    /// a token whose values are larger everywhere, as the less certain ones'
    /// are in occlusion and gradients, would have every frame.
    pub fn shares(&self) -> Self {
        let rows = self.rows().flat_map(|row| {
            let whole: f64 = row.iter().map(|x| x.max(0.0)).sum();
            // Finite values whose sum is not have shares of 0.
            let finite = row.iter().all(|x| x.is_finite());
            row.iter().map(move |&x| match finite {
                true if whole > 0.0 => x.max(0.0) / whole,
                true => 0.0,
                false => x,
            })
        });
        Self::new(rows.collect(), self.frames())
    }

    /// The same in place, where rows with values that are not finite become 0.
    pub(super) fn finite_shares(self) -> Self {
        let frames = self.frames();
        let mut data = self.into_values();
        for row in data.chunks_mut(frames) {
            let whole: f64 = row.iter().map(|x| x.max(0.0)).sum();
            let counts = whole > 0.0 && row.iter().all(|x| x.is_finite());
            let share = |x: f64| if counts { x.max(0.0) / whole } else { 0.0 };
            row.iter_mut().for_each(|x| *x = share(*x));
        }
        Self::new(data, frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::{AlignOptions, token_starts};

    #[test]
    fn rows_sum_to_1() {
        let nan = f64::NAN;
        let map = TokenMap::new(vec![1.0, 3.0, -2.0, -1.0, nan, 7.0, 0.0, 0.0], 2).shares();
        assert_eq!(map.values()[..4], [0.25, 0.75, 0.0, 0.0]);
        assert!(map.values()[4].is_nan() && map.values()[5] == 7.0);
        assert_eq!(map.values()[6..], [0.0; 2]);
        let finite = map.clone().finite_shares();
        assert_eq!(finite.values()[..4], map.values()[..4]);
        assert_eq!(finite.values()[4..], [0.0; 4]);
        let huge = TokenMap::new(vec![f64::MAX; 2], 2).shares();
        assert_eq!(huge.values(), [0.0; 2]);
    }

    #[test]
    fn a_loud_token_does_not_have_every_frame() {
        let (a, b) = ([0.9, 0.8, 0.2, 0.1], [0.1, 0.2, 0.8, 0.9]);
        let loud = TokenMap::new([a, b.map(|x| 100.0 * x)].concat(), 4);
        let options = AlignOptions {
            median: 1,
            ..AlignOptions::default()
        };
        let starts = |map: &TokenMap| token_starts(&super::super::filtered(map, &options).unwrap());
        assert_eq!(starts(&loud), [0, 0]);
        assert_eq!(starts(&loud.shares()), [0, 2]);
    }
}
