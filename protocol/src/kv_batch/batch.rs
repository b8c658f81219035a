//! A KV batch, as a view over the bytes it came in.

use super::error::KvBatchError;
use crate::ids::{SchemaId, WriterId};
use crate::log_batch::NO_WRITER_ID;
use crate::row::Cursor;
use bytes::Bytes;

pub const KV_HEADER_BYTES: usize = 28;
pub(super) const LENGTH_END: usize = 4;
pub(super) const CRC_AT: usize = 5;
pub(super) const CRC_FROM: usize = 9;

/// Exactly one batch: PutKv brings one per bucket. The header is read; the rest is checked by [`KvBatch::validate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvBatch {
    bytes: Bytes,
    pub crc: u32,
    pub schema_id: SchemaId,
    pub writer_id: i64,
    /// -1 if the writer is not idempotent.
    pub batch_sequence: i32,
    pub record_count: i32,
}

/// An upsert, or a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRecord {
    /// Encoded physical primary key: opaque, compared bytewise. Not empty.
    pub key: Bytes,
    /// In the schema of the batch; None = delete.
    pub row: Option<Bytes>,
}

impl KvBatch {
    /// Errors: `Size` (shorter or longer than its length says), `UnknownMagic`.
    pub fn read(records: &Bytes) -> Result<Self, KvBatchError> {
        let header = records
            .first_chunk::<KV_HEADER_BYTES>()
            .ok_or(KvBatchError::Size { expected: KV_HEADER_BYTES as i64, found: records.len() })?;
        let expected = i64::from(i32::from_le_bytes(array(header, 0))) + LENGTH_END as i64;
        if expected != records.len() as i64 {
            return Err(KvBatchError::Size { expected, found: records.len() });
        }
        if header[LENGTH_END] != 0 {
            return Err(KvBatchError::UnknownMagic { found: header[LENGTH_END] as i8 });
        }
        Ok(Self {
            bytes: records.clone(),
            crc: u32::from_le_bytes(array(header, CRC_AT)),
            schema_id: SchemaId(i16::from_le_bytes(array(header, 9))),
            writer_id: i64::from_le_bytes(array(header, 12)),
            batch_sequence: i32::from_le_bytes(array(header, 20)),
            record_count: i32::from_le_bytes(array(header, 24)),
        })
    }

    /// The whole batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Writer and sequence, if the writer is idempotent.
    pub fn writer(&self) -> Option<(WriterId, i32)> {
        (self.writer_id != NO_WRITER_ID).then_some((WriterId(self.writer_id), self.batch_sequence))
    }

    /// CRC, ranges of fields, and that the records fill the batch.
    ///
    /// Errors: `WrongCrc`, `FieldTooSmall`, `RecordOutside`, `BadKey`, `Trailing`.
    pub fn validate(&self) -> Result<(), KvBatchError> {
        let expected = crc32c::crc32c(&self.bytes[CRC_FROM..]);
        if expected != self.crc {
            return Err(KvBatchError::WrongCrc { expected, found: self.crc });
        }
        let at_least = |field, found, expected| match found < expected {
            true => Err(KvBatchError::FieldTooSmall { field, expected, found }),
            false => Ok(()),
        };
        at_least("schema_id", i64::from(self.schema_id.0), 0)?;
        at_least("record_count", i64::from(self.record_count), 0)?;
        at_least("writer_id", self.writer_id, NO_WRITER_ID)?;
        if self.writer_id != NO_WRITER_ID {
            at_least("batch_sequence", i64::from(self.batch_sequence), 0)?;
        }
        self.records().try_for_each(|record| record.map(|_| ()))
    }

    pub fn records(&self) -> KvRecords {
        let record_count = usize::try_from(self.record_count).unwrap_or(0);
        KvRecords { frames: Frames::new(self.bytes.slice(KV_HEADER_BYTES..), record_count) }
    }
}

/// The records of a KV batch, in order. After an error it ends.
#[derive(Clone, Debug)]
pub struct KvRecords {
    frames: Frames,
}

impl Iterator for KvRecords {
    type Item = Result<KvRecord, KvBatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.frames.record;
        let frame = match self.frames.next()? {
            Ok(frame) => frame,
            Err(error) => return Some(Err(error)),
        };
        let mut cursor = Cursor::new(frame);
        match cursor.counted("key") {
            Ok(key) if !key.is_empty() => {
                let row = cursor.rest();
                Some(Ok(KvRecord { key, row: (!row.is_empty()).then_some(row) }))
            }
            Ok(_) | Err(_) => {
                self.frames.failed = true;
                Some(Err(KvBatchError::BadKey { record }))
            }
        }
    }
}

/// `record_count` times an int32 length and so many bytes, then nothing.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    left: Bytes,
    record: usize,
    record_count: usize,
    failed: bool,
}

impl Frames {
    pub fn new(left: Bytes, record_count: usize) -> Self {
        Self { left, record: 0, record_count, failed: false }
    }

    fn take(&mut self) -> Result<Bytes, KvBatchError> {
        let record = self.record;
        let outside = |expected, found| KvBatchError::RecordOutside { record, expected, found };
        let length = self.left.first_chunk::<LENGTH_END>().ok_or_else(|| outside(LENGTH_END as i64, self.left.len()))?;
        let length = i32::from_le_bytes(*length);
        let found = self.left.len() - LENGTH_END;
        let bytes =
            usize::try_from(length).ok().filter(|bytes| *bytes <= found).ok_or_else(|| outside(i64::from(length), found))?;
        let frame = self.left.slice(LENGTH_END..LENGTH_END + bytes);
        self.left = self.left.slice(LENGTH_END + bytes..);
        Ok(frame)
    }
}

impl Iterator for Frames {
    type Item = Result<Bytes, KvBatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = if self.record < self.record_count {
            self.take()
        } else if self.left.is_empty() {
            return None;
        } else {
            Err(KvBatchError::Trailing { found: self.left.len() })
        };
        self.record += 1;
        self.failed = item.is_err();
        Some(item)
    }
}

/// `N` bytes of the header from `at`.
fn array<const N: usize>(header: &[u8; KV_HEADER_BYTES], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("the fields lie inside the header")
}
