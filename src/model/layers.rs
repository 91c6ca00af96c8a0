//! Layers that every family has, and their place in the weight table.

use std::sync::{Arc, Mutex, PoisonError};

use super::checkpoint::TensorList;
use super::loader::Loader;
use crate::Result;
use crate::engine::recording::Recording;
use crate::engine::tensor::{TensorId, WeightId};
use crate::engine::weights::Form;
use crate::ops::{Activation, Windows};

/// Layer norm eps of all families.
pub const EPS: f32 = 1e-5;

/// A linear layer, or several of the same input computed as one product.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// (outputs, inputs)
    pub weight: WeightId,
    /// (1, outputs)
    pub bias: Option<WeightId>,
}

impl Linear {
    /// Reads the layers `names` and stacks their outputs. Layers without bias
    /// among others that have one get a zero bias.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn read(loader: &mut Loader, names: &[&str], inputs: usize) -> Result<Self> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        let mut any_bias = false;
        for name in names {
            let own = format!("{name}.weight");
            let outputs = match loader.outlined_rows(&own) {
                Some(rows) => rows,
                None => {
                    let own = loader.read(&own)?;
                    let outputs = own.len() / inputs;
                    weight.extend(own);
                    outputs
                }
            };
            let own = format!("{name}.bias");
            if loader.contains(&own) {
                bias.extend(loader.read(&own)?);
                any_bias = true;
            } else {
                bias.extend(std::iter::repeat_n(0.0, outputs));
            }
        }
        let outputs = bias.len();
        let name = names.join("+");
        let own = format!("{name}.weight");
        let weight = loader.add(Form::Matrix, own, outputs, inputs, weight);
        let own = format!("{name}.bias");
        let bias = any_bias.then(|| loader.add(Form::Bias, own, 1, outputs, bias));
        Ok(Self { weight, bias })
    }

    /// Records activation(x · Wᵀ + bias).
    ///
    /// # Errors
    /// If x does not fit.
    pub fn record(
        &self,
        recording: &mut Recording,
        x: TensorId,
        activation: Activation,
    ) -> Result<TensorId> {
        let weight = recording.weight(self.weight);
        let bias = self.bias.map(|id| recording.weight(id));
        let product = recording.matmul(x, weight).bias(bias);
        product.activation(activation).record()
    }

    /// Records residual + scale · (x · Wᵀ + bias).
    ///
    /// # Errors
    /// If x or the residual does not fit.
    pub fn record_onto(
        &self,
        recording: &mut Recording,
        x: TensorId,
        scale: f32,
        residual: TensorId,
    ) -> Result<TensorId> {
        let weight = recording.weight(self.weight);
        let bias = self.bias.map(|id| recording.weight(id));
        let product = recording.matmul(x, weight).bias(bias);
        product.scale(scale).residual(residual).record()
    }
}

/// A layer norm.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    weight: WeightId,
    bias: WeightId,
}

impl Norm {
    /// Reads `{name}.weight` and, where there is one, `{name}.bias`; else it is 0.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn read(loader: &mut Loader, name: &str) -> Result<Self> {
        let own = format!("{name}.weight");
        let values = loader.read(&own)?;
        let width = values.len();
        let weight = loader.add(Form::Norm, own, 1, width, values);
        let own = format!("{name}.bias");
        let bias = match loader.contains(&own) {
            true => {
                let values = loader.read(&own)?;
                loader.add(Form::Norm, own, 1, width, values)
            }
            false => loader.add_computed(Form::Norm, own, 1, width, vec![0.0; width]),
        };
        Ok(Self { weight, bias })
    }

    /// Reads `{name}.gamma`, to which 1 is added to make the weight; there is no bias.
    ///
    /// # Errors
    /// If the tensor cannot be read.
    pub fn read_offset(loader: &mut Loader, name: &str) -> Result<Self> {
        let own = format!("{name}.gamma");
        let mut values = loader.read(&own)?;
        let width = values.len();
        values.iter_mut().for_each(|value| *value += 1.0);
        let bias = format!("{name}.bias");
        Ok(Self {
            weight: loader.add(Form::Norm, own, 1, width, values),
            bias: loader.add_computed(Form::Norm, bias, 1, width, vec![0.0; width]),
        })
    }

    /// Records the norm of x.
    ///
    /// # Errors
    /// If x has another width.
    pub fn record(&self, recording: &mut Recording, x: TensorId) -> Result<TensorId> {
        let (weight, bias) = (recording.weight(self.weight), recording.weight(self.bias));
        recording.layer_norm(x, weight, bias, EPS)
    }
}

