//! How far a map would come out the same with other masks.

/// Reliability after some number of masks: the correlation over positions of
/// the maps from two halves of the masks, corrected to the full number.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub masks: usize,
    /// By token, of the map pooled to the encoder's frames; absent where a
    /// map is constant or has fewer than three frames.
    pub pooled: Vec<Option<f64>>,
    /// By token, of the map at its own resolution.
    pub full: Vec<Option<f64>>,
}

impl Checkpoint {
    /// Median over tokens.
    pub fn pooled_median(&self) -> Option<f64> {
        median(self.pooled.iter().copied())
    }

    /// Median over tokens.
    pub fn full_median(&self) -> Option<f64> {
        median(self.full.iter().copied())
    }
}

/// Middle of the values that are defined.
pub fn median(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let mut defined: Vec<f64> = values.into_iter().flatten().collect();
    defined.sort_by(f64::total_cmp);
    match defined.len() {
        0 => None,
        n if n % 2 == 1 => Some(defined[n / 2]),
        n => Some(0.5 * (defined[n / 2 - 1] + defined[n / 2])),
    }
}

/// Spearman and Brown's correction of a half's reliability to the whole, for
/// correlations: from -1 to 1, where the formula falls without a bound for
/// halves that contradict each other.
pub fn spearman_brown(half: f64) -> f64 {
    (2.0 * half / (1.0 + half).max(f64::EPSILON)).clamp(-1.0, 1.0)
}
