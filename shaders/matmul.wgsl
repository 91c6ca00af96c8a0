// y = residual + scale * activation(x * W + bias), W being a weight matrix or
// its transpose.
//
// A workgroup owns a tile of y and walks along the inputs, one chunk of them
// in workgroup memory at a time while the next is on its way. A thread owns
// rows and columns of the tile that lie apart by the number of threads along
// that side: neighbouring threads then read and write neighbouring numbers,
// and what a thread needs of a staged row is one vec4, a "quad". Which entry
// point is the fastest depends on the sizes and on the device:
//     forward_large  128 x 128, a thread 8 x 8: the most work for every byte
//     forward         64 x 64, a thread 4 x 4
//     forward_quads   64 x 64, a thread 8 x 8, four numbers a load: where
//                     columns in memory come in fours
//     forward_small   16 x 16: many workgroups of few rows
//     forward_thin     4 x 16: nothing is staged, the weight is read once

// #import product
// #import tiles

// The weight lies as (I, O), not as (O, I).
override IN_OUT: bool = false;
// weight_quads is f16, two numbers to a word, not f32.
override F16_WEIGHT_QUADS: bool = false;
// The product is added to what is in y: it belongs to further inputs.
override ADD_TO_Y: bool = false;

@group(0) @binding(7) var<storage, read> x_quads: array<vec4<f32>>; // x_quads: x as (M, X / 4), or (N, T, X / 4)
@group(0) @binding(8) var<storage, read> weight_quads: array<vec4<u32>>; // weight_quads: weight as (O, I / 4), or (I, O / 4)

// Threads along each side of a workgroup.
const LANES: u32 = 16u;

// Rows and columns of a tile, and inputs in a chunk, of each entry point.
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
const LARGE_TILE: u32 = 128u;
const LARGE_DEPTH: u32 = 8u;
const SMALL_TILE: u32 = 16u;
const SMALL_DEPTH: u32 = 64u;
const THIN_ROWS: u32 = 4u;
const THIN_TILE: u32 = 16u;

// Threads along each side of a workgroup of `forward_quads`.
const QUAD_LANES: u32 = 8u;

// Quads along a tile's side.
const QUADS: u32 = 16u;
const LARGE_QUADS: u32 = 32u;
const SMALL_QUADS: u32 = 4u;
// From one staged input to the next: one quad more, so that threads that
// store to neighbouring inputs use different memory banks.
const STRIDE: u32 = 17u;
const LARGE_STRIDE: u32 = 33u;
const SMALL_STRIDE: u32 = 5u;
// Inputs of a small tile's chunk that one thread sums.
const SMALL_SLICE: u32 = 4u;

// The chunks of x and of the weight, transposed: (inputs, quads). The largest
// are those of small tiles.
var<workgroup> staged_x: array<vec4<f32>, 320>;
var<workgroup> staged_weight: array<vec4<f32>, 320>;

// Four neighbouring inputs of a row; `input` is a multiple of four.
fn x_four(row: u32, input: u32) -> vec4<f32> {
    let at = x_place(row, input);
    let inside = (row < params.rows) & (input < params.inputs) & (at != NOWHERE);
    return select(vec4<f32>(), x_quads[select(0u, at / 4u, inside)], inside);
}

// Four numbers that are neighbours in memory: inputs of a column, or columns
// of an input where IN_OUT; the first is a multiple of four.
fn weight_four(input: u32, column: u32) -> vec4<f32> {
    let inside = (input < params.inputs) & (column < params.outputs);
    let out_in = column * params.inputs + input;
    let in_out = input * params.outputs + column;
    let at = select(out_in, in_out, IN_OUT) / 4u;
    return select(vec4<f32>(), weight_quad_number(select(0u, at, inside)), inside);
}

fn weight_quad_number(at: u32) -> vec4<f32> {
    if F16_WEIGHT_QUADS {
        let two = weight_quads[at / 2u];
        let own = select(two.xy, two.zw, at % 2u == 1u);
        return vec4<f32>(unpack2x16float(own.x), unpack2x16float(own.y));
    }
    return bitcast<vec4<f32>>(weight_quads[at]);
}