/// Convolution over time with stride, as a product with windows.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// (outputs, kernel · inputs)
    linear: Linear,
    pub windows: Windows,
}

impl Convolution {
    /// Lists `{name}.weight` (outputs, inputs, kernel) and `{name}.bias`.
    pub fn list(list: &mut TensorList, name: &str, outputs: usize, inputs: usize, kernel: usize) {
        list.weight(format!("{name}.weight"), &[outputs, inputs, kernel]);
        list.bias(format!("{name}.bias"), &[outputs]);
    }

    /// Reads the convolution `name` with half-kernel padding, and its bias where
    /// there is one.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn read(
        loader: &mut Loader,
        name: &str,
        inputs: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Self> {
        let weight = loader.read(&format!("{name}.weight"))?;
        let outputs = weight.len() / (inputs * kernel);
        // (outputs, inputs, kernel) to (outputs, kernel, inputs): the order in
        // which a window lies in memory.
        let mut turned = vec![0.0; weight.len()];
        for (index, &value) in weight.iter().enumerate() {
            let (out, rest) = (index / (inputs * kernel), index % (inputs * kernel));
            let (input, tap) = (rest / kernel, rest % kernel);
            turned[(out * kernel + tap) * inputs + input] = value;
        }
        let own = format!("{name}.weight");
        let weight = loader.add(Form::Matrix, own, outputs, kernel * inputs, turned);
        let own = format!("{name}.bias");
        let bias = match loader.contains(&own) {
            true => Some(loader.load(Form::Bias, &own, 1, outputs)?),
            false => None,
        };
        Ok(Self {
            linear: Linear { weight, bias },
            windows: Windows::padded(kernel, stride, kernel / 2),
        })
    }

    /// The same with windows that end with the frame they are of.
    pub fn causal(self) -> Self {
        let Windows { kernel, stride, .. } = self.windows;
        let windows = Windows::causal(kernel, stride, 0);
        Self { windows, ..self }
    }

    /// The same with so many frames of zeros behind the last.
    pub fn followed_by(self, behind: usize) -> Self {
        let windows = Windows {
            behind,
            ..self.windows
        };
        Self { windows, ..self }
    }

    /// The same without padding.
    pub fn unpadded(self) -> Self {
        let Windows { kernel, stride, .. } = self.windows;
        let windows = Windows::padded(kernel, stride, 0);
        Self { windows, ..self }
    }

    /// Output frames for `frames` input frames; none where they are too few.
    pub fn frames(&self, frames: usize) -> usize {
        self.windows.count(frames).unwrap_or(0)
    }

    /// Records activation(convolution(x) + bias).
    ///
    /// # Errors
    /// If x has other columns or is too short.
    pub fn record(
        &self,
        recording: &mut Recording,
        x: TensorId,
        activation: Activation,
    ) -> Result<TensorId> {
        let weight = recording.weight(self.linear.weight);
        let bias = self.linear.bias.map(|id| recording.weight(id));
        let product = recording.matmul(x, weight).windows(self.windows);
        product.bias(bias).activation(activation).record()
    }
}

/// The last table of position encodings that an encoder recorded. A length is
/// recorded several times in a row, and a table costs as much as a layer.
#[derive(Debug, Default)]
pub struct LastPositions(Mutex<Option<(usize, Arc<Vec<f32>>)>>);

impl LastPositions {
    /// The table for so many positions, made by `make` if it is not the last.
    pub fn get(&self, positions: usize, make: impl FnOnce() -> Vec<f32>) -> Arc<Vec<f32>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, table)) if *known == positions => Arc::clone(table),
            _ => {
                let table: Arc<Vec<f32>> = make().into();
                *last = Some((positions, Arc::clone(&table)));
                table
            }
        }
    }
}

