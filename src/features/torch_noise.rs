//! Normally distributed numbers as PyTorch draws them on a processor, for
//! features that have such noise in them: MT19937, 24 bits of each number, and
//! Box and Muller's transform of 8 pairs at a time.

use std::f64::consts::TAU;

/// Numbers that are transformed together.
const BLOCK: usize = 16;

/// The twister's numbers of state, and how far apart those are that it mixes.
const STATE: usize = 624;
const APART: usize = 397;

/// Matsumoto and Nishimura's MT19937.
struct Twister {
    state: [u32; STATE],
    next: usize,
}

impl Twister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; STATE];
        for i in 1..STATE {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: STATE }
    }

    fn twist(&mut self) {
        for i in 0..STATE {
            let upper = self.state[i] & 0x8000_0000;
            let joined = upper | (self.state[(i + 1) % STATE] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + APART) % STATE] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn word(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// From 0 up to, not including, 1.
    fn uniform(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 / 16_777_216.0
    }
}

/// `count` numbers of mean 0 and variance 1, at least 16 of them: what
/// `torch.randn` gives for a generator of that seed.
pub fn normal(seed: u32, count: usize) -> Vec<f32> {
    let mut twister = Twister::new(seed);
    let mut values: Vec<f32> = (0..count).map(|_| twister.uniform()).collect();
    values.chunks_exact_mut(BLOCK).for_each(transform);
    // The last block, where it is not whole, is drawn anew with what is before it.
    if !count.is_multiple_of(BLOCK)
        && let Some(last) = values.last_chunk_mut::<BLOCK>()
    {
        last.fill_with(|| twister.uniform());
        transform(last);
    }
    values
}

/// A block's uniform numbers to normal ones.
fn transform(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let radius = (-2.0 * f64::from(1.0 - *a).ln()).sqrt();
        let angle = TAU * f64::from(*b);
        *a = (radius * angle.cos()) as f32;
        *b = (radius * angle.sin()) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twister_is_the_published_one() {
        // Nishimura and Matsumoto's own output for this seed.
        let mut twister = Twister::new(5489);
        let words: Vec<u32> = (0..10_000).map(|_| twister.word()).collect();
        assert_eq!(words[..3], [3_499_211_612, 581_869_302, 3_890_346_734]);
        assert_eq!(words[9_999], 4_123_659_995);
    }

    #[test]
    fn numbers_are_those_of_pytorch() {
        for (count, at, expected) in EXPECTED {
            let values = normal(count as u32, count);
            assert_eq!(values.len(), count);
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-6;
            assert!(values[at..].iter().zip(&expected).all(close), "{count}");
        }
    }

    /// By torch 2.11: `randn(count, generator)` after `manual_seed(count)`, four
    /// numbers from a place on.
    const EXPECTED: [(usize, usize, [f32; 4]); 4] = [
        (16, 6, [1.290079, -0.82801, 0.489234, 1.167454]),
        (17, 0, [-1.046191, 0.117292, -1.159664, 0.612393]),
        (100, 83, [0.023099, 0.636206, -0.565894, 1.031833]),
        (4321, 4317, [-0.585628, 0.706596, -1.527948, 0.284856]),
    ];
}
