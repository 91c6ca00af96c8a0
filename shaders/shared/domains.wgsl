// Who draws random numbers: the last word of a Philox counter. The registry is
// `Domain` in src/engine/random.rs; a test compares the numbers.

const NOISE_DOMAIN: u32 = 0u;
const MASKS_DOMAIN: u32 = 1u;
const TOKENS_DOMAIN: u32 = 7u;
