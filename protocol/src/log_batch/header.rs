//! The fixed part of a log batch, read without touching the body.

use super::error::LogBatchError;
use crate::ids::{LogOffset, SchemaId, WriterId};
use std::ops::Range;

/// End of the `length` field: a batch takes this many bytes plus what `length` says.
pub const LENGTH_END: usize = 12;
/// The largest header (V2): as many bytes as are ever needed to read one.
pub const HEADER_BYTES_MAX: usize = 56;
pub const NO_WRITER_ID: i64 = -1;
pub const NO_BATCH_SEQUENCE: i32 = -1;
/// Bit of `attributes`: every record is `ChangeType::AppendOnly` and there is no change-type section.
pub const ATTRIBUTE_APPEND_ONLY: u8 = 1;

const MAGIC_AT: usize = 12;
const COMMIT_TIMESTAMP_AT: usize = 13;
const LEADER_EPOCH_AT: usize = 21;

/// Header layout. Writers use V0, V1 when the table collects statistics; V2 adds the leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Magic {
    V0 = 0,
    V1 = 1,
    V2 = 2,
}

impl Magic {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::V0),
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }

    pub const fn header_bytes(self) -> usize {
        match self {
            Self::V0 => 48,
            Self::V1 => 52,
            Self::V2 => 56,
        }
    }

    /// Where the crc field starts; the fields after it keep their distance to it in every magic.
    pub const fn crc_at(self) -> usize {
        match self {
            Self::V0 | Self::V1 => 21,
            Self::V2 => 25,
        }
    }

    /// First byte that the crc covers (`schema_id`).
    pub const fn crc_from(self) -> usize {
        self.crc_at() + 4
    }
}

/// Every header field of one batch. `writer_id` and `batch_sequence` are -1 for writers that are not idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBatchHeader {
    pub base_offset: LogOffset,
    /// Bytes after the length field.
    pub length: i32,
    pub magic: Magic,
    pub commit_timestamp_ms: i64,
    /// V2 only.
    pub leader_epoch: Option<i32>,
    pub crc: u32,
    pub schema_id: SchemaId,
    pub attributes: u8,
    pub last_offset_delta: i32,
    pub writer_id: i64,
    pub batch_sequence: i32,
    pub record_count: i32,
    /// 0 in V0.
    pub statistics_length: i32,
}

impl LogBatchHeader {
    /// Reads a header from the first bytes of `bytes` (more may follow); `position` only goes into errors.
    ///
    /// Errors: `ShortHeader`, `UnknownMagic`, `ShortLength`. Whether the body is there is not looked at.
    pub fn read(bytes: &[u8], position: usize) -> Result<Self, LogBatchError> {
        let short = |expected| LogBatchError::ShortHeader { position, expected, found: bytes.len() };
        let magic_byte = *bytes.get(MAGIC_AT).ok_or_else(|| short(Magic::V0.header_bytes()))?;
        let magic = Magic::from_byte(magic_byte).ok_or(LogBatchError::UnknownMagic { position, found: magic_byte as i8 })?;
        let header_bytes = magic.header_bytes();
        let header = bytes.get(..header_bytes).ok_or_else(|| short(header_bytes))?;
        let length = i32::from_le_bytes(array(header, 8));
        let length_min = (header_bytes - LENGTH_END) as i32;
        if length < length_min {
            return Err(LogBatchError::ShortLength { position, expected: length_min, found: length });
        }
        let crc_at = magic.crc_at();
        Ok(Self {
            base_offset: LogOffset(i64::from_le_bytes(array(header, 0))),
            length,
            magic,
            commit_timestamp_ms: i64::from_le_bytes(array(header, COMMIT_TIMESTAMP_AT)),
            leader_epoch: match magic {
                Magic::V0 | Magic::V1 => None,
                Magic::V2 => Some(i32::from_le_bytes(array(header, LEADER_EPOCH_AT))),
            },
            crc: u32::from_le_bytes(array(header, crc_at)),
            schema_id: SchemaId(i16::from_le_bytes(array(header, crc_at + 4))),
            attributes: header[crc_at + 6],
            last_offset_delta: i32::from_le_bytes(array(header, crc_at + 7)),
            writer_id: i64::from_le_bytes(array(header, crc_at + 11)),
            batch_sequence: i32::from_le_bytes(array(header, crc_at + 19)),
            record_count: i32::from_le_bytes(array(header, crc_at + 23)),
            statistics_length: match magic {
                Magic::V0 => 0,
                Magic::V1 | Magic::V2 => i32::from_le_bytes(array(header, crc_at + 27)),
            },
        })
    }