// Four rows of x, `apart` from each other.
fn x_quad(row: u32, apart: u32, input: u32) -> vec4<f32> {
    return vec4<f32>(
        x_at(row, input),
        x_at(row + apart, input),
        x_at(row + 2u * apart, input),
        x_at(row + 3u * apart, input),
    );
}

// Four columns of W, `apart` from each other.
fn weight_quad(input: u32, column: u32, apart: u32) -> vec4<f32> {
    return vec4<f32>(
        weight_at(input, column),
        weight_at(input, column + apart),
        weight_at(input, column + 2u * apart),
        weight_at(input, column + 3u * apart),
    );
}

fn write_quad(row: u32, column: u32, apart: u32, product: vec4<f32>) {
    write_at(row, column, product.x);
    write_at(row, column + apart, product.y);
    write_at(row, column + 2u * apart, product.z);
    write_at(row, column + 3u * apart, product.w);
}

fn write_block(row: u32, column: u32, product: mat4x4<f32>) {
    write_quad(row, column, LANES, product[0]);
    write_quad(row + LANES, column, LANES, product[1]);
    write_quad(row + 2u * LANES, column, LANES, product[2]);
    write_quad(row + 3u * LANES, column, LANES, product[3]);
}

fn step(input: u32, lane: vec3<u32>) -> mat4x4<f32> {
    let at = input * STRIDE;
    return outer(staged_x[at + lane.y], staged_weight[at + lane.x]);
}

@compute @workgroup_size(LANES, LANES)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let row = folded_row(group, groups) * TILE + lane.y;
    let column = group.x * TILE;
    // The chunk's input and quad that this thread brings: neighbouring
    // threads, neighbouring numbers in memory.
    let w_input = select(lane.x, lane.y, IN_OUT);
    let w_quad = select(lane.y, lane.x, IN_OUT);
    var sum = mat4x4<f32>();
    var next_x = x_quad(row, LANES, lane.x);
    var next_weight = weight_quad(w_input, column + w_quad, LANES);
    for (var i = 0u; i < params.inputs; i += DEPTH) {
        staged_x[lane.x * STRIDE + lane.y] = next_x;
        staged_weight[w_input * STRIDE + w_quad] = next_weight;
        workgroupBarrier();
        next_x = x_quad(row, LANES, i + DEPTH + lane.x);
        next_weight = weight_quad(i + DEPTH + w_input, column + w_quad, LANES);
        for (var d = 0u; d < DEPTH; d += 4u) {
            sum += step(d, lane);
            sum += step(d + 1u, lane);
            sum += step(d + 2u, lane);
            sum += step(d + 3u, lane);
        }
        workgroupBarrier();
    }
    write_block(row, column + lane.x, sum);
}

// First row or column of a large tile's quad: the first half of the quads
// covers the first half of the tile.
fn large_start(quad: u32) -> u32 {
    return quad / LANES * TILE + quad % LANES;
}

@compute @workgroup_size(LANES, LANES)
fn forward_large(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = folded_row(group, groups) * LARGE_TILE;
    let column = group.x * LARGE_TILE;
    let x_input = index % LARGE_DEPTH;
    let x_from = index / LARGE_DEPTH;
    let w_input = select(x_input, index / LARGE_QUADS, IN_OUT);
    let w_from = select(x_from, index % LARGE_QUADS, IN_OUT);
    let x_row = row + large_start(x_from);
    let w_column = column + large_start(w_from);
    // Upper or lower rows, left or right columns.
    var upper_left = mat4x4<f32>();
    var upper_right = mat4x4<f32>();
    var lower_left = mat4x4<f32>();
    var lower_right = mat4x4<f32>();
    var next_x = x_quad(x_row, LANES, x_input);
    var next_weight = weight_quad(w_input, w_column, LANES);
    for (var i = 0u; i < params.inputs; i += LARGE_DEPTH) {
        staged_x[x_input * LARGE_STRIDE + x_from] = next_x;
        staged_weight[w_input * LARGE_STRIDE + w_from] = next_weight;
        workgroupBarrier();
        next_x = x_quad(x_row, LANES, i + LARGE_DEPTH + x_input);
        next_weight = weight_quad(i + LARGE_DEPTH + w_input, w_column, LANES);
        for (var d = 0u; d < LARGE_DEPTH; d++) {
            let at = d * LARGE_STRIDE;
            let upper = staged_x[at + lane.y];
            let lower = staged_x[at + lane.y + LANES];
            let left = staged_weight[at + lane.x];
            let right = staged_weight[at + lane.x + LANES];
            upper_left += outer(upper, left);
            upper_right += outer(upper, right);
            lower_left += outer(lower, left);
            lower_right += outer(lower, right);
        }
        workgroupBarrier();
    }
    write_block(row + lane.y, column + lane.x, upper_left);
    write_block(row + lane.y, column + lane.x + TILE, upper_right);
    write_block(row + lane.y + TILE, column + lane.x, lower_left);
    write_block(row + lane.y + TILE, column + lane.x + TILE, lower_right);
}

