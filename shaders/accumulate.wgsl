// sum[k] += sum over b of weights[first + b] * x[k * B + b], where first is the
// scalar first_variant; at 0 the sum starts anew. Variants past the last weight
// are left out. One invocation for each element of sum.

struct Params {
    count: u32,    // K·R·C: elements of sum
    inner: u32,    // R·C: elements in a lead row
    batch: u32,    // B: variants in x
    variants: u32, // weights in all
}

struct Scalars {
    first_variant: u32, // first of this run's variants
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (K·B, R, C)
@group(0) @binding(2) var<storage, read> weights: array<f32>; // weights: (variants)
@group(0) @binding(3) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(4) var<storage, read_write> sum: array<f32>; // sum: (K, R, C)

const WORKGROUP: u32 = 64u;

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
    let first = scalars.first_variant;
    var total = 0.0;
    if first > 0u {
        total = sum[i];
    }
    let known = min(params.batch, params.variants - min(first, params.variants));
    var at = (i / params.inner * params.batch) * params.inner + i % params.inner;
    for (var b = 0u; b < known; b++) {
        total += weights[first + b] * x[at];
        at += params.inner;
    }
    sum[i] = total;
}
