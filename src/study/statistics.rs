//! Correlations and their uncertainty. Whatever is undefined, such as a
//! correlation with a constant, is absent and never a NaN.

use serde::{Deserialize, Serialize};

use crate::engine::random::{Domain, Key};

/// The most that one utterance counts of anything: sums have room for as many
/// utterances.
pub(super) const MOST_COUNT: u64 = u32::MAX as u64;

/// Resampled means behind an interval of the tables.
pub(super) const RESAMPLES: usize = 2_000;

/// As many for values that need the whole corpus each time.
pub(super) const RESAMPLES_OF_CURVES: usize = 400;

/// Seed of the resampling for tables.
pub(super) const SEED: u64 = 0;

/// How two lists of numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Correlation {
    Pearson,
    /// Pearson's of the ranks; equal values share the mean of their ranks.
    Spearman,
    /// Tau-b: concordant less discordant pairs, corrected for ties.
    Kendall,
}

impl Correlation {
    pub const ALL: [Self; 3] = [Self::Pearson, Self::Spearman, Self::Kendall];

    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
            Self::Kendall => "kendall",
        }
    }

    /// The correlation of two lists; absent if one is constant or has fewer
    /// than two values, or if they are not of one length.
    pub fn of(self, x: &[f64], y: &[f64]) -> Option<f64> {
        if x.len() != y.len() {
            return None;
        }
        match self {
            Self::Pearson => pearson(x, y),
            Self::Spearman => pearson(&ranks(x), &ranks(y)),
            Self::Kendall => kendall(x, y),
        }
    }
}

fn is_constant(x: &[f64]) -> bool {
    x.iter().all(|value| *value == x[0])
}

fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() < 2 || is_constant(x) || is_constant(y) {
        return None;
    }
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mean_x, y - mean_y);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    let rho = xy / (xx.sqrt() * yy.sqrt());
    rho.is_finite().then(|| rho.clamp(-1.0, 1.0))
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut ranks = vec![0.0; x.len()];
    let mut begin = 0;
    for equal in order.chunk_by(|&a, &b| x[a] == x[b]) {
        // Ranks begin + 1 to begin + count.
        let shared = begin as f64 + (equal.len() as f64 + 1.0) / 2.0;
        for &index in equal {
            ranks[index] = shared;
        }
        begin += equal.len();
    }
    ranks
}

/// Pairs within groups of equal neighbours.
fn tied_pairs<T: PartialEq>(sorted: &[T]) -> f64 {
    let groups = sorted.chunk_by(|a, b| a == b);
    groups.map(|group| pairs(group.len())).sum()
}

fn pairs(n: usize) -> f64 {
    n as f64 * (n as f64 - 1.0) / 2.0
}

/// Tau-b by Knight's method: sorted by x, the discordant pairs are the
/// exchanges that sorting by y takes. n log n.
fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() < 2 || is_constant(x) || is_constant(y) {
        return None;
    }
    let mut both: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    both.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let tied_x = tied_pairs(&both.iter().map(|pair| pair.0).collect::<Vec<_>>());
    let tied_both = tied_pairs(&both);
    let mut sorted: Vec<f64> = both.iter().map(|pair| pair.1).collect();
    let exchanges = merge_sort(&mut sorted);
    let tied_y = tied_pairs(&sorted);
    let all = pairs(x.len());
    let difference = all - tied_x - tied_y + tied_both - 2.0 * exchanges;
    let tau = difference / ((all - tied_x).sqrt() * (all - tied_y).sqrt());
    tau.is_finite().then(|| tau.clamp(-1.0, 1.0))
}

/// Sorts and returns how many pairs stood in the wrong order.
fn merge_sort(x: &mut [f64]) -> f64 {
    if x.len() < 2 {
        return 0.0;
    }
    let middle = x.len() / 2;
    let mut exchanges = merge_sort(&mut x[..middle]) + merge_sort(&mut x[middle..]);
    let (left, right) = (x[..middle].to_vec(), x[middle..].to_vec());
    let (mut l, mut r) = (0, 0);
    for slot in x {
        if r == right.len() || (l < left.len() && left[l] <= right[r]) {
            *slot = left[l];
            l += 1;
        } else {
            *slot = right[r];
            r += 1;
            exchanges += (left.len() - l) as f64;
        }
    }
    exchanges
}

/// Spearman's correction of a correlation for the unreliability of one of
/// its sides: what it would be if that were measured without error. Absent
/// where the reliability is not positive.
pub fn disattenuated(rho: f64, reliability: f64) -> Option<f64> {
    (reliability > 0.0).then(|| rho / reliability.sqrt())
}

/// Mean of the values that are defined.
pub fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let defined: Vec<f64> = values.into_iter().flatten().collect();
    (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
}

/// A mean over utterances with the interval that resampling them gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub mean: f64,
    /// 2.5th and 97.5th percentile of the means of resampled utterances.
    pub low: f64,
    pub high: f64,
    /// Utterances for which the value is defined.
    #[serde(rename = "utterances")]
    pub count: usize,
}

