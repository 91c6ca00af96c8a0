//! Seconds of every dispatch, from timestamps that the device takes.

use std::collections::BTreeMap;

use super::adapter::Device;
use super::submit::Dispatch;
use crate::Result;

/// Dispatches that one submission can time; wgpu allows 4096 timestamps in a
/// set and each dispatch takes two.
pub const MOST_DISPATCHES: usize = 2048;

/// Bytes of a timestamp.
const STAMP: u64 = 8;

/// A set of timestamps and the buffers that bring them back.
pub struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readable: wgpu::Buffer,
    /// Nanoseconds of one tick.
    period: f64,
}

impl Timer {
    /// A timer, where the device has timestamps.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(device: &Device) -> Result<Option<Self>> {
        if !device.info.timestamp_query {
            return Ok(None);
        }
        let size = 2 * MOST_DISPATCHES as u64 * STAMP;
        let made = device.guarded("timestamps", |raw| {
            let buffer = |usage| {
                raw.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("timestamps"),
                    size,
                    usage,
                    mapped_at_creation: false,
                })
            };
            Self {
                queries: raw.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("timestamps"),
                    ty: wgpu::QueryType::Timestamp,
                    count: 2 * MOST_DISPATCHES as u32,
                }),
                resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
                readable: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
                period: f64::from(device.queue.get_timestamp_period()),
            }
        })?;
        Ok(Some(made))
    }

    /// Bytes of its buffers.
    pub fn bytes(&self) -> usize {
        (self.resolved.size() + self.readable.size()) as usize
    }

    /// Runs at most [`MOST_DISPATCHES`], each in a pass of its own, waits for
    /// them and adds their seconds to those of their kernels. Returns the sum.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(
        &self,
        device: &Device,
        dispatches: &[Dispatch],
        kernels: &[String],
        seconds: &mut BTreeMap<String, f64>,
    ) -> Result<f64> {
        let mut encoder = device.raw.create_command_encoder(&Default::default());
        for (place, dispatch) in (0u32..).zip(dispatches) {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &self.queries,
                    beginning_of_pass_write_index: Some(2 * place),
                    end_of_pass_write_index: Some(2 * place + 1),
                }),
            });
            dispatch.record(&mut pass);
        }
        let count = 2 * dispatches.len() as u32;
        let bytes = u64::from(count) * STAMP;
        encoder.resolve_query_set(&self.queries, 0..count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readable, 0, bytes);
        device.queue.submit([encoder.finish()]);
        let mut sum = 0.0;
        device.read_mapped(&self.readable, bytes, |view| {
            // The view is aligned for any number, but says so to nobody.
            let stamp = |at: usize| bytemuck::pod_read_unaligned::<u64>(&view[at * 8..at * 8 + 8]);
            for (place, dispatch) in dispatches.iter().enumerate() {
                let ticks = stamp(2 * place + 1).saturating_sub(stamp(2 * place));
                let own = ticks as f64 * self.period * 1e-9;
                let name = &kernels[dispatch.kernel];
                *seconds.entry(name.clone()).or_default() += own;
                sum += own;
            }
        })?;
        Ok(sum)
    }
}
