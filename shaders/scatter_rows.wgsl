// y[n, positions[token]] = x[n], 0 elsewhere. Lead row n = k·B + b belongs to
// token first_token (a scalar) + k; past the last one the last is repeated.

struct Params {
    count: u32,  // K·B·I·C: elements of y
    rows: u32,   // I: rows of a matrix of y
    cols: u32,   // C
    batch: u32,  // B
    tokens: u32, // tokens in all
}

struct Scalars {
    first_token: u32, // first of this run's tokens
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (K·B, 1, C)
@group(0) @binding(2) var<storage, read> positions: array<u32>; // positions: (tokens), below I
@group(0) @binding(3) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (K·B, I, C)

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
    let row = i / params.cols;
    let n = row / params.rows;
    let token = min(scalars.first_token + n / params.batch, params.tokens - 1u);
    var value = 0.0;
    if positions[token] == row % params.rows {
        value = x[n * params.cols + i % params.cols];
    }
    y[i] = value;
}
