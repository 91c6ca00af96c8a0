// y = residual + scale * activation(x * W + bias), W being a weight matrix or its
// transpose: all but the way in which the product is formed. Whoever imports it
// says, as overrides or constants:
//     IN_OUT    whether the weight lies as (I, O), not as (O, I)
//     ADD_TO_Y  whether the product is added to what is in y: it belongs to further
//               inputs

// #import activate
// #import numbers

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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (M, X), or (N, T, X) where WINDOWS
@group(0) @binding(2) var<storage, read> weight: array<u32>; // weight: (O, I), or (I, O) where IN_OUT, as bits
@group(0) @binding(3) var<storage, read> bias: array<f32>; // bias: (Y)
@group(0) @binding(4) var<storage, read> residual: array<f32>; // residual: (Q, Y)
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // y: (M, Y)
@group(0) @binding(6) var<storage, read_write> pre: array<f32>; // pre: (M, Y)

// No place in x: a window's row beyond its ends.
const NOWHERE: u32 = 0xffffffffu;

// Operands, zero beyond their ends. Without branches, which also keep the loads
// of several apart: what is out of bounds is read at 0 and dropped.

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
    let out_in = column * params.inputs + input;
    let in_out = input * params.outputs + column;
    let at = select(out_in, in_out, IN_OUT);
    return select(0.0, weight_number(select(0u, at, inside)), inside);
}

fn weight_number(at: u32) -> f32 {
    return number_in(weight[word_of(at, F16_WEIGHT)], at, F16_WEIGHT);
}

fn write_at(row: u32, column: u32, product: f32) {
    if row >= params.rows || column >= params.outputs {
        return;
    }
    let y_column = params.first_output + column;
    let at = row * params.y_cols + y_column;
    if ADD_TO_Y {
        y[at] += params.scale * product;
        return;
    }
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
