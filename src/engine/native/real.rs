//! The arithmetic of the native executor: f32 for speed, f64 as the oracle.
//!
//! Element-wise work goes through slice functions. For f32 they are compiled
//! for AVX-512, AVX2 and the baseline and chosen at run time, and use a
//! polynomial exponential (within 2 ulp) that the compiler can vectorise; for
//! f64 they use the accurate library functions. Where the processor multiplies
//! and adds in one instruction (`FUSED`), they say so: the compiler must not
//! contract the two by itself.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};
use std::sync::Arc;

use multiversion::{multiversion, target::target_cfg_f};

use super::linalg::Gemm;
use super::tiles::{self, Tiles};
use crate::engine::precision::Precision;
use crate::ops::{Activation, Gate};

/// f32 or f64.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    const PRECISION: Precision;
    /// Distance from 1 to the next larger number.
    const EPSILON: f64;

    /// The same values in this precision; f32 are not copied.
    fn share(values: &Arc<Vec<f32>>) -> Arc<Vec<Self>>;
    /// The product of matrices for this processor.
    fn gemm() -> Gemm<Self>;
    /// The product with a panel, where that is faster on this processor.
    fn tiles() -> Option<Tiles<Self>>;
    fn from_f32(x: f32) -> Self;
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
    fn exp(self) -> Self;
    /// [`exp`](Self::exp); with `FUSED`, for processors that have
    /// [`multiply_plus`](Self::multiply_plus) as one instruction.
    fn exp_by<const FUSED: bool>(self) -> Self;
    /// `self · a + b`, rounded once if `FUSED`.
    fn multiply_plus<const FUSED: bool>(self, a: Self, b: Self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn tanh<const FUSED: bool>(self) -> Self;
    /// The normal distribution function and its density at x.
    fn normal<const FUSED: bool>(self) -> (Self, Self);

    /// `x = scale · activation(x)`, element by element.
    fn activate_in_place(activation: Activation, scale: Self, x: &mut [Self]);
    /// `y = scale · activation'(x)`, element by element.
    fn activation_slope(activation: Activation, scale: Self, x: &[Self], y: &mut [Self]);
    /// `y = x · y`, element by element.
    fn multiply_by(x: &[Self], y: &mut [Self]);
    /// `y = scale · a · gate(b)`, element by element.
    fn gate(gate: Gate, scale: Self, a: &[Self], b: &[Self], y: &mut [Self]);
    /// The two halves of the gradient of [`gate`](Self::gate).
    fn gate_reverse(
        gate: Gate,
        scale: Self,
        a: &[Self],
        b: &[Self],
        dy: &[Self],
        da: &mut [Self],
        db: &mut [Self],
    );
    /// Replaces x by `exp(x - shift)` and returns the sum.
    fn exp_sum(x: &mut [Self], shift: Self) -> Self;
    /// The largest, of one number at least; 0 of none.
    fn largest(x: &[Self]) -> Self;
    /// `y = p · (y - shift)`, element by element.
    fn weigh_shifted(p: &[Self], shift: Self, y: &mut [Self]);
    /// Kullback-Leibler divergence of exp(p) from exp(q - shift), both
    /// distributions.
    fn divergence(p: &[Self], q: &[Self], shift: Self) -> Self;
    /// Sum of products.
    fn dot(a: &[Self], b: &[Self]) -> Self;
    /// `y += a · x`.
    fn axpy(a: Self, x: &[Self], y: &mut [Self]);
    /// `y += a · x`, with a factor for every element.
    fn multiply_add(a: &[Self], x: &[Self], y: &mut [Self]);
    /// Layer norm of one row.
    fn normalise(x: &[Self], weight: &[Self], bias: &[Self], eps: Self, y: &mut [Self]);
    /// Adds to `dx` the reverse of [`normalise`](Self::normalise).
    fn normalise_reverse(x: &[Self], weight: &[Self], eps: Self, dy: &[Self], dx: &mut [Self]);
}

/// Larger of two numbers; the first if they do not compare.
pub fn max<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

