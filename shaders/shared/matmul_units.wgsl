// y = residual + scale * activation(x * transpose(W) + bias), with x and W in
// f16, sums in f32, by the GPU's matrix units.
//
// A workgroup owns a tile of y and walks along the inputs, one chunk of them in
// workgroup memory at a time. Each quadrant of the tile, two blocks of SIDE x
// SIDE elements wide and high, belongs to one subgroup; where there are fewer
// subgroups than quadrants, the tile is walked over several times. How many
// invocations a subgroup has is the device's choice.
//
// WGSL cannot choose the size of the units' blocks, so there is one file for each.
// It has the const SIDE, a block's rows and columns, and the aliases Left, Right
// and Sum, the matrices of that size; and it imports this.

// #import product
// #import tiles

// What goes back through a product is not rounded to f16, so the units are for the
// forward layout alone, and for whole products.
const IN_OUT: bool = false;
const ADD_TO_Y: bool = false;
// Subgroups that every workgroup has at least.
override SUBGROUPS: u32 = 1u;

// Invocations in a workgroup.
const THREADS: u32 = 128u;
// The largest f16.
const LARGEST: f32 = 65504.0;
const BLOCK: u32 = SIDE * SIDE;
const QUADRANTS: u32 = 4u;
// Rows and columns of a tile, and inputs in a chunk.
const TILE: u32 = 4u * SIDE;
const DEPTH: u32 = 2u * SIDE;
const STAGED: u32 = TILE * DEPTH;
const STORED: u32 = (QUADRANTS + 1u) * BLOCK;

var<workgroup> staged_x: array<f16, STAGED>; // (rows, inputs)
var<workgroup> staged_weight: array<f16, STAGED>; // (columns, inputs)
var<workgroup> stored: array<f32, STORED>; // (quadrants and one more, rows, columns): one block of each

// The nearest f16, or the largest there is. NaN stays NaN.
fn half(value: f32) -> f16 {
    return f16(select(value, clamp(value, -LARGEST, LARGEST), abs(value) > LARGEST));
}

fn stage(row: u32, column: u32, input: u32, index: u32) {
    for (var at = index; at < STAGED; at += THREADS) {
        let across = at / DEPTH;
        let along = input + at % DEPTH;
        staged_x[at] = half(x_at(row + across, along));
        staged_weight[at] = half(weight_at(along, column + across));
    }
}

// Writes what is stored of the quadrants `first` to `last`: the block that
// begins at `row` and `column` of each.
fn write_stored(first: u32, last: u32, row: u32, column: u32, index: u32) {
    for (var at = first * BLOCK + index; at < last * BLOCK; at += THREADS) {
        let quadrant = at / BLOCK;
        let own_row = quadrant / 2u * 2u * SIDE + at % BLOCK / SIDE;
        let own_column = quadrant % 2u * 2u * SIDE + at % SIDE;
        write_at(row + own_row, column + own_column, stored[at]);
    }
}

@compute @workgroup_size(THREADS)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let row = folded_row(group, groups) * TILE;
    let column = group.x * TILE;
    for (var first = 0u; first < QUADRANTS; first += SUBGROUPS) {
        let last = min(first + SUBGROUPS, QUADRANTS);
        // Units work together or not at all: subgroups without a quadrant of
        // their own do the last one's again and store it aside.
        let quadrant = min(first + subgroup, last - 1u);
        let place = select(QUADRANTS, quadrant, first + subgroup < last) * BLOCK;
        let x_start = quadrant / 2u * 2u * SIDE * DEPTH;
        let w_start = quadrant % 2u * 2u * SIDE * DEPTH;
        var upper_left = Sum();
        var upper_right = Sum();
        var lower_left = Sum();
        var lower_right = Sum();
        for (var i = 0u; i < params.inputs; i += DEPTH) {
            stage(row, column, i, index);
            workgroupBarrier();
            for (var d = 0u; d < DEPTH; d += SIDE) {
                let upper = coopLoadT<Left>(&staged_x[x_start + d], DEPTH);
                let lower = coopLoadT<Left>(&staged_x[x_start + SIDE * DEPTH + d], DEPTH);
                let left = coopLoad<Right>(&staged_weight[w_start + d], DEPTH);
                let right = coopLoad<Right>(&staged_weight[w_start + SIDE * DEPTH + d], DEPTH);
                upper_left = coopMultiplyAdd(upper, left, upper_left);
                upper_right = coopMultiplyAdd(upper, right, upper_right);
                lower_left = coopMultiplyAdd(lower, left, lower_left);
                lower_right = coopMultiplyAdd(lower, right, lower_right);
            }
            workgroupBarrier();
        }
        coopStoreT(upper_left, &stored[place], SIDE);
        workgroupBarrier();
        write_stored(first, last, row, column, index);
        workgroupBarrier();
        coopStoreT(upper_right, &stored[place], SIDE);
        workgroupBarrier();
        write_stored(first, last, row, column + SIDE, index);
        workgroupBarrier();
        coopStoreT(lower_left, &stored[place], SIDE);
        workgroupBarrier();
        write_stored(first, last, row + SIDE, column, index);
        workgroupBarrier();
        coopStoreT(lower_right, &stored[place], SIDE);
        workgroupBarrier();
        write_stored(first, last, row + SIDE, column + SIDE, index);
        workgroupBarrier();
    }
}
