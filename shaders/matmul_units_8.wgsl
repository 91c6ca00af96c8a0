// y = residual + scale * activation(x * transpose(W) + bias), with x and W in
// f16, sums in f32, by the GPU's matrix units.
//
// A workgroup owns a tile of y and walks along the inputs, one chunk of them in
// workgroup memory at a time. Each quadrant of the tile, two blocks of SIDE x
// SIDE elements wide and high, belongs to one subgroup; where there are fewer
// subgroups than quadrants, the tile is walked over several times. How many
// invocations a subgroup has is the device's choice.
//
// There is one such file for each size of the units' blocks.

enable f16;
enable wgpu_cooperative_matrix;

struct Params {
    rows: u32,          // M: rows of y, all lead rows taken together
    inputs: u32,        // I: numbers summed over, of weight's block
    outputs: u32,       // O: columns that are written, of weight's block
    x_rows: u32,        // T: rows of x in a lead row, where WINDOWS
    x_cols: u32,        // X: columns of x
    first_input: u32,   // column of x, or of a window, that belongs to weight's first input
    windows: u32,       // T2: rows of y in a lead row, where WINDOWS
    stride: u32,        // rows of x from one window to the next
    padding: u32,       // rows of zeros before x's first
    y_cols: u32,        // Y: columns of y
    first_output: u32,  // column of y that belongs to weight's first output
    residual_rows: u32, // Q: rows of residual, of which M is a multiple
    scale: f32,         // factor of the activation's result, no unit
}

// A row of the product's input is not a row of x but a window: rows of x side
// by side, as a convolution takes them, with zeros beyond a lead row's ends.
override WINDOWS: bool = false;
override ACTIVATION: u32 = 0u;
override HAS_BIAS: bool = false;
override HAS_RESIDUAL: bool = false;
// The weight is f16, two numbers to a word, not f32.
override F16_WEIGHT: bool = false;
// Results that are wanted; pre is what the activation is applied to.
override WRITE_Y: bool = true;
override WRITE_PRE: bool = false;
// Subgroups that every workgroup has at least.
override SUBGROUPS: u32 = 1u;

// Values of ACTIVATION.
const NO_ACTIVATION: u32 = 0u;
const RELU: u32 = 1u;
const SILU: u32 = 2u;
const GELU: u32 = 3u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (M, X), or (N, T, X) where WINDOWS
@group(0) @binding(2) var<storage, read> weight: array<u32>; // weight: (O, I), as bits
@group(0) @binding(3) var<storage, read> bias: array<f32>; // bias: (Y)
@group(0) @binding(4) var<storage, read> residual: array<f32>; // residual: (Q, Y)
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // y: (M, Y)
@group(0) @binding(6) var<storage, read_write> pre: array<f32>; // pre: (M, Y)

// No place in x: a window's row beyond its ends.
const NOWHERE: u32 = 0xffffffffu;

// Invocations in a workgroup.
const THREADS: u32 = 128u;
// The largest f16.
const LARGEST: f32 = 65504.0;
// Rows and columns of a block.
const SIDE: u32 = 8u;
const BLOCK: u32 = SIDE * SIDE;
const QUADRANTS: u32 = 4u;
// Rows and columns of a tile, and inputs in a chunk.
const TILE: u32 = 4u * SIDE;
const DEPTH: u32 = 2u * SIDE;
const STAGED: u32 = TILE * DEPTH;
const STORED: u32 = (QUADRANTS + 1u) * BLOCK;

alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;

var<workgroup> staged_x: array<f16, STAGED>; // (rows, inputs)
var<workgroup> staged_weight: array<f16, STAGED>; // (columns, inputs)
var<workgroup> stored: array<f32, STORED>; // (quadrants and one more, rows, columns): one block of each

fn x_at(row: u32, input: u32) -> f32 {
    let at = x_place(row, input);
    let inside = (row < params.rows) & (input < params.inputs) & (at != NOWHERE);
    return select(0.0, x[select(0u, at, inside)], inside);
}

// Where the input of a row lies in x.
fn x_place(row: u32, input: u32) -> u32 {
    let column = params.first_input + input;
    if WINDOWS {
        // Rows before the first wrap round to large numbers.
        let first = row % params.windows * params.stride - params.padding;
        let source = first + column / params.x_cols;
        let lead = row / params.windows * params.x_rows;
        let at = (lead + source) * params.x_cols + column % params.x_cols;
        return select(NOWHERE, at, source < params.x_rows);
    }
    return row * params.x_cols + column;
}

fn weight_at(input: u32, column: u32) -> f32 {
    let inside = (input < params.inputs) & (column < params.outputs);
    let at = column * params.inputs + input;
    return select(0.0, weight_number(select(0u, at, inside)), inside);
}

fn weight_number(at: u32) -> f32 {
    if F16_WEIGHT {
        return unpack2x16float(weight[at / 2u])[at % 2u];
    }
    return bitcast<f32>(weight[at]);
}

// 1 - erf(t) for t >= 0, to a few units of rounding: a polynomial in
// s = 1 / (1 + 3/8 t), fitted to exp(t^2) (1 - erf(t)) / s within 1.3e-8.
fn erfc(t: f32) -> f32 {
    let s = 1.0 / (1.0 + 0.375 * t);
    var p = 0.0615458824;
    p = p * s - 0.28736195;
    p = p * s + 0.432457507;
    p = p * s - 0.229473427;
    p = p * s + 0.27376163;
    p = p * s + 0.121490955;
    p = p * s + 0.205316678;
    p = p * s + 0.210649252;
    p = p * s + 0.211613491;
    return p * s * exp(-t * t);
}

fn activate(value: f32) -> f32 {
    if ACTIVATION == RELU {
        // Written so that NaN stays NaN.
        return select(value, 0.0, value < 0.0);
    }
    if ACTIVATION == SILU {
        // Beyond -80 the result is as good as 0, and exp must not overflow.
        return value / (1.0 + exp(min(-value, 80.0)));
    }
    if ACTIVATION == GELU {
        // 0.70710678: the square root of 1/2. Beyond t = 10 erfc is 0.
        let tail = 0.5 * erfc(min(abs(value) * 0.70710678, 10.0));
        return value * select(1.0 - tail, tail, value < 0.0);
    }
    return value;
}

fn write_at(row: u32, column: u32, product: f32) {
    if row >= params.rows || column >= params.outputs {
        return;
    }
    let y_column = params.first_output + column;
    let at = row * params.y_cols + y_column;
    var value = product;
    if HAS_BIAS {
        value += bias[y_column];
    }
    if WRITE_PRE {
        pre[at] = value;
    }
    value = params.scale * activate(value);
    if HAS_RESIDUAL {
        value += residual[row % params.residual_rows * params.y_cols + y_column];
    }
    if WRITE_Y {
        y[at] = value;
    }
}

// Row of tiles that a workgroup is in; those beyond one dimension's limit are
// folded into the third.
fn tile_row(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y + group.z * groups.y;
}

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
    let row = tile_row(group, groups) * TILE;
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