#[inline(always)]
fn sigmoid<T: Real, const FUSED: bool>(x: T) -> T {
    let one = T::from_f32(1.0);
    one / (one + (-x).exp_by::<FUSED>())
}

#[inline(always)]
fn activate_body<T: Real, const FUSED: bool>(activation: Activation, scale: T, x: &mut [T]) {
    let zero = T::default();
    match activation {
        Activation::None => x.iter_mut().for_each(|x| *x = scale * *x),
        Activation::Relu => {
            // Written so that NaN stays NaN.
            x.iter_mut()
                .for_each(|x| *x = if *x < zero { zero } else { scale * *x });
        }
        Activation::Silu => x
            .iter_mut()
            .for_each(|x| *x = scale * *x * sigmoid::<T, FUSED>(*x)),
        Activation::Gelu => x
            .iter_mut()
            .for_each(|x| *x = scale * *x * x.normal::<FUSED>().0),
        Activation::Tanh => x.iter_mut().for_each(|x| *x = scale * x.tanh::<FUSED>()),
    }
}

#[inline(always)]
fn activation_slope_body<T: Real, const FUSED: bool>(
    activation: Activation,
    scale: T,
    x: &[T],
    y: &mut [T],
) {
    let (zero, one) = (T::default(), T::from_f32(1.0));
    let elements = y.iter_mut().zip(x);
    match activation {
        Activation::None => elements.for_each(|(y, _)| *y = scale),
        Activation::Relu => elements.for_each(|(y, &x)| *y = if x > zero { scale } else { zero }),
        Activation::Silu => elements.for_each(|(y, &x)| {
            let s = sigmoid::<T, FUSED>(x);
            *y = scale * s * x.multiply_plus::<FUSED>(one - s, one);
        }),
        Activation::Gelu => elements.for_each(|(y, &x)| {
            let (cumulative, density) = x.normal::<FUSED>();
            *y = scale * x.multiply_plus::<FUSED>(density, cumulative);
        }),
        Activation::Tanh => elements.for_each(|(y, &x)| {
            // 1 - tanh(x)², by factors that do not cancel.
            let small = (T::from_f32(-2.0) * x.abs()).exp_by::<FUSED>();
            let sum = one + small;
            *y = scale * T::from_f32(4.0) * small / (sum * sum);
        }),
    }
}

#[inline(always)]
fn multiply_by_body<T: Real, const FUSED: bool>(x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * *y;
    }
}

#[inline(always)]
fn gate_body<T: Real, const FUSED: bool>(gate: Gate, scale: T, a: &[T], b: &[T], y: &mut [T]) {
    let elements = y.iter_mut().zip(a).zip(b);
    match gate {
        Gate::Sigmoid => elements.for_each(|((y, &a), &b)| {
            *y = scale * a * sigmoid::<T, FUSED>(b);
        }),
        Gate::Silu => elements.for_each(|((y, &a), &b)| {
            *y = scale * a * b * sigmoid::<T, FUSED>(b);
        }),
    }
}

#[inline(always)]
fn gate_reverse_body<T: Real, const FUSED: bool>(
    gate: Gate,
    scale: T,
    a: &[T],
    b: &[T],
    dy: &[T],
    da: &mut [T],
    db: &mut [T],
) {
    let one = T::from_f32(1.0);
    let inputs = a.iter().zip(b).zip(dy);
    let elements = da.iter_mut().zip(db).zip(inputs);
    match gate {
        Gate::Sigmoid => elements.for_each(|((da, db), ((&a, &b), &dy))| {
            let s = sigmoid::<T, FUSED>(b);
            let g = scale * dy * s;
            *da = g;
            *db = g * a * (one - s);
        }),
        Gate::Silu => elements.for_each(|((da, db), ((&a, &b), &dy))| {
            let s = sigmoid::<T, FUSED>(b);
            let g = scale * dy * s;
            *da = g * b;
            *db = g * a * b.multiply_plus::<FUSED>(one - s, one);
        }),
    }
}

