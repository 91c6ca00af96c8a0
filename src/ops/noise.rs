//! Gaussian noise on the sound, for SmoothGrad.

use super::Operate;
use super::scalars::FIRST_VARIANT;
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::native::context::Context;
use crate::engine::native::real::{Real, max};
use crate::engine::random::{Domain, Key};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Scalar, TensorId};

/// `y[b] = x + spread · z`, z normal and different for every variant
///
/// z of element e of variant v comes from word `e % 4` of the block
/// (e / 4, v, stream) of [`Domain::Noise`] under the seed, so it depends neither
/// on the batch size nor on the executor. Variants count from [`FIRST_VARIANT`].
#[derive(Clone, Debug, PartialEq)]
pub struct AddNoise {
    /// (1, R, C)
    pub x: TensorId,
    /// (1, 1, 1): standard deviation of the noise
    pub spread: TensorId,
    pub seed: u64,
    /// Keeps the noise of different sites apart.
    pub stream: u32,
    /// (B, R, C)
    pub y: TensorId,
}

/// y = fraction · (max(x) - min(x)), the noise level as SmoothGrad states it.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// (1, R, C)
    pub x: TensorId,
    pub fraction: f32,
    /// (1, 1, 1)
    pub y: TensorId,
}

/// A standard normal number from 32 random bits: the inverse distribution
/// function by Wichura's PPND7 (Applied Statistics algorithm AS 241, 1988),
/// relative error about 1e-7. In f32 on every executor.
pub fn normal(bits: u32) -> f32 {
    let p = ((bits >> 9) as f32 + 0.5) * (1.0 / 8_388_608.0);
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        let numerator = ((59.109_375 * r + 159.291_13) * r + 50.434_27) * r + 3.387_132_7;
        let denominator = ((67.187_56 * r + 78.757_75) * r + 17.895_17) * r + 1.0;
        return q * numerator / denominator;
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-tail.ln()).sqrt();
    let z = if r <= 5.0 {
        let r = r - 1.6;
        let numerator = ((0.170_238_2 * r + 1.306_728_5) * r + 2.756_815_4) * r + 1.423_437_3;
        numerator / ((0.120_211_33 * r + 0.737_001_6) * r + 1.0)
    } else {
        let r = r - 5.0;
        let numerator = ((0.017_337_203 * r + 0.428_682_95) * r + 3.081_226_3) * r + 6.657_905;
        numerator / ((0.012_258_202 * r + 0.241_978_95) * r + 1.0)
    };
    if q < 0.0 { -z } else { z }
}

impl Operate for AddNoise {
    const NAME: &'static str = "add_noise";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x, self.spread]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn scalars(&self) -> &'static [Scalar] {
        &[FIRST_VARIANT]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x);
        let spread = context.read(self.spread).all()[0];
        let first = context.scalar(FIRST_VARIANT);
        let key = Key::from(self.seed);
        for (y, n) in y.chunks_mut(x.shape.inner()).zip(context.leads.clone()) {
            let blocks = y.chunks_mut(4).zip(x.all().chunks(4));
            for (block, (y, x)) in blocks.enumerate() {
                let place = [block as u32, (first + n) as u32, self.stream];
                let words = key.block(Domain::Noise, place);
                for ((y, &x), word) in y.iter_mut().zip(x).zip(words) {
                    *y = x + spread * T::from_f32(normal(word));
                }
            }
        }
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        let y = recording.shape(self.y);
        let blocks = y.lead * y.inner().div_ceil(4);
        let key = Key::from(self.seed);
        vec![Launch {
            shader: "add_noise",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("blocks", blocks.into()),
                ("inner", y.inner().into()),
                ("stream", self.stream.into()),
                ("seed_low", key.low.into()),
                ("seed_high", key.high.into()),
            ],
            bindings: vec![
                ("x", self.x.into()),
                ("spread", self.spread.into()),
                ("scalars", Binding::Scalars),
                ("y", self.y.into()),
            ],
            extent: Extent::Invocations(blocks),
        }]
    }
}

impl Operate for Spread {
    const NAME: &'static str = "spread";

    fn inputs(&self) -> Vec<TensorId> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<TensorId> {
        vec![self.y]
    }

    fn native<T: Real>(&self, context: &mut Context<T>) {
        let mut y = context.take(self.y);
        let x = context.read(self.x).all();
        let most = x.iter().copied().reduce(max).unwrap_or_default();
        let least = x.iter().map(|&x| -x).reduce(max).unwrap_or_default();
        y[0] = T::from_f32(self.fraction) * (most + least);
        context.give(self.y, y);
    }

    fn launches(&self, recording: &Recording, _live: &dyn Fn(TensorId) -> bool) -> Vec<Launch> {
        vec![Launch {
            shader: "spread",
            entry: "forward",
            overrides: vec![],
            params: vec![
                ("count", recording.shape(self.x).len().into()),
                ("fraction", self.fraction.into()),
            ],
            bindings: vec![("x", self.x.into()), ("y", self.y.into())],
            extent: Extent::rows(1),
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn normal_numbers_have_the_right_moments_and_quantiles() {
        let count = 1 << 20;
        let (mut sum, mut squares, mut fourth) = (0.0f64, 0.0f64, 0.0f64);
        for i in 0..count as u32 {
            let z = f64::from(normal(i << 12));
            sum += z;
            squares += z * z;
            fourth += z.powi(4);
        }
        let n = f64::from(count);
        assert!((sum / n).abs() <= 1e-4);
        assert!((squares / n - 1.0).abs() <= 1e-3);
        assert!((fourth / n - 3.0).abs() <= 1e-2);
        // Quantiles of the normal distribution at (k + 1/2)/2^23.
        assert!((normal(0) + 5.294_704).abs() <= 1e-4, "{}", normal(0));
        assert!((normal(u32::MAX) - 5.294_704).abs() <= 1e-4);
        assert!((normal(0xF999_9999) - 1.959_964).abs() <= 1e-5);
    }
}
