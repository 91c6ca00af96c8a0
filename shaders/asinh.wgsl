// y = asinh(factor · x), and its reverse. One invocation for each element.

struct Params {
    count: u32,   // elements of the result
    count_x: u32, // elements of x
    factor: f32,  // no unit
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (B, R, C)
@group(0) @binding(2) var<storage, read> dy: array<f32>; // dy: (K·B, R, C)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // y: (B, R, C)
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // dx: (K·B, R, C)

const WORKGROUP: u32 = 64u;

// The language's own asinh is the logarithm alone, which loses the digits of small
// numbers; these have their series.
const SMALL: f32 = 0.25;

fn asinh_of(v: f32) -> f32 {
    let size = abs(v);
    let s = v * v;
    let series = 1.0 + s * (-0.16666667 + s * (0.075 + s * (-0.044642857 + s * 0.030381944)));
    let large = sign(v) * log(size + sqrt(s + 1.0));
    return select(large, v * series, size < SMALL);
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i < params.count {
        y[i] = asinh_of(params.factor * x[i]);
    }
}

@compute @workgroup_size(WORKGROUP)
fn reverse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i < params.count {
        let v = params.factor * x[i % params.count_x];
        dx[i] = dy[i] * params.factor / sqrt(v * v + 1.0);
    }
}
