// Numbers of a weight that is stored as bits: f16, two to a word, where `in_f16`,
// else f32.

// The word that holds number `at`.
fn word_of(at: u32, in_f16: bool) -> u32 {
    return select(at, at / 2u, in_f16);
}

// Number `at`, found in that word.
fn number_in(word: u32, at: u32, in_f16: bool) -> f32 {
    if in_f16 {
        return unpack2x16float(word)[at % 2u];
    }
    return bitcast<f32>(word);
}
