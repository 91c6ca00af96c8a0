// The activation that the importing shader's override ACTIVATION names.

// #import activations

fn activate(value: f32) -> f32 {
    if ACTIVATION == RELU {
        // Written so that NaN stays NaN.
        return select(value, 0.0, value < 0.0);
    }
    if ACTIVATION == SILU {
        // Beyond -80 the result is as good as 0, and exp must not overflow.
        return value / (1.0 + exp(min(-value, 80.0)));
    }
    if ACTIVATION == GELU {
        // 0.70710678: the square root of 1/2. Beyond t = 10 erfc is 0.
        let tail = 0.5 * erfc(min(abs(value) * 0.70710678, 10.0));
        return value * select(1.0 - tail, tail, value < 0.0);
    }
    if ACTIVATION == TANH {
        return tangent(value);
    }
    return value;
}
