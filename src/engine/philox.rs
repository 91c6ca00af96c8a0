//! Philox 4x32-10: random numbers as a function of a counter and a key.
//!
//! Masks, noise and tokens are drawn from it on every executor, so a seed gives the
//! same ones everywhere and any of them can be drawn alone; who draws what stands
//! in `random`. Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
//! easy as 1, 2, 3", SC 2011. WGSL has no 64-bit integers; it makes the 32 x 32 -> 64
//! bit product from 16-bit halves, which a test here holds against this one.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];

/// Added to the key after each round: the golden ratio and sqrt(3) - 1.
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

const ROUNDS: usize = 10;

/// Four independent uniform 32-bit numbers for every (counter, key). Distinct
/// counters under one key never give the same four.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..ROUNDS {
        let (high0, low0) = product(MULTIPLIERS[0], c0);
        let (high1, low1) = product(MULTIPLIERS[1], c2);
        (c0, c1, c2, c3) = (high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0);
        k0 = k0.wrapping_add(KEY_STEPS[0]);
        k1 = k1.wrapping_add(KEY_STEPS[1]);
    }
    [c0, c1, c2, c3]
}

/// The high and the low half of the 64-bit product.
fn product(a: u32, b: u32) -> (u32, u32) {
    let p = u64::from(a) * u64::from(b);
    ((p >> 32) as u32, p as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors published with the Random123 library (`kat_vectors`).
    #[test]
    fn known_answers() {
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            // The digits of pi.
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    /// The product as a shader must make it, from 16-bit halves in u32
    /// arithmetic that never overflows.
    fn product_from_halves(a: u32, b: u32) -> (u32, u32) {
        let (a1, a0) = (a >> 16, a & 0xffff);
        let (b1, b0) = (b >> 16, b & 0xffff);
        let low = a0 * b0;
        let middle = a1 * b0 + (low >> 16);
        let carry = a0 * b1 + (middle & 0xffff);
        (
            a1 * b1 + (middle >> 16) + (carry >> 16),
            (carry << 16) | (low & 0xffff),
        )
    }

    #[test]
    fn the_product_from_halves_is_the_product() {
        let mut edges = vec![
            0,
            1,
            2,
            0xfffe,
            0xffff,
            0x1_0000,
            0x1_0001,
            u32::MAX - 1,
            u32::MAX,
        ];
        edges.extend(MULTIPLIERS);
        edges.extend((0..200).flat_map(|i| philox4x32([i, 0, 0, 0], [7, 0])));
        for &a in &edges {
            for &b in &edges {
                assert_eq!(product_from_halves(a, b), product(a, b), "{a:#x} x {b:#x}");
            }
        }
    }

    /// Each of the 128 bits is set about half of the time: 4 standard
    /// deviations of a binomial count.
    #[test]
    fn bits_are_balanced() {
        let draws = 10_000;
        let mut set = [0u32; 128];
        for i in 0..draws {
            let words = philox4x32([i, 0, 0, 0], [20, 26]);
            for (bit, count) in set.iter_mut().enumerate() {
                *count += (words[bit / 32] >> (bit % 32)) & 1;
            }
        }
        let bound = 4.0 * (f64::from(draws) / 4.0).sqrt();
        for (bit, &count) in set.iter().enumerate() {
            let off = (f64::from(count) - f64::from(draws) / 2.0).abs();
            assert!(off <= bound, "bit {bit} is set {count} times of {draws}");
        }
    }
}
