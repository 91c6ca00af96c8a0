//! Runtime scalars on the device: for every list of names that some shader
//! declares as its `Scalars`, a buffer with their values in that order. All
//! plans share them: the queue keeps its writes and runs in order.

use super::adapter::Device;
use crate::engine::tensor::Scalars;

/// The buffers, by list of names.
#[derive(Default)]
pub struct ScalarTable {
    lists: Vec<List>,
    now: Option<Scalars>,
}

struct List {
    names: &'static [String],
    buffer: wgpu::Buffer,
    /// What it holds; nothing yet in a new one.
    values: Vec<u32>,
}

impl ScalarTable {
    /// The buffer of a list, if it has one.
    pub fn buffer(&self, names: &[String]) -> Option<&wgpu::Buffer> {
        let own = self.lists.iter().find(|list| list.names == names);
        own.map(|list| &list.buffer)
    }

    /// Gives a list its buffer, of four bytes for each name at least.
    pub fn insert(&mut self, names: &'static [String], buffer: wgpu::Buffer) {
        let values = Vec::new();
        self.lists.push(List {
            names,
            buffer,
            values,
        });
    }

    /// Lets what is submitted next read these values; returns whether they
    /// differ from the last ones.
    pub fn set(&mut self, device: &Device, scalars: &Scalars) -> bool {
        for list in &mut self.lists {
            let values = list.names.iter().map(|name| scalars.get(name));
            if !values.clone().eq(list.values.iter().copied()) {
                list.values = values.collect();
                let bytes = bytemuck::cast_slice(&list.values);
                device.queue.write_buffer(&list.buffer, 0, bytes);
            }
        }
        let changed = self.now.as_ref() != Some(scalars);
        if changed {
            self.now = Some(scalars.clone());
        }
        changed
    }

    /// Fills lists that came since the values were set.
    pub fn fill_new(&mut self, device: &Device) {
        if let Some(now) = self.now.clone() {
            self.set(device, &now);
        }
    }
}
