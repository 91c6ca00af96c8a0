//! When tokens and words were said, read off the averaged cross-attention.

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

/// First frame and frame after the last around the peak of the sum of `rows`
/// in which it stays at or above half its height.
pub fn span(rows: &[&[f32]]) -> (usize, usize) {
    let frames = rows.first().map_or(0, |row| row.len());
    let sum: Vec<f32> = (0..frames)
        .map(|t| rows.iter().map(|row| row[t]).sum())
        .collect();
    if sum.is_empty() {
        return (0, 0);
    }
    let top = peak(&sum);
    let half = sum[top] / 2.0;
    let start = (0..top).rev().find(|&t| sum[t] < half).map_or(0, |t| t + 1);
    let end = (top..frames).find(|&t| sum[t] < half).unwrap_or(frames);
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stop_at_half_height() {
        assert_eq!(span(&[&[0.0, 0.1, 0.6, 1.0, 0.5, 0.4]]), (2, 5));
        assert_eq!(span(&[&[1.0, 1.0, 1.0]]), (0, 3));
        assert_eq!(span(&[&[0.0, 0.0, 1.0], &[1.0, 0.0, 0.0]]), (0, 1));
        assert_eq!(span(&[]), (0, 0));
    }

    #[test]
    fn heads_are_averaged() {
        assert_eq!(averaged(&[0.0, 1.0, 1.0, 0.0], 1, 2), vec![0.5, 0.5]);
    }
}
