// Philox 4x32-10: four words for every counter and key. What it is and where it
// comes from: src/engine/philox.rs.

// Upper half of the 64-bit product: from halves of 16 bits, whose products
// and carries fit into 32.
fn multiply_high(a: u32, b: u32) -> u32 {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let low = a_low * b_low;
    let middle = a_high * b_low + (low >> 16u);
    let other = a_low * b_high + (middle & 0xffffu);
    return a_high * b_high + (middle >> 16u) + (other >> 16u);
}

// The last word of the counter is one of domains.wgsl.
fn philox4x32(counter: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var x = counter;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let a = vec2(multiply_high(0xd2511f53u, x.x), 0xd2511f53u * x.x);
        let b = vec2(multiply_high(0xcd9e8d57u, x.z), 0xcd9e8d57u * x.z);
        x = vec4(b.x ^ x.y ^ key.x, b.y, a.x ^ x.w ^ key.y, a.y);
        key += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return x;
}
