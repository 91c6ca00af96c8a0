// Depthwise convolution over planes, and its reverse:
//   y[(t, g), c] = bias[c] + sum over i, j of
//       x[(t * stride + i - padding, g * stride + j - padding), c] * weight[(i, j), c]
//   dx[(s, f), c] = sum over i, j of dy[(t, g), c] * weight[(i, j), c]
//       where t * stride + i = s + padding and g * stride + j = f + padding
// where x and dy are 0 outside of their planes. Neighbouring invocations are
// neighbouring channels, which lie side by side.

// #import plane

struct Params {
    lead: u32,     // N: planes
    frames: u32,   // T: frames of x
    bins: u32,     // G: bins of x
    frames_y: u32, // T2: frames of y
    bins_y: u32,   // G2: bins of y
    channels: u32, // C: channels
    kernel: u32,   // k: taps along each side
    stride: u32,   // frames and bins from window to window
    padding: u32,  // zeros in front of the plane
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (N, T, G, C)
@group(0) @binding(2) var<storage, read> weight: array<f32>; // weight: (k, k, C)
@group(0) @binding(3) var<storage, read> bias: array<f32>; // bias: (C)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (N, T2, G2, C)
@group(0) @binding(5) var<storage, read> dy: array<f32>; // dy: (N, T2, G2, C)
@group(0) @binding(6) var<storage, read_write> dx: array<f32>; // dx: (N, T, G, C)

const WORKGROUP: u32 = 64u;

// Bins before the plane wrap round to large numbers.
fn x_at(row: u32, bin: u32, channel: u32) -> f32 {
    let inside = bin < params.bins;
    let at = (row + bin) * params.channels + channel;
    return select(0.0, x[select(0u, at, inside)], inside);
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + lane;
    let own = place(index, params.frames_y, params.bins_y);
    if own.count == 0u {
        return;
    }
    let sums = summed(own);
    let begin = (own.n * params.frames_y + own.frame) * params.bins_y + own.bin;
    for (var b = 0u; b < own.count; b++) {
        y[(begin + b) * params.channels + own.channel] = sums[b];
    }
}

@compute @workgroup_size(WORKGROUP)
fn reverse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + lane;
    let own = place(index, params.frames, params.bins);
    let stride = params.stride;
    let down = own.frame + params.padding;
    for (var b = 0u; b < own.count; b++) {
        let across = own.bin + b + params.padding;
        var sum = 0.0;
        for (var i = down % stride; i < min(params.kernel, down + 1u); i += stride) {
            let frame = (down - i) / stride;
            if frame >= params.frames_y {
                continue;
            }
            let row = (own.n * params.frames_y + frame) * params.bins_y;
            for (var j = across % stride; j < min(params.kernel, across + 1u); j += stride) {
                let bin = (across - j) / stride;
                if bin < params.bins_y {
                    let tap = (i * params.kernel + j) * params.channels + own.channel;
                    sum += weight[tap] * dy[(row + bin) * params.channels + own.channel];
                }
            }
        }
        let at = (own.n * params.frames + own.frame) * params.bins + own.bin + b;
        dx[at * params.channels + own.channel] = sum;
    }
}
