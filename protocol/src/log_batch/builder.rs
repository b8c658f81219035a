//! Makes log batches: empty ones, changelogs, and whatever tests need.

use super::change_type::ChangeType;
use super::header::{ATTRIBUTE_APPEND_ONLY, LENGTH_END, LogBatchHeader, Magic, NO_BATCH_SEQUENCE, NO_WRITER_ID};
use crate::ids::{LogOffset, SchemaId};
use bytes::Bytes;

/// The parts of a batch; lengths, deltas and the CRC follow from them.
///
/// Set what differs from the default, then call [`LogBatchBuilder::build`]. The default is an empty batch, V0, of schema 1, from a
/// writer that is not idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatchBuilder {
    pub magic: Magic,
    pub base_offset: LogOffset,
    pub commit_timestamp_ms: i64,
    /// V2 only.
    pub leader_epoch: i32,
    pub schema_id: SchemaId,
    pub append_only: bool,
    pub writer_id: i64,
    pub batch_sequence: i32,
    pub record_count: i32,
    /// V1 and V2 only.
    pub statistics: Bytes,
    /// Arrow batches that are not append-only: one per record.
    pub change_types: Vec<ChangeType>,
    /// The Arrow message, or the framed rows.
    pub records: Bytes,
}

impl Default for LogBatchBuilder {
    fn default() -> Self {
        Self {
            magic: Magic::V0,
            base_offset: LogOffset(0),
            commit_timestamp_ms: 0,
            leader_epoch: -1,
            schema_id: SchemaId(1),
            append_only: false,
            writer_id: NO_WRITER_ID,
            batch_sequence: NO_BATCH_SEQUENCE,
            record_count: 0,
            statistics: Bytes::new(),
            change_types: Vec::new(),
            records: Bytes::new(),
        }
    }
}

impl LogBatchBuilder {
    /// A header-only batch: takes one offset, so that the writer's sequence advances although nothing changed.
    pub fn empty(schema_id: SchemaId, writer_id: i64, batch_sequence: i32) -> Self {
        Self { schema_id, writer_id, batch_sequence, ..Self::default() }
    }

    /// `record_count` framed rows (see [`super::LogRows`]).
    pub fn rows<'a>(schema_id: SchemaId, rows: impl IntoIterator<Item = (ChangeType, &'a [u8])>) -> Self {
        let mut records = Vec::new();
        let mut record_count = 0;
        for (change_type, row) in rows {
            records.extend_from_slice(&(row.len() as i32 + 1).to_le_bytes());
            records.push(change_type.to_byte());
            records.extend_from_slice(row);
            record_count += 1;
        }
        Self { schema_id, record_count, records: records.into(), ..Self::default() }
    }

    /// The batch, CRC computed. Statistics are left out in V0, which has no place for them.
    pub fn build(&self) -> Bytes {
        let statistics: &[u8] = if self.magic == Magic::V0 { &[] } else { &self.statistics };
        let header_bytes = self.magic.header_bytes();
        let total = header_bytes + statistics.len() + self.change_types.len() + self.records.len();
        let header = LogBatchHeader {
            base_offset: self.base_offset,
            length: (total - LENGTH_END) as i32,
            magic: self.magic,
            commit_timestamp_ms: self.commit_timestamp_ms,
            leader_epoch: (self.magic == Magic::V2).then_some(self.leader_epoch),
            crc: 0,
            schema_id: self.schema_id,
            attributes: if self.append_only { ATTRIBUTE_APPEND_ONLY } else { 0 },
            last_offset_delta: (self.record_count - 1).max(0),
            writer_id: self.writer_id,
            batch_sequence: self.batch_sequence,
            record_count: self.record_count,
            statistics_length: statistics.len() as i32,
        };
        let mut out = Vec::with_capacity(total);
        header.write(&mut out);
        out.extend_from_slice(statistics);
        out.extend(self.change_types.iter().map(|change_type| change_type.to_byte()));
        out.extend_from_slice(&self.records);
        let crc = crc32c::crc32c(&out[self.magic.crc_from()..]);
        let crc_at = self.magic.crc_at();
        out[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        out.into()
    }
}
