//! `shaders/add.wgsl` on a GPU, launched by its reflection alone.

use sonograd::engine::gpu::adapter::{Device, open_for_tests};
use sonograd::engine::gpu::shaders::{BindingKind, Param, Shader};

/// Runs `forward` on N rows of M elements; the rows of `a` and `b` follow from
/// their lengths.
fn add(device: &Device, n: usize, m: usize, a: &[f32], b: &[f32], scale_a: f32) -> Vec<f32> {
    let shader = Shader::load("add");
    let entry = shader.entry("forward").unwrap();
    let params = shader
        .pack_params(&[
            ("count_n", Param::U32(n as u32)),
            ("inner", Param::U32(m as u32)),
            ("lead_a", Param::U32((a.len() / m) as u32)),
            ("lead_b", Param::U32((b.len() / m) as u32)),
            ("scale_a", Param::F32(scale_a)),
            ("scale_b", Param::F32(1.0)),
        ])
        .unwrap();
    let y_bytes = (n * m * 4) as u64;

    let made = device.guarded("add", |raw| {
        let module = raw.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(shader.stem),
            source: wgpu::ShaderSource::Wgsl((&*shader.source).into()),
        });
        let pipeline = raw.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.stem),
            layout: None,
            module: &module,
            entry_point: Some(&entry.name),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffer = |size, usage| {
            raw.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let transfers = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let mut buffers = Vec::new();
        for binding in &entry.bindings {
            let bytes: &[u8] = match &*binding.name {
                "params" => &params,
                "a" => bytemuck::cast_slice(a),
                "b" => bytemuck::cast_slice(b),
                _ => &[],
            };
            let (size, usage) = match binding.kind {
                BindingKind::Uniform => (bytes.len() as u64, wgpu::BufferUsages::UNIFORM),
                BindingKind::Read => (bytes.len() as u64, wgpu::BufferUsages::STORAGE),
                BindingKind::ReadWrite => (y_bytes, wgpu::BufferUsages::STORAGE),
                BindingKind::Scalars => unreachable!("a sum reads none"),
            };
            let made = buffer(size, usage | transfers);
            device.queue.write_buffer(&made, 0, bytes);
            buffers.push(made);
        }
        let bound: Vec<_> = entry
            .bindings
            .iter()
            .zip(&buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: binding.slot,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let group = raw.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &bound,
        });
        let read = buffer(
            y_bytes,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        );
        let [x, y, z] = entry.workgroups((n * m) as u64).unwrap();
        let mut encoder = raw.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(x, y, z);
        drop(pass);
        let at_y = entry
            .bindings
            .iter()
            .position(|binding| binding.name == "y");
        encoder.copy_buffer_to_buffer(&buffers[at_y.unwrap()], 0, &read, 0, y_bytes);
        device.queue.submit([encoder.finish()]);
        read
    });
    let read = made.unwrap();
    read.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
    device.wait().unwrap();
    let view = read.slice(..).get_mapped_range().unwrap();
    bytemuck::cast_slice(&view).to_vec()
}

/// Quarters between -7 and 8: their sums and products are exact in f32.
fn values(count: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7 + seed * 13) % 61) as f32 * 0.25 - 7.0;
    (0..count).map(value).collect()
}

/// y, checked against a plain loop. The values are exact, so any difference
/// is a wrong element.
fn check(device: &Device, n: usize, m: usize, lead_a: usize, lead_b: usize) {
    let (a, b) = (values(lead_a * m, 1), values(lead_b * m, 2));
    let y = add(device, n, m, &a, &b, -1.5);
    assert_eq!(y.len(), n * m);
    for (i, y) in y.into_iter().enumerate() {
        let (row, column) = (i / m, i % m);
        let expected = -1.5 * a[row % lead_a * m + column] + b[row % lead_b * m + column];
        assert_eq!(y, expected, "row {row}, column {column} of ({n}, {m})");
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn rows_are_repeated() {
    let device = open_for_tests();
    for m in [1, 3, 7, 64, 1023] {
        for (n, lead_a, lead_b) in [(1, 1, 1), (6, 6, 1), (6, 1, 6), (6, 3, 2), (7, 7, 7)] {
            check(&device, n, m, lead_a, lead_b);
        }
    }
}

#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn more_workgroups_than_one_dimension_holds() {
    let device = open_for_tests();
    let (n, m) = (1024, 4099);
    assert!(n * m > 64 * 65_535);
    check(&device, n, m, n, 3);
}
