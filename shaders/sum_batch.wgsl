// y[k * lead + l] = sum of x[k * batch + b] over the b with b % lead = l. One
// invocation for each element of y.

struct Params {
    count: u32, // K·L·R·C: elements of y
    inner: u32, // R·C: elements in a lead row
    batch: u32, // B: variants in x, a multiple of L
    lead: u32,  // L: variants in y
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (K·B, R, C)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (K·L, R, C)

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
    let n = i / params.inner;
    let first = n / params.lead * params.batch + n % params.lead;
    var total = 0.0;
    for (var b = 0u; b < params.batch; b += params.lead) {
        total += x[(first + b) * params.inner + i % params.inner];
    }
    y[i] = total;
}
