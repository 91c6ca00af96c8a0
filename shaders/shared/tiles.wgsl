// What kernels that work tile by tile have in common.

// Row of tiles, or lead row, that a workgroup is in; those beyond one dimension's
// limit are folded into the third.
fn folded_row(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y + group.z * groups.y;
}

// Products of all of `a` (rows) with all of `b` (columns).
fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}
