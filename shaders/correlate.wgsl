// y[k] = (Pearson's correlation of a[k] and b[k] over positions, 1), or (0, 0)
// where it is undefined: one of them is constant, or there are fewer than
// FEWEST positions. One workgroup for each token.

// #import lanes

struct Params {
    tokens: u32, // K
    inner: u32,  // R·C: elements of a token
    cols: u32,   // C
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>; // a: (K, R, C)
@group(0) @binding(2) var<storage, read> b: array<f32>; // b: (K, R, C)
@group(0) @binding(3) var<storage, read> positions: array<u32>; // positions: (K), below R, if CAUSAL
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (K, 1, 2)

// Whether only rows up to positions[k] count
override CAUSAL: bool;

const WORKGROUP: u32 = 256u;
// Two points always lie on a line.
const FEWEST: u32 = 3u;
alias Lane = f32;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let k = group.x + group.y * groups.x;
    if k >= params.tokens {
        return;
    }
    let begin = k * params.inner;
    var count = params.inner;
    if CAUSAL {
        let last = min(positions[k], params.inner / params.cols - 1u);
        count = (last + 1u) * params.cols;
    }
    var own_a = 0.0;
    var own_b = 0.0;
    // Whether anything differs from the first element: rounding would leave a
    // constant a variance.
    var differs_a = 0.0;
    var differs_b = 0.0;
    let first_a = a[begin];
    let first_b = b[begin];
    for (var e = lane; e < count; e += WORKGROUP) {
        let value_a = a[begin + e];
        let value_b = b[begin + e];
        own_a += value_a;
        own_b += value_b;
        differs_a = select(differs_a, 1.0, value_a != first_a);
        differs_b = select(differs_b, 1.0, value_b != first_b);
    }
    let mean_a = workgroup_sum(lane, own_a) / f32(count);
    let mean_b = workgroup_sum(lane, own_b) / f32(count);
    let varies = min(workgroup_max(lane, differs_a), workgroup_max(lane, differs_b));
    var own_aa = 0.0;
    var own_bb = 0.0;
    var own_ab = 0.0;
    for (var e = lane; e < count; e += WORKGROUP) {
        let value_a = a[begin + e] - mean_a;
        let value_b = b[begin + e] - mean_b;
        own_aa += value_a * value_a;
        own_bb += value_b * value_b;
        own_ab += value_a * value_b;
    }
    let aa = workgroup_sum(lane, own_aa);
    let bb = workgroup_sum(lane, own_bb);
    let ab = workgroup_sum(lane, own_ab);
    if lane == 0u {
        let scale = sqrt(aa) * sqrt(bb);
        var result = vec2(0.0);
        if count >= FEWEST && varies > 0.0 && scale > 0.0 {
            result = vec2(clamp(ab / scale, -1.0, 1.0), 1.0);
        }
        y[2u * k] = result.x;
        y[2u * k + 1u] = result.y;
    }
}
