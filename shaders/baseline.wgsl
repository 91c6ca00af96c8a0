// y[t, c] = 0, or the mean or minimum over s of x[s, c]. One workgroup for
// each column.

struct Params {
    rows: u32, // R
    cols: u32, // C
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (1, R, C)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (1, R, C)

override KIND: u32;

// Values of KIND.
const ZERO: u32 = 0u;
const MEAN: u32 = 1u;
const MIN: u32 = 2u;

const WORKGROUP: u32 = 64u;

var<workgroup> lanes: array<f32, WORKGROUP>;

fn combine(a: f32, b: f32) -> f32 {
    if KIND == MIN {
        return min(a, b);
    }
    return a + b;
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = group.x + group.y * groups.x;
    if c >= params.cols {
        return;
    }
    var own = select(0.0, 3e38, KIND == MIN);
    if KIND != ZERO {
        for (var t = lane; t < params.rows; t += WORKGROUP) {
            own = combine(own, x[t * params.cols + c]);
        }
    }
    lanes[lane] = own;
    for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            lanes[lane] = combine(lanes[lane], lanes[lane + reach]);
        }
    }
    workgroupBarrier();
    var result = lanes[0];
    if KIND == MEAN {
        result /= f32(params.rows);
    }
    for (var t = lane; t < params.rows; t += WORKGROUP) {
        y[t * params.cols + c] = result;
    }
}