// Quads of four rows, LANES apart: one for each of four inputs.
fn x_block(row: u32, input: u32) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(
        x_four(row, input),
        x_four(row + LANES, input),
        x_four(row + 2u * LANES, input),
        x_four(row + 3u * LANES, input),
    ));
}

// Quads of four columns, LANES apart: one for each of four inputs, or for each
// of four neighbouring columns where IN_OUT.
fn weight_block(input: u32, column: u32) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(
        weight_four(input, column),
        weight_four(input, column + LANES),
        weight_four(input, column + 2u * LANES),
        weight_four(input, column + 3u * LANES),
    ));
}

@compute @workgroup_size(QUAD_LANES, QUAD_LANES)
fn forward_quads(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = folded_row(group, groups) * TILE;
    let column = group.x * TILE;
    // The chunk's inputs and quads that this thread brings, four of one kind.
    let x_input = index % 4u * 4u;
    let x_from = index / 4u;
    let w_input = select(x_input, x_from, IN_OUT);
    let w_from = select(x_from, x_input, IN_OUT);
    let x_to = x_input * STRIDE + x_from;
    let w_to = w_input * STRIDE + w_from;
    let w_step = select(STRIDE, 1u, IN_OUT);
    // Upper or lower rows, left or right columns.
    var upper_left = mat4x4<f32>();
    var upper_right = mat4x4<f32>();
    var lower_left = mat4x4<f32>();
    var lower_right = mat4x4<f32>();
    var next_x = x_block(row + x_from, x_input);
    var next_weight = weight_block(w_input, column + w_from);
    for (var i = 0u; i < params.inputs; i += DEPTH) {
        staged_x[x_to] = next_x[0];
        staged_x[x_to + STRIDE] = next_x[1];
        staged_x[x_to + 2u * STRIDE] = next_x[2];
        staged_x[x_to + 3u * STRIDE] = next_x[3];
        staged_weight[w_to] = next_weight[0];
        staged_weight[w_to + w_step] = next_weight[1];
        staged_weight[w_to + 2u * w_step] = next_weight[2];
        staged_weight[w_to + 3u * w_step] = next_weight[3];
        workgroupBarrier();
        next_x = x_block(row + x_from, i + DEPTH + x_input);
        next_weight = weight_block(i + DEPTH + w_input, column + w_from);
        for (var d = 0u; d < DEPTH; d++) {
            let at = d * STRIDE;
            let upper = staged_x[at + lane.y];
            let lower = staged_x[at + lane.y + QUAD_LANES];
            let left = staged_weight[at + lane.x];
            let right = staged_weight[at + lane.x + QUAD_LANES];
            upper_left += outer(upper, left);
            upper_right += outer(upper, right);
            lower_left += outer(lower, left);
            lower_right += outer(lower, right);
        }
        workgroupBarrier();
    }
    let own_row = row + lane.y;
    let own_column = column + lane.x;
    write_block(own_row, own_column, upper_left);
    write_block(own_row, own_column + QUAD_LANES, upper_right);
    write_block(own_row + QUAD_LANES, own_column, lower_left);
    write_block(own_row + QUAD_LANES, own_column + QUAD_LANES, lower_right);
}

