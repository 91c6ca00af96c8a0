// Gated linear unit and its reverse: y = scale * a * sigmoid(b), or with b * sigmoid(b)
// if SILU, where a and b are the halves of x's columns. One invocation for each pair of columns.

// #import sigmoid

struct Params {
    count: u32,  // N·R·C: elements of y, or of dy
    cols: u32,   // C
    rows_x: u32, // rows of x in all; row r of y belongs to row r % rows_x
    scale: f32,  // factor, no unit
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (B, R, 2·C)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (B, R, C)
@group(0) @binding(3) var<storage, read> dy: array<f32>; // dy: (K·B, R, C)
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // dx: (K·B, R, 2·C)

// Whether the gate is b * sigmoid(b)
override SILU: bool;

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
    let at = i / params.cols * 2u * params.cols + i % params.cols;
    let b = x[at + params.cols];
    y[i] = params.scale * x[at] * sigmoid(b) * select(1.0, b, SILU);
}

@compute @workgroup_size(WORKGROUP)
fn reverse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i >= params.count {
        return;
    }
    let row = i / params.cols;
    let c = i % params.cols;
    let source = row % params.rows_x * 2u * params.cols + c;
    let to = row * 2u * params.cols + c;
    let a = x[source];
    let b = x[source + params.cols];
    let g = params.scale * dy[i] * sigmoid(b);
    dx[to] = g * select(1.0, b, SILU);
    dx[to + params.cols] = g * a * select(sigmoid(-b), 1.0 + b * sigmoid(-b), SILU);
}
