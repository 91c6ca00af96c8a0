//! GPU adapters: which there are, what they can do, and opening one.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::{Error, Result};

/// Features that a device is opened with wherever its adapter has them.
const WANTED_FEATURES: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);

/// Percentage of the memory that the driver grants above which making a buffer
/// is an out-of-memory error rather than the start of swapping (Vulkan, DX12).
const MEMORY_THRESHOLD_PERCENT: u8 = 95;

/// The sort of hardware behind an adapter, best first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A graphics card with memory of its own.
    #[default]
    Discrete,
    /// A GPU that shares its memory with the processor.
    Integrated,
    /// A share of a GPU handed to a virtual machine.
    Virtual,
    /// The driver does not say.
    Other,
    /// A processor that runs shaders in place of a GPU.
    Software,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Discrete => "discrete GPU",
            Kind::Integrated => "integrated GPU",
            Kind::Virtual => "virtual GPU",
            Kind::Other => "GPU of unknown kind",
            Kind::Software => "software",
        })
    }
}

/// The graphics interface through which an adapter is reached, in the order of
/// preference for one and the same GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Backend {
    Metal,
    #[default]
    Vulkan,
    #[serde(rename = "DirectX 12")]
    Dx12,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Metal => "Metal",
            Backend::Vulkan => "Vulkan",
            Backend::Dx12 => "DirectX 12",
        })
    }
}

/// One matrix shape that an adapter multiplies in hardware:
/// (M x K) times (K x N), added to (M x N).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CooperativeMatrix {
    pub m: u32,
    pub n: u32,
    pub k: u32,
    /// Element type of both factors, as WGSL writes it.
    pub factors: &'static str,
    /// Element type of the sum, as WGSL writes it.
    pub sum: &'static str,
}

impl fmt::Display for CooperativeMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            m,
            n,
            k,
            factors,
            sum,
        } = self;
        write!(f, "{m}x{n}x{k} {factors} into {sum}")
    }
}

/// What an adapter is and can do, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AdapterInfo {
    pub name: String,
    pub backend: Backend,
    /// The driver's name and version.
    pub driver: String,
    pub kind: Kind,
    /// Its place, `0000:3b:00.0`, where the driver says so: it tells like ones apart.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pci_bus: String,
    /// Largest range that a shader can bind as one storage buffer, in bytes.
    pub max_storage_buffer_binding_size: u64,
    /// Largest buffer, in bytes.
    pub max_buffer_size: u64,
    /// Storage buffers that one shader can bind.
    pub max_storage_buffers_per_shader_stage: u32,
    /// Memory shared by a workgroup, in bytes.
    pub max_compute_workgroup_storage_size: u32,
    pub max_compute_invocations_per_workgroup: u32,
    pub max_compute_workgroups_per_dimension: u32,
    pub subgroup_min_size: u32,
    pub subgroup_max_size: u32,
    /// `enable f16;` in shaders.
    pub shader_f16: bool,
    /// Subgroup operations in shaders.
    pub subgroup: bool,
    /// Timing on the device.
    pub timestamp_query: bool,
    /// Matrix shapes multiplied in hardware; empty where there are none.
    pub cooperative_matrices: Vec<CooperativeMatrix>,
    /// Why this adapter cannot run the engine, if it cannot.
    pub unfit: Option<String>,
}

impl AdapterInfo {
    /// Whether a processor runs the shaders in place of a GPU.
    pub fn is_software(&self) -> bool {
        self.kind == Kind::Software
    }

    fn of(adapter: &wgpu::Adapter) -> Option<Self> {
        let info = adapter.get_info();
        let limits = adapter.limits();
        let features = adapter.features();
        let backend = match info.backend {
            wgpu::Backend::Vulkan => Backend::Vulkan,
            wgpu::Backend::Metal => Backend::Metal,
            wgpu::Backend::Dx12 => Backend::Dx12,
            _ => return None,
        };
        let driver = [info.driver.trim(), info.driver_info.trim()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let mut cooperative_matrices = Vec::new();
        for shape in adapter.cooperative_matrix_properties() {
            let shape = CooperativeMatrix {
                m: shape.m_size,
                n: shape.n_size,
                k: shape.k_size,
                factors: scalar_name(shape.ab_type),
                sum: scalar_name(shape.cr_type),
            };
            // Drivers list a shape once more for each property that we leave out.
            if !cooperative_matrices.contains(&shape) {
                cooperative_matrices.push(shape);
            }
        }
        Some(Self {
            kind: kind_of(info.device_type, &info.name),
            name: info.name,
            backend,
            driver,
            pci_bus: info.device_pci_bus_id.to_lowercase(),
            max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            max_buffer_size: limits.max_buffer_size,
            max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
            max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
            max_compute_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
            subgroup_min_size: info.subgroup_min_size,
            subgroup_max_size: info.subgroup_max_size,
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            subgroup: features.contains(wgpu::Features::SUBGROUP),
            timestamp_query: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            cooperative_matrices,
            unfit: unfit(adapter, &limits),
        })
    }
}

/// `name [Vulkan, discrete GPU]`.
impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}, {}]", self.name, self.backend, self.kind)
    }
}

