//! Writing what the leader decides into batches that a client built.

use super::error::LogBatchError;
use super::header::{LogBatchHeader, Magic};
use crate::ids::LogOffset;

const BASE_OFFSET_AT: usize = 0;
const COMMIT_TIMESTAMP_AT: usize = 13;
const LEADER_EPOCH_AT: usize = 21;

/// The header fields that belong to the leader. None of them is covered by the CRC, so stamping recomputes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub base_offset: LogOffset,
    pub commit_timestamp_ms: i64,
    /// Goes into V2 batches only.
    pub leader_epoch: i32,
}

/// Stamps the batch at the start of `batch` (more bytes may follow) and returns its header as it now is.
///
/// Errors: those of [`LogBatchHeader::read`]; nothing is written then.
pub fn stamp_batch(batch: &mut [u8], stamp: Stamp) -> Result<LogBatchHeader, LogBatchError> {
    let mut header = LogBatchHeader::read(batch, 0)?;
    batch[BASE_OFFSET_AT..BASE_OFFSET_AT + 8].copy_from_slice(&stamp.base_offset.0.to_le_bytes());
    batch[COMMIT_TIMESTAMP_AT..COMMIT_TIMESTAMP_AT + 8].copy_from_slice(&stamp.commit_timestamp_ms.to_le_bytes());
    if header.magic == Magic::V2 {
        batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&stamp.leader_epoch.to_le_bytes());
        header.leader_epoch = Some(stamp.leader_epoch);
    }
    header.base_offset = stamp.base_offset;
    header.commit_timestamp_ms = stamp.commit_timestamp_ms;
    Ok(header)
}

/// Stamps all batches of `records`, the first at `stamp.base_offset`, each later one at the end of the one before it.
/// Returns the offset after the last one.
///
/// Shape: whole batches back to back, validated. Keeps: I3 (dense).
/// Errors: as for reading; earlier batches are stamped by then.
pub fn stamp_all(records: &mut [u8], stamp: Stamp) -> Result<LogOffset, LogBatchError> {
    let mut position = 0;
    let mut next = stamp.base_offset;
    while position < records.len() {
        let header = LogBatchHeader::read(&records[position..], position)?;
        let (expected, found) = (header.total_bytes(), records.len() - position);
        if found < expected {
            return Err(LogBatchError::Truncated { position, expected, found });
        }
        let stamped = stamp_batch(&mut records[position..], Stamp { base_offset: next, ..stamp })?;
        next = stamped.end_offset();
        position += expected;
    }
    Ok(next)
}
