// y = x - log(sum(exp(x))) over the columns. One workgroup for each row.

// #import lanes

struct Params {
    rows: u32, // N·R
    cols: u32, // V
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (N, R, V)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (N, R, V), natural logarithms

const WORKGROUP: u32 = 256u;
alias Lane = f32;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let begin = row * params.cols;
    var own = -1e30;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        own = max(own, x[begin + c]);
    }
    let most = workgroup_max(lane, own);
    own = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        own += exp(max(x[begin + c] - most, -80.0));
    }
    let log_sum = log(workgroup_sum(lane, own));
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        y[begin + c] = (x[begin + c] - most) - log_sum;
    }
}
