// What the reverse of attention needs to know of each query: the logarithm of
// its sum of exp(score), and the product of its output and its cotangent.
//
// A workgroup takes 16 rows, 16 threads each.

struct Params {
    lead: u32,    // N: lead rows of doutput and terms, K * B
    batch: u32,   // B: lead rows of output and statistics
    queries: u32, // Q: queries in a lead row
    heads: u32,   // H: heads
    depth: u32,   // E: columns of a head
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> output: array<f32>; // output: (B, Q, H * E)
@group(0) @binding(2) var<storage, read> statistics: array<f32>; // statistics: (B, H, Q, 2): maximum, logarithm of the sum
@group(0) @binding(3) var<storage, read> doutput: array<f32>; // doutput: (N, Q, H * E)
@group(0) @binding(4) var<storage, read_write> terms: array<f32>; // terms: (N, H, Q, 2)

const LANES: u32 = 16u;
const STRIDE: u32 = 17u;

// Each thread's part of its row's product: (rows, threads).
var<workgroup> parts: array<f32, 272>;

@compute @workgroup_size(LANES, LANES)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    // More workgroups than one dimension holds are folded into the second.
    let row = (group.x + group.y * groups.x) * LANES + lane.y;
    let inside = row < params.lead * params.heads * params.queries;
    let i = row % params.queries;
    let head = row / params.queries % params.heads;
    let n = row / (params.queries * params.heads);
    let b = n % params.batch;
    let width = params.heads * params.depth;
    let at = (b * params.queries + i) * width + head * params.depth;
    let dat = (n * params.queries + i) * width + head * params.depth;
    var part = 0.0;
    if inside {
        for (var c = lane.x; c < params.depth; c += LANES) {
            part += output[at + c] * doutput[dat + c];
        }
    }
    parts[lane.y * STRIDE + lane.x] = part;
    workgroupBarrier();
    if inside && lane.x == 0u {
        var sum = 0.0;
        for (var l = 0u; l < LANES; l++) {
            sum += parts[lane.y * STRIDE + l];
        }
        let known = 2u * ((b * params.heads + head) * params.queries + i);
        terms[2u * row] = statistics[known] + statistics[known + 1u];
        terms[2u * row + 1u] = sum;
    }
}