/// Independent partial sums, so that reductions vectorise. Loops over lanes count
/// them: where iterators over arrays are not compiled into the loop, lanes are in
/// memory.
const LANES: usize = 16;

#[inline(always)]
fn reduce<T: Real>(lanes: [T; LANES]) -> T {
    let mut sum = T::default();
    for lane in lanes {
        sum += lane;
    }
    sum
}

#[inline(always)]
fn sum_body<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::default(); LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    rest.iter().fold(reduce(lanes), |sum, &x| sum + x)
}

#[inline(always)]
fn dot_body<T: Real, const FUSED: bool>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::default(); LANES];
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].multiply_plus::<FUSED>(b[lane], lanes[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    rest.fold(reduce(lanes), |sum, (&a, &b)| {
        a.multiply_plus::<FUSED>(b, sum)
    })
}

#[inline(always)]
fn exp_sum_body<T: Real, const FUSED: bool>(x: &mut [T], shift: T) -> T {
    for x in x.iter_mut() {
        *x = (*x - shift).exp_by::<FUSED>();
    }
    sum_body(x)
}

#[inline(always)]
fn largest_body<T: Real, const FUSED: bool>(x: &[T]) -> T {
    let Some(&first) = x.first() else {
        return T::default();
    };
    let mut lanes = [first; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = max(lanes[lane], chunk[lane]);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(first, |most, &x| max(most, x))
}

#[inline(always)]
fn weigh_shifted_body<T: Real, const FUSED: bool>(p: &[T], shift: T, y: &mut [T]) {
    for (y, &p) in y.iter_mut().zip(p) {
        *y = p * (*y - shift);
    }
}

/// `e^p · (e^d - 1 - d)` with d = q - p. Over two distributions these sum to
/// the same as `e^p · (p - q)`, and none is negative: where the two hardly
/// differ, nothing cancels.
#[inline(always)]
fn divergence_term<T: Real, const FUSED: bool>(p: T, q: T) -> T {
    let (one, d) = (T::from_f32(1.0), q - p);
    let size = d.abs();
    // The larger of the two probabilities, and the smaller's share of it.
    let larger = max(p, q).exp_by::<FUSED>();
    let share = (-size).exp_by::<FUSED>();
    let growing = d > T::default();
    // 1/2 + d/6 + d²/24 + ..., as far as it counts up to half a nat.
    let terms = if T::EPSILON < 1e-10 { 14 } else { 7 };
    let coefficients = INVERSE_FACTORIALS[..terms].iter().rev();
    let series = coefficients.fold(T::default(), |sum, &next| {
        sum.multiply_plus::<FUSED>(d, T::from_f64(next))
    });
    let near = d * d * series * if growing { share } else { one };
    let far = if growing {
        one - (one + d) * share
    } else {
        share - one + size
    };
    larger * if size < T::from_f32(0.5) { near } else { far }
}

/// 1 / 2!, 1 / 3!, ...
const INVERSE_FACTORIALS: [f64; 14] = {
    let (mut all, mut index, mut value) = ([0.0; 14], 0, 1.0);
    while index < all.len() {
        value /= (index + 2) as f64;
        all[index] = value;
        index += 1;
    }
    all
};

#[inline(always)]
fn divergence_body<T: Real, const FUSED: bool>(p: &[T], q: &[T], shift: T) -> T {
    let mut lanes = [T::default(); LANES];
    let ((ps, p_rest), (qs, q_rest)) = (p.as_chunks::<LANES>(), q.as_chunks::<LANES>());
    for (p, q) in ps.iter().zip(qs) {
        for lane in 0..LANES {
            lanes[lane] += divergence_term::<T, FUSED>(p[lane], q[lane] - shift);
        }
    }
    let rest = p_rest.iter().zip(q_rest);
    rest.fold(reduce(lanes), |sum, (&p, &q)| {
        sum + divergence_term::<T, FUSED>(p, q - shift)
    })
}

#[inline(always)]
fn axpy_body<T: Real, const FUSED: bool>(a: T, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = a.multiply_plus::<FUSED>(x, *y);
    }
}

#[inline(always)]
fn multiply_add_body<T: Real, const FUSED: bool>(a: &[T], x: &[T], y: &mut [T]) {
    for ((y, &x), &a) in y.iter_mut().zip(x).zip(a) {
        *y = a.multiply_plus::<FUSED>(x, *y);
    }
}

#[inline(always)]
fn normalise_body<T: Real, const FUSED: bool>(
    x: &[T],
    weight: &[T],
    bias: &[T],
    eps: T,
    y: &mut [T],
) {
    let count = T::from_f64(x.len() as f64);
    let mean = sum_body(x) / count;
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x - mean;
    }
    let variance = dot_body::<T, FUSED>(y, y) / count;
    let scale = T::from_f32(1.0) / (variance + eps).sqrt();
    for ((y, &w), &b) in y.iter_mut().zip(weight).zip(bias) {
        *y = (*y * scale).multiply_plus::<FUSED>(w, b);
    }
}

