//! Weights in the form in which the operators read them.

use std::sync::Arc;

use super::tensor::{Shape, WeightId};

/// One prepared weight: a matrix (rows, cols), row-major.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Name for messages and profiles.
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    pub data: Arc<[f32]>,
}

/// All prepared weights of a model; a recording names them by index.
#[derive(Clone, Debug, Default)]
pub struct WeightTable {
    weights: Vec<Weight>,
}

impl WeightTable {
    /// Adds a matrix (rows, cols) and returns its index.
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
        });
        WeightId((self.weights.len() - 1) as u32)
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

    /// Bytes of all weights as f32.
    pub fn bytes(&self) -> usize {
        self.weights.iter().map(|w| w.data.len() * 4).sum()
    }
}
