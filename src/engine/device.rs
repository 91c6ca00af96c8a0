//! Which executor runs a recording: the native one or a GPU.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::executor::Executor;
use super::gpu::adapter::{self, AdapterInfo};
use super::gpu::{GpuExecutor, GpuOptions};
use super::native::NativeExecutor;
use super::precision::Precision;
use super::weights::WeightTable;
use crate::{Error, Result};

/// What `--device` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if there is one, else the native executor.
    #[default]
    Auto,
    /// The native executor.
    Cpu,
    /// The best adapter, a software one only if there is no other.
    Gpu,
    /// The adapter whose name contains this, in any case, or that is at this place
    /// on the PCI bus.
    Named(String),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        match text.to_lowercase().as_str() {
            "" => Err(Error::Input(
                "--device is empty; it takes auto, cpu, gpu or part of an adapter's name".into(),
            )),
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => Ok(Self::Named(text.into())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Named(name) => name,
        })
    }
}

/// What a choice comes to among the adapters that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The native executor.
    Native,
    /// The adapter at this place of the list.
    Adapter {
        index: usize,
        /// What the user should know about it.
        warning: Option<String>,
    },
}

/// Makes the choice. It looks at nothing but its arguments.
///
/// # Errors
/// [`Error::Device`] when no adapter fits, listing those that there are.
pub fn select(choice: &DeviceChoice, adapters: &[AdapterInfo]) -> Result<Selection> {
    let best = |fits: &dyn Fn(&AdapterInfo) -> bool| {
        let fitting = adapters.iter().enumerate().filter(|(_, info)| fits(info));
        // Unfit adapters come last, so that they are met only to say why.
        fitting.min_by_key(|(index, info)| (info.unfit.is_some(), info.kind, info.backend, *index))
    };
    let (index, info) = match choice {
        DeviceChoice::Cpu => return Ok(Selection::Native),
        DeviceChoice::Auto => match best(&|info| !info.is_software() && info.unfit.is_none()) {
            Some(found) => found,
            None => return Ok(Selection::Native),
        },
        DeviceChoice::Gpu => best(&|_| true).ok_or_else(|| {
            Error::Device(
                "there is no GPU adapter; install a Vulkan driver, or use --device cpu".into(),
            )
        })?,
        DeviceChoice::Named(part) => {
            let lower = part.to_lowercase();
            let fits = |info: &AdapterInfo| {
                info.name.to_lowercase().contains(&lower) || info.pci_bus == lower
            };
            best(&fits).ok_or_else(|| {
                Error::Device(format!(
                    "no adapter's name contains '{part}'; there {}",
                    listing(adapters)
                ))
            })?
        }
    };
    if let Some(unfit) = &info.unfit {
        return Err(Error::Device(format!(
            "{} cannot run the engine: {unfit}; there {}",
            info.name,
            listing(adapters)
        )));
    }
    let warning = info.is_software().then(|| {
        format!(
            "{} runs the shaders on the processor, far slower than --device cpu",
            info.name
        )
    });
    Ok(Selection::Adapter { index, warning })
}

fn listing(adapters: &[AdapterInfo]) -> String {
    if adapters.is_empty() {
        return "is only cpu, the native executor".into();
    }
    let names: Vec<_> = adapters.iter().map(ToString::to_string).collect();
    format!("are cpu, the native executor, and {}", names.join(", "))
}

/// An executor ready to take recordings.
#[derive(Debug)]
pub enum Device {
    Native,
    Gpu(Box<adapter::Device>),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("cpu, the native executor"),
            Self::Gpu(device) => device.info.fmt(f),
        }
    }
}

/// Looks for the chosen device and opens it. The second value is what the user
/// should be warned of.
///
/// `auto` falls back to the native executor when the GPU that it found does not
/// open, with a warning; a device that was asked for by name does not.
///
/// # Errors
/// [`Error::Device`] when there is no such device or it does not open.
pub fn open(choice: &DeviceChoice) -> Result<(Device, Option<String>)> {
    if *choice == DeviceChoice::Cpu {
        // No driver is loaded, let alone started, for those who want none.
        return Ok((Device::Native, None));
    }
    let adapters = adapter::enumerate();
    let infos: Vec<_> = adapters.iter().map(|found| found.info.clone()).collect();
    match select(choice, &infos)? {
        Selection::Native => Ok((Device::Native, None)),
        Selection::Adapter { index, warning } => match adapter::open(&adapters[index]) {
            Ok(device) => Ok((Device::Gpu(Box::new(device)), warning)),
            Err(error) if *choice == DeviceChoice::Auto => Ok((
                Device::Native,
                Some(format!("{error}; using cpu, the native executor")),
            )),
            Err(error) => Err(error),
        },
    }
}

