//! Who draws which random numbers.
//!
//! Every random number is a word of a block of [`philox4x32`]: a function of a
//! seed and of a counter that says what is drawn. The last word of the counter
//! is the [`Domain`], so that draws for different purposes never meet under one
//! seed; the other three are the domain's own. This file is the one place where
//! a seed becomes a key and where domains get their numbers;
//! `shaders/shared/domains.wgsl` has those that shaders draw in, held to these
//! by a test.

use super::philox::philox4x32;

macro_rules! domains {
    ($($(#[$doc:meta])* $name:ident = $number:literal),* $(,)?) => {
        /// What random numbers are drawn for. A number is never changed or given
        /// away: what is drawn under a seed would change with it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Domain {
            $($(#[$doc])* $name = $number),*
        }

        impl Domain {
            /// Every domain with its name.
            pub const ALL: &[(&str, Domain)] = &[$((stringify!($name), Domain::$name)),*];
        }
    };
}

// Nothing draws under 2 any more; a number is not given again.
domains! {
    /// Noise on the sound (`ops::noise`): block, variant, site. The sound and the
    /// tokens that a benchmark makes up (`bench::subject`) are noise too, variants
    /// 0 and 1 of the first site, though on nothing.
    Noise = 0,
    /// Which segments a mask hides (`ops::mask`): block, mask, what is occluded.
    Masks = 1,
    /// Items of a bootstrap's resamples (`study::statistics`): block, resample, 0.
    Resampling = 3,
    /// The map that others are compared with (`study::spread_maps`): block, 0, 0.
    RandomMap = 4,
    /// Subsets of features to be perturbed (`study::perturbation`): feature,
    /// subset, 0.
    Subsets = 5,
    /// The order of a weight's shuffled values (`engine::weights`): value, weight, 0.
    Shuffling = 6,
    /// Tokens of a text (`ops::candidates`): block, position, window and attempt.
    Tokens = 7,
}

/// A seed as the key of Philox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub low: u32,
    pub high: u32,
}

impl From<u64> for Key {
    fn from(seed: u64) -> Self {
        let [low, high] = halves(seed);
        Self { low, high }
    }
}

impl Key {
    /// The four words of a domain's block.
    pub fn block(self, domain: Domain, [first, second, third]: [u32; 3]) -> [u32; 4] {
        self.words([first, second, third, domain as u32])
    }

    /// The four words of a block of what has a name: a tensor of a random model
    /// (`model::random`). The hash of the name, 64 bits, takes the place of a
    /// domain and of the word before it. The hashes whose upper half is a domain's
    /// number, one in some 2^29, would share that domain's counters.
    pub fn named_block(self, name: u64, block: u64) -> [u32; 4] {
        let ([low, high], [name_low, name_high]) = (halves(block), halves(name));
        self.words([low, high, name_low, name_high])
    }

    fn words(self, counter: [u32; 4]) -> [u32; 4] {
        philox4x32(counter, [self.low, self.high])
    }
}

fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::gpu::shaders::{SHARED, SOURCES};

    #[test]
    fn domains_are_distinct_and_keep_their_numbers() {
        let numbers: BTreeSet<u32> = Domain::ALL.iter().map(|(_, own)| *own as u32).collect();
        assert_eq!(numbers.len(), Domain::ALL.len());
        let found: Vec<_> = Domain::ALL
            .iter()
            .map(|(name, own)| (*name, *own as u32))
            .collect();
        let expected = [
            ("Noise", 0),
            ("Masks", 1),
            ("Resampling", 3),
            ("RandomMap", 4),
            ("Subsets", 5),
            ("Shuffling", 6),
            ("Tokens", 7),
        ];
        assert_eq!(found, expected);
    }

    /// Words as they were before there was a registry.
    #[test]
    fn a_block_is_philox_of_the_seeds_halves_and_the_domain() {
        let key = Key::from(0x0123_4567_89ab_cdef);
        assert_eq!((key.low, key.high), (0x89ab_cdef, 0x0123_4567));
        let words = philox4x32([5, 6, 7, 3], [0x89ab_cdef, 0x0123_4567]);
        assert_eq!(key.block(Domain::Resampling, [5, 6, 7]), words);
        let words = philox4x32([9, 1, 0xdddd_cccc, 0xffff_eeee], [0x89ab_cdef, 0x0123_4567]);
        let named = key.named_block(0xffff_eeee_dddd_cccc, 0x1_0000_0009);
        assert_eq!(named, words);
    }

    /// The declarations `const NAME_DOMAIN: u32 = NUMBERu;` of a text.
    fn declared(text: &str) -> Vec<(String, u32)> {
        let lines = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("const ")?.split_once(": u32 = ")?;
            let name = name.strip_suffix("_DOMAIN")?.to_lowercase();
            Some((name, value.strip_suffix("u;")?.parse().unwrap()))
        });
        lines.collect()
    }

    #[test]
    fn shaders_draw_in_the_same_domains() {
        for (file, text) in SOURCES.iter().chain(SHARED) {
            let found = declared(text);
            assert_eq!(found.is_empty(), *file != "domains", "{file}: {found:?}");
            for (name, number) in found {
                let mut domains = Domain::ALL.iter();
                let domain = domains.find(|(own, _)| own.to_lowercase() == name);
                assert_eq!(domain.map(|(_, own)| *own as u32), Some(number), "{name}");
            }
            // Every other mention stands at the end of a counter: one for each
            // draw.
            let draws =
                text.matches(" philox4x32(").count() - text.matches("fn philox4x32(").count();
            let counters = text.matches("_DOMAIN);").count();
            assert_eq!(draws, counters, "{file}: a counter ends with its domain");
        }
    }
}
