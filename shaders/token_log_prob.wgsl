// y[b, k] = log softmax(logits[b, positions[k]])[labels[k]]. One workgroup for
// each element of y.

// #import lanes

struct Params {
    count: u32,  // B·K: elements of y
    tokens: u32, // K
    rows: u32,   // I: positions of the decoder
    cols: u32,   // V
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // logits: (B, I, V)
@group(0) @binding(2) var<storage, read> positions: array<u32>; // positions: (K), below I
@group(0) @binding(3) var<storage, read> labels: array<u32>; // labels: (K), below V
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (B, K, 1), natural logarithms

const WORKGROUP: u32 = 256u;
alias Lane = f32;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x + group.y * groups.x;
    if i >= params.count {
        return;
    }
    let token = i % params.tokens;
    let position = min(positions[token], params.rows - 1u);
    let label = min(labels[token], params.cols - 1u);
    let begin = (i / params.tokens * params.rows + position) * params.cols;
    var own = -1e30;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        own = max(own, logits[begin + c]);
    }
    let most = workgroup_max(lane, own);
    own = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        own += exp(max(logits[begin + c] - most, -80.0));
    }
    let sum = workgroup_sum(lane, own);
    if lane == 0u {
        y[i] = (logits[begin + label] - most) - log(sum);
    }
}
