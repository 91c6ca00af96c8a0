//! Where tokens look: the averaged cross-attention and its peaks.

/// Cross-attention averaged over layers and heads: (L, H, K, T') to (K, T').
pub fn averaged(attention: &[f32], tokens: usize, frames: usize) -> Vec<f32> {
    let mut mean = vec![0.0f64; tokens * frames];
    let maps = attention.len() / (tokens * frames).max(1);
    for map in attention.chunks(tokens * frames) {
        for (mean, &x) in mean.iter_mut().zip(map) {
            *mean += f64::from(x);
        }
    }
    mean.iter().map(|x| (x / maps as f64) as f32).collect()
}

/// Index of the largest value, the first of equals.
pub fn peak(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, &x) in row.iter().enumerate() {
        if x > row[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_averaged() {
        assert_eq!(averaged(&[0.0, 1.0, 1.0, 0.0], 1, 2), vec![0.5, 0.5]);
    }
}
