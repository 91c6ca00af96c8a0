//! Counters and times of an executor.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cost::Cost;

/// Why values go to the device or leave it; each purpose is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An utterance's inputs and its finished maps.
    Maps,
    /// Tokens and candidates of decoding steps.
    Generation,
    /// State of a stopping rule.
    Status,
}

/// What an executor has done since it was made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Profile {
    /// Operators run (native) or kernels dispatched (GPU).
    pub dispatches: u64,
    /// Command submissions; 0 on the native executor.
    pub submissions: u64,
    /// Transfers of an utterance's inputs.
    pub uploads: u64,
    pub generation_uploads: u64,
    pub upload_bytes: u64,
    /// Changes of the 32 bytes of numbers that vary from run to run of a
    /// plan; they travel with the commands. 0 on the native executor.
    pub scalar_writes: u64,
    pub map_readbacks: u64,
    pub generation_reads: u64,
    pub status_reads: u64,
    /// Of `read_bytes`, those of `status_reads`.
    pub status_read_bytes: u64,
    pub read_bytes: u64,
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
    /// Counts a read of `bytes`.
    pub fn count_read(&mut self, purpose: Purpose, bytes: usize) {
        let counter = match purpose {
            Purpose::Maps => &mut self.map_readbacks,
            Purpose::Generation => &mut self.generation_reads,
            Purpose::Status => &mut self.status_reads,
        };
        *counter += 1;
        self.read_bytes += bytes as u64;
        if purpose == Purpose::Status {
            self.status_read_bytes += bytes as u64;
        }
    }

    /// Counts operators that were run.
    pub fn count_cost(&mut self, cost: Cost) {
        self.flops += cost.flops;
        self.operand_bytes += cost.bytes;
    }

    /// Counts an upload of `bytes`.
    pub fn count_upload(&mut self, purpose: Purpose, bytes: usize) {
        let counter = match purpose {
            Purpose::Generation => &mut self.generation_uploads,
            Purpose::Maps | Purpose::Status => &mut self.uploads,
        };
        *counter += 1;
        self.upload_bytes += bytes as u64;
    }
}
