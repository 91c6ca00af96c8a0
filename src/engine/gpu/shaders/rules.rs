//! What every shader keeps to, so that any WebGPU device takes it and a reader
//! finds shapes and units where he looks.

use std::path::PathBuf;

use naga::valid::Capabilities;

use super::reflect::{parse, split_comments};
use super::{BindingKind, Expanded, SHARED, SOURCES, Shader, expand};

/// Storage buffers that every WebGPU device lets a shader bind.
const MAX_STORAGE_BUFFERS: usize = 8;

/// What the house's rules find wrong with a shader.
fn problems(expanded: Expanded) -> Vec<String> {
    let shader = match Shader::reflect(expanded.clone()) {
        Ok(shader) => shader,
        Err(error) => return vec![error.to_string()],
    };
    let mut problems = Vec::new();

    // A device without the features must take it, so nothing else is allowed.
    // Reading f16 from words is part of WebGPU.
    let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    for (feature, capability) in [
        (wgpu::Features::SHADER_F16, Capabilities::SHADER_FLOAT16),
        (wgpu::Features::SUBGROUP, Capabilities::SUBGROUP),
        (
            wgpu::Features::SUBGROUP_BARRIER,
            Capabilities::SUBGROUP_BARRIER,
        ),
        (
            wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
            Capabilities::COOPERATIVE_MATRIX,
        ),
    ] {
        if shader.features.contains(feature) {
            allowed |= capability;
        }
    }
    if let Err(error) = parse(&expanded, allowed) {
        problems.push(error.to_string());
    }

    for pair in shader.bindings.windows(2) {
        if (pair[0].group, pair[0].slot) == (pair[1].group, pair[1].slot) {
            let (one, other) = (&pair[0].name, &pair[1].name);
            problems.push(format!("{one} and {other} share a slot"));
        }
    }
    if shader.entries.is_empty() {
        problems.push("no entry point".into());
    }
    let limits = wgpu::Limits::default();
    for entry in &shader.entries {
        let name = &entry.name;
        let storage = entry.bindings.iter();
        let storage = storage.filter(|binding| binding.kind != BindingKind::Uniform);
        let count = storage.count();
        if count > MAX_STORAGE_BUFFERS {
            problems.push(format!("{name} binds {count} storage buffers"));
        }
        let invocations: u32 = entry.workgroup_size.iter().product();
        if invocations > limits.max_compute_invocations_per_workgroup {
            problems.push(format!("{name} has a workgroup of {invocations}"));
        }
        if entry.workgroup_storage > limits.max_compute_workgroup_storage_size {
            let bytes = entry.workgroup_storage;
            problems.push(format!("{name} shares {bytes} bytes in a workgroup"));
        }
    }

    for binding in &shader.bindings {
        if binding.kind == BindingKind::Uniform {
            continue;
        }
        let declaration = format!("> {}:", binding.name);
        let commented = split_comments(&shader.source).any(|(code, comment)| {
            code.contains("var<storage")
                && code.contains(&declaration)
                && comment.contains('(')
                && comment.contains(')')
        });
        if !commented {
            let name = &binding.name;
            problems.push(format!("{name} has no comment with its shape on its line"));
        }
    }
    let params = shader.params.iter().map(|member| ("Params", &member.name));
    let scalars = shader.scalars.iter().map(|name| ("Scalars", name));
    for (owner, name) in params.chain(scalars) {
        let declaration = format!("{name}:");
        let commented = split_comments(&shader.source)
            .any(|(code, comment)| code.starts_with(&declaration) && !comment.is_empty());
        if !commented {
            problems.push(format!("{owner}.{name} has no comment on its line"));
        }
    }
    problems
}

#[test]
fn every_shader_keeps_the_rules() {
    for (stem, source) in SOURCES {
        let found = problems(expand(stem, source, SHARED).unwrap());
        assert!(found.is_empty(), "shaders/{stem}.wgsl: {found:#?}");
        assert_eq!(Shader::load(stem).stem, *stem);
    }
}

