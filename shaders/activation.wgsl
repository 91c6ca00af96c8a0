// dx = scale * dy * activation'(pre), element by element; pre may have fewer
// lead rows than dy and is then repeated.

// #import activations
// #import sigmoid

struct Params {
    count: u32,     // K·B·R·C: elements of dx
    count_pre: u32, // B·R·C: elements of pre
    scale: f32,     // factor, no unit
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>; // dy: (K·B, R, C)
@group(0) @binding(2) var<storage, read> pre: array<f32>; // pre: (B, R, C)
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // dx: (K·B, R, C)

override ACTIVATION: u32;

const WORKGROUP: u32 = 64u;

fn slope(x: f32) -> f32 {
    if ACTIVATION == RELU {
        return select(0.0, 1.0, x > 0.0);
    }
    if ACTIVATION == SILU {
        return sigmoid(x) * (1.0 + x * sigmoid(-x));
    }
    if ACTIVATION == GELU {
        // The normal distribution function and x times its density; their
        // factors are the square root of 1/2 and that of 1/(2 pi).
        let tail = 0.5 * erfc(min(abs(x) * 0.70710678, 10.0));
        let density = 0.39894228 * exp(-min(0.5 * x * x, 80.0));
        return select(1.0 - tail, tail, x < 0.0) + x * density;
    }
    if ACTIVATION == TANH {
        // 1 - tanh(x)^2, by factors that do not cancel.
        let t = exp(-2.0 * min(abs(x), 40.0));
        return 4.0 * t / ((1.0 + t) * (1.0 + t));
    }
    return 1.0;
}

@compute @workgroup_size(WORKGROUP)
fn reverse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i >= params.count {
        return;
    }
    dx[i] = params.scale * dy[i] * slope(pre[i % params.count_pre]);
}
