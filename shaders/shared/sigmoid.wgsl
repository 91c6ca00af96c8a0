// The logistic function.

// 1 / (1 + exp(-x)), without overflow
fn sigmoid(x: f32) -> f32 {
    let small = exp(-min(abs(x), 80.0));
    return select(1.0, small, x < 0.0) / (1.0 + small);
}
