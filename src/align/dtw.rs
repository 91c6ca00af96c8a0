//! Dynamic time warping: the way from the first token and frame to the last
//! along which a map is largest. Exactly as OpenAI's Whisper and transformers
//! do it, sums in f32 and choices between equals included.

use super::TokenMap;

/// The step that led to a place.
#[derive(Clone, Copy, PartialEq)]
enum Move {
    /// The next token at the next frame.
    Both,
    /// The next token at the same frame.
    Token,
    /// The same token at the next frame.
    Frame,
}

/// The best path through a map (K, T'): pairs of token and frame from (0, 0)
/// to the last of both, each at most one token and one frame on. The cost of
/// a place is minus its value. Empty if there are no tokens.
pub fn path(map: &TokenMap) -> Vec<(usize, usize)> {
    let (tokens, frames) = (map.tokens(), map.frames());
    if tokens == 0 {
        return Vec::new();
    }
    let values = map.values();
    // Costs up to one frame, by token; the first entry stands before them.
    let mut before = vec![f32::INFINITY; tokens + 1];
    before[0] = 0.0;
    let mut here = before.clone();
    let mut moves = vec![Move::Both; tokens * frames];
    for j in 0..frames {
        here[0] = f32::INFINITY;
        for i in 0..tokens {
            let (both, token, frame) = (before[i], here[i], before[i + 1]);
            let (cost, step) = if both < token && both < frame {
                (both, Move::Both)
            } else if token < both && token < frame {
                (token, Move::Token)
            } else {
                (frame, Move::Frame)
            };
            let at = i * frames + j;
            here[i + 1] = (f64::from(cost) - values[at]) as f32;
            moves[at] = step;
        }
        std::mem::swap(&mut before, &mut here);
    }
    let (mut i, mut j) = (tokens - 1, frames - 1);
    let mut path = vec![(i, j)];
    while i > 0 || j > 0 {
        // At the first token or frame there is one way back only.
        match moves[i * frames + j] {
            _ if i == 0 => j -= 1,
            _ if j == 0 => i -= 1,
            Move::Both => (i, j) = (i - 1, j - 1),
            Move::Token => i -= 1,
            Move::Frame => j -= 1,
        }
        path.push((i, j));
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::philox::philox4x32;

    fn uniform(stream: u32, count: usize) -> Vec<f64> {
        let blocks =
            (0..count.div_ceil(4) as u32).flat_map(|b| philox4x32([b, stream, 0, 0], [7; 2]));
        let words = blocks.take(count);
        words
            .map(|word| f64::from(word) / 4_294_967_296.0)
            .collect()
    }

    fn sum(map: &TokenMap, path: &[(usize, usize)]) -> f64 {
        path.iter()
            .map(|&(i, j)| map.values()[i * map.frames() + j])
            .sum()
    }

    /// The largest sum over all paths, by trying them all.
    fn best(map: &TokenMap, i: usize, j: usize) -> f64 {
        let here = map.values()[i * map.frames() + j];
        let mut most = f64::NEG_INFINITY;
        if i > 0 {
            most = most.max(best(map, i - 1, j));
        }
        if j > 0 {
            most = most.max(best(map, i, j - 1));
        }
        if i > 0 && j > 0 {
            most = most.max(best(map, i - 1, j - 1));
        }
        here + if i + j == 0 { 0.0 } else { most }
    }

    #[test]
    fn no_path_is_better() {
        for (n, (tokens, frames)) in [(1, 1), (1, 5), (5, 1), (2, 2), (3, 7), (7, 3), (5, 6)]
            .into_iter()
            .enumerate()
        {
            // Signed, as normalised maps are: positive values invite detours.
            let values = uniform(n as u32, tokens * frames);
            let map = TokenMap::new(values.iter().map(|x| 2.0 * x - 1.0).collect(), frames);
            let path = path(&map);
            assert_eq!(path[0], (0, 0));
            assert_eq!(*path.last().unwrap(), (tokens - 1, frames - 1));
            for pair in path.windows(2) {
                let (di, dj) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
                assert!(di <= 1 && dj <= 1 && di + dj >= 1, "{path:?}");
            }
            let wanted = best(&map, tokens - 1, frames - 1);
            // Up to 12 sums in f32 of values below 12.
            let error = (sum(&map, &path) - wanted).abs();
            assert!(error <= 12.0 * 12.0 * f64::from(f32::EPSILON), "{error}");
        }
        assert_eq!(path(&TokenMap::new(Vec::new(), 3)), []);
    }

    #[test]
    fn equals_go_on_in_time() {
        // By transformers: with nothing to choose by, time passes at the
        // last token.
        let path = path(&TokenMap::new(vec![0.0; 6], 3));
        assert_eq!(path, [(0, 0), (1, 0), (1, 1), (1, 2)]);
    }
}
