// y[n, k] = sum of p · (log p - log q) over the columns, where log p is the
// reference and q = softmax(logits), both at row positions[k]. One workgroup
// for each element of y. What is summed is p · (exp(d) - 1 - d) with
// d = log q - log p: the same in all, and no term is negative, so that nothing
// cancels where the two hardly differ.
//
// log q is computed as log_softmax.wgsl does it, operation by operation, so
// that a reference made there of the same logits gives exactly 0.

// #import lanes

struct Params {
    count: u32,          // N·K: elements of y
    tokens: u32,         // K
    rows: u32,           // I: positions of the decoder
    cols: u32,           // V
    lead_reference: u32, // N', N or 1: lead rows of the reference
    lead_logits: u32,    // N'', N or 1: lead rows of the logits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> reference: array<f32>; // reference: (N', I, V), natural logarithms
@group(0) @binding(2) var<storage, read> logits: array<f32>; // logits: (N'', I, V)
@group(0) @binding(3) var<storage, read> positions: array<u32>; // positions: (K), below I
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // y: (N, K, 1), nats

const WORKGROUP: u32 = 256u;
alias Lane = f32;

fn divergence_term(p: f32, q: f32) -> f32 {
    let d = q - p;
    let size = abs(d);
    // The larger of the two probabilities, and the smaller's share of it.
    let larger = exp(max(max(p, q), -80.0));
    let share = exp(max(-size, -80.0));
    if size < 0.5 {
        // 1/2 + d/6 + d²/24 + ...
        var series = 1.0 / 40320.0;
        series = series * d + 1.0 / 5040.0;
        series = series * d + 1.0 / 720.0;
        series = series * d + 1.0 / 120.0;
        series = series * d + 1.0 / 24.0;
        series = series * d + 1.0 / 6.0;
        series = series * d + 0.5;
        return larger * select(1.0, share, d > 0.0) * (d * d * series);
    }
    return larger * select(share - 1.0 + size, 1.0 - (1.0 + d) * share, d > 0.0);
}

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
    let n = i / params.tokens;
    let position = min(positions[i % params.tokens], params.rows - 1u);
    let at = (n % params.lead_reference * params.rows + position) * params.cols;
    let begin = (n % params.lead_logits * params.rows + position) * params.cols;
    var own = -1e30;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        own = max(own, logits[begin + c]);
    }
    let most = workgroup_max(lane, own);
    own = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        own += exp(max(logits[begin + c] - most, -80.0));
    }
    let log_sum = log(workgroup_sum(lane, own));
    own = 0.0;
    for (var c = lane; c < params.cols; c += WORKGROUP) {
        let p = reference[at + c];
        let q = (logits[begin + c] - most) - log_sum;
        // By their bits, since fast mathematics may take the difference apart.
        if bitcast<u32>(p) != bitcast<u32>(q) {
            own += divergence_term(p, q);
        }
    }
    let divergence = workgroup_sum(lane, own);
    if lane == 0u {
        y[i] = divergence;
    }
}