/// The executor of an opened device over a model's weights. The second value
/// is what the user should be warned of.
///
/// # Errors
/// [`Error::Device`] for a precision that the device has not, or if the
/// weights do not fit it.
pub fn executor(
    device: Device,
    weights: &WeightTable,
    precision: Precision,
    profiling: bool,
) -> Result<(Box<dyn Executor>, Option<String>)> {
    match (device, precision) {
        (Device::Native, Precision::F32) => Ok((
            Box::new(NativeExecutor::<f32>::new(weights, profiling)),
            None,
        )),
        (Device::Native, Precision::F64) => Ok((
            Box::new(NativeExecutor::<f64>::new(weights, profiling)),
            None,
        )),
        (Device::Native, other) => Err(Error::Device(format!(
            "{other} is for GPUs; the native executor computes in f32 or f64"
        ))),
        (Device::Gpu(device), precision) => {
            let options = GpuOptions::from_environment(precision, profiling)?;
            let executor = GpuExecutor::new(Arc::new(*device), weights, &options)?;
            let warning = executor.warning();
            Ok((Box::new(executor), warning))
        }
    }
}

/// What the native executor has to work with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NativeInfo {
    /// Threads that run at once.
    pub cores: usize,
    pub architecture: &'static str,
    /// Vector instruction sets that the kernels can use.
    pub instruction_sets: Vec<&'static str>,
    /// Memory that this process may use, in bytes, where the system says.
    pub memory_bytes: Option<u64>,
}

