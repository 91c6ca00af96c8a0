// y[n, i] = scale * table[ids[n, i] - first] + positions[start + i], where start is the
// scalar step if FROM_STEP, else 0.

// #import numbers

struct Params {
    count: u32,  // N·I·D: elements of y
    tokens: u32, // I: tokens of a row
    cols: u32,   // D
    first: u32,  // id of the table's first row here
    rows: u32,   // R: rows of the table here; other ids are left to others
    places: u32, // P: rows of positions; the last stands for those after it
    scale: f32,  // factor of the table, no unit
}

struct Scalars {
    step: u32, // position of this decoding step
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>; // ids: (N, I), below V
@group(0) @binding(2) var<storage, read> table: array<u32>; // table: (R, D), as bits
@group(0) @binding(3) var<storage, read> positions: array<f32>; // positions: (P, D)
@group(0) @binding(4) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // y: (N, I, D)

// Whether positions count from the scalar step
override FROM_STEP: bool;

// The table is f16, two numbers to a word, not f32.
override F16_TABLE: bool = false;

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
    let c = i % params.cols;
    var place = row % params.tokens;
    if FROM_STEP {
        place += scalars.step;
    }
    place = min(place, params.places - 1u);
    // An id before the first wraps to a large number.
    let own = ids[row] - params.first;
    if own >= params.rows {
        return;
    }
    let at = own * params.cols + c;
    let entry = number_in(table[word_of(at, F16_TABLE)], at, F16_TABLE);
    y[i] = params.scale * entry + positions[place * params.cols + c];
}
