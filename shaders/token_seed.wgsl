// dlogits[n] = onehot(labels[token]) - softmax(logits[n % B, positions[token]]).
// Lead row n = k·B + b belongs to token first_token (a scalar) + k; past the
// last one the last is repeated. One workgroup for each lead row.

// #import lanes

struct Params {
    lead: u32,   // K·B: rows of dlogits
    batch: u32,  // B
    rows: u32,   // I: positions of the decoder
    cols: u32,   // V
    tokens: u32, // tokens in all
}

struct Scalars {
    first_token: u32, // first of this run's tokens
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // logits: (B, I, V)
@group(0) @binding(2) var<storage, read> positions: array<u32>; // positions: (tokens), below I
@group(0) @binding(3) var<storage, read> labels: array<u32>; // labels: (tokens), below V
@group(0) @binding(4) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>; // dlogits: (K·B, 1, V)

const WORKGROUP: u32 = 256u;
alias Lane = f32;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.x + group.y * groups.x;
    if n >= params.lead {
        return;
    }
    let token = min(scalars.first_token + n / params.batch, params.tokens - 1u);
    let position = min(positions[token], params.rows - 1u);
    let begin = (n % params.batch * params.rows + position) * params.cols;
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
    let label = labels[token];
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        let probability = exp(max(logits[begin + c] - most, -80.0)) / sum;
        dlogits[n * params.cols + c] = select(0.0, 1.0, c == label) - probability;
    }
}
