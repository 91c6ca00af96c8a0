// map[h, first + k, j] = P[h, i, j] * (doutput[k, i] * value[j]), the product
// over the columns of head h, where first is the scalar first_token and i the
// position of token first + k; tokens past the map's end are left out, and so
// are keys past its columns. One invocation for each element of this run.

struct Params {
    count: u32,         // K: tokens of this run
    tokens: u32,        // tokens of the map
    queries: u32,       // I: positions of the decoder
    keys: u32,          // W'
    frames: u32,        // T': columns of the map, at most W'
    heads: u32,         // H
    depth: u32,         // E: columns of a head
    value_columns: u32, // columns of the tensor that has the values
    value_offset: u32,  // first column of the values
}

struct Scalars {
    first_token: u32, // first of this run's tokens
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> probabilities: array<f32>; // probabilities: (1, H * I, W')
@group(0) @binding(2) var<storage, read> value: array<f32>; // value: (1, W', value_columns)
@group(0) @binding(3) var<storage, read> doutput: array<f32>; // doutput: (K, I, H * E)
@group(0) @binding(4) var<storage, read> positions: array<u32>; // positions: (tokens), below I
@group(0) @binding(5) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(6) var<storage, read_write> map: array<f32>; // map: (H, tokens, T')

const WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Neighbours share a row of probabilities and a cotangent.
    let index = (group.x + group.y * groups.x) * WORKGROUP + lane;
    let j = index % params.frames;
    let k = index / params.frames % params.count;
    let head = index / (params.frames * params.count);
    let token = scalars.first_token + k;
    if head >= params.heads || token >= params.tokens {
        return;
    }
    let i = min(positions[token], params.queries - 1u);
    let row = (k * params.queries + i) * params.heads * params.depth + head * params.depth;
    let own = j * params.value_columns + params.value_offset + head * params.depth;
    var gradient = 0.0;
    for (var c = 0u; c < params.depth; c++) {
        gradient += doutput[row + c] * value[own + c];
    }
    let p = probabilities[(head * params.queries + i) * params.keys + j];
    map[(head * params.tokens + token) * params.frames + j] = p * gradient;
}
