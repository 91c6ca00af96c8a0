// y[n] = the rows of top[n], then those of bottom[n]; a lead axis of fewer rows
// is repeated. One invocation for each element of y.

struct Params {
    count: u32,        // N·(R + R')·C: elements of y
    inner_top: u32,    // R·C
    inner_bottom: u32, // R'·C
    lead_top: u32,     // A
    lead_bottom: u32,  // B
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> top: array<f32>; // top: (A, R, C)
@group(0) @binding(2) var<storage, read> bottom: array<f32>; // bottom: (B, R', C)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // y: (N, R + R', C)

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
    let inner = params.inner_top + params.inner_bottom;
    let n = i / inner;
    let at = i % inner;
    if at < params.inner_top {
        y[i] = top[n % params.lead_top * params.inner_top + at];
    } else {
        y[i] = bottom[n % params.lead_bottom * params.inner_bottom + at - params.inner_top];
    }
}
