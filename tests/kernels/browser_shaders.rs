//! A second compiler of WGSL: the browser's makes a pipeline of every kernel that runs on
//! every device, with the constants that the launches set, without a message. naga lets
//! through what WGSL's grammar forbids.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sonograd::engine::gpu::launch::Launch;
use sonograd::engine::gpu::shaders::{ScalarType, Shader};

use crate::browser::Browser;
use crate::launches::launches_for_every_device;

/// Options for WebGPU, by the software driver that the browser brings.
const WEBGPU: [&str; 4] = [
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
];

/// Compiles each of `kernels` (name, code, entry, constants) and keeps what was said.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>kernels</title><script>
window.found = null;
async function compile(kernels) {
  if (!navigator.gpu) return ["there is no WebGPU"];
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) return ["there is no adapter"];
  const device = await adapter.requestDevice();
  const problems = [], modules = new Map();
  device.addEventListener("uncapturederror", event => problems.push(event.error.message));
  const make = async kernel => {
    let module = modules.get(kernel.code);
    if (!module) {
      module = device.createShaderModule({code: kernel.code});
      modules.set(kernel.code, module);
      const info = await module.getCompilationInfo();
      for (const m of info.messages) problems.push(`${kernel.name}: line ${m.lineNum}: ${m.message}`);
    }
    try {
      await device.createComputePipelineAsync({
        layout: "auto", compute: {module, entryPoint: kernel.entry, constants: kernel.constants},
      });
    } catch (e) { problems.push(`${kernel.name}: ${e.message}`); }
  };
  // All at once: several threads compile.
  await Promise.all(kernels.map(make));
  return problems;
}
compile(KERNELS).then(found => window.found = found, e => window.found = [String(e)]);
</script>"#;

/// A launch's constants; those that it leaves as they are, which only the weights' layout
/// changes, are all `rest`.
fn constants(launch: &Launch, rest: u32) -> Map<String, Value> {
    let shader = Shader::load(launch.shader);
    let given = launch.overrides.iter().copied();
    let left = shader.overrides.iter().filter(|own| {
        own.scalar == ScalarType::Bool && given.clone().all(|(name, _)| name != own.name)
    });
    let left = left.map(|own| (own.name.clone(), json!(rest)));
    let given = given.clone();
    let given = given.map(|(name, value)| (name.to_owned(), json!(value)));
    given.chain(left).collect()
}

/// What the browser finds wrong.
fn problems(kernels: &[Value]) -> Vec<String> {
    const LONG_ENOUGH: Duration = Duration::from_secs(300);
    let browser = Browser::start(&WEBGPU);
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("kernels.html");
    // No `</script>` may stand in it.
    let all = json!(kernels).to_string().replace('<', "\\u003c");
    fs::write(&page, PAGE.replace("KERNELS", &all)).unwrap();
    browser.open(&page);
    let begin = Instant::now();
    loop {
        let found = browser.run("return window.found");
        if let Some(found) = found.as_array() {
            return found
                .iter()
                .map(|one| one.as_str().unwrap().into())
                .collect();
        }
        assert!(begin.elapsed() < LONG_ENOUGH, "the browser still compiles");
        sleep(Duration::from_millis(200));
    }
}

#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn a_browser_takes_every_kernel() {
    let (mut seen, mut kernels) = (BTreeSet::new(), Vec::new());
    for launch in launches_for_every_device() {
        let name = format!("{}.{}", launch.shader, launch.entry);
        // One each with what the layout may switch on.
        let most = if seen.insert(name.clone()) { 1 } else { 0 };
        for rest in 0..=most {
            let constants = constants(&launch, rest);
            let name = format!("{name} {}", json!(constants));
            if seen.insert(name.clone()) {
                kernels.push(json!({
                    "name": name,
                    "code": Shader::load(launch.shader).source,
                    "entry": launch.entry,
                    "constants": constants,
                }));
            }
        }
    }
    println!("{} kernels", kernels.len());
    assert!(kernels.len() > 60);
    let found = problems(&kernels);
    assert!(found.is_empty(), "{found:#?}");
}

/// What naga takes and the grammar forbids is found, and so is a wrong constant.
#[test]
#[cfg_attr(no_test_page, ignore = "SONOGRAD_TEST_PAGE=none")]
fn a_browser_finds_what_is_wrong() {
    let kernel = |sum: &str, constants: Value| {
        let code = format!(
            "override SIDE: u32; @group(0) @binding(0) var<storage, read_write> y: array<u32>;
             @compute @workgroup_size(1) fn main() {{ y[0] = {sum} + SIDE; }}"
        );
        json!({"name": sum, "code": code, "entry": "main", "constants": constants})
    };
    let right = kernel("((y[1] >> 2u) & 1u)", json!({"SIDE": 3}));
    assert!(problems(std::slice::from_ref(&right)).is_empty());
    let mixed = kernel("(y[1] >> 2u & 1u)", json!({"SIDE": 3}));
    let unset = kernel("(y[1])", json!({}));
    let found = problems(&[right, mixed, unset]).join("\n");
    assert!(found.contains("(y[1] >> 2u & 1u): line"), "{found}");
    assert!(found.contains("(y[1]): "), "{found}");
    assert!(!found.contains("((y[1] >> 2u) & 1u): "), "{found}");
}
