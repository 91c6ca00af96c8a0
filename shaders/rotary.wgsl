// Rotary positions: the first pairs of columns of each head are turned by angles of the
// row's position, or turned back; the others stay.

struct Params {
    count: u32,  // N·R·C: elements of y
    rows: u32,   // R
    cols: u32,   // C
    turned: u32, // columns that are turned, whole heads
    depth: u32,  // columns of a head
    pairs: u32,  // p: pairs of a head that are turned
    places: u32, // P: positions; the last stands for those after it
}

struct Scalars {
    step: u32, // position of this decoding step
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (N, R, C)
@group(0) @binding(2) var<storage, read> angles: array<f32>; // angles: (P, 2·p), cosines and sines
@group(0) @binding(3) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (N, R, C)

// Whether positions count from the scalar step
override FROM_STEP: bool;

// Whether it turns back
override BACK: bool;

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
    let c = i % params.cols;
    let k = c % params.depth;
    let pair = k / 2u;
    if c >= params.turned || pair >= params.pairs {
        y[i] = x[i];
        return;
    }
    var place = i / params.cols % params.rows;
    if FROM_STEP {
        place += scalars.step;
    }
    let at = min(place, params.places - 1u) * 2u * params.pairs + pair;
    let second = k % 2u == 1u;
    let partner = select(i + 1u, i - 1u, second);
    let sine = select(angles[at + params.pairs], -angles[at + params.pairs], second == BACK);
    y[i] = x[i] * angles[at] + x[partner] * sine;
}
