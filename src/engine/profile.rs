//! Counters and times of an executor.

use std::collections::BTreeMap;

use super::cost::Cost;

/// What a transfer is for, under the name that whoever asks for it gives it;
/// each name is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Purpose(pub &'static str);

impl Purpose {
    /// Of transfers that nobody wants to tell apart.
    pub const OTHER: Self = Self("other");
}

/// Transfers of one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// To the device.
    pub uploads: u64,
    pub upload_bytes: u64,
    /// Back from it.
    pub reads: u64,
    pub read_bytes: u64,
}

/// What an executor has done since it was made.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Operators run (native) or kernels dispatched (GPU).
    pub dispatches: u64,
    /// Command submissions; 0 on the native executor.
    pub submissions: u64,
    /// What went to the device and came back, by purpose.
    transfers: BTreeMap<Purpose, Transfers>,
    /// Changes of the numbers that vary from run to run of a plan; they travel
    /// with the commands. 0 on the native executor.
    pub scalar_writes: u64,
    /// Floating-point operations and bytes of everything that was run, as
    /// [`Cost`] counts them.
    pub flops: u64,
    pub operand_bytes: u64,
    /// Largest sum of all tensors held at once, weights included.
    pub peak_memory_bytes: u64,
    /// Time by kernel, summed over threads (native) or dispatches (GPU);
    /// filled only while profiling is on.
    pub kernel_seconds: BTreeMap<String, f64>,
}

impl Profile {
    /// Transfers of one purpose.
    pub fn transfers(&self, purpose: Purpose) -> Transfers {
        self.transfers.get(&purpose).copied().unwrap_or_default()
    }

    /// Transfers of all purposes.
    pub fn all_transfers(&self) -> Transfers {
        let all = self.transfers.values();
        all.fold(Transfers::default(), |sum, own| Transfers {
            uploads: sum.uploads + own.uploads,
            upload_bytes: sum.upload_bytes + own.upload_bytes,
            reads: sum.reads + own.reads,
            read_bytes: sum.read_bytes + own.read_bytes,
        })
    }

    /// Counts a read of `bytes`.
    pub fn count_read(&mut self, purpose: Purpose, bytes: usize) {
        let own = self.transfers.entry(purpose).or_default();
        own.reads += 1;
        own.read_bytes += bytes as u64;
    }

    /// Counts an upload of `bytes`.
    pub fn count_upload(&mut self, purpose: Purpose, bytes: usize) {
        let own = self.transfers.entry(purpose).or_default();
        own.uploads += 1;
        own.upload_bytes += bytes as u64;
    }

    /// Counts operators that were run.
    pub fn count_cost(&mut self, cost: Cost) {
        self.flops += cost.flops;
        self.operand_bytes += cost.bytes;
    }
}
