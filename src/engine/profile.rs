//! Counters and times of an executor.

use std::collections::BTreeMap;

use serde::Serialize;

/// Why values leave the device; each purpose is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPurpose {
    /// Finished maps.
    Maps,
    /// Candidates of a decoding step.
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
    pub uploads: u64,
    pub upload_bytes: u64,
    pub map_readbacks: u64,
    pub generation_reads: u64,
    pub status_reads: u64,
    pub read_bytes: u64,
    /// Largest sum of all tensors held at once, weights included.
    pub peak_memory_bytes: u64,
    /// Time by kernel, summed over threads (native) or dispatches (GPU);
    /// filled only while profiling is on.
    pub kernel_seconds: BTreeMap<String, f64>,
}

impl Profile {
    /// Counts a read of `bytes`.
    pub fn count_read(&mut self, purpose: ReadPurpose, bytes: usize) {
        let counter = match purpose {
            ReadPurpose::Maps => &mut self.map_readbacks,
            ReadPurpose::Generation => &mut self.generation_reads,
            ReadPurpose::Status => &mut self.status_reads,
        };
        *counter += 1;
        self.read_bytes += bytes as u64;
    }

    /// Counts an upload of `bytes`.
    pub fn count_upload(&mut self, bytes: usize) {
        self.uploads += 1;
        self.upload_bytes += bytes as u64;
    }
}