/// A file by itself lacks the names that it imports, and nothing else.
#[test]
fn every_file_is_wgsl_by_itself() {
    for (stem, source) in SOURCES.iter().chain(SHARED) {
        if let Err(error) = naga::front::wgsl::parse_str(source) {
            let problem = error.message();
            let missing = problem.starts_with("no definition in scope");
            assert!(missing, "{stem}.wgsl: {problem}");
        }
    }
}

/// Expanded texts, one file for each shader, for naga and other tools that
/// read whole shaders:
///
///     SONOGRAD_WRITE_SHADERS=out cargo test --lib expanded_texts_can_be_written
///     naga out/matmul.wgsl
#[test]
fn expanded_texts_can_be_written() {
    let scratch = tempfile::tempdir().unwrap();
    let named = std::env::var_os("SONOGRAD_WRITE_SHADERS");
    let folder = named.map_or(scratch.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    for (stem, _) in SOURCES {
        let file = folder.join(stem).with_extension("wgsl");
        std::fs::write(&file, &Shader::load(stem).source).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let module = naga::front::wgsl::parse_str(&text).unwrap();
        assert_eq!(module.entry_points.len(), Shader::load(stem).entries.len());
    }
}

/// A shader that has one of everything and keeps the rules.
pub const SMALL: &str = "
        struct Params {
            rows: u32, // R: rows
        }
        struct Scalars {
            first: u32, // of this run
            row: u32, // to add
        }
        override SCALE: f32 = 2.0;
        override FLAG: bool;
        const TILE: u32 = 4u;
        const UNUSED = 9i;
        const AREA: u32 = TILE * TILE;
        const RATIO: f32 = 0.5;
        var<workgroup> shared_x: array<f32, AREA>;
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>; // y: (R)
        @group(0) @binding(1) var<storage, read> x: array<f32>; // x: (R)
        @group(0) @binding(3) var<storage, read> scalars: Scalars; // scalars: (2)
        fn put(value: f32) { y[0] = value; }
        @compute @workgroup_size(AREA, 2)
        fn forward() { shared_x[0] = x[params.rows]; put(shared_x[0] * SCALE); }
        @compute @workgroup_size(1)
        fn clear() { if FLAG { put(x[scalars.row + scalars.first]); } }
    ";

/// A text that imports nothing.
pub fn alone(source: &str) -> Expanded {
    expand("small", source, &[]).unwrap()
}

/// `SMALL` with one thing replaced.
fn spoilt(from: &str, to: &str) -> Vec<String> {
    assert!(SMALL.contains(from));
    problems(alone(&SMALL.replace(from, to)))
}

#[test]
fn broken_rules_are_found() {
    for (from, to, expected) in [
        ("// R: rows", "", "Params.rows has no comment"),
        ("// x: (R)", "", "x has no comment with its shape"),
        ("// x: (R)", "// input", "x has no comment with its shape"),
        ("@binding(1)", "@binding(2)", "conflict with other"),
        (
            "// R: rows",
            "// R: rows\n pair: vec2<u32>, // two",
            "Params.pair is not a u32",
        ),
        ("// to add", "", "Scalars.row has no comment"),
        (
            "// to add",
            "// to add\n half: f32, // more",
            "Scalars.half is not a u32",
        ),
        ("Params", "Settings", "not of type Params"),
        (
            "workgroup_size(AREA, 2)",
            "workgroup_size(AREA, 32)",
            "workgroup of 512",
        ),
        ("u32 = 4u", "u32 = 15u", "workgroup of 450"),
        ("array<f32, AREA>", "array<f32, 5000>", "shares 20000 bytes"),
        ("array<f32, AREA>", "array<f32, AREA> oops", "line 15: "),
        ("y[0] = value", "y[0] = value + 1u", "line 20: "),
    ] {
        let found = spoilt(from, to);
        let hit = |problem: &String| problem.contains(expected);
        assert!(found.iter().any(hit), "{from} -> {to}: {found:?}");
    }
    // Two entry points may not give one slot to different variables either.
    let found = spoilt(
        "fn put",
        "@group(0) @binding(1) var<storage, read_write> z: array<f32>; // z: (R)\nfn put",
    );
    assert!(found[0].contains("share a slot"), "{found:?}");
}

#[test]
fn the_small_shader_keeps_the_rules() {
    assert_eq!(problems(alone(SMALL)), Vec::<String>::new());
}
