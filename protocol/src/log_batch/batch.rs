//! One log batch, as a view over the bytes it came in.

use super::change_type::ChangeType;
use super::error::LogBatchError;
use super::header::{LogBatchHeader, NO_WRITER_ID};
use super::rows::LogRows;
use bytes::Bytes;
use std::ops::Deref;

/// A whole batch: its header, decoded, and its bytes, shared with whatever they were cut from.
///
/// Dereferences to its header. Made by [`LogBatch::read`] or [`super::LogBatches`]: the header is well formed and all of the bytes are
/// there; the CRC and the meaning of the fields are checked by [`LogBatch::validate`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    header: LogBatchHeader,
    bytes: Bytes,
    position: usize,
}

impl Deref for LogBatch {
    type Target = LogBatchHeader;

    fn deref(&self) -> &LogBatchHeader {
        &self.header
    }
}

impl LogBatch {
    /// The batch that starts at `position` of `records`; more bytes may follow it.
    ///
    /// Errors: `ShortHeader`, `UnknownMagic`, `ShortLength`, `Truncated`.
    pub fn read(records: &Bytes, position: usize) -> Result<Self, LogBatchError> {
        let left = records.get(position..).unwrap_or_default();
        let header = LogBatchHeader::read(left, position)?;
        let expected = header.total_bytes();
        if left.len() < expected {
            return Err(LogBatchError::Truncated { position, expected, found: left.len() });
        }
        Ok(Self { header, bytes: records.slice(position..position + expected), position })
    }

    pub fn header(&self) -> &LogBatchHeader {
        &self.header
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Where the batch started in the bytes that it was read from.
    pub fn position(&self) -> usize {
        self.position
    }

    pub fn computed_crc(&self) -> u32 {
        crc32c::crc32c(&self.bytes[self.header.magic.crc_from()..])
    }

    /// Checks all that can be checked without the log format and the schema: CRC, field ranges, statistics inside the batch.
    ///
    /// Called once, on append. Keeps: I3 (`last_offset_delta` agrees with `record_count`, so offsets are dense).
    /// Errors: `WrongCrc`, `WrongField`, `FieldTooSmall`, `SectionOutside`, `TrailingBytes`.
    pub fn validate(&self) -> Result<(), LogBatchError> {
        let computed = self.computed_crc();
        if computed != self.header.crc {
            return Err(LogBatchError::WrongCrc { position: self.position, expected: computed, found: self.header.crc });
        }
        self.validate_fields()?;
        self.header.statistics_range(self.position)?;
        let found = self.header.total_bytes() - self.header.header_bytes();
        if self.header.record_count == 0 && found > 0 {
            return Err(LogBatchError::TrailingBytes { position: self.position, found });
        }
        Ok(())
    }

    fn validate_fields(&self) -> Result<(), LogBatchError> {
        let header = &self.header;
        let at_least = |field, found, expected| {
            if found < expected {
                return Err(LogBatchError::FieldTooSmall { position: self.position, field, expected, found });
            }
            Ok(())
        };
        at_least("schema_id", i64::from(header.schema_id.0), 0)?;
        at_least("record_count", i64::from(header.record_count), 0)?;
        at_least("writer_id", header.writer_id, NO_WRITER_ID)?;
        if header.writer_id != NO_WRITER_ID {
            at_least("batch_sequence", i64::from(header.batch_sequence), 0)?;
        }
        let expected = (header.record_count - 1).max(0);
        if header.last_offset_delta != expected {
            return Err(LogBatchError::WrongField {
                position: self.position,
                field: "last_offset_delta",
                expected: i64::from(expected),
                found: i64::from(header.last_offset_delta),
            });
        }
        Ok(())
    }

    /// Additionally to [`Self::validate`], for tables of log format ARROW: the change types are known ones.
    pub fn validate_change_types(&self) -> Result<(), LogBatchError> {
        let range = self.header.change_types_range(self.position)?;
        match self.bytes[range].iter().enumerate().find(|(_, byte)| ChangeType::from_byte(**byte).is_none()) {
            Some((record, &found)) => Err(LogBatchError::UnknownChangeType { position: self.position, record, found }),
            None => Ok(()),
        }
    }

    /// Additionally to [`Self::validate`], for tables of log format INDEXED or COMPACTED: the rows are framed without gap.
    pub fn validate_rows(&self) -> Result<(), LogBatchError> {
        self.rows()?.try_for_each(|row| row.map(|_| ()))
    }

    /// The statistics block (V1, V2), empty if there is none.
    pub fn statistics(&self) -> Result<Bytes, LogBatchError> {
        Ok(self.bytes.slice(self.header.statistics_range(self.position)?))
    }

    /// One byte per record; empty if the batch is append-only. Arrow batches only.
    pub fn change_types(&self) -> Result<Bytes, LogBatchError> {
        Ok(self.bytes.slice(self.header.change_types_range(self.position)?))
    }

    /// The Arrow message of a batch of log format ARROW.
    pub fn arrow_message(&self) -> Result<Bytes, LogBatchError> {
        Ok(self.bytes.slice(self.header.arrow_range(self.position)?))
    }

    /// The rows of a batch of log format INDEXED or COMPACTED.
    pub fn rows(&self) -> Result<LogRows, LogBatchError> {
        LogRows::new(self)
    }
}
