// y[k, j] = largest x[k, t, f] over all f and the frames t of j, which are
// floor(j · T / T') to ceil((j + 1) · T / T'). One workgroup for each element
// of y.

struct Params {
    count: u32,  // K·T': elements of y
    pooled: u32, // T'
    rows: u32,   // T: frames
    cols: u32,   // F
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (K, T, F)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (K, T', 1)

const WORKGROUP: u32 = 64u;

var<workgroup> lanes: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x + group.y * groups.x;
    if i >= params.count {
        return;
    }
    let j = i % params.pooled;
    let first = j * params.rows / params.pooled;
    let end = ((j + 1u) * params.rows + params.pooled - 1u) / params.pooled;
    let begin = (i / params.pooled * params.rows + first) * params.cols;
    let count = (end - first) * params.cols;
    var own = x[begin];
    for (var e = lane; e < count; e += WORKGROUP) {
        own = max(own, x[begin + e]);
    }
    lanes[lane] = own;
    for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            lanes[lane] = max(lanes[lane], lanes[lane + reach]);
        }
    }
    if lane == 0u {
        y[i] = lanes[0];
    }
}
