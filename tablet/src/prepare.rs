//! Leader side: reads state, decides, changes nothing that is replicated.

use crate::error::TabletError;
use crate::tablet::LogTablet;
use bytes::Bytes;

/// What the leader of a term knows beyond the applied state: the tail that it has proposed but not yet seen applied.
/// Made anew on every gain of leadership, dropped on its loss.
#[derive(Debug)]
pub struct Lead {}

/// What to do with one bucket's `records` of a ProduceLog.
#[derive(Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Propose `entry` (an encoded `Command::Append`); the answer is `base_offset` once applied.
    Propose { entry: Bytes, base_offset: i64, end_offset: i64 },
    /// All batches are duplicates of ones already applied: success with the original first offset.
    Duplicate { base_offset: i64 },
    /// Duplicates of ones still in flight: success with `base_offset` once the high watermark reaches `end_offset`.
    DuplicateInFlight { base_offset: i64, end_offset: i64 },
}

impl Lead {
    /// `tablet` must have applied this term's first entry.
    pub fn new(_tablet: &LogTablet, _term: u64) -> Self {
        todo!()
    }

    /// Validates `records` (CRC, sizes, schema id, writer sequence), assigns offsets, stamps base offset and commit timestamp.
    ///
    /// Shape: one or more whole batches back to back. Keeps: I3 (dense), I7 (writer order).
    pub fn prepare_append(&mut self, _tablet: &LogTablet, _records: Bytes, _now_ms: i64) -> Result<Prepared, TabletError> {
        todo!()
    }

    /// Retention and writer expiry that are due, as encoded commands.
    pub fn prepare_upkeep(&mut self, _tablet: &LogTablet, _now_ms: i64) -> Vec<Bytes> {
        todo!()
    }
}
