// y[b] = baseline + fractions[first + b] * (x - baseline), where first is the
// scalar first_variant; past the last fraction y is x.

struct Params {
    count: u32,    // B·R·C: elements of y
    inner: u32,    // R·C: elements of x
    variants: u32, // fractions in all
}

struct Scalars {
    first_variant: u32, // first of this run's variants
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (1, R, C)
@group(0) @binding(2) var<storage, read> baseline: array<f32>; // baseline: (1, R, C)
@group(0) @binding(3) var<storage, read> fractions: array<f32>; // fractions: (variants)
@group(0) @binding(4) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // y: (B, R, C)

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
    let variant = scalars.first_variant + i / params.inner;
    var fraction = 1.0;
    if variant < params.variants {
        fraction = fractions[variant];
    }
    let base = baseline[i % params.inner];
    y[i] = base + fraction * (x[i % params.inner] - base);
}