impl NativeInfo {
    /// Asks this machine.
    pub fn detect() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            architecture: std::env::consts::ARCH,
            instruction_sets: instruction_sets(),
            memory_bytes: memory_bytes(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<&'static str> {
    [
        ("avx", std::arch::is_x86_feature_detected!("avx")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<&'static str> {
    [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(target_os = "linux")]
fn memory_bytes() -> Option<u64> {
    let installed = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| meminfo_total(&text));
    // In a container the smaller number counts; "max" does not parse and is none.
    let granted = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match (installed, granted) {
        (Some(installed), Some(granted)) => Some(u64::min(installed, granted)),
        (installed, granted) => installed.or(granted),
    }
}

#[cfg(target_os = "macos")]
fn memory_bytes() -> Option<u64> {
    let mut command = std::process::Command::new("/usr/sbin/sysctl");
    let output = command.args(["-n", "hw.memsize"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn memory_bytes() -> Option<u64> {
    None
}

#[cfg(any(target_os = "linux", test))]
fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gpu::adapter::{Backend, Kind};

    fn made_up(name: &str, kind: Kind, backend: Backend) -> AdapterInfo {
        AdapterInfo {
            name: name.into(),
            kind,
            backend,
            ..Default::default()
        }
    }

    /// A laptop with two GPUs, one of them reached twice, and lavapipe.
    fn laptop() -> Vec<AdapterInfo> {
        vec![
            made_up("llvmpipe (LLVM 19)", Kind::Software, Backend::Vulkan),
            made_up("Intel Iris", Kind::Integrated, Backend::Vulkan),
            made_up("NVIDIA RTX", Kind::Discrete, Backend::Dx12),
            made_up("NVIDIA RTX", Kind::Discrete, Backend::Vulkan),
        ]
    }

    fn chosen(text: &str, adapters: &[AdapterInfo]) -> Result<Selection> {
        select(&text.parse().unwrap(), adapters)
    }

    fn adapter(index: usize) -> Selection {
        Selection::Adapter {
            index,
            warning: None,
        }
    }

    #[test]
    fn choices_parse_in_any_case() {
        assert_eq!("AUTO".parse::<DeviceChoice>().unwrap(), DeviceChoice::Auto);
        assert_eq!(" Cpu".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cpu);
        assert_eq!("gpu".parse::<DeviceChoice>().unwrap(), DeviceChoice::Gpu);
        assert_eq!(
            "Iris Xe".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Named("Iris Xe".into())
        );
        assert!("  ".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn auto_takes_the_best_real_gpu() {
        assert_eq!(chosen("auto", &laptop()).unwrap(), adapter(3));
        assert_eq!(chosen("auto", &laptop()[..2]).unwrap(), adapter(1));
    }

    #[test]
    fn auto_never_takes_a_software_or_unfit_adapter() {
        assert_eq!(chosen("auto", &laptop()[..1]).unwrap(), Selection::Native);
        assert_eq!(chosen("auto", &[]).unwrap(), Selection::Native);
        let mut old = laptop()[1..2].to_vec();
        old[0].unfit = Some("no compute shaders".into());
        assert_eq!(chosen("auto", &old).unwrap(), Selection::Native);
    }

    #[test]
    fn cpu_is_native_whatever_there_is() {
        assert_eq!(chosen("cpu", &laptop()).unwrap(), Selection::Native);
    }

    #[test]
    fn gpu_prefers_hardware_and_warns_of_software() {
        assert_eq!(chosen("gpu", &laptop()).unwrap(), adapter(3));
        let Selection::Adapter { index: 0, warning } = chosen("gpu", &laptop()[..1]).unwrap()
        else {
            panic!("the only adapter was not taken");
        };
        assert!(warning.unwrap().contains("--device cpu"));
        let error = chosen("gpu", &[]).unwrap_err().to_string();
        assert!(error.contains("Vulkan driver"), "{error}");
    }

    #[test]
    fn gpu_prefers_a_fit_software_adapter_to_an_unfit_gpu() {
        let mut adapters = laptop()[..2].to_vec();
        adapters[1].unfit = Some("no compute shaders".into());
        assert!(matches!(
            chosen("gpu", &adapters).unwrap(),
            Selection::Adapter { index: 0, .. }
        ));
        let error = chosen("gpu", &adapters[1..]).unwrap_err().to_string();
        assert!(error.contains("Intel Iris cannot run"), "{error}");
        assert!(error.contains("no compute shaders"), "{error}");
    }

    #[test]
    fn part_of_a_name_chooses_its_best_match() {
        assert_eq!(chosen("iris", &laptop()).unwrap(), adapter(1));
        assert_eq!(chosen("rtx", &laptop()).unwrap(), adapter(3));
        assert!(matches!(
            chosen("LLVMpipe", &laptop()).unwrap(),
            Selection::Adapter {
                index: 0,
                warning: Some(_)
            }
        ));
    }

    #[test]
    fn like_adapters_are_told_apart_by_their_places() {
        let mut two = vec![made_up("NVIDIA H200", Kind::Discrete, Backend::Vulkan); 2];
        two[0].pci_bus = "0000:3b:00.0".into();
        two[1].pci_bus = "0000:af:00.0".into();
        assert_eq!(chosen("0000:AF:00.0", &two).unwrap(), adapter(1));
        assert!(chosen("0000:01:00.0", &two).is_err());
    }

    #[test]
    fn no_match_lists_what_there_is() {
        let error = chosen("radeon", &laptop()).unwrap_err();
        assert!(matches!(error, Error::Device(_)));
        assert_eq!(
            error.to_string(),
            "no adapter's name contains 'radeon'; there are cpu, the native executor, and \
             llvmpipe (LLVM 19) [Vulkan, software], Intel Iris [Vulkan, integrated GPU], \
             NVIDIA RTX [DirectX 12, discrete GPU], NVIDIA RTX [Vulkan, discrete GPU]"
        );
        let error = chosen("radeon", &[]).unwrap_err().to_string();
        assert!(error.ends_with("there is only cpu, the native executor"));
    }

    #[test]
    fn cpu_opens_without_any_driver() {
        let (device, warning) = open(&DeviceChoice::Cpu).unwrap();
        assert!(matches!(device, Device::Native) && warning.is_none());
        assert_eq!(device.to_string(), "cpu, the native executor");
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       24559612 kB\nMemFree:        1 kB\n";
        assert_eq!(meminfo_total(text), Some(24_559_612 * 1024));
        assert_eq!(meminfo_total("MemFree: 1 kB\n"), None);
    }
}
