// y[k] = sum over b of x[k * batch + b]. One invocation for each element of y.

struct Params {
    count: u32, // K·R·C: elements of y
    inner: u32, // R·C: elements in a lead row
    batch: u32, // B: lead rows in a sum
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (K·B, R, C)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (K, R, C)

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
    var at = (i / params.inner * params.batch) * params.inner + i % params.inner;
    var total = 0.0;
    for (var b = 0u; b < params.batch; b++) {
        total += x[at];
        at += params.inner;
    }
    y[i] = total;
}
