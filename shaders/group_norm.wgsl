// Norm over all rows and columns of a lead row, and its reverse. With
// s = 1 / sqrt(variance + eps), n = (x - mean) * s and g = dy * weight:
//   y = n * weight + bias
//   dx = s * (g - mean(g) - n * mean(g * n))
// First one workgroup for each row sums it, then one for each lead row puts its rows
// together, then one invocation makes each element.

// #import lanes

struct Params {
    count: u32,  // elements of the result
    lead: u32,   // lead rows of the result
    rows: u32,   // R
    cols: u32,   // C
    lead_x: u32, // lead rows of x; lead row n belongs to n % lead_x
    eps: f32,    // added to the variance, in its unit
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (B, R, C)
@group(0) @binding(2) var<storage, read> weight: array<f32>; // weight: (C)
@group(0) @binding(3) var<storage, read> bias: array<f32>; // bias: (C)
@group(0) @binding(4) var<storage, read> dy: array<f32>; // dy: (K·B, R, C)
@group(0) @binding(5) var<storage, read> partial: array<f32>; // partial: (N, R, 2), of each row
@group(0) @binding(6) var<storage, read_write> partial_out: array<f32>; // partial_out: (N, R, 2)
@group(0) @binding(7) var<storage, read> statistics: array<f32>; // statistics: (B, 2), mean and s
@group(0) @binding(8) var<storage, read> means: array<f32>; // means: (K·B, 2), of g and g * (x - mean)
@group(0) @binding(9) var<storage, read_write> whole_out: array<f32>; // whole_out: (N, 2), statistics or means
@group(0) @binding(10) var<storage, read_write> y: array<f32>; // y: (B, R, C)
@group(0) @binding(11) var<storage, read_write> dx: array<f32>; // dx: (K·B, R, C)

const WORKGROUP: u32 = 64u;
alias Lane = vec2<f32>;

// Mean of each row, and the squares of its elements' distances from it, summed.
@compute @workgroup_size(WORKGROUP)
fn moments_of_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.lead * params.rows {
        return;
    }
    let begin = row * params.cols;
    var sum = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        sum += x[begin + c];
    }
    let mean = workgroup_sum(lane, vec2(sum, 0.0)).x / f32(params.cols);
    var squares = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        let centred = x[begin + c] - mean;
        squares += centred * centred;
    }
    squares = workgroup_sum(lane, vec2(squares, 0.0)).x;
    if lane == 0u {
        partial_out[2u * row] = mean;
        partial_out[2u * row + 1u] = squares;
    }
}

// Mean and s of each lead row: rows are equally long, so the mean is that of their
// means, and their distances from it come to the squares.
@compute @workgroup_size(WORKGROUP)
fn merge_moments(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.x + group.y * groups.x;
    if n >= params.lead {
        return;
    }
    let begin = 2u * n * params.rows;
    var sum = 0.0;
    for (var r = lane; r < params.rows; r += WORKGROUP) {
        sum += partial[begin + 2u * r];
    }
    let mean = workgroup_sum(lane, vec2(sum, 0.0)).x / f32(params.rows);
    var squares = 0.0;
    for (var r = lane; r < params.rows; r += WORKGROUP) {
        let apart = partial[begin + 2u * r] - mean;
        squares += partial[begin + 2u * r + 1u] + f32(params.cols) * apart * apart;
    }
    squares = workgroup_sum(lane, vec2(squares, 0.0)).x;
    let variance = squares / f32(params.rows) / f32(params.cols);
    if lane == 0u {
        whole_out[2u * n] = mean;
        whole_out[2u * n + 1u] = 1.0 / sqrt(variance + params.eps);
    }
}

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
    let n = i / (params.rows * params.cols);
    let c = i % params.cols;
    y[i] = (x[i] - statistics[2u * n]) * statistics[2u * n + 1u] * weight[c] + bias[c];
}

// Sums over each row of g and g * (x - mean).
@compute @workgroup_size(WORKGROUP)
fn sums_of_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.lead * params.rows {
        return;
    }
    let begin_x = row % (params.lead_x * params.rows) * params.cols;
    let mean = statistics[row / params.rows % params.lead_x * 2u];
    var own = vec2(0.0);
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        let g = dy[row * params.cols + c] * weight[c];
        own += vec2(g, g * (x[begin_x + c] - mean));
    }
    let sums = workgroup_sum(lane, own);
    if lane == 0u {
        partial_out[2u * row] = sums.x;
        partial_out[2u * row + 1u] = sums.y;
    }
}

@compute @workgroup_size(WORKGROUP)
fn merge_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.x + group.y * groups.x;
    if n >= params.lead {
        return;
    }
    let begin = 2u * n * params.rows;
    var own = vec2(0.0);
    for (var r = lane; r < params.rows; r += WORKGROUP) {
        own += vec2(partial[begin + 2u * r], partial[begin + 2u * r + 1u]);
    }
    let sums = workgroup_sum(lane, own) / f32(params.rows) / f32(params.cols);
    if lane == 0u {
        whole_out[2u * n] = sums.x;
        whole_out[2u * n + 1u] = sums.y;
    }
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
    let inner = params.rows * params.cols;
    let n = i / inner;
    let b = n % params.lead_x;
    let s = statistics[2u * b + 1u];
    let centred = x[b * inner + i % inner] - statistics[2u * b];
    let g = dy[i] * weight[i % params.cols];
    dx[i] = s * (g - means[2u * n] - centred * means[2u * n + 1u] * s * s);
}
