// y[b] = x + spread * z, with z normal and different for every variant.
//
// z of element e of variant v comes from word e % 4 of the Philox 4x32-10 block
// with the counter (e / 4, v, stream, NOISE_DOMAIN) under the seed as key; variants
// count from the scalar first_variant. One invocation for each block.

// #import domains
// #import philox

struct Params {
    blocks: u32,    // B times the blocks of a variant, ceil(R·C / 4)
    inner: u32,     // R·C: elements of a variant
    stream: u32,    // number of the place where noise is added
    seed_low: u32,  // lower half of the seed
    seed_high: u32, // upper half of the seed
}

struct Scalars {
    first_variant: u32, // first of this run's variants
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (1, R, C)
@group(0) @binding(2) var<storage, read> spread: array<f32>; // spread: (1), in units of x
@group(0) @binding(3) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (B, R, C)

const WORKGROUP: u32 = 64u;

// A standard normal number from 32 random bits: the inverse distribution
// function by Wichura's PPND7 (Applied Statistics algorithm AS 241, 1988).
fn normal_number(bits: u32) -> f32 {
    let p = (f32(bits >> 9u) + 0.5) * (1.0 / 8388608.0);
    let q = p - 0.5;
    if abs(q) <= 0.425 {
        let r = 0.180625 - q * q;
        let numerator = ((59.109375 * r + 159.29113) * r + 50.43427) * r + 3.3871327;
        let denominator = ((67.18756 * r + 78.757757) * r + 17.895170) * r + 1.0;
        return q * numerator / denominator;
    }
    var r = sqrt(-log(select(1.0 - p, p, q < 0.0)));
    var z = 0.0;
    if r <= 5.0 {
        r -= 1.6;
        let numerator = ((0.17023821 * r + 1.3067284) * r + 2.7568154) * r + 1.4234372;
        z = numerator / ((0.12021133 * r + 0.73700160) * r + 1.0);
    } else {
        r -= 5.0;
        let numerator = ((0.017337203 * r + 0.42868295) * r + 3.0812263) * r + 6.6579051;
        z = numerator / ((0.012258202 * r + 0.24197895) * r + 1.0);
    }
    return select(z, -z, q < 0.0);
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i >= params.blocks {
        return;
    }
    let blocks_each = (params.inner + 3u) / 4u;
    let n = i / blocks_each;
    let block = i % blocks_each;
    let counter = vec4(block, scalars.first_variant + n, params.stream, NOISE_DOMAIN);
    var words = philox4x32(counter, vec2(params.seed_low, params.seed_high));
    let begin = block * 4u;
    let count = min(4u, params.inner - begin);
    for (var e = 0u; e < count; e++) {
        y[n * params.inner + begin + e] = x[begin + e] + spread[0] * normal_number(words[e]);
    }
}
