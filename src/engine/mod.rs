//! Where recordings are run: natively, or on a GPU through wgpu.

pub mod device;
pub mod gpu;
