// Sums windows over a plane of one channel back into it:
//   dx[s, f] = sum over i, j of dy[(t, g), (i, j)]
//       where t * stride + i = s + padding and g * stride + j = f + padding
// One invocation for each element.

struct Params {
    count: u32,    // N·T·G: elements of dx
    frames: u32,   // T: frames of dx
    bins: u32,     // G: bins of dx
    frames_y: u32, // T2: windows along the frames
    bins_y: u32,   // G2: windows along the bins
    kernel: u32,   // k: elements of a window along each side
    stride: u32,   // frames and bins from window to window
    padding: u32,  // zeros in front of the plane
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>; // dy: (N, T2, G2, k, k)
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // dx: (N, T, G)

const WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if index >= params.count {
        return;
    }
    let kernel = params.kernel;
    let stride = params.stride;
    let row = index / params.bins;
    let n = row / params.frames;
    let down = row % params.frames + params.padding;
    let across = index % params.bins + params.padding;
    var sum = 0.0;
    for (var i = down % stride; i < min(kernel, down + 1u); i += stride) {
        let t = (down - i) / stride;
        if t >= params.frames_y {
            continue;
        }
        for (var j = across % stride; j < min(kernel, across + 1u); j += stride) {
            let g = (across - j) / stride;
            if g < params.bins_y {
                let window = (n * params.frames_y + t) * params.bins_y + g;
                sum += dy[(window * kernel + i) * kernel + j];
            }
        }
    }
    dx[index] = sum;
}
