// y[n] = x where mask m = first + n keeps it, else `fill`; first is the scalar
// first_variant. Mask m uses segmentation m % G. Where the scalar masking is
// 0, everything is kept. One invocation for each element of y.
//
// A drawn mask hides segment s if word s % 4 of the Philox 4x32-10 block with
// the counter (s / 4, m, stream, 1) under the seed as key is below `limit`; a
// given one if bit s % 32 of word s / 32 of its row is set.

struct Params {
    count: u32,      // N·R·C: elements of y
    inner: u32,      // R·C: elements of x
    cols: u32,       // C
    groups: u32,     // G: segmentations
    label_cols: u32, // C', C or 1: labels in a row
    fill_inner: u32, // R'·C: elements of fill, R·C or C
    stream: u32,     // number of the place where masks are applied
    seed_low: u32,   // lower half of the seed
    seed_high: u32,  // upper half of the seed
    limit: u32,      // words below it hide
    mask_rows: u32,  // M: given masks, at least 1
    mask_words: u32, // W: words of a given mask
}

struct Scalars {
    first_variant: u32, // first of this run's masks
    masking: u32, // 0 keeps everything
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (1, R, C)
@group(0) @binding(2) var<storage, read> labels: array<u32>; // labels: (G, R, C'), segments
@group(0) @binding(3) var<storage, read> fill: array<f32>; // fill: (1, R', C)
@group(0) @binding(4) var<storage, read> bits: array<u32>; // bits: (1, M, W), if GIVEN
@group(0) @binding(5) var<storage, read> scalars: Scalars; // scalars: (2)
@group(0) @binding(6) var<storage, read_write> y: array<f32>; // y: (N, R, C)

// Whether masks are given; else they are drawn
override GIVEN: bool;

const WORKGROUP: u32 = 64u;
// Keeps masks apart from other random numbers of the same seed
const MASK_DOMAIN: u32 = 1u;

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

// Whether mask m hides segments 4 · block to 4 · block + 3: a bit for each.
fn hidden_four(m: u32, block: u32) -> u32 {
    if GIVEN {
        let row = min(m, params.mask_rows - 1u) * params.mask_words;
        let word = min(block / 8u, params.mask_words - 1u);
        return (bits[row + word] >> (block % 8u * 4u)) & 15u;
    }
    let counter = vec4(block, m, params.stream, MASK_DOMAIN);
    let words = philox4x32(counter, vec2(params.seed_low, params.seed_high));
    let below = words < vec4(params.limit);
    let marks = select(vec4(0u), vec4(1u, 2u, 4u, 8u), below);
    return marks.x | marks.y | marks.z | marks.w;
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i >= params.count {
        return;
    }
    let at = i % params.inner;
    if scalars.masking != 0u {
        let m = scalars.first_variant + i / params.inner;
        let row = at / params.cols;
        let col = min(at % params.cols, params.label_cols - 1u);
        let rows = params.inner / params.cols;
        let segment = labels[(m % params.groups * rows + row) * params.label_cols + col];
        if (hidden_four(m, segment / 4u) >> (segment % 4u) & 1u) == 1u {
            y[i] = fill[at % params.fill_inner];
            return;
        }
    }
    y[i] = x[at];
}
