//! `sonograd devices`: what could run the work here, and what would.

use std::fmt;
use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::engine::device::{DeviceChoice, NativeInfo, Selection, select};
use crate::engine::gpu::adapter::{self, AdapterInfo};
use crate::{Error, Result};

/// What `devices` prints, also as JSON.
#[derive(Debug, Serialize)]
struct Devices {
    native: NativeInfo,
    adapters: Vec<AdapterInfo>,
    /// What `--device auto` takes: `cpu` or an adapter's name.
    auto: String,
}

impl Devices {
    fn new(native: NativeInfo, adapters: Vec<AdapterInfo>) -> Result<Self> {
        let auto = match select(&DeviceChoice::Auto, &adapters)? {
            Selection::Native => DeviceChoice::Cpu.to_string(),
            Selection::Adapter { index, .. } => adapters[index].name.clone(),
        };
        Ok(Self {
            native,
            adapters,
            auto,
        })
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let native = &self.native;
        writeln!(f, "cpu, the native executor")?;
        let plural = if native.cores == 1 { "" } else { "s" };
        write!(f, "    {} core{plural}, ", native.cores)?;
        write!(f, "{}", native.architecture)?;
        if !native.instruction_sets.is_empty() {
            write!(f, " with {}", native.instruction_sets.join(", "))?;
        }
        if let Some(bytes) = native.memory_bytes {
            write!(f, ", {} of memory", size(bytes))?;
        }
        writeln!(f)?;
        for info in &self.adapters {
            write_adapter(f, info)?;
        }
        if self.adapters.is_empty() {
            writeln!(f, "no GPU adapter: no Vulkan, Metal or DirectX 12 driver")?;
        }
        writeln!(f, "--device auto takes {}", self.auto)
    }
}

fn write_adapter(f: &mut fmt::Formatter<'_>, info: &AdapterInfo) -> fmt::Result {
    writeln!(f, "{info}")?;
    writeln!(f, "    driver {}", info.driver)?;
    writeln!(
        f,
        "    buffers up to {}, {} in one binding, {} bindings a shader",
        size(info.max_buffer_size),
        size(info.max_storage_buffer_binding_size),
        info.max_storage_buffers_per_shader_stage,
    )?;
    let subgroups = match (info.subgroup_min_size, info.subgroup_max_size) {
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min} to {max}"),
    };
    writeln!(
        f,
        "    workgroups of up to {} with {} shared, subgroups of {subgroups}",
        info.max_compute_invocations_per_workgroup,
        size(info.max_compute_workgroup_storage_size.into()),
    )?;
    let mark = |there: bool| if there { "yes" } else { "no" };
    writeln!(
        f,
        "    f16 {}, subgroup operations {}, timestamps {}",
        mark(info.shader_f16),
        mark(info.subgroup),
        mark(info.timestamp_query),
    )?;
    let shapes: Vec<_> = info
        .cooperative_matrices
        .iter()
        .map(ToString::to_string)
        .collect();
    if shapes.is_empty() {
        writeln!(f, "    cooperative matrices none")?;
    } else {
        writeln!(f, "    cooperative matrices {}", shapes.join(", "))?;
    }
    if let Some(unfit) = &info.unfit {
        writeln!(f, "    cannot run the engine: {unfit}")?;
    }
    Ok(())
}

/// Bytes in the largest binary unit that leaves at least one.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() < 0.05 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Prints the executors and adapters of this machine, as text or as JSON.
///
/// # Errors
/// [`Error::File`] when the standard output cannot be written.
pub fn run(json: bool) -> Result<()> {
    let adapters = adapter::enumerate();
    let infos = adapters.into_iter().map(|found| found.info).collect();
    let devices = Devices::new(NativeInfo::detect(), infos)?;
    let text = if json {
        let text = serde_json::to_string_pretty(&devices);
        text.map_err(|error| Error::Device(error.to_string()))? + "\n"
    } else {
        devices.to_string()
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Error::file("standard output", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gpu::adapter::Kind;

    fn native() -> NativeInfo {
        NativeInfo {
            cores: 2,
            architecture: "x86_64",
            instruction_sets: vec!["avx2", "fma"],
            memory_bytes: Some(24 << 30),
        }
    }

    #[test]
    fn text_and_json_say_what_auto_takes() {
        let devices = Devices::new(native(), Vec::new()).unwrap();
        let text = devices.to_string();
        assert!(text.contains("2 cores, x86_64 with avx2, fma, 24 GiB of memory"));
        assert!(text.contains("no GPU adapter"));
        assert!(text.ends_with("--device auto takes cpu\n"));

        let card = AdapterInfo {
            name: "Some GPU".into(),
            kind: Kind::Discrete,
            ..Default::default()
        };
        let devices = Devices::new(native(), vec![card]).unwrap();
        assert!(devices.to_string().ends_with("auto takes Some GPU\n"));
        let json = serde_json::to_value(&devices).unwrap();
        assert_eq!(json["auto"], "Some GPU");
        assert_eq!(json["adapters"][0]["kind"], "discrete");
        assert_eq!(json["native"]["cores"], 2);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(32 << 10), "32 KiB");
        assert_eq!(size(128 << 20), "128 MiB");
        assert_eq!(size((2 << 30) - 4), "2.0 GiB");
        assert_eq!(size(25_148_642_304), "23.4 GiB");
    }
}
