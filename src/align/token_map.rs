//! A map over tokens and encoder frames.

/// A map over tokens and encoder frames: (K, T').
#[derive(Clone, Debug, PartialEq)]
pub struct TokenMap {
    data: Vec<f64>,
    frames: usize,
}

impl TokenMap {
    /// # Panics
    /// If `data` is not made of whole rows.
    pub fn new(data: Vec<f64>, frames: usize) -> Self {
        assert!(
            frames > 0 && data.len().is_multiple_of(frames),
            "whole rows"
        );
        Self { data, frames }
    }

    /// The single maps of (..., K, T') values, such as attention's heads,
    /// each made when it is asked for.
    ///
    /// # Panics
    /// If `values` is not made of whole maps.
    pub fn each(values: &[f32], tokens: usize, frames: usize) -> impl Iterator<Item = Self> + '_ {
        let size = tokens * frames;
        assert!(
            size > 0 && values.len().is_multiple_of(size),
            "whole maps of some tokens"
        );
        let maps = values.chunks(size);
        maps.map(move |map| Self::new(map.iter().map(|&x| f64::from(x)).collect(), frames))
    }

    /// K
    pub fn tokens(&self) -> usize {
        self.data.len() / self.frames
    }

    /// T'
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Row after row.
    pub fn values(&self) -> &[f64] {
        &self.data
    }

    /// Row after row, without a copy.
    pub fn into_values(self) -> Vec<f64> {
        self.data
    }

    /// By token: (T',)
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.data.chunks(self.frames)
    }

    /// By frame: (K,)
    pub fn columns(&self) -> Vec<Vec<f64>> {
        let column = |j| self.rows().map(|row| row[j]).collect();
        (0..self.frames).map(column).collect()
    }

    /// The same map with some tokens only.
    pub fn select(&self, tokens: &[usize]) -> Self {
        let rows = tokens.iter();
        let rows = rows.flat_map(|&k| &self.data[k * self.frames..(k + 1) * self.frames]);
        Self::new(rows.copied().collect(), self.frames)
    }

    /// The mean of several maps of one shape.
    pub fn average<'a>(maps: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        let first = maps.clone().next()?;
        let count = maps.clone().count() as f64;
        let mut data = vec![0.0; first.data.len()];
        for map in maps {
            for (sum, value) in data.iter_mut().zip(&map.data) {
                *sum += value / count;
            }
        }
        Some(Self::new(data, first.frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_and_selections() {
        let a = TokenMap::new(vec![1.0, 2.0, 3.0, 4.0], 2);
        let b = TokenMap::new(vec![3.0, 0.0, 5.0, 0.0], 2);
        let average = TokenMap::average([&a, &b].into_iter()).unwrap();
        assert_eq!(average, TokenMap::new(vec![2.0, 1.0, 4.0, 2.0], 2));
        assert_eq!(average.select(&[1]), TokenMap::new(vec![4.0, 2.0], 2));
        assert_eq!(TokenMap::average(std::iter::empty()), None);
    }

    #[test]
    fn heads_come_one_by_one() {
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        let maps: Vec<TokenMap> = TokenMap::each(&values, 2, 3).collect();
        assert_eq!((maps.len(), maps[1].tokens(), maps[1].frames()), (2, 2, 3));
        assert_eq!(maps[1].columns()[2], [8.0, 11.0]);
    }
}
