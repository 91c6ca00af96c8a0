//! Weights in the form in which the operators read them.

use std::sync::Arc;

use super::philox::philox4x32;
use super::tensor::{Shape, WeightId};

/// Keeps shuffling apart from other random numbers of the same seed.
const SHUFFLE_DOMAIN: u32 = 6;

/// One prepared weight: a matrix (rows, cols), row-major.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Name for messages and profiles.
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    pub data: Arc<[f32]>,
    /// Whether only products and embeddings read it, which also take f16.
    pub is_matrix: bool,
}

/// The largest number that f16 holds.
const LARGEST_F16: f32 = 65_504.0;

impl Weight {
    /// Whether it may be stored as f16 instead: each number keeps 11 bits,
    /// and none becomes infinite.
    pub fn fits_f16(&self) -> bool {
        self.is_matrix && self.data.iter().all(|x| x.abs() <= LARGEST_F16)
    }
}

/// All prepared weights of a model; a recording names them by index.
#[derive(Clone, Debug, Default)]
pub struct WeightTable {
    weights: Vec<Weight>,
}

impl WeightTable {
    /// Adds a weight (rows, cols) that any operator may read, and returns its
    /// index.
    ///
    /// # Panics
    /// If `data` is not rows·cols long: the loader has checked it before.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        rows: usize,
        cols: usize,
        data: impl Into<Arc<[f32]>>,
    ) -> WeightId {
        let (name, data) = (name.into(), data.into());
        assert_eq!(data.len(), rows * cols, "weight {name}");
        self.weights.push(Weight {
            name,
            rows,
            cols,
            data,
            is_matrix: false,
        });
        WeightId((self.weights.len() - 1) as u32)
    }

    /// Adds a matrix (rows, cols) that only products read, as their weight,
    /// and embeddings, as their table; an executor may store it as f16.
    ///
    /// # Panics
    /// As for [`add`](Self::add).
    pub fn add_matrix(
        &mut self,
        name: impl Into<String>,
        rows: usize,
        cols: usize,
        data: impl Into<Arc<[f32]>>,
    ) -> WeightId {
        let id = self.add(name, rows, cols, data);
        self.weights[id.0 as usize].is_matrix = true;
        id
    }

    pub fn get(&self, id: WeightId) -> &Weight {
        &self.weights[id.0 as usize]
    }

    pub fn shape(&self, id: WeightId) -> Shape {
        let weight = self.get(id);
        Shape::new(1, weight.rows, weight.cols)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Weight> {
        self.weights.iter()
    }

    /// A table in which the values of each chosen matrix are in random order.
    pub fn shuffled(&self, seed: u64, chosen: impl Fn(&str) -> bool) -> Self {
        let key = [seed as u32, (seed >> 32) as u32];
        let shuffle = |(number, weight): (usize, &Weight)| {
            if !chosen(&weight.name) {
                return weight.clone();
            }
            let draw = |i: usize| {
                let words = philox4x32([i as u32, number as u32, 0, SHUFFLE_DOMAIN], key);
                (u64::from(words[0]) << 32 | u64::from(words[1]), i)
            };
            let mut order: Vec<(u64, usize)> = (0..weight.data.len()).map(draw).collect();
            order.sort_unstable();
            Weight {
                data: order.into_iter().map(|(_, i)| weight.data[i]).collect(),
                ..weight.clone()
            }
        };
        Self {
            weights: self.weights.iter().enumerate().map(shuffle).collect(),
        }
    }

    /// Bytes of all weights as f32.
    pub fn bytes(&self) -> usize {
        self.weights.iter().map(|w| w.data.len() * 4).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_tables_hold_the_same_numbers_in_another_order() {
        let mut table = WeightTable::default();
        let values: Vec<f32> = (0..120).map(|x| x as f32).collect();
        let kept = table.add("encoder", 10, 12, values.clone());
        let own = table.add("decoder a", 10, 12, values.clone());
        let other = table.add("decoder b", 12, 10, values.clone());
        let shuffled = table.shuffled(5, |name| name.contains("decoder"));
        assert_eq!(shuffled.get(kept).data[..], values);
        let [a, b] = [own, other].map(|id| shuffled.get(id).data.to_vec());
        assert_ne!(a, b);
        for mut data in [a.clone(), b] {
            assert_ne!(data, values);
            data.sort_by(f32::total_cmp);
            assert_eq!(data, values);
        }
        let again = |seed| table.shuffled(seed, |_| true).get(own).data.to_vec();
        assert_eq!(again(5), a);
        assert_ne!(again(6), a);
    }
}
