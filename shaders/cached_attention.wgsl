// Attention of one new position over the cache of keys and values, of which
// positions 0 to step (a scalar) are filled. One workgroup for each head of
// each row: each lane scores its own positions; then the positions are gone
// through again, a workgroup's worth at a time, and each lane sums up its own
// columns of the output.

// #import lanes

struct Params {
    rows: u32,         // N: hypotheses
    capacity: u32,     // positions of the cache
    heads: u32,        // H
    width: u32,        // D: columns of all heads
    query_cols: u32,   // columns of query, at least offset + D
    query_offset: u32, // first column of query
    scale: f32,        // factor of the scores, no unit
}

struct Scalars {
    step: u32, // position of this decoding step
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<f32>; // query: (N, 1, query_cols)
@group(0) @binding(2) var<storage, read> cache: array<f32>; // cache: (N, capacity, 2·D), keys then values
@group(0) @binding(3) var<storage, read> ancestry: array<u32>; // ancestry: (N, capacity), rows of the cache
@group(0) @binding(4) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(5) var<storage, read_write> output: array<f32>; // output: (N, 1, D)

const WORKGROUP: u32 = 64u;
alias Lane = f32;

var<workgroup> weights: array<f32, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;

// Where the key of position j as row n knows it begins.
fn place(n: u32, j: u32) -> u32 {
    let row = min(ancestry[n * params.capacity + j], params.rows - 1u);
    return (row * params.capacity + j) * 2u * params.width;
}

fn score(q: u32, k: u32, depth: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < depth; i++) {
        sum += query[q + i] * cache[k + i];
    }
    return params.scale * sum;
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x + group.y * groups.x;
    if index >= params.rows * params.heads {
        return;
    }
    let n = index / params.heads;
    let depth = params.width / params.heads;
    let head = index % params.heads * depth;
    let q = n * params.query_cols + params.query_offset + head;
    let seen = min(scalars.step + 1u, params.capacity);

    var own_most = -1e30;
    var own_sum = 0.0;
    for (var j = lane; j < seen; j += WORKGROUP) {
        let s = score(q, place(n, j) + head, depth);
        let most = max(own_most, s);
        own_sum = own_sum * exp(max(own_most - most, -80.0)) + exp(max(s - most, -80.0));
        own_most = most;
    }
    let most = workgroup_max(lane, own_most);
    let sum = workgroup_sum(lane, own_sum * exp(max(own_most - most, -80.0)));

    for (var column = 0u; column < depth; column += WORKGROUP) {
        let c = column + lane;
        var total = 0.0;
        for (var first = 0u; first < seen; first += WORKGROUP) {
            let j = first + lane;
            workgroupBarrier();
            if j < seen {
                let k = place(n, j) + head;
                weights[lane] = exp(max(score(q, k, depth) - most, -80.0));
                places[lane] = k + params.width;
            }
            workgroupBarrier();
            if c < depth {
                let count = min(WORKGROUP, seen - first);
                for (var i = 0u; i < count; i++) {
                    total += weights[i] * cache[places[i] + c];
                }
            }
        }
        if c < depth {
            output[n * params.width + head + c] = total / sum;
        }
    }
}
