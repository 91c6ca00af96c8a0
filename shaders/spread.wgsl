// y = fraction * (max(x) - min(x)). One workgroup for all.

struct Params {
    count: u32,    // R·C: elements of x
    fraction: f32, // of the range, no unit
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (1, R, C)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (1), in units of x

const WORKGROUP: u32 = 256u;

// Largest value and largest negated value of each lane
var<workgroup> lanes: array<vec2<f32>, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(local_invocation_index) lane: u32) {
    var own = vec2(-3e38);
    for (var i = lane; i < params.count; i += WORKGROUP) {
        own = max(own, vec2(x[i], -x[i]));
    }
    lanes[lane] = own;
    for (var reach = WORKGROUP / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            lanes[lane] = max(lanes[lane], lanes[lane + reach]);
        }
    }
    if lane == 0u {
        y[0] = params.fraction * (lanes[0].x + lanes[0].y);
    }
}
