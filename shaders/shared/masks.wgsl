// Which segments a mask hides. A drawn mask m hides segment s if word s % 4 of the
// Philox 4x32-10 block with the counter (s / 4, m, stream, MASKS_DOMAIN) under the
// seed as key is below `limit`; a given one if bit s % 32 of word s / 32 of its row
// is set. Whoever imports this has an override GIVEN, the binding `bits` and the
// members of Params that are used here.

// #import domains
// #import philox

// Whether mask m hides segments 4 · block to 4 · block + 3: a bit for each.
fn hidden_four(m: u32, block: u32) -> u32 {
    if GIVEN {
        let row = min(m, params.mask_rows - 1u) * params.mask_words;
        let word = min(block / 8u, params.mask_words - 1u);
        return (bits[row + word] >> (block % 8u * 4u)) & 15u;
    }
    let counter = vec4(block, m, params.stream, MASKS_DOMAIN);
    let words = philox4x32(counter, vec2(params.seed_low, params.seed_high));
    let below = words < vec4(params.limit);
    let marks = select(vec4(0u), vec4(1u, 2u, 4u, 8u), below);
    return marks.x | marks.y | marks.z | marks.w;
}