/// Position encodings (positions, width) with sine and cosine columns
/// alternating: the conformer's relative positions. Computed in f64.
pub fn interleaved_positions(positions: usize, width: usize) -> Vec<f32> {
    let mut table = vec![0.0; positions * width];
    for (t, row) in table.chunks_mut(width).enumerate() {
        for (i, value) in row.iter_mut().enumerate() {
            let rate = (-((i / 2 * 2) as f64) * 10_000f64.ln() / width as f64).exp();
            let angle = t as f64 * rate;
            *value = if i % 2 == 0 { angle.sin() } else { angle.cos() } as f32;
        }
    }
    table
}

/// Encodings (2·frames - 1, width) of the positions from `frames` - 1 down to
/// -(`frames` - 1), sine and cosine columns alternating. Rates and angles are
/// rounded to f32, as those that the models were trained with: far from 0 that
/// moves a sine by more than its own rounding.
pub fn two_sided_positions(frames: usize, width: usize) -> Vec<f32> {
    let mut table = vec![0.0; (2 * frames - 1) * width];
    let rate = |i: usize| {
        let exponent = f64::from((i / 2 * 2) as f32 / width as f32);
        1.0 / (10_000f64.powf(exponent) as f32)
    };
    let rates: Vec<f32> = (0..width).map(rate).collect();
    for (t, row) in table.chunks_mut(width).enumerate() {
        let position = frames as f32 - 1.0 - t as f32;
        for (i, (value, rate)) in row.iter_mut().zip(&rates).enumerate() {
            let angle = f64::from(position * rate);
            *value = if i % 2 == 0 { angle.sin() } else { angle.cos() } as f32;
        }
    }
    table
}

/// Encodings (positions, width) laid out [sine | cosine], rates from 1 down to
/// 1/`slowest`, divided by sqrt(width); rounded as those of
/// [`two_sided_positions`] are.
pub fn scaled_positions(positions: usize, width: usize, slowest: f64) -> Vec<f32> {
    let half = width / 2;
    let step = (slowest.ln() / (half as f64 - 1.0)) as f32;
    let rates: Vec<f32> = (0..half)
        .map(|i| f64::from(-step * i as f32).exp() as f32)
        .collect();
    let root = (width as f64).sqrt() as f32;
    let mut table = vec![0.0; positions * width];
    for (t, row) in table.chunks_mut(width).enumerate() {
        for (i, rate) in rates.iter().enumerate() {
            let angle = f64::from(t as f32 * rate);
            row[i] = angle.sin() as f32 / root;
            row[half + i] = angle.cos() as f32 / root;
        }
    }
    table
}

/// Angles (positions, 2 · pairs) of [rotary positions](crate::ops::Rotary): cosines, then
/// sines. Pair j turns by theta^(-2j / `columns`) from one position to the next;
/// rounded as those of [`two_sided_positions`] are.
pub fn rotary_angles(positions: usize, columns: usize, theta: f64) -> Vec<f32> {
    let pairs = columns.div_ceil(2);
    let rate = |j: usize| {
        let exponent = f64::from((2 * j) as f32 / columns as f32);
        1.0 / (theta.powf(exponent) as f32)
    };
    let rates: Vec<f32> = (0..pairs).map(rate).collect();
    let mut table = vec![0.0; positions * 2 * pairs];
    for (t, row) in table.chunks_exact_mut(2 * pairs).enumerate() {
        for (j, rate) in rates.iter().enumerate() {
            let angle = f64::from(t as f32 * rate);
            row[j] = angle.cos() as f32;
            row[pairs + j] = angle.sin() as f32;
        }
    }
    table
}

/// Position encodings (positions, width) laid out [sine | cosine], rates from
/// 1 to 1/10,000, the first row being position `first`. Computed in f64.
pub fn halved_positions(positions: usize, width: usize, first: usize) -> Vec<f32> {
    let half = width / 2;
    let mut table = vec![0.0; positions * width];
    for (t, row) in table.chunks_mut(width).enumerate() {
        for i in 0..half {
            let step = 10_000f64.ln() / (half as f64 - 1.0).max(1.0);
            let angle = (t + first) as f64 * (-(i as f64) * step).exp();
            row[i] = angle.sin() as f32;
            row[half + i] = angle.cos() as f32;
        }
    }
    table
}
