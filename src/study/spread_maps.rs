//! The maps of an explanation over the features that they speak of, as the
//! measures of faithfulness need them.

use std::collections::BTreeMap;

use super::map_name::MapName;
use super::record::{Comparison, compared_tokens};
use crate::Result;
use crate::align::TokenMap;
use crate::engine::random::{Domain, Key};
use crate::explain::{Map, Maps, Method, Site};
use crate::ops::pooled_frames;

/// A row (T, F) for each token compared.
pub(super) type SpreadMap = Vec<Vec<f64>>;

/// By name every map of the explanation at the input and at the encoder's
/// output, SPES at the input pooled as well, averaged attentions, and one of
/// random numbers, the same for all tokens.
///
/// # Errors
/// If there is no token to compare.
pub(super) fn spread_maps(
    explained: &Maps,
    by: &Comparison,
    seed: u64,
) -> Result<BTreeMap<MapName, SpreadMap>> {
    let [frames, bins] = explained.features_shape();
    let tokens = compared_tokens(explained, by)?;
    let wide =
        |map: &TokenMap| -> SpreadMap { map.rows().map(|row| spread(row, frames, bins)).collect() };
    let pooled = |map: Map| -> Result<TokenMap> { Ok(map.pooled(by.pooling)?.select(&tokens)) };
    let mut all = BTreeMap::new();
    for map in explained.iter().filter(|map| map.site() != Site::Tokens) {
        let rows = match *map.shape() {
            [_, _, _] => {
                if map.method() == Method::Spes {
                    let name = MapName::Pooled(map.method(), map.site());
                    all.insert(name, wide(&pooled(map)?));
                }
                let values = map.compared_values();
                let whole = TokenMap::new(values, frames * bins).select(&tokens);
                whole.rows().map(<[f64]>::to_vec).collect()
            }
            _ => wide(&pooled(map)?),
        };
        all.insert(MapName::of(&map), rows);
    }
    let key = Key::from(seed);
    let blocks = 0..(frames * bins).div_ceil(4) as u32;
    let words = blocks.flat_map(|block| key.block(Domain::RandomMap, [block, 0, 0]));
    let random: Vec<f64> = words.take(frames * bins).map(f64::from).collect();
    all.insert(MapName::Random, vec![random; tokens.len()]);
    Ok(all)
}

/// A row over encoder frames, spread over the features (T, F) that they cover.
fn spread(row: &[f64], frames: usize, bins: usize) -> Vec<f64> {
    let pooled = row.len();
    let mut wide = vec![f64::NEG_INFINITY; frames];
    for (j, &value) in row.iter().enumerate() {
        for slot in &mut wide[pooled_frames(j, frames, pooled)] {
            *slot = slot.max(value);
        }
    }
    wide.iter()
        .flat_map(|&x| std::iter::repeat_n(x, bins))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_over_frames_are_spread_over_features() {
        // Five frames, two encoder frames: 0..3 and 2..5 share frame 2.
        let wide = spread(&[1.0, 2.0], 5, 2);
        assert_eq!(wide, [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
    }
}