#[inline(always)]
fn normalise_reverse_body<T: Real, const FUSED: bool>(
    x: &[T],
    weight: &[T],
    eps: T,
    dy: &[T],
    dx: &mut [T],
) {
    // With n = (x - mean)·scale and g = dy·weight:
    // dx += scale · (g - mean(g) - n · mean(g·n)).
    let count = T::from_f64(x.len() as f64);
    let mean = sum_body(x) / count;
    let mut square_lanes = [T::default(); LANES];
    let (mut g_lanes, mut gn_lanes) = ([T::default(); LANES], [T::default(); LANES]);
    let ((xs, x_rest), (ws, w_rest)) = (x.as_chunks::<LANES>(), weight.as_chunks::<LANES>());
    let (dys, dy_rest) = dy.as_chunks::<LANES>();
    for ((x, w), dy) in xs.iter().zip(ws).zip(dys) {
        for lane in 0..LANES {
            let g = dy[lane] * w[lane];
            let centred = x[lane] - mean;
            square_lanes[lane] = centred.multiply_plus::<FUSED>(centred, square_lanes[lane]);
            g_lanes[lane] += g;
            gn_lanes[lane] = g.multiply_plus::<FUSED>(centred, gn_lanes[lane]);
        }
    }
    let mut square_sum = reduce(square_lanes);
    let (mut g_sum, mut gn_sum) = (reduce(g_lanes), reduce(gn_lanes));
    for ((&x, &w), &dy) in x_rest.iter().zip(w_rest).zip(dy_rest) {
        square_sum += (x - mean) * (x - mean);
        g_sum += dy * w;
        gn_sum += dy * w * (x - mean);
    }
    let scale = T::from_f32(1.0) / (square_sum / count + eps).sqrt();
    let g_mean = g_sum / count;
    let slope = gn_sum * scale * scale / count;
    let inputs = x.iter().zip(weight).zip(dy);
    for (dx, ((&x, &w), &dy)) in dx.iter_mut().zip(inputs) {
        let centred = dy.multiply_plus::<FUSED>(w, -g_mean);
        *dx = scale.multiply_plus::<FUSED>((mean - x).multiply_plus::<FUSED>(slope, centred), *dx);
    }
}

/// tanh for f32, to a few units of rounding: by the series where the quotient would
/// cancel.
#[inline(always)]
fn tanh_f32<const FUSED: bool>(x: f32) -> f32 {
    let small = exp_f32::<FUSED>(-2.0 * x.abs());
    let quotient = ((1.0 - small) / (1.0 + small)).copysign(x);
    let square = x * x;
    let series = [0.021_869_488, -0.053_968_254, 0.133_333_33, -0.333_333_33];
    let mut sum = -0.008_863_236_f32;
    for factor in series {
        sum = sum.multiply_plus::<FUSED>(square, factor);
    }
    let near = (x * square).multiply_plus::<FUSED>(sum, x);
    // Written so that NaN stays NaN.
    if square >= 0.09 { quotient } else { near }
}

