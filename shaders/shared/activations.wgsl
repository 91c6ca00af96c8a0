// Activations by number, and what the smooth ones and their slopes are made of.

// Values of ACTIVATION.
const NO_ACTIVATION: u32 = 0u;
const RELU: u32 = 1u;
const SILU: u32 = 2u;
const GELU: u32 = 3u;
const TANH: u32 = 4u;

// 1 - erf(t) for t >= 0, to a few units of rounding: a polynomial in
// s = 1 / (1 + 3/8 t), fitted to exp(t^2) (1 - erf(t)) / s within 1.3e-8.
fn erfc(t: f32) -> f32 {
    let s = 1.0 / (1.0 + 0.375 * t);
    var p = 0.0615458824;
    p = p * s - 0.28736195;
    p = p * s + 0.432457507;
    p = p * s - 0.229473427;
    p = p * s + 0.27376163;
    p = p * s + 0.121490955;
    p = p * s + 0.205316678;
    p = p * s + 0.210649252;
    p = p * s + 0.211613491;
    return p * s * exp(-t * t);
}

// The hyperbolic tangent to a few units of rounding, of any size: what a driver's own
// does for large numbers differs. Small ones by the series, in which nothing cancels.
fn tangent(x: f32) -> f32 {
    let t = exp(-2.0 * min(abs(x), 40.0));
    let large = select(1.0, -1.0, x < 0.0) * (1.0 - t) / (1.0 + t);
    let q = x * x;
    var p = -0.00886323552990;
    p = p * q + 0.0218694885362;
    p = p * q - 0.0539682539683;
    p = p * q + 0.133333333333;
    p = p * q - 0.333333333333;
    // Written so that NaN stays NaN.
    return select(x + x * q * p, large, q >= 0.09);
}
