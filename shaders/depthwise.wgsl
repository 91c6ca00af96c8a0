// Depthwise convolution over time with 'same' padding and its reverse:
//   y[t, c] = activation(bias[c] + sum over j of x[t + j - k/2, c] * weight[j, c])
//   dx[t, c] = sum over j of dz[t - j + k/2, c] * weight[j, c]
// One invocation computes one channel at FRAMES adjacent times: each input and
// each weight is read once for all of them.

// #import activate

struct Params {
    lead: u32,   // N: sequences
    frames: u32, // T: frames of a sequence
    cols: u32,   // C: channels
    kernel: u32, // k: taps, odd
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (N, T, C)
@group(0) @binding(2) var<storage, read> weight: array<f32>; // weight: (k, C)
@group(0) @binding(3) var<storage, read> bias: array<f32>; // bias: (C)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (N, T, C)
@group(0) @binding(5) var<storage, read_write> pre: array<f32>; // pre: (N, T, C), before the activation
@group(0) @binding(6) var<storage, read> dz: array<f32>; // dz: (N, T, C)
@group(0) @binding(7) var<storage, read_write> dx: array<f32>; // dx: (N, T, C)

override ACTIVATION: u32 = 0u;
// Results that are wanted
override WRITE_Y: bool = true;
override WRITE_PRE: bool = true;

const WORKGROUP: u32 = 64u;
const FRAMES: u32 = 4u;

// An invocation's first element, and how many of its frames there are.
struct Place {
    begin: u32, // of the sequence
    frame: u32,
    channel: u32,
    count: u32, // 0 past the end
}

fn place(i: u32) -> Place {
    let parts = (params.frames + FRAMES - 1u) / FRAMES;
    let channel = i % params.cols;
    let part = i / params.cols % parts;
    let n = i / params.cols / parts;
    let frame = part * FRAMES;
    let count = select(0u, min(FRAMES, params.frames - frame), n < params.lead);
    return Place(n * params.frames * params.cols, frame, channel, count);
}

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = place((group.x + group.y * groups.x) * WORKGROUP + lane);
    if own.count == 0u {
        return;
    }
    var sums = vec4(bias[own.channel]);
    // Element i is the weight with which the input at hand goes into frame i.
    var taps = vec4(0.0);
    for (var m = 0u; m < params.kernel + FRAMES - 1u; m++) {
        var tap = 0.0;
        if m < params.kernel {
            tap = weight[m * params.cols + own.channel];
        }
        taps = vec4(tap, taps.xyz);
        // Frames before the sequence wrap round to large numbers.
        let source = own.frame + m - params.kernel / 2u;
        if source < params.frames {
            sums += taps * x[own.begin + source * params.cols + own.channel];
        }
    }
    for (var i = 0u; i < own.count; i++) {
        let at = own.begin + (own.frame + i) * params.cols + own.channel;
        if WRITE_Y {
            y[at] = activate(sums[i]);
        }
        if WRITE_PRE {
            pre[at] = sums[i];
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn reverse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = place((group.x + group.y * groups.x) * WORKGROUP + lane);
    if own.count == 0u {
        return;
    }
    var sums = vec4(0.0);
    var taps = vec4(0.0);
    for (var m = 0u; m < params.kernel + FRAMES - 1u; m++) {
        var tap = 0.0;
        if m < params.kernel {
            tap = weight[(params.kernel - 1u - m) * params.cols + own.channel];
        }
        taps = vec4(tap, taps.xyz);
        let source = own.frame + m - params.kernel / 2u;
        if source < params.frames {
            sums += taps * dz[own.begin + source * params.cols + own.channel];
        }
    }
    for (var i = 0u; i < own.count; i++) {
        dx[own.begin + (own.frame + i) * params.cols + own.channel] = sums[i];
    }
}