/// exp for f32: 2^n · e^r with |r| <= ln(2)/2, e^r by its Taylor polynomial of
/// degree 7; relative error below 2e-7, infinite from 88.38 on. What is not a
/// normal number is 0: probabilities below 1e-38, with which arithmetic is slow.
#[inline(always)]
fn exp_f32<const FUSED: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2^23: adding it rounds to an integer
    // ln 2 in two parts, so that n·ln2 loses nothing.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// ln(2^-126)
    const LEAST: f32 = -87.336_54;
    /// Beyond it 2^n is infinite.
    const MOST: f32 = 89.0;
    // Written so that NaN stays NaN.
    let bounded = if x > MOST { MOST } else { x };
    let bounded = if bounded < LEAST { LEAST } else { bounded };
    let shifted = bounded.multiply_plus::<FUSED>(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.multiply_plus::<FUSED>(-LN2_HIGH, bounded);
    let r = n.multiply_plus::<FUSED>(-LN2_LOW, r);
    let mut p = 1.0 / 5040.0;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = p.multiply_plus::<FUSED>(r, coefficient);
    }
    // The exponent's bits count from -127, those of ROUND go out on the left.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let y = p * power;
    if x < LEAST { 0.0 } else { y }
}

/// 1 / sqrt(2 pi)
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

/// The normal distribution function and its density for f32, without a branch,
/// so that loops over it vectorise. Up to |x| = 1.25 the function is 1/2 plus
/// an odd polynomial. Beyond, where 1 + erf would cancel, it is exp(-x²/2)
/// times a polynomial in 1 / (1 + |x| / 4), or 1 less that. Both polynomials
/// are minimax fits whose relative errors are below 1e-8.
#[inline(always)]
fn normal_f32<const FUSED: bool>(x: f32) -> (f32, f32) {
    const MIDDLE: [f32; 6] = [
        -6.809_492e-6,
        1.110_411_2e-4,
        -1.183_837_2e-3,
        9.972_283e-3,
        -6.649_021e-2,
        0.398_942_26,
    ];
    const TAIL: [f32; 8] = [
        -0.048_126_3,
        0.113_939_96,
        -0.029_026_67,
        0.097_380_34,
        0.071_279_41,
        0.095_195_97,
        0.099_573_515,
        0.099_742_09,
    ];
    let square = x * x;
    let gauss = exp_f32::<FUSED>(-0.5 * square);
    let middle = horner::<FUSED>(&MIDDLE, square);
    let t = 1.0 / x.abs().multiply_plus::<FUSED>(0.25, 1.0);
    let tail = horner::<FUSED>(&TAIL, t) * t * gauss;
    let beyond = if x > 0.0 { 1.0 - tail } else { tail };
    let within = x.multiply_plus::<FUSED>(middle, 0.5);
    let cumulative = if x.abs() < 1.25 { within } else { beyond };
    (cumulative, gauss * DENSITY_AT_0 as f32)
}

/// A polynomial at x, its highest coefficient first.
#[inline(always)]
fn horner<const FUSED: bool>(coefficients: &[f32], x: f32) -> f32 {
    let add = |sum: f32, &next: &f32| sum.multiply_plus::<FUSED>(x, next);
    coefficients.iter().fold(0.0, add)
}

impl Real for f64 {
    const PRECISION: Precision = Precision::F64;
    const EPSILON: f64 = f64::EPSILON;

