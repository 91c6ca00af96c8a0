//! Gauss-Legendre quadrature, for the path of integrated gradients.

/// Nodes in 0..1 and weights that sum to 1; exact for polynomials of degree
/// 2·count - 1. Newton's method on the Legendre polynomial.
pub fn gauss_legendre(count: usize) -> (Vec<f64>, Vec<f64>) {
    let n = count as f64;
    let (mut nodes, mut weights) = (Vec::new(), Vec::new());
    for i in 0..count {
        let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (mut before, mut value) = (1.0, x);
            for k in 2..=count {
                let k = k as f64;
                (before, value) = (
                    value,
                    ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k,
                );
            }
            slope = n * (x * value - before) / (x * x - 1.0);
            let step = value / slope;
            x -= step;
            if step.abs() < 1e-15 {
                break;
            }
        }
        nodes.push(0.5 * (1.0 - x));
        weights.push(1.0 / ((1.0 - x * x) * slope * slope));
    }
    (nodes, weights)
}

#[cfg(test)]
mod tests {
    use super::gauss_legendre;

    #[test]
    fn polynomials_are_integrated_exactly() {
        for count in [1, 2, 3, 8, 32, 101] {
            let (nodes, weights) = gauss_legendre(count);
            for degree in [0, 1, 2 * count - 1] {
                let sum: f64 = nodes
                    .iter()
                    .zip(&weights)
                    .map(|(x, w)| w * x.powi(degree as i32))
                    .sum();
                let exact = 1.0 / (degree as f64 + 1.0);
                assert!((sum - exact).abs() <= 1e-13, "{count} {degree} {sum}");
            }
        }
    }
}
