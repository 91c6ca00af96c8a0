// Convolution over a plane of one channel:
//   y[(t, g), c] = activation(bias[c] + sum over i, j of
//       x[t * stride + i - padding, g * stride + j - padding] * weight[(i, j), c])
// where x is 0 outside of the plane. Neighbouring invocations are neighbouring
// channels: they read the same x, and weights and results side by side.

// #import activate
// #import plane

struct Params {
    lead: u32,     // N: planes
    frames: u32,   // T: frames of x
    bins: u32,     // G: bins of x
    frames_y: u32, // T2: frames of y
    bins_y: u32,   // G2: bins of y
    channels: u32, // C: channels of y
    kernel: u32,   // k: taps along each side
    stride: u32,   // frames and bins from window to window
    padding: u32,  // zeros in front of the plane
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (N, T, G)
@group(0) @binding(2) var<storage, read> weight: array<f32>; // weight: (k, k, C)
@group(0) @binding(3) var<storage, read> bias: array<f32>; // bias: (C)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (N, T2, G2, C)
@group(0) @binding(5) var<storage, read_write> pre: array<f32>; // pre: (N, T2, G2, C), before the activation

override ACTIVATION: u32 = 0u;
// Results that are wanted
override WRITE_Y: bool = true;
override WRITE_PRE: bool = true;

const WORKGROUP: u32 = 64u;

// There is one channel. Bins before the plane wrap round to large numbers.
fn x_at(row: u32, bin: u32, channel: u32) -> f32 {
    let inside = bin < params.bins;
    return select(0.0, x[select(0u, row + bin, inside)], inside);
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
        let at = (begin + b) * params.channels + own.channel;
        if WRITE_Y {
            y[at] = activate(sums[b]);
        }
        if WRITE_PRE {
            pre[at] = sums[b];
        }
    }
}
