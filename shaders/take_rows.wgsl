// y[n, r] = x[n, first + r]. One invocation for each element of y.

struct Params {
    count: u32,   // N·R'·C: elements of y
    inner_x: u32, // R·C
    inner_y: u32, // R'·C
    begin: u32,   // first·C
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (N, R, C)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (N, R', C)

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
    y[i] = x[i / params.inner_y * params.inner_x + params.begin + i % params.inner_y];
}
