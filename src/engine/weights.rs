//! Weights in the form in which the operators read them.

use std::sync::Arc;

use super::random::{Domain, Key};
use super::tensor::{Shape, WeightId};

/// What a weight is to its model. Whoever selects weights selects them by
/// their roles; names are for messages and profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    /// Where in the model it is.
    pub part: Part,
    /// What its numbers are.
    pub form: Form,
}

/// The part of a model that a weight belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// From the features to the encoder's output.
    Encoder,
    /// Cross-attention, the embedding and the output projection included.
    Decoder,
}

/// What a weight's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// A matrix (outputs, inputs) that products alone read, as their weight.
    Matrix,
    /// A row for each token; products may read it as their weight.
    Embedding,
    /// A row for each position.
    Positions,
    /// The taps of a depthwise convolution.
    Depthwise,
    /// What is added to what a weight made of its inputs.
    Bias,
    /// Factors or summands of a norm.
    Norm,
}

impl Role {
    /// The role of an encoder's weight.
    pub fn encoder(form: Form) -> Self {
        let part = Part::Encoder;
        Self { part, form }
    }

    /// The role of a decoder's weight.
    pub fn decoder(form: Form) -> Self {
        let part = Part::Decoder;
        Self { part, form }
    }
}

impl Form {
    /// Whether only products and embeddings read it, which also take f16.
    pub fn is_matrix(self) -> bool {
        matches!(self, Self::Matrix | Self::Embedding)
    }
}

/// One prepared weight: a matrix (rows, cols), row-major.
#[derive(Clone, Debug)]
pub struct Weight {
    pub role: Role,
    /// Name for messages and profiles.
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    pub data: Arc<Vec<f32>>,
    /// Whether it follows from the config alone, such as a table of sines, and
    /// is in no file.
    pub computed: bool,
}

/// The largest number that f16 holds.
const LARGEST_F16: f32 = 65_504.0;

impl Weight {
    /// Whether it may be stored as f16 instead: each number keeps 11 bits,
    /// and none becomes infinite.
    pub fn fits_f16(&self) -> bool {
        self.role.form.is_matrix() && self.data.iter().all(|x| x.abs() <= LARGEST_F16)
    }
}

/// All prepared weights of a model; a recording names them by index.
#[derive(Clone, Debug, Default)]
pub struct WeightTable {
    weights: Vec<Weight>,
}

impl WeightTable {
    /// Adds a weight (rows, cols) and returns its index. An executor may store
    /// one as f16 whose form [is a matrix's](Form::is_matrix).
    ///
    /// # Panics
    /// If `data` is not rows·cols long: the loader has checked it before.
    pub fn add(
        &mut self,
        role: Role,
        name: impl Into<String>,
        rows: usize,
        cols: usize,
        data: impl Into<Arc<Vec<f32>>>,
    ) -> WeightId {
        let (name, data) = (name.into(), data.into());
        assert_eq!(data.len(), rows * cols, "weight {name}");
        self.weights.push(Weight {
            role,
            name,
            rows,
            cols,
            data,
            computed: false,
        });
        WeightId((self.weights.len() - 1) as u32)
    }

    /// Notes that a weight follows from the config alone.
    pub(crate) fn set_computed(&mut self, id: WeightId) {
        self.weights[id.0 as usize].computed = true;
    }

    /// Adds a weight of which nothing is known but its size: what counts work does not
    /// look at values, and no executor that computes can take such a table.
    pub(crate) fn outline(
        &mut self,
        role: Role,
        name: impl Into<String>,
        rows: usize,
        cols: usize,
    ) -> WeightId {
        self.weights.push(Weight {
            role,
            name: name.into(),
            rows,
            cols,
            data: Arc::default(),
            computed: false,
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

    /// A table in which the values of each weight of a chosen role are in
    /// random order, which depends on the seed and the weight's index.
    pub fn shuffled(&self, seed: u64, chosen: impl Fn(Role) -> bool) -> Self {
        let key = Key::from(seed);
        let shuffle = |(number, weight): (usize, &Weight)| {
            if !chosen(weight.role) {
                return weight.clone();
            }
            let draw = |i: usize| {
                let words = key.block(Domain::Shuffling, [i as u32, number as u32, 0]);
                (u64::from(words[0]) << 32 | u64::from(words[1]), i)
            };
            let mut order: Vec<(u64, usize)> = (0..weight.data.len()).map(draw).collect();
            order.sort_unstable();
            Weight {
                data: Arc::new(order.into_iter().map(|(_, i)| weight.data[i]).collect()),
                ..weight.clone()
            }
        };
        Self {
            weights: self.weights.iter().enumerate().map(shuffle).collect(),
        }
    }

    /// Bytes of all weights as f32.
    pub fn bytes(&self) -> usize {
        self.weights.iter().map(|w| w.rows * w.cols * 4).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_tables_hold_the_same_numbers_in_another_order() {
        let mut table = WeightTable::default();
        let values: Vec<f32> = (0..120).map(|x| x as f32).collect();
        // Names say the contrary: they are not looked at.
        let [encoder, decoder] = [Role::encoder(Form::Matrix), Role::decoder(Form::Bias)];
        let kept = table.add(encoder, "decoder", 10, 12, values.clone());
        let own = table.add(decoder, "encoder a", 10, 12, values.clone());
        let other = table.add(decoder, "encoder b", 12, 10, values.clone());
        let shuffled = table.shuffled(5, |role| role.part == Part::Decoder);
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
