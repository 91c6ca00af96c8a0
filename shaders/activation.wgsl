// dx = scale * dy * activation'(pre), element by element; pre may have fewer
// lead rows than dy and is then repeated.

struct Params {
    count: u32,     // K·B·R·C: elements of dx
    count_pre: u32, // B·R·C: elements of pre
    scale: f32,     // factor, no unit
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>; // dy: (K·B, R, C)
@group(0) @binding(2) var<storage, read> pre: array<f32>; // pre: (B, R, C)
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // dx: (K·B, R, C)

// 0 none, 1 ReLU, 2 SiLU, 3 GELU
override ACTIVATION: u32;

const WORKGROUP: u32 = 64u;

// 1 / (1 + exp(-x)), without overflow
fn sigmoid(x: f32) -> f32 {
    let small = exp(-min(abs(x), 80.0));
    return select(1.0, small, x < 0.0) / (1.0 + small);
}

// The normal distribution function and its density at x. The tail is
// exp(-x²/2) times a polynomial in 1 / (1 + 0.3·|x|), fitted to an absolute
// error of 2e-8 (a relative one of 2e-6 down to six standard deviations).
fn normal(x: f32) -> vec2<f32> {
    let bell = exp(-min(0.5 * x * x, 80.0));
    let t = 1.0 / (1.0 + 0.3 * abs(x));
    var p = 0.0342133716;
    p = p * t - 0.149862006;
    p = p * t + 0.191212386;
    p = p * t - 0.0371220745;
    p = p * t + 0.118239492;
    p = p * t + 0.103554294;
    p = p * t + 0.120086648;
    p = p * t + 0.119677901;
    let tail = p * t * bell;
    return vec2(select(1.0 - tail, tail, x < 0.0), 0.39894228 * bell);
}

fn slope(x: f32) -> f32 {
    if ACTIVATION == 1u {
        return select(0.0, 1.0, x > 0.0);
    }
    if ACTIVATION == 2u {
        return sigmoid(x) * (1.0 + x * sigmoid(-x));
    }
    if ACTIVATION == 3u {
        let phi = normal(x);
        return phi.x + x * phi.y;
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
