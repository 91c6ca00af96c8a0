// map[k, r, c] = mean score of the masks that hide (r, c), over the masks of all
// segmentations together; 0 where none does. One invocation for each element.

struct Params {
    count: u32,      // K·R·C: elements of the map
    inner: u32,      // R·C
    label_cols: u32, // C: labels in a row
    groups: u32,     // G: segmentations
    segments: u32,   // S: segments of the largest segmentation
    cols: u32,       // K + 1: scores, then the number of masks
    first_half: u32, // first half of the masks that counts, 0 or 1
    end_half: u32,   // half after the last one, 1 or 2
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sums: array<f32>; // sums: (2·G, S, K + 1)
@group(0) @binding(2) var<storage, read> labels: array<u32>; // labels: (G, R, C), segments
@group(0) @binding(3) var<storage, read> positions: array<u32>; // positions: (K), below R, if CAUSAL
@group(0) @binding(4) var<storage, read_write> map: array<f32>; // map: (K, R, C)

// Whether rows after positions[k] are 0
override CAUSAL: bool;

const WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i >= params.count {
        return;
    }
    let k = i / params.inner;
    let at = i % params.inner;
    if CAUSAL {
        if at / params.label_cols > positions[k] {
            map[i] = 0.0;
            return;
        }
    }
    var sum = 0.0;
    var count = 0.0;
    for (var part = params.first_half; part < params.end_half; part++) {
        for (var g = 0u; g < params.groups; g++) {
            let segment = min(labels[g * params.inner + at], params.segments - 1u);
            let row = (part * params.groups + g) * params.segments + segment;
            sum += sums[row * params.cols + k];
            count += sums[row * params.cols + params.cols - 1u];
        }
    }
    // A sum of no masks is 0.
    map[i] = sum / max(count, 1.0);
}