/// Mean and percentile bootstrap interval of the defined values; absent where
/// none is defined.
pub fn bootstrap(values: &[Option<f64>], resamples: usize, seed: u64) -> Option<Interval> {
    let defined: Vec<f64> = values.iter().copied().flatten().collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    bootstrap_of(&defined, resamples, seed, &mean)
}

/// A statistic of some items and its percentile bootstrap interval; the draws
/// depend on the seed and the number of items alone.
/// Absent where there are no items or resamples.
pub fn bootstrap_of<T: Copy>(
    items: &[T],
    resamples: usize,
    seed: u64,
    statistic: &dyn Fn(&[T]) -> f64,
) -> Option<Interval> {
    if items.is_empty() || resamples == 0 {
        return None;
    }
    let count = items.len();
    let key = Key::from(seed);
    let mut means: Vec<f64> = (0..resamples)
        .map(|resample| {
            let blocks = (0..count.div_ceil(4)).flat_map(|block| {
                key.block(Domain::Resampling, [block as u32, resample as u32, 0])
            });
            // The upper half of word · count: uniform to 2^-32 · count.
            let draw = |word: u32| ((u64::from(word) * count as u64) >> 32) as usize;
            let drawn: Vec<T> = blocks.take(count).map(|word| items[draw(word)]).collect();
            statistic(&drawn)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval {
        mean: statistic(items),
        low: percentile(&means, 0.025),
        high: percentile(&means, 0.975),
        count,
    })
}

/// The value below which a share of the sorted values lies, one at least,
/// between neighbours by their distance.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() as f64 - 1.0);
    let (below, part) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::philox::philox4x32;

    #[test]
    fn the_same_under_affine_maps_and_undefined_on_constants() {
        let x = [0.3, -1.0, 2.5, 2.5, 0.0, 7.0];
        let y = [1.0, 4.0, -2.0, 0.5, 0.5, 3.0];
        let moved: Vec<f64> = y.iter().map(|y| 3.0 * y - 11.0).collect();
        let turned: Vec<f64> = y.iter().map(|y| -y).collect();
        for kind in Correlation::ALL {
            let rho = kind.of(&x, &y).unwrap();
            assert!((kind.of(&x, &moved).unwrap() - rho).abs() <= 1e-14);
            assert!((kind.of(&x, &turned).unwrap() + rho).abs() <= 1e-14);
            assert!((kind.of(&y, &x).unwrap() - rho).abs() <= 1e-14);
            assert_eq!(kind.of(&x, &[2.0; 6]), None);
            assert_eq!(kind.of(&[0.1; 6], &y), None);
            assert_eq!(kind.of(&[1.0], &[1.0]), None);
            assert!((kind.of(&x, &x).unwrap() - 1.0).abs() <= 1e-15);
        }
    }

    #[test]
    fn kendall_counts_pairs() {
        let x: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 11)).collect();
        let y: Vec<f64> = (0..40).map(|i| f64::from(i * 5 % 13)).collect();
        let (mut sum, mut tied_x, mut tied_y) = (0.0, 0.0, 0.0);
        for i in 0..40 {
            for j in 0..i {
                let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
                let (dx, dy) = (sign(x[i] - x[j]), sign(y[i] - y[j]));
                sum += dx * dy;
                tied_x += f64::from(u8::from(dx == 0.0));
                tied_y += f64::from(u8::from(dy == 0.0));
            }
        }
        let all = pairs(40);
        let expected = sum / ((all - tied_x) * (all - tied_y)).sqrt();
        assert!((kendall(&x, &y).unwrap() - expected).abs() <= 1e-14);
    }

    #[test]
    fn correction_for_reliability() {
        assert_eq!(disattenuated(0.4, 0.64), Some(0.5));
        assert_eq!(disattenuated(0.4, 0.0), None);
        assert_eq!(disattenuated(0.4, -0.2), None);
    }

    /// The interval of a mean of n normal-like values is about 1.96 s/sqrt(n)
    /// to both sides.
    #[test]
    fn bootstrap_intervals_have_the_width_of_the_standard_error() {
        let words = (0..50).flat_map(|block| philox4x32([block, 0, 0, 9], [4, 2]));
        let values: Vec<Option<f64>> = words
            .map(|word| Some(f64::from(word) / 4_294_967_296.0))
            .collect();
        let n = values.len() as f64;
        let interval = bootstrap(&values, 4000, 1).unwrap();
        let m = mean(values.iter().copied()).unwrap();
        let variance: f64 = values
            .iter()
            .flatten()
            .map(|x| (x - m).powi(2))
            .sum::<f64>()
            / n;
        let half = 1.96 * (variance / n).sqrt();
        assert_eq!((interval.mean, interval.count), (m, 200));
        // Percentiles of 4,000 means are known to a few percent.
        for side in [m - interval.low, interval.high - m] {
            assert!((side / half - 1.0).abs() <= 0.12, "{side} {half}");
        }
        assert_eq!(bootstrap(&values, 4000, 1), Some(interval));
        assert_ne!(bootstrap(&values, 4000, 2), Some(interval));
        assert_eq!(bootstrap(&[None, None], 100, 1), None);
        let one = bootstrap(&[None, Some(0.5)], 100, 1).unwrap();
        assert_eq!((one.mean, one.low, one.high, one.count), (0.5, 0.5, 0.5, 1));
    }
}
