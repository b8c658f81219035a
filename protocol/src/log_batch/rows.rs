//! The body of batches of log format INDEXED or COMPACTED: framed rows.

use super::batch::LogBatch;
use super::change_type::ChangeType;
use super::error::LogBatchError;
use bytes::Bytes;

/// Bytes before a row: its length (4) and its change type (1).
const LENGTH_BYTES: usize = 4;

/// One record of a row-format batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    pub change_type: ChangeType,
    /// An indexed or a compacted row, whichever the table's log format says.
    pub row: Bytes,
}

/// The `record_count` rows of a batch:
///
/// ```text
/// 0  4  length: bytes after this field (1 + row)
/// 4  1  change type
/// 5 ..  row
/// ```
///
/// After the last row comes the end of the batch, anything else is an error. After an error it ends.
#[derive(Clone, Debug)]
pub struct LogRows {
    left: Bytes,
    batch_position: usize,
    record: usize,
    record_count: usize,
    failed: bool,
}

impl LogRows {
    pub(super) fn new(batch: &LogBatch) -> Result<Self, LogBatchError> {
        let range = batch.rows_range(batch.position())?;
        Ok(Self {
            left: batch.bytes().slice(range),
            batch_position: batch.position(),
            record: 0,
            // A negative count was refused by `validate`; here it means no rows, so any body is trailing.
            record_count: usize::try_from(batch.record_count).unwrap_or(0),
            failed: false,
        })
    }

    fn take_row(&mut self) -> Result<LogRow, LogBatchError> {
        let position = self.batch_position;
        let outside = |expected, found| LogBatchError::RowOutside { position, record: self.record, expected, found };
        let found = self.left.len();
        let length_field = self.left.first_chunk::<LENGTH_BYTES>().ok_or_else(|| outside(LENGTH_BYTES as i64, found))?;
        let length = i32::from_le_bytes(*length_field);
        let bytes = match usize::try_from(length) {
            Ok(bytes) if bytes >= 1 && bytes <= found - LENGTH_BYTES => bytes,
            _ => return Err(outside(i64::from(length), found - LENGTH_BYTES)),
        };
        let byte = self.left[LENGTH_BYTES];
        let change_type =
            ChangeType::from_byte(byte).ok_or(LogBatchError::UnknownChangeType { position, record: self.record, found: byte })?;
        let row = self.left.slice(LENGTH_BYTES + 1..LENGTH_BYTES + bytes);
        self.left = self.left.slice(LENGTH_BYTES + bytes..);
        Ok(LogRow { change_type, row })
    }
}

impl Iterator for LogRows {
    type Item = Result<LogRow, LogBatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = if self.record < self.record_count {
            self.take_row()
        } else if self.left.is_empty() {
            return None;
        } else {
            Err(LogBatchError::TrailingBytes { position: self.batch_position, found: self.left.len() })
        };
        self.record += 1;
        self.failed = item.is_err();
        Some(item)
    }
}