fn scalar_name(scalar: wgpu::CooperativeScalarType) -> &'static str {
    match scalar {
        wgpu::CooperativeScalarType::F32 => "f32",
        wgpu::CooperativeScalarType::F16 => "f16",
        wgpu::CooperativeScalarType::I32 => "i32",
        wgpu::CooperativeScalarType::U32 => "u32",
    }
}

fn kind_of(device_type: wgpu::DeviceType, name: &str) -> Kind {
    // Not every software driver owns up to being one.
    const SOFTWARE: [&str; 4] = ["llvmpipe", "lavapipe", "swiftshader", "basic render"];
    let name = name.to_lowercase();
    if SOFTWARE.iter().any(|software| name.contains(software)) {
        return Kind::Software;
    }
    match device_type {
        wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
        wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
        wgpu::DeviceType::VirtualGpu => Kind::Virtual,
        wgpu::DeviceType::Other => Kind::Other,
        wgpu::DeviceType::Cpu => Kind::Software,
    }
}

/// The shaders are written for what WebGPU promises; an adapter below it is out.
fn unfit(adapter: &wgpu::Adapter, limits: &wgpu::Limits) -> Option<String> {
    let downlevel = adapter.get_downlevel_capabilities().flags;
    if !downlevel.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
        return Some("no compute shaders".into());
    }
    if !downlevel.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32) {
        return Some("its shaders do not read f16".into());
    }
    let promised = wgpu::Limits::default();
    let needs: [(&str, u64, u64); 6] = [
        (
            "max_storage_buffer_binding_size",
            limits.max_storage_buffer_binding_size,
            promised.max_storage_buffer_binding_size,
        ),
        (
            "max_storage_buffers_per_shader_stage",
            limits.max_storage_buffers_per_shader_stage.into(),
            promised.max_storage_buffers_per_shader_stage.into(),
        ),
        (
            "max_compute_workgroup_storage_size",
            limits.max_compute_workgroup_storage_size.into(),
            promised.max_compute_workgroup_storage_size.into(),
        ),
        (
            "max_compute_invocations_per_workgroup",
            limits.max_compute_invocations_per_workgroup.into(),
            promised.max_compute_invocations_per_workgroup.into(),
        ),
        (
            "max_compute_workgroup_size_x",
            limits.max_compute_workgroup_size_x.into(),
            promised.max_compute_workgroup_size_x.into(),
        ),
        (
            "max_compute_workgroups_per_dimension",
            limits.max_compute_workgroups_per_dimension.into(),
            promised.max_compute_workgroups_per_dimension.into(),
        ),
    ];
    needs
        .iter()
        .find(|(_, has, needed)| has < needed)
        .map(|(name, has, needed)| format!("{name} is {has}, {needed} is needed"))
}

/// An adapter that can be opened.
pub struct Adapter {
    raw: wgpu::Adapter,
    pub info: AdapterInfo,
}

/// Every adapter that Vulkan, Metal or DirectX 12 offers, in the system's order.
/// The list is empty where no driver is installed.
pub fn enumerate() -> Vec<Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.memory_budget_thresholds.for_resource_creation = Some(MEMORY_THRESHOLD_PERCENT);
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .filter_map(|raw| AdapterInfo::of(&raw).map(|info| Adapter { raw, info }))
        .collect()
}