    /// The header's bytes. `leader_epoch` is written for V2 only (-1 if absent), `statistics_length` for V1 and V2.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.0.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.push(self.magic as u8);
        out.extend_from_slice(&self.commit_timestamp_ms.to_le_bytes());
        if self.magic == Magic::V2 {
            out.extend_from_slice(&self.leader_epoch.unwrap_or(-1).to_le_bytes());
        }
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&self.schema_id.0.to_le_bytes());
        out.push(self.attributes);
        out.extend_from_slice(&self.last_offset_delta.to_le_bytes());
        out.extend_from_slice(&self.writer_id.to_le_bytes());
        out.extend_from_slice(&self.batch_sequence.to_le_bytes());
        out.extend_from_slice(&self.record_count.to_le_bytes());
        if self.magic != Magic::V0 {
            out.extend_from_slice(&self.statistics_length.to_le_bytes());
        }
    }

    /// Bytes of the whole batch, header included. `read` has checked that `length` is not negative.
    pub fn total_bytes(&self) -> usize {
        LENGTH_END + self.length as usize
    }

    pub fn header_bytes(&self) -> usize {
        self.magic.header_bytes()
    }

    pub fn is_append_only(&self) -> bool {
        self.attributes & ATTRIBUTE_APPEND_ONLY != 0
    }

    pub fn last_offset(&self) -> LogOffset {
        LogOffset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// Offset of the batch after this one. Counts offsets, not records: an empty batch takes one offset.
    pub fn end_offset(&self) -> LogOffset {
        LogOffset(self.last_offset().0.saturating_add(1))
    }

    /// Offsets that this batch takes: at least 1 once validated.
    pub fn offset_count(&self) -> i64 {
        i64::from(self.last_offset_delta) + 1
    }

    /// Writer and sequence, if the writer is idempotent.
    pub fn writer(&self) -> Option<(WriterId, i32)> {
        (self.writer_id != NO_WRITER_ID).then_some((WriterId(self.writer_id), self.batch_sequence))
    }

    /// Where the statistics lie, from the start of the batch. Empty if there are none.
    ///
    /// Errors: `SectionOutside`, `FieldTooSmall` (a negative length).
    pub fn statistics_range(&self, position: usize) -> Result<Range<usize>, LogBatchError> {
        let from = self.header_bytes();
        self.section(position, "statistics", from, self.statistics_length)
    }

    /// Where the change types lie in an Arrow batch: `record_count` bytes, none if append-only.
    pub fn change_types_range(&self, position: usize) -> Result<Range<usize>, LogBatchError> {
        let from = self.statistics_range(position)?.end;
        let count = if self.is_append_only() { 0 } else { self.record_count };
        self.section(position, "change types", from, count)
    }

    /// Where the Arrow message lies: everything after the change types.
    pub fn arrow_range(&self, position: usize) -> Result<Range<usize>, LogBatchError> {
        Ok(self.change_types_range(position)?.end..self.total_bytes())
    }

    /// Where the framed rows of an INDEXED or COMPACTED batch lie: these have no change-type section.
    pub fn rows_range(&self, position: usize) -> Result<Range<usize>, LogBatchError> {
        Ok(self.statistics_range(position)?.end..self.total_bytes())
    }

    fn section(&self, position: usize, section: &'static str, from: usize, bytes: i32) -> Result<Range<usize>, LogBatchError> {
        let left = self.total_bytes() - from;
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= left => Ok(from..from + bytes),
            Ok(bytes) => Err(LogBatchError::SectionOutside { position, section, expected: bytes, found: left }),
            Err(_) => Err(LogBatchError::FieldTooSmall { position, field: section, expected: 0, found: i64::from(bytes) }),
        }
    }
}

/// `N` bytes of `bytes` from `at`. Only called with ranges inside a header whose length was checked.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = LogBatchHeader> {
        let magic = prop_oneof![Just(Magic::V0), Just(Magic::V1), Just(Magic::V2)];
        (magic, any::<(i64, u32, i64, i32, u32, i16)>(), any::<(u8, i32, i64, i32, i32, i32)>()).prop_map(
            |(magic, (base, length, timestamp, epoch, crc, schema), (attributes, delta, writer, sequence, count, statistics))| {
                LogBatchHeader {
                    base_offset: LogOffset(base),
                    length: ((length >> 1) as i32).max(44),
                    magic,
                    commit_timestamp_ms: timestamp,
                    leader_epoch: (magic == Magic::V2).then_some(epoch),
                    crc,
                    schema_id: SchemaId(schema),
                    attributes,
                    last_offset_delta: delta,
                    writer_id: writer,
                    batch_sequence: sequence,
                    record_count: count,
                    statistics_length: if magic == Magic::V0 { 0 } else { statistics },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn read_undoes_write(header in any_header()) {
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            prop_assert_eq!(bytes.len(), header.header_bytes());
            prop_assert_eq!(LogBatchHeader::read(&bytes, 0), Ok(header));
        }

        #[test]
        fn any_bytes_give_a_header_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(header) = LogBatchHeader::read(&bytes, 3) {
                for range in [header.statistics_range(3), header.change_types_range(3), header.arrow_range(3), header.rows_range(3)].into_iter().flatten() {
                    prop_assert!(range.start >= header.header_bytes());
                    prop_assert!(range.end <= header.total_bytes());
                }
                let _ = (header.end_offset(), header.offset_count(), header.writer());
            }
        }
    }
}