    fn share(values: &Arc<Vec<f32>>) -> Arc<Vec<f64>> {
        Arc::new(values.iter().map(|&x| x.into()).collect())
    }
    fn gemm() -> Gemm<f64> {
        gemm_f64::gemm::f64::get_gemm_fn()
    }
    fn tiles() -> Option<Tiles<f64>> {
        None
    }
    fn from_f32(x: f32) -> Self {
        x.into()
    }
    fn from_f64(x: f64) -> Self {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn exp_by<const FUSED: bool>(self) -> Self {
        f64::exp(self)
    }
    fn multiply_plus<const FUSED: bool>(self, a: Self, b: Self) -> Self {
        self * a + b
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn abs(self) -> Self {
        f64::abs(self)
    }
    fn tanh<const FUSED: bool>(self) -> Self {
        f64::tanh(self)
    }
    fn normal<const FUSED: bool>(self) -> (Self, Self) {
        let cumulative = 0.5 * (1.0 + libm::erf(self * std::f64::consts::FRAC_1_SQRT_2));
        (cumulative, DENSITY_AT_0 * (-0.5 * self * self).exp())
    }
    fn activate_in_place(activation: Activation, scale: f64, x: &mut [f64]) {
        activate_body::<f64, false>(activation, scale, x);
    }
    fn activation_slope(activation: Activation, scale: f64, x: &[f64], y: &mut [f64]) {
        activation_slope_body::<f64, false>(activation, scale, x, y);
    }
    fn multiply_by(x: &[f64], y: &mut [f64]) {
        multiply_by_body::<f64, false>(x, y);
    }
    fn gate(gate: Gate, scale: f64, a: &[f64], b: &[f64], y: &mut [f64]) {
        gate_body::<f64, false>(gate, scale, a, b, y);
    }
    fn gate_reverse(
        gate: Gate,
        scale: f64,
        a: &[f64],
        b: &[f64],
        dy: &[f64],
        da: &mut [f64],
        db: &mut [f64],
    ) {
        gate_reverse_body::<f64, false>(gate, scale, a, b, dy, da, db);
    }
    fn exp_sum(x: &mut [f64], shift: f64) -> f64 {
        exp_sum_body::<f64, false>(x, shift)
    }
    fn largest(x: &[f64]) -> f64 {
        largest_body::<f64, false>(x)
    }
    fn weigh_shifted(p: &[f64], shift: f64, y: &mut [f64]) {
        weigh_shifted_body::<f64, false>(p, shift, y);
    }
    fn divergence(p: &[f64], q: &[f64], shift: f64) -> f64 {
        divergence_body::<f64, false>(p, q, shift)
    }
    fn dot(a: &[f64], b: &[f64]) -> f64 {
        dot_body::<f64, false>(a, b)
    }
    fn axpy(a: f64, x: &[f64], y: &mut [f64]) {
        axpy_body::<f64, false>(a, x, y);
    }
    fn multiply_add(a: &[f64], x: &[f64], y: &mut [f64]) {
        multiply_add_body::<f64, false>(a, x, y);
    }
    fn normalise(x: &[f64], w: &[f64], b: &[f64], eps: f64, y: &mut [f64]) {
        normalise_body::<f64, false>(x, w, b, eps, y);
    }
    fn normalise_reverse(x: &[f64], w: &[f64], eps: f64, dy: &[f64], dx: &mut [f64]) {
        normalise_reverse_body::<f64, false>(x, w, eps, dy, dx);
    }
}

/// Versions of a slice function for the instruction sets worth having.
macro_rules! vectorised {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $body:ident;)*) => {
        $(
            #[cfg_attr(feature = "avx512", multiversion(targets(
                "x86_64+avx+avx2+fma+avx512f+avx512vl+avx512dq+avx512bw",
                "x86_64+avx+avx2+fma",
            )))]
            #[cfg_attr(not(feature = "avx512"), multiversion(targets("x86_64+avx+avx2+fma")))]
            fn $name($($arg: $type),*) $(-> $out)? {
                if target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
                    $body::<f32, true>($($arg),*)
                } else {
                    $body::<f32, false>($($arg),*)
                }
            }
        )*
    };
}

