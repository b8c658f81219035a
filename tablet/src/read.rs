//! From offsets to raft indexes: what to read for a fetch, a limit scan, a timestamp.

use crate::error::TabletError;
use crate::tablet::LogTablet;
use std::ops::Range;

/// Which entries answer a read. `indexes` (end exclusive) may hold entries without data; skip those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    pub indexes: Range<u64>,
    /// First entry's data may start below the wanted offset: batches that end at or below `from_offset` are dropped.
    pub from_offset: i64,
    /// Batches that end above are dropped (I6).
    pub high_watermark: i64,
    pub log_start: i64,
    /// Bytes of batches in the range, as far as the index knows (for min_bytes).
    pub available_bytes: u64,
}

impl LogTablet {
    /// `offset` -2 = earliest. Below the log start or above the high watermark: `OffsetOutOfRange`; equal to it: empty range.
    pub fn plan_fetch(&self, _offset: i64) -> Result<ReadPlan, TabletError> {
        todo!()
    }

    /// Base offset of the first batch whose commit timestamp is >= `timestamp_ms`, else the high watermark.
    pub fn offset_for_timestamp(&self, _timestamp_ms: i64, _now_ms: i64) -> Result<i64, TabletError> {
        todo!()
    }
}
