// y[n] = x where mask m = first + n keeps it, else `fill`; first is the scalar
// first_variant. Mask m uses segmentation m % G. Where the scalar masking is
// 0, everything is kept. How masks are drawn: masks.wgsl. One invocation for
// each element of y.

// #import masks

struct Params {
    count: u32,      // N·R·C: elements of y
    inner: u32,      // R·C: elements of x
    cols: u32,       // C
    groups: u32,     // G: segmentations
    label_cols: u32, // C', C or 1: labels in a row
    fill_inner: u32, // R'·C: elements of fill, R·C or C
    stream: u32,     // number of the place where masks are applied
    seed_low: u32,   // lower half of the seed
    seed_high: u32,  // upper half of the seed
    limit: u32,      // words below it hide
    mask_rows: u32,  // M: given masks, at least 1
    mask_words: u32, // W: words of a given mask
}

struct Scalars {
    first_variant: u32, // first of this run's masks
    masking: u32, // 0 keeps everything
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (1, R, C)
@group(0) @binding(2) var<storage, read> labels: array<u32>; // labels: (G, R, C'), segments
@group(0) @binding(3) var<storage, read> fill: array<f32>; // fill: (1, R', C)
@group(0) @binding(4) var<storage, read> bits: array<u32>; // bits: (1, M, W), if GIVEN
@group(0) @binding(5) var<storage, read> scalars: Scalars; // scalars: (2)
@group(0) @binding(6) var<storage, read_write> y: array<f32>; // y: (N, R, C)

// Whether masks are given; else they are drawn
override GIVEN: bool;

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
    let at = i % params.inner;
    if scalars.masking != 0u {
        let m = scalars.first_variant + i / params.inner;
        let row = at / params.cols;
        let col = min(at % params.cols, params.label_cols - 1u);
        let rows = params.inner / params.cols;
        let segment = labels[(m % params.groups * rows + row) * params.label_cols + col];
        if ((hidden_four(m, segment / 4u) >> (segment % 4u)) & 1u) == 1u {
            y[i] = fill[at % params.fill_inner];
            return;
        }
    }
    y[i] = x[at];
}