vectorised! {
    fn activate_f32(activation: Activation, scale: f32, x: &mut [f32]) = activate_body;
    fn activation_slope_f32(activation: Activation, scale: f32, x: &[f32], y: &mut [f32]) = activation_slope_body;
    fn multiply_by_f32(x: &[f32], y: &mut [f32]) = multiply_by_body;
    fn gate_f32(gate: Gate, scale: f32, a: &[f32], b: &[f32], y: &mut [f32]) = gate_body;
    fn gate_reverse_f32(gate: Gate, scale: f32, a: &[f32], b: &[f32], dy: &[f32], da: &mut [f32], db: &mut [f32]) = gate_reverse_body;
    fn exp_sum_f32(x: &mut [f32], shift: f32) -> f32 = exp_sum_body;
    fn largest_f32(x: &[f32]) -> f32 = largest_body;
    fn weigh_shifted_f32(p: &[f32], shift: f32, y: &mut [f32]) = weigh_shifted_body;
    fn divergence_f32(p: &[f32], q: &[f32], shift: f32) -> f32 = divergence_body;
    fn dot_f32(a: &[f32], b: &[f32]) -> f32 = dot_body;
    fn axpy_f32(a: f32, x: &[f32], y: &mut [f32]) = axpy_body;
    fn multiply_add_f32(a: &[f32], x: &[f32], y: &mut [f32]) = multiply_add_body;
    fn normalise_f32(x: &[f32], w: &[f32], b: &[f32], eps: f32, y: &mut [f32]) = normalise_body;
    fn normalise_reverse_f32(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) = normalise_reverse_body;
}

impl Real for f32 {
    const PRECISION: Precision = Precision::F32;
    const EPSILON: f64 = f32::EPSILON as f64;

