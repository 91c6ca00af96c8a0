// sums[half · G + g, s, k] += score of token k, for every mask m of segmentation
// g = m % G that hides segment s; half = (m / G) % 2. Column K counts the
// masks. Masks count from the scalar first_variant to mask_end; where the
// first is 0, the sums start anew. A negative score counts as 0 here, and
// `count_clamped` counts it. How masks are drawn: masks.wgsl.
//
// `forward` takes one workgroup for each segmentation and SEGMENTS segments,
// which draws every mask once; `count_clamped` one invocation for each token.

// #import masks

struct Params {
    lead: u32,       // N: masks that a run scores
    tokens: u32,     // K
    groups: u32,     // G: segmentations that masks take turns with
    segments: u32,   // S: segments of the largest segmentation
    stream: u32,     // number of the place where masks are applied
    seed_low: u32,   // lower half of the seed
    seed_high: u32,  // upper half of the seed
    limit: u32,      // words below it hide
    mask_rows: u32,  // M: given masks, at least 1
    mask_words: u32, // W: words of a given mask
}

struct Scalars {
    first_variant: u32, // first of this run's masks
    mask_end: u32, // first mask that does not count
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>; // scores: (N, K, 1)
@group(0) @binding(2) var<storage, read> bits: array<u32>; // bits: (1, M, W), if GIVEN
@group(0) @binding(3) var<storage, read> scalars: Scalars; // scalars: (2)
@group(0) @binding(4) var<storage, read_write> sums: array<f32>; // sums: (2·G, S, K + 1)
@group(0) @binding(5) var<storage, read_write> clamped: array<f32>; // clamped: (1, K, 1)

// Whether masks are given; else they are drawn
override GIVEN: bool;

const WORKGROUP: u32 = 64u;
// Segments of a workgroup, and their blocks of four
const SEGMENTS: u32 = 64u;
const BLOCKS: u32 = 16u;
// Masks that are drawn at a time
const MASKS: u32 = 64u;

// Bits of each mask and block
var<workgroup> hidden: array<u32, MASKS * BLOCKS>;

// How many of this run's masks count.
fn count_masks() -> u32 {
    let first = scalars.first_variant;
    return min(max(scalars.mask_end, first) - first, params.lead);
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles = (params.segments + SEGMENTS - 1u) / SEGMENTS;
    let tile = group.x + group.y * groups.x;
    if tile >= params.groups * tiles {
        return;
    }
    let g = tile / tiles;
    let first_segment = tile % tiles * SEGMENTS;
    let cols = params.tokens + 1u;
    let elements = min(SEGMENTS, params.segments - first_segment) * cols;
    let blocks = (params.segments + 3u) / 4u - first_segment / 4u;
    let first = scalars.first_variant;
    let masks = count_masks();
    // The masks of this segmentation: every G-th, from the first of them on.
    let skipped = (g + params.groups - first % params.groups) % params.groups;
    let own = (max(masks, skipped) - skipped + params.groups - 1u) / params.groups;
    // Once even without masks: the sums may have to start anew.
    for (var begin = 0u; begin == 0u || begin < own; begin += MASKS) {
        let count = min(MASKS, own - begin);
        workgroupBarrier();
        for (var i = lane; i < count * BLOCKS; i += WORKGROUP) {
            let m = first + skipped + (begin + i / BLOCKS) * params.groups;
            if i % BLOCKS < blocks {
                hidden[i] = hidden_four(m, first_segment / 4u + i % BLOCKS);
            }
        }
        workgroupBarrier();
        for (var e = lane; e < elements; e += WORKGROUP) {
            let s = e / cols;
            let k = e % cols;
            var sum = vec2(0.0);
            for (var i = 0u; i < count; i++) {
                if ((hidden[i * BLOCKS + s / 4u] >> (s % 4u)) & 1u) == 0u {
                    continue;
                }
                let n = skipped + (begin + i) * params.groups;
                var score = 1.0;
                if k < params.tokens {
                    score = max(scores[n * params.tokens + k], 0.0);
                }
                if (first + n) / params.groups % 2u == 0u {
                    sum.x += score;
                } else {
                    sum.y += score;
                }
            }
            let at = (g * params.segments + first_segment) * cols + e;
            let other = at + params.groups * params.segments * cols;
            if first > 0u || begin > 0u {
                sum += vec2(sums[at], sums[other]);
            }
            sums[at] = sum.x;
            sums[other] = sum.y;
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn count_clamped(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let k = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if k >= params.tokens {
        return;
    }
    let masks = count_masks();
    var count = 0u;
    for (var n = 0u; n < masks; n++) {
        count += u32(scores[n * params.tokens + k] < 0.0);
    }
    var earlier = 0.0;
    if scalars.first_variant > 0u {
        earlier = clamped[k];
    }
    clamped[k] = earlier + f32(count);
}
