// Layer norm over the columns and its reverse. With n = (x - mean) * s,
// s = 1 / sqrt(variance + eps) and g = dy * weight:
//   y = n * weight + bias
//   dx = plus + s * (g - mean(g) - n * mean(g * n))
// One workgroup for each row; mean and variance are computed again in reverse.

// #import lanes

struct Params {
    rows: u32,   // rows of the result in all
    rows_x: u32, // rows of x in all; row r belongs to row r % rows_x
    cols: u32,   // C
    eps: f32,    // added to the variance, in its unit
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (B, R, C)
@group(0) @binding(2) var<storage, read> weight: array<f32>; // weight: (C)
@group(0) @binding(3) var<storage, read> bias: array<f32>; // bias: (C)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (B, R, C)
@group(0) @binding(5) var<storage, read> dy: array<f32>; // dy: (K·B, R, C)
@group(0) @binding(6) var<storage, read> plus: array<f32>; // plus: (K·B, R, C), if there is any
@group(0) @binding(7) var<storage, read_write> dx: array<f32>; // dx: (K·B, R, C)

// Whether `plus` is added
override HAS_PLUS: bool = false;

const WORKGROUP: u32 = 64u;
alias Lane = vec3<f32>;

fn mean_of_row(lane: u32, begin: u32) -> f32 {
    var sum = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        sum += x[begin + c];
    }
    return workgroup_sum(lane, vec3(sum, 0.0, 0.0)).x / f32(params.cols);
}

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
    let mean = mean_of_row(lane, begin);
    var squares = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        let centred = x[begin + c] - mean;
        squares += centred * centred;
    }
    let variance = workgroup_sum(lane, vec3(squares, 0.0, 0.0)).x / f32(params.cols);
    let s = 1.0 / sqrt(variance + params.eps);
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        y[begin + c] = (x[begin + c] - mean) * s * weight[c] + bias[c];
    }
}

@compute @workgroup_size(WORKGROUP)
fn reverse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let begin = row * params.cols;
    let begin_x = row % params.rows_x * params.cols;
    let count = f32(params.cols);
    let mean = mean_of_row(lane, begin_x);
    // Sums of centred², g and g · centred.
    var own = vec3(0.0);
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        let centred = x[begin_x + c] - mean;
        let g = dy[begin + c] * weight[c];
        own += vec3(centred * centred, g, g * centred);
    }
    let sums = workgroup_sum(lane, own);
    let s = 1.0 / sqrt(sums.x / count + params.eps);
    let g_mean = sums.y / count;
    let slope = sums.z * s * s / count;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        let g = dy[begin + c] * weight[c];
        var d = s * (g - g_mean - (x[begin_x + c] - mean) * slope);
        if HAS_PLUS {
            d += plus[begin + c];
        }
        dx[begin + c] = d;
    }
}