// Sixteen threads share a column: each sums every sixteenth input for four
// rows, and their sums are added in a fixed order.
@compute @workgroup_size(LANES, LANES)
fn forward_thin(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let row = folded_row(group, groups) * THIN_ROWS;
    let first = group.x * THIN_TILE;
    // Neighbouring threads, neighbouring numbers of the weight.
    let part = select(lane.x, lane.y, IN_OUT);
    let own = select(lane.y, lane.x, IN_OUT);
    let column = first + own;
    var sum = vec4<f32>();
    for (var i = part; i < params.inputs; i += 4u * LANES) {
        sum += x_quad(row, 1u, i) * weight_at(i, column);
        sum += x_quad(row, 1u, i + LANES) * weight_at(i + LANES, column);
        sum += x_quad(row, 1u, i + 2u * LANES) * weight_at(i + 2u * LANES, column);
        sum += x_quad(row, 1u, i + 3u * LANES) * weight_at(i + 3u * LANES, column);
    }
    staged_x[part * STRIDE + own] = sum;
    workgroupBarrier();
    if lane.y == 0u {
        var total = vec4<f32>();
        for (var p = 0u; p < LANES; p++) {
            total += staged_x[p * STRIDE + lane.x];
        }
        write_at(row, first + lane.x, total.x);
        write_at(row + 1u, first + lane.x, total.y);
        write_at(row + 2u, first + lane.x, total.z);
        write_at(row + 3u, first + lane.x, total.w);
    }
}

// Sixteen threads share each block of 4 x 4 elements of y: each sums its
// slice of every chunk, and their sums are added in a fixed order.
@compute @workgroup_size(LANES, LANES)
fn forward_small(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = folded_row(group, groups) * SMALL_TILE;
    let column = group.x * SMALL_TILE;
    let x_input = index % SMALL_DEPTH;
    let x_from = index / SMALL_DEPTH;
    let w_input = select(x_input, index / SMALL_QUADS, IN_OUT);
    let w_from = select(x_from, index % SMALL_QUADS, IN_OUT);
    // The block's quads, and the slice's first input in a chunk.
    let x_own = lane.x / SMALL_QUADS;
    let w_own = lane.x % SMALL_QUADS;
    let slice = lane.y * SMALL_SLICE;
    var sum = mat4x4<f32>();
    var next_x = x_quad(row + x_from, SMALL_QUADS, x_input);
    var next_weight = weight_quad(w_input, column + w_from, SMALL_QUADS);
    for (var i = 0u; i < params.inputs; i += SMALL_DEPTH) {
        staged_x[x_input * SMALL_STRIDE + x_from] = next_x;
        staged_weight[w_input * SMALL_STRIDE + w_from] = next_weight;
        workgroupBarrier();
        next_x = x_quad(row + x_from, SMALL_QUADS, i + SMALL_DEPTH + x_input);
        next_weight = weight_quad(i + SMALL_DEPTH + w_input, column + w_from, SMALL_QUADS);
        for (var d = 0u; d < SMALL_SLICE; d++) {
            let at = (slice + d) * SMALL_STRIDE;
            sum += outer(staged_x[at + x_own], staged_weight[at + w_own]);
        }
        workgroupBarrier();
    }
    // One row of every block at a time: (slices, blocks), then added up by
    // the first slice's threads.
    for (var r = 0u; r < 4u; r++) {
        var own = sum[0];
        own = select(own, sum[1], r == 1u);
        own = select(own, sum[2], r == 2u);
        own = select(own, sum[3], r == 3u);
        staged_x[index] = own;
        workgroupBarrier();
        if lane.y == 0u {
            var total = vec4<f32>();
            for (var s = 0u; s < LANES; s++) {
                total += staged_x[s * LANES + lane.x];
            }
            write_quad(row + x_own + r * SMALL_QUADS, column + w_own, SMALL_QUADS, total);
        }
        workgroupBarrier();
    }
}