/// Opens a device with all of its adapter's limits and with timestamps, f16,
/// subgroup operations and matrix units where the adapter has them.
///
/// # Errors
/// [`Error::Device`] when the adapter is unfit or the driver refuses.
pub fn open(adapter: &Adapter) -> Result<Device> {
    let info = adapter.info.clone();
    if let Some(unfit) = &info.unfit {
        return Err(Error::Device(format!(
            "{} cannot run the engine: {unfit}",
            info.name
        )));
    }
    let request = adapter.raw.request_device(&wgpu::DeviceDescriptor {
        label: Some("sonograd"),
        required_features: adapter.raw.features() & WANTED_FEATURES,
        required_limits: adapter.raw.limits(),
        memory_hints: wgpu::MemoryHints::Performance,
        // SAFETY: matrix units are all that is experimental here. They are
        // used where they were asked for, and not before trial products came
        // out right.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    });
    let (raw, queue) = pollster::block_on(request).map_err(|error| {
        Error::Device(format!("{}: {}", info.name, one_line(&error.to_string())))
    })?;

    let faults = Arc::new(Faults::default());
    let stored = Arc::clone(&faults);
    raw.on_uncaptured_error(Arc::new(move |error| stored.keep(describe(&error))));
    let stored = Arc::clone(&faults);
    raw.set_device_lost_callback(move |reason, message| {
        let message = one_line(&message);
        stored.lose(match reason {
            wgpu::DeviceLostReason::Destroyed => "the device was closed".into(),
            _ if message.is_empty() => "the device was lost".into(),
            _ => format!("the device was lost: {message}"),
        });
    });
    Ok(Device {
        raw,
        queue,
        info,
        faults,
    })
}

/// What went wrong on a device outside of [`Device::guarded`].
#[derive(Default)]
struct Faults {
    /// The first error since the last [`Device::check`].
    first: Mutex<Option<String>>,
    /// Why the device is gone; it does not come back.
    lost: Mutex<Option<String>>,
}

impl Faults {
    fn keep(&self, problem: String) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(problem);
    }

    fn lose(&self, problem: String) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert(problem);
    }

    fn take(&self) -> Option<String> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        // What was lost explains whatever failed because of it.
        lost.clone().or_else(|| first.take())
    }
}

/// An opened GPU. wgpu reports errors by panicking unless someone listens;
/// here every error is kept until [`Device::check`], [`Device::guarded`] or
/// [`Device::wait`] returns it.
pub struct Device {
    pub raw: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: AdapterInfo,
    faults: Arc<Faults>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.info)
    }
}

impl Device {
    fn error(&self, problem: impl fmt::Display) -> Error {
        Error::Device(format!("{}: {problem}", self.info.name))
    }

    /// The first error that the device reported since the last call.
    ///
    /// # Errors
    /// [`Error::Device`] with that error; after a loss, with the loss each time.
    pub fn check(&self) -> Result<()> {
        self.faults
            .take()
            .map_or(Ok(()), |problem| Err(self.error(problem)))
    }

    /// Runs `work`, which makes buffers, pipelines or bind groups, and returns
    /// what it made if the device took all of it. `what` names it in the error.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none left, else [`Error::Device`] with
    /// the first problem: a broken rule, a failure of the driver or the loss
    /// of the device.
    pub fn guarded<T>(&self, what: &str, work: impl FnOnce(&wgpu::Device) -> T) -> Result<T> {
        let memory = self.raw.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.raw.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.raw.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = work(&self.raw);
        // Scopes are popped in the reverse order; a lack of memory is the cause
        // of whatever else failed, so it is looked at first.
        let validation = pollster::block_on(validation.pop());
        let internal = pollster::block_on(internal.pop());
        let memory = pollster::block_on(memory.pop());
        if let Some(error) = memory {
            let problem = format!("{}: {what}: {}", self.info.name, describe(&error));
            return Err(Error::Memory(problem));
        }
        if let Some(error) = internal.or(validation) {
            return Err(self.error(format!("{what}: {}", describe(&error))));
        }
        self.check()?;
        Ok(made)
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// [`Error::Device`] with the first problem that the device reported.
    pub fn wait(&self) -> Result<()> {
        self.poll(wgpu::PollType::wait_indefinitely()).map(|_| ())
    }

    /// Waits for one submission, no longer than `timeout`, and says whether it
    /// is done.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn wait_for(
        &self,
        submission: &wgpu::SubmissionIndex,
        timeout: Option<Duration>,
    ) -> Result<bool> {
        self.poll(wgpu::PollType::Wait {
            submission_index: Some(submission.clone()),
            timeout,
        })
    }

    /// Whether the wait ended before its time did.
    fn poll(&self, until: wgpu::PollType) -> Result<bool> {
        // wgpu 30 panics when it polls a device that the driver has lost.
        let polled = catch_unwind(AssertUnwindSafe(|| self.raw.poll(until)));
        self.check()?;
        match polled {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(wgpu::PollError::Timeout)) => Ok(false),
            Ok(Err(error)) => Err(self.error(one_line(&error.to_string()))),
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .map_or("the device failed", String::as_str);
                self.faults.lose(one_line(message));
                self.check().map(|()| false)
            }
        }
    }

    /// Waits, then hands the first `bytes` of a buffer with `MAP_READ` to
    /// `read`.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn read_mapped(
        &self,
        buffer: &wgpu::Buffer,
        bytes: u64,
        read: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let slice = buffer.slice(..bytes);
        // What fails here fails once more where the range is asked for.
        slice.map_async(wgpu::MapMode::Read, |_| {});
        self.wait()?;
        let mapped = slice.get_mapped_range();
        let mapped = mapped.map_err(|error| self.error(one_line(&error.to_string())))?;
        read(&mapped);
        drop(mapped);
        buffer.unmap();
        Ok(())
    }
}

