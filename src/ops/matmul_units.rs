//! Products on a GPU's matrix units: the launch that stands in for
//! [`Matmul`](super::Matmul)'s own.

use crate::engine::gpu::launch::{Extent, Launch};
use crate::engine::gpu::shaders::Param;
use crate::engine::gpu::units::MatrixUnits;

/// The same product on matrix units, if they can do it and it fills half a
/// tile at least: of the forward layout, since what goes back is not rounded
/// to f16.
pub fn on_units(launch: &Launch, units: MatrixUnits) -> Option<Launch> {
    let of = |name: &str| {
        let mut overrides = launch.overrides.iter();
        overrides.any(|(own, value)| *own == name && *value != 0.0)
    };
    // One of several ways to launch it reads the weight number by number.
    let by_one = launch.bindings.iter().any(|(name, _)| *name == "weight");
    if launch.shader != "matmul" || !by_one || of("IN_OUT") || of("ADD_TO_Y") {
        return None;
    }
    let size = |name: &str| {
        let found = launch.params.iter().find(|(own, _)| *own == name);
        match found {
            Some((_, Param::U32(size))) => *size as usize,
            _ => unreachable!("a product has {name}"),
        }
    };
    let (rows, outputs) = (size("rows"), size("outputs"));
    let shader = units.shader();
    let tile = shader.constant("TILE") as usize;
    if 2 * rows.min(outputs) <= tile {
        return None;
    }
    let kept = launch.overrides.iter().copied();
    let mut overrides: Vec<_> = kept
        .filter(|(name, _)| !["IN_OUT", "ADD_TO_Y"].contains(name))
        .collect();
    overrides.push(("SUBGROUPS", units.subgroups as f64));
    Some(Launch {
        shader: shader.stem,
        entry: "forward",
        overrides,
        extent: Extent::grid(outputs.div_ceil(tile), rows.div_ceil(tile)),
        ..launch.clone()
    })
}
