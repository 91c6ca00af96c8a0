// y = scale_a * a + scale_b * b, where a and b may have fewer rows than y and
// are then repeated: row n of y reads row n % A of a and row n % B of b.

struct Params {
    count_n: u32, // N: rows of y
    inner: u32,   // M: elements in a row
    lead_a: u32,  // A: rows of a, 1 to N
    lead_b: u32,  // B: rows of b, 1 to N
    scale_a: f32, // factor of a, no unit
    scale_b: f32, // factor of b, no unit
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>; // a: (A, M)
@group(0) @binding(2) var<storage, read> b: array<f32>; // b: (B, M)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // y: (N, M)

const WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // More workgroups than one dimension holds are folded into the second.
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i >= params.count_n * params.inner {
        return;
    }
    let n = i / params.inner;
    let m = i % params.inner;
    let at_a = (n % params.lead_a) * params.inner + m;
    let at_b = (n % params.lead_b) * params.inner + m;
    y[i] = params.scale_a * a[at_a] + params.scale_b * b[at_b];
}
