// Windows over time, side by side:
//   y[t, j·C + c] = x[t·stride + j - padding, c], or 0 outside of x
// One invocation for each element of the result.

struct Params {
    count: u32,   // elements of the result
    rows: u32,    // T: rows of x
    cols: u32,    // C: columns of x
    frames: u32,  // T2: windows, rows of y
    kernel: u32,  // k: frames of a window
    stride: u32,  // frames from one window to the next
    padding: u32, // frames of zeros before the first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (N, T, C)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (N, T2, k·C)

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
    let width = params.kernel * params.cols;
    let row = i / width;
    let n = row / params.frames;
    // Frames before x wrap round to large numbers.
    let s = row % params.frames * params.stride + i % width / params.cols - params.padding;
    let inside = s < params.rows;
    let at = (n * params.rows + s) * params.cols + i % params.cols;
    y[i] = select(0.0, x[select(0u, at, inside)], inside);
}
