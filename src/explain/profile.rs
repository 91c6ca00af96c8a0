//! What an executor's counters are called in an explanation's document.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::profile::{Profile, Purpose};
use crate::generate::GENERATION;

/// An utterance's inputs and its finished maps.
pub const MAPS: Purpose = Purpose("maps");

/// State of a stopping rule.
pub const STATUS: Purpose = Purpose("status");

/// The counters and times of an executor as `explain --profile` writes them.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileDocument {
    pub dispatches: u64,
    pub submissions: u64,
    /// All but those of `generation_uploads`.
    pub uploads: u64,
    pub generation_uploads: u64,
    pub upload_bytes: u64,
    pub scalar_writes: u64,
    pub map_readbacks: u64,
    pub generation_reads: u64,
    pub status_reads: u64,
    /// Of `read_bytes`, those of `status_reads`.
    pub status_read_bytes: u64,
    pub read_bytes: u64,
    pub flops: u64,
    pub operand_bytes: u64,
    pub peak_memory_bytes: u64,
    pub kernel_seconds: BTreeMap<String, f64>,
}

impl From<Profile> for ProfileDocument {
    fn from(profile: Profile) -> Self {
        let (all, generation) = (profile.all_transfers(), profile.transfers(GENERATION));
        let status = profile.transfers(STATUS);
        Self {
            dispatches: profile.dispatches,
            submissions: profile.submissions,
            uploads: all.uploads - generation.uploads,
            generation_uploads: generation.uploads,
            upload_bytes: all.upload_bytes,
            scalar_writes: profile.scalar_writes,
            map_readbacks: profile.transfers(MAPS).reads,
            generation_reads: generation.reads,
            status_reads: status.reads,
            status_read_bytes: status.read_bytes,
            read_bytes: all.read_bytes,
            flops: profile.flops,
            operand_bytes: profile.operand_bytes,
            peak_memory_bytes: profile.peak_memory_bytes,
            kernel_seconds: profile.kernel_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_purpose_has_its_fields() {
        let mut profile = Profile::default();
        profile.count_upload(MAPS, 1_000);
        profile.count_upload(Purpose::OTHER, 200);
        profile.count_upload(GENERATION, 30);
        profile.count_read(MAPS, 4_000);
        profile.count_read(GENERATION, 500);
        profile.count_read(GENERATION, 500);
        for _ in 0..3 {
            profile.count_read(STATUS, 8);
        }
        profile.peak_memory_bytes = 7;
        let document = serde_json::to_value(ProfileDocument::from(profile)).unwrap();
        let expected = json!({
            "dispatches": 0, "submissions": 0,
            "uploads": 2, "generation_uploads": 1, "upload_bytes": 1_230,
            "scalar_writes": 0,
            "map_readbacks": 1, "generation_reads": 2, "status_reads": 3,
            "status_read_bytes": 24, "read_bytes": 5_024,
            "flops": 0, "operand_bytes": 0, "peak_memory_bytes": 7,
            "kernel_seconds": {},
        });
        assert_eq!(document, expected);
    }
}
