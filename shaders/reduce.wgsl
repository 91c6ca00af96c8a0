// map[first + k] = reduction over the columns of gradient[k] * (x - baseline),
// where first is the scalar first_token; tokens past the map's end are left
// out. `forward` takes one workgroup for each row; `keep` keeps the columns
// and takes one invocation for each element.

struct Params {
    lead: u32,   // K: tokens of this run
    rows: u32,   // R: rows of a token
    cols: u32,   // C
    tokens: u32, // tokens of the map
}

struct Scalars {
    first_token: u32, // first of this run's tokens
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>; // gradient: (K, R, C)
@group(0) @binding(2) var<storage, read> x: array<f32>; // x: (1, R, C), if HAS_CONTRAST
@group(0) @binding(3) var<storage, read> baseline: array<f32>; // baseline: (1, R, C), if HAS_CONTRAST
@group(0) @binding(4) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(5) var<storage, read_write> map: array<f32>; // map: (tokens, R, 1), or (tokens, R, C) of `keep`

// Whether gradients are multiplied by x - baseline
override HAS_CONTRAST: bool;
override REDUCTION: u32 = 0u;

// Values of REDUCTION: Euclidean norm, signed sum, largest absolute value.
const L2: u32 = 0u;
const SUM: u32 = 1u;
const MAX: u32 = 2u;

const WORKGROUP: u32 = 64u;

var<workgroup> lanes: array<f32, WORKGROUP>;

// Element i of the gradient, with its factor.
fn product(i: u32) -> f32 {
    var value = gradient[i];
    if HAS_CONTRAST {
        let at = i % (params.rows * params.cols);
        value *= x[at] - baseline[at];
    }
    return value;
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    let token = scalars.first_token + row / params.rows;
    if row >= params.lead * params.rows || token >= params.tokens {
        return;
    }
    var own = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        let value = product(row * params.cols + c);
        if REDUCTION == L2 {
            own += value * value;
        } else if REDUCTION == SUM {
            own += value;
        } else {
            own = max(own, abs(value));
        }
    }
    lanes[lane] = own;
    for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            if REDUCTION == MAX {
                lanes[lane] = max(lanes[lane], lanes[lane + reach]);
            } else {
                lanes[lane] += lanes[lane + reach];
            }
        }
    }
    if lane == 0u {
        var result = lanes[0];
        if REDUCTION == L2 {
            result = sqrt(result);
        }
        map[token * params.rows + row % params.rows] = result;
    }
}

@compute @workgroup_size(WORKGROUP)
fn keep(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    let inner = params.rows * params.cols;
    let token = scalars.first_token + i / inner;
    if i >= params.lead * inner || token >= params.tokens {
        return;
    }
    map[token * inner + i % inner] = product(i);
}
