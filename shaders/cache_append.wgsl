// cache[n, step] = x[n], `width` columns of it from `offset` on, where step is
// the scalar step. The cache is updated in place; its other rows stay.

struct Params {
    count: u32,    // N·width: elements written
    width: u32,    // columns of the cache
    capacity: u32, // positions of the cache
    x_cols: u32,   // columns of x, at least offset + width
    x_offset: u32, // first column of x that is stored
}

struct Scalars {
    step: u32, // position of this decoding step
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // x: (N, 1, x_cols)
@group(0) @binding(2) var<storage, read> scalars: Scalars; // scalars: (1)
@group(0) @binding(3) var<storage, read_write> cache: array<f32>; // cache: (N, capacity, width)

const WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    let step = scalars.step;
    if i >= params.count || step >= params.capacity {
        return;
    }
    let n = i / params.width;
    let c = i % params.width;
    let to = (n * params.capacity + step) * params.width + c;
    cache[to] = x[n * params.x_cols + params.x_offset + c];
}
