//! Maps as they are compared with each other: which values count, and over
//! what.

use super::NamedMap;
use super::explanation::MapInfo;
use crate::align::{Pooling, TokenMap};
use crate::{Error, Result};

/// A map's values as they are compared: plain gradients count by their
/// absolute value, since their sign says only in which direction a feature would have
/// to move; attributions keep their sign.
pub fn compared_values(info: &MapInfo, map: &NamedMap) -> Vec<f64> {
    let values = map.data.iter().map(|&x| f64::from(x));
    match info.method.as_str() {
        "gradient" | "smoothgrad" => values.map(f64::abs).collect(),
        _ => values.collect(),
    }
}

/// A map over the encoder's frames: (T, F) pooled, heads averaged.
///
/// # Errors
/// If it has no tokens by frames.
pub fn pooled_map(info: &MapInfo, map: &NamedMap, frames: usize, by: Pooling) -> Result<TokenMap> {
    let values = compared_values(info, map);
    let wrong = || Error::Model(format!("{} is no map of tokens by frames", map.name));
    match *map.shape.as_slice() {
        [_, _, count, frames] => {
            let heads = values.chunks(count * frames);
            let heads: Vec<TokenMap> = heads
                .map(|head| TokenMap::new(head.to_vec(), frames))
                .collect();
            TokenMap::average(heads.iter()).ok_or_else(wrong)
        }
        [_, rows, bins] => Ok(TokenMap::pooled(&values, [rows, bins], frames, by)),
        [_, _] => Ok(TokenMap::new(values, frames)),
        _ => Err(wrong()),
    }
}
