// Windows over time, summed back into frames:
//   dx[s, c] = sum of dy[t, j·C + c] over t·stride + j = s + padding
// One invocation for each element of the result.

struct Params {
    count: u32,   // elements of the result
    rows: u32,    // T: rows of dx
    cols: u32,    // C: columns of dx
    frames: u32,  // T2: windows, rows of dy
    kernel: u32,  // k: frames of a window
    stride: u32,  // frames from one window to the next
    padding: u32, // frames of zeros before the first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>; // dy: (K·B, T2, k·C)
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // dx: (K·B, T, C)

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
    let row = i / params.cols;
    let n = row / params.rows;
    let s = row % params.rows + params.padding;
    // The first t whose kernel reaches s, then on to the last that begins
    // before it.
    let short = s + 1u - min(params.kernel, s + 1u);
    var total = 0.0;
    for (var t = (short + params.stride - 1u) / params.stride; t < params.frames; t++) {
        if t * params.stride > s {
            break;
        }
        let j = s - t * params.stride;
        total += dy[((n * params.frames + t) * params.kernel + j) * params.cols + c];
    }
    dx[i] = total;
}
