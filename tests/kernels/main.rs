//! Operators: their kernels on the GPU and their reverse passes, each against the native
//! code in f64. A new operator is tested here first.

/// What tests of operators and kernels share: small recordings, tolerances.
#[path = "../shared/cases.rs"]
mod cases;

/// A headless Chromium.
#[path = "../shared/browser.rs"]
mod browser;

/// The smallest shader by hand: bindings, parameters, folding of workgroups.
mod add;
/// Attention, and attention over terms.
mod attention;
/// Attention times its gradient, up to whole models.
mod attention_x_gradient;
/// The shaders in a browser's WebGPU.
mod browser_shaders;
/// The comparison that all these rely on fails when it should.
mod compare;
/// What operators ask of the GPU against what the shaders declare. Needs no GPU.
mod launches;
/// Products, by every entry point.
mod matmul;
/// Every operator without a file of its own.
mod operators;
/// The reverse of every operator against central differences. Needs no GPU.
mod reverse;
/// The operators of occlusion.
mod spes;