    fn share(values: &Arc<Vec<f32>>) -> Arc<Vec<f32>> {
        Arc::clone(values)
    }
    fn gemm() -> Gemm<f32> {
        gemm_f32::gemm::f32::get_gemm_fn()
    }
    fn tiles() -> Option<Tiles<f32>> {
        tiles::of_f32()
    }
    fn from_f32(x: f32) -> Self {
        x
    }
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        exp_f32::<false>(self)
    }
    #[inline(always)]
    fn exp_by<const FUSED: bool>(self) -> Self {
        exp_f32::<FUSED>(self)
    }
    #[inline(always)]
    fn multiply_plus<const FUSED: bool>(self, a: Self, b: Self) -> Self {
        if FUSED {
            self.mul_add(a, b)
        } else {
            self * a + b
        }
    }
    fn ln(self) -> Self {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    #[inline(always)]
    fn tanh<const FUSED: bool>(self) -> Self {
        tanh_f32::<FUSED>(self)
    }
    #[inline(always)]
    fn normal<const FUSED: bool>(self) -> (Self, Self) {
        normal_f32::<FUSED>(self)
    }
    fn activate_in_place(activation: Activation, scale: f32, x: &mut [f32]) {
        activate_f32(activation, scale, x);
    }
    fn activation_slope(activation: Activation, scale: f32, x: &[f32], y: &mut [f32]) {
        activation_slope_f32(activation, scale, x, y);
    }
    fn multiply_by(x: &[f32], y: &mut [f32]) {
        multiply_by_f32(x, y);
    }
    fn gate(gate: Gate, scale: f32, a: &[f32], b: &[f32], y: &mut [f32]) {
        gate_f32(gate, scale, a, b, y);
    }
    fn gate_reverse(
        gate: Gate,
        scale: f32,
        a: &[f32],
        b: &[f32],
        dy: &[f32],
        da: &mut [f32],
        db: &mut [f32],
    ) {
        gate_reverse_f32(gate, scale, a, b, dy, da, db);
    }
    fn exp_sum(x: &mut [f32], shift: f32) -> f32 {
        exp_sum_f32(x, shift)
    }
    fn largest(x: &[f32]) -> f32 {
        largest_f32(x)
    }
    fn weigh_shifted(p: &[f32], shift: f32, y: &mut [f32]) {
        weigh_shifted_f32(p, shift, y);
    }
    fn divergence(p: &[f32], q: &[f32], shift: f32) -> f32 {
        divergence_f32(p, q, shift)
    }
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        dot_f32(a, b)
    }
    fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        axpy_f32(a, x, y);
    }
    fn multiply_add(a: &[f32], x: &[f32], y: &mut [f32]) {
        multiply_add_f32(a, x, y);
    }
    fn normalise(x: &[f32], w: &[f32], b: &[f32], eps: f32, y: &mut [f32]) {
        normalise_f32(x, w, b, eps, y);
    }
    fn normalise_reverse(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
        normalise_reverse_f32(x, w, eps, dy, dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_accurate_over_its_range() {
        for exp in [exp_f32::<false>, exp_f32::<true>] {
            let mut worst = 0.0f64;
            let mut x = -87.0f32;
            while x < 88.0 {
                let exact = f64::from(x).exp();
                worst = worst.max(((f64::from(exp(x)) - exact) / exact).abs());
                x += 0.003_7;
            }
            println!("worst relative error of exp: {worst:.2e}");
            assert!(worst <= 3e-7);
            assert_eq!(exp(0.0), 1.0);
            assert_eq!(exp(-1e30), 0.0);
            assert!(exp(f32::NAN).is_nan());
            assert!(exp(1000.0).is_infinite());
        }
    }

    /// Terms over eight powers of ten, against expm1 in f64, which has no
    /// difficulty with differences of more than a millionth.
    #[test]
    fn terms_of_a_divergence_keep_their_digits() {
        for p in [-0.1f64, -3.0, -30.0, -40.0] {
            for size in (0..700).map(|step| 1e-6 * (0.03 * f64::from(step)).exp()) {
                for d in [-size, size].into_iter().filter(|d| p + d <= 0.0) {
                    let q = p + d;
                    let (p32, q32) = (p as f32, q as f32);
                    let d32 = f64::from(q32) - f64::from(p32);
                    let exact = |p: f64, d: f64| p.exp() * (d.exp_m1() - d);
                    let own = divergence_term::<f64, false>(p, q);
                    let want = exact(p, q - p);
                    assert!((own / want - 1.0).abs() <= 1e-9, "{p} {q}: {own} {want}");
                    if d32 != 0.0 && d32.abs() >= 1e-6 {
                        for term in [divergence_term::<f32, false>, divergence_term::<f32, true>] {
                            let got = f64::from(term(p32, q32));
                            let want = exact(f64::from(p32), d32);
                            assert!(
                                (got / want - 1.0).abs() <= 1e-5,
                                "{p32} {q32}: {got} {want}"
                            );
                        }
                    }
                }
            }
        }
        assert_eq!(divergence_term::<f32, true>(-2.5, -2.5), 0.0);
        // All of it went elsewhere.
        assert_eq!(divergence_term::<f32, true>(-1e30, -1.0), (-1.0f32).exp());
    }

    #[test]
    fn normal_distribution_is_accurate_on_both_sides() {
        for normal in [normal_f32::<false>, normal_f32::<true>] {
            let (mut worst, mut worst_tail, mut worst_slope) = (0.0f64, 0.0f64, 0.0f64);
            for step in -130_000..=130_000 {
                let x = step as f32 * 1e-4;
                let (got, density) = normal(x);
                let (exact, slope) = f64::from(x).normal::<false>();
                worst = worst.max((f64::from(got) - exact).abs());
                worst_slope = worst_slope.max((f64::from(density) - slope).abs());
                if (-5.0..-1.0).contains(&x) {
                    // By the complement, since 1 + erf cancels in f64 too.
                    let exact = 0.5 * libm::erfc(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
                    worst_tail = worst_tail.max((f64::from(got) / exact - 1.0).abs());
                }
            }
            println!("worst errors: {worst:.2e}, {worst_slope:.2e}, relative {worst_tail:.2e}");
            assert!(worst <= 1.2e-7 && worst_slope <= 1.2e-7 && worst_tail <= 2e-6);
            assert_eq!(normal(0.0).0, 0.5);
            assert_eq!(normal(-1e30), (0.0, 0.0));
            assert_eq!(normal(1e30), (1.0, 0.0));
            assert!(normal(f32::NAN).0.is_nan());
        }
    }
}