fn describe(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => "out of memory".into(),
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            one_line(description)
        }
    }
}

/// wgpu's messages are a heading, then one cause a line, indented.
fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !matches!(*line, "" | "Validation Error" | "Caused by:"))
        .map(|line| line.trim_end_matches([':', '.']))
        .collect::<Vec<_>>()
        .join(": ")
}

/// The device that the tests run on: the best adapter, or the one that the
/// environment variable `SONOGRAD_TEST_GPU` names. GPU tests carry
/// `#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]`.
///
/// # Panics
/// When there is none, with the line that installs one.
#[doc(hidden)]
pub fn open_for_tests() -> Device {
    use crate::engine::device::{DeviceChoice, Selection, select};
    let choice = match std::env::var("SONOGRAD_TEST_GPU") {
        Ok(name) if !name.is_empty() => DeviceChoice::Named(name),
        _ => DeviceChoice::Gpu,
    };
    let adapters = enumerate();
    let infos: Vec<_> = adapters
        .iter()
        .map(|adapter| adapter.info.clone())
        .collect();
    let opened = select(&choice, &infos).and_then(|selection| match selection {
        Selection::Adapter { index, .. } => open(&adapters[index]),
        Selection::Native => unreachable!("only an adapter was asked for"),
    });
    opened.unwrap_or_else(|error| {
        panic!(
            "{error}\nThe GPU tests need a Vulkan driver; Mesa's, 25 or newer, runs without a GPU:\n    \
             apt-get install mesa-vulkan-drivers libvulkan1    (./check does so, or prints the line)\n\
             SONOGRAD_TEST_GPU=none leaves them out."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_one_line() {
        let message =
            "Validation Error\n\nCaused by:\n  In Device::create_buffer\n    Size 9 is odd.\n";
        assert_eq!(one_line(message), "In Device::create_buffer: Size 9 is odd");
    }

    #[test]
    fn software_is_known_by_name_too() {
        let kind = |name| kind_of(wgpu::DeviceType::Other, name);
        assert_eq!(kind("llvmpipe (LLVM 19)"), Kind::Software);
        assert_eq!(kind("Microsoft Basic Render Driver"), Kind::Software);
        assert_eq!(kind("Some GPU"), Kind::Other);
    }

    fn buffer(device: &wgpu::Device, size: u64) -> wgpu::Buffer {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("too large"),
            size,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    }

    #[test]
    #[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
    fn device_has_its_adapters_limits_and_features() {
        let device = open_for_tests();
        let limits = device.raw.limits();
        let info = &device.info;
        assert_eq!(limits.max_buffer_size, info.max_buffer_size);
        assert_eq!(
            limits.max_storage_buffer_binding_size,
            info.max_storage_buffer_binding_size
        );
        let features = device.raw.features();
        assert_eq!(
            features.contains(wgpu::Features::SHADER_F16),
            info.shader_f16
        );
        assert_eq!(features.contains(wgpu::Features::SUBGROUP), info.subgroup);
        assert_eq!(
            features.contains(wgpu::Features::TIMESTAMP_QUERY),
            info.timestamp_query
        );
    }

    #[test]
    #[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
    fn broken_rules_are_errors_not_panics() {
        let device = open_for_tests();
        let too_large = device.info.max_buffer_size + 4;

        let error = device.guarded("a test", |raw| buffer(raw, too_large));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: a test: ", device.info.name)));
        assert!(
            error.contains("too large") && !error.contains('\n'),
            "{error}"
        );

        // Outside of a guard the first error waits for the next check.
        buffer(&device.raw, too_large);
        buffer(&device.raw, too_large + 4);
        let error = device.check().unwrap_err().to_string();
        assert!(error.contains(&too_large.to_string()), "{error}");
        device.check().unwrap();
        device.guarded("a test", |raw| buffer(raw, 16)).unwrap();
        device.wait().unwrap();
    }

    #[test]
    #[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
    fn a_lost_device_says_so_each_time() {
        let device = open_for_tests();
        device.raw.destroy();
        for _ in 0..2 {
            let error = device.wait().unwrap_err().to_string();
            assert!(error.ends_with("the device was closed"), "{error}");
        }
        device.guarded("a test", |raw| buffer(raw, 16)).unwrap_err();
    }
}
